//! The program as people and service managers meet it: help, messages, signals, logs and health.
#![expect(clippy::unwrap_used, reason = "in a test, whatever is not as it should be is a failure")]

#[path = "cli/cache.rs"]
mod cache;
#[path = "cli/commands.rs"]
mod commands;
#[path = "cli/running.rs"]
#[allow(dead_code, reason = "the tests of other users copy the program too")]
mod running;
#[path = "cli/sockets.rs"]
mod sockets;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use orlop::oci::{Digest, DigestAlgorithm};
use redb::ReadableDatabase;
use reqwest::blocking::{Client, Response};
use running::{HalfSent, Running, orlop, run, text};
use rustix::process::Signal;
use tempfile::{TempDir, tempdir};

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

fn get(server: &Running, path: &str) -> Response {
    client().get(server.url(path)).send().unwrap()
}

fn digest_of(bytes: &[u8]) -> String {
    Digest::of(DigestAlgorithm::Sha256, bytes).to_string()
}

/// Begins an upload and returns the path of its location.
fn begin(server: &Running) -> String {
    let answer = client().post(server.url("/v2/team/app/blobs/uploads/")).body("").send().unwrap();
    assert_eq!(answer.status(), 202);
    answer.headers()["location"].to_str().unwrap().to_owned()
}

fn push_blob(server: &Running, bytes: &[u8]) -> String {
    let digest = digest_of(bytes);
    let path = format!("/v2/team/app/blobs/uploads/?digest={digest}");
    assert_eq!(client().post(server.url(&path)).body(bytes.to_vec()).send().unwrap().status(), 201);
    digest
}

/// The message of a command that fails as it should: one, on standard error, with an exit code and no backtrace.
fn failure(directory: &Path, arguments: &[&str]) -> String {
    let output = run(directory, arguments);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.starts_with("error: "), "{message}");
    for noise in ["panicked", "backtrace", "stack", "Os {", "Error("] {
        assert!(!message.contains(noise), "{message}");
    }
    message
}

// Help.

