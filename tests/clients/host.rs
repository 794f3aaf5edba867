//! A machine of its own for one client, as far as the client can tell.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process;

/// The folders that clients use whatever they are told, and that are covered with empty ones of the host's own.
const PRIVATE: &[&str] = &["/var/lib/containers", "/run/containers", "/run/containerd"];

/// A home, a configuration and stores below one temporary folder.
///
/// Every command runs in a mount namespace of its own: caches of former runs (containers/image remembers which registry
/// has which blob) can't change what is sent, and mounts that a client makes end with its process.
#[derive(Debug)]
pub(crate) struct Host {
    folder: TempDir,
}

impl Host {
    /// An empty host.
    pub(crate) fn new() -> Host {
        assert!(
            rustix::process::geteuid().is_root(),
            "the client tests need root: they start dockerd and containerd and make mounts"
        );
        let folder = TempDir::with_prefix("orlop-client-").expect("a temporary folder can be made");
        let host = Host { folder };
        for private in PRIVATE {
            std::fs::create_dir_all(host.private(private)).expect("a folder can be made");
        }
        std::fs::create_dir_all(host.path("home")).expect("a folder can be made");
        host.write("auth.json", "{}");
        host.write("policy.json", r#"{"default": [{"type": "insecureAcceptAnything"}]}"#);
        host.use_storage("vfs", "");
        host.use_registries("");
        host
    }

    /// A path on this host.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file on this host.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a file can be written");
        path
    }

    /// Sets the storage driver of podman and buildah, with more lines for `storage.conf`.
    pub(crate) fn use_storage(&self, driver: &str, more: &str) {
        let root = self.path("storage");
        self.use_storage_at(driver, &root, more);
    }

    /// As [`Host::use_storage`], with the images elsewhere.
    pub(crate) fn use_storage_at(&self, driver: &str, root: &Path, more: &str) {
        let (root, run) = (root.display(), self.path("run"));
        self.write(
            "storage.conf",
            &format!(
                "[storage]\ndriver = \"{driver}\"\ngraphroot = \"{root}\"\nrunroot = \"{}\"\n{more}\n",
                run.display()
            ),
        );
    }

    /// Sets `registries.conf` of podman, buildah and skopeo.
    pub(crate) fn use_registries(&self, text: &str) {
        self.write("registries.conf", text);
    }

    /// A command that sees this host's folders only.
    pub(crate) fn command(&self, program: &str) -> Command {
        let bind = |private: &&str| {
            format!("mkdir -p {private} && mount --bind {} {private} && ", self.private(private).display())
        };
        let binds: Vec<String> = PRIVATE.iter().map(bind).collect();
        let mut command = Command::new(process::find("unshare"));
        command.args(["--mount", "--", "/bin/sh", "-c", &format!("{}exec \"$0\" \"$@\"", binds.concat())]);
        command.arg(process::find(program));
        command
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("home"))
            .env("REGISTRY_AUTH_FILE", self.path("auth.json"))
            .env("CONTAINERS_STORAGE_CONF", self.path("storage.conf"))
            .env("CONTAINERS_REGISTRIES_CONF", self.path("registries.conf"))
            .env("DOCKER_CONFIG", self.path("home"))
            .env("NO_PROXY", "127.0.0.1")
            .env_remove("DOCKER_HOST")
            .env_remove("CONTAINER_HOST");
        command
    }

    fn private(&self, folder: &str) -> PathBuf {
        self.folder.path().join(folder.trim_start_matches('/').replace('/', "-"))
    }
}
