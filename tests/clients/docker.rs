//! The Docker daemon and its command line.

use std::process::Command;

use serde_json::{Value, json};

use crate::process::{Daemon, run, run_to_failure};
use crate::{Client, Host, Layout};

/// A Docker daemon of its own, and the `docker` command that talks to it.
#[derive(Debug)]
pub(crate) struct Docker {
    _daemon: Daemon,
    loader: Host,
    host: Host,
}

impl Docker {
    /// Starts `dockerd` without network set-up, asking the given mirrors for every image of Docker Hub.
    pub(crate) fn start(mirrors: &[&str]) -> Docker {
        let settings = json!({ "insecure-registries": ["127.0.0.0/8"], "registry-mirrors": mirrors });
        Docker::start_with(&settings, &[])
    }

    /// Starts `dockerd` with these settings and flags, and those that keep it to itself.
    pub(crate) fn start_with(settings: &Value, flags: &[&str]) -> Docker {
        let host = Host::new();
        let socket = format!("unix://{}", host.path("docker.sock").display());
        let mut own = json!({
            "storage-driver": "vfs",
            "iptables": false,
            "ip6tables": false,
            "bridge": "none",
            "data-root": host.path("docker"),
            "exec-root": host.path("docker-run"),
            "pidfile": host.path("docker.pid"),
            "hosts": [socket],
        });
        for (key, value) in settings.as_object().expect("settings are an object") {
            own[key] = value.clone();
        }
        let file = host.write("daemon.json", &own.to_string());
        let mut command = host.command("dockerd");
        command.arg("--config-file").arg(file).args(flags);
        let (daemon, _) = Daemon::start("dockerd", &command, "API listen on");
        Docker { _daemon: daemon, loader: Host::new(), host }
    }

    /// A `docker` command that talks to this daemon.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.command("docker");
        command.env("DOCKER_HOST", format!("unix://{}", self.host.path("docker.sock").display()));
        command.args(arguments);
        command
    }

    /// Runs a `docker` command that has to succeed.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments))
    }

    /// Takes the image out of the layout into the daemon's store, under the given name.
    pub(crate) fn load(&self, image: &Layout, reference: &str) {
        let archive = self.loader.path("image.tar");
        let _ = std::fs::remove_file(&archive);
        let to = format!("docker-archive:{}:{reference}", archive.display());
        run(self.loader.command("skopeo").args(["copy", "--quiet", &image.oci(), &to]));
        run(self.command(&["load", "--quiet", "--input"]).arg(archive));
    }

    /// Forgets every image and layer.
    pub(crate) fn forget_images(&self) {
        let images = self.run(&["images", "--quiet", "--all"]);
        let images: Vec<&str> = images.lines().collect();
        if !images.is_empty() {
            self.run(&[&["rmi", "--force"], images.as_slice()].concat());
        }
    }

    /// Runs the image's own program in a container.
    pub(crate) fn run_in_container(&self, reference: &str, program: &[&str]) -> String {
        self.run(&[&["run", "--rm", "--net=host", reference], program].concat())
    }

    /// Pushes, and returns why that failed.
    pub(crate) fn fail_to_push(&self, reference: &str) -> String {
        run_to_failure(&mut self.command(&["push", reference]))
    }

    /// Pulls, and returns why that failed.
    pub(crate) fn fail_to_pull(&self, reference: &str) -> String {
        run_to_failure(&mut self.command(&["pull", "--quiet", reference]))
    }
}

impl Client for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn version(&self) -> String {
        self.run(&["version", "--format", "{{.Server.Version}}"])
    }

    fn push(&self, image: &Layout, reference: &str) {
        self.load(image, reference);
        self.run(&["push", "--quiet", reference]);
    }

    fn pull_and_read(&self, reference: &str, path: &str) -> String {
        self.forget_images();
        self.run(&["pull", "--quiet", reference]);
        self.run_in_container(reference, &["/bin/busybox", "cat", path])
    }
}
