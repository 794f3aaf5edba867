//! A server process whose output is kept.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};

/// The program, in `directory`, without the environment's opinion about its configuration.
pub(crate) fn orlop(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ORLOP_") {
            command.env_remove(name);
        }
    }
    // As a user's terminal would have it, if anything; a message must not show one.
    command.env("RUST_BACKTRACE", "1");
    command.current_dir(directory).stdin(Stdio::null());
    command
}

/// Copies the program into a directory, for users who can't reach the original.
///
/// Another process does it: a file that this one has open for writing might be inherited by a server that another test
/// starts at that moment, and can't be run as long as that has it.
pub(crate) fn copy_program(directory: &Path) {
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_orlop")).arg(directory.join("orlop")).status();
    assert!(copied.unwrap().success());
}

/// Runs the program to its end.
pub(crate) fn run(directory: &Path, arguments: &[&str]) -> Output {
    orlop(directory).args(arguments).output().unwrap()
}

/// What a program printed, as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The lines of one of the program's outputs, as they come.
#[derive(Clone, Default)]
struct Lines(Arc<(Mutex<VecDeque<String>>, Condvar)>);

impl Lines {
    fn collect(&self, from: impl Read + Send + 'static) -> JoinHandle<()> {
        let lines = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                lines.0.0.lock().unwrap().push_back(line);
                lines.0.1.notify_all();
            }
        })
    }

    /// Waits for a line that contains `part`.
    fn wait_for(&self, part: &str) -> String {
        let mut lines = self.0.0.lock().unwrap();
        loop {
            if let Some(line) = lines.iter().find(|line| line.contains(part)) {
                return line.clone();
            }
            lines = self.0.1.wait(lines).unwrap();
        }
    }

    fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().iter().cloned().collect()
    }
}

/// A server that listens.
pub(crate) struct Running {
    child: Option<Child>,
    pub(crate) address: SocketAddr,
    greeting: Lines,
    log: Lines,
    readers: Vec<JoinHandle<()>>,
}

/// How a server ended, and all that it said.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) greeting: Vec<String>,
    pub(crate) log: Vec<String>,
}

impl Running {
    /// Starts `orlop serve` on any free port with its data in `data` below `directory`.
    pub(crate) fn start(directory: &Path, arguments: &[&str]) -> Self {
        Self::spawn(orlop(directory).args(["serve", "--listen", "127.0.0.1:0"]).args(arguments))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (greeting, log) = (Lines::default(), Lines::default());
        let readers =
            vec![greeting.collect(child.stdout.take().unwrap()), log.collect(child.stderr.take().unwrap())];
        let line = greeting.wait_for("Listening on http://");
        let address = line.strip_prefix("Listening on http://").unwrap().parse().unwrap();
        Self { child: Some(child), address, greeting, log, readers }
    }

    /// The URL of `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Waits for a line of the log that contains `part`.
    pub(crate) fn logs(&self, part: &str) -> String {
        self.log.wait_for(part)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), signal).unwrap();
    }

    /// Waits for the end.
    pub(crate) fn ended(mut self) -> Ended {
        let status = self.child.take().unwrap().wait().unwrap();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        Ended { status, greeting: self.greeting.all(), log: self.log.all() }
    }

    /// Asks for the end with SIGTERM and waits for it.
    pub(crate) fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.ended()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The test has failed already; this only cleans up behind it.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A request that stops in the middle of its body.
pub(crate) struct HalfSent {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl HalfSent {
    /// Sends the head and the first `sent` bytes of the body, and waits until the server is at work on them.
    pub(crate) fn send(server: &Running, head: &str, body: &[u8], sent: usize) -> Self {
        let mut stream = TcpStream::connect(server.address).unwrap();
        // The server asks for the body once a handler reads it.
        let head =
            format!("{head}\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = [0; 25];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(&body[..sent]).unwrap();
        Self { stream, rest: body[sent..].to_vec() }
    }

    /// Sends the rest and returns the answer.
    pub(crate) fn finish(mut self) -> String {
        self.stream.write_all(&self.rest).unwrap();
        let mut answer = String::new();
        self.stream.read_to_string(&mut answer).unwrap();
        answer
    }
}
