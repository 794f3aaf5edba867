//! A registry that breaks as it is told: a real HTTP server on loopback, from which others pull.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use super::content::sha256;

/// What the server does with a request instead of answering it well.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Says nothing until the server is dropped, or the other side gives up.
    Hang,
    /// Closes the connection without an answer.
    Close,
    /// Sends the head and so many bytes of the body, then closes the connection.
    CutAfter(usize),
    /// Sends the head and so many bytes of the body, then nothing.
    StallAfter(usize),
    /// Sends the body with its first byte changed, as if it were right.
    WrongBytes,
    /// Sends so many bytes of the body at a time, with a pause after each.
    Drip(usize, Duration),
    /// Answers a status, with headers and a body.
    Status(u16, &'static [(&'static str, &'static str)], &'static str),
    /// Answers 307 with a location.
    Redirect(String),
    /// Ignores `Range`.
    WholeBlob,
    /// Doesn't say how long the body is, and closes the connection at its end.
    NoLength,
    /// Answers a range with a `Content-Range` that says something else.
    WrongRange,
    /// Adds a header to the answer.
    Header(&'static str, String),
    /// Never ends the head.
    EndlessHead,
    /// Sends this body with status 200, whatever was asked for.
    Body(Vec<u8>),
}

/// A request that has come.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) method: String,
    /// Path and query, or the whole URL where the sender takes the server for a proxy.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

impl Received {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// A fault, the requests that it is for, and how many of them.
struct Order {
    method: &'static str,
    part: String,
    fault: Fault,
    left: usize,
}

/// How requests are let in.
#[derive(Debug, Clone, Default)]
enum Gate {
    #[default]
    Open,
    /// With this value of `Authorization`.
    Basic(String),
    /// With a token of the service at this realm; the service wants this `Authorization`, where there is one.
    Token { realm: String, wants: Option<String> },
}

#[derive(Default)]
struct State {
    manifests: BTreeMap<String, (String, Vec<u8>)>,
    blobs: BTreeMap<String, Vec<u8>>,
    /// The pages of a subject's referrers.
    referrers: BTreeMap<String, Vec<Vec<u8>>>,
    gate: Gate,
    /// The tokens that are taken, with their scopes.
    tokens: Vec<(String, String)>,
    granted: usize,
    orders: Vec<Order>,
    received: Vec<Received>,
    sent_bytes: u64,
    is_over: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The running server. It holds content under any repository name.
pub(crate) struct FaultyUpstream {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
}

impl FaultyUpstream {
    pub(crate) fn start() -> FaultyUpstream {
        FaultyUpstream::serve(None)
    }

    /// One behind TLS, with the certificate of `tests/vectors/tls`.
    pub(crate) fn start_tls() -> FaultyUpstream {
        let file = |name: &str| format!("{}/tests/vectors/tls/{name}", env!("CARGO_MANIFEST_DIR"));
        let chain = vec![CertificateDer::from_pem_file(file("leaf.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(file("key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        FaultyUpstream::serve(Some(Arc::new(config.with_single_cert(chain, key).unwrap())))
    }

    fn serve(tls: Option<Arc<rustls::ServerConfig>>) -> FaultyUpstream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let scheme = if tls.is_some() { "https" } else { "http" };
        let own = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if own.state().is_over {
                    return;
                }
                let (own, tls) = (own.clone(), tls.clone());
                thread::spawn(move || match tls {
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(config).unwrap();
                        own.converse(rustls::StreamOwned::new(connection, stream));
                    }
                    None => own.converse::<TcpStream>(stream),
                });
            }
        });
        FaultyUpstream { address, scheme, shared }
    }

    /// `https://127.0.0.1:port`.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// `127.0.0.1:port`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// Holds a blob and returns its digest.
    pub(crate) fn put_blob(&self, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        self.shared.state().blobs.insert(digest.clone(), bytes.to_vec());
        digest
    }

    /// Holds a blob under this digest, whatever its bytes.
    pub(crate) fn put_blob_as(&self, digest: &str, bytes: &[u8]) {
        self.shared.state().blobs.insert(digest.to_owned(), bytes.to_vec());
    }

