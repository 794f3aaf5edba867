//! The commands beside a running server, over its socket, and without one, by the real program.
#![expect(clippy::unwrap_used, reason = "in a test, whatever is not as it should be is a failure")]

#[path = "cli/running.rs"]
#[allow(dead_code, reason = "the tests of the program use all of it")]
mod running;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use orlop::http::admin::{PREFIX, rows};
use orlop::oci::{Digest, DigestAlgorithm};
use orlop::registry::{Options, Registry};
use orlop::server::ADMIN_SOCKET;
use reqwest::blocking::Client;
use running::{Running, copy_program, orlop, run, text};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

fn push_blob(server: &Running, bytes: &[u8]) -> Digest {
    let digest = Digest::of(DigestAlgorithm::Sha256, bytes);
    let path = format!("/v2/team/app/blobs/uploads/?digest={digest}");
    assert_eq!(client().post(server.url(&path)).body(bytes.to_vec()).send().unwrap().status(), 201);
    digest
}

fn blob_file(directory: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    directory.join("data/blobs/sha256").join(&hex[..2]).join(&hex)
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("data").join(ADMIN_SOCKET)
}

/// The JSON that a command prints.
fn json(directory: &Path, arguments: &[&str]) -> Value {
    let output = run(directory, &[arguments, &["--json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {output:?}"))
}

fn failed(output: &Output) -> String {
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.lines().last().unwrap().starts_with("error: "), "{message}");
    message
}

