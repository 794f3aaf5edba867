//! Programs that a test starts, and their certain end.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal};

/// How long any one step of a client may take; the slowest takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(180);

/// The Debian package that each program comes from.
const PACKAGES: &[(&str, &str)] = &[
    ("age", "age"),
    ("age-keygen", "age"),
    ("bash", "bash"),
    ("buildah", "buildah"),
    ("busybox", "busybox-static"),
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("crun", "crun"),
    ("docker", "docker.io"),
    ("docker-registry", "docker-registry"),
    ("dockerd", "docker.io"),
    ("groff", "groff-base"),
    ("gzip", "gzip"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mount", "mount"),
    ("nginx", "nginx"),
    ("podman", "podman"),
    ("setpriv", "util-linux"),
    ("sha256sum", "coreutils"),
    ("sha512sum", "coreutils"),
    ("skopeo", "skopeo"),
    ("tar", "tar"),
    ("unshare", "util-linux"),
];

/// The absolute path of a program, or a failure that says which package brings it.
pub(crate) fn find(program: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"]);
    if let Some(found) = folders.map(|folder| PathBuf::from(folder).join(program)).find(|file| file.is_file())
    {
        return found;
    }
    let package = PACKAGES.iter().find(|(name, _)| *name == program).map_or(program, |(_, package)| package);
    panic!("`{program}` is missing: install Debian's package `{package}`, or run tests/all, which does");
}

/// Runs to the end and returns what was printed; panics with all of it when the command fails or takes too long.
pub(crate) fn run(command: &mut Command) -> String {
    let (line, output) = finish(command);
    assert!(
        output.status.success(),
        "{line}\nended with {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Runs to the end and returns what was printed, or everything that was where the command fails.
pub(crate) fn try_to_run(command: &mut Command) -> Result<String, String> {
    let (line, output) = finish(command);
    let [said, complained] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    if output.status.success() {
        Ok(said.trim_end().to_owned())
    } else {
        Err(format!("{line}\n{said}{complained}"))
    }
}

/// Runs to the end and returns everything that was printed; panics when the command succeeds.
pub(crate) fn run_to_failure(command: &mut Command) -> String {
    let (line, output) = finish(command);
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success(), "{line}\nwas expected to fail and did not:\n{text}");
    text
}

/// Runs to the end, whichever end it is, and returns what was printed on both outputs.
pub(crate) fn run_verbosely(command: &mut Command) -> String {
    let (line, output) = finish(command);
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{line}\nended with {}\n{text}", output.status);
    text
}

fn finish(command: &mut Command) -> (String, Output) {
    let line = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
    let pid = pid_of(&child);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    if let Ok(output) = receiver.recv_timeout(PATIENCE) {
        return (line, output.expect("a started child can be waited for"));
    }
    signal_group(pid, Signal::KILL);
    panic!("{line}\ntook longer than {PATIENCE:?}");
}

/// A program that runs beside the test and is ended, with everything that it started, when the guard goes.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: &'static str,
    pid: Pid,
    log: Arc<Mutex<Vec<String>>>,
    ended: Receiver<ExitStatus>,
    status: Option<ExitStatus>,
}

impl Daemon {
    /// Starts the command and waits until it prints a line with `ready` in it; returns that line too.
    ///
    /// The kernel ends the program as well when the thread that started it goes, so that a killed test run leaves no
    /// daemon behind. Standard input is a pipe that closes with the guard.
    pub(crate) fn start(name: &'static str, command: &Command, ready: &str) -> (Daemon, String) {
        let (reader, writer) = std::io::pipe().expect("a pipe can be made");
        let mut wrapped = Command::new(find("setpriv"));
        wrapped
            .current_dir("/")
            .args(["--pdeathsig", "TERM", "--"])
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(key, value),
                None => wrapped.env_remove(key),
            };
        }
        wrapped.stdout(writer.try_clone().expect("a pipe can be shared")).stderr(writer);
        let mut child = wrapped
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        drop(wrapped);

        let pid = pid_of(&child);
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        let (announce, announced) = mpsc::channel();
        let ready = ready.to_owned();
        thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if line.contains(&ready) {
                    let _ = announce.send(line.clone());
                }
                lines.lock().expect("no reader of the log panics").push(line);
            }
        });
        let (end, ended) = mpsc::channel();
        thread::spawn(move || {
            if let Ok(status) = child.wait() {
                let _ = end.send(status);
            }
        });
        let daemon = Daemon { name, pid, log, ended, status: None };
        if let Ok(line) = announced.recv_timeout(Duration::from_secs(60)) {
            return (daemon, line);
        }
        panic!("{name} does not get ready; it says:\n{}", daemon.log());
    }

    /// The last lines that the program printed.
    pub(crate) fn log(&self) -> String {
        let lines = self.log.lock().expect("no reader of the log panics");
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// The process id, which is also its group's.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Asks the program to end, and tells how it did.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.end_with(Signal::TERM)
    }

    /// Kills the program with no chance to tidy up.
    pub(crate) fn kill(&mut self) -> ExitStatus {
        self.end_with(Signal::KILL)
    }

    fn end_with(&mut self, signal: Signal) -> ExitStatus {
        if let Some(status) = self.status {
            return status;
        }
        signal_group(self.pid, signal);
        let status = self.ended.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| {
            signal_group(self.pid, Signal::KILL);
            self.ended.recv().expect("a killed process ends")
        });
        // What the program itself left running in its group.
        signal_group(self.pid, Signal::KILL);
        self.status = Some(status);
        status
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.terminate();
        if thread::panicking() {
            say(&format!("---- {} said\n{}", self.name, self.log()));
        }
    }
}

fn pid_of(child: &Child) -> Pid {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id fits")
}

fn signal_group(pid: Pid, signal: Signal) {
    // The group may be gone already, which is what was wanted.
    let _ = rustix::process::kill_process_group(pid, signal);
}

/// Shows a line to whoever watches the run: the test harness keeps only what the print macros write.
pub(crate) fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
