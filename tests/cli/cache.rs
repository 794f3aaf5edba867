//! The cache as its operator meets it: one flag, warnings, and no secrets.

use std::fs;

use super::{Running, failure, orlop, run, tempdir, text};

/// The file of an upstream that is asked with credentials.
const PRIVATE: &str =
    "[[upstream]]\nhost = \"reg.example.org\"\nurl = \"http://127.0.0.1:1\"\nusername = \"anna\"\n";

#[test]
fn one_flag_makes_a_mirror() {
    let directory = tempdir().unwrap();
    for flags in [&["--cache", "docker.io", "--cache", "ghcr.io"][..], &["--cache", "docker.io,ghcr.io"]] {
        let shown = text(&run(directory.path(), &[&["config", "check"], flags].concat()).stdout);
        for line in [
            "= docker.io,ghcr.io   from the flag --cache",
            "[[upstream]] docker.io -> https://registry-1.docker.io/",
            "[[upstream]] ghcr.io -> https://ghcr.io/",
        ] {
            assert!(shown.contains(line), "{shown}");
        }
        let ended = Running::start(directory.path(), flags).stop();
        assert!(ended.status.success());
        assert!(!ended.log.iter().any(|line| line.contains("WARN")), "{:?}", ended.log);
    }
    let message = failure(directory.path(), &["serve", "--cache", "docker.io/library"]);
    assert!(message.contains("the flag --cache") && message.contains("without a path"), "{message}");
}

#[test]
fn an_upstream_that_nobody_can_read_is_told_of() {
    let directory = tempdir().unwrap();
    fs::write(directory.path().join("secret"), "open sesame\n").unwrap();
    for (public, warns) in [("false", true), ("true", false)] {
        let file = format!("{PRIVATE}password_file = \"secret\"\npublic = {public}\n");
        fs::write(directory.path().join("orlop.toml"), file).unwrap();
        let log = Running::start(directory.path(), &[]).stop().log;
        let part = "what is cached of reg.example.org";
        let has = log.iter().any(|line| line.contains("WARN") && line.contains(part));
        assert_eq!(has, warns, "{log:?}");
    }
}

#[test]
fn a_password_that_is_not_there_is_named_by_its_place_and_one_that_is_never_shown() {
    let directory = tempdir().unwrap();
    let file = directory.path().join("orlop.toml");
    fs::write(&file, format!("{PRIVATE}password_file = \"secret\"\n")).unwrap();
    for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["config", "check"]] {
        let output = run(directory.path(), command);
        assert_eq!(output.status.code(), Some(1));
        let message = text(&output.stderr);
        assert!(message.contains("reg.example.org") && message.contains("password_file"), "{message}");
    }
    fs::write(&file, format!("{PRIVATE}password_env = \"ORLOP_UPSTREAM_PASSWORD\"\n")).unwrap();
    let message = failure(directory.path(), &["serve", "--listen", "127.0.0.1:0"]);
    assert!(message.contains("ORLOP_UPSTREAM_PASSWORD") && message.contains("not set"), "{message}");

    let mut check = orlop(directory.path());
    check.args(["config", "check"]).env("ORLOP_UPSTREAM_PASSWORD", "open sesame");
    let output = check.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut serve = orlop(directory.path());
    serve.args(["serve", "--listen", "127.0.0.1:0", "--log-level", "trace"]);
    let log = Running::spawn(serve.env("ORLOP_UPSTREAM_PASSWORD", "open sesame")).stop().log;
    for shown in [text(&output.stdout), text(&output.stderr), log.join("\n")] {
        assert!(!shown.contains("sesame") && !shown.contains("b3BlbiBzZXNhbWU"), "{shown}");
    }
}
