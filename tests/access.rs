//! Who may do what: users, their passwords, and rules.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use support::{Reply, Server, image, noise, sha256};
use tempfile::TempDir;

/// Writes a file of users with these passwords.
fn write_users(path: &Path, users: &[(&str, &str)]) {
    let line = |(user, password): &(&str, &str)| format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap());
    std::fs::write(path, users.iter().map(line).collect::<String>()).unwrap();
}

fn users(users: &[(&str, &str)]) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("users");
    write_users(&path, users);
    (dir, path)
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn configured(path: &Path, rules: &str) -> Server {
    Server::with_file(&format!("access.htpasswd = {:?}\n{rules}", path.display().to_string()), &[])
}

/// Who asks: nobody, or a user with the password that is the same word.
fn get(server: &Server, who: &str, target: &str) -> Reply {
    match who {
        "" => server.get(target).send(),
        who => server.get(target).header("authorization", &basic(who, who)).send(),
    }
}

/// Begins an upload, which is what a push begins with.
fn push(server: &Server, who: &str, name: &str) -> Reply {
    let request = server.post(&format!("/v2/{name}/blobs/uploads/")).body(b"");
    match who {
        "" => request.send(),
        who => request.header("authorization", &basic(who, who)).send(),
    }
}

/// Pushes a blob and a manifest under a tag.
fn push_image(server: &Server, who: &str, name: &str) -> String {
    let (config, authorization) = (format!("{{\"of\":\"{name}\"}}").into_bytes(), basic(who, who));
    let digest = sha256(&config);
    let target = format!("/v2/{name}/blobs/uploads/?digest={digest}");
    server.post(&target).header("authorization", &authorization).body(&config).send().expect(201);
    let image = image(&config, &[], &json!({}));
    let request = server.put(&format!("/v2/{name}/manifests/1")).header("authorization", &authorization);
    request.header("content-type", &image.media_type).body(&image.bytes).send().expect(201);
    digest
}

#[test]
fn users_pull_and_push_and_nobody_else_does() {
    let (_dir, path) = users(&[("anna", "anna"), ("bo", "bo")]);
    let server = configured(&path, "");
    for target in ["/v2/", "/v2/_catalog", "/v2/team/a/manifests/1", "/v2/team/a/tags/list"] {
        let reply = get(&server, "", target).expect_error(401, "UNAUTHORIZED");
        assert!(reply.header("www-authenticate").starts_with("Bearer realm="), "{target}");
    }
    push(&server, "", "team/a").expect_error(401, "UNAUTHORIZED");
    get(&server, "anna", "/v2/").expect(200);
    push_image(&server, "anna", "team/a");
    get(&server, "bo", "/v2/team/a/manifests/1").expect(200);
    assert_eq!(get(&server, "bo", "/v2/_catalog").expect(200).strings("repositories"), ["team/a"]);
    let delete = server.delete("/v2/team/a/manifests/1").header("authorization", &basic("anna", "anna"));
    delete.send().expect_error(403, "DENIED");
    let history = get(&server, "anna", "/v2/_orlop/repositories/team/a/tags/1/history").expect(200);
    assert_eq!(history.json()["revisions"][0]["actor"], "anna");
}

#[test]
fn who_may_do_nothing_learns_nothing_of_the_cache() {
    let (_dir, path) = users(&[("anna", "anna")]);
    let upstream =
        "[[upstream]]\nhost = \"docker.io\"\nurl = \"http://127.0.0.1:9\"\ndeny = [\"team/secret\"]\n";
    let server = configured(&path, upstream);
    for (target, status) in [
        ("/v2/ghcr.io/team/a/manifests/1", 404),
        ("/v2/team/a/manifests/1?ns=ghcr.io", 404),
        ("/v2/docker.io/team/secret/manifests/1", 403),
    ] {
        get(&server, "", target).expect_error(401, "UNAUTHORIZED");
        get(&server, "anna", target).expect(status);
    }
}

#[test]
fn a_wrong_password_and_an_unknown_user_are_answered_alike() {
    let (_dir, path) = users(&[("anna", "sesame")]);
    let server = configured(&path, "");
    let tell = |user: &str, password: &str| {
        let reply = server.get("/v2/").header("authorization", &basic(user, password)).send();
        reply.expect_error(401, "UNAUTHORIZED").text()
    };
    assert_eq!(tell("anna", "wrong"), tell("nobody", "wrong"));
    // skopeo says so that it has no password.
    server.get("/v2/").header("authorization", &basic("", "")).send().expect_error(401, "UNAUTHORIZED");
    for malformed in ["Basic", "Basic !", "Basic YW5uYQ==", "Digest x", "Bearer x"] {
        let reply = server.get("/v2/").header("authorization", malformed).send();
        reply.expect_error(401, "UNAUTHORIZED").header("www-authenticate");
    }
    server.get("/v2/").header("authorization", &basic("anna", "sesame")).send().expect(200);
    assert!(!server.log().contains("sesame") && !server.log().contains("YW5uYTpzZXNhbWU="));
}

