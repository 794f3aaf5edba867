//! skopeo, which copies images and has a command for each other thing that a registry does.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::image::sha256_of;
use crate::process::{find, run, try_to_run};
use crate::server::Server;
use crate::{Client, Host, Layout};

/// skopeo with folders of its own.
#[derive(Debug)]
pub(crate) struct Skopeo {
    host: Host,
}

impl Skopeo {
    /// skopeo as it is on this host.
    pub(crate) fn on(host: Host) -> Skopeo {
        Skopeo { host }
    }

    /// A `skopeo` command.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.command("skopeo");
        command.arg("--insecure-policy").args(arguments);
        command
    }

    /// Runs a `skopeo` command that has to succeed.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments))
    }

    /// Copies from one place to another, with more options if wanted.
    pub(crate) fn copy(&self, from: &str, to: &str, options: &[&str]) {
        let copy = ["copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"];
        self.run(&[&copy, options, &[from, to]].concat());
    }

    /// The manifest as the registry serves it.
    pub(crate) fn raw_manifest(&self, reference: &str) -> Value {
        let text = self.run(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{reference}")]);
        serde_json::from_str(&text).expect("a manifest is JSON")
    }

    /// The digest that the registry gives for a reference.
    pub(crate) fn digest(&self, reference: &str) -> String {
        let image = format!("docker://{reference}");
        self.run(&["inspect", "--no-tags", "--format", "{{.Digest}}", "--tls-verify=false", &image])
    }

    /// The text of a file in an image, which is pulled with more options; or why there is none.
    pub(crate) fn try_to_pull_and_read(
        &self,
        reference: &str,
        path: &str,
        options: &[&str],
    ) -> Result<String, String> {
        let folder = self.host.path("pulled");
        let (from, to) = (format!("docker://{reference}"), format!("dir:{}", folder.display()));
        let copy = ["copy", "--quiet", "--src-tls-verify=false"];
        try_to_run(&mut self.command(&[&copy[..], options, &[&from, &to]].concat()))?;
        Ok(read_from_layers(&folder, path))
    }

    /// Pulls into a folder: `manifest.json`, and each blob under its hexadecimal digest.
    pub(crate) fn pull_into(&self, reference: &str, name: &str, options: &[&str]) -> PathBuf {
        let folder = self.host.path(name);
        self.copy(&format!("docker://{reference}"), &format!("dir:{}", folder.display()), options);
        folder
    }
}

impl Client for Skopeo {
    fn name(&self) -> &'static str {
        "skopeo"
    }

    fn version(&self) -> String {
        let line = self.run(&["--version"]);
        line.split(' ').nth(2).unwrap_or_default().to_owned()
    }

    fn push(&self, image: &Layout, reference: &str) {
        self.copy(&image.oci(), &format!("docker://{reference}"), &["--preserve-digests"]);
    }

    fn pull_and_read(&self, reference: &str, path: &str) -> String {
        let fresh = Skopeo::on(Host::new());
        let folder = fresh.pull_into(reference, "pulled", &[]);
        read_from_layers(&folder, path)
    }
}

/// The text of a file in the topmost layer that has it: skopeo itself unpacks nothing.
fn read_from_layers(folder: &Path, path: &str) -> String {
    let manifest = std::fs::read(folder.join("manifest.json")).expect("skopeo writes it");
    let manifest: Value = serde_json::from_slice(&manifest).expect("a manifest is JSON");
    let layers = manifest["layers"].as_array().expect("an image has layers");
    let found = layers.iter().rev().find_map(|layer| {
        let digest = layer["digest"].as_str().expect("a layer has a digest");
        let file = folder.join(digest.trim_start_matches("sha256:"));
        assert_eq!(sha256_of(&file), digest);
        ["", "."].iter().find_map(|prefix| {
            let name = format!("{prefix}{path}");
            let name = name.trim_start_matches('/');
            let output =
                Command::new(find("tar")).arg("-xzOf").arg(&file).arg(name).output().expect("tar starts");
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        })
    });
    found.unwrap_or_else(|| panic!("no layer has {path}"))
}

#[test]
fn skopeo_inspects_lists_and_deletes() {
    let server = Server::start();
    let skopeo = Skopeo::on(Host::new());
    let image = Layout::of("inspected");
    for tag in ["b", "a", "c"] {
        skopeo.push(&image, &server.image(&format!("team/app/web:{tag}")));
    }
    let name = format!("docker://{}", server.image("team/app/web"));

    let inspected: Value =
        serde_json::from_str(&skopeo.run(&["inspect", "--tls-verify=false", &format!("{name}:a")]))
            .expect("JSON");
    assert_eq!(inspected["Digest"], image.digest());
    assert_eq!(inspected["RepoTags"], serde_json::json!(["a", "b", "c"]));
    assert_eq!(inspected["Layers"].as_array().map(Vec::len), Some(3));

    let listed: Value =
        serde_json::from_str(&skopeo.run(&["list-tags", "--tls-verify=false", &name])).expect("JSON");
    assert_eq!(listed["Tags"], serde_json::json!(["a", "b", "c"]));

    // skopeo deletes the manifest, and every tag goes along.
    skopeo.run(&["delete", "--tls-verify=false", &format!("{name}:b")]);
    let listed: Value =
        serde_json::from_str(&skopeo.run(&["list-tags", "--tls-verify=false", &name])).expect("JSON");
    assert_eq!(listed["Tags"], serde_json::json!([]));
}

#[test]
fn skopeo_synchronises_repositories() {
    let from = Server::start();
    let to = Server::start();
    let skopeo = Skopeo::on(Host::new());
    for tag in ["1", "2"] {
        skopeo.push(&Layout::of(tag), &from.image(&format!("team/box:{tag}")));
    }
    let sync =
        ["sync", "--src", "docker", "--dest", "docker", "--src-tls-verify=false", "--dest-tls-verify=false"];
    skopeo.run(&[&sync[..], &[&from.image("team/box"), &to.image("mirror")]].concat());
    for tag in ["1", "2"] {
        assert_eq!(
            skopeo.digest(&to.image(&format!("mirror/box:{tag}"))),
            skopeo.digest(&from.image(&format!("team/box:{tag}"))),
        );
    }
}
