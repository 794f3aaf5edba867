//! Users and access tokens of the database: made, used, changed and taken away by command, beside a server and without one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use support::{Reply, Server};
use tempfile::TempDir;

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// Runs the program in a directory with `orlop.toml` and `data`, and hands `input` to it.
fn orlop(directory: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ORLOP_")) {
        command.env_remove(name);
    }
    command.args(arguments).current_dir(directory);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Who refuses doesn't read it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn said_with(directory: &Path, arguments: &[&str], input: &str) -> String {
    let output = orlop(directory, arguments, input);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
fn said(directory: &Path, arguments: &[&str]) -> String {
    said_with(directory, arguments, "")
}

#[track_caller]
fn refused(directory: &Path, arguments: &[&str], input: &str) -> String {
    let output = orlop(directory, arguments, input);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    text(&output.stderr)
}

fn json(directory: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&said(directory, &[arguments, &["--json"]].concat())).unwrap()
}

/// Makes an access token; returns its secret.
#[track_caller]
fn token(directory: &Path, arguments: &[&str]) -> String {
    let answer = json(directory, &[&["token", "create"], arguments].concat());
    answer["secret"].as_str().unwrap().to_owned()
}

/// The directory in which a server was started.
fn home(server: &Server) -> PathBuf {
    server.data().parent().unwrap().to_owned()
}

fn get(server: &Server, authorization: &str, target: &str) -> Reply {
    match authorization {
        "" => server.get(target).send(),
        authorization => server.get(target).header("authorization", authorization).send(),
    }
}

fn push(server: &Server, authorization: &str, name: &str) -> u16 {
    let request = server.post(&format!("/v2/{name}/blobs/uploads/")).body(b"");
    request.header("authorization", authorization).send().status
}

const RULES: &str = r#"
[[rule]]
repositories = ["team/**"]
who = ["group:dev"]
actions = ["pull", "push"]

[[rule]]
repositories = ["deploy/**"]
who = ["token:deploy"]
actions = ["pull"]
"#;

#[test]
fn users_of_the_database_log_in_at_once_and_are_gone_at_once() {
    let server = Server::with(&[("log.level", "trace")]);
    let home = &home(&server);
    get(&server, "", "/v2/").expect(200);
    assert!(said(home, &["user", "list"]).contains("There are no users."));
    assert!(said_with(home, &["user", "add", "anna"], "sesame\n").contains("anna can log in now."));
    // The first of them closes the registry.
    get(&server, "", "/v2/").expect_error(401, "UNAUTHORIZED");
    get(&server, &basic("anna", "sesame"), "/v2/").expect(200);
    get(&server, &basic("anna", "Sesame"), "/v2/").expect_error(401, "UNAUTHORIZED");
    assert_eq!(push(&server, &basic("anna", "sesame"), "team/a"), 202);
    let taken = refused(home, &["user", "add", "anna", "--password-stdin"], "other\n");
    assert!(taken.contains("the name anna is taken"), "{taken}");

    said_with(home, &["user", "set", "anna", "--password-stdin"], "another-one\n");
    get(&server, &basic("anna", "sesame"), "/v2/").expect(401);
    get(&server, &basic("anna", "another-one"), "/v2/").expect(200);
    let removed = said(home, &["user", "remove", "anna"]);
    assert!(removed.contains("anna is removed.") && removed.contains("lets everybody in"), "{removed}");
    get(&server, &basic("anna", "another-one"), "/v2/").expect(401);
    get(&server, "", "/v2/").expect_error(401, "UNAUTHORIZED");
    assert!(refused(home, &["user", "remove", "anna"], "").contains("there is no user anna"));
    assert!(refused(home, &["user", "set", "anna", "--no-groups"], "").contains("there is no user anna"));
    assert!(refused(home, &["user", "set", "anna"], "").contains("say what to change"));
    let log = server.log();
    assert!(log.contains("admin_add_user"), "{log}");
    for secret in ["sesame", "another-one", "$2y$"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{line:?}");
    }
}

