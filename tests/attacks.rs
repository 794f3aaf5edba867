//! What strangers try, one attack in each test.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::json;
use support::{Reply, Request, Server, image, sha256};
use tempfile::TempDir;

/// Users whose passwords are their names, and who they are.
const USERS: [&str; 3] = ["anna", "bo", "eve"];

fn basic(user: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{user}")))
}

/// A server with users, and with these rules.
fn guarded(rules: &str, settings: &[(&str, &str)]) -> (TempDir, Server) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("users");
    let lines = USERS.map(|user| format!("{user}:{}\n", bcrypt::hash(user, 4).unwrap()));
    std::fs::write(&path, lines.concat()).unwrap();
    let file = format!("access.htpasswd = {:?}\n{rules}", path.display().to_string());
    let server = Server::with_file(&file, settings);
    (dir, server)
}

/// A request of somebody, or of nobody in particular.
fn ask(server: &Server, who: &str, method: Method, target: &str) -> Request {
    let request = server.request(method, target);
    if who.is_empty() { request } else { request.header("authorization", &basic(who)) }
}

const PRIVATE: &str = r#"
[[rule]]
repositories = ["anna/**"]
who = ["user:anna"]
actions = ["pull", "push", "delete"]

[[rule]]
repositories = ["eve/**"]
who = ["user:eve"]
actions = ["pull", "push", "delete"]

[[rule]]
repositories = ["shared/**"]
who = ["user:anna", "user:eve"]
actions = ["pull", "push", "delete"]

[[rule]]
repositories = ["open/**"]
who = ["anonymous"]
actions = ["pull", "push"]
"#;

/// Begins an upload, and returns where it goes on.
fn begin(server: &Server, who: &str, name: &str) -> String {
    let target = format!("/v2/{name}/blobs/uploads/");
    ask(server, who, Method::POST, &target).body(b"").send().expect(202).location()
}

/// Whether an upload is one to somebody, asked in every way there is; the last ends it if it is theirs.
fn tries(server: &Server, who: &str, location: &str) -> Vec<Reply> {
    let digest = sha256(b"stolen");
    let ask = |method, target: &str| ask(server, who, method, target);
    vec![
        ask(Method::GET, location).send(),
        ask(Method::PATCH, location).body(b"stolen").send(),
        ask(Method::PATCH, location).header("content-range", "0-5").body(b"stolen").send(),
        ask(Method::PUT, &format!("{location}?digest={digest}")).body(b"stolen").send(),
        ask(Method::PUT, &format!("{location}?digest={digest}")).body(b"").send(),
        ask(Method::DELETE, location).send(),
    ]
}

#[test]
fn an_upload_is_nobodys_but_whose_it_is() {
    let (_dir, mut server) = guarded(PRIVATE, &[]);
    let (of_anna, of_nobody) = (begin(&server, "anna", "shared/a"), begin(&server, "", "open/a"));
    ask(&server, "anna", Method::PATCH, &of_anna).body(b"half").send().expect(202);
    for reply in tries(&server, "eve", &of_anna) {
        reply.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    }
    // It survives a restart as hers.
    server.stop();
    server.run_again();
    for reply in tries(&server, "eve", &of_anna) {
        reply.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    }
    for reply in tries(&server, "", &of_anna) {
        reply.expect_error(401, "UNAUTHORIZED");
    }
    ask(&server, "anna", Method::GET, &of_anna).send().expect(204).expect_header("range", "0-3");
    let whole = format!("{of_anna}?digest={}", sha256(b"half and half"));
    ask(&server, "anna", Method::PUT, &whole).body(b" and half").send().expect(201);
    // What nobody in particular has begun didn't survive: it had not a byte. Another is everybody's who may push there.
    ask(&server, "", Method::GET, &of_nobody).send().expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    let of_nobody = begin(&server, "", "open/a");
    ask(&server, "", Method::PATCH, &of_nobody).body(b"of").send().expect(202);
    ask(&server, "eve", Method::PATCH, &of_nobody).body(b" all").send().expect(202);
    let target = format!("{of_nobody}?digest={}", sha256(b"of all"));
    ask(&server, "", Method::PUT, &target).body(b"").send().expect(201);
}