/// Sends a request as it is and reads the answer to its end.
fn raw(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    // Much may be refused before all of it is sent.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

// The socket.

#[test]
fn the_socket_is_its_users_alone_and_goes_with_the_server() {
    let directory = tempdir().unwrap();
    let server = Running::start(directory.path(), &[]);
    let metadata = fs::symlink_metadata(socket(directory.path())).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
    assert!(server.stop().status.success());
    assert!(!socket(directory.path()).exists());
}

#[test]
fn a_socket_that_a_killed_server_has_left_hinders_nobody() {
    let directory = tempdir().unwrap();
    let server = Running::start(directory.path(), &[]);
    server.signal(Signal::KILL);
    server.ended();
    assert!(socket(directory.path()).exists());
    assert_eq!(json(directory.path(), &["status"])["server"], Value::Null);
    let server = Running::start(directory.path(), &[]);
    assert!(json(directory.path(), &["status"])["server"].is_object());
    assert!(server.stop().status.success());
}

#[test]
fn over_tcp_there_is_no_admin_api() {
    let directory = tempdir().unwrap();
    let server = Running::start(directory.path(), &[]);
    for row in rows() {
        let url = server.url(&format!("{PREFIX}{}", row.path));
        for method in [row.method, "GET", "OPTIONS"] {
            let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
            let answer = client().request(method, &url).send().unwrap();
            assert_eq!(answer.status(), 404, "{url}");
        }
    }
    for path in
        ["/v2/_orlop/admin", "/v2/_orlop//admin/status", "/v2/_orlop/%61dmin/status", "/_orlop/admin/status"]
    {
        assert_eq!(client().get(server.url(path)).send().unwrap().status(), 404, "{path}");
    }
    server.stop();
}

#[test]
fn the_socket_answers_the_admin_api_and_nothing_else() {
    let directory = tempdir().unwrap();
    let server = Running::start(directory.path(), &[]);
    let socket = socket(directory.path());
    let ask = |head: &str, body: &str| {
        let length = body.len();
        raw(
            &socket,
            &format!(
                "{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            ),
        )
    };
    assert!(ask("GET /v2/_orlop/admin/status", "").starts_with("HTTP/1.1 200"));
    for (head, body, status, part) in [
        ("GET /v2/", "", 404, "UNSUPPORTED"),
        ("GET /metrics", "", 404, "UNSUPPORTED"),
        ("GET /v2/_orlop/admin/nothing", "", 404, "another version"),
        ("DELETE /v2/_orlop/admin/status", "", 405, "GET only"),
        ("POST /v2/_orlop/admin/verify", "{", 400, "the body of the request is wrong"),
        ("POST /v2/_orlop/admin/verify", "{\"quik\": true}", 400, "quik"),
        ("POST /v2/_orlop/admin/verify", "{\"rate\": 0}", 400, "nonzero"),
    ] {
        let answer = ask(head, body);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{head}: {answer}");
        assert!(answer.contains("{\"errors\":[{\"code\":\"") && answer.contains(part), "{head}: {answer}");
    }
    let large = "x".repeat(2 << 20);
    assert!(ask("POST /v2/_orlop/admin/verify", &large).starts_with("HTTP/1.1 413"));
    server.stop();
}

#[test]
fn a_data_directory_whose_path_is_longer_than_a_sockets_may_be_has_one_too() {
    let root = tempdir().unwrap();
    let directory = root.path().join("a".repeat(100)).join("b".repeat(100));
    fs::create_dir_all(&directory).unwrap();
    let server = Running::start(&directory, &[]);
    assert!(server_of(&json(&directory, &["status"])).is_some());
    assert_eq!(fs::metadata(socket(&directory)).unwrap().permissions().mode() & 0o777, 0o600);
    server.signal(Signal::KILL);
    server.ended();
    let server = Running::start(&directory, &[]);
    assert!(server_of(&json(&directory, &["status"])).is_some());
    server.stop();
    assert!(server_of(&json(&directory, &["status"])).is_none());
}

/// The process that a status tells of.
fn server_of(status: &Value) -> Option<u64> {
    status["server"]["pid"].as_u64()
}

/// A copy of the program that everybody may run, and the user called nobody.
struct Stranger {
    directory: TempDir,
}

const NOBODY: u32 = 65534;

impl Stranger {
    fn new() -> Self {
        let directory = tempdir().unwrap();
        fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        copy_program(directory.path());
        Self { directory }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.directory.path().join("orlop"));
        command.env_clear().uid(NOBODY).gid(NOBODY).stdin(Stdio::null()).current_dir("/");
        command
    }

    fn status(&self, data: &Path) -> Output {
        self.command().args(["status", "--data"]).arg(data).output().unwrap()
    }
}

/// Needs root, since only root can be somebody else.
#[test]
fn other_users_are_refused_whatever_the_modes_are_and_root_never_is() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let stranger = Stranger::new();
    let directory = tempdir().unwrap();
    fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let data = directory.path().join("data");
    let server = Running::start(directory.path(), &[]);
    // The directory is closed to others; if it isn't, the socket is; if that isn't, its server looks who it is.
    for opened in ["nothing", "data", "data/admin.sock"] {
        if opened != "nothing" {
            fs::set_permissions(directory.path().join(opened), PermissionsExt::from_mode(0o777)).unwrap();
        }
        let message = failed(&stranger.status(&data));
        assert!(message.contains("run this as root, or as "), "{opened}: {message}");
    }
    server.logs("refused a connection to the admin socket");
    assert!(run(directory.path(), &["status"]).status.success(), "the server goes on");
    server.stop();

    // A server of theirs answers root.
    let theirs = directory.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    chown(&theirs, Some(NOBODY), Some(NOBODY)).unwrap();
    let server =
        Running::spawn(stranger.command().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&theirs));
    assert!(stranger.status(&theirs).status.success());
    assert!(run(directory.path(), &["status", "--data", "theirs"]).status.success());
    server.stop();
}

/// Needs root, as above.
#[test]
fn a_socket_that_somebody_else_has_put_there_is_not_trusted() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let stranger = Stranger::new();
    let directory = tempdir().unwrap();
    fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let (theirs, data) = (directory.path().join("theirs"), directory.path().join("data"));
    for made in [&theirs, &data] {
        fs::create_dir(made).unwrap();
    }
    chown(&theirs, Some(NOBODY), Some(NOBODY)).unwrap();
    let server =
        Running::spawn(stranger.command().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&theirs));
    fs::rename(theirs.join(ADMIN_SOCKET), data.join(ADMIN_SOCKET)).unwrap();
    let message = failed(&run(directory.path(), &["status"]));
    assert!(message.contains(&format!("is answered by user {NOBODY}")), "{message}");
    server.stop();
}

