//! buildah, which builds images and pushes what it built.

use std::process::Command;

use crate::process::{run, try_to_run};
use crate::{Client, Host, Layout};

/// buildah with a store of its own.
#[derive(Debug)]
pub(crate) struct Buildah {
    host: Host,
}

impl Buildah {
    /// buildah as it is on this host.
    pub(crate) fn on(host: Host) -> Buildah {
        Buildah { host }
    }

    /// A `buildah` command on this store.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.command("buildah");
        command.args(arguments);
        command
    }

    /// Runs a `buildah` command that has to succeed.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments))
    }

    /// Builds an image on top of the layout's, with one file more, and pushes it in the given format as it is committed.
    pub(crate) fn build_and_push(&self, image: &Layout, format: &str, reference: &str) {
        let container = self.from(&image.oci());
        let built = self.host.write("built", "by buildah");
        self.run(&["copy", "--quiet", &container, &built.display().to_string(), "/etc/built"]);
        let to = format!("docker://{reference}");
        self.run(&["commit", "--quiet", "--tls-verify=false", "--format", format, &container, &to]);
    }

    fn from(&self, source: &str) -> String {
        self.try_from(source, &[]).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A container of an image, with more options if wanted; or why there is none.
    pub(crate) fn try_from(&self, source: &str, options: &[&str]) -> Result<String, String> {
        let policy = self.host.path("policy.json").display().to_string();
        let from = ["from", "--quiet", "--tls-verify=false", "--pull-always", "--signature-policy", &policy];
        try_to_run(&mut self.command(&[&from[..], options, &[source]].concat()))
    }
}

impl Client for Buildah {
    fn name(&self) -> &'static str {
        "buildah"
    }

    fn version(&self) -> String {
        let line = self.run(&["--version"]);
        line.split(' ').nth(2).unwrap_or_default().to_owned()
    }

    fn push(&self, image: &Layout, reference: &str) {
        self.build_and_push(image, "oci", reference);
    }

    fn pull_and_read(&self, reference: &str, path: &str) -> String {
        let fresh = Buildah::on(Host::new());
        let container = fresh.from(reference);
        fresh.run(&["run", "--isolation", "chroot", &container, "/bin/busybox", "cat", path])
    }
}
