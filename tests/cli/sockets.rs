//! Unix sockets, several places at once, and what systemd passes on.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{failure, orlop, tempdir};

/// A server that has said its greeting, up to a line that contains `part`.
struct Listening(Child);

impl Listening {
    fn start(command: &mut Command, part: &str) -> Listening {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let found = lines.any(|line| line.contains(part));
        let server = Listening(child);
        assert!(found, "no line with {part}");
        server
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask(mut stream: impl Read + Write) -> String {
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn serve(directory: &Path, listen: &str) -> Command {
    let mut command = orlop(directory);
    command.args(["serve", "--listen", listen]);
    command
}

#[test]
fn a_unix_socket_is_served_with_its_mode_and_goes_with_the_server() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("o.sock");
    let listen = format!("unix:{}", path.display());
    // As a crash leaves it.
    drop(UnixListener::bind(&path).unwrap());
    for (mode, bits) in [("0660", 0o660), ("0600", 0o600)] {
        let mut command = serve(directory.path(), &listen);
        let server = Listening::start(command.args(["--set", &format!("listen_mode={mode}")]), &listen);
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, bits);
        assert!(ask(UnixStream::connect(&path).unwrap()).starts_with("HTTP/1.1 200 "));
        let message = failure(directory.path(), &["serve", "--data", "other", "--listen", &listen]);
        assert!(message.contains("another program listens on it"), "{message}");
        assert!(ask(UnixStream::connect(&path).unwrap()).starts_with("HTTP/1.1 200 "), "it is still there");
        server.stop();
        assert!(!path.exists());
    }
    fs::write(&path, "somebody's").unwrap();
    let message = failure(directory.path(), &["serve", "--listen", &listen]);
    assert!(message.contains("isn't a socket") && message.contains("--listen unix:"), "{message}");
    assert_eq!(fs::read(&path).unwrap(), b"somebody's");
}

#[test]
fn several_places_are_served_at_once() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("o.sock");
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let file = format!("listen = [\"{address}\", \"unix:{}\"]\n", path.display());
    fs::write(directory.path().join("orlop.toml"), file).unwrap();
    let server = Listening::start(orlop(directory.path()).arg("serve"), "unix:");
    assert!(ask(UnixStream::connect(&path).unwrap()).starts_with("HTTP/1.1 200 "));
    assert!(ask(TcpStream::connect(address).unwrap()).starts_with("HTTP/1.1 200 "));
    server.stop();
}

/// Starts the program with a socket as systemd passes it on: as the file 3, told of by its process id.
fn passed(directory: &Path, socket: impl Into<OwnedFd>) -> Command {
    let mut command = Command::new("/bin/sh");
    let line = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve --listen systemd";
    command.args(["-c", line, env!("CARGO_BIN_EXE_orlop")]).current_dir(directory);
    command.stdin(Stdio::from(socket.into()));
    command
}

#[test]
fn what_systemd_passes_on_is_served_and_systemd_is_told() {
    let directory = tempdir().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let notified = directory.path().join("notify");
    let manager = UnixDatagram::bind(&notified).unwrap();
    let mut command = passed(directory.path(), tcp);
    let server = Listening::start(command.env("NOTIFY_SOCKET", &notified), &address.to_string());
    let told = || {
        let mut bytes = [0; 64];
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    assert_eq!(told(), "READY=1");
    assert!(ask(TcpStream::connect(address).unwrap()).starts_with("HTTP/1.1 200 "));
    server.stop();
    assert_eq!(told(), "STOPPING=1");

    let path = directory.path().join("passed.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let server = Listening::start(&mut passed(directory.path(), unix), "passed.sock");
    assert!(ask(UnixStream::connect(&path).unwrap()).starts_with("HTTP/1.1 200 "));
    server.stop();
    assert!(path.exists(), "it is systemd's");

    let everywhere = passed(directory.path(), UnixDatagram::unbound().unwrap()).output().unwrap();
    let message = String::from_utf8_lossy(&everywhere.stderr).into_owned();
    assert!(!everywhere.status.success() && message.contains("ListenStream"), "{message}");
    let message = failure(directory.path(), &["serve", "--listen", "systemd"]);
    assert!(message.contains("has passed no socket on"), "{message}");
}
