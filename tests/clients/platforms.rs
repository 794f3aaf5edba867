//! Indexes: one name, an image for each platform.

use serde_json::Value;

use crate::containerd::Containerd;
use crate::docker::Docker;
use crate::image::{foreign_architecture, native_architecture};
use crate::podman::Podman;
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::{Client, Host, Layout};

#[test]
fn an_index_gives_each_client_the_platform_that_it_asks_for() {
    let server = Server::start();
    let skopeo = Skopeo::on(Host::new());
    let (native, foreign) = (native_architecture(), foreign_architecture());
    let layout = Layout::for_architectures(&[native, foreign]);
    let reference = server.image("multi:1");
    skopeo.copy(&layout.oci(), &format!("docker://{reference}"), &["--all", "--preserve-digests"]);
    assert_eq!(skopeo.raw_manifest(&reference), layout.manifest(), "the index is kept as it was pushed");

    let docker = Docker::start(&[]);
    assert_eq!(docker.pull_and_read(&reference, "/etc/hello"), native);
    docker.forget_images();
    docker.run(&["pull", "--quiet", "--platform", &format!("linux/{foreign}"), &reference]);
    let architecture = docker.run(&["image", "inspect", "--format", "{{.Architecture}}", &reference]);
    assert_eq!(architecture, foreign);

    let containerd = Containerd::start();
    assert_eq!(containerd.pull_and_read(&reference, "/etc/hello"), native);
    containerd.pull(&reference, &["--all-platforms"]);
    let check = containerd.run(&["images", "check", &format!("name=={reference}")]);
    assert!(check.contains("complete"), "{check}");

    for architecture in [native, foreign] {
        let podman = Podman::on(Host::new());
        podman.pull(&reference, &["--arch", architecture]);
        let script = r#"cat "$(podman image mount "$1")/etc/hello""#;
        let read = crate::process::run(podman.host().command("sh").args(["-c", script, "sh", &reference]));
        assert_eq!(read, architecture);
    }

    // All of it, into a folder and back under another name, ends as the same index.
    let folder = skopeo.pull_into(&reference, "all", &["--all"]);
    let copy = server.image("copies/multi:1");
    skopeo.copy(
        &format!("dir:{}", folder.display()),
        &format!("docker://{copy}"),
        &["--all", "--preserve-digests"],
    );
    assert_eq!(skopeo.raw_manifest(&copy), layout.manifest());
}

#[test]
fn podman_pushes_a_manifest_list_that_it_made() {
    let server = Server::start();
    let skopeo = Skopeo::on(Host::new());
    let podman = Podman::on(Host::new());
    let list = server.image("list:1");
    podman.run(&["manifest", "create", &list]);
    for architecture in [native_architecture(), foreign_architecture()] {
        let image = Layout::for_architectures(&[architecture]);
        let single = server.image(&format!("list:{architecture}"));
        let instance = &image.manifest()["manifests"][0]["digest"];
        assert!(instance.is_string());
        skopeo.copy(&image.oci(), &format!("docker://{single}"), &["--override-arch", architecture]);
        podman.run(&[
            "manifest",
            "add",
            "--tls-verify=false",
            "--arch",
            architecture,
            &list,
            &format!("docker://{single}"),
        ]);
    }
    for (format, media_type) in [
        ("oci", "application/vnd.oci.image.index.v1+json"),
        ("v2s2", "application/vnd.docker.distribution.manifest.list.v2+json"),
    ] {
        let pushed = server.image(&format!("pushed/list:{format}"));
        let to = format!("docker://{pushed}");
        podman.run(&[
            "manifest",
            "push",
            "--quiet",
            "--all",
            "--tls-verify=false",
            "--format",
            format,
            &list,
            &to,
        ]);
        let raw: Value = skopeo.raw_manifest(&pushed);
        assert_eq!(raw["manifests"].as_array().map(Vec::len), Some(2), "{raw}");
        assert_eq!(raw["mediaType"], media_type);
        let docker = Docker::start(&[]);
        assert_eq!(docker.pull_and_read(&pushed, "/etc/hello"), native_architecture());
    }
}
