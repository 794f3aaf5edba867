//! Connections that break, clients that are cancelled, a server that is killed.

use std::thread;

use crate::containerd::Containerd;
use crate::docker::Docker;
use crate::image::{Compression, random_bytes};
use crate::process::run_to_failure;
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::wire::Wire;
use crate::{Client, Host, Layout};

const MIB: u32 = 1 << 20;

/// An image with one layer that takes a while on the wire.
fn slow_image() -> Layout {
    let large = vec![("large", random_bytes(32 << 20))];
    Layout::with_layers(Compression::Gzip, &[vec![("etc/hello", "slow".into())], large])
}

/// That some blob was asked for from the middle on, as a client does that keeps what it has.
fn assert_resumed(wire: &Wire) {
    assert_eq!(wire.cuts(), 1);
    let requests = wire.requests();
    let resumed = requests.iter().any(|request| {
        let range = request.header("range").and_then(|range| range.strip_prefix("bytes="));
        request.line.contains("/blobs/")
            && range.is_some_and(|range| range.ends_with('-') && !range.starts_with("0-"))
    });
    assert!(resumed, "{requests:#?}");
}

#[test]
fn docker_resumes_a_pull_whose_connection_broke() {
    let server = Server::start();
    Skopeo::on(Host::new()).push(&slow_image(), &server.image("slow:1"));
    let wire = Wire::to(server.address());
    wire.cut_download_after(9 * MIB);
    assert_eq!(Docker::start(&[]).pull_and_read(&wire.image("slow:1"), "/etc/hello"), "slow");
    assert_resumed(&wire);
}

#[test]
fn containerd_resumes_a_pull_whose_connection_broke() {
    let server = Server::start();
    Skopeo::on(Host::new()).push(&slow_image(), &server.image("slow:1"));
    let wire = Wire::to(server.address());
    wire.cut_download_after(9 * MIB);
    assert_eq!(Containerd::start().pull_and_read(&wire.image("slow:1"), "/etc/hello"), "slow");
    assert_resumed(&wire);
}

#[test]
fn docker_repeats_a_push_whose_connection_broke() {
    let server = Server::start();
    let wire = Wire::to(server.address());
    let docker = Docker::start(&[]);
    wire.cut_upload_after(9 * MIB);
    docker.push(&slow_image(), &wire.image("slow:1"));
    assert_eq!(wire.cuts(), 1);
    assert_eq!(docker.pull_and_read(&server.image("slow:1"), "/etc/hello"), "slow");
}

#[test]
fn a_push_that_broke_off_leaves_nothing_visible_and_can_be_repeated() {
    let server = Server::start();
    let skopeo = Skopeo::on(Host::new());
    let wire = Wire::to(server.address());
    let image = slow_image();
    wire.cut_upload_after(9 * MIB);
    let to = format!("docker://{}", wire.image("slow:1"));
    run_to_failure(&mut skopeo.command(&[
        "copy",
        "--dest-tls-verify=false",
        "--preserve-digests",
        &image.oci(),
        &to,
    ]));
    assert_eq!(wire.cuts(), 1);

    let manifest = image.manifest();
    let large = manifest["layers"][2]["digest"].as_str().expect("a layer has a digest");
    assert_eq!(head(&server, &format!("slow/blobs/{large}")), 404);
    assert_eq!(head(&server, "slow/manifests/1"), 404);
    skopeo.push(&image, &server.image("slow:1"));
    assert_eq!(head(&server, &format!("slow/blobs/{large}")), 200);
    assert_eq!(skopeo.digest(&server.image("slow:1")), image.digest());
}

#[test]
fn a_server_killed_in_the_middle_of_a_push_keeps_what_it_has_acknowledged() {
    let mut server = Server::start();
    let skopeo = Skopeo::on(Host::new());
    let (kept, lost) = (Layout::of("kept"), slow_image());
    skopeo.push(&kept, &server.image("kept:1"));

    let wire = Wire::to(server.address());
    let under_way = wire.notice_upload_after(9 * MIB);
    let to = format!("docker://{}", wire.image("slow:1"));
    let mut push =
        skopeo.command(&["copy", "--dest-tls-verify=false", "--preserve-digests", &lost.oci(), &to]);
    thread::scope(|scope| {
        let pushing = scope.spawn(|| run_to_failure(&mut push));
        under_way.recv().expect("the push gets that far");
        server.kill_and_restart();
        pushing.join().expect("the push fails");
    });

    assert_eq!(skopeo.digest(&server.image("kept:1")), kept.digest());
    assert_eq!(skopeo.pull_and_read(&server.image("kept:1"), "/etc/hello"), "kept");
    assert_eq!(head(&server, "slow/manifests/1"), 404);
    skopeo.push(&lost, &server.image("slow:1"));
    assert_eq!(skopeo.pull_and_read(&server.image("slow:1"), "/etc/hello"), "slow");
}

fn head(server: &Server, path: &str) -> u16 {
    let client = reqwest::blocking::Client::new();
    client.head(server.url(path)).send().expect("the server answers").status().as_u16()
}
