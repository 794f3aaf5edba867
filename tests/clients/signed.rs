//! Signed schema 1 manifests: skopeo writes and signs them, with a new key each time, and the clients of this age still
//! read them.

use std::path::Path;

use orlop::oci::schema1::SignedManifest;
use serde_json::Value;

use crate::containerd::Containerd;
use crate::docker::Docker;
use crate::image::{sha256_of, sha256_of_bytes};
use crate::podman::Podman;
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::{Client, Host, Layout};

const SIGNED: [&str; 2] = ["--format", "v2s1"];

/// Pushes the image as signed schema 1 from a host that has never pushed.
fn sign_and_push(image: &Layout, reference: &str) {
    Skopeo::on(Host::new()).copy(&image.oci(), &format!("docker://{reference}"), &SIGNED);
}

/// The manifest that a pull left in its folder, with every signature verified.
fn pulled_manifest(folder: &Path) -> SignedManifest {
    let bytes = std::fs::read(folder.join("manifest.json")).expect("skopeo writes it");
    SignedManifest::parse(&bytes).expect("it is verified by every key that signed")
}

#[test]
fn skopeo_pushes_and_pulls_a_signed_manifest_and_each_host_adds_its_signature() {
    let server = Server::start();
    let skopeo = Skopeo::on(Host::new());
    let image = Layout::of("signed");
    let reference = server.image("team/box:1");
    let mut digest = None;
    for hosts in 1..=3 {
        sign_and_push(&image, &reference);
        assert_eq!(skopeo.raw_manifest(&reference)["schemaVersion"], 1);
        let folder = skopeo.pull_into(&reference, &format!("pulled{hosts}"), &[]);
        let manifest = pulled_manifest(&folder);
        assert_eq!(manifest.signatures().len(), hosts);
        assert_eq!(manifest.manifest().layers.len(), 3);
        for layer in &manifest.manifest().layers {
            let layer = layer.to_string();
            assert_eq!(sha256_of(&folder.join(layer.trim_start_matches("sha256:"))), layer);
        }
        // The digest is that of what the hosts have signed.
        let signed = skopeo.digest(&reference);
        assert_eq!(signed, sha256_of_bytes(manifest.payload()));
        assert_eq!(*digest.get_or_insert(signed.clone()), signed);
    }

    // What was pulled goes back as it is and adds nothing.
    let merged = skopeo.pull_into(&reference, "merged", &[]);
    skopeo.copy(&format!("dir:{}", merged.display()), &format!("docker://{reference}"), &[]);
    assert_eq!(pulled_manifest(&skopeo.pull_into(&reference, "again", &[])), pulled_manifest(&merged));
    assert_eq!(skopeo.digest(&reference), digest.expect("it was pushed"));

    // Under its digest it is the same, and from there it becomes an image of today.
    let named = server.image(&format!("team/box@{}", skopeo.digest(&reference)));
    assert_eq!(skopeo.raw_manifest(&named), skopeo.raw_manifest(&reference));
    let today = server.image("team/box:today");
    skopeo.copy(&format!("docker://{reference}"), &format!("docker://{today}"), &["--format", "oci"]);
    assert_eq!(skopeo.pull_and_read(&today, "/etc/hello"), "signed");
}

#[test]
fn a_signed_manifest_is_copied_to_another_name_by_signing_it_anew() {
    let server = Server::start();
    let skopeo = Skopeo::on(Host::new());
    let (from, to) = (server.image("team/box:1"), server.image("copies/box:2"));
    sign_and_push(&Layout::of("copied"), &from);
    skopeo.copy(&format!("docker://{from}"), &format!("docker://{to}"), &[]);
    let copy = pulled_manifest(&skopeo.pull_into(&to, "copy", &[]));
    assert_eq!((copy.manifest().name.as_str(), copy.manifest().tag.as_str()), ("copies/box", "2"));
    assert_eq!(copy.signatures().len(), 1);
    let original: Value = skopeo.raw_manifest(&from);
    assert_eq!((&original["name"], &original["tag"]), (&"team/box".into(), &"1".into()));
}

#[test]
fn docker_containerd_and_podman_pull_a_manifest_that_two_hosts_have_signed() {
    let server = Server::start();
    let image = Layout::of("signed twice");
    let reference = server.image("team/box:1");
    for _ in 0..2 {
        sign_and_push(&image, &reference);
    }
    let (docker, containerd, podman) = (Docker::start(&[]), Containerd::start(), Podman::on(Host::new()));
    let clients: [&dyn Client; 3] = [&docker, &containerd, &podman];
    for client in clients {
        assert_eq!(client.pull_and_read(&reference, "/etc/hello"), "signed twice", "{}", client.name());
    }
}
