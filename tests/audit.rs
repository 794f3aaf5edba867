//! Who did what from where, line by line, and in the events.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "notifications/receiver.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod receiver;
mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use receiver::{Behaviour, Receiver};
use serde_json::{Value, json};
use support::{Server, image, sha256};
use tempfile::TempDir;

const RULES: &str = r#"
[[rule]]
repositories = ["public/**"]
who = ["anonymous"]
actions = ["pull"]

[[rule]]
repositories = ["team/**", "public/**"]
who = ["user:anna"]
actions = ["pull", "push", "delete", "list"]
"#;

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// A server with the users anna and bo, whose passwords are their names.
fn server(more: &str) -> (TempDir, Server) {
    let dir = TempDir::new().unwrap();
    let line = |user: &str| format!("{user}:{}\n", bcrypt::hash(user, 4).unwrap());
    std::fs::write(dir.path().join("users"), ["anna", "bo"].map(line).concat()).unwrap();
    let users = dir.path().join("users").display().to_string();
    let server = Server::with_file(
        &format!("access.htpasswd = {users:?}\n{more}\n{RULES}"),
        &[("log.format", "json")],
    );
    (dir, server)
}

/// The lines of the audit in a text that has others too.
fn audit(log: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["target"] == "audit").collect()
}

/// The lines of the audit in a server's log, of which there are so many.
fn told(server: &Server, count: usize) -> Vec<Value> {
    server.wait_for_lines(count, &["\"target\":\"audit\""]);
    audit(&server.log())
}

/// Who did what and what came of it.
fn deeds(lines: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let words = |line: &Value| {
        ["actor", "actor_kind", "action", "repository", "reference", "result"]
            .map(|key| text(&line[key]))
            .join(" ")
    };
    lines.iter().map(words).collect()
}

/// Pushes an image as anna; its digest, and that of its configuration.
fn push(server: &Server, name: &str, tag: &str) -> (String, String) {
    let (config, authorization) = (format!("{{\"of\":\"{name}\"}}").into_bytes(), basic("anna", "anna"));
    let blob = sha256(&config);
    let target = format!("/v2/{name}/blobs/uploads/?digest={blob}");
    server.post(&target).header("authorization", &authorization).body(&config).send().expect(201);
    let image = image(&config, &[], &json!({}));
    let put = server.put(&format!("/v2/{name}/manifests/{tag}")).header("authorization", &authorization);
    put.header("content-type", &image.media_type)
        .header("x-request-id", "the-push")
        .body(&image.bytes)
        .send()
        .expect(201);
    (image.digest(), blob)
}

#[test]
fn each_change_is_told_with_who_what_where_and_from_where() {
    let (_dir, server) = server("");
    let (digest, blob) = push(&server, "team/a", "1");
    let as_anna = |request: support::Request| request.header("authorization", &basic("anna", "anna"));
    as_anna(server.get("/v2/team/a/manifests/1")).send().expect(200);
    as_anna(server.post(&format!("/v2/team/b/blobs/uploads/?mount={blob}&from=team/a")))
        .body(b"")
        .send()
        .expect(201);
    as_anna(server.post("/v2/team/b/blobs/uploads/")).body(b"").send().expect(202);
    let tag = "/v2/_orlop/repositories/team/a/tags/2";
    as_anna(server.put(tag))
        .header("content-type", "application/json")
        .body(json!({ "digest": digest }).to_string().as_bytes())
        .send();
    as_anna(server.delete("/v2/team/a/manifests/1")).send().expect(202);
    as_anna(server.delete("/v2/team/a/manifests/nothing")).send().expect(404);
    as_anna(server.delete(&format!("/v2/team/a/manifests/{digest}"))).send();
    as_anna(server.delete(&format!("/v2/team/b/blobs/{blob}"))).send().expect(202);
    as_anna(server.delete("/v2/_orlop/repositories/team/a")).send();
    let lines = told(&server, 8);
    let told = deeds(&lines);
    assert_eq!(
        told,
        [
            "anna user put_manifest team/a 1 done",
            "anna user mount_blob team/b - done",
            "anna user set_tag team/a 2 done",
            "anna user delete_manifest team/a 1 done",
            "anna user delete_manifest team/a nothing failed",
            &format!("anna user delete_manifest team/a {digest} done"),
            &format!("anna user delete_blob team/b {blob} done"),
            "anna user delete_repository team/a - done",
        ]
    );
    let push = &lines[0];
    assert_eq!(
        (&push["digest"], &push["request"], &push["status"]),
        (&json!(digest), &json!("the-push"), &json!(201))
    );
    assert!(push["remote"].as_str().unwrap().starts_with("127.0.0.1:"), "{push}");
    assert_eq!(lines[1]["subject"], format!("mount={blob} from=team/a"));
}

