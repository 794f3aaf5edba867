//! garage: a store that speaks S3.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Daemon, find, run, try_to_run};

/// The release that tests/all builds.
const VERSION: &str = "2.5.0";

/// The one bucket.
pub(crate) const BUCKET: &str = "backups";

const REGION: &str = "garage";
const KEY: &str = "GK31c2f218a2e44f485b94239e";

/// The key's secret, which nobody may ever read.
pub(crate) const SECRET: &str = "b892c0665f0ada8a4755dae98baa3b133590e11dae3bcc1f9d769d67f16c3835";

/// A running garage with one bucket; its data goes with it.
#[derive(Debug)]
pub(crate) struct Garage {
    daemon: Option<Daemon>,
    address: SocketAddr,
    folder: TempDir,
}

impl Garage {
    /// Starts with an empty bucket.
    pub(crate) fn start() -> Garage {
        let folder = TempDir::with_prefix("garage-").expect("a temporary folder can be made");
        let (address, rpc) = (free(), free());
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "metadata_dir = {:?}\ndata_dir = {:?}\ndb_engine = \"sqlite\"\nreplication_factor = 1\ncompression_level = \"none\"\n\
             rpc_bind_addr = \"{rpc}\"\nrpc_public_addr = \"{rpc}\"\nrpc_secret = \"{}\"\n\
             [s3_api]\ns3_region = \"{REGION}\"\napi_bind_addr = \"{address}\"\n",
            path("meta"),
            path("data"),
            "17".repeat(32),
        );
        std::fs::write(folder.path().join("garage.toml"), config).expect("a file can be written");
        let mut garage = Garage { daemon: None, address, folder };
        garage.start_again();
        garage
    }

    /// Starts it where it was.
    pub(crate) fn start_again(&mut self) {
        let mut command = Command::new(program());
        command
            .arg("-c")
            .arg(self.folder.path().join("garage.toml"))
            .args(["server", "--single-node", "--default-bucket"])
            .env("GARAGE_DEFAULT_ACCESS_KEY", KEY)
            .env("GARAGE_DEFAULT_SECRET_KEY", SECRET)
            .env("GARAGE_DEFAULT_BUCKET", BUCKET)
            .env("RUST_LOG", "garage_api_common=info");
        let (daemon, _) = Daemon::start("garage", &command, "S3 API server listening");
        self.daemon = Some(daemon);
    }

    /// Kills it without warning.
    pub(crate) fn kill(&mut self) {
        self.daemon.take().expect("it runs").kill();
    }

    /// The largest file that it keeps.
    pub(crate) fn largest_file(&self) -> PathBuf {
        let mut folders = vec![self.folder.path().join("data")];
        let mut largest = (0, PathBuf::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("it can be listed").flatten() {
                let data = entry.metadata().expect("it is there");
                if data.is_dir() {
                    folders.push(entry.path());
                } else if data.len() > largest.0 {
                    largest = (data.len(), entry.path());
                }
            }
        }
        largest.1
    }

    /// What says how it is reached, and by which key.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("NO_PROXY", "127.0.0.1".to_owned()),
        ]
    }

    /// Says to a command how it is reached.
    pub(crate) fn settle(&self, command: &mut Command) {
        for (key, value) in self.settings() {
            command.env(key, value);
        }
    }

    fn curl(&self, path: &str) -> Command {
        let mut command = Command::new(find("curl"));
        command
            .args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--aws-sigv4"])
            .arg(format!("aws:amz:{REGION}:s3"))
            .args([
                "--user",
                &format!("{KEY}:{SECRET}"),
                "--header",
                "x-amz-content-sha256: UNSIGNED-PAYLOAD",
            ])
            .arg(format!("http://{}/{BUCKET}{path}", self.address));
        command
    }

    /// The keys of all objects that begin with this.
    pub(crate) fn list(&self, prefix: &str) -> Vec<String> {
        let listed = run(&mut self.curl("?list-type=2"));
        assert!(listed.contains("<IsTruncated>false<"), "{listed}");
        let keys = listed.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
        keys.map(|(key, _)| key.to_owned()).filter(|key| key.starts_with(prefix)).collect()
    }

    /// How many objects are being sent in parts.
    pub(crate) fn uploads(&self) -> usize {
        run(&mut self.curl("?uploads=")).matches("<UploadId>").count()
    }

    /// An object's bytes.
    pub(crate) fn get(&self, key: &str, to: &Path) {
        run(self.curl(&format!("/{key}")).arg("--output").arg(to));
    }

    /// Replaces an object.
    pub(crate) fn put(&self, key: &str, from: &Path) {
        run(self.curl(&format!("/{key}")).arg("--upload-file").arg(from));
    }

    /// Removes an object.
    pub(crate) fn delete(&self, key: &str) {
        run(self.curl(&format!("/{key}")).args(["--request", "DELETE"]));
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port is free")
}

/// The program that tests/all has built.
fn program() -> PathBuf {
    let home = || std::env::var("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var("XDG_CACHE_HOME").map(PathBuf::from).or_else(|_| home()).expect("HOME is set");
    let program = cache.join("orlop-tools/bin/garage");
    let version = try_to_run(Command::new(&program).arg("--version")).unwrap_or_default();
    assert!(version.contains(VERSION), "garage {VERSION} is missing: run tests/all, which builds it");
    program
}
