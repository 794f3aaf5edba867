//! containerd, driven by `ctr`.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::{Daemon, find, run};
use crate::{Client, Host, Layout};

/// A containerd of its own, and the `ctr` command that talks to it.
#[derive(Debug)]
pub(crate) struct Containerd {
    _daemon: Daemon,
    host: Host,
}

impl Containerd {
    /// Starts `containerd` without its Kubernetes interface.
    pub(crate) fn start() -> Containerd {
        let host = Host::new();
        let [root, state, socket] =
            ["root", "state", "containerd.sock"].map(|name| host.path(name).display().to_string());
        let settings = format!(
            "version = 2\nroot = {root:?}\nstate = {state:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {socket:?}\n"
        );
        let file = host.write("containerd.toml", &settings);
        let mut command = host.command("containerd");
        command.arg("--config").arg(file);
        let (daemon, _) = Daemon::start("containerd", &command, "containerd successfully booted");
        Containerd { _daemon: daemon, host }
    }

    /// The host that it runs on.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// A `ctr` command that talks to this containerd.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.command("ctr");
        command.arg("--address").arg(self.host.path("containerd.sock")).args(arguments);
        command
    }

    /// Runs a `ctr` command that has to succeed.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments))
    }

    /// Pulls and unpacks, with more options if wanted.
    pub(crate) fn pull(&self, reference: &str, options: &[&str]) -> String {
        let pull = ["images", "pull", "--plain-http", "--snapshotter", "native"];
        self.run(&[&pull, options, &[reference]].concat())
    }

    /// Forgets every image, and collects what they held before it returns.
    pub(crate) fn forget_images(&self) {
        let images = self.run(&["images", "ls", "--quiet"]);
        let images: Vec<&str> = images.lines().collect();
        if !images.is_empty() {
            self.run(&[&["images", "rm", "--sync"], images.as_slice()].concat());
        }
    }

    /// Runs the image's own program in a container.
    pub(crate) fn run_in_container(&self, reference: &str, program: &[&str]) -> String {
        // The control groups of containers are the machine's, so that names must not meet.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("orlop-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // To a file, which is whole when the task is deleted: what ctr prints itself it loses where the program has ended before it
        // listens.
        let said = self.host.path(&name);
        let log = format!("file://{}", said.display());
        let options =
            ["run", "--rm", "--snapshotter", "native", "--net-host", "--log-uri", &log, reference, &name];
        self.run(&[&options, program].concat());
        std::fs::read_to_string(said).expect("the program's words can be read")
    }
}

impl Client for Containerd {
    fn name(&self) -> &'static str {
        "containerd"
    }

    fn version(&self) -> String {
        let line = self.run(&["--version"]);
        line.rsplit(' ').next().unwrap_or_default().to_owned()
    }

    fn push(&self, image: &Layout, reference: &str) {
        let archive = self.host.path("image.tar");
        run(Command::new(find("tar")).arg("-C").arg(image.folder()).arg("-cf").arg(&archive).arg("."));
        let (name, _) = reference.rsplit_once(':').expect("the reference has a tag");
        let archive = archive.display().to_string();
        self.run(&["images", "import", "--no-unpack", "--base-name", name, &archive]);
        self.run(&["images", "push", "--plain-http", reference, &format!("{name}:1")]);
    }

    fn pull_and_read(&self, reference: &str, path: &str) -> String {
        self.forget_images();
        self.pull(reference, &[]);
        self.run_in_container(reference, &["/bin/busybox", "cat", path])
    }
}
