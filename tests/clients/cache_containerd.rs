//! containerd, with this program as the mirror of one registry or of all.

use serde_json::Value;

use crate::Layout;
use crate::containerd::Containerd;
use crate::docker_registry::DockerRegistry;
use crate::image::{foreign_architecture, native_architecture};
use crate::page::{configuration, snippet, snippet_for};
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::wire::Wire;
use crate::{Client, Host};

/// What containerd has of an image.
fn read(containerd: &Containerd, reference: &str) -> String {
    containerd.run_in_container(reference, &["/bin/busybox", "cat", "/etc/hello"])
}

/// A containerd that has nothing yet, with a snippet of the page as the file of a registry.
fn containerd_with(server: std::net::SocketAddr, registry: &str, name: &str) -> Containerd {
    let containerd = Containerd::start();
    let folder = format!("hosts/{registry}");
    std::fs::create_dir_all(containerd.host().path(&folder)).expect("a folder can be made");
    containerd.host().write(&format!("{folder}/hosts.toml"), &snippet_for(server, name));
    containerd
}

fn pull(containerd: &Containerd, reference: &str, options: &[&str]) {
    let hosts = containerd.host().path("hosts").display().to_string();
    let pull = ["images", "pull", "--hosts-dir", &hosts, "--snapshotter", "native"];
    containerd.run(&[&pull, options, &[reference]].concat());
}

#[test]
fn containerd_finds_one_registry_at_its_mirror_while_that_registry_is_away() {
    let store = DockerRegistry::store_with(&Layout::of("from the hub"), "library/box:1");
    let hub = DockerRegistry::start_at(store.path());
    Skopeo::on(Host::new()).push(&Layout::of("from GitHub"), &hub.image("team/box:1"));
    let settings =
        configuration(&snippet("several"), &[("docker.io", hub.address()), ("ghcr.io", hub.address())]);
    let server = Server::start_configured(&settings, &[]);
    let wire = Wire::to(server.address());
    let ways = [
        ("docker.io", "containerd-ns", "docker.io/library/box:1", "from the hub"),
        ("ghcr.io", "containerd-path", "ghcr.io/team/box:1", "from GitHub"),
    ];
    let pull_all = || {
        for (registry, name, image, hello) in ways {
            let containerd = containerd_with(wire.address(), registry, name);
            pull(&containerd, image, &[]);
            assert_eq!(read(&containerd, image), hello);
        }
    };
    pull_all();
    drop(hub);
    pull_all();

    let requests = wire.requests();
    let asked = |start: &str| requests.iter().any(|request| request.line.starts_with(start));
    assert!(asked("HEAD /v2/library/box/manifests/1?ns=docker.io "), "{requests:#?}");
    assert!(asked("HEAD /v2/ghcr.io/team/box/manifests/1"), "{requests:#?}");
}

#[test]
fn containerd_finds_every_registry_and_every_platform_at_one_mirror() {
    let (native, foreign) = (native_architecture(), foreign_architecture());
    let layout = Layout::for_architectures(&[native, foreign]);
    let store = DockerRegistry::store_with(&Layout::of("from the hub"), "library/box:1");
    let hub = DockerRegistry::start_at(store.path());
    Skopeo::on(Host::new()).copy(
        &layout.oci(),
        &format!("docker://{}", hub.image("team/multi:1")),
        &["--all", "--preserve-digests"],
    );
    let settings =
        configuration(&snippet("several"), &[("docker.io", hub.address()), ("ghcr.io", hub.address())]);
    let server = Server::start_configured(&settings, &[]);
    let images = ["docker.io/library/box:1", "ghcr.io/team/multi:1"];
    let pull_all = || {
        let containerd = containerd_with(server.address(), "_default", "containerd-default");
        for image in images {
            pull(&containerd, image, &["--all-platforms"]);
            let check = containerd.run(&["images", "check", &format!("name=={image}")]);
            assert!(check.contains("complete"), "{check}");
        }
        assert_eq!(read(&containerd, images[0]), "from the hub");
        assert_eq!(read(&containerd, images[1]), native);
        let listed = containerd.run(&["images", "ls", &format!("name=={}", images[1])]);
        assert!(listed.contains(&layout.digest()), "{listed}");
    };
    pull_all();
    drop(hub);
    pull_all();
}

#[test]
fn containerd_pushes_its_own_images_with_no_upstream_to_ask() {
    let store = DockerRegistry::store_with(&Layout::of("from the hub"), "library/box:1");
    let hub = DockerRegistry::start_at(store.path());
    let server = Server::start_configured(&configuration("", &[("docker.io", hub.address())]), &[]);
    drop(hub);
    let containerd = Containerd::start();
    containerd.push(&Layout::of("my own"), &server.image("team/own:1"));
    assert_eq!(containerd.pull_and_read(&server.image("team/own:1"), "/etc/hello"), "my own");
    let manifest: Value = Skopeo::on(Host::new()).raw_manifest(&server.image("team/own:1"));
    assert!(manifest["layers"].is_array(), "{manifest}");
}