#[test]
fn each_refusal_is_told_and_the_question_how_to_log_in_is_none() {
    let (_dir, server) = server("");
    server.get("/v2/").send().expect(401);
    server.get("/v2/team/a/manifests/1").send().expect(401);
    let as_bo = |request: support::Request| request.header("authorization", &basic("bo", "bo"));
    as_bo(server.get("/v2/team/a/manifests/1")).send().expect(403);
    as_bo(server.put("/v2/team/a/manifests/1")).body(b"{}").send().expect(403);
    as_bo(server.post("/v2/_orlop/admin/gc")).body(b"{}").send().expect(403);
    as_bo(server.get("/v2/")).send().expect(200);
    server.get("/v2/").header("authorization", &basic("anna", "wrong")).send().expect(401);
    server
        .put("/v2/team/a/manifests/1")
        .header("authorization", "Bearer x.y.z")
        .body(b"{}")
        .send()
        .expect(401);
    server.get("/v2/team/a/manifests/1").header("authorization", "Nonsense").send().expect(401);
    assert_eq!(
        deeds(&told(&server, 7)),
        [
            "anonymous anonymous get_manifest team/a 1 refused",
            "bo user get_manifest team/a 1 refused",
            "bo user put_manifest team/a 1 refused",
            "bo user admin - - refused",
            "anonymous unidentified get_base - - refused",
            "anonymous unidentified put_manifest team/a 1 refused",
            "anonymous unidentified get_manifest team/a 1 refused",
        ]
    );
}

#[test]
fn what_is_told_depends_on_its_own_switch_and_not_on_the_level() {
    let (_dir, mut server) = server("[log]\nlevel = \"off\"\naudit = \"pulls\"\n");
    let users = std::fs::read_to_string(server.configuration()).unwrap();
    push(&server, "public/a", "1");
    server.get("/v2/public/a/manifests/1").send().expect(200);
    server.head("/v2/public/a/manifests/1").send().expect(200);
    let lines = deeds(&told(&server, 2));
    assert_eq!(
        lines,
        ["anna user put_manifest public/a 1 done", "anonymous anonymous get_manifest public/a 1 done"]
    );
    assert_eq!(server.log().lines().filter(|line| line.starts_with('{')).count(), 2, "{}", server.log());
    server.configure(&users.replace("\"pulls\"", "\"off\"").replace("level = \"off\"", "level = \"info\""));
    server.wait_for_line(&["level of the log was changed"]);
    push(&server, "public/b", "1");
    assert_eq!(audit(&server.log()).len(), 2);
}

#[test]
fn nobody_writes_a_line_of_their_own() {
    let (_dir, server) = server("");
    let forged = "x%0a{%22target%22:%22audit%22,%22actor%22:%22anna%22}%1b[2J";
    let request = server.post(&format!("/v2/team/b/blobs/uploads/?mount={forged}&from={forged}")).body(b"");
    request.header("x-request-id", "a\" b").send().expect(401);
    let request = server.put(&format!("/v2/team/b/manifests/1?tag={forged}")).body(b"{}");
    request.header("user-agent", "x\t{\"target\":\"audit\"}").send().expect(401);
    let lines = told(&server, 2);
    assert_eq!(
        deeds(&lines),
        [
            "anonymous anonymous mount_blob team/b - refused",
            "anonymous anonymous put_manifest team/b 1 refused"
        ]
    );
    assert!(lines[0]["subject"].as_str().unwrap().contains(r"x\n{"), "{lines:?}");
    assert!(!server.log().contains('\u{1b}'));
}