#[test]
fn every_command_has_complete_help() {
    let directory = tempdir().unwrap();
    let serving = ["--listen <ADDRESS>", "--cache <HOST>", "--insecure-open"];
    let flags = ["--config <FILE>", "--data <DIRECTORY>", "--log-level <LEVEL>", "--log-format", "--set"];
    for (command, parts) in [
        (
            vec![],
            vec![
                "serve",
                "config",
                "status",
                "compact",
                "verify",
                "--version",
                "ORLOP_LISTEN",
                "orlop serve ",
            ],
        ),
        (vec!["serve"], [flags.as_slice(), &serving, &["docker push", "SIGTERM", "/readyz"]].concat()),
        (vec!["config"], vec!["check", "example"]),
        (vec!["config", "check"], [flags.as_slice(), &serving, &["--json"]].concat()),
        (vec!["config", "example"], vec!["orlop.toml"]),
        (
            vec!["verify"],
            [flags.as_slice(), &["--quick", "--rate", "--resume", "--json", "exit code"]].concat(),
        ),
        (vec!["compact"], [flags.as_slice(), &["--json", "needs room"]].concat()),
        (vec!["status"], [flags.as_slice(), &["--json"]].concat()),
        (vec!["ls"], [flags.as_slice(), &["--json", "[PATTERN]"]].concat()),
        (vec!["tags"], [flags.as_slice(), &["--json", "<REPOSITORY>", "[PATTERN]"]].concat()),
        (vec!["inspect"], [flags.as_slice(), &["--json", "<IMAGE>"]].concat()),
        (
            vec!["rm"],
            [flags.as_slice(), &["--json", "<IMAGE|REPOSITORY>", "--yes", "--dry-run", "undelete"]].concat(),
        ),
        (vec!["completions"], vec!["<SHELL>", "bash", "zsh", "fish"]),
        (vec!["man"], vec!["--dir <DIRECTORY>"]),
        (vec!["policy"], vec!["run", "show"]),
        (vec!["user"], vec!["add", "list", "set", "remove"]),
        (
            vec!["user", "add"],
            [flags.as_slice(), &["--group", "--password-stdin", "--htpasswd", "--json"]].concat(),
        ),
        (
            vec!["user", "set"],
            [flags.as_slice(), &["--group", "--no-groups", "--password-stdin", "--password"]].concat(),
        ),
        (vec!["token"], vec!["create", "list", "revoke"]),
        (vec!["token", "create"], [flags.as_slice(), &["--user", "--scope", "--expires", "--json"]].concat()),
        (
            vec!["policy", "run"],
            [flags.as_slice(), &["--dry-run", "--repository", "--json", "undelete"]].concat(),
        ),
        (vec!["import"], vec!["distribution"]),
        (
            vec!["import", "distribution"],
            [flags.as_slice(), &["--repository", "--link", "--verify", "--dry-run", "--json", "exit code"]]
                .concat(),
        ),
        (vec!["policy", "show"], [flags.as_slice(), &["--json"]].concat()),
    ] {
        let output = run(directory.path(), &[command.clone(), vec!["--help"]].concat());
        let help = text(&output.stdout);
        assert!(output.status.success() && output.stderr.is_empty(), "{command:?}");
        assert!(help.contains("Usage: orlop"), "{command:?}: {help}");
        assert!(
            help.contains("Examples:")
                || ["config", "policy", "import", "user", "token"].map(|name| vec![name]).contains(&command),
            "{command:?}: {help}"
        );
        let serves = [vec!["serve"], vec!["config", "check"]].contains(&command);
        assert_eq!(help.contains("--listen <ADDRESS>"), serves, "{command:?}: {help}");
        for part in parts {
            assert!(help.contains(part), "{part} is not in the help of {command:?}: {help}");
        }
        let (short, by_help) = (
            run(directory.path(), &[command.clone(), vec!["-h"]].concat()),
            run(directory.path(), &[vec!["help"], command.clone()].concat()),
        );
        assert!(short.status.success() && by_help.status.success());
        assert_eq!(text(&by_help.stdout), help);
    }
}

#[test]
fn a_wrong_command_line_is_answered_with_its_usage_and_2() {
    let directory = tempdir().unwrap();
    for arguments in
        [vec![], vec!["serv"], vec!["serve", "--listn", "x"], vec!["config"], vec!["verify", "extra"]]
    {
        let output = run(directory.path(), &arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains("Usage: orlop"), "{arguments:?}");
        assert!(output.stdout.is_empty());
    }
    let suggestion = text(&run(directory.path(), &["serv"]).stderr);
    assert!(suggestion.contains("'serve'"), "{suggestion}");
}

