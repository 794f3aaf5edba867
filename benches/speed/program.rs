//! The servers that are measured, each a process with a folder of its own, and what they use of the machine.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::processors::{Processors, cpu_in};
use crate::setting::{Peer, Setting};

/// A server; one that was started here ends, and its data goes, with this value.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    address: SocketAddr,
    process: Option<Child>,
    folder: Option<TempDir>,
}

impl Program {
    /// Orlop with fresh data, on these processors.
    pub(crate) fn orlop(setting: &Setting, on: &Processors) -> Program {
        let folder = setting.folder();
        let data = folder.path().join("data");
        let mut orlop = Program::orlop_at(&data, &[], on);
        orlop.folder = Some(folder);
        orlop
    }

    /// Orlop with the data at `data` and more arguments of `orlop serve`.
    pub(crate) fn orlop_at(data: &Path, arguments: &[&str], on: &Processors) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--log-level", "warn", "--set", "log.audit=off"]);
        command.args(arguments).arg("--data").arg(data).stdout(Stdio::piped());
        let mut child = start(&mut command, on);
        let address = address_in(child.stdout.take().expect("it was piped"), "Listening on ");
        Program { name: "orlop".to_owned(), address, process: Some(child), folder: None }
    }

    /// Debian's registry with fresh data.
    pub(crate) fn docker_registry(setting: &Setting, on: &Processors) -> Program {
        let folder = setting.folder();
        let config = folder.path().join("config.yml");
        let settings = format!(
            "version: 0.1\nlog:\n  level: info\n  accesslog:\n    disabled: true\nstorage:\n  cache:\n    blobdescriptor: inmemory\n  \
             delete:\n    enabled: true\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n",
            folder.path().join("store").display()
        );
        fs::write(&config, settings).expect("a file can be written");
        let mut command = Command::new(installed("docker-registry", "docker-registry"));
        command.arg("serve").arg(config).env("OTEL_TRACES_EXPORTER", "none").stderr(Stdio::piped());
        let mut child = start(&mut command, on);
        let address = address_in(child.stderr.take().expect("it was piped"), "listening on ");
        Program { name: "docker-registry".to_owned(), address, process: Some(child), folder: Some(folder) }
    }

    /// nginx with sendfile, serving the files below `files`; over TLS with the certificate and key that are given.
    pub(crate) fn nginx(
        setting: &Setting,
        files: &Path,
        tls: Option<(&Path, &Path)>,
        on: &Processors,
    ) -> Program {
        let folder = setting.folder();
        let probe = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = probe.expect("a port is free");
        let (root, own) = (files.display(), folder.path().display());
        let (ssl, keys) = match tls {
            None => ("", String::new()),
            Some((certificate, key)) => (
                " ssl",
                format!(
                    "ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3;",
                    certificate.display(),
                    key.display()
                ),
            ),
        };
        let settings = format!(
            "daemon off; user root; worker_processes {workers}; pid {own}/nginx.pid; error_log stderr warn;\n\
             events {{ worker_connections 2048; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; {keys}\n\
             client_body_temp_path {own}/body; proxy_temp_path {own}/proxy; fastcgi_temp_path {own}/fastcgi;\n\
             uwsgi_temp_path {own}/uwsgi; scgi_temp_path {own}/scgi;\n\
             server {{ listen {address}{ssl}; root {root}; }} }}\n",
            workers = on.len(),
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, settings).expect("a file can be written");
        let mut command = Command::new(installed("nginx", "nginx-light"));
        let child = start(command.arg("-c").arg(&file), on);
        while TcpStream::connect(address).is_err() {
            std::thread::yield_now();
        }
        Program { name: "nginx".to_owned(), address, process: Some(child), folder: Some(folder) }
    }

    /// This program itself as another server: its first arguments are `arguments`, and it prints `Listening on ADDRESS`.
    pub(crate) fn own(name: &str, arguments: &[&str], on: &Processors) -> Program {
        let program = std::env::current_exe().expect("this program is a file");
        let mut command = Command::new(program);
        let mut child = start(command.args(arguments).stdout(Stdio::piped()), on);
        let address = address_in(child.stdout.take().expect("it was piped"), "Listening on ");
        Program { name: name.to_owned(), address, process: Some(child), folder: None }
    }

    /// A registry that runs already.
    pub(crate) fn peer(peer: &Peer) -> Program {
        let address = peer.authority.to_socket_addrs().ok().and_then(|mut found| found.next());
        let address = address.unwrap_or_else(|| panic!("--peer: nothing is at {}", peer.authority));
        Program { name: peer.name.clone(), address, process: None, folder: None }
    }

    /// What the report calls it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The folder that it has been given, where that is its own.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.path().to_owned())
    }

    /// Processor time so far in nanoseconds, of its children too, but of no thread that has ended.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        self.process.as_ref()?;
        Some(self.processes().iter().map(|process| cpu_of_tasks(process)).sum())
    }

    /// Its process and that one's children, where it runs here.
    pub(crate) fn processes(&self) -> Vec<String> {
        let Some(own) = self.process.as_ref().map(Child::id) else { return Vec::new() };
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        let children = children.split_whitespace().map(ToOwned::to_owned);
        std::iter::once(own.to_string()).chain(children).collect()
    }

    /// Processor time so far in hundredths of a second, of the threads too that have ended.
    pub(crate) fn cpu_of_all_threads(&self) -> Option<Duration> {
        let own = self.process.as_ref()?.id();
        let stat = fs::read_to_string(format!("/proc/{own}/stat")).expect("it runs");
        // The name in parentheses may hold anything; after it, user and system time are the 12th and 13th fields.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
        Some(Duration::from_millis(ticks * 10))
    }

    /// Bytes in memory now.
    pub(crate) fn memory(&self) -> Option<u64> {
        self.status("VmRSS:")
    }

    /// The most bytes that were in memory since [`Program::forget_peak`].
    pub(crate) fn peak_memory(&self) -> Option<u64> {
        self.status("VmHWM:")
    }

    /// Lets the peak begin anew.
    pub(crate) fn forget_peak(&self) {
        if let Some(process) = &self.process {
            let _ = fs::write(format!("/proc/{}/clear_refs", process.id()), "5");
        }
    }

    /// Ends it without a warning, as a crash does; its data stay.
    pub(crate) fn kill(mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it runs");
            process.wait().expect("it ends");
        }
    }

    fn status(&self, name: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.as_ref()?.id())).ok()?;
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(value.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
            let _ = rustix::process::kill_process(pid.expect("a process id fits"), Signal::TERM);
            let _ = process.wait();
        }
    }
}

