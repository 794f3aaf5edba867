//! The server under test: the real binary, as a user starts it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use orlop::registry::{Depth, Options, Registry};
use tempfile::TempDir;

use crate::process::Daemon;

/// A running server; on drop it is shut down as a service manager does it, and its store has to verify clean.
#[derive(Debug)]
pub(crate) struct Server {
    daemon: Daemon,
    address: SocketAddr,
    data: PathBuf,
    arguments: Vec<String>,
    settings: Vec<(&'static str, String)>,
    folder: Option<TempDir>,
}

impl Server {
    /// Starts with an empty store.
    pub(crate) fn start() -> Server {
        let folder = TempDir::with_prefix("orlop-server-").expect("a temporary folder can be made");
        let data = folder.path().join("data");
        let mut server = Server::start_at(&data, &[]);
        server.folder = Some(folder);
        server
    }

    /// Starts with the store at `data`, and settings from the environment.
    pub(crate) fn start_at(data: &Path, settings: &[(&'static str, &str)]) -> Server {
        let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        Server::start_by(data, Vec::new(), settings)
    }

    /// Starts with the store at `data` where another server has listened.
    pub(crate) fn start_in_place_of(former: SocketAddr, data: &Path) -> Server {
        let (daemon, address) = spawn(data, &former.to_string(), &[], &[]);
        let (arguments, settings) = (Vec::new(), Vec::new());
        Server { daemon, address, data: data.to_owned(), arguments, settings, folder: None }
    }

    /// Starts with an empty store, this configuration file, and more arguments.
    pub(crate) fn start_configured(configuration: &str, arguments: &[&str]) -> Server {
        let folder = TempDir::with_prefix("orlop-server-").expect("a temporary folder can be made");
        let file = folder.path().join("orlop.toml");
        std::fs::write(&file, configuration).expect("a file can be written");
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let settings = vec![("ORLOP_CONFIG", file.display().to_string())];
        let mut server = Server::start_by(&folder.path().join("data"), arguments, settings);
        server.folder = Some(folder);
        server
    }

    fn start_by(data: &Path, arguments: Vec<String>, settings: Vec<(&'static str, String)>) -> Server {
        let (daemon, address) = spawn(data, "127.0.0.1:0", &arguments, &settings);
        Server { daemon, address, data: data.to_owned(), arguments, settings, folder: None }
    }

    /// Where it listens, as `host:port`.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its data is.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The name of an image in this registry.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// The address of something below `/v2/`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/v2/{path}", self.address)
    }

    /// Kills the server without warning and starts it again on the same store, at another port.
    pub(crate) fn kill_and_restart(&mut self) {
        self.daemon.kill();
        (self.daemon, self.address) = spawn(&self.data, "127.0.0.1:0", &self.arguments, &self.settings);
    }

    /// The same at the port where clients know it to be.
    pub(crate) fn kill_and_restart_there(&mut self) {
        self.daemon.kill();
        let address = self.address.to_string();
        (self.daemon, self.address) = spawn(&self.data, &address, &self.arguments, &self.settings);
    }

    /// The last lines of its log.
    pub(crate) fn log(&self) -> String {
        self.daemon.log()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let status = self.daemon.terminate();
        if std::thread::panicking() {
            return;
        }
        assert!(status.success(), "the server ends with {status} after SIGTERM:\n{}", self.daemon.log());
        let registry = Registry::open(Options::new(&self.data)).expect("the store opens");
        let report = registry.verify(Depth::Full).expect("the store can be read");
        assert!(report.is_clean(), "the store does not verify: {:#?}", report.problems);
    }
}

fn spawn(
    data: &Path,
    listen: &str,
    arguments: &[String],
    settings: &[(&'static str, String)],
) -> (Daemon, SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    // The configuration of whoever runs the tests is not what they test.
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("ORLOP_") {
            command.env_remove(key);
        }
    }
    command.args(["serve", "--listen", listen, "--data"]).arg(data).args(arguments);
    // Upstreams are on this machine.
    command.env("NO_PROXY", "127.0.0.1");
    for (key, value) in settings {
        command.env(key, value);
    }
    let (daemon, line) = Daemon::start("orlop", &command, "Listening on http://");
    let (_, address) = line.split_once("http://").expect("the line was chosen by it");
    let address = address.split_whitespace().next().unwrap_or_default();
    let address = address.parse().unwrap_or_else(|_| panic!("no address in {line:?}"));
    (daemon, address)
}
