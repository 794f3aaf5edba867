//! TLS of the server's own: what is spoken, certificates that change, clients with certificates, and plain HTTP that leads
//! there.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

#[path = "tls/authority.rs"]
mod authority;
#[path = "tls/wire.rs"]
mod wire;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::SanType;
use rustls::version::{TLS12, TLS13};
use support::{Server, noise, sha256};
use tempfile::TempDir;

use authority::{Authority, Signed};
use wire::{Answer, Client};

/// An authority, and the files that it has given to a server.
struct Place {
    dir: TempDir,
    authority: Authority,
    signed: Signed,
}

impl Place {
    fn new() -> Place {
        let (dir, authority) = (TempDir::new().unwrap(), Authority::new());
        let signed = authority.server();
        signed.write(dir.path());
        std::fs::write(dir.path().join("ca.crt"), &authority.pem).unwrap();
        Place { dir, authority, signed }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Starts a server with this certificate, and more settings.
    fn start(&self, settings: &[(&str, &str)]) -> Server {
        self.start_with("", settings)
    }

    fn start_with(&self, file: &str, settings: &[(&str, &str)]) -> Server {
        let (certificate, key) = (self.path("tls.crt"), self.path("tls.key"));
        let own = [("tls.certificate", certificate.as_str()), ("tls.key", key.as_str())];
        Server::with_file(file, &[&own, settings].concat())
    }

    fn client(&self) -> Client<'_> {
        Client::of(&self.authority)
    }
}

