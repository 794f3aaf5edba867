//! Somebody who is told of events: a real HTTP server that accepts, refuses or hangs as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

/// How long a test waits for what has to come; nothing is asserted about the time.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the receiver does with an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Answers 200.
    Accept,
    /// Answers 503.
    Refuse,
    /// Answers 307, to another port of this machine.
    Redirect(u16),
    /// Gives no answer until it behaves otherwise.
    Hang,
}

/// An envelope that has come.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    /// The lines of the request's head, names in lower case.
    pub(crate) head: Vec<String>,
    /// The events in it.
    pub(crate) events: Vec<Value>,
    /// Whether it was accepted.
    pub(crate) accepted: bool,
}

impl Envelope {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

struct State {
    behaviour: Behaviour,
    envelopes: Vec<Envelope>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A running receiver.
pub(crate) struct Receiver {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
}

impl Receiver {
    pub(crate) fn start(behaviour: Behaviour) -> Receiver {
        Receiver::serve(behaviour, None)
    }

    /// One behind TLS, with the certificate of `tests/vectors/tls`.
    pub(crate) fn start_tls(behaviour: Behaviour) -> Receiver {
        let file = |name: &str| format!("{}/tests/vectors/tls/{name}", env!("CARGO_MANIFEST_DIR"));
        let chain = vec![CertificateDer::from_pem_file(file("leaf.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(file("key.pem")).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        Receiver::serve(behaviour, Some(Arc::new(config.with_single_cert(chain, key).unwrap())))
    }

    fn serve(behaviour: Behaviour, tls: Option<Arc<rustls::ServerConfig>>) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::new(State { behaviour, envelopes: Vec::new() }),
            changed: Condvar::new(),
        });
        let scheme = if tls.is_some() { "https" } else { "http" };
        let state = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (state, tls) = (state.clone(), tls.clone());
                thread::spawn(move || match tls {
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(config).unwrap();
                        state.answer(rustls::StreamOwned::new(connection, stream));
                    }
                    None => state.answer::<TcpStream>(stream),
                });
            }
        });
        Receiver { address, scheme, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}/hook", self.scheme, self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.shared.state().behaviour = behaviour;
        self.shared.changed.notify_all();
    }

    /// Waits until what has come is enough, and returns it.
    #[track_caller]
    pub(crate) fn wait(&self, enough: impl Fn(&[Envelope]) -> bool) -> Vec<Envelope> {
        let state = self.shared.state();
        let is_waiting = |state: &mut State| !enough(&state.envelopes);
        let (state, timeout) = self.shared.changed.wait_timeout_while(state, PATIENCE, is_waiting).unwrap();
        assert!(!timeout.timed_out(), "this is all that came: {:#?}", state.envelopes);
        state.envelopes.clone()
    }

    /// Waits for so many accepted events, and returns them.
    #[track_caller]
    pub(crate) fn accepted(&self, count: usize) -> Vec<Value> {
        accepted(&self.wait(|envelopes| accepted(envelopes).len() >= count))
    }
}

/// The events of the accepted envelopes, each once, in the order in which they first came.
fn accepted(envelopes: &[Envelope]) -> Vec<Value> {
    let mut events: Vec<Value> = Vec::new();
    for event in envelopes.iter().filter(|envelope| envelope.accepted).flat_map(|envelope| &envelope.events) {
        if !events.iter().any(|known| known["id"] == event["id"]) {
            events.push(event.clone());
        }
    }
    events
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Answers one request, after which the connection is closed.
    fn answer<S: Read + Write>(&self, stream: S) {
        let mut stream = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            match line.trim_end() {
                "" => break,
                line => head.push(match line.split_once(": ") {
                    Some((name, value)) => format!("{}: {value}", name.to_lowercase()),
                    None => line.to_owned(),
                }),
            }
        }
        let length =
            head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap();
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let mut json: Value = serde_json::from_slice(&body).unwrap();
        let Value::Array(events) = json["events"].take() else { panic!("no events: {json}") };
        let status = {
            let mut state = self.state();
            let behaviour = state.behaviour;
            state.envelopes.push(Envelope { head, events, accepted: behaviour == Behaviour::Accept });
            self.changed.notify_all();
            match behaviour {
                Behaviour::Accept => "200 OK".to_owned(),
                Behaviour::Refuse => "503 Service Unavailable".to_owned(),
                Behaviour::Redirect(port) => {
                    format!("307 Temporary Redirect\r\nlocation: http://127.0.0.1:{port}/hook")
                }
                Behaviour::Hang => {
                    drop(self.changed.wait_while(state, |state| state.behaviour == Behaviour::Hang).unwrap());
                    return;
                }
            }
        };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        // The other side may have lost its patience.
        let _ = stream.get_mut().write_all(answer.as_bytes());
        let _ = stream.get_mut().flush();
    }
}
