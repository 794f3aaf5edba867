//! A registry in a directory of its own, and requests to it without a socket.
#![expect(unreachable_pub, reason = "the test beside it uses all of it")]

use std::io;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use orlop::http::{Respond, Service, Settings, Wire};
use orlop::oci::{Digest, DigestAlgorithm};
use orlop::registry::{self, Depth, Options, Policy};
use orlop::telemetry::{Metrics, StorageMetrics};
use serde_json::Value;
use tempfile::TempDir;

/// The sha256 digest of `content`, as text.
pub fn digest(content: &[u8]) -> String {
    Digest::of(DigestAlgorithm::Sha256, content).to_string()
}

/// The sha512 digest of `content`, as text.
pub fn sha512(content: &[u8]) -> String {
    Digest::of(DigestAlgorithm::Sha512, content).to_string()
}

/// One answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    /// The header's value, or nothing.
    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The code of the error that the answer is.
    pub fn code(&self) -> String {
        assert_eq!(self.header("content-type"), "application/json");
        self.json()["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

/// What the requests below `/v2/logged/` log, in any test: the log belongs to the process. One test starts it.
pub struct Log {
    lines: Arc<Mutex<Vec<u8>>>,
}

struct Writer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    pub fn start() -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&lines);
        let log = tracing_subscriber::fmt().with_ansi(false).with_target(false);
        tracing::subscriber::set_global_default(
            log.with_writer(move || Writer(Arc::clone(&writer))).finish(),
        )
        .unwrap();
        Self { lines }
    }

    /// The lines since the last call.
    pub fn take(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.lines.lock().unwrap());
        let text = String::from_utf8(bytes).unwrap();
        text.lines().filter(|line| line.contains("/v2/logged/")).map(str::to_owned).collect()
    }
}

/// A registry that is removed, after it was found clean, at the end of the test.
pub struct Registry {
    store: registry::Registry,
    wire: Wire,
    directory: TempDir,
    is_closed: std::cell::Cell<bool>,
}

impl Registry {
    pub fn open() -> Self {
        Self::with_policy(Policy::default())
    }

    pub fn with_policy(policy: Policy) -> Self {
        let directory = TempDir::new().unwrap();
        let options = Options { policy, ..Options::new(directory.path().join("data")) };
        let registry = registry::Registry::open(options).unwrap();
        let wire = serve(&registry, Settings::default());
        Self { store: registry, wire, directory, is_closed: false.into() }
    }

    /// The same registry, served under an external URL and with advice about chunks.
    pub fn behind(mut self, external_url: &str, chunk_min_length: u64) -> Self {
        let external_url = Some(external_url.to_owned());
        let settings = Settings { external_url, chunk_min_length, ..Settings::default() };
        self.wire = serve(&self.store, settings);
        self
    }

    pub async fn close(&self) {
        self.store.close().await;
        self.is_closed.set(true);
    }

    /// The number of files that uploads have on the disk.
    pub fn staged_files(&self) -> usize {
        std::fs::read_dir(self.directory.path().join("data/uploads")).map_or(0, Iterator::count)
    }

    /// Sends a request with a body of known length.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        let body = body.into();
        let len = body.len().to_string();
        let mut headers = headers.to_vec();
        headers.push(("content-length", &len));
        self.call(method, path, &headers, Body::from(body)).await
    }

    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.call("GET", path, headers, Body::empty()).await
    }

    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        self.send("POST", path, &[], body).await
    }

    pub async fn put(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        self.send("PUT", path, &[], body).await
    }

    pub async fn patch(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
        self.send("PATCH", path, headers, body).await
    }

    /// Sends a body without a declared length.
    pub async fn streamed(&self, method: &str, path: &str, body: Vec<u8>) -> Reply {
        let pieces = stream::iter([Ok::<_, io::Error>(Bytes::from(body))]);
        self.call(method, path, &[], Body::from_stream(pieces)).await
    }

    /// Sends `body` in pieces, and then breaks off.
    pub async fn broken(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        let pieces = body.chunks(10_000).map(|piece| Ok(Bytes::copy_from_slice(piece)));
        let pieces = pieces.chain([Err(io::Error::from(io::ErrorKind::ConnectionReset))]).collect::<Vec<_>>();
        self.call(method, path, &[], Body::from_stream(stream::iter(pieces))).await
    }

    /// Sends a body of which no byte ever comes.
    pub async fn endless(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.call(method, path, headers, Body::from_stream(stream::pending::<io::Result<Bytes>>())).await
    }

    async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request = request.header("host", "registry.test");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.wire.clone().respond(request.body(body).unwrap()).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// How many bytes the future has that answers a GET.
    pub fn size_of_an_answer(&self, path: &str) -> usize {
        let request = Request::get(path).body(Body::empty()).unwrap();
        size_of_val(&self.wire.clone().respond(request))
    }

    /// Asks for `path`, reads the first piece of the answer's body, and then all of it, or leaves.
    pub async fn get_in_part(&self, path: &str, reads_on: bool) -> Result<(), String> {
        let request = Request::get(path).header("host", "registry.test").body(Body::empty()).unwrap();
        let mut body = self.wire.clone().respond(request).await.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(|error| error.to_string())?;
            if !reads_on {
                break;
            }
        }
        Ok(())
    }

    /// The file of a blob.
    pub fn blob_file(&self, digest: &str) -> std::path::PathBuf {
        let (algorithm, hex) = digest.split_once(':').unwrap();
        self.directory.path().join("data/blobs").join(algorithm).join(&hex[..2]).join(hex)
    }

    /// Leaves the store as the test has damaged it.
    pub fn is_damaged(&self) {
        self.is_closed.set(true);
    }

    /// Starts an upload and returns where it goes on.
    pub async fn start(&self, name: &str) -> String {
        let reply = self.post(&format!("/v2/{name}/blobs/uploads/"), "").await;
        assert_eq!((reply.status, reply.header("range")), (202, "0-0".to_owned()), "{reply:?}");
        reply.header("location")
    }

    /// Pushes a blob and returns its path.
    pub async fn push_blob(&self, name: &str, content: &[u8]) -> String {
        let path = format!("/v2/{name}/blobs/uploads/?digest={}", digest(content));
        let reply = self.post(&path, content.to_vec()).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.header("location")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if !self.is_closed.get() && !std::thread::panicking() {
            let report = self.store.verify(Depth::Full).unwrap();
            assert!(report.is_clean(), "{report:?}");
        }
    }
}

fn serve(registry: &registry::Registry, settings: Settings) -> Wire {
    let metrics = Metrics::new(&StorageMetrics::default());
    Wire::new(Service { settings, ..Service::new(registry.clone(), metrics) })
}