#[test]
fn a_password_has_to_be_one() {
    let server = Server::start();
    for (input, why) in [
        ("", "no password"),
        ("\nsesame\n", "no password"),
        ("a\tb\n", "control character"),
        (&format!("{}\n", "x".repeat(73)), "72 bytes"),
    ] {
        let message = refused(&home(&server), &["user", "add", "anna"], input);
        assert!(message.contains(why) && !message.contains("sesame"), "{message}");
    }
    let output = orlop(&home(&server), &["user", "add", "an:na"], "sesame\n");
    assert!(output.status.code() == Some(2) && text(&output.stderr).contains("a name has letters"));
    get(&server, "", "/v2/").expect(200);
}

#[test]
fn groups_say_what_a_user_may_do_whichever_way_they_come() {
    let server = Server::with_file(RULES, &[]);
    let home = &home(&server);
    said_with(home, &["user", "add", "anna", "--group", "dev", "--group", "ops"], "sesame\n");
    said_with(home, &["user", "add", "bo"], "sesame\n");
    let users = json(home, &["user", "list"]);
    assert_eq!(users["users"][0]["groups"], serde_json::json!(["dev", "ops"]));
    assert_eq!(users["users"].as_array().unwrap().len(), 2);
    let secret = token(home, &["laptop", "--user", "anna"]);
    let (password, bearer) = (basic("anna", "sesame"), format!("Bearer {secret}"));
    let ways = [password, basic("anna", &secret), bearer];
    for way in &ways {
        assert_eq!(push(&server, way, "team/a"), 202);
        assert_eq!(push(&server, way, "other/a"), 403);
    }
    assert_eq!(push(&server, &basic("bo", "sesame"), "team/a"), 403);
    assert!(said(home, &["access", "explain", "anna", "push", "team/a"]).contains("groups: dev, ops"));
    said(home, &["user", "set", "anna", "--no-groups"]);
    for way in &ways {
        assert_eq!(push(&server, way, "team/a"), 403);
    }
}

#[test]
fn a_robot_may_do_what_its_scope_says_or_what_rules_say() {
    let server = Server::with_file(RULES, &[("log.level", "trace")]);
    let home = &home(&server);
    let scoped = token(home, &["ci", "--scope", "app/**:pull,push", "--scope", "other:pull"]);
    let ruled = token(home, &["deploy"]);
    for way in [basic("ci", &scoped), format!("Bearer {scoped}")] {
        assert_eq!(push(&server, &way, "app/a"), 202);
        assert_eq!(push(&server, &way, "other"), 403);
        assert_eq!(push(&server, &way, "team/a"), 403);
        get(&server, &way, "/v2/other/tags/list").expect(404);
        get(&server, &way, "/v2/deploy/a/tags/list").expect(403);
    }
    for way in [basic("deploy", &ruled), format!("Bearer {ruled}")] {
        get(&server, &way, "/v2/deploy/a/tags/list").expect(404);
        assert_eq!(push(&server, &way, "deploy/a"), 403);
    }
    for (user, secret) in [("ci", &ruled), ("deploy", &scoped), ("anna", &scoped), ("", &scoped)] {
        get(&server, &basic(user, secret), "/v2/").expect_error(401, "UNAUTHORIZED");
    }
    for wrong in ["Bearer orlop_", "Bearer orlop_x", &format!("Bearer {scoped}x")] {
        get(&server, wrong, "/v2/").expect_error(401, "UNAUTHORIZED");
    }
    let listed = said(home, &["token", "list"]);
    assert!(listed.contains("app/**:pull,push other:pull") && !listed.contains("orlop_"), "{listed}");
    assert!(listed.lines().any(|line| line.starts_with("deploy") && line.contains("(robot)")));
    let answer = json(home, &["token", "list"]);
    assert!(answer["tokens"][0]["usedAt"].is_string(), "{answer}");
    let log = server.log();
    assert!(log.contains("admin_create_token") && !log.contains("orlop_"), "{log}");
    for wrong in ["app/**", "app/**:fly", ":pull"] {
        let output = orlop(home, &["token", "create", "x", "--scope", wrong], "");
        assert_eq!(output.status.code(), Some(2), "{wrong}");
    }
}