const RULES: &str = r#"
[[rule]]
repositories = ["public/**"]
who = ["anonymous"]
actions = ["pull"]

[[rule]]
repositories = ["team/**", "public/**"]
who = ["user:anna"]
actions = ["pull", "push", "delete"]

[[rule]]
repositories = ["team/shared"]
who = ["authenticated"]
actions = ["pull"]

[[rule]]
repositories = ["**"]
who = ["authenticated"]
actions = ["list"]
"#;

#[test]
fn what_no_rule_allows_is_denied() {
    let (_dir, path) = users(&[("anna", "anna"), ("bo", "bo")]);
    let server = configured(&path, RULES);
    for name in ["public/a", "team/a", "team/shared"] {
        push_image(&server, "anna", name);
    }
    push(&server, "anna", "other/a").expect_error(403, "DENIED");
    push(&server, "bo", "team/a").expect_error(403, "DENIED");
    push(&server, "", "public/a").expect_error(401, "UNAUTHORIZED");
    for (who, name, status) in [
        ("", "public/a", 200),
        ("bo", "public/a", 200),
        ("", "team/a", 401),
        ("bo", "team/a", 403),
        ("bo", "team/shared", 200),
        ("anna", "team/a", 200),
        ("bo", "team/none", 403),
    ] {
        assert_eq!(get(&server, who, &format!("/v2/{name}/manifests/1")).status, status, "{who} {name}");
        assert_eq!(get(&server, who, &format!("/v2/{name}/tags/list")).status, status, "{who} {name}");
    }
    // Docker logs in only where it is asked to.
    get(&server, "", "/v2/").expect_error(401, "UNAUTHORIZED");
    get(&server, "", "/v2/_catalog").expect_error(401, "UNAUTHORIZED");
    let listed = |who: &str, query: &str| get(&server, who, &format!("/v2/_catalog{query}")).expect(200);
    assert_eq!(listed("bo", "").strings("repositories"), ["public/a", "team/shared"]);
    let page = listed("bo", "?n=1");
    assert_eq!(page.strings("repositories"), ["public/a"]);
    assert_eq!(get(&server, "bo", &page.next().unwrap()).strings("repositories"), ["team/shared"]);
}

#[test]
fn a_mount_takes_nothing_that_the_one_who_asks_may_not_pull() {
    let (_dir, path) = users(&[("anna", "anna"), ("bo", "bo")]);
    let rules = format!(
        "{RULES}\n[[rule]]\nrepositories = [\"bo/**\"]\nwho = [\"user:bo\"]\nactions = [\"pull\", \"push\"]\n"
    );
    let server = configured(&path, &rules);
    let secret = push_image(&server, "anna", "team/a");
    let shared = push_image(&server, "anna", "team/shared");
    let mount = |digest: &str, from: &str| {
        let request = server.post(&format!("/v2/bo/own/blobs/uploads/?mount={digest}{from}")).body(b"");
        request.header("authorization", &basic("bo", "bo")).send().status
    };
    assert_eq!(mount(&secret, "&from=team/a"), 202);
    assert_eq!(mount(&secret, ""), 202, "any repository could be one that is secret");
    assert_eq!(mount(&shared, "&from=team/shared"), 201);
    get(&server, "bo", &format!("/v2/bo/own/blobs/{secret}")).expect(404);
    get(&server, "bo", &format!("/v2/team/shared/blobs/{secret}")).expect(404);
}

#[test]
fn users_are_read_again_when_their_file_changes() {
    let (dir, path) = users(&[("anna", "anna")]);
    let server = configured(&path, "");
    get(&server, "anna", "/v2/").expect(200);
    write_users(&path, &[("anna", "another"), ("bo", "bo")]);
    server.wait_for_line(&["read the users again"]);
    get(&server, "bo", "/v2/").expect(200);
    get(&server, "anna", "/v2/").expect(401);
    std::fs::write(&path, "bo:plain\n").unwrap();
    server.wait_for_line(&["ERROR", "line 1", "htpasswd -B"]);
    get(&server, "bo", "/v2/").expect(200);
    assert!(!server.log().contains("plain"));
    // As Kubernetes does it: a link that leads elsewhere.
    let (next, link) = (dir.path().join("next"), dir.path().join("link"));
    write_users(&next, &[("cleo", "cleo")]);
    std::os::unix::fs::symlink(&next, &link).unwrap();
    std::fs::rename(&link, &path).unwrap();
    let is_known = || {
        std::thread::sleep(Duration::from_millis(200));
        get(&server, "cleo", "/v2/").status == 200
    };
    assert!(std::iter::repeat_with(is_known).take(100).any(|is_known| is_known), "{}", server.log());
}

