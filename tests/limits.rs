//! Each limit on what a stranger can send, and what goes over it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use support::{Server, sha256};

/// What comes until the server closes the connection.
fn rest_of(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A connection that is reset has been closed too.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n").into_bytes()
}

/// Users whose passwords are their names; the server reads the file at its start.
fn users() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users");
    let lines = ["anna", "bo"].map(|user| format!("{user}:{}\n", bcrypt::hash(user, 4).unwrap()));
    std::fs::write(&path, lines.concat()).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

fn basic(user: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{user}")))
}

#[test]
fn a_head_that_is_too_long_or_has_too_many_headers_is_refused() {
    let server = Server::with(&[("limits.header_size", "4 KiB"), ("limits.header_count", "20")]);
    let long = |bytes: usize| format!("X-Long: {}\r\n", "x".repeat(bytes));
    assert_eq!(server.raw(&get("/v2/", &long(3000))).status, 200);
    assert_eq!(server.raw(&get("/v2/", &long(5000))).status, 431);
    let many = |count: usize| "X-Many: 1\r\n".repeat(count);
    assert_eq!(server.raw(&get("/v2/", &many(18))).status, 200);
    assert_eq!(server.raw(&get("/v2/", &many(19))).status, 431);
    // As many as usual, where nothing is said.
    let server = Server::start();
    assert_eq!(server.raw(&get("/v2/", &many(98))).status, 200);
    assert_eq!(server.raw(&get("/v2/", &many(99))).status, 431);
}

#[test]
fn a_path_that_is_too_long_is_refused() {
    let server = Server::with(&[("limits.url_length", "1000")]);
    let path = |bytes: usize| format!("/v2/?x={}", "y".repeat(bytes - 7));
    server.get(&path(1000)).send().expect(200);
    server.get(&path(1001)).send().expect_error(414, "UNSUPPORTED");
    let without = Server::with(&[("limits.url_length", "0")]);
    without.get(&path(20_000)).send().expect(200);
}

#[test]
fn bodies_have_sizes() {
    let (_dir, path) = users();
    let file = format!(
        "access.htpasswd = {path:?}\n[[rule]]\nrepositories = [\"**\"]\nwho = [\"user:anna\"]\nactions = [\"admin\", \"push\"]\n"
    );
    let server = Server::with_file(&file, &[("limits.blob_size", "100"), ("limits.body_size", "50")]);
    let anna = basic("anna");
    let (fits, too_large) = ([7; 100], [7; 101]);
    let whole = |blob: &[u8]| {
        let target = format!("/v2/a/blobs/uploads/?digest={}", sha256(blob));
        server.post(&target).header("authorization", &anna)
    };
    whole(&fits).body(&fits).send().expect(201);
    whole(&too_large).body(&too_large).send().expect_error(413, "SIZE_INVALID");
    whole(&too_large).stream(&too_large).send().expect_error(413, "SIZE_INVALID");
    let begun = server.post("/v2/a/blobs/uploads/").header("authorization", &anna).body(b"");
    let location = begun.send().expect(202).location();
    let send = |body: &[u8]| server.patch(&location).header("authorization", &anna).body(body).send();
    send(&fits[..60]).expect(202);
    send(&fits[..41]).expect_error(413, "SIZE_INVALID");
    send(&fits[..40]).expect(202);
    let put = format!("{location}?digest={}", sha256(&fits));
    server.put(&put).header("authorization", &anna).body(b"").send().expect(201);

    let admin = |padding: usize| {
        let body = format!("{{}}{}", " ".repeat(padding));
        let request = server.post("/v2/_orlop/admin/verify").header("authorization", &anna);
        request.body(body.as_bytes()).send()
    };
    admin(49).expect_error(413, "SIZE_INVALID");
    admin(48).expect(200);
}

#[test]
fn a_body_that_does_not_begin_ends_its_request_and_one_that_stands_still_too() {
    for (first, idle, sent) in [("300ms", "1h", ""), ("1h", "300ms", "half")] {
        let settings = [("limits.first_byte_timeout", first), ("limits.idle_timeout", idle)];
        let server = Server::with(&settings);
        let mut stream = server.connect();
        let digest = sha256(b"half and half");
        let head = format!(
            "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: a\r\nContent-Length: 13\r\n\r\n{sent}"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let answer = rest_of(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{first} {idle}: {answer}");
        assert!(answer.contains("BLOB_UPLOAD_INVALID"), "{answer}");
    }
}

#[test]
fn an_address_has_so_many_connections() {
    let server = Server::with(&[("limits.connections_per_address", "3")]);
    let mut held: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
    for stream in &mut held {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 12]).unwrap();
    }
    let mut fourth = server.connect();
    assert_eq!(rest_of(&mut fourth), "", "it is closed without a word");
    server.wait_for_line(&["limits.connections_per_address"]);
    drop(held);
    let proxied = Server::with(&[("limits.connections_per_address", "1"), ("proxy.trusted", "127.0.0.1")]);
    let mut held: Vec<TcpStream> = (0..3).map(|_| proxied.connect()).collect();
    for stream in &mut held {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 12]).unwrap();
    }
    drop(held);
}

