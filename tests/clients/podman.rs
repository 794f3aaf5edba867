//! podman, which needs no daemon.

use std::process::Command;

use crate::process::run;
use crate::{Client, Host, Layout};

/// podman with a store of its own.
#[derive(Debug)]
pub(crate) struct Podman {
    host: Host,
}

impl Podman {
    /// podman as it is on this host.
    pub(crate) fn on(host: Host) -> Podman {
        Podman { host }
    }

    /// The host that it runs on.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// A `podman` command on this store.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.command("podman");
        command.args(arguments);
        command
    }

    /// Runs a `podman` command that has to succeed.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments))
    }

    /// Pulls, with more options if wanted.
    pub(crate) fn pull(&self, reference: &str, options: &[&str]) -> String {
        let policy = self.host.path("policy.json").display().to_string();
        let pull = ["pull", "--quiet", "--tls-verify=false", "--signature-policy", &policy];
        self.run(&[&pull, options, &[reference]].concat())
    }

    /// What the image's own program prints of a file, with the unpacked image as its root.
    pub(crate) fn read(&self, reference: &str, path: &str) -> String {
        let script = r#"root=$(podman image mount "$1") && chroot "$root" /bin/busybox cat "$2""#;
        run(self.host.command("sh").args(["-c", script, "sh", reference, path]))
    }
}

impl Client for Podman {
    fn name(&self) -> &'static str {
        "podman"
    }

    fn version(&self) -> String {
        self.run(&["version", "--format", "{{.Client.Version}}"])
    }

    fn push(&self, image: &Layout, reference: &str) {
        let id = self.pull(&image.oci(), &[]);
        self.run(&["tag", &id, reference]);
        self.run(&["push", "--quiet", "--tls-verify=false", reference]);
    }

    fn pull_and_read(&self, reference: &str, path: &str) -> String {
        let fresh = Podman::on(Host::new());
        fresh.pull(reference, &[]);
        fresh.read(reference, path)
    }
}
