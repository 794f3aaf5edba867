//! What strangers try, one attack in each test.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use support::{Reply, Request, Server, sha256};
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
