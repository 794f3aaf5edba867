//! One running registry with a data directory of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use orlop::registry::{Depth, Options, Registry};
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::client::{RawReply, Request};

/// How long a server may take to start or to stop before the test gives up; nothing is asserted about the time.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running `orlop serve`.
///
/// When it is dropped, the server has to end by itself after a SIGTERM, and its store has to verify clean, every blob
/// hashed: so every test is a test of consistency too.
pub(crate) struct Server {
    child: Option<Child>,
    address: SocketAddr,
    data: TempDir,
    settings: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    log: Arc<Log>,
    client: reqwest::blocking::Client,
}

/// What a server has written.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    /// Told of each new line.
    written: Condvar,
}

impl Server {
    /// Starts a server with the default configuration.
    pub(crate) fn start() -> Server {
        Server::with(&[])
    }

    /// Starts a server with configuration keys set, such as `("delete.tags", "false")`.
    pub(crate) fn with(settings: &[(&str, &str)]) -> Server {
        Server::with_file("", settings)
    }

    /// Starts a server with a configuration file, whose keys `settings` win over.
    pub(crate) fn with_file(file: &str, settings: &[(&str, &str)]) -> Server {
        let client = reqwest::blocking::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .unwrap();
        let mut server = Server {
            child: None,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            data: TempDir::new().unwrap(),
            settings: settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            environment: Vec::new(),
            log: Arc::default(),
            client,
        };
        std::fs::write(server.data.path().join("orlop.toml"), file).unwrap();
        server.run();
        server
    }