fn address(server: &Server) -> SocketAddr {
    server.host().parse().unwrap()
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// What a server that doesn't start says.
fn refusal(dir: &Path, settings: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    command.args(["serve", "--listen", "127.0.0.1:0"]).current_dir(dir);
    for (key, value) in settings {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn images_are_pushed_and_pulled_over_tls() {
    let place = Place::new();
    let server = place.start(&[]);
    let root = reqwest::Certificate::from_pem(place.authority.pem.as_bytes()).unwrap();
    let client = reqwest::blocking::Client::builder().no_proxy().tls_certs_only([root]).build().unwrap();
    let url = format!("https://{}/v2/team/a/blobs", server.host());
    // Enough for many records.
    let bytes = noise(1, 5_000_000);
    let digest = sha256(&bytes);
    let pushed = client.post(format!("{url}/uploads/?digest={digest}")).body(bytes.clone()).send().unwrap();
    assert_eq!(pushed.status(), 201);
    let pulled = client.get(format!("{url}/{digest}")).send().unwrap().bytes().unwrap();
    assert!(pulled == bytes, "the bytes are other ones");
    let other = Authority::new();
    assert!(Client::of(&other).connect(address(&server)).is_err(), "the certificate is this authority's");
}

#[test]
fn who_speaks_no_tls_is_told_to() {
    let place = Place::new();
    let server = place.start(&[]);
    let mut stream = TcpStream::connect(address(&server)).unwrap();
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{answer}");
    assert!(!answer.contains("{}"), "nothing is served: {answer}");
}

#[test]
fn the_lowest_version_is_the_configured_one() {
    let place = Place::new();
    let old = Client { versions: &[&TLS12], ..place.client() };
    let new = Client { versions: &[&TLS13], ..place.client() };
    let server = place.start(&[]);
    assert_eq!(old.get(address(&server), "/v2/", "").unwrap().status, 200);
    assert_eq!(new.get(address(&server), "/v2/", "").unwrap().status, 200);
    let server = place.start(&[("tls.min_version", "1.3")]);
    assert!(old.connect(address(&server)).is_err());
    assert_eq!(new.get(address(&server), "/v2/", "").unwrap().status, 200);
}

#[test]
fn http_2_is_spoken_only_where_it_is_asked_for() {
    let place = Place::new();
    let both = Client { protocols: &["h2", "http/1.1"], ..place.client() };
    let server = place.start(&[]);
    assert_eq!(both.connect(address(&server)).unwrap().protocol().as_deref(), Some("http/1.1"));
    let server = place.start(&[("tls.http2", "true")]);
    assert_eq!(both.connect(address(&server)).unwrap().protocol().as_deref(), Some("h2"));
    let old = Client { protocols: &["http/1.1"], ..place.client() };
    let mut wire = old.connect(address(&server)).unwrap();
    assert_eq!(wire.protocol().as_deref(), Some("http/1.1"));
    assert_eq!(wire.get("/v2/", "").unwrap().status, 200);
    assert_eq!(place.client().get(address(&server), "/v2/", "").unwrap().status, 200, "no ALPN at all");
}

#[test]
fn a_certificate_that_changes_is_shown_to_new_connections_and_old_ones_go_on() {
    let place = Place::new();
    let server = place.start(&[]);
    let mut before = place.client().connect(address(&server)).unwrap();
    assert_eq!(before.certificate(), place.signed.certificate);
    let next = place.authority.server();
    next.write(place.dir.path());
    server.wait_for_line(&["read the certificate and its key again"]);
    assert_eq!(place.client().connect(address(&server)).unwrap().certificate(), next.certificate);
    assert_eq!(before.get("/v2/", "").unwrap().status, 200, "this one goes on");
}

#[test]
fn a_certificate_is_followed_through_symbolic_links() {
    let place = Place::new();
    // As Kubernetes lays secrets out: the files lead through a link that is replaced at once.
    let (one, two) = (place.dir.path().join("..1"), place.dir.path().join("..2"));
    let next = place.authority.server();
    for (dir, signed) in [(&one, &place.signed), (&two, &next)] {
        std::fs::create_dir(dir).unwrap();
        signed.write(dir);
    }
    let link = |to: &str, at: &str| std::os::unix::fs::symlink(to, place.dir.path().join(at)).unwrap();
    link("..1", "..data");
    for name in ["tls.crt", "tls.key"] {
        std::fs::remove_file(place.dir.path().join(name)).unwrap();
        link(&format!("..data/{name}"), name);
    }
    let server = place.start(&[]);
    assert_eq!(place.client().connect(address(&server)).unwrap().certificate(), place.signed.certificate);
    link("..2", "..next");
    std::fs::rename(place.dir.path().join("..next"), place.dir.path().join("..data")).unwrap();
    server.wait_for_line(&["read the certificate and its key again"]);
    assert_eq!(place.client().connect(address(&server)).unwrap().certificate(), next.certificate);
}

#[test]
fn a_pair_that_can_not_be_used_leaves_the_one_before() {
    let place = Place::new();
    let server = place.start(&[]);
    let next = place.authority.server();
    std::fs::write(place.path("tls.key"), &next.key_pem).unwrap();
    server.wait_for_line(&["ERROR", "is not the one of the certificate", "stays as it was"]);
    std::fs::write(place.path("tls.crt"), "-----BEGIN CERTIFICATE-----\nnonsense\n").unwrap();
    server.wait_for_line(&["ERROR", "tls.certificate", "stays as it was"]);
    assert_eq!(place.client().connect(address(&server)).unwrap().certificate(), place.signed.certificate);
    std::fs::remove_file(place.path("tls.key")).unwrap();
    std::fs::write(place.path("tls.crt"), &next.pem).unwrap();
    server.wait_for_line(&["ERROR", "tls.key: cannot read", "stays as it was"]);
    assert_eq!(place.client().connect(address(&server)).unwrap().certificate(), place.signed.certificate);
    std::fs::write(place.path("tls.key"), &next.key_pem).unwrap();
    server.wait_for_line(&["read the certificate and its key again"]);
    assert_eq!(place.client().connect(address(&server)).unwrap().certificate(), next.certificate);
    let secret = next.key_pem.lines().nth(1).unwrap();
    assert!(!server.log().contains(&secret[..16]) && !server.log().contains("nonsense"));
}

#[test]
fn a_pair_that_can_not_be_used_is_named_at_the_start() {
    let place = Place::new();
    let other = place.authority.server();
    std::fs::write(place.path("other.key"), &other.key_pem).unwrap();
    std::fs::write(place.path("empty"), "").unwrap();
    std::fs::write(place.path("broken"), "-----BEGIN PRIVATE KEY-----\nc2VjcmV0c2VjcmV0!\n").unwrap();
    let path = |name: &str| place.path(name);
    for (certificate, key, said) in [
        ("tls.crt", "other.key", "is not the one of the certificate"),
        ("tls.crt", "none", "tls.key: cannot read"),
        ("none", "tls.key", "tls.certificate: cannot read"),
        ("empty", "tls.key", "there is no certificate in"),
        ("tls.crt", "empty", "there is no private key in"),
        ("tls.crt", "tls.crt", "there is no private key in"),
        ("tls.crt", "broken", "tls.key: cannot use"),
    ] {
        let settings = [("tls.certificate", &*path(certificate)), ("tls.key", &*path(key))];
        let message = refusal(place.dir.path(), &settings);
        assert!(message.contains(said), "{message}");
        assert!(!message.contains("c2VjcmV0"), "{message}");
    }
    let message = refusal(place.dir.path(), &[("tls.certificate", &path("tls.crt"))]);
    assert!(message.contains("tls.key") && message.contains("write"), "{message}");
}

/// What `/v2/` answers to who shows a certificate, and the user that stands in the log.
fn answer(place: &Place, server: &Server, signed: Option<&Signed>, headers: &str) -> u16 {
    let client = Client { certificate: signed, ..place.client() };
    client.get(address(server), "/v2/", headers).unwrap().status
}

const RULES: &str = r#"
[[rule]]
repositories = ["team/**"]
who = ["user:anna"]
actions = ["pull", "push"]
"#;

#[test]
fn a_client_is_the_user_whose_name_its_certificate_has() {
    let place = Place::new();
    let users = place.path("users");
    std::fs::write(&users, format!("bo:{}\n", bcrypt::hash("bo", 4).unwrap())).unwrap();
    let ca = place.path("ca.crt");
    let server = place.start_with(RULES, &[("tls.client_ca", &ca), ("access.htpasswd", &users)]);
    let anna = place.authority.client(Some("anna"), Vec::new());
    let get = |signed: Option<&Signed>, headers: &str| {
        let client = Client { certificate: signed, ..place.client() };
        client.get(address(&server), "/v2/team/a/tags/list", headers).unwrap().status
    };
    assert_eq!(get(None, ""), 401);
    assert_eq!(get(Some(&anna), ""), 404, "she may ask, and there is nothing");
    let other = place.authority.client(Some("cleo"), Vec::new());
    assert_eq!(get(Some(&other), ""), 403);
    // Who says more is believed to be that: bo, whom no rule names, and nobody.
    let bo = format!("Authorization: Basic {}\r\n", STANDARD.encode("bo:bo"));
    assert_eq!(get(Some(&anna), &bo), 403);
    let empty = format!("Authorization: Basic {}\r\n", STANDARD.encode(":"));
    assert_eq!(get(Some(&anna), &empty), 404);
    let wrong = format!("Authorization: Basic {}\r\n", STANDARD.encode("bo:anna"));
    assert_eq!(get(Some(&anna), &wrong), 401);
    // The authority is what makes it true.
    let forged = Authority::new().client(Some("anna"), Vec::new());
    let client = Client { certificate: Some(&forged), ..place.client() };
    assert!(client.get(address(&server), "/v2/", "").is_err());
}

#[test]
fn the_name_is_the_common_one_or_else_an_alternative_one() {
    let place = Place::new();
    let ca = place.path("ca.crt");
    let rule = |name: &str| {
        format!("[[rule]]\nrepositories = [\"**\"]\nwho = [\"user:{name}\"]\nactions = [\"list\"]\n")
    };
    let mail = || SanType::Rfc822Name("anna@example.org".try_into().unwrap());
    let host = || SanType::DnsName("ci.example.org".try_into().unwrap());
    let uri = || SanType::URI("spiffe://example.org/ci".try_into().unwrap());
    for (common, alternative, name) in [
        (Some("anna"), vec![mail()], "anna"),
        (None, vec![host(), mail()], "anna@example.org"),
        (None, vec![uri(), host()], "ci.example.org"),
        (None, vec![uri()], "spiffe://example.org/ci"),
    ] {
        let server = place.start_with(&rule(name), &[("tls.client_ca", &ca)]);
        let signed = place.authority.client(common, alternative);
        let client = Client { certificate: Some(&signed), ..place.client() };
        let status = client.get(address(&server), "/v2/_catalog", "").unwrap().status;
        assert_eq!(status, 200, "{name}");
        let bare = place.authority.client(None, Vec::new());
        assert_eq!(answer(&place, &server, Some(&bare), ""), 401, "no name is nobody");
        let odd = place.authority.client(Some("anna\nERROR"), Vec::new());
        assert_eq!(answer(&place, &server, Some(&odd), ""), 401, "no name is nobody");
    }
}

#[test]
fn certificates_of_clients_are_users_by_themselves() {
    let place = Place::new();
    let ca = place.path("ca.crt");
    let server = place.start(&[("tls.client_ca", &ca)]);
    let anna = place.authority.client(Some("anna"), Vec::new());
    assert_eq!(answer(&place, &server, None, ""), 401, "nobody does anything without one");
    assert_eq!(answer(&place, &server, Some(&anna), ""), 200);
    let server = place.start(&[("tls.client_ca", &ca), ("tls.client_certificates", "required")]);
    assert_eq!(answer(&place, &server, Some(&anna), ""), 200);
    assert!(place.client().get(address(&server), "/v2/", "").is_err());
    let server = place.start(&[("tls.client_ca", &ca), ("tls.client_certificates", "off")]);
    assert_eq!(answer(&place, &server, None, ""), 200, "it is as if there was none");
    assert_eq!(answer(&place, &server, Some(&anna), ""), 200);
}

/// Asks for something without TLS.
fn plain(address: SocketAddr, host: &str, target: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\n{host}Connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Answer { status, head: head.to_owned(), body: body.as_bytes().to_vec() }
}

#[test]
fn plain_http_leads_to_the_same_thing_over_tls() {
    let place = Place::new();
    let from = free_port();
    let server = place.start(&[("tls.redirect_from", &from.to_string())]);
    let port = address(&server).port();
    for (host, target, to) in [
        ("Host: localhost\r\n", "/v2/?n=1&last=a%20b", "localhost"),
        ("Host: LOCALHOST:80\r\n", "/v2/?n=1&last=a%20b", "LOCALHOST"),
        ("Host: 127.0.0.1:80\r\n", "/v2/?n=1&last=a%20b", "127.0.0.1"),
    ] {
        let answer = plain(from, host, target);
        assert_eq!(answer.status, 308);
        let location = format!("location: https://{to}:{port}{target}\r\n");
        assert!(answer.head.contains(&location), "{location}: {}", answer.head);
    }
    // Who names another host would be led away from here, or others through a cache.
    for host in [
        "Host: evil.example.org\r\n",
        "Host: localhost.evil.example.org\r\n",
        "Host: [::1]\r\n",
        "Host: a b\r\n",
    ] {
        let answer = plain(from, host, "/v2/");
        assert!([400, 421].contains(&answer.status), "{host}: {}", answer.status);
        assert!(!answer.head.to_lowercase().contains("location"), "{}", answer.head);
    }
    let answer = plain(from, "Host: localhost\r\n", "//evil.example.org/");
    assert!(
        answer.head.contains(&format!("https://localhost:{port}//evil.example.org/\r\n")),
        "{}",
        answer.head
    );
}

#[test]
fn plain_http_leads_to_the_external_url_where_there_is_one() {
    let place = Place::new();
    let from = free_port();
    let settings = [("tls.redirect_from", &*from.to_string()), ("external_url", "https://r.example.org")];
    let _server = place.start(&settings);
    for host in ["Host: localhost\r\n", "Host: evil.example.org\r\n"] {
        let answer = plain(from, host, "/v2/");
        assert!(answer.head.contains("location: https://r.example.org/v2/\r\n"), "{}", answer.head);
    }
}

#[test]
fn answers_over_tls_ask_to_come_by_tls_and_others_never_do() {
    let place = Place::new();
    let hsts = "strict-transport-security";
    let server = place.start(&[("tls.hsts", "365d")]);
    for path in ["/v2/", "/livez", "/none"] {
        let answer = place.client().get(address(&server), path, "").unwrap();
        assert!(answer.head.contains(&format!("{hsts}: max-age=31536000\r\n")), "{path}: {}", answer.head);
    }
    let server = place.start(&[]);
    assert!(!place.client().get(address(&server), "/v2/", "").unwrap().head.contains(hsts));
    let server = Server::with(&[("tls.hsts", "365d")]);
    let reply = server.raw(b"GET /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(!reply.head.to_lowercase().contains(hsts));
}

#[test]
fn who_says_nothing_is_cut_off_and_nobody_waits_for_them() {
    let place = Place::new();
    let server = place.start(&[("limits.header_timeout", "1s")]);
    let mut silent: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(address(&server)).unwrap()).collect();
    assert_eq!(place.client().get(address(&server), "/v2/", "").unwrap().status, 200);
    for stream in &mut silent {
        // The end, whether or not it comes as an error.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        assert!(!matches!(stream.read(&mut [0]), Ok(1)), "nothing is said to them");
    }
}

#[test]
fn a_stop_does_not_wait_for_who_says_nothing() {
    let place = Place::new();
    let mut server = place.start(&[("limits.drain_timeout", "1h"), ("limits.header_timeout", "1h")]);
    let _silent = TcpStream::connect(address(&server)).unwrap();
    assert_eq!(place.client().get(address(&server), "/v2/", "").unwrap().status, 200);
    server.stop();
    assert!(!server.log().contains("connections were cut"), "{}", server.log());
}

#[test]
fn status_tells_until_when_the_certificate_is_valid_and_warns_before_it_ends() {
    let place = Place::new();
    let server = place.start(&[]);
    let status = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
        let output = command.args(["status", "--json", "--data"]).arg(server.data()).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let calm = status();
    assert!(calm["server"]["certificateUntil"].as_str().unwrap().starts_with("4096-"), "{calm}");
    assert_eq!(calm["warnings"], serde_json::json!([]), "{calm}");
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    for (reloads, days, warning) in
        [(1, 5, "the certificate expires on "), (2, -5, "the certificate has expired")]
    {
        let day = today.checked_add(jiff::Span::new().days(days)).unwrap();
        place.authority.server_until(day).write(place.dir.path());
        server.wait_for_lines(reloads, &["read the certificate and its key again"]);
        let warned = status();
        assert!(warned["warnings"][0].as_str().unwrap().starts_with(warning), "{warned}");
        assert!(
            warned["server"]["certificateUntil"].as_str().unwrap().starts_with(&day.to_string()),
            "{warned}"
        );
    }
}