#[test]
fn a_directory_that_is_locked_and_has_no_socket_is_an_older_servers() {
    let directory = tempdir().unwrap();
    let registry = Registry::open(Options::new(directory.path().join("data"))).unwrap();
    let message = failed(&run(directory.path(), &["status"]));
    assert!(message.contains("another process uses the data directory"), "{message}");
    assert!(message.contains("older version") && message.contains(ADMIN_SOCKET), "{message}");
    drop(registry);
    assert!(run(directory.path(), &["status"]).status.success());
}

// status

#[test]
fn status_tells_the_same_of_the_store_beside_a_server_and_without_one() {
    let directory = tempdir().unwrap();
    fs::write(
        directory.path().join("orlop.toml"),
        "[[notifications.endpoint]]\nname = \"hook\"\nurl = \"http://127.0.0.1:9/\"\n",
    )
    .unwrap();
    let server = Running::start(directory.path(), &[]);
    push_blob(&server, b"content");
    push_blob(&server, b"more content");
    let upload = client().post(server.url("/v2/team/app/blobs/uploads/")).body("").send().unwrap();
    let location = upload.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(client().patch(server.url(&location)).body("some").send().unwrap().status(), 202);

    let beside = json(directory.path(), &["status"]);
    let shown = text(&run(directory.path(), &["status"]).stdout);
    let (pid, address) = (server_of(&beside).unwrap(), server.address.to_string());
    assert_eq!(beside["server"]["address"], address.as_str());
    assert!(
        shown.contains(&format!("running: process {pid}, version {}", env!("CARGO_PKG_VERSION"))),
        "{shown}"
    );
    assert!(shown.contains(&address) && shown.contains("blobs            2 (19 B)"), "{shown}");
    server.stop();

    let alone = json(directory.path(), &["status"]);
    assert!(server_of(&alone).is_none());
    assert!(text(&run(directory.path(), &["status"]).stdout).contains("not running"));
    for (field, value) in
        [("repositories", 1), ("manifests", 0), ("tags", 0), ("blobs", 2), ("blobBytes", 19), ("uploads", 1)]
    {
        assert_eq!((&beside[field], &alone[field]), (&value.into(), &value.into()), "{field}");
    }
    for status in [&beside, &alone] {
        assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
        assert!(
            status["disk"]["freeBytes"].as_u64().unwrap() > 0
                && status["metadataBytes"].as_u64().unwrap() > 0
        );
        assert_eq!(status["disk"]["floorBytes"], 64 << 20);
        assert_eq!(status["events"]["endpoints"][0]["name"], "hook");
        assert_eq!(status["events"]["kept"], 2);
        assert_eq!(status["events"]["endpoints"][0]["waiting"], 2, "nobody listens on port 9");
    }
}

#[test]
fn status_warns_of_damage_and_of_a_full_disk() {
    let directory = tempdir().unwrap();
    let server = Running::start(directory.path(), &[]);
    let damaged = push_blob(&server, b"content");
    let calm = json(directory.path(), &["status"]);
    assert_eq!(calm["warnings"], serde_json::json!([]), "{calm}");
    assert!(text(&run(directory.path(), &["status"]).stdout).ends_with("\nNo warnings.\n"));
    fs::write(blob_file(directory.path(), &damaged), b"c0ntent").unwrap();
    run(directory.path(), &["verify"]);
    let said = text(&run(directory.path(), &["status"]).stdout);
    let last = said.trim_end().lines().last().unwrap();
    assert!(last.starts_with("WARNING: 1 blobs are damaged: orlop verify names"), "{said}");
    server.stop();
    let free = json(directory.path(), &["status"])["disk"]["freeBytes"].as_u64().unwrap();
    for (floor, warning) in [(free * 2, "the disk is full: "), (free / 4 * 3, "the disk is nearly full: ")] {
        let setting = format!("storage.free_floor={floor}");
        let warned = json(directory.path(), &["status", "--set", &setting]);
        assert!(warned["warnings"][0].as_str().unwrap().starts_with(warning), "{warned}");
    }
}

