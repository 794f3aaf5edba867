//! The servers, each with a folder of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

/// A server that ends, and whose data goes, with this value.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Program {
    /// This program as a cache of the upstream, with nothing in it.
    pub(crate) fn orlop(upstream: SocketAddr) -> Program {
        let folder = folder();
        let config = folder.path().join("orlop.toml");
        let settings = format!("[[upstream]]\nhost = \"docker.io\"\nurl = \"http://{upstream}\"\n");
        fs::write(&config, settings).expect("a file can be written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--log-level", "warn", "--config"]).arg(config);
        command.arg("--data").arg(folder.path().join("data")).stdout(Stdio::piped());
        let mut child = start(&mut command);
        let output = child.stdout.take().expect("it was piped");
        let address = address_in(output, "Listening on http://");
        Program { child, address, folder }
    }

    /// Debian's registry, with nothing in it.
    pub(crate) fn docker_registry() -> Program {
        Program::docker_registry_with("")
    }

    /// Debian's registry as a cache of the upstream, with nothing in it.
    pub(crate) fn docker_registry_proxy(upstream: SocketAddr) -> Program {
        Program::docker_registry_with(&format!("proxy:\n  remoteurl: http://{upstream}\n"))
    }

    fn docker_registry_with(more: &str) -> Program {
        let folder = folder();
        let config = folder.path().join("config.yml");
        let store = folder.path().join("store");
        let settings = format!(
            "version: 0.1\nlog:\n  level: info\n  accesslog:\n    disabled: true\nstorage:\n  cache:\n    blobdescriptor: inmemory\n  \
             filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n{more}",
            store.display()
        );
        fs::write(&config, settings).expect("a file can be written");
        let program = ["/usr/bin/docker-registry", "/usr/sbin/docker-registry"];
        let program = program.into_iter().find(|path| Path::new(path).exists());
        let program = program.expect("docker-registry is missing: install Debian's package docker-registry");
        let mut command = Command::new(program);
        command.arg("serve").arg(config).env("OTEL_TRACES_EXPORTER", "none").stderr(Stdio::piped());
        let mut child = start(&mut command);
        let output = child.stderr.take().expect("it was piped");
        let address = address_in(output, "listening on ");
        Program { child, address, folder }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether its folder has a file with this in its path: a cache may store what it has passed on a little later.
    pub(crate) fn has_file(&self, part: &str) -> bool {
        fn look(folder: &Path, part: &str) -> bool {
            let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
            let mut paths = entries.map(|entry| entry.path());
            paths.any(
                |path| {
                    if path.is_dir() { look(&path, part) } else { path.to_string_lossy().contains(part) }
                },
            )
        }
        look(self.folder.path(), part)
    }

    /// How many bytes it has written, to sockets above all: a registry that is only pulled from writes to no files.
    pub(crate) fn written_bytes(&self) -> u64 {
        let counts = fs::read_to_string(format!("/proc/{}/io", self.child.id())).expect("it runs");
        number_after(&counts, "wchar:")
    }

    /// The most KiB of memory that it ever had.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        number_after(&status, "VmHWM:")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id fits");
        let _ = rustix::process::kill_process(pid, Signal::TERM);
        let _ = self.child.wait();
    }
}

fn folder() -> TempDir {
    TempDir::with_prefix("orlop-bench-").expect("a temporary folder can be made")
}

fn start(command: &mut Command) -> Child {
    command.env("NO_PROXY", "127.0.0.1").stdin(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// The address that a program says it listens on; what it says afterwards is read and thrown away.
fn address_in(output: impl std::io::Read + Send + 'static, before: &str) -> SocketAddr {
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains(before)).expect("the program says where it listens");
    thread::spawn(move || lines.for_each(drop));
    let (_, rest) = line.split_once(before).expect("the line was chosen by it");
    let end = rest.find(|c: char| !".:".contains(c) && !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().unwrap_or_else(|_| panic!("no address in {line:?}"))
}

fn number_after(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