    /// Holds a manifest under a tag and its digest, which is returned.
    pub(crate) fn put_manifest(&self, tag: &str, media_type: &str, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        let mut state = self.shared.state();
        for reference in [tag, &digest] {
            state.manifests.insert(reference.to_owned(), (media_type.to_owned(), bytes.to_vec()));
        }
        digest
    }

    /// Holds a list of what refers to a digest, page by page.
    pub(crate) fn put_referrers(&self, subject: &str, pages: Vec<Vec<u8>>) {
        self.shared.state().referrers.insert(subject.to_owned(), pages);
    }

    /// Breaks the next `times` requests of a method whose target contains `part`. Earlier orders come first.
    pub(crate) fn order(&self, method: &'static str, part: &str, times: usize, fault: Fault) {
        let order = Order { method, part: part.to_owned(), fault, left: times };
        self.shared.state().orders.push(order);
    }

    /// Lets in only who sends this `Authorization`.
    pub(crate) fn want_basic(&self, authorization: &str) {
        self.shared.state().gate = Gate::Basic(authorization.to_owned());
    }

    /// Lets in only who brings a token of this server's own service at `/token`, which may want an `Authorization`.
    pub(crate) fn want_tokens(&self, authorization: Option<&str>) {
        self.want_tokens_of(&format!("{}/token", self.url()), authorization);
    }

    /// Names another token service.
    pub(crate) fn want_tokens_of(&self, realm: &str, authorization: Option<&str>) {
        let wants = authorization.map(str::to_owned);
        self.shared.state().gate = Gate::Token { realm: realm.to_owned(), wants };
    }

    /// Takes none of the tokens granted so far any more.
    pub(crate) fn expire_tokens(&self) {
        self.shared.state().tokens.clear();
    }

    /// Every request so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.state().received.clone()
    }

    /// How many requests had this method and a target that contains `part`.
    pub(crate) fn count(&self, method: &str, part: &str) -> usize {
        let is_meant = |received: &&Received| received.method == method && received.target.contains(part);
        self.shared.state().received.iter().filter(is_meant).count()
    }

    /// How many bytes of bodies were sent.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.shared.state().sent_bytes
    }
}

impl Drop for FaultyUpstream {
    fn drop(&mut self) {
        self.shared.state().is_over = true;
        self.shared.changed.notify_all();
        // Wakes the listener, which ends.
        drop(TcpStream::connect(self.address));
    }
}