    /// Starts the program and waits until it says where it listens.
    fn run(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ORLOP_"))
        {
            command.env_remove(name);
        }
        for (key, value) in &self.settings {
            command.env(format!("ORLOP_{}", key.to_uppercase().replace('.', "_")), value);
        }
        command.envs(self.environment.iter().cloned());
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(self.data.path().join("data"))
            .current_dir(self.data.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (lines, said) = channel();
        self.keep_log(child.stdout.take().unwrap(), lines.clone());
        self.keep_log(child.stderr.take().unwrap(), lines);
        self.child = Some(child);
        self.address = self.wait_for_address(&said);
    }

    fn keep_log(&self, output: impl Read + Send + 'static, lines: Sender<String>) {
        let log = Arc::clone(&self.log);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                log.lines.lock().unwrap().push(line.clone());
                log.written.notify_all();
                // Nobody listens any more once the address is known.
                let _ = lines.send(line);
            }
        });
    }

    fn wait_for_address(&self, said: &Receiver<String>) -> SocketAddr {
        loop {
            let Ok(line) = said.recv_timeout(PATIENCE) else {
                panic!("the server has not said where it listens:\n{}", self.log());
            };
            if let Some(address) = address_in(&line) {
                return address;
            }
        }
    }

    /// Returns everything that the server has written so far.
    pub(crate) fn log(&self) -> String {
        self.log.lines.lock().unwrap().join("\n")
    }

    /// Waits until the server has logged a line with all of these words, such as the end of a request that nobody reads the
    /// answer of.
    #[track_caller]
    pub(crate) fn wait_for_line(&self, words: &[&str]) {
        self.wait_for_lines(1, words);
    }

    /// Waits until the server has logged so many lines with all of these words.
    #[track_caller]
    pub(crate) fn wait_for_lines(&self, count: usize, words: &[&str]) {
        let has_all = |line: &&String| words.iter().all(|word| line.contains(word));
        let is_missing = |lines: &mut Vec<String>| lines.iter().filter(has_all).count() < count;
        let lines = self.log.lines.lock().unwrap();
        let (lines, waited) = self.log.written.wait_timeout_while(lines, PATIENCE, is_missing).unwrap();
        assert!(!waited.timed_out(), "not {count} lines with {words:?}:\n{}", lines.join("\n"));
    }

    /// Ends the server as a service manager does, which has to succeed.
    pub(crate) fn stop(&mut self) {
        let status = self.end(Signal::TERM);
        assert!(status.success(), "after SIGTERM the server ended with {status}:\n{}", self.log());
    }

    /// Ends the server as a crash does.
    pub(crate) fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Changes a configuration key for the next start.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.settings.retain(|(own, _)| own != key);
        self.settings.push((key.to_owned(), value.to_owned()));
    }

    /// Replaces the configuration file; a server that runs reads it again.
    pub(crate) fn configure(&mut self, file: &str) {
        std::fs::write(self.configuration(), file).unwrap();
    }

    /// The configuration file.
    pub(crate) fn configuration(&self) -> std::path::PathBuf {
        self.data.path().join("orlop.toml")
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().expect("the server is running").id()
    }

    /// Asks the server to read its configuration again.
    pub(crate) fn hang_up(&self) {
        let child = self.child.as_ref().expect("the server is running");
        kill_process(Pid::from_child(child), Signal::HUP).unwrap();
    }

    /// Sets an environment variable for the next start.
    pub(crate) fn environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Starts the server again, on the same data and another port.
    pub(crate) fn run_again(&mut self) {
        assert!(self.child.is_none(), "the server is still running");
        self.run();
    }

    fn end(&mut self, signal: Signal) -> ExitStatus {
        let mut child = self.child.take().expect("the server is running");
        let pid = Pid::from_child(&child);
        kill_process(pid, signal).unwrap();
        let (done, ended) = channel::<()>();
        let watchdog = thread::spawn(move || {
            if ended.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let _ = kill_process(pid, Signal::KILL);
            }
        });
        let status = child.wait().unwrap();
        drop(done);
        watchdog.join().unwrap();
        status
    }

    /// Checks every row and every byte of the stopped server's store with the library, and returns what is wrong.
    pub(crate) fn problems(&self) -> Vec<String> {
        let registry = Registry::open(Options::new(self.data())).unwrap();
        let report = registry.verify(Depth::Full).unwrap();
        assert_eq!(report.is_clean(), report.problems.is_empty());
        report.problems
    }

    /// The data directory.
    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.data.path().join("data")
    }

    /// `host:port`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// Begins a request for a path, or for an absolute URL that a reply has given.
    pub(crate) fn request(&self, method: Method, target: &str) -> Request {
        let url = if target.starts_with('/') {
            format!("http://{}{target}", self.address)
        } else {
            target.to_owned()
        };
        Request::new(&self.client, method, &url)
    }

    pub(crate) fn get(&self, target: &str) -> Request {
        self.request(Method::GET, target)
    }

    pub(crate) fn head(&self, target: &str) -> Request {
        self.request(Method::HEAD, target)
    }

    pub(crate) fn post(&self, target: &str) -> Request {
        self.request(Method::POST, target)
    }

    pub(crate) fn put(&self, target: &str) -> Request {
        self.request(Method::PUT, target)
    }

    pub(crate) fn patch(&self, target: &str) -> Request {
        self.request(Method::PATCH, target)
    }

    pub(crate) fn delete(&self, target: &str) -> Request {
        self.request(Method::DELETE, target)
    }

    /// Opens a connection for what no well-behaved client sends.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes as they are, which must ask for the connection to be closed, and reads the answer.
    pub(crate) fn raw(&self, request: &[u8]) -> RawReply {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        RawReply::parse(&answer)
    }
}

impl Drop for Server {
    #[expect(clippy::print_stderr, reason = "a test that fails shows what the server said")]
    fn drop(&mut self) {
        if thread::panicking() {
            if self.child.is_some() {
                self.kill();
            }
            eprintln!("the server's log:\n{}", self.log());
            return;
        }
        if self.child.is_some() {
            self.stop();
        }
        let problems = self.problems();
        assert!(problems.is_empty(), "the store does not verify clean: {problems:#?}\n{}", self.log());
    }
}

/// Finds the bound address in a line of output.
fn address_in(line: &str) -> Option<SocketAddr> {
    let start = line.find("127.0.0.1:")?;
    let end = line[start..]
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':')
        .map_or(line.len(), |n| start + n);
    let address: SocketAddr = line[start..end].trim_end_matches(['.', ':']).parse().ok()?;
    (address.port() != 0).then_some(address)
}

/// Returns the names of the files in a directory, which may be absent.
pub(super) fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
