//! Requests that nobody thought of, to every end-point there is.
//!
//! `ORLOP_FUZZ_SECONDS` says for how long (10 by default), and `ORLOP_FUZZ_SEED` which requests; a failure names its seed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orlop::http::Operation;
use serde_json::json;
use support::{Server, image, sha256};

/// What the admin API has, and what lies beside the API.
const MORE: [&str; 24] = [
    "/v2/_orlop/admin/status",
    "/v2/_orlop/admin/verify",
    "/v2/_orlop/admin/gc",
    "/v2/_orlop/admin/undelete",
    "/v2/_orlop/admin/purge",
    "/v2/_orlop/admin/deletions",
    "/v2/_orlop/admin/repositories",
    "/v2/_orlop/admin/repositories/rename",
    "/v2/_orlop/admin/repositories/delete",
    "/v2/_orlop/admin/repositories/size",
    "/v2/_orlop/admin/tags/rollback",
    "/v2/_orlop/admin/policies/run",
    "/v2/_orlop/admin/cache/pull",
    "/v2/_orlop/admin/cache",
    "/v2/_orlop/admin/users",
    "/v2/_orlop/admin/tokens",
    "/v2/_orlop/admin/access/explain",
    "/v2/_orlop/token",
    "/token",
    "/livez",
    "/readyz",
    "/metrics",
    "/",
    "/v2/_orlop/",
];

const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"];

const NAMES: [&str; 12] = [
    "a",
    "a/b",
    "team/app",
    "docker.io/library/x",
    "A",
    "..",
    "a//b",
    "_orlop",
    "a%2fb",
    "blobs/uploads",
    "%00",
    "é",
];

const TAGS: [&str; 9] = ["1", "latest", "sha256-x", ".x", "a b", "%0d%0a", "x%ff", "%", ""];

const QUERIES: [&str; 22] = [
    "n=1",
    "n=0",
    "n=-1",
    "n=99999999999999999999",
    "last=a",
    "last=%ff",
    "mount=",
    "from=a",
    "digest=",
    "ns=docker.io",
    "ns=%00",
    "artifactType=a/b",
    "force=true",
    "tag=1",
    "tag=%0d%0a",
    "digest-algorithm=sha512",
    "digest-algorithm=md5",
    "scope=repository:a:pull",
    "service=x",
    "account=%ff",
    "=",
    "&&&%",
];

const HEADERS: [&str; 24] = [
    "Range: bytes=0-0",
    "Range: bytes=-0",
    "Range: bytes=5-1",
    "Range: bytes=0-,0-,0-,0-",
    "Range: x",
    "Content-Range: 0-4",
    "Content-Range: bytes 0-4/5",
    "Content-Range: 18446744073709551615-0",
    "If-None-Match: *",
    "If-Range: \"x\"",
    "Accept: */*",
    "Accept: application/vnd.docker.distribution.manifest.v1+prettyjws",
    "Accept: \u{e9}",
    "Content-Type: application/vnd.oci.image.manifest.v1+json",
    "Content-Type: application/vnd.oci.image.index.v1+json",
    "Content-Type: application/vnd.docker.distribution.manifest.v1+prettyjws",
    "Content-Type: x",
    "Content-Type: application/x-www-form-urlencoded",
    "Content-Encoding: gzip",
    "X-Forwarded-For: x",
    "Forwarded: for=\"",
    "Expect: 100-continue",
    "X-Request-Id: \t",
    "Authorization: Bearer a.b.c",
];

/// Numbers that depend on the seed alone.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// What is there, so that requests meet something.
struct Known {
    digests: Vec<String>,
    uploads: Vec<String>,
    bodies: Vec<Vec<u8>>,
}