#[test]
fn the_version_is_the_packages() {
    let directory = tempdir().unwrap();
    let output = run(directory.path(), &["--version"]);
    assert_eq!(text(&output.stdout), format!("orlop {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_the_exit_codes_mean_is_said_by_the_program() {
    let directory = tempdir().unwrap();
    for arguments in [vec!["help", "exit-codes"], vec!["exit-codes"]] {
        let page = text(&run(directory.path(), &arguments).stdout);
        for code in ["\n  0 ", "\n  1 ", "\n  2 ", "\n  3 ", "\n  130, 143 "] {
            assert!(page.contains(code), "{code} in {page}");
        }
    }
}

/// The options of a command and of those below it, a line each behind its name, as `-h` shows them.
fn options_of(directory: &Path, command: &[&str], into: &mut Vec<(String, String)>) {
    let help = text(&run(directory, &[command, &["-h"]].concat()).stdout);
    let below = |heading: &str| {
        let lines = help.lines().skip_while(|line| *line != heading).skip(1);
        lines.take_while(|line| !line.is_empty()).map(|line| line.trim_start().to_owned()).collect::<Vec<_>>()
    };
    into.extend(below("Options:").into_iter().map(|line| (command.join(" "), line)));
    let names = below("Commands:").into_iter().filter_map(|line| line.split(' ').next().map(str::to_owned));
    for name in names.filter(|name| name != "help") {
        options_of(directory, &[command, &[name.as_str()]].concat(), into);
    }
}

#[test]
fn every_dry_run_has_the_same_short_option() {
    let directory = tempdir().unwrap();
    let mut options = Vec::new();
    options_of(directory.path(), &[], &mut options);
    // What stands behind its name is about it.
    options.retain(|(_, line)| line.split("  ").next().is_some_and(|names| names.contains("--dry-run")));
    for (command, line) in &options {
        assert!(line.starts_with("-n, --dry-run"), "orlop {command}: {line}");
    }
    for command in ["backup prune", "gc", "import distribution", "import registry", "export docker"] {
        assert!(options.iter().any(|(name, _)| name == command), "nobody looked at orlop {command}");
    }
}

/// Each shell has completions for every command; that bash goes by them is tried by a test with bash.
#[test]
fn there_are_completions_and_manual_pages_of_every_command() {
    let directory = tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = text(&run(directory.path(), &["completions", shell]).stdout);
        assert!(script.contains("inspect") && script.contains("include-cache"), "{shell}");
    }
    let page = text(&run(directory.path(), &["man"]).stdout);
    assert!(page.contains(".TH orlop 1") && page.contains("EXIT STATUS"), "{page}");
    let written = run(directory.path(), &["man", "--dir", "."]);
    assert!(written.status.success(), "{}", text(&written.stderr));
    assert_eq!(fs::read_to_string(directory.path().join("orlop.1")).unwrap(), page);
    let create = fs::read_to_string(directory.path().join("orlop-backup-create.1")).unwrap();
    assert!(create.contains("include\\-cache"), "{create}");
    let missing = failure(directory.path(), &["man", "--dir", "nowhere"]);
    assert!(missing.contains("nowhere"), "{missing}");
}

// Configuration.

#[test]
fn config_check_tells_programs_what_the_configuration_amounts_to() {
    let directory = tempdir().unwrap();
    let output = run(directory.path(), &["config", "check", "--json", "--set", "delete.tags=false"]);
    let checked: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(checked["keys"]["delete.tags"]["value"], "false");
    assert!(checked["keys"]["delete.tags"]["from"].as_str().unwrap().contains("--set"), "{checked}");
    assert_eq!(
        (&checked["file"], &checked["keys"]["log.level"]["value"]),
        (&serde_json::Value::Null, &"info".into())
    );
}

#[test]
fn config_example_prints_a_file_that_config_check_accepts() {
    let directory = tempdir().unwrap();
    let example = run(directory.path(), &["config", "example"]);
    assert_eq!(text(&example.stdout), orlop::config::example());
    fs::write(directory.path().join("orlop.toml"), &example.stdout).unwrap();
    let check = run(directory.path(), &["config", "check"]);
    assert!(check.status.success());
    assert!(text(&check.stdout).contains("The configuration is valid (orlop.toml was read)"));
}

#[test]
fn config_check_shows_every_value_and_where_it_comes_from() {
    let directory = tempdir().unwrap();
    fs::write(directory.path().join("my.toml"), "delete.tags = false\n").unwrap();
    let output = orlop(directory.path())
        .args(["config", "check", "--config", "my.toml", "--set", "limits.connections=9"])
        .env("ORLOP_LOG_LEVEL", "debug")
        .output()
        .unwrap();
    let shown = text(&output.stdout);
    for key in orlop::config::KEYS {
        assert!(shown.contains(key.name), "{}: {shown}", key.name);
    }
    for part in ["from my.toml, line 1", "variable ORLOP_LOG_LEVEL", "flag --set limits.connections=9"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn every_command_refuses_a_configuration_that_it_does_not_understand() {
    let directory = tempdir().unwrap();
    fs::write(directory.path().join("orlop.toml"), "[log]\nlevle = \"debug\"\n").unwrap();
    for command in [vec!["serve"], vec!["config", "check"], vec!["verify"], vec!["status"]] {
        let message = failure(directory.path(), &command);
        assert!(message.contains("orlop.toml, line 2"), "{message}");
        assert!(message.contains("\"log.levle\"") && message.contains("\"log.level\""), "{message}");
    }
    assert!(!directory.path().join("data").exists());
}

#[test]
fn output_that_nobody_reads_is_no_failure() {
    let directory = tempdir().unwrap();
    let mut child =
        orlop(directory.path()).args(["config", "example"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

// Starting.

#[test]
fn a_start_says_where_it_listens_where_its_data_is_and_what_to_type_next() {
    let directory = tempdir().unwrap();
    let server = Running::start(directory.path(), &[]);
    let address = server.address;
    let ended = server.stop();
    let greeting = ended.greeting.join("\n");
    let data = directory.path().canonicalize().unwrap().join("data");
    for part in [
        format!("Orlop {}", env!("CARGO_PKG_VERSION")),
        format!("Listening on http://{address}"),
        format!("Data in {}", data.display()),
        format!("docker tag busybox {address}/busybox"),
        format!("docker push {address}/busybox"),
    ] {
        assert!(greeting.contains(&part), "{part}: {greeting}");
    }
    let line = ended.log.iter().find(|line| line.contains("listening")).unwrap();
    assert!(line.contains(&format!("address={address}")) && line.contains("version="), "{line}");
    assert!(data.is_dir(), "what is missing is created");
}

#[test]
fn an_occupied_port_is_named_with_the_flag_for_another() {
    let directory = tempdir().unwrap();
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = occupied.local_addr().unwrap().to_string();
    let message = failure(directory.path(), &["serve", "--listen", &address]);
    assert!(message.contains(&format!("cannot listen on {address}")), "{message}");
    assert!(
        message.contains("another program uses port") && message.contains("--listen 127.0.0.1:"),
        "{message}"
    );
    assert!(!directory.path().join("data").exists(), "nothing was begun");
}

#[test]
fn everybody_is_let_in_from_elsewhere_only_where_the_operator_says_so() {
    let directory = tempdir().unwrap();
    let message = failure(directory.path(), &["serve", "--listen", "0.0.0.0:0"]);
    for part in [
        "no users and no rules",
        "orlop user add NAME --htpasswd users && orlop serve --listen 0.0.0.0:",
        " --set access.htpasswd=users\n",
        " --insecure-open",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let message = failure(directory.path(), &["serve", "--listen", "[::]:0"]);
    assert!(message.contains("orlop serve --listen [::]:"), "{message}");
    // The other loopback addresses are this machine's too.
    for address in ["127.1.2.3:0", "[::ffff:127.0.0.1]:0"] {
        let mut command = orlop(directory.path());
        command.args(["serve", "--listen", address]);
        assert!(Running::spawn(&mut command).stop().status.success(), "{address}");
    }
}

#[test]
fn an_address_of_another_machine_is_named() {
    let directory = tempdir().unwrap();
    // From the block that is reserved for documentation.
    let message = failure(directory.path(), &["serve", "--listen", "192.0.2.1:5000"]);
    assert!(message.contains("192.0.2.1:5000") && message.contains("no such address"), "{message}");
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named_with_the_flag_for_another() {
    let directory = tempdir().unwrap();
    fs::write(directory.path().join("file"), "").unwrap();
    // A file in the way, and a file itself; nothing that root could do anyway.
    for data in ["file/data", "file", "/dev/null"] {
        let message = failure(directory.path(), &["serve", "--listen", "127.0.0.1:0", "--data", data]);
        assert!(message.contains(data), "{message}");
        assert!(message.contains("--data"), "{message}");
    }
}

#[test]
fn a_file_of_certificate_authorities_that_cannot_be_used_is_named_with_its_key() {
    let directory = tempdir().unwrap();
    fs::write(directory.path().join("empty.pem"), "").unwrap();
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(directory.path().join("garbage.pem"), garbage).unwrap();
    for (file, reason) in [
        ("absent.pem", "No such file"),
        ("empty.pem", "no certificate in it"),
        ("garbage.pem", "certificate number 1"),
    ] {
        let set = format!("signatures.trust_roots={file}");
        let message = failure(directory.path(), &["serve", "--listen", "127.0.0.1:0", "--set", &set]);
        assert!(message.contains(&format!("signatures.trust_roots: cannot use {file}")), "{message}");
        assert!(message.contains(reason) && message.contains("Name PEM files"), "{message}");
    }
    assert!(!directory.path().join("data").exists(), "nothing was begun");
}

#[test]
fn a_second_server_on_the_same_data_is_refused_and_the_first_goes_on() {
    let directory = tempdir().unwrap();
    let first = Running::start(directory.path(), &[]);
    let message = failure(directory.path(), &["serve", "--listen", "127.0.0.1:0"]);
    assert!(message.contains("another process uses the data directory"), "{message}");
    assert!(message.contains("--data"), "{message}");
    assert_eq!(get(&first, "/v2/").status(), 200);
    assert!(first.stop().status.success());
    assert!(Running::start(directory.path(), &[]).stop().status.success(), "the lock ends with its holder");
}

#[test]
fn data_of_a_newer_version_is_refused_and_left_alone() {
    let directory = tempdir().unwrap();
    assert!(Running::start(directory.path(), &[]).stop().status.success());
    let file = directory.path().join("data").join(orlop::metadata::FILE_NAME);
    let newer = orlop::metadata::SCHEMA + 1;
    let meta = redb::TableDefinition::<&[u8], &[u8]>::new("meta");
    {
        let database = redb::Database::open(&file).unwrap();
        let transaction = database.begin_write().unwrap();
        let number = newer.to_be_bytes();
        transaction.open_table(meta).unwrap().insert(b"schema".as_slice(), number.as_slice()).unwrap();
        transaction.commit().unwrap();
    }
    for command in [vec!["serve", "--listen", "127.0.0.1:0"], vec!["verify"]] {
        let message = failure(directory.path(), &command);
        assert!(message.contains(&format!("schema {newer}")) && message.contains("newer Orlop"), "{message}");
    }
    let database = redb::Database::open(&file).unwrap();
    let found = database.begin_read().unwrap().open_table(meta).unwrap().get(b"schema".as_slice()).unwrap();
    assert_eq!(found.unwrap().value(), newer.to_be_bytes());
}

// Stopping.

#[test]
fn sigterm_in_the_middle_of_an_upload_lets_it_finish() {
    let directory = tempdir().unwrap();
    let body = vec![7; 3 << 20];
    let digest = digest_of(&body);
    for signal in [Signal::TERM, Signal::INT] {
        let server = Running::start(directory.path(), &[]);
        let head = format!("PUT {}?digest={digest} HTTP/1.1", begin(&server));
        let upload = HalfSent::send(&server, &head, &body, 1 << 20);
        server.signal(signal);
        server.logs("stopping");
        let answer = upload.finish();
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
        let ended = server.ended();
        assert_eq!(ended.status.code(), Some(0));
        assert!(ended.log.last().unwrap().contains("stopped"), "{:?}", ended.log);
    }
    let server = Running::start(directory.path(), &[]);
    let blob = get(&server, &format!("/v2/team/app/blobs/{digest}")).bytes().unwrap();
    assert!(blob == body);
    server.stop();
}

#[test]
fn a_drain_is_bounded_and_an_upload_that_it_cut_off_can_be_resumed() {
    let directory = tempdir().unwrap();
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let digest = digest_of(&body);
    let server = Running::start(directory.path(), &["--set", "limits.drain_timeout=100ms"]);
    let location = begin(&server);
    let chunk = client()
        .patch(server.url(&location))
        .header("content-range", "0-999999")
        .body(body[..1_000_000].to_vec())
        .send()
        .unwrap();
    assert_eq!(chunk.status(), 202);
    let head = format!("PATCH {location} HTTP/1.1\r\nContent-Range: 1000000-2999999");
    let cut = HalfSent::send(&server, &head, &body[1_000_000..], 1_000_000);
    let ended = server.stop();
    assert_eq!(ended.status.code(), Some(0));
    assert!(ended.log.iter().any(|line| line.contains("cut")), "{:?}", ended.log);
    drop(cut);

    let server = Running::start(directory.path(), &[]);
    let status = get(&server, &location);
    assert_eq!(status.status(), 204);
    let range = status.headers()["range"].to_str().unwrap().to_owned();
    let offset = range.strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1;
    assert!((1_000_000..=2_000_000).contains(&offset), "{range}");
    let finished = client()
        .put(server.url(&format!("{location}?digest={digest}")))
        .header("content-range", format!("{offset}-2999999"))
        .body(body[offset..].to_vec())
        .send()
        .unwrap();
    assert_eq!(finished.status(), 201);
    let metrics = get(&server, "/metrics").text().unwrap();
    assert!(metrics.contains("\norlop_upload_rehashed_bytes_total 0\n"), "{metrics}");
    server.stop();
    assert!(run(directory.path(), &["verify"]).status.success());
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let directory = tempdir().unwrap();
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let server = Running::start(directory.path(), &[]);
        let head = format!("PATCH {} HTTP/1.1", begin(&server));
        let stuck = HalfSent::send(&server, &head, &[0; 100], 10);
        server.signal(signal);
        server.logs("stopping");
        server.signal(signal);
        assert_eq!(server.ended().status.code(), Some(code));
        drop(stuck);
    }
    assert!(run(directory.path(), &["verify"]).status.success());
}

// Logs.

#[test]
fn every_json_line_parses_and_a_request_is_one_line_with_the_id_of_its_answer() {
    let directory = tempdir().unwrap();
    let server = Running::start(directory.path(), &["--log-format", "json"]);
    let answer = get(&server, "/v2/team/app/tags/list");
    let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    let own = client().get(server.url("/v2/")).header("x-request-id", "mine-1").send().unwrap();
    assert_eq!(own.headers()["x-request-id"], "mine-1");
    let ended = server.stop();
    let lines: Vec<serde_json::Value> =
        ended.log.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
    for line in &lines {
        for field in ["timestamp", "level", "target", "message"] {
            assert!(line[field].is_string(), "{field}: {line}");
        }
    }
    let of = |id: &str| lines.iter().filter(|line| line["request"] == id).collect::<Vec<_>>();
    assert_eq!((of(&id).len(), of("mine-1").len()), (1, 1));
    let line = of(&id)[0];
    assert_eq!((line["method"].as_str(), line["status"].as_u64()), (Some("GET"), Some(404)), "{line}");
    assert_eq!(line["path"], "/v2/team/app/tags/list");
    assert!(line["took_us"].is_u64() && line["sent_bytes"].is_u64() && line["route"].is_string(), "{line}");
}

#[test]
fn the_level_decides_what_is_logged() {
    let count = |level: &str| {
        let directory = tempdir().unwrap();
        let server = Running::start(directory.path(), &["--log-level", level]);
        push_blob(&server, b"content");
        let log = server.stop().log;
        let with = |word: &str| log.iter().filter(|line| line.contains(word)).count();
        (log.len(), with("status=201"), with(" DEBUG "))
    };
    assert_eq!(count("off"), (0, 0, 0));
    assert_eq!(count("error"), (0, 0, 0));
    assert_eq!(count("warn"), (0, 0, 0));
    let (_, requests, debug) = count("info");
    assert_eq!((requests, debug), (1, 0), "one line per request");
    assert!(count("trace").2 > 0);
}

#[test]
fn a_configuration_file_and_the_environment_reach_the_server() {
    let directory = tempdir().unwrap();
    fs::write(directory.path().join("orlop.toml"), "data = \"here\"\ndelete.blobs = false\n").unwrap();
    let server = Running::spawn(
        orlop(directory.path())
            .args(["serve", "--set", "log.audit=off"])
            .envs([("ORLOP_LISTEN", "localhost:0"), ("ORLOP_LOG_LEVEL", "off")]),
    );
    let digest = push_blob(&server, b"kept");
    let answer = client().delete(server.url(&format!("/v2/team/app/blobs/{digest}"))).send().unwrap();
    assert_eq!(answer.status(), 405);
    assert!(server.stop().log.is_empty());
    assert!(directory.path().join("here").is_dir());
}

// Health and metrics.

#[test]
fn the_server_says_that_it_lives_and_is_ready() {
    let directory = tempdir().unwrap();
    let server = Running::start(directory.path(), &[]);
    for path in ["/livez", "/readyz"] {
        let answer = get(&server, path);
        assert_eq!((answer.status().as_u16(), answer.text().unwrap().as_str()), (200, "ok\n"), "{path}");
    }
    server.stop();
}

#[test]
fn the_metrics_count_requests_bytes_commits_and_syncs() {
    let directory = tempdir().unwrap();
    let server = Running::start(directory.path(), &[]);
    push_blob(&server, b"12345678");
    let answer = get(&server, "/metrics");
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let metrics = answer.text().unwrap();
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("{name}: {metrics}")).rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(value("orlop_metadata_commits_total") >= 1.0);
    assert!(value("orlop_metadata_commit_batch_size_sum") >= 1.0);
    assert!(value("orlop_metadata_commit_seconds_sum") > 0.0);
    assert!(value("orlop_file_sync_seconds_count") >= 2.0, "the file and its directory");
    assert!((value("orlop_http_received_bytes_total") - 8.0).abs() < 0.5);
    assert!(
        metrics.lines().any(|line| line.starts_with("orlop_http_requests_total{method=\"POST\"")),
        "{metrics}"
    );
    server.stop();
}

#[test]
fn bytes_that_have_to_be_read_back_are_counted() {
    let directory = tempdir().unwrap();
    let server = Running::start(directory.path(), &[]);
    let body = vec![3; 1000];
    let digest = Digest::of(DigestAlgorithm::Sha512, &body);
    // Nothing says beforehand that this will be asked for by its sha512.
    let path = format!("{}?digest={digest}", begin(&server));
    assert_eq!(client().put(server.url(&path)).body(body).send().unwrap().status(), 201);
    let metrics = get(&server, "/metrics").text().unwrap();
    assert!(metrics.contains("\norlop_upload_rehashed_bytes_total 1000\n"), "{metrics}");
    server.stop();
}

#[test]
fn the_page_about_operations_lists_exactly_the_metrics_that_there_are() {
    let directory = tempdir().unwrap();
    let server = Running::start(directory.path(), &[]);
    // Metrics with labels are shown once they have one.
    get(&server, "/livez");
    let metrics = get(&server, "/metrics").text().unwrap();
    server.stop();
    let shown: BTreeSet<(String, String)> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| {
            let suffix = if kind == "counter" {
                "_total"
            } else if kind == "info" {
                "_info"
            } else {
                ""
            };
            (format!("{name}{suffix}"), kind.to_owned())
        })
        .collect();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let page = fs::read_to_string(page).unwrap();
    let listed: BTreeSet<(String, String)> = page
        .lines()
        // Those of upstreams are shown where there is one.
        .filter(|line| !line.contains("{upstream"))
        .filter_map(|line| line.strip_prefix("| `orlop_")?.split_once('|'))
        .map(|(name, rest)| {
            let kind = rest.split('|').next().unwrap().trim().to_owned();
            (format!("orlop_{}", name.split(['`', '{']).next().unwrap()), kind)
        })
        .collect();
    assert_eq!(listed, shown);
}

// Verifying.

/// A stopped server's directory with one blob, and the path of the blob's file.
fn stored(bytes: &[u8]) -> (TempDir, String, std::path::PathBuf) {
    let directory = tempdir().unwrap();
    let server = Running::start(directory.path(), &[]);
    let digest = push_blob(&server, bytes);
    assert!(server.stop().status.success());
    let hex = digest.strip_prefix("sha256:").unwrap().to_owned();
    let file = directory.path().join("data/blobs/sha256").join(&hex[..2]).join(&hex);
    assert!(file.is_file());
    (directory, digest, file)
}

#[test]
fn verify_of_a_sound_store_counts_what_is_there_and_exits_with_0() {
    let (directory, ..) = stored(b"content");
    for arguments in [vec!["verify"], vec!["verify", "--quick"]] {
        let output = run(directory.path(), &arguments);
        let shown = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{shown}");
        assert!(shown.contains("blobs            1 (7 B)"), "{shown}");
        assert!(shown.contains("Everything is in order"), "{shown}");
    }
}

#[test]
fn verify_finds_a_damaged_blob_and_names_it() {
    let (directory, digest, file) = stored(b"content");
    fs::write(&file, b"c0ntent").unwrap();
    let output = run(directory.path(), &["verify"]);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{shown}");
    assert!(shown.contains("problem: ") && shown.contains(&digest), "{shown}");
    assert!(shown.contains("Something is wrong"), "{shown}");
}

#[test]
fn a_quick_verify_finds_a_blob_that_is_too_short_or_gone() {
    let (directory, digest, file) = stored(b"content");
    fs::write(&file, b"cont").unwrap();
    for _ in ["short", "gone"] {
        let output = run(directory.path(), &["verify", "--quick"]);
        assert_eq!(output.status.code(), Some(3));
        assert!(text(&output.stdout).contains(&digest));
        fs::remove_file(&file).unwrap_or_default();
    }
}

/// A new database was made, and a store that had lost everything verified as sound.
#[test]
fn blobs_without_their_metadata_are_an_error_and_stay_as_they_are() {
    let (directory, _, file) = stored(b"content");
    let metadata = directory.path().join("data/metadata.redb");
    fs::remove_file(&metadata).unwrap();
    for command in [vec!["verify"], vec!["serve", "--listen", "127.0.0.1:0"]] {
        let message = failure(directory.path(), &command);
        assert!(message.contains("metadata.redb is missing") && message.contains("backup"), "{message}");
        assert!(!metadata.exists() && file.is_file());
    }
    fs::write(&metadata, b"").unwrap();
    assert!(failure(directory.path(), &["verify"]).contains("missing or empty"));
}

#[test]
fn verify_finds_damaged_metadata_by_its_checksums() {
    let (directory, ..) = stored(b"content");
    let metadata = directory.path().join("data/metadata.redb");
    let mut bytes = fs::read(&metadata).unwrap();
    let actor: Vec<_> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(b"anonymous")).collect();
    assert!(!actor.is_empty());
    for at in actor {
        bytes[at] = b'A';
    }
    fs::write(&metadata, bytes).unwrap();
    let output = run(directory.path(), &["verify"]);
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{shown}");
    assert!(shown.contains("problem: metadata.redb is damaged"), "{shown}");
}

#[test]
fn metadata_that_make_no_sense_are_refused_with_what_to_do() {
    let (directory, ..) = stored(b"content");
    let metadata = directory.path().join("data/metadata.redb");
    let mut bytes = fs::read(&metadata).unwrap();
    bytes[4096..].fill(0);
    fs::write(&metadata, bytes).unwrap();
    let output = run(directory.path(), &["verify"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("metadata.redb"), "{}", text(&output.stderr));
}

#[test]
fn no_command_makes_a_store_where_there_is_none() {
    let directory = tempdir().unwrap();
    for command in ["verify", "status"] {
        let message = failure(directory.path(), &[command]);
        assert!(message.contains("there is no data directory") && message.contains("--data"), "{message}");
        assert!(!directory.path().join("data").exists());
    }
}
