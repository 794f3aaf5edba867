//! The server that others push to meanwhile.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal};

/// A server that ends with this value.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    address: SocketAddr,
}

impl Program {
    /// The registry, with its data below `data`.
    pub(crate) fn orlop(data: &Path) -> Program {
        let mut child = Command::new(env!("CARGO_BIN_EXE_orlop"))
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--log-level",
                "warn",
                "--set",
                "log.audit=off",
                "--data",
            ])
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()
            .expect("orlop starts");
        let lines = BufReader::new(child.stdout.take().expect("it was piped")).lines();
        let line = lines.map_while(Result::ok).find(|line| line.contains("Listening on http://"));
        let line = line.expect("orlop says where it listens");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split_whitespace().next());
        let address = address.and_then(|address| address.parse().ok()).expect("an address");
        Program { child, address }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id fits");
        let _ = rustix::process::kill_process(pid, Signal::TERM);
        let _ = self.child.wait();
        let _ = std::io::stdout().flush();
    }
}
