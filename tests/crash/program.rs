//! The real program, which gets killed.

#![allow(dead_code, reason = "each test file uses its part")]

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// The program, without the environment's opinion about its configuration.
pub(crate) fn orlop() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ORLOP_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// A running server.
pub(crate) struct Program {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Program {
    /// Starts a server on any free port, with its data and its log in `directory`.
    pub(crate) fn start(directory: &Path) -> Self {
        Self::start_with(directory, &[])
    }

    /// The same with further settings, each as `KEY=VALUE`.
    pub(crate) fn start_with(directory: &Path, settings: &[String]) -> Self {
        let log = File::options().create(true).append(true).open(directory.join("log")).unwrap();
        let mut child = orlop()
            .current_dir(directory)
            .args(["serve", "--listen", "127.0.0.1:0", "--data", "data", "--log-level", "warn"])
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let Some(line) = lines.next() else {
                let log = std::fs::read_to_string(directory.join("log")).unwrap();
                panic!("the server did not start: {:?}\n{log}", child.wait());
            };
            if let Some(address) = line.unwrap().strip_prefix("Listening on http://") {
                break address.parse().unwrap();
            }
        };
        Self { child, address }
    }

    /// What a killer needs.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for the end after a kill.
    pub(crate) fn reap(mut self) {
        self.child.wait().unwrap();
    }

    /// Whether it has ended by itself, or by a kill.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Asks for the end, which has to be a clean one.
    pub(crate) fn stop(mut self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "a server that is told to stop ends with 0");
    }
}

/// Runs `orlop verify` on the data in `directory`.
pub(crate) fn verify(directory: &Path) -> Output {
    orlop().current_dir(directory).args(["verify", "--data", "data", "--log-level", "warn"]).output().unwrap()
}