#[test]
fn a_revoked_token_and_those_of_a_removed_user_fail_at_once() {
    let server = Server::start();
    let home = &home(&server);
    said_with(home, &["user", "add", "anna"], "sesame\n");
    let (robot, of_anna) =
        (token(home, &["ci", "--scope", "**:pull"]), token(home, &["laptop", "--user", "anna"]));
    let ways = [format!("Bearer {robot}"), format!("Bearer {of_anna}")];
    for way in &ways {
        get(&server, way, "/v2/").expect(200);
    }
    // What the token end-point has issued for them goes with them.
    let exchange = |user: &str, secret: &str| {
        let query = format!("/v2/_orlop/token?service={}&scope=repository:team/a:pull", server.host());
        let reply = server.get(&query).header("authorization", &basic(user, secret)).send().expect(200);
        format!("Bearer {}", reply.json()["token"].as_str().unwrap())
    };
    let issued = [exchange("ci", &robot), exchange("anna", &of_anna)];
    for way in &issued {
        get(&server, way, "/v2/team/a/tags/list").expect(404);
    }
    assert!(refused(home, &["token", "create", "ci"], "").contains("the name ci is taken"));
    assert!(refused(home, &["token", "create", "anna"], "").contains("the name anna is taken"));
    assert!(
        refused(home, &["token", "create", "x", "--user", "nobody"], "").contains("there is no user nobody")
    );
    said(home, &["token", "revoke", "ci"]);
    assert!(said(home, &["user", "remove", "anna"]).contains("with one access token"));
    for way in ways.iter().chain(&issued) {
        get(&server, way, "/v2/").expect_error(401, "UNAUTHORIZED");
    }
    assert!(refused(home, &["token", "revoke", "ci"], "").contains("there is no access token ci"));
    assert!(said(home, &["token", "list"]).contains("There are no access tokens."));
}

#[test]
fn an_expired_token_fails_and_its_holder_is_told() {
    let server = Server::start();
    let home = &home(&server);
    let secret = token(home, &["brief", "--expires", "1s"]);
    let bearer = format!("Bearer {secret}");
    let reply = std::iter::repeat_with(|| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        get(&server, &bearer, "/v2/")
    })
    .take(100)
    .find(|reply| reply.status == 401);
    assert!(reply.expect("its end").text().contains("has expired"));
    let other = get(&server, &basic("other", &secret), "/v2/").expect_error(401, "UNAUTHORIZED");
    assert!(!other.text().contains("expired"));
    assert!(said(home, &["token", "list"]).contains("expired"));
}

#[test]
fn who_tries_wrong_tokens_has_to_wait_and_locks_nobody_out() {
    let server = Server::start();
    let home = &home(&server);
    said_with(home, &["user", "add", "anna"], "sesame\n");
    let secret = token(home, &["ci", "--scope", "**:pull"]);
    let wrong = format!("Bearer orlop_{}", "x".repeat(38));
    let refused =
        std::iter::repeat_with(|| get(&server, &wrong, "/v2/")).take(40).find(|reply| reply.status != 401);
    let refused = refused.expect("an end to it").expect_error(429, "TOOMANYREQUESTS");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=600).contains(&wait), "{wait}");
    get(&server, &format!("Bearer {secret}"), "/v2/").expect(200);
    get(&server, &basic("ci", &secret), "/v2/").expect(200);
    get(&server, &basic("anna", "sesame"), "/v2/").expect(200);
}