#[test]
fn status_tells_what_the_last_collection_has_removed_and_what_waits() {
    let directory = tempdir().unwrap();
    let server =
        Running::start(directory.path(), &["--set", "collection.lease=1s", "--set", "collection.every=1h"]);
    push_blob(&server, b"content");
    let status = json(directory.path(), &["status"]);
    assert_eq!(status["collection"]["waiting"], 1, "{status}");
    let began = std::time::Instant::now();
    while json(directory.path(), &["gc"])["blobs"] != 1 {
        assert!(began.elapsed().as_secs() < 60, "the lease never ends");
    }
    let status = json(directory.path(), &["status"]);
    assert_eq!((&status["collection"]["waiting"], &status["blobs"]), (&0.into(), &0.into()), "{status}");
    assert!(status["collection"]["last"]["at"].as_str().unwrap().starts_with("20"), "{status}");
    server.stop();
    assert_eq!(json(directory.path(), &["status"])["collection"]["last"], Value::Null);
}

// verify

#[test]
fn verify_finds_the_same_beside_a_server_and_without_one() {
    let directory = tempdir().unwrap();
    let server = Running::start(directory.path(), &[]);
    let damaged = push_blob(&server, b"content");
    push_blob(&server, b"more content");
    let clean = json(directory.path(), &["verify"]);
    assert_eq!((&clean["clean"], &clean["blobs"], &clean["bytes"]), (&true.into(), &2.into(), &19.into()));
    assert_eq!(clean["checksums"], false, "everybody would have to wait for that");
    fs::write(blob_file(directory.path(), &damaged), b"c0ntent").unwrap();
    for quick in [true, false] {
        let arguments: &[&str] = if quick { &["verify", "--quick"] } else { &["verify"] };
        let output = run(directory.path(), arguments);
        assert_eq!(output.status.code(), Some(if quick { 0 } else { 3 }));
        assert_eq!(
            text(&output.stdout).contains(&format!("problem: the bytes of the blob {damaged}")),
            !quick
        );
    }
    let beside = json(directory.path(), &["verify"]);
    server.stop();
    let mut alone = json(directory.path(), &["verify"]);
    assert_eq!(alone["checksums"], true);
    alone["checksums"] = false.into();
    assert_eq!(beside, alone);
    assert_eq!(beside["problems"].as_array().unwrap().len(), 1);
}