/// Sends bytes, and reads until the server closes the connection.
fn raw(server: &Server, request: &[u8]) -> String {
    let mut stream = server.connect();
    // The server may have closed the connection before everything was sent.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// All files below a directory, and the link that each is.
fn files(below: &Path) -> BTreeSet<PathBuf> {
    let Ok(entries) = std::fs::read_dir(below) else { return BTreeSet::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { BTreeSet::from([path]) }).collect()
}

#[test]
fn no_part_of_a_path_leads_out_of_the_registry() {
    let server = Server::start();
    let id = begin(&server, "", "a");
    let outside = server.data().parent().unwrap().to_owned();
    let before = files(&outside).into_iter().filter(|path| !path.starts_with(server.data()));
    let before: BTreeSet<PathBuf> = before.collect();
    let digest = sha256(b"x");
    let ways = [
        "..",
        "../..",
        ".",
        "%2e%2e",
        "%2E%2e%2f%2e%2e",
        "%252e%252e",
        "%252e%252e%252f",
        "..%2f..%2fetc%2fpasswd",
        "..%5c..",
        "%c0%ae%c0%ae",
        "%uff0e",
        "a/../../b",
        "a%00",
        "%00",
        "a%2f..%2fb",
        "....//",
        "/",
        "//etc/passwd",
        "~",
        "a/.",
        "a/..",
        "%2fetc%2fpasswd",
        "file:%2f%2f%2fetc%2fpasswd",
        ".%00.",
        "uploads/../../orlop.toml",
    ];
    let mut sent = 0;
    for way in ways {
        let paths = [
            format!("/v2/{way}/tags/list"),
            format!("/v2/a/{way}/tags/list"),
            format!("/v2/{way}/blobs/{digest}"),
            format!("/v2/a/blobs/{way}"),
            format!("/v2/a/blobs/sha256:{way}"),
            format!("/v2/a/blobs/{way}:{}", &digest[7..]),
            format!("/v2/a/manifests/{way}"),
            format!("/v2/{way}/manifests/1"),
            format!("/v2/a/blobs/uploads/{way}"),
            format!("{id}/{way}"),
            format!("/v2/a/referrers/{way}"),
            format!("/v2/{way}/blobs/uploads/"),
            format!("/v2/a/blobs/uploads/?mount={way}&from=a"),
            format!("/v2/a/blobs/uploads/?mount={digest}&from={way}"),
            format!("/v2/a/blobs/uploads/?digest={way}"),
            format!("{id}?digest={way}"),
            format!("/v2/_orlop/repositories/{way}/tags/1/history"),
            format!("/v2/_orlop/repositories/a/tags/{way}"),
            format!("/v2/_orlop/repositories/a/signatures/{way}"),
            format!("/v2/_orlop/admin/{way}"),
            format!("/v2/_catalog?last={way}"),
            format!("/v2/a/tags/list?last={way}"),
            format!("/{way}/v2/"),
            format!("/{way}"),
        ];
        for path in paths {
            for method in ["GET", "PUT", "DELETE", "POST", "PATCH"] {
                let request = format!(
                    "{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"
                );
                let answer = raw(&server, request.as_bytes());
                let status: u16 =
                    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
                assert!((200..500).contains(&status), "{method} {path}: {answer}");
                assert!(!answer.contains("root:"), "{method} {path}: {answer}");
                sent += 1;
            }
        }
    }
    assert!(sent > 1000);
    let after = files(&outside).into_iter().filter(|path| !path.starts_with(server.data()));
    assert_eq!(after.collect::<BTreeSet<_>>(), before);
    for path in files(&server.data()) {
        let path = path.strip_prefix(server.data()).unwrap().to_str().unwrap().to_owned();
        let is_known = ["blobs/", "uploads/", "quarantine/"].iter().any(|folder| path.starts_with(folder));
        assert!(is_known || !path.contains('/'), "{path}");
    }
    assert!(server.get("/v2/_catalog").send().expect(200).strings("repositories").is_empty());
}

#[test]
fn names_and_digests_are_taken_up_to_their_limits() {
    let server = Server::start();
    let begin = |name: &str| server.post(&format!("/v2/{name}/blobs/uploads/")).body(b"").send();
    begin(&"a".repeat(255)).expect(202);
    begin(&"a".repeat(256)).expect_error(400, "NAME_INVALID");
    begin(&vec!["a"; 128].join("/")).expect(202);
    begin(&vec!["a"; 129].join("/")).expect_error(400, "NAME_INVALID");
    for bad in ["A", "a_", "-a", "a..b", "a___b", "a/", "a%20b", "%C3%A9", "a%0ab", "a:b", "a@b", "_a"] {
        begin(bad).expect_error(400, "NAME_INVALID");
    }
    let hex = "a".repeat(64);
    for bad in [
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}a"),
        format!("sha256:{}A", &hex[1..]),
        format!("sha512:{hex}"),
        format!("SHA256:{hex}"),
        format!("sha256%3a{hex}%00"),
        format!("sha256:{hex}%0d%0aX-Evil:1"),
        format!("md5:{}", &hex[..32]),
        "sha256:".to_owned(),
        ":".to_owned(),
        "a".repeat(5000),
    ] {
        server.get(&format!("/v2/a/blobs/{bad}")).send().expect_error(400, "DIGEST_INVALID");
        server
            .post(&format!("/v2/a/blobs/uploads/?digest={bad}"))
            .body(b"")
            .send()
            .expect_error(400, "DIGEST_INVALID");
    }
    let image = image(b"{}", &[], &json!({}));
    for tag in ["a".repeat(129), ".a".to_owned(), "a%20b".to_owned(), "a%0d%0ab".to_owned()] {
        let put = server.put(&format!("/v2/a/manifests/{tag}")).header("content-type", &image.media_type);
        put.body(&image.bytes).send().expect_error(400, "TAG_INVALID");
    }
}