#[test]
fn who_guesses_passwords_has_to_wait_and_nobody_else_does() {
    let (_dir, path) = users(&[("anna", "anna"), ("bo", "bo")]);
    let server = configured(&path, "");
    get(&server, "bo", "/v2/").expect(200);
    let guess =
        |at: usize| server.get("/v2/").header("authorization", &basic("anna", &format!("guess{at}"))).send();
    let refused = (0..40).map(guess).find(|reply| reply.status != 401).expect("an end to it");
    let wait: u64 = refused.expect_error(429, "TOOMANYREQUESTS").header("retry-after").parse().unwrap();
    assert!((1..=600).contains(&wait), "{wait}");
    // The right one isn't tried either, or the guesser would go on.
    get(&server, "anna", "/v2/").expect(429);
    get(&server, "bo", "/v2/").expect(200);
}

#[test]
fn a_file_of_users_that_can_not_be_read_is_said_at_the_start() {
    let server = Server::start();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_orlop"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--set", "access.htpasswd=/nowhere/users"]);
    let output = command.current_dir(server.data()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("/nowhere/users") && said.contains("access.htpasswd"),
        "{said}"
    );
}

#[test]
fn without_users_and_rules_everybody_may_do_everything() {
    let server = Server::start();
    server.get("/v2/").header("authorization", &basic("anybody", "anything")).send().expect(200);
    server.push_image("team/a", "1", 1);
    assert_eq!(server.push_blob("team/a", &noise(7, 10)), sha256(&noise(7, 10)));
    server.delete("/v2/team/a/manifests/1").send().expect(202);
}

/// Runs a command beside the server, or after its end.
fn command(server: &Server, arguments: &[&str]) -> (i32, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_orlop"));
    command.args(arguments).arg("--data").arg(server.data()).current_dir(server.data().parent().unwrap());
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8_lossy(&said).into_owned())
}

const ADMIN_RULES: &str = r#"
[[rule]]
repositories = ["**"]
who = ["user:root"]
actions = ["admin"]

[[rule]]
repositories = ["**"]
who = ["user:root", "group:ops"]
actions = ["pull", "push"]

[[rule]]
repositories = ["release/**"]
who = ["claim:repository=team/*"]
actions = ["push"]
"#;

#[test]
fn the_rule_that_decides_is_explained() {
    let (_dir, path) = users(&[("anna", "anna"), ("root", "root")]);
    let server = configured(&path, ADMIN_RULES);
    for (who, action, repository, code, reason) in [
        ("root", "push", "team/a", 0, "rule 2 says so: user:root, group:ops may pull, push **"),
        ("anna", "push", "team/a", 3, "no rule lets them"),
        ("anna,group:ops", "pull", "team/a", 0, "rule 2"),
        ("anonymous", "pull", "team/a", 3, "no rule lets them"),
        ("nobody", "pull", "team/a", 3, "Nobody is called so"),
        ("claim:repository=team/app", "push", "release/a", 0, "rule 3"),
        ("claim:repository=other/app", "push", "release/a", 3, "no rule lets them"),
    ] {
        let (exit, said) = command(&server, &["access", "explain", who, action, repository]);
        assert_eq!(exit, code, "{who} {action}: {said}");
        assert!(said.contains(reason), "{who} {action}: {said}");
    }
    let (exit, said) = command(&server, &["access", "explain", "root", "admin", "--json"]);
    let answer: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((exit, &answer["allowed"], &answer["rule"]), (0, &json!(true), &json!(1)), "{said}");
    for wrong in [&["anna", "pull"][..], &["authenticated", "pull", "a"], &["anna,root", "pull", "a"]] {
        let (exit, said) = command(&server, &[&["access", "explain"], wrong].concat());
        assert!(exit == 1 && said.starts_with("error: "), "{wrong:?}: {said}");
    }
}

#[test]
fn the_admin_api_is_for_those_whom_a_rule_lets_admin() {
    let (_dir, path) = users(&[("anna", "anna"), ("root", "root")]);
    let status = "/v2/_orlop/admin/status";
    let open = Server::start();
    open.get(status).send().expect(404);
    let without_rules = configured(&path, "");
    get(&without_rules, "root", status).expect_error(403, "DENIED");
    let server = configured(&path, ADMIN_RULES);
    get(&server, "", status).expect_error(401, "UNAUTHORIZED");
    get(&server, "anna", status).expect_error(403, "DENIED");
    get(&server, "root", status).expect(200);
    push_image(&server, "root", "team/a");
    let rename = server.post("/v2/_orlop/admin/repositories/rename");
    let rename = rename.body(br#"{"from":"team/a","to":"team/b"}"#);
    rename.header("authorization", &basic("root", "root")).send().expect(200);
    get(&server, "root", "/v2/team/b/manifests/1").expect(200);
    // However the path is written.
    for path in ["/v2/_orlop/%61dmin/status", "/v2/%5Forlop/admin/status", "/v2/_orlop/admin%2Fstatus"] {
        assert!(matches!(get(&server, "anna", path).status, 403 | 404), "{path}");
        assert!(matches!(get(&server, "", path).status, 401 | 404), "{path}");
    }
}