/// Starts a full check that takes minutes.
fn slow_verify(directory: &Path, arguments: &[&str]) -> std::process::Child {
    orlop(directory)
        .args(["verify", "--rate", "1000"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until the server answers another request than this one.
fn wait_until_verifying(server: &Running) {
    let is_answering = || {
        let metrics = client().get(server.url("/metrics")).send().unwrap().text().unwrap();
        metrics.contains("\norlop_http_requests_in_flight 2\n")
    };
    while !is_answering() {
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_check_ends_when_its_command_does_and_goes_on_where_it_was() {
    let directory = tempdir().unwrap();
    let server = Running::start(directory.path(), &[]);
    // Half a minute of checking, so that it goes on still when a busy machine comes round to ending it.
    for n in 0..60_u8 {
        push_blob(&server, &[n; 500]);
    }
    let mut child = slow_verify(directory.path(), &[]);
    wait_until_verifying(&server);
    // Long enough for a few blobs, also on a busy machine.
    thread::sleep(Duration::from_secs(4));
    // Others are served meanwhile.
    let digest = push_blob(&server, b"pushed beside it");
    let pulled = client().get(server.url(&format!("/v2/team/app/blobs/{digest}"))).send().unwrap();
    assert_eq!(pulled.bytes().unwrap().as_ref(), b"pushed beside it");

    // Not SIGINT, which whoever is started in the background of a script ignores.
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    child.wait().unwrap();
    let state = directory.path().join("data/scrub.json");
    while !state.exists() {
        thread::sleep(Duration::from_millis(10));
    }
    let done: Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
    assert!(done["blobs"].as_u64().unwrap() >= 1, "{done}");
    let resumed = json(directory.path(), &["verify", "--resume"]);
    assert_eq!((&resumed["clean"], &resumed["blobs"]), (&true.into(), &61.into()));
    assert!(!state.exists());
    server.stop();
}

#[test]
fn a_server_that_stops_ends_the_check_and_its_command_says_so() {
    let directory = tempdir().unwrap();
    let server = Running::start(directory.path(), &[]);
    push_blob(&server, &vec![7; 1 << 20]);
    let child = slow_verify(directory.path(), &[]);
    wait_until_verifying(&server);
    let ended = server.stop();
    assert!(ended.status.success());
    assert!(!ended.log.iter().any(|line| line.contains("cut")), "{:?}", ended.log);
    let message = failed(&child.wait_with_output().unwrap());
    assert!(message.contains("stopped before its end"), "{message}");
}

#[test]
fn a_command_that_loses_its_server_says_so() {
    let directory = tempdir().unwrap();
    let server = Running::start(directory.path(), &[]);
    push_blob(&server, &vec![7; 1 << 20]);
    let child = slow_verify(directory.path(), &[]);
    wait_until_verifying(&server);
    server.signal(Signal::KILL);
    server.ended();
    let message = failed(&child.wait_with_output().unwrap());
    assert!(message.contains("the server went away"), "{message}");
}

#[test]
fn a_rate_or_a_resumption_needs_bytes_to_be_read() {
    let directory = tempdir().unwrap();
    for arguments in [
        ["--quick", "--resume"].as_slice(),
        &["--quick", "--rate", "1MiB"],
        &["--rate", "0"],
        &["--rate", "fast"],
    ] {
        assert_eq!(
            run(directory.path(), &[&["verify"], arguments].concat()).status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
}

#[test]
fn the_document_of_the_api_lists_every_endpoint_of_the_admin_api() {
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/http-api.md")).unwrap();
    for row in rows() {
        let start = format!("| `{} {PREFIX}{}` | `{}` |", row.method, row.path, row.name);
        assert!(document.lines().any(|line| line.starts_with(&start)), "docs/http-api.md has no row {start}");
    }
}

// compact

#[test]
fn compact_gives_space_back_beside_a_server_and_without_one() {
    let directory = tempdir().unwrap();
    let file = directory.path().join("data/metadata.redb");
    let server = Running::start(directory.path(), &[]);
    let digests: Vec<Digest> = (0..40_u32).map(|n| push_blob(&server, &n.to_be_bytes())).collect();
    for digest in &digests[1..] {
        let url = server.url(&format!("/v2/team/app/blobs/{digest}"));
        assert_eq!(client().delete(url).send().unwrap().status(), 202);
    }
    let before = fs::metadata(&file).unwrap().len();
    let done = json(directory.path(), &["compact"]);
    assert_eq!(done["beforeBytes"], before);
    assert_eq!(done["afterBytes"], fs::metadata(&file).unwrap().len());
    assert!(done["rows"].as_u64().unwrap() > 0 && done["afterBytes"].as_u64() <= Some(before), "{done}");
    let is_there = |digest: &Digest| {
        let url = server.url(&format!("/v2/team/app/blobs/{digest}"));
        client().head(url).send().unwrap().status().as_u16()
    };
    assert_eq!((is_there(&digests[0]), is_there(&digests[1])), (200, 404));
    push_blob(&server, b"afterwards");
    server.stop();

    let output = run(directory.path(), &["compact"]);
    let shown = text(&output.stdout);
    assert!(output.status.success() && shown.contains("before ") && shown.contains("after "), "{shown}");
    assert!(run(directory.path(), &["verify"]).status.success());
    assert!(!directory.path().join("data/metadata.redb.new").exists());

    // No disk has so much free.
    let refused = failed(&run(directory.path(), &["compact", "--set", "storage.free_floor=8000000TiB"]));
    assert!(refused.contains("make room"), "{refused}");
}