#[test]
fn without_a_server_the_same_commands_write_what_the_next_one_knows() {
    let mut server = Server::start();
    server.stop();
    let home = home(&server);
    said_with(&home, &["user", "add", "anna", "--group", "dev"], "sesame\n");
    let secret = token(&home, &["ci", "--scope", "**:pull"]);
    assert!(said(&home, &["user", "list"]).contains("dev"));
    assert!(said(&home, &["token", "list"]).contains("never"));
    assert!(said(&home, &["access", "explain", "anna", "pull", "team/a"]).contains("anna may pull"));
    server.run_again();
    get(&server, "", "/v2/").expect(401);
    get(&server, &basic("anna", "sesame"), "/v2/").expect(200);
    get(&server, &format!("Bearer {secret}"), "/v2/").expect(200);
    // The use is written by the end at the latest.
    server.stop();
    let tokens = json(&home, &["token", "list"]);
    assert!(tokens["tokens"][0]["usedAt"].is_string(), "{tokens}");
    server.run_again();
}

#[test]
fn a_file_of_users_is_written_by_command_and_read_by_the_server() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("users");
    let path = file.to_str().unwrap();
    let add = |name: &str, password: &str| {
        said_with(dir.path(), &["user", "add", name, "--htpasswd", path], &format!("{password}\n"));
    };
    add("anna", "sesame");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::fs::write(&file, format!("# people\n{}", std::fs::read_to_string(&file).unwrap())).unwrap();
    add("bo", "bo");
    let server = Server::with_file(&format!("access.htpasswd = {path:?}"), &[]);
    for (user, password) in [("anna", "sesame"), ("bo", "bo")] {
        get(&server, &basic(user, password), "/v2/").expect(200);
    }
    add("anna", "another");
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(lines, ["# people", "anna", "bo"]);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    server.wait_for_line(&["read", "again"]);
    get(&server, &basic("anna", "another"), "/v2/").expect(200);
    get(&server, &basic("anna", "sesame"), "/v2/").expect(401);
    // Who stands there has no namesake in the database.
    let namesake = refused(&home(&server), &["user", "add", "anna"], "third\n");
    assert!(namesake.contains("the file of users has anna already"), "{namesake}");
    assert!(refused(&home(&server), &["token", "create", "bo"], "").contains("the name bo is taken"));
    let secret = token(&home(&server), &["laptop", "--user", "bo"]);
    get(&server, &format!("Bearer {secret}"), "/v2/").expect(200);
    let users = said(&home(&server), &["user", "list"]);
    assert!(users.lines().any(|line| line.starts_with("anna") && line.contains("file")), "{users}");
    std::fs::write(&file, "anna:plain\n").unwrap();
    let broken = refused(dir.path(), &["user", "add", "bo", "--htpasswd", path], "bo\n");
    assert!(broken.contains("line 1") && !broken.contains("plain"), "{broken}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "anna:plain\n");
}

#[test]
fn a_stranger_who_guesses_locks_nobody_else_out() {
    let server = Server::start();
    said_with(&home(&server), &["user", "add", "anna"], "sesame\n");
    let elsewhere = reqwest::blocking::Client::builder()
        .no_proxy()
        .local_address(Some([127, 0, 0, 2].into()))
        .build()
        .unwrap();
    let guess = |password: &str| {
        let url = format!("http://{}/v2/", server.host());
        elsewhere.get(url).header("authorization", basic("anna", password)).send().unwrap()
    };
    let refused = (0..40).map(|at| guess(&format!("guess{at}"))).find(|reply| reply.status() != 401);
    let refused = refused.expect("an end to it");
    assert!(refused.status() == 429 && refused.headers().contains_key("retry-after"));
    assert_eq!(guess("sesame").status(), 429);
    get(&server, &basic("anna", "sesame"), "/v2/").expect(200);
    // What was right from here is believed from there as well, where it needs no check.
    assert_eq!(guess("sesame").status(), 200);
}
