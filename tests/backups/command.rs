//! `orlop backup` as people run it, and what it said.
#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// A command line that no variable of the environment changes.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ORLOP_")) {
        command.env_remove(name);
    }
    command.arg("backup").args(arguments).stdin(Stdio::null());
    command
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) errors: String,
}

impl Said {
    pub(crate) fn of(command: &mut Command) -> Said {
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code(), out: text(output.stdout), errors: text(output.stderr) }
    }

    /// It ended with this code.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Said {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// It did what was asked.
    #[track_caller]
    pub(crate) fn ok(self) -> Said {
        self.code(0)
    }

    /// It printed all of these, each in this order behind the one before.
    #[track_caller]
    pub(crate) fn prints(self, texts: &[&str]) -> Said {
        let mut rest = &self.out[..];
        for text in texts {
            let at = rest.find(text).unwrap_or_else(|| panic!("no {text:?} (in order): {self:#?}"));
            rest = &rest[at + text.len()..];
        }
        self
    }

    /// It printed none of these.
    #[track_caller]
    pub(crate) fn omits(self, texts: &[&str]) -> Said {
        for text in texts {
            assert!(!self.out.contains(text), "{text:?}: {self:#?}");
        }
        self
    }

    /// It complained with these words.
    #[track_caller]
    pub(crate) fn complains(self, texts: &[&str]) -> Said {
        for text in texts {
            assert!(self.errors.contains(text), "no {text:?}: {self:#?}");
        }
        self
    }

    /// The last line, which is JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let last = self.out.lines().last().unwrap_or_else(|| panic!("it said nothing: {self:#?}"));
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// A backup directory, and the commands that work on it.
#[derive(Debug)]
pub(crate) struct Backups(pub(crate) PathBuf);

impl Backups {
    pub(crate) fn dir(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// Where it has content.
    pub(crate) fn content(&self, digest: &str) -> PathBuf {
        self.0.join("blobs").join(digest.replace(':', "/"))
    }

    /// Runs a command on this directory.
    pub(crate) fn run(&self, verb: &str, arguments: &[&str]) -> Said {
        Said::of(&mut self.command(verb, arguments))
    }

    pub(crate) fn command(&self, verb: &str, arguments: &[&str]) -> Command {
        command(&[&[verb, self.dir()], arguments].concat())
    }

    /// Takes a snapshot of the registry in `data`.
    #[track_caller]
    pub(crate) fn create(&self, data: &Path) -> Value {
        self.run("create", &["--json", "--data", data.to_str().unwrap()]).ok().json()
    }

    /// The names of the snapshots.
    #[track_caller]
    pub(crate) fn names(&self) -> Vec<String> {
        let listed = self.run("list", &["--json"]).ok().json();
        let names = listed.as_array().unwrap().iter();
        names.map(|snapshot| snapshot["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Every byte of every snapshot is right.
    #[track_caller]
    pub(crate) fn verify(&self) {
        let said = self.run("verify", &["--full", "--json"]).ok().json();
        assert_eq!(said["count"], 0, "{said}");
    }

    /// Restores a snapshot into a data directory that isn't there yet.
    #[track_caller]
    pub(crate) fn restore(&self, snapshot: &str, data: &Path) -> Said {
        self.run("restore", &[snapshot, "--data", data.to_str().unwrap()])
    }
}

/// All files and directories below a directory, links aside, in their order.
pub(crate) fn all_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    let mut at = 0;
    while at < found.len() {
        let path = found[at].clone();
        at += 1;
        if path.symlink_metadata().unwrap().is_dir() {
            for entry in std::fs::read_dir(&path).unwrap().map(Result::unwrap) {
                if !entry.file_type().unwrap().is_symlink() {
                    found.push(entry.path());
                }
            }
        }
    }
    found.sort();
    found
}
