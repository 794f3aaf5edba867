//! A private registry, each client: nobody, a wrong password, somebody who may not, somebody who may; and what everybody may pull.

use std::process::Command;

use crate::buildah::Buildah;
use crate::containerd::Containerd;
use crate::docker::Docker;
use crate::oras::{Oras, Scheme};
use crate::podman::Podman;
use crate::process::{find, run, try_to_run};
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::{Host, Layout};

const RULES: &str = r#"
[[rule]]
repositories = ["public/**"]
who = ["anonymous"]
actions = ["pull"]

[[rule]]
repositories = ["**"]
who = ["user:anna"]
actions = ["pull", "push"]
"#;

/// What a client does as somebody with `user:password`, or as nobody; or why it doesn't.
trait Private {
    /// Pushes something with this text.
    fn push(&self, text: &str, reference: &str, credentials: Option<&str>) -> Result<(), String>;

    /// Pulls it with nothing in the local store, and says what its text is, or nothing where the client tells no text.
    fn pull(&self, reference: &str, credentials: Option<&str>) -> Result<String, String>;
}

/// Has a client try what it may do, and what it may not.
fn try_everything(client: &dyn Private) {
    let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
    let users = folder.path().join("users");
    let line = |user: &str| format!("{user}:{}\n", bcrypt::hash(user, 4).expect("a password can be hashed"));
    std::fs::write(&users, ["anna", "bo"].map(line).concat()).expect("a file can be written");
    let users = users.display().to_string();
    let server = Server::start_configured(&format!("access.htpasswd = {users:?}\n{RULES}"), &[]);
    let (secret, open) = (server.image("team/box:1"), server.image("public/box:1"));
    let (anna, wrong, bo) = (Some("anna:anna"), Some("bo:anna"), Some("bo:bo"));

    for (who, image) in [(None, &secret), (wrong, &secret), (bo, &secret), (None, &open)] {
        let pushed = client.push("nothing", image, who);
        assert!(is_refused(&pushed), "{who:?} pushes {image}: {pushed:?}\n{}", server.log());
    }
    for image in [&secret, &open] {
        let pulled = client.pull(image, anna);
        assert!(pulled.is_err(), "there is nothing, and {pulled:?} came of it");
        client.push("by anna", image, anna).unwrap_or_else(|error| panic!("{error}\n{}", server.log()));
    }
    for (who, image, may) in [
        (None, &secret, false),
        (wrong, &secret, false),
        (bo, &secret, false),
        (anna, &secret, true),
        (None, &open, true),
        (bo, &open, true),
    ] {
        let pulled = client.pull(image, who);
        if may {
            let text = pulled.unwrap_or_else(|error| panic!("{who:?}: {error}\n{}", server.log()));
            assert_eq!(text, "by anna");
        } else {
            assert!(is_refused(&pulled), "{who:?} pulls {image}: {pulled:?}\n{}", server.log());
        }
    }
}

/// Whether it failed for want of the right to do it, as far as the client says why.
fn is_refused<T>(done: &Result<T, String>) -> bool {
    let words = [
        "denied",
        "forbidden",
        "unauthorized",
        "authentication required",
        "authorization",
        "no basic auth",
        "no rule",
        "token",
    ];
    done.as_ref().err().is_some_and(|said| words.iter().any(|word| said.to_lowercase().contains(word)))
}

/// The flags of clients that take user and password by one.
fn by_flag<'a>(flag: &'a str, credentials: Option<&'a str>) -> Vec<&'a str> {
    credentials.map_or_else(Vec::new, |credentials| vec![flag, credentials])
}

impl Private for Docker {
    fn push(&self, text: &str, reference: &str, credentials: Option<&str>) -> Result<(), String> {
        self.load(&Layout::of(text), reference);
        as_logged_in(self, reference, credentials, &["push", "--quiet", reference]).map(|_| ())
    }

    fn pull(&self, reference: &str, credentials: Option<&str>) -> Result<String, String> {
        self.forget_images();
        as_logged_in(self, reference, credentials, &["pull", "--quiet", reference])?;
        Ok(self.run_in_container(reference, &["/bin/busybox", "cat", "/etc/hello"]))
    }
}

fn as_logged_in(
    docker: &Docker,
    reference: &str,
    credentials: Option<&str>,
    command: &[&str],
) -> Result<String, String> {
    let (host, _) = reference.split_once('/').expect("a host stands before the name");
    if let Some((user, password)) = credentials.and_then(|both| both.split_once(':')) {
        try_to_run(&mut docker.command(&["login", host, "--username", user, "--password", password]))?;
    }
    let done = try_to_run(&mut docker.command(command));
    docker.run(&["logout", host]);
    done
}

