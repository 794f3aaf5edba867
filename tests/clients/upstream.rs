//! Debian's `docker-registry` as the upstream of this program's own client, in each of its modes.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use orlop::client::registry::{Credentials, Error, Missing, Options, Upstream};
use orlop::oci::{Digest, MediaType, Reference};
use serde_json::json;
use tempfile::TempDir;

use crate::process::{Daemon, find};
use crate::skopeo::Skopeo;
use crate::{Client, Host, Layout};

/// The user whom `docker-registry` and the token service know, with the password `open sesame`.
const USER: &str = "anna";

/// bcrypt of the password, as `htpasswd -B` makes it.
const HASH: &str = "$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW";

fn vector(name: &str) -> String {
    format!("{}/tests/vectors/tls/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A running `docker-registry`.
struct DockerRegistry {
    _daemon: Daemon,
    address: String,
}

impl DockerRegistry {
    /// Starts it with the store at `folder`, and settings from the environment.
    fn start_at(folder: &Path, settings: &[(&str, &str)]) -> DockerRegistry {
        let config = folder.join("config.yml");
        std::fs::write(
            &config,
            format!(
                "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n",
                folder.join("store").display()
            ),
        )
        .expect("a file can be written");
        let mut command = Command::new(find("docker-registry"));
        command.arg("serve").arg(&config).env("OTEL_TRACES_EXPORTER", "none");
        for (key, value) in settings {
            command.env(key, value);
        }
        let (daemon, line) = Daemon::start("docker-registry", &command, "listening on 127.0.0.1:");
        let (_, address) = line.split_once("listening on ").expect("the line was chosen by it");
        let end =
            address.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit()).unwrap_or(address.len());
        DockerRegistry { _daemon: daemon, address: address[..end].to_owned() }
    }

    fn upstream(&self, password: Option<&str>) -> Upstream {
        let mut options = Options::new(format!("http://{}", self.address).parse().expect("an address"));
        options.retries.first_pause = Duration::from_millis(1);
        options.credentials =
            password.map(|password| Credentials::new(USER, password).expect("sendable credentials"));
        Upstream::new(options).expect("a client can be made")
    }
}

/// A store with `team/box:1` in it, and the image.
fn filled() -> (TempDir, Layout) {
    let folder = TempDir::with_prefix("docker-registry-").expect("a temporary folder can be made");
    let layout = Layout::of("from docker-registry");
    let registry = DockerRegistry::start_at(folder.path(), &[]);
    Skopeo::on(Host::new()).push(&layout, &format!("{}/team/box:1", registry.address));
    (folder, layout)
}

/// Pulls all of `team/box:1`, and compares every byte.
async fn pull(upstream: &Upstream, layout: &Layout) -> Result<(), Error> {
    let name = "team/box".parse().expect("a name");
    let tag: Reference = "1".parse().expect("a tag");
    let accept = [MediaType::OCI_IMAGE_MANIFEST, MediaType::OCI_IMAGE_INDEX];
    let head = upstream.head_manifest(&name, &tag, &accept).await?;
    assert_eq!(head.digest.map(|digest| digest.to_string()), Some(layout.digest()));
    let by_digest = Reference::from(head.digest.expect("it was compared"));
    let manifest = upstream.get_manifest(&name, &by_digest, &accept, 4 << 20).await?;
    assert_eq!(manifest.bytes, std::fs::read(layout.blob(&layout.digest())).expect("a blob of the layout"));
    let layer = layout.manifest()["layers"][0]["digest"].as_str().expect("a digest").to_owned();
    let bytes = std::fs::read(layout.blob(&layer)).expect("a blob of the layout");
    let layer: Digest = layer.parse().expect("a digest");
    let head = upstream.head_blob(&name, &layer).await?;
    assert_eq!((head.size, head.accepts_ranges), (bytes.len() as u64, true));
    for offset in [0, bytes.len() / 2] {
        let mut blob = upstream.get_blob(&name, &layer, offset as u64).await?;
        assert_eq!((blob.offset, blob.size), (offset as u64, Some(bytes.len() as u64)));
        let mut got = Vec::new();
        while let Some(more) = blob.next().await? {
            got.extend_from_slice(&more);
        }
        assert!(got == bytes[offset..], "the layer comes as it is");
    }
    let tags = upstream.list_tags(&name, None, 10).await?;
    assert_eq!((tags.tags.len(), tags.is_complete), (1, true));
    Ok(())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a runtime can be made")
}

#[test]
fn an_open_docker_registry_is_pulled_from() {
    let (folder, layout) = filled();
    let registry = DockerRegistry::start_at(folder.path(), &[]);
    let upstream = registry.upstream(None);
    runtime().block_on(async {
        pull(&upstream, &layout).await.expect("all of it comes");
        let (name, tag) = ("team/box".parse().expect("a name"), "2".parse().expect("a tag"));
        let missing =
            upstream.get_manifest(&name, &tag, &[], 1 << 20).await.expect_err("there is no such tag");
        assert!(matches!(missing, Error::NotFound { what: Missing::Manifest, .. }), "{missing}");
        let other = "team/other".parse().expect("a name");
        let missing = upstream.list_tags(&other, None, 10).await.expect_err("there is no such name");
        assert!(matches!(missing, Error::NotFound { what: Missing::Repository, .. }), "{missing}");
        let subject = layout.digest().parse().expect("a digest");
        let missing =
            upstream.referrers(&name, &subject, None, None).await.expect_err("2.x has no referrers");
        assert!(matches!(missing, Error::NotFound { what: Missing::Referrers, .. }), "{missing}");
    });
}

#[test]
fn a_docker_registry_with_passwords_is_pulled_from() {
    let (folder, layout) = filled();
    let passwords = folder.path().join("htpasswd");
    std::fs::write(&passwords, format!("{USER}:{HASH}\n")).expect("a file can be written");
    let passwords = passwords.display().to_string();
    let registry = DockerRegistry::start_at(
        folder.path(),
        &[("REGISTRY_AUTH_HTPASSWD_REALM", "a realm"), ("REGISTRY_AUTH_HTPASSWD_PATH", &passwords)],
    );
    runtime().block_on(async {
        pull(&registry.upstream(Some("open sesame")), &layout).await.expect("all of it comes");
        for password in [None, Some("wrong")] {
            let error = pull(&registry.upstream(password), &layout).await.expect_err("nobody is let in");
            assert!(matches!(error, Error::Denied { .. }), "{error}");
        }
    });
}

#[test]
fn a_docker_registry_with_tokens_is_pulled_from() {
    let (folder, layout) = filled();
    let issuer = TokenIssuer::start();
    let realm = format!("http://{}/token", issuer.address);
    let registry = DockerRegistry::start_at(
        folder.path(),
        &[
            ("REGISTRY_AUTH_TOKEN_REALM", &realm),
            ("REGISTRY_AUTH_TOKEN_SERVICE", "docker-registry"),
            ("REGISTRY_AUTH_TOKEN_ISSUER", "the tests"),
            ("REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE", &vector("root.pem")),
        ],
    );
    runtime().block_on(async {
        let upstream = registry.upstream(Some("open sesame"));
        pull(&upstream, &layout).await.expect("all of it comes");
        assert_eq!(issuer.asked(), 1, "one token for all of the image");
        let error =
            pull(&registry.upstream(Some("wrong")), &layout).await.expect_err("the password is wrong");
        assert!(matches!(error, Error::Denied { .. }), "{error}");
        let error = pull(&registry.upstream(None), &layout).await.expect_err("nobody is let in");
        assert!(matches!(error, Error::Denied { .. }), "{error}");
    });
}

/// A token service: signs what is asked for, for the user whom it knows.
struct TokenIssuer {
    address: SocketAddr,
    asked: Arc<Mutex<usize>>,
}

impl TokenIssuer {
    /// Starts to listen; it ends with the process.
    fn start() -> TokenIssuer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let asked = Arc::new(Mutex::new(0));
        let count = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                *count.lock().expect("no other holder panics") += 1;
                let wanted = format!("Basic {}", STANDARD.encode(format!("{USER}:open sesame")));
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

    /// How many requests have come.
    fn asked(&self) -> usize {
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