/// Where a program of Debian's is.
pub(crate) fn installed(program: &str, package: &str) -> PathBuf {
    let places = ["/usr/bin", "/usr/sbin"].map(|place| Path::new(place).join(program));
    let found = places.into_iter().find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{program} is missing: install Debian's package {package}"))
}

/// Starts a process on these processors: it has them from the thread that starts it.
fn start(command: &mut Command, on: &Processors) -> Child {
    command.env("NO_PROXY", "127.0.0.1").stdin(Stdio::null());
    let started = on.during(|| command.spawn());
    started.unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// The address that a program says it listens on; what it says afterwards is read and thrown away.
fn address_in(output: impl Read + Send + 'static, before: &str) -> SocketAddr {
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains(before)).expect("the program says where it listens");
    std::thread::spawn(move || lines.for_each(drop));
    let (_, rest) = line.split_once(before).expect("the line was chosen by it");
    let rest = rest.trim_start_matches("http://").trim_start_matches("https://");
    let end = rest.find(|c: char| !".:".contains(c) && !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().unwrap_or_else(|_| panic!("no address in {line:?}"))
}

fn cpu_of_tasks(process: &str) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().filter_map(Result::ok);
    tasks.map(|task| cpu_in(&task.path().join("schedstat"))).sum()
}
