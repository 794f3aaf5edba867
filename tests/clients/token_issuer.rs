//! A token service as `docker-registry` wants one.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use crate::docker_registry::{PASSWORD, USER};

fn vector(name: &str) -> String {
    format!("{}/tests/vectors/tls/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A token service: signs what is asked for, for the user whom it knows.
pub(crate) struct TokenIssuer {
    address: SocketAddr,
    asked: Arc<Mutex<usize>>,
}

impl TokenIssuer {
    /// Starts to listen; it ends with the process.
    pub(crate) fn start() -> TokenIssuer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let asked = Arc::new(Mutex::new(0));
        let count = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                *count.lock().expect("no other holder panics") += 1;
                let wanted = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
                let is_known = head.iter().any(|line| {
                    line.split_once(": ").is_some_and(|(name, value)| {
                        name.eq_ignore_ascii_case("authorization") && value == wanted
                    })
                });
                let scope =
                    head.first().and_then(|line| line.split_once("scope=")).map_or("", |(_, scope)| scope);
                let scope = scope.split([' ', '&']).next().unwrap_or_default();
                let scope = scope.replace("%3A", ":").replace("%2F", "/");
                let (status, body) = if is_known {
                    ("200 OK", json!({ "token": signed(&scope), "expires_in": 120 }))
                } else {
                    ("401 Unauthorized", json!({ "details": "incorrect username or password" }))
                };
                let body = body.to_string();
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                // The other side may be gone.
                let _ = (&stream).write_all(answer.as_bytes());
            }
        });
        TokenIssuer { address, asked }
    }

    /// The settings of a `docker-registry` that lets in only who brings one of its tokens.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("REGISTRY_AUTH_TOKEN_REALM", format!("http://{}/token", self.address)),
            ("REGISTRY_AUTH_TOKEN_SERVICE", "docker-registry".to_owned()),
            ("REGISTRY_AUTH_TOKEN_ISSUER", "the tests".to_owned()),
            ("REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE", vector("root.pem")),
        ]
    }

    /// How many requests have come.
    pub(crate) fn asked(&self) -> usize {
        *self.asked.lock().expect("no other holder panics")
    }
}

/// A JSON Web Token for a scope such as `repository:team/box:pull`, with the certificate of its key.
fn signed(scope: &str) -> String {
    let file = |name: &str| {
        let pem = std::fs::read_to_string(vector(name)).expect("a file of the tests");
        pem.lines().filter(|line| !line.starts_with("-----")).collect::<String>()
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_secs();
    let parts: Vec<&str> = scope.split(':').collect();
    let access = json!([{ "type": parts[0], "name": parts[1], "actions": [parts[2]] }]);
    let header = json!({ "typ": "JWT", "alg": "ES256", "x5c": [file("leaf.pem")] });
    let claims = json!({
        "iss": "the tests", "sub": USER, "aud": "docker-registry", "jti": "1", "access": access,
        "exp": now + 120, "nbf": now - 5, "iat": now,
    });
    let text = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let key = STANDARD.decode(file("key.pem")).expect("a key is base64");
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key).expect("a key of P-256");
    let signature = key.sign(&SystemRandom::new(), text.as_bytes()).expect("a key signs");
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}
