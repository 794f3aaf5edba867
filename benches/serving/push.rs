//! Durable pushes of a blob of 1 GiB, beside a receiver that hashes the same stream and keeps nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use orlop::clock::monotonic;
use orlop::oci::{Digest, DigestAlgorithm, Hasher};
use tempfile::TempDir;

use crate::exchange::{BYTES, request, send};
use crate::program::{Program, cpu_of_this_thread};
use crate::pull::get;
use crate::sample::{HEAD, Sample, Samples};
use crate::{BLOB, ROUNDS};

/// The bytes of a blob: a page with a number that makes it different from all others, then random bytes over and over.
#[derive(Debug)]
pub(crate) struct Body {
    first: [u8; 4096],
    piece: Vec<u8>,
    repeat: usize,
    digest: Digest,
}

impl Body {
    /// The blob with this number, of so many bytes (a multiple of 8 MiB).
    pub(crate) fn new(number: u64, bytes: u64) -> Body {
        let mut piece = vec![0; 4 << 20];
        let mut random = std::fs::File::open("/dev/urandom").expect("it opens");
        random.read_exact(&mut piece).expect("it never ends");
        let mut first = [0; 4096];
        first[..8].copy_from_slice(&number.to_le_bytes());
        let repeat = usize::try_from(bytes).expect("it fits") / piece.len();
        let mut hasher = Hasher::new(DigestAlgorithm::Sha256);
        hasher.update(&first);
        hasher.update(&piece[first.len()..]);
        for _ in 1..repeat {
            hasher.update(&piece);
        }
        Body { first, piece, repeat, digest: hasher.finish() }
    }

    /// Its digest.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// Pushes it to the registry's repository `bench`.
    pub(crate) fn push_to(&self, registry: SocketAddr) {
        let session = request(registry, "POST", "/v2/bench/blobs/uploads/");
        let location = session.header("location").expect("a session has a location").to_owned();
        let separator = if location.contains('?') { '&' } else { '?' };
        let answer = self.send(registry, &format!("{location}{separator}digest={}", self.digest));
        assert_eq!(answer, 201);
    }

    fn send(&self, to: SocketAddr, target: &str) -> u16 {
        let first = [&self.first[..], &self.piece[self.first.len()..]].concat();
        send(to, "PUT", target, BYTES, &first, &self.piece, self.repeat - 1).status()
    }
}

/// Prints the comparison.
pub(crate) fn report() {
    let folder = TempDir::with_prefix("orlop-bench-").expect("a temporary folder can be made");
    let orlop = Program::orlop(&folder.path().join("data"));
    let (mut ours, mut marks) = (Samples::default(), Samples::default());
    for round in 0..=ROUNDS {
        let body = Body::new(round as u64, BLOB);
        let mark_first = round % 2 == 0;
        let mark = if mark_first { Some(hash_alone(&body)) } else { None };
        let (before, client_before) = (orlop.cpu_of_all_threads(), cpu_of_this_thread());
        let started = monotonic();
        body.push_to(orlop.address());
        let sample = Sample::new(BLOB, started.elapsed(), orlop.cpu_of_all_threads().saturating_sub(before))
            .with_client(cpu_of_this_thread().saturating_sub(client_before));
        let mark = mark.unwrap_or_else(|| hash_alone(&body));
        assert_eq!(
            request(orlop.address(), "DELETE", &format!("/v2/bench/blobs/{}", body.digest())).status(),
            202
        );
        if round > 0 {
            ours.push(sample);
            marks.push(mark);
        }
    }
    println!("## Pushes of 1 GiB, answered when durable\n\n{HEAD}");
    println!("{}", marks.row("the same stream, hashed and thrown away", &marks));
    println!("{}\n", ours.row("orlop", &marks));
}

/// Receives the body as a server does, with one thread that hashes each piece as it comes.
fn hash_alone(body: &Body) -> Sample {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let receiver = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the client connects");
        let before = cpu_of_this_thread();
        let mut hasher = Hasher::new(DigestAlgorithm::Sha256);
        let mut buffer = vec![0; 256 << 10];
        let mut head = Vec::new();
        let mut left = BLOB;
        while left > 0 {
            let read = stream.read(&mut buffer).expect("the client writes");
            assert!(read > 0, "the client closed the connection");
            let mut bytes = &buffer[..read];
            if head.len() < 4 || !head.ends_with(b"\r\n\r\n") {
                let end =
                    bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("the head comes first")
                        + 4;
                head.extend_from_slice(&bytes[..end]);
                bytes = &bytes[end..];
            }
            hasher.update(bytes);
            left -= bytes.len() as u64;
        }
        let digest = hasher.finish();
        stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").expect("the client reads");
        (digest, cpu_of_this_thread().saturating_sub(before))
    });
    let client_before = cpu_of_this_thread();
    let started = monotonic();
    assert_eq!(body.send(address, "/"), 201);
    let elapsed = started.elapsed();
    let client_cpu = cpu_of_this_thread().saturating_sub(client_before);
    let (digest, cpu) = receiver.join().expect("the receiver ends well");
    assert_eq!(digest, body.digest());
    Sample::new(BLOB, elapsed, cpu).with_client(client_cpu)
}

/// Prints what is in memory at rest, and the most that ever was with 64 pulls and 16 pushes of 1 GiB at once.
pub(crate) fn report_memory() {
    let folder = TempDir::with_prefix("orlop-bench-").expect("a temporary folder can be made");
    let orlop = Program::orlop(&folder.path().join("data"));
    request(orlop.address(), "GET", "/v2/").read();
    let (idle, _) = orlop.memory();
    let body = Body::new(0, BLOB);
    body.push_to(orlop.address());
    let blob = format!("/v2/bench/blobs/{}", body.digest());
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| get(orlop.address(), &blob));
        }
        for number in 1..=16 {
            let address = orlop.address();
            scope.spawn(move || Body::new(number, BLOB).push_to(address));
        }
    });
    let (after, peak) = orlop.memory();
    println!(
        "## Memory\n\n| at rest | peak, 64 pulls and 16 pushes of 1 GiB | afterwards |\n| --- | --- | --- |"
    );
    println!("| {} MiB | {} MiB | {} MiB |\n", idle >> 10, peak >> 10, after >> 10);
}