#[test]
fn an_address_asks_so_often_and_who_watches_is_not_counted() {
    let settings = [("limits.requests_per_address", "1"), ("proxy.trusted", "127.0.0.1")];
    let server = Server::with(&settings);
    let ask = |client: &str, target: &str| server.get(target).header("x-forwarded-for", client).send();
    let answers: Vec<u16> = (0..30).map(|_| ask("192.0.2.1", "/v2/").status).collect();
    let refused = answers.iter().filter(|status| **status == 429).count();
    assert!(answers.iter().take(10).all(|status| *status == 200), "{answers:?}");
    assert!(refused > 0, "{answers:?}");
    // However slow the machine is: one more is there each second.
    let over = (0..30).map(|_| ask("192.0.2.1", "/v2/")).find(|reply| reply.status == 429).unwrap();
    let over = over.expect_error(429, "TOOMANYREQUESTS");
    assert_eq!(over.header("retry-after"), "1");
    ask("192.0.2.2", "/v2/").expect(200);
    for _ in 0..30 {
        for watched in ["/livez", "/readyz", "/metrics"] {
            ask("192.0.2.1", watched).expect(200);
        }
    }
    assert!(server.log().contains("status=429"));
}

#[test]
fn a_user_asks_so_often_and_others_are_not_held_up() {
    let (_dir, path) = users();
    let server = Server::with(&[("limits.requests_per_user", "1"), ("access.htpasswd", &path)]);
    let ask = |user: &str| server.get("/v2/").header("authorization", &basic(user)).send();
    let over = (0..60).map(|_| ask("anna")).find(|reply| reply.status == 429).expect("a limit");
    over.expect_error(429, "TOOMANYREQUESTS").header("retry-after");
    ask("bo").expect(200);
    server.get("/v2/").send().expect_error(401, "UNAUTHORIZED");
}

#[test]
fn a_user_has_so_many_uploads_and_no_more() {
    let (_dir, path) = users();
    let server = Server::with(&[("uploads.max_open_per_user", "2"), ("access.htpasswd", &path)]);
    let begin = |user: &str| {
        server.post("/v2/a/blobs/uploads/").header("authorization", &basic(user)).body(b"").send()
    };
    let fill = |user: &str, location: &str| {
        server.patch(location).header("authorization", &basic(user)).body(b"x").send().expect(202);
    };
    let kept = [begin("anna").expect(202).location(), begin("anna").expect(202).location()];
    // An empty one makes room.
    let third = begin("anna").expect(202).location();
    server
        .get(&kept[0])
        .header("authorization", &basic("anna"))
        .send()
        .expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    fill("anna", &kept[1]);
    fill("anna", &third);
    begin("anna").expect_error(429, "TOOMANYREQUESTS").header("retry-after");
    begin("bo").expect(202);
    server.delete(&third).header("authorization", &basic("anna")).send().expect(204);
    begin("anna").expect(202);
}

#[test]
fn names_have_a_length_and_a_depth() {
    let server = Server::with(&[("limits.name_length", "20"), ("limits.name_depth", "3")]);
    let begin = |name: &str| server.post(&format!("/v2/{name}/blobs/uploads/")).body(b"").send();
    begin("a/b/c").expect(202);
    begin("a/b/c/d").expect_error(400, "NAME_INVALID");
    begin(&"a".repeat(20)).expect(202);
    begin(&"a".repeat(21)).expect_error(400, "NAME_INVALID");
    server.get("/v2/a/b/c/d/tags/list").send().expect_error(400, "NAME_INVALID");
    let server = Server::with(&[("limits.name_length", "0")]);
    let begin = |name: &str| server.post(&format!("/v2/{name}/blobs/uploads/")).body(b"").send();
    begin(&vec!["a"; 128].join("/")).expect(202);
    begin(&"a".repeat(255)).expect(202);
    begin(&"a".repeat(256)).expect_error(400, "NAME_INVALID");
}
