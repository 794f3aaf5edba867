//! Snapshots: other tools read them, and after a disaster every image of one pulls and runs.

use std::path::Path;
use std::process::Command;

use crate::docker::Docker;
use crate::podman::Podman;
use crate::process::run;
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::{Host, Layout};

fn orlop(arguments: &[&str], data: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    run(command.args(arguments).arg("--data").arg(data).current_dir(data.parent().expect("it has a parent")))
}

/// A folder whose path is a name, as podman wants it.
fn folder(name: &str) -> tempfile::TempDir {
    let name = format!("orlop-backup-{name}-{}", std::process::id());
    tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir().expect("a temporary folder can be made")
}

fn backup_in(folder: &tempfile::TempDir) -> String {
    folder.path().join("backup").display().to_string()
}

/// The newest snapshot, as an OCI image layout.
fn layout_of(backup: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    let shown = run(command.args(["backup", "show", backup, "--json"]));
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("it is JSON");
    format!("oci:{backup}/snapshots/{}", shown["name"].as_str().expect("it has a name"))
}

#[test]
fn skopeo_and_podman_take_images_out_of_a_snapshot_without_orlop() {
    let folder = folder("readable");
    let backup = backup_in(&folder);
    let (skopeo, podman) = (Skopeo::on(Host::new()), Podman::on(Host::new()));
    let digest = {
        let server = Server::start();
        let image = server.image("team/box:1");
        skopeo.copy(&Layout::of("in a snapshot").oci(), &format!("docker://{image}"), &[]);
        orlop(&["backup", "create", &backup], server.data());
        skopeo.digest(&image)
    };
    let layout = layout_of(&backup);
    let copy = folder.path().join("copy").display().to_string();
    skopeo.run(&["copy", "--quiet", &format!("{layout}:team/box:1"), &format!("oci:{copy}:box")]);
    let index = std::fs::read_to_string(format!("{copy}/index.json")).expect("the copy is there");
    assert!(index.contains(&digest), "{index} has not {digest}");
    let id = podman.pull(&format!("{layout}:team/box:1"), &[]);
    assert_eq!(podman.read(id.trim(), "/etc/hello"), "in a snapshot");
    let sums = Command::new("sha256sum")
        .args(["--check", "--quiet", "--strict", "SHA256SUMS"])
        .current_dir(layout.strip_prefix("oci:").expect("it is a layout"))
        .output()
        .expect("sha256sum runs");
    assert!(sums.status.success(), "{sums:?}");
}

#[test]
fn after_the_disk_is_lost_every_image_of_the_snapshot_pulls_and_runs_in_docker() {
    let folder = folder("disaster");
    let backup = backup_in(&folder);
    let docker = Docker::start(&[]);
    let names = ["team/one:1", "team/one:2", "two:latest"];
    let lost = {
        let server = Server::start();
        for name in names {
            docker.load(&Layout::of(name), &server.image(name));
            docker.run(&["push", &server.image(name)]);
        }
        orlop(&["backup", "create", &backup], server.data());
        let late = "late:1";
        docker.load(&Layout::of(late), &server.image(late));
        docker.run(&["push", &server.image(late)]);
        for name in names.into_iter().chain([late]) {
            docker.run(&["rmi", "--force", &server.image(name)]);
        }
        server.data().to_owned()
        // The directory goes with the server.
    };
    assert!(!lost.exists());
    let data = folder.path().join("data");
    let said = orlop(&["backup", "restore", &backup, "latest"], &data);
    assert!(said.contains("orlop serve --data"), "{said}");
    let server = Server::start_at(&data, &[]);
    for name in names {
        let image = server.image(name);
        docker.run(&["pull", "--quiet", &image]);
        assert_eq!(docker.run_in_container(&image, &["/bin/busybox", "cat", "/etc/hello"]), name);
    }
    docker.fail_to_pull(&server.image("late:1"));
}