#[test]
fn what_two_servers_could_understand_in_two_ways_is_refused_and_the_connection_closed() {
    let server = Server::start();
    let smuggled = "GET /v2/smuggled/tags/list HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: a\r\n";
    let shapes = [
        ("two lengths", format!("{post}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello")),
        ("two lengths in one", format!("{post}Content-Length: 5, 6\r\n\r\nhello")),
        ("a length with a sign", format!("{post}Content-Length: +5\r\n\r\nhello")),
        ("a length in hex", format!("{post}Content-Length: 0x5\r\n\r\nhello")),
        ("an enormous length", format!("{post}Content-Length: 99999999999999999999\r\n\r\nhello")),
        (
            "a length, then chunks",
            format!("{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            "chunks, then a length",
            format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        ),
        ("chunks that aren't last", format!("{post}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n")),
        ("an unknown coding", format!("{post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n")),
        ("a space before the colon", format!("{post}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n")),
        ("a tab before the colon", format!("{post}Content-Length\t: 5\r\n\r\nhello")),
        ("a folded line", format!("{post}X-A: 1\r\n  2\r\nContent-Length: 0\r\n\r\n")),
        ("a folded first line", format!("GET /v2/ HTTP/1.1\r\n Host: a\r\n\r\n")),
        ("a line without a CR", "GET /v2/ HTTP/1.1\r\nHost: a\nX-A: 1\r\n\r\n".to_owned()),
        ("a head without a CR", "GET /v2/ HTTP/1.1\nHost: a\n\n".to_owned()),
        ("an end without a CR", format!("{post}Content-Length: 0\r\n\n")),
        ("a lonely CR", "GET /v2/ HTTP/1.1\r\nHost: a\rX-A: 1\r\n\r\n".to_owned()),
        ("a zero byte", "GET /v2/ HTTP/1.1\r\nHost: a\r\nX-A: a\0b\r\n\r\n".to_owned()),
        ("two hosts", "GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned()),
        ("no host", "GET /v2/ HTTP/1.1\r\n\r\n".to_owned()),
        ("a host with a path", "GET /v2/ HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned()),
        ("a host with quotes", "GET /v2/ HTTP/1.1\r\nHost: a\",x=\"y\r\n\r\n".to_owned()),
        (
            "chunks in HTTP/1.0",
            "POST /v2/a/blobs/uploads/ HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                .to_owned(),
        ),
    ];
    for (shape, request) in shapes {
        let answer = raw(&server, format!("{request}{smuggled}").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 "), "{shape}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{shape}: {answer}");
    }
    // Broken chunks end their request, and nothing behind them is one.
    for (shape, chunks) in [
        ("no size", "x\r\nhello\r\n0\r\n\r\n"),
        ("a negative size", "-5\r\nhello\r\n0\r\n\r\n"),
        ("an enormous size", "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ("no end of a chunk", "5\r\nhelloX0\r\n\r\n"),
    ] {
        let target = format!("/v2/a/blobs/uploads/?digest={}", sha256(b"hello"));
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{smuggled}"
        );
        let answer = raw(&server, request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 "), "{shape}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{shape}: {answer}");
    }
    assert!(!server.log().contains("smuggled"), "{}", server.log());
}