fn request(random: &mut Random, known: &Known) -> Vec<u8> {
    let operations: Vec<_> = Operation::ALL.iter().map(|operation| operation.row()).collect();
    let row = operations[random.below(operations.len())];
    let is_own = !random.once_in(4);
    let digests: Vec<&str> = known.digests.iter().map(String::as_str).collect();
    let uploads: Vec<&str> = known.uploads.iter().map(String::as_str).collect();
    let digest = random.of(&digests);
    let reference = if random.once_in(2) { digest } else { random.of(&TAGS) };
    let template = if is_own { row.path } else { random.of(&MORE) };
    let mut path = template
        .replace("<name>", random.of(&NAMES))
        .replace("<digest>", digest)
        .replace("<reference>", reference)
        .replace("<tag>", random.of(&TAGS))
        .replace("<id>", random.of(&uploads));
    if random.once_in(8) {
        // One byte is another.
        let at = random.below(path.len());
        if path.is_char_boundary(at) && path.is_char_boundary(at + 1) {
            path.replace_range(at..=at, random.of(&["%", "/", "\u{7f}", "?", "%2e", ":", "@", "_"]));
        }
    }
    for at in 0..random.below(4) {
        path.push(if at == 0 { '?' } else { '&' });
        path.push_str(random.of(&QUERIES));
        if random.once_in(3) {
            path.push_str(digest);
        }
    }
    let method = if is_own && !random.once_in(4) { row.method } else { random.of(&METHODS) };
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n");
    for _ in 0..random.below(4) {
        head.push_str(random.of(&HEADERS));
        head.push_str("\r\n");
    }
    if !random.once_in(5) {
        let credentials =
            STANDARD.encode(random.of(&["anna:anna", "anna:anna", "anna:anna", "x:y", ":", "anna"]));
        head.extend(["Authorization: Basic ", &credentials, "\r\n"]);
    }
    let mut body = known.bodies[random.below(known.bodies.len())].clone();
    if random.once_in(3) && !body.is_empty() {
        let at = random.below(body.len());
        body[at] = u8::try_from(random.below(256)).unwrap();
    }
    if random.once_in(6) {
        head.push_str("Transfer-Encoding: chunked\r\n\r\n");
        let chunk = format!("{:x}\r\n", body.len());
        return [head.as_bytes(), chunk.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
    }
    head.extend(["Content-Length: ", &body.len().to_string(), "\r\n\r\n"]);
    [head.as_bytes(), &body].concat()
}

#[test]
fn no_request_makes_the_registry_fail() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number("ORLOP_FUZZ_SEED").unwrap_or(1);
    let seconds = number("ORLOP_FUZZ_SECONDS").unwrap_or(10);
    eprintln!("ORLOP_FUZZ_SEED={seed} ORLOP_FUZZ_SECONDS={seconds}");
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users");
    std::fs::write(&users, format!("anna:{}\n", bcrypt::hash("anna", 4).unwrap())).unwrap();
    let rules = "[[rule]]\nrepositories = [\"**\"]\nwho = [\"user:anna\"]\nactions = [\"pull\", \"push\", \"delete\", \"list\", \"admin\"]\n\
                 [[rule]]\nrepositories = [\"a/**\", \"a\"]\nwho = [\"anonymous\"]\nactions = [\"pull\", \"push\"]\n";
    let upstream = "[[upstream]]\nhost = \"docker.io\"\nurl = \"http://127.0.0.1:9\"\n";
    let file = format!("access.htpasswd = {:?}\n{rules}{upstream}", users.display().to_string());
    let server = Server::with_file(&file, &[("proxy.trusted", "127.0.0.1"), ("collection.lease", "1s")]);

    let anna = format!("Basic {}", STANDARD.encode("anna:anna"));
    let image = image(b"{}", &[], &json!({}));
    let mut known = Known {
        digests: vec![
            sha256(b"{}"),
            sha256(&image.bytes),
            sha256(b"hello"),
            format!("sha256:{}", "0".repeat(64)),
            format!("sha512:{}", "0".repeat(128)),
            format!("tarsum.v1+sha256:{}", "0".repeat(64)),
            "sha256:x".into(),
        ],
        uploads: vec!["x".into(), "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b".into()],
        bodies: vec![
            Vec::new(),
            b"{}".into(),
            b"hello".into(),
            image.bytes.clone(),
            b"grant_type=password&scope=x".into(),
            json!({ "digest": sha256(&image.bytes) }).to_string().into(),
            json!({ "repository": "a", "name": "a/b", "tag": "1", "to": "b", "user": "x" })
                .to_string()
                .into(),
            vec![0xff; 300],
            b"[[[[[[[[[[[[[[[[".into(),
        ],
    };
    let (mut random, end) = (Random(seed), Instant::now() + Duration::from_secs(seconds));
    let (mut sent, mut answered) = (0_u64, 0_u64);
    while Instant::now() < end {
        if sent % 200 == 0 {
            // Something to meet, however much has been deleted.
            for name in ["a", "a/b", "team/app"] {
                let blob = format!("/v2/{name}/blobs/uploads/?digest={}", sha256(b"{}"));
                server.post(&blob).header("authorization", &anna).body(b"{}").send();
                let put = server.put(&format!("/v2/{name}/manifests/1")).header("authorization", &anna);
                put.header("content-type", &image.media_type).body(&image.bytes).send();
                let begun = server.post(&format!("/v2/{name}/blobs/uploads/")).header("authorization", &anna);
                let begun = begun.body(b"").send().expect(202).location();
                known.uploads.push(begun.rsplit('/').next().unwrap().to_owned());
            }
            let surplus = known.uploads.len().saturating_sub(20);
            known.uploads.drain(..surplus);
        }
        let request = request(&mut random, &known);
        let mut stream = server.connect();
        // What is refused early isn't read to its end.
        let _ = stream.write_all(&request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        sent += 1;
        let shown = String::from_utf8_lossy(&request);
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.lines().next().and_then(|line| line.split(' ').nth(1)?.parse::<u16>().ok());
        answered += u64::from(status.is_some());
        // An upstream that nobody answers for is 503, and a full disk 507.
        let is_fine = status.is_none_or(|status| status < 500 || [503, 507].contains(&status));
        assert!(is_fine, "seed {seed}, request {sent}:\n{shown}\n{answer}");
    }
    eprintln!("{sent} requests, {answered} answers");
    assert!(answered * 10 > sent * 9, "{answered} of {sent} were answered");
    server.get("/livez").send().expect(200);
    let log = server.log();
    assert!(!log.contains("panicked"), "seed {seed}: {log}");
}
