//! Snapshots by the clock: when they come, what stays of them, what is said where they don't, and that they come back.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::support::Server;
use super::{blob_file, layer_of, orlop};

const PATIENCE: Duration = Duration::from_secs(60);

/// What `orlop status` says of the only target, once that is as wanted.
#[track_caller]
fn backup_when(server: &Server, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let status: Value = serde_json::from_str(&orlop(server, &["status", "--json"])).unwrap();
        let backup = &status["backups"][0];
        if is_wanted(backup) {
            return status;
        }
        assert!(began.elapsed() < PATIENCE, "{status:#}\n{}", server.log());
    }
}

fn target(to: &Path, rest: &str) -> String {
    format!("[[backup]]\nto = {:?}\n{rest}", to.display().to_string())
}

fn snapshots(to: &Path) -> Vec<String> {
    let names = std::fs::read_dir(to.join("snapshots")).unwrap();
    let mut names: Vec<String> = names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with(|first: char| first.is_ascii_digit()));
    names.sort();
    names
}

/// What says what is in the newest snapshot.
fn newest(to: &Path) -> PathBuf {
    to.join("snapshots").join(snapshots(to).last().unwrap()).join("snapshot.json")
}

/// Holds the lock of a backup directory until it is let go.
struct Holder(Child);

impl Holder {
    fn of(to: &Path) -> Holder {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
        command.args(["backup", "lock"]).arg(to).args(["--", "sh", "-c", "echo held; read line"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut held = [0; 5];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut held).unwrap();
        Holder(child)
    }

    fn let_go(mut self) {
        self.0.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

#[test]
fn snapshots_come_by_the_clock_and_only_those_stay_that_a_rule_keeps() {
    let to = TempDir::new().unwrap();
    let server = Server::with_file(&target(to.path(), "every = \"1s\"\nkeep_last = 2\n"), &[]);
    server.push_image("team/app", "v1", 1);
    server.wait_for_lines(4, &["took a backup"]);
    server.wait_for_lines(2, &["removed old backups"]);
    let holder = Holder::of(to.path());
    let there = snapshots(to.path());
    assert!((2..=3).contains(&there.len()), "{there:?}");
    holder.let_go();
    let status = backup_when(&server, |backup| backup["last"]["bytes"].as_u64() > Some(0));
    assert_eq!(status["backups"][0]["everySeconds"], 1);
    let metrics = String::from_utf8(server.get("/metrics").send().expect(200).body).unwrap();
    let of = |name: &str| {
        let start = format!("orlop_backup_{name}{{target=\"{}\"}} ", to.path().display());
        let line = metrics.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("{name} in {metrics}")).parse::<f64>().unwrap()
    };
    assert!(of("successes_total") >= 4.0 && of("last_success_timestamp_seconds") > 1.7e9, "{metrics}");
    assert!(of("age_seconds") < 60.0 && of("last_size_bytes") > 0.0 && of("last_duration_seconds") > 0.0);
    let shown = orlop(&server, &["status"]);
    assert!(shown.contains("BACKUP") && shown.contains(&to.path().display().to_string()), "{shown}");
}

/// As of the last snapshot of the directory, whoever took it; nothing else is stored.
#[test]
fn a_restart_takes_none_before_it_is_due_and_makes_up_what_was_missed() {
    let to = TempDir::new().unwrap();
    let mut server = Server::with_file(&target(to.path(), ""), &[]);
    server.wait_for_line(&["took a backup"]);
    let first = backup_when(&server, |backup| backup["last"].is_object());
    for _ in ["beside a server", "without one"] {
        server.stop();
        let alone = backup_when(&server, |backup| backup["last"].is_object());
        assert_eq!(alone["backups"][0]["last"]["snapshot"], first["backups"][0]["last"]["snapshot"]);
        server.run_again();
    }
    let after = backup_when(&server, |backup| backup["last"].is_object());
    let (at, due) = (&after["backups"][0]["last"]["at"], &after["backups"][0]["due"]);
    assert_eq!(at, &first["backups"][0]["last"]["at"]);
    assert_eq!(at.as_str().unwrap()[11..], due.as_str().unwrap()[11..], "a day later");
    assert_eq!(
        (&after["backups"][0]["overdue"], &after["warnings"]),
        (&false.into(), &Value::Array(Vec::new()))
    );
    assert_eq!(snapshots(to.path()).len(), 1);
    // It was off for two days; and then the clock was set back by many years.
    for (millis, taken) in [(-2_i64 * 86_400_000, 2), (9_000_000_000_000, 3)] {
        server.stop();
        let last = newest(to.path());
        let mut snapshot: Value = serde_json::from_slice(&std::fs::read(&last).unwrap()).unwrap();
        let at = snapshot["takenAtMillis"].as_i64().unwrap() + millis;
        snapshot["takenAtMillis"] = at.into();
        std::fs::write(&last, snapshot.to_string()).unwrap();
        server.run_again();
        server.wait_for_lines(taken, &["took a backup"]);
    }
    assert_eq!(snapshots(to.path()).len(), 3);
}

#[test]
fn a_failure_is_seen_everywhere_and_ends_when_its_cause_does() {
    let disk = TempDir::new().unwrap();
    let to = disk.path().join("orlop");
    let server = Server::with_file(&target(&to, "every = \"1s\"\n"), &[]);
    let status = backup_when(&server, |backup| backup["overdue"] == true && backup["failure"].is_object());
    assert!(
        status["backups"][0]["failure"]["reason"].as_str().unwrap().contains("mount its disk"),
        "{status}"
    );
    assert!(!to.exists(), "no backup beside the data where a disk is missing");
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("is overdue") && warnings.contains("failed at"), "{warnings}");
    let shown = orlop(&server, &["status"]);
    assert!(shown.trim_end().lines().last().unwrap().starts_with("WARNING: "), "{shown}");
    server.wait_for_line(&["WARN", "a backup is overdue"]);
    let failing = String::from_utf8(server.get("/metrics").send().expect(200).body).unwrap();
    let line = |name: &str| format!("orlop_backup_{name}{{target=\"{}\"}}", to.display());
    assert!(failing.contains(&format!("{} 1.0", line("overdue"))), "{failing}");
    assert!(!failing.contains(&format!("{} 0\n", line("failures_total"))), "{failing}");

    std::fs::create_dir(&to).unwrap();
    let status = backup_when(&server, |backup| backup["last"].is_object() && backup["failure"].is_null());
    assert!(!status["warnings"].to_string().contains("failed at"), "{status}");

    // Somebody else takes one.
    let lock = File::open(to.join("lock")).unwrap();
    lock.lock().unwrap();
    backup_when(&server, |backup| backup["failure"]["reason"].to_string().contains("another process works"));
    drop(lock);
    backup_when(&server, |backup| backup["failure"].is_null());

    // Something else lies there.
    let taken = server.log().matches("took a backup").count();
    std::fs::rename(to.join("format"), disk.path().join("format")).unwrap();
    backup_when(&server, |backup| backup["failure"]["reason"].to_string().contains("no backup directory"));
    std::fs::rename(disk.path().join("format"), to.join("format")).unwrap();
    server.wait_for_lines(taken + 1, &["took a backup"]);
}

#[test]
fn what_the_registry_has_lost_is_warned_of_until_a_snapshot_has_it() {
    let to = TempDir::new().unwrap();
    let mut server = Server::start();
    let lost = blob_file(&server.data(), &layer_of(&server.push_image("team/app", "v1", 1)));
    let away = server.configuration().with_file_name("away");
    std::fs::rename(&lost, &away).unwrap();
    server.configure(&target(to.path(), "every = \"1s\"\n"));
    let status = backup_when(&server, |backup| backup["last"]["lost"] == 1);
    let lacks = format!("in {} lacks 1 blobs that the registry had lost", to.path().display());
    assert!(status["warnings"].to_string().contains(&lacks), "{status}");
    let shown = orlop(&server, &["status"]);
    let is_warning = |line: &str| line.starts_with("WARNING: ") && line.contains(&lacks);
    assert!(shown.lines().any(is_warning), "{shown}");
    std::fs::rename(&away, &lost).unwrap();
    let status = backup_when(&server, |backup| backup["last"]["lost"] == 0);
    assert!(!status["warnings"].to_string().contains("lacks"), "{status}");
}

/// Somebody copies the directory, so that the snapshot waits for its name; the server doesn't wait for that when it stops, nor
/// when the schedule changes.
#[test]
fn a_snapshot_that_waits_holds_up_neither_the_stop_nor_a_change() {
    let to = TempDir::new().unwrap();
    let mut server = Server::with_file(&target(to.path(), "every = \"1s\"\n"), &[]);
    server.wait_for_line(&["took a backup"]);
    let holder = Holder::of(to.path());
    let (there, taken) = (snapshots(to.path()), server.log().matches("took a backup").count());
    let waits = |server: &Server| {
        let is_late = |backup: &Value| backup["last"]["ageSeconds"].as_u64() >= Some(2);
        backup_when(server, |backup| backup["runningSince"].is_string() && is_late(backup));
    };
    waits(&server);
    server.stop();
    assert!(snapshots(to.path()).len() <= there.len() + 1);
    server.run_again();
    waits(&server);
    server.configure(&target(to.path(), "every = \"1s\"\nkeep_last = 100\n"));
    server.wait_for_line(&["backups are taken by the new schedule"]);
    server.configure("");
    server.wait_for_lines(2, &["backups are taken by the new schedule"]);
    backup_when(&server, Value::is_null);
    server.configure(&target(to.path(), "every = \"1s\"\n"));
    holder.let_go();
    server.wait_for_lines(taken + 1, &["took a backup"]);
}

#[test]
fn a_schedule_that_changes_holds_without_a_restart() {
    let (one, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut server = Server::with_file("", &[]);
    let none: Value = serde_json::from_str(&orlop(&server, &["status", "--json"])).unwrap();
    assert_eq!(none["backups"], Value::Array(Vec::new()));
    server.configure(&target(one.path(), "every = \"1s\"\n"));
    server.wait_for_line(&["took a backup", &one.path().display().to_string()]);
    server.configure(&target(other.path(), "every = \"1s\"\ninclude_cache = true\n"));
    server.wait_for_line(&["took a backup", &other.path().display().to_string()]);
    let status = backup_when(&server, |backup| backup["to"] == other.path().to_str().unwrap());
    assert_eq!(status["backups"].as_array().unwrap().len(), 1, "{status}");
    for (to, with_cached) in [(&one, false), (&other, true)] {
        let snapshot: Value = serde_json::from_slice(&std::fs::read(newest(to.path())).unwrap()).unwrap();
        assert_eq!(snapshot["withCached"], with_cached, "{snapshot}");
    }
    let metrics = String::from_utf8(server.get("/metrics").send().expect(200).body).unwrap();
    assert!(!metrics.contains(one.path().to_str().unwrap()), "{metrics}");
    assert!(!server.log().contains("holds only after a restart"), "{}", server.log());
    server.configure("");
    backup_when(&server, Value::is_null);
}
