//! Debian's `docker-registry`: the registry that most others are copies of.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Daemon, find};
use crate::skopeo::Skopeo;
use crate::{Client, Host, Layout};

/// The user whom it and the token service know.
pub(crate) const USER: &str = "anna";

/// The user's password.
pub(crate) const PASSWORD: &str = "open sesame";

/// bcrypt of the password, as `htpasswd -B` makes it.
const HASH: &str = "$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW";

/// A running `docker-registry`.
#[derive(Debug)]
pub(crate) struct DockerRegistry {
    _daemon: Daemon,
    address: SocketAddr,
}

impl DockerRegistry {
    /// Starts it with the store at `folder`, open to everybody.
    pub(crate) fn start_at(folder: &Path) -> DockerRegistry {
        DockerRegistry::start_with(folder, &[])
    }

    /// Starts it with the store at `folder`, and settings from the environment.
    pub(crate) fn start_with(folder: &Path, settings: &[(&'static str, String)]) -> DockerRegistry {
        let config = folder.join("config.yml");
        std::fs::write(
            &config,
            format!(
                "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n",
                folder.join("store").display()
            ),
        )
        .expect("a file can be written");
        let mut command = Command::new(find("docker-registry"));
        command.arg("serve").arg(&config).env("OTEL_TRACES_EXPORTER", "none");
        for (key, value) in settings {
            command.env(key, value);
        }
        let (daemon, line) = Daemon::start("docker-registry", &command, "listening on 127.0.0.1:");
        let (_, address) = line.split_once("listening on ").expect("the line was chosen by it");
        let end =
            address.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit()).unwrap_or(address.len());
        let address = address[..end].parse().unwrap_or_else(|_| panic!("no address in {line:?}"));
        DockerRegistry { _daemon: daemon, address }
    }

    /// The settings of one that lets in only [`USER`] with [`PASSWORD`].
    pub(crate) fn with_passwords(folder: &Path) -> Vec<(&'static str, String)> {
        let passwords = folder.join("htpasswd");
        std::fs::write(&passwords, format!("{USER}:{HASH}\n")).expect("a file can be written");
        vec![
            ("REGISTRY_AUTH_HTPASSWD_REALM", "a realm".to_owned()),
            ("REGISTRY_AUTH_HTPASSWD_PATH", passwords.display().to_string()),
        ]
    }

    /// A store, and in it an image under a name.
    pub(crate) fn store_with(image: &Layout, name: &str) -> TempDir {
        let folder = TempDir::with_prefix("docker-registry-").expect("a temporary folder can be made");
        let registry = DockerRegistry::start_at(folder.path());
        Skopeo::on(Host::new()).push(image, &registry.image(name));
        folder
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it is, as a URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The name of an image in it.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }
}