/// An answer before it is sent.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, media_type: &str, body: &[u8]) -> Answer {
        let headers = vec![("content-type".to_owned(), media_type.to_owned())];
        Answer { status, headers, body: body.to_vec() }
    }

    fn json(status: u16, body: &Value) -> Answer {
        Answer::new(status, "application/json", body.to_string().as_bytes())
    }

    fn error(status: u16, code: &str) -> Answer {
        Answer::json(status, &json!({"errors": [{"code": code, "message": "as ordered"}]}))
    }

    fn with(mut self, name: &str, value: &str) -> Answer {
        self.headers.retain(|(own, _)| own != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Answers requests until the connection ends.
    fn converse<S: Read + Write>(&self, stream: S) {
        let mut stream = BufReader::new(stream);
        while let Some(received) = receive(&mut stream) {
            let (fault, answer) = {
                let mut state = self.state();
                state.received.push(received.clone());
                let fault = state.fault_for(&received);
                (fault.clone(), state.answer(&received, fault.as_ref()))
            };
            if !self.send(stream.get_mut(), &received, answer, fault.as_ref()) {
                return;
            }
        }
    }

    /// Sends an answer as the fault wants it, and returns whether the connection may go on.
    fn send(
        &self,
        stream: &mut impl Write,
        received: &Received,
        answer: Answer,
        fault: Option<&Fault>,
    ) -> bool {
        match fault {
            Some(Fault::Hang) => {
                self.wait_for_the_end();
                return false;
            }
            Some(Fault::Close) => return false,
            _ => {}
        }
        let Answer { status, headers, mut body } = answer;
        let lines: String =
            headers.iter().map(|(name, value)| [name, ": ", value, "\r\n"].concat()).collect();
        let length = match fault {
            Some(Fault::NoLength) => "connection: close".to_owned(),
            _ => format!("content-length: {}", body.len()),
        };
        let head = format!("HTTP/1.1 {status} Reason\r\n{length}\r\n{lines}");
        if matches!(fault, Some(Fault::EndlessHead)) {
            let more = format!("x-more: {}\r\n", "x".repeat(1000));
            while stream.write_all(more.as_bytes()).is_ok() {}
            return false;
        }
        if stream.write_all(format!("{head}\r\n").as_bytes()).is_err() || stream.flush().is_err() {
            return false;
        }
        if received.method == "HEAD" {
            return !matches!(fault, Some(Fault::NoLength));
        }
        let (step, pause, end) = match fault {
            Some(Fault::CutAfter(end) | Fault::StallAfter(end)) => ((*end).max(1), None, *end),
            Some(Fault::Drip(step, pause)) => (*step, Some(*pause), body.len()),
            _ => (1 << 20, None, body.len()),
        };
        if matches!(fault, Some(Fault::WrongBytes))
            && let Some(first) = body.first_mut()
        {
            *first ^= 1;
        }
        for part in body[..end.min(body.len())].chunks(step) {
            if stream.write_all(part).is_err() || stream.flush().is_err() {
                return false;
            }
            self.state().sent_bytes += part.len() as u64;
            if let Some(pause) = pause {
                thread::sleep(pause);
            }
        }
        if matches!(fault, Some(Fault::StallAfter(_))) {
            self.wait_for_the_end();
        }
        !matches!(fault, Some(Fault::CutAfter(_) | Fault::StallAfter(_) | Fault::NoLength))
    }

    fn wait_for_the_end(&self) {
        drop(self.changed.wait_while(self.state(), |state| !state.is_over).unwrap());
    }
}

impl State {
    fn fault_for(&mut self, received: &Received) -> Option<Fault> {
        let order = self.orders.iter_mut().find(|order| {
            order.left > 0 && order.method == received.method && received.target.contains(&order.part)
        })?;
        order.left -= 1;
        Some(order.fault.clone())
    }

    fn answer(&mut self, received: &Received, fault: Option<&Fault>) -> Answer {
        match fault {
            Some(Fault::Status(status, headers, body)) => {
                let answer = Answer::new(*status, "application/json", body.as_bytes());
                headers.iter().fold(answer, |answer, (name, value)| answer.with(name, value))
            }
            Some(Fault::Redirect(location)) => Answer::new(307, "text/plain", b"").with("location", location),
            Some(Fault::Body(body)) => Answer::new(200, "application/json", body),
            Some(Fault::WholeBlob) => self.good_answer(received, true),
            Some(Fault::WrongRange) => self.good_answer(received, false).with("content-range", "bytes 1-2/3"),
            Some(Fault::Header(name, value)) => self.good_answer(received, false).with(name, value),
            _ => self.good_answer(received, false),
        }
    }

    fn good_answer(&mut self, received: &Received, ignores_range: bool) -> Answer {
        let target = received
            .target
            .strip_prefix("http://")
            .map_or(received.target.as_str(), |rest| rest.find('/').map_or("/", |slash| &rest[slash..]));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path == "/token" {
            return self.grant(received, query);
        }
        if let Some(refusal) = self.refusal(received, path) {
            return refusal;
        }
        if let Some((_, reference)) = path.split_once("/manifests/") {
            let Some((media_type, bytes)) = self.manifests.get(reference) else {
                return Answer::error(404, "MANIFEST_UNKNOWN");
            };
            return Answer::new(200, media_type, bytes).with("docker-content-digest", &sha256(bytes));
        }
        if let Some((_, digest)) = path.split_once("/blobs/") {
            let Some(bytes) = self.blobs.get(digest) else { return Answer::error(404, "BLOB_UNKNOWN") };
            return blob(bytes, received.header("range").filter(|_| !ignores_range));
        }
        if let Some((name, _)) = path.trim_start_matches("/v2/").split_once("/tags/list") {
            return self.tags(name, query);
        }
        let subject = path.split_once("/referrers/").and_then(|(_, digest)| self.referrers.get(digest));
        subject.map_or_else(
            || Answer::new(404, "text/html", b"<html>not here</html>"),
            |pages| referrers(pages, path, query),
        )
    }

    fn tags(&self, name: &str, query: &str) -> Answer {
        let last = parameter(query, "last").unwrap_or_default();
        let n: usize = parameter(query, "n").and_then(|n| n.parse().ok()).unwrap_or(100).min(3);
        let is_after = |tag: &&String| !tag.contains(':') && **tag > last;
        let all: Vec<&String> = self.manifests.keys().filter(is_after).collect();
        let page = &all[..n.min(all.len())];
        let answer = Answer::json(200, &json!({"name": name, "tags": page}));
        match page.last() {
            Some(last) if all.len() > page.len() => {
                // An upstream behind a proxy names itself as it knows itself.
                let link = format!("<http://inside.example:81/v2/{name}/tags/list?n={n}&last={last}>");
                answer.with("link", &format!("{link}; rel=\"next\""))
            }
            _ => answer,
        }
    }

    /// What is answered to who isn't let in.
    fn refusal(&self, received: &Received, path: &str) -> Option<Answer> {
        let brought = received.header("authorization").unwrap_or_default();
        match &self.gate {
            Gate::Open => None,
            Gate::Basic(wanted) if brought == wanted => None,
            Gate::Basic(_) => {
                Some(Answer::error(401, "UNAUTHORIZED").with("www-authenticate", "Basic realm=\"upstream\""))
            }
            Gate::Token { realm, .. } => {
                let kind = ["/manifests/", "/blobs/", "/tags/", "/referrers/"];
                let name = kind.iter().find_map(|kind| path.trim_start_matches("/v2/").split_once(kind));
                let scope = format!("repository:{}:pull", name.map_or("", |(name, _)| name));
                let is_taken =
                    |(token, own): &(String, String)| brought == format!("Bearer {token}") && *own == scope;
                if self.tokens.iter().any(is_taken) {
                    return None;
                }
                let challenge = format!("Bearer realm=\"{realm}\",service=\"upstream\",scope=\"{scope}\"");
                Some(Answer::error(401, "UNAUTHORIZED").with("www-authenticate", &challenge))
            }
        }
    }

    fn grant(&mut self, received: &Received, query: &str) -> Answer {
        if let Gate::Token { wants: Some(wants), .. } = &self.gate
            && received.header("authorization") != Some(wants)
        {
            return Answer::json(401, &json!({"details": "incorrect username or password"}));
        }
        self.granted += 1;
        let token = format!("token-{}", self.granted);
        self.tokens.push((token.clone(), parameter(query, "scope").unwrap_or_default()));
        Answer::json(200, &json!({"token": token, "expires_in": 300}))
    }
}

fn referrers(pages: &[Vec<u8>], path: &str, query: &str) -> Answer {
    let page: usize = parameter(query, "page").and_then(|page| page.parse().ok()).unwrap_or(0);
    let Some(bytes) = pages.get(page) else { return Answer::error(404, "NOT_FOUND") };
    let answer = Answer::new(200, "application/vnd.oci.image.index.v1+json", bytes);
    if page + 1 == pages.len() {
        return answer;
    }
    answer.with("link", &format!("<{path}?page={}>; rel=\"next\"", page + 1))
}

fn blob(bytes: &[u8], range: Option<&str>) -> Answer {
    let start = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let answer = match start {
        None => Answer::new(200, "application/octet-stream", bytes),
        Some(start) if start >= bytes.len() => return Answer::error(416, "RANGE_INVALID"),
        Some(start) => {
            let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
            Answer::new(206, "application/octet-stream", &bytes[start..]).with("content-range", &range)
        }
    };
    answer.with("accept-ranges", "bytes")
}

/// A parameter of a query, unescaped as far as scopes need it.
fn parameter(query: &str, name: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.replace("%3A", ":").replace("%2F", "/"))
}

/// Reads the head of a request, which has no body.
fn receive(stream: &mut impl BufRead) -> Option<Received> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut words = lines.first()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let header = |line: &String| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_lowercase(), value.trim().to_owned()))
    };
    Some(Received { method, target, headers: lines[1..].iter().filter_map(header).collect() })
}
