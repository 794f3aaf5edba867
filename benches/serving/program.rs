//! The programs that are measured, and what they use of the processor.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

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

    /// nginx with sendfile, serving the files below `files`; its own below `folder`.
    pub(crate) fn nginx(files: &Path, folder: &Path) -> Program {
        let probe = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = probe.expect("a port is free");
        let (root, own) = (files.display(), folder.display());
        let settings = format!(
            "daemon off; user root; worker_processes 2; pid {own}/nginx.pid; error_log stderr warn;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000;\n\
             client_body_temp_path {own}/body; proxy_temp_path {own}/proxy; fastcgi_temp_path {own}/fastcgi;\n\
             uwsgi_temp_path {own}/uwsgi; scgi_temp_path {own}/scgi;\n\
             server {{ listen {address}; root {root}; }} }}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, settings).expect("a file can be written");
        let program = ["/usr/sbin/nginx", "/usr/bin/nginx"].into_iter().find(|path| Path::new(path).exists());
        let child = Command::new(program.expect("nginx is missing: install Debian's package nginx-light"))
            .arg("-c")
            .arg(&file)
            .spawn()
            .expect("nginx starts");
        while TcpStream::connect(address).is_err() {
            std::thread::yield_now();
        }
        Program { child, address }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Processor time so far in hundredths of a second, of the threads too that have ended.
    pub(crate) fn cpu_of_all_threads(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        // The name in parentheses may hold anything; after it, user and system time are the 12th and 13th fields.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Processor time so far in nanoseconds, of its children too, but of no thread that has ended.
    pub(crate) fn cpu(&self) -> Duration {
        let mut processes = vec![self.child.id().to_string()];
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        let children = fs::read_to_string(children).unwrap_or_default();
        processes.extend(children.split_whitespace().map(ToOwned::to_owned));
        processes.iter().map(|process| cpu_of_tasks(&format!("/proc/{process}/task"))).sum()
    }

    /// Lines of `/proc/PID/status` in KiB: what is in memory, and the most that ever was.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            value.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap_or(0)
        };
        (line("VmRSS"), line("VmHWM"))
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

fn cpu_of_tasks(folder: &str) -> Duration {
    let tasks = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    tasks.map(|task| cpu_of(&task.path().join("schedstat"))).sum()
}

/// Processor time of the calling thread.
pub(crate) fn cpu_of_this_thread() -> Duration {
    cpu_of(Path::new("/proc/thread-self/schedstat"))
}

fn cpu_of(schedstat: &Path) -> Duration {
    let text = fs::read_to_string(schedstat).unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0))
}
