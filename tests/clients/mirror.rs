//! Clients that take this registry for a mirror of Docker Hub.

use crate::containerd::Containerd;
use crate::docker::Docker;
use crate::podman::Podman;
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::wire::Wire;
use crate::{Client, Host, Layout};

/// A server that has `library/box:1` of its own, so that no upstream is needed.
fn server_with_library_box() -> Server {
    let server = Server::start();
    Skopeo::on(Host::new()).push(&Layout::of("from the mirror"), &server.image("library/box:1"));
    server
}

#[test]
fn containerd_resolves_names_of_docker_hub_at_its_mirror() {
    let server = server_with_library_box();
    let wire = Wire::to(server.address());
    let containerd = Containerd::start();
    std::fs::create_dir_all(containerd.host().path("hosts/docker.io")).expect("a folder can be made");
    let mirror = format!("http://{}", wire.address());
    containerd.host().write(
        "hosts/docker.io/hosts.toml",
        &format!("server = {mirror:?}\n[host.{mirror:?}]\ncapabilities = [\"pull\", \"resolve\"]\n"),
    );
    let hosts = containerd.host().path("hosts").display().to_string();
    let reference = "docker.io/library/box:1";
    containerd.run(&["images", "pull", "--hosts-dir", &hosts, "--snapshotter", "native", reference]);
    let read = containerd.run_in_container(reference, &["/bin/busybox", "cat", "/etc/hello"]);
    assert_eq!(read, "from the mirror");

    let requests = wire.requests();
    let asked = |start: &str| requests.iter().any(|request| request.line.starts_with(start));
    assert!(asked("HEAD /v2/library/box/manifests/1?ns=docker.io "), "{requests:#?}");
    assert!(asked("GET /v2/library/box/blobs/sha256:"), "{requests:#?}");
    assert!(requests.iter().all(|request| request.line.contains("?ns=docker.io")), "{requests:#?}");
}

#[test]
fn docker_asks_its_mirror_for_images_of_docker_hub() {
    let server = server_with_library_box();
    let wire = Wire::to(server.address());
    let docker = Docker::start(&[&format!("http://{}", wire.address())]);
    docker.run(&["pull", "--quiet", "box:1"]);
    assert_eq!(docker.run_in_container("box:1", &["/bin/busybox", "cat", "/etc/hello"]), "from the mirror");
    let requests = wire.requests();
    let asked = requests.iter().any(|request| request.line.contains(" /v2/library/box/manifests/1 "));
    assert!(asked, "{requests:#?}");
}

#[test]
fn podman_asks_its_mirror_for_images_of_docker_hub() {
    let server = server_with_library_box();
    let host = Host::new();
    host.use_registries(&format!(
        "[[registry]]\nlocation = \"docker.io\"\nblocked = false\n[[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n",
        server.address()
    ));
    let podman = Podman::on(host);
    podman.pull("docker.io/library/box:1", &[]);
    assert_eq!(podman.read("docker.io/library/box:1", "/etc/hello"), "from the mirror");
}
