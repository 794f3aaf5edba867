//! What a running server reads again, and what it says of what it can't use.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use support::{FaultyUpstream, Server, image};
use tempfile::TempDir;

fn basic(user: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{user}")))
}

/// A file of users whose passwords are their names.
fn write_users(path: &Path, users: &[&str]) {
    let line = |user: &&str| format!("{user}:{}\n", bcrypt::hash(user, 4).unwrap());
    std::fs::write(path, users.iter().map(line).collect::<String>()).unwrap();
}

fn users(users: &[&str]) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("users");
    write_users(&path, users);
    (dir, path)
}

fn access(path: &Path) -> String {
    format!("access.htpasswd = {:?}\n", path.display().to_string())
}

fn rule(who: &str, actions: &str) -> String {
    format!("[[rule]]\nrepositories = [\"**\"]\nwho = [\"{who}\"]\nactions = [{actions}]\n")
}

fn status(server: &Server, user: &str) -> u16 {
    server.get("/v2/team/a/tags/list").header("authorization", &basic(user)).send().status
}

#[test]
fn rules_and_users_that_change_hold_without_a_restart() {
    let (_dir, path) = users(&["anna", "bo"]);
    let (_other, others) = users(&["anna", "cleo"]);
    let mut server = Server::with_file(&(access(&path) + &rule("user:anna", "\"pull\"")), &[]);
    assert_eq!([status(&server, "anna"), status(&server, "bo")], [404, 403]);
    server.configure(&(access(&path) + &rule("user:bo", "\"pull\"")));
    server.wait_for_lines(1, &["read the users again"]);
    assert_eq!([status(&server, "anna"), status(&server, "bo")], [403, 404]);
    // Another file with other users.
    server.configure(&(access(&others) + &rule("authenticated", "\"pull\"")));
    server.wait_for_lines(2, &["read the users again"]);
    assert_eq!([status(&server, "anna"), status(&server, "bo"), status(&server, "cleo")], [404, 401, 404]);
    // That one is followed from then on.
    write_users(&others, &["bo"]);
    server.wait_for_lines(3, &["read the users again"]);
    assert_eq!([status(&server, "anna"), status(&server, "bo"), status(&server, "cleo")], [401, 404, 401]);
}

#[test]
fn an_open_registry_can_be_closed_and_no_file_opens_it_again() {
    let (_dir, path) = users(&["anna"]);
    let mut server = Server::with_file("", &[]);
    server.push_image("team/a", "1", 1);
    let get = |server: &Server| server.get("/v2/team/a/manifests/1").send().status;
    assert_eq!(get(&server), 200);
    server.configure(&access(&path));
    server.wait_for_line(&["read the users again"]);
    assert_eq!(get(&server), 401);
    server.configure("");
    server.wait_for_line(&["ERROR", "everybody may do everything"]);
    assert_eq!(get(&server), 401);
    std::fs::remove_file(server.configuration()).unwrap();
    server.wait_for_line(&["ERROR", "there is no configuration file"]);
    assert_eq!(get(&server), 401);
}

#[test]
fn a_bad_configuration_keeps_the_old_one_and_is_named_once_with_its_line() {
    let (_dir, path) = users(&["anna", "bo"]);
    let mut server = Server::with_file(&(access(&path) + &rule("user:anna", "\"pull\"")), &[]);
    let before = server.log();
    server.configure(&(access(&path) + &rule("user:bo", "\"pul\"") + "[uploads]\nexpire_after = \"soon\"\n"));
    server.wait_for_line(&["ERROR", "orlop.toml, line 5", "pul"]);
    server.wait_for_line(&["ERROR", "orlop.toml, line 7", "expire_after"]);
    assert_eq!([status(&server, "anna"), status(&server, "bo")], [404, 403]);
    // The users are followed all the same, by the name that was last right.
    write_users(&path, &["anna"]);
    server.wait_for_line(&["read the users again"]);
    assert_eq!([status(&server, "anna"), status(&server, "bo")], [404, 401]);
    assert_eq!(server.log()[before.len()..].matches("line 5").count(), 1, "{}", server.log());
    server.configure(&(access(&path) + &rule("user:bo", "\"pull\"")));
    write_users(&path, &["anna", "bo"]);
    server.wait_for_lines(2, &["read the users again"]);
    assert_eq!([status(&server, "anna"), status(&server, "bo")], [403, 404]);
}

#[test]
fn how_much_is_logged_changes_both_ways_and_on_sighup() {
    let mut server = Server::with_file("log.level = \"warn\"\n", &[]);
    server.get("/v2/").header("x-request-id", "first").send().expect(200);
    server.configure("log.level = \"debug\"\n");
    server.hang_up();
    server.wait_for_line(&["level of the log was changed", "debug"]);
    server.wait_for_line(&["were read again"]);
    server.get("/v2/").header("x-request-id", "second").send().expect(200);
    server.wait_for_line(&["request=\"second\""]);
    server.configure("log.level = \"warn\"\n");
    server.wait_for_line(&["level of the log was changed", "warn"]);
    server.get("/v2/").header("x-request-id", "third").send().expect(200);
    let log = server.log();
    assert!(!log.contains("request=\"first\"") && !log.contains("request=\"third\""), "{log}");
}

#[test]
fn what_needs_a_restart_is_named() {
    let mut server = Server::with_file("", &[]);
    server.configure("limits.connections = 7\nuploads.max_open = 3\nlog.level = \"debug\"\n[[quota]]\nrepositories = [\"a\"]\nmax_size = \"1 MiB\"\n");
    server.wait_for_line(&[
        "WARN",
        "only after a restart",
        "limits.connections",
        "uploads.max_open",
        "quota",
    ]);
    server.wait_for_line(&["level of the log was changed"]);
    let log = server.log();
    let line = log.lines().find(|line| line.contains("only after a restart")).unwrap();
    assert!(!line.contains("log.level"), "{line}");
}

#[test]
fn the_password_of_an_upstream_is_read_again() {
    let (dir, upstream) = (TempDir::new().unwrap(), FaultyUpstream::start());
    let password = dir.path().join("password");
    std::fs::write(&password, "wrong\n").unwrap();
    upstream.want_basic(&format!("Basic {}", STANDARD.encode("anna:sesame")));
    let image = image(b"{}", &[], &json!({}));
    upstream.put_blob(b"{}");
    upstream.put_manifest("1", &image.media_type, &image.bytes);
    let settings = format!(
        "[[upstream]]\nhost = \"hub.example\"\nurl = \"{}\"\nusername = \"anna\"\npublic = true\npassword_file = {:?}\n",
        upstream.url(),
        password.display().to_string(),
    );
    let mut server = Server::with_file(&settings, &[]);
    let pull = |server: &Server| server.get("/v2/hub.example/team/app/manifests/1").send();
    assert_ne!(pull(&server).status, 200);
    std::fs::write(&password, "sesame\n").unwrap();
    server.wait_for_line(&["credentials of the upstream", "hub.example"]);
    pull(&server).expect(200).expect_body(&image.bytes);
    // A file that is gone leaves the password as it was.
    std::fs::remove_file(&password).unwrap();
    server.wait_for_line(&["ERROR", "hub.example", "cannot read the password"]);
    // Without a user it would be another cache.
    server.configure(&settings.replace("username = \"anna\"\n", "").replace("password_file", "#"));
    server.wait_for_line(&["WARN", "only after a restart", "upstream.username of hub.example"]);
    assert!(!server.log().contains("sesame"));
}