#[test]
fn each_token_that_is_issued_is_told_with_what_it_is_for() {
    let (_dir, server) = server("");
    let target =
        "/v2/_orlop/token?service=orlop&scope=repository:team/a:pull,push&scope=repository:other:pull";
    let issued = server.get(target).header("authorization", &basic("anna", "anna")).send().expect(200).json();
    server.get(target).header("authorization", &basic("anna", "wrong")).send().expect(401);
    let token = issued["token"].as_str().unwrap();
    let request = server.get("/v2/other/manifests/1").header("authorization", &format!("Bearer {token}"));
    let status = request.send().status;
    assert!([401, 403].contains(&status), "{status}");
    let lines = told(&server, 3);
    assert_eq!(
        deeds(&lines),
        [
            "anna user get_token - - done",
            "anonymous unidentified get_token - - refused",
            "anna user get_manifest other 1 refused",
        ]
    );
    assert_eq!(lines[0]["subject"], "scope=repository:team/a:pull,push");
    assert!(!server.log().contains(token));
}

fn lines_of(path: &Path) -> Vec<Value> {
    audit(&std::fs::read_to_string(path).unwrap())
}

#[test]
fn a_file_of_its_own_takes_the_lines_and_is_opened_anew_on_sighup() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit");
    let (_users, server) = server(&format!("log.audit_file = {:?}\n", path.display().to_string()));
    push(&server, "team/a", "1");
    assert_eq!(deeds(&lines_of(&path)), ["anna user put_manifest team/a 1 done"]);
    std::fs::rename(&path, dir.path().join("audit.1")).unwrap();
    server.hang_up();
    server.wait_for_line(&["were read again"]);
    push(&server, "team/b", "1");
    assert_eq!(deeds(&lines_of(&path)), ["anna user put_manifest team/b 1 done"]);
    assert_eq!(lines_of(&dir.path().join("audit.1")).len(), 1);
    assert_eq!(audit(&server.log()), Vec::<Value>::new());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

fn command(server: &Server, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    command.args(arguments).arg("--config").arg(server.configuration()).arg("--data").arg(server.data());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn commands_are_told_of_beside_a_server_and_without_one() {
    let dir = TempDir::new().unwrap();
    let path: PathBuf = dir.path().join("audit");
    let (_users, mut server) = server(&format!("log.audit_file = {:?}\n", path.display().to_string()));
    push(&server, "team/a", "1");
    server
        .delete("/v2/team/a/manifests/1")
        .header("authorization", &basic("anna", "anna"))
        .send()
        .expect(202);
    command(&server, &["status"]);
    command(&server, &["undelete", "team/a:1"]);
    command(&server, &["gc"]);
    server.stop();
    command(&server, &["repository", "rename", "team/a", "team/b"]);
    let lines = lines_of(&path);
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(
        deeds(&lines[2..]),
        [
            format!("local user {uid} local admin_undelete - - done"),
            format!("local user {uid} local admin_gc - - begun"),
            "local command local admin_rename_repository - - done".to_owned(),
        ]
    );
    assert_eq!(lines[2]["subject"], "repository=team/a tag=1");
    assert_eq!(lines[4]["subject"], "from=team/a to=team/b");
}

#[test]
fn events_name_the_user() {
    let receiver = Receiver::start(Behaviour::Accept);
    let endpoint = format!("[[notifications.endpoint]]\nname = \"hook\"\nurl = \"{}\"\n", receiver.url());
    let (_dir, server) = server(&endpoint);
    push(&server, "team/a", "1");
    let events = receiver.accepted(2);
    assert!(events.iter().all(|event| event["actor"] == json!({ "name": "anna" })), "{events:?}");
}