impl Private for Podman {
    fn push(&self, text: &str, reference: &str, credentials: Option<&str>) -> Result<(), String> {
        let id = Podman::pull(self, &Layout::of(text).oci(), &[]);
        self.run(&["tag", &id, reference]);
        let push = ["push", "--quiet", "--tls-verify=false"];
        let push = [&push[..], &by_flag("--creds", credentials), &[reference]].concat();
        try_to_run(&mut self.command(&push)).map(|_| ())
    }

    fn pull(&self, reference: &str, credentials: Option<&str>) -> Result<String, String> {
        let fresh = Podman::on(Host::new());
        let policy = fresh.host().path("policy.json").display().to_string();
        let pull = ["pull", "--quiet", "--tls-verify=false", "--signature-policy", &policy];
        let pull = [&pull[..], &by_flag("--creds", credentials), &[reference]].concat();
        try_to_run(&mut fresh.command(&pull))?;
        Ok(fresh.read(reference, "/etc/hello"))
    }
}

impl Private for Skopeo {
    fn push(&self, text: &str, reference: &str, credentials: Option<&str>) -> Result<(), String> {
        let (layout, to) = (Layout::of(text), format!("docker://{reference}"));
        let from = layout.oci();
        let copy = ["copy", "--quiet", "--dest-tls-verify=false"];
        let copy = [&copy[..], &by_flag("--dest-creds", credentials), &[&from, &to]].concat();
        try_to_run(&mut self.command(&copy)).map(|_| ())
    }

    fn pull(&self, reference: &str, credentials: Option<&str>) -> Result<String, String> {
        let fresh = Skopeo::on(Host::new());
        fresh.try_to_pull_and_read(reference, "/etc/hello", &by_flag("--src-creds", credentials))
    }
}

impl Private for Buildah {
    fn push(&self, text: &str, reference: &str, credentials: Option<&str>) -> Result<(), String> {
        let layout = Layout::of(text);
        let container = self.try_from(&layout.oci(), &[])?;
        let to = format!("docker://{reference}");
        let commit = ["commit", "--quiet", "--tls-verify=false"];
        let commit = [&commit[..], &by_flag("--creds", credentials), &[&container, &to]].concat();
        try_to_run(&mut self.command(&commit)).map(|_| ())
    }

    fn pull(&self, reference: &str, credentials: Option<&str>) -> Result<String, String> {
        let fresh = Buildah::on(Host::new());
        let container = fresh.try_from(reference, &by_flag("--creds", credentials))?;
        Ok(fresh.run(&["run", "--isolation", "chroot", &container, "/bin/busybox", "cat", "/etc/hello"]))
    }
}

impl Private for Containerd {
    fn push(&self, text: &str, reference: &str, credentials: Option<&str>) -> Result<(), String> {
        let (layout, archive) = (Layout::of(text), self.host().path("image.tar"));
        run(Command::new(find("tar")).arg("-C").arg(layout.folder()).arg("-cf").arg(&archive).arg("."));
        let (name, _) = reference.rsplit_once(':').expect("the reference has a tag");
        let archive = archive.display().to_string();
        self.forget_images();
        self.run(&["images", "import", "--no-unpack", "--base-name", name, &archive]);
        let local = format!("{name}:1");
        let push = ["images", "push", "--plain-http"];
        let push = [&push[..], &by_flag("--user", credentials), &[reference, &local]].concat();
        try_to_run(&mut self.command(&push)).map(|_| ())
    }

    fn pull(&self, reference: &str, credentials: Option<&str>) -> Result<String, String> {
        self.forget_images();
        let pull = ["images", "pull", "--plain-http", "--snapshotter", "native"];
        let pull = [&pull[..], &by_flag("--user", credentials), &[reference]].concat();
        try_to_run(&mut self.command(&pull))?;
        Ok(self.run_in_container(reference, &["/bin/busybox", "cat", "/etc/hello"]))
    }
}

impl Private for Oras {
    fn push(&self, text: &str, reference: &str, credentials: Option<&str>) -> Result<(), String> {
        Oras::push(self, text, reference, credentials)
    }

    fn pull(&self, reference: &str, credentials: Option<&str>) -> Result<String, String> {
        Oras::pull(self, reference, credentials)
    }
}

#[test]
fn docker_in_a_private_registry() {
    try_everything(&Docker::start(&[]));
}

#[test]
fn podman_in_a_private_registry() {
    try_everything(&Podman::on(Host::new()));
}

#[test]
fn skopeo_in_a_private_registry() {
    try_everything(&Skopeo::on(Host::new()));
}

#[test]
fn buildah_in_a_private_registry() {
    try_everything(&Buildah::on(Host::new()));
}

#[test]
fn containerd_in_a_private_registry() {
    try_everything(&Containerd::start());
}

#[test]
fn oras_in_a_private_registry_with_tokens() {
    try_everything(&Oras::on(Host::new(), Scheme::Token));
}

#[test]
fn oras_in_a_private_registry_with_basic() {
    try_everything(&Oras::on(Host::new(), Scheme::Basic));
}
