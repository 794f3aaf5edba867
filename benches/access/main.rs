//! What it costs to know who asks: requests for a manifest per second with access off, by a password and by a Bearer token,
//! side by side.
//!
//! `cargo bench --bench access` prints a table in Markdown; `docs/performance.md` says how to read it. Two threads keep
//! sixteen connections busy, beside the server on the same machine, so that the figures tell of each other and of nothing
//! else. Rounds alternate, and a figure is the median of its rounds.

#![expect(clippy::print_stdout, reason = "the report is what this program is for")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// How often each thing is measured, and by how many requests.
const ROUNDS: usize = 9;
const REQUESTS: usize = 60_000;

const THREADS: usize = 2;
const CONNECTIONS: usize = 8;

/// A running `orlop serve`; killed when it is dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, and its data goes anyway.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(folder: &Path, name: &str, settings: &[&str]) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--set", "log.level=warn", "--data"]);
        command.arg(folder.join(name)).current_dir(folder).args(settings);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program was built for this");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut lines = output.lines().map_while(Result::ok);
        let line = lines.find(|line| line.starts_with("Listening on")).expect("it says where it listens");
        let address = line.split_once("http://").expect("a URL").1.trim().parse().expect("an address");
        // What else it says must not fill the pipe.
        thread::spawn(move || lines.for_each(drop));
        Server { child, address }
    }

    /// Sends one request by itself, and returns the body of the answer.
    fn ask(&self, method: &str, target: &str, headers: &str, body: &[u8]) -> Vec<u8> {
        let mut stream = BufReader::new(TcpStream::connect(self.address).expect("it listens"));
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\n{headers}Content-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.get_mut().write_all(&[head.as_bytes(), body].concat()).expect("it reads");
        let (status, body) = answer(&mut stream);
        assert!(
            (200..300).contains(&status),
            "{method} {target}: {status} {}",
            String::from_utf8_lossy(&body)
        );
        body
    }

    /// Pushes an image to `team/app:1`.
    fn push(&self, headers: &str) {
        let config = b"{}";
        let hex: String = digest(&SHA256, config)
            .as_ref()
            .iter()
            .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type, "layers": [],
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json", "digest": format!("sha256:{hex}"), "size": 2
            },
            "annotations": { "filler": "x".repeat(600) },
        });
        self.ask("POST", &format!("/v2/team/app/blobs/uploads/?digest=sha256:{hex}"), headers, config);
        let headers = format!("{headers}Content-Type: {media_type}\r\n");
        self.ask("PUT", "/v2/team/app/manifests/1", &headers, manifest.to_string().as_bytes());
    }

    /// Requests for the manifest per second.
    fn rate(&self, headers: &str) -> f64 {
        let request =
            format!("GET /v2/team/app/manifests/1 HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.address);
        let began = Instant::now();
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| self.keep_busy(request.as_bytes()));
            }
        });
        #[expect(clippy::cast_precision_loss, reason = "it is a small number")]
        let requests = REQUESTS as f64;
        requests / began.elapsed().as_secs_f64()
    }

    fn keep_busy(&self, request: &[u8]) {
        let connect = |_| BufReader::new(TcpStream::connect(self.address).expect("it listens"));
        let mut streams: Vec<_> = (0..CONNECTIONS).map(connect).collect();
        for _ in 0..REQUESTS / THREADS / CONNECTIONS {
            for stream in &mut streams {
                stream.get_mut().write_all(request).expect("it reads");
            }
            for stream in &mut streams {
                assert_eq!(answer(stream).0, 200);
            }
        }
    }
}

/// Reads one answer: its status and its body.
fn answer(stream: &mut BufReader<TcpStream>) -> (u16, Vec<u8>) {
    let (mut status, mut length, mut line) = (0, 0, String::new());
    loop {
        line.clear();
        stream.read_line(&mut line).expect("it answers");
        let line = line.trim_end();
        if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
            status = rest[..3].parse().expect("a status");
        } else if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().expect("a length");
        } else if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("it sends what it promises");
    (status, body)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() {
    let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
    let hash = bcrypt::hash("sesame", 10).expect("a password can be hashed");
    std::fs::write(folder.path().join("users"), format!("anna:{hash}\n")).expect("a file can be written");
    let open = Server::start(folder.path(), "open", &[]);
    let closed = Server::start(
        folder.path(),
        "closed",
        &["--set", "access.htpasswd=users", "--set", "access.token_lifetime=1h"],
    );

    let basic = format!("Authorization: Basic {}\r\n", STANDARD.encode("anna:sesame"));
    let answer = closed.ask("GET", "/v2/_orlop/token?scope=repository:team/app:pull", &basic, b"");
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    let token = answer["token"].as_str().expect("a token");
    let bearer = format!("Authorization: Bearer {token}\r\n");
    open.push("");
    closed.push(&basic);

    let cases =
        [("off", &open, ""), ("Basic", &closed, basic.as_str()), ("Bearer", &closed, bearer.as_str())];
    let mut rates = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for ((_, server, headers), rates) in cases.iter().zip(&mut rates) {
            rates.push(server.rate(headers));
        }
    }
    println!("| access | requests per second | of off |\n| --- | --- | --- |");
    let off = median(rates[0].clone());
    for ((name, ..), rates) in cases.iter().zip(rates) {
        let rate = median(rates);
        println!("| {name} | {rate:.0} | {:.2} |", rate / off);
    }
}
