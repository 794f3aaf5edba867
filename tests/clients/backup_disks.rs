//! Backups on disks that are full, and on ones that can't be written to.

use std::path::Path;
use std::process::{Command, Output};

use crate::disk::Disk;
use crate::image::random_bytes;
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::{Client, Host, Layout};

fn orlop(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    command.arg("backup").args(arguments).output().expect("orlop runs")
}

#[track_caller]
fn done(arguments: &[&str]) -> String {
    let output = orlop(arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("it is text")
}

#[track_caller]
fn failed(arguments: &[&str]) -> String {
    let output = orlop(arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).expect("it is text")
}

fn snapshots(backup: &str) -> usize {
    let listed = done(&["list", backup, "--json"]);
    let listed: Vec<serde_json::Value> = serde_json::from_str(&listed).expect("it is JSON");
    listed.len()
}

#[test]
fn a_backup_on_a_tmpfs_that_fills_up_goes_on_when_there_is_room() {
    full(&Disk::tmpfs(64));
}

#[test]
fn a_backup_on_an_ext4_that_fills_up_goes_on_when_there_is_room() {
    full(&Disk::ext4(64));
}

fn full(disk: &Disk) {
    let server = Server::start();
    let skopeo = Skopeo::on(Host::new());
    skopeo.push(&Layout::of("kept"), &server.image("kept:1"));
    let (data, backup) = (text(server.data()), text(&disk.path().join("backup")));
    done(&["create", &backup, "--data", &data]);
    for _ in 0..4 {
        push(&server, random_bytes(6 << 20));
    }
    disk.take(40);
    for _ in 0..2 {
        let said = failed(&["create", &backup, "--data", &data]);
        assert!(said.contains("Make room there, then run the command again"), "{said}");
        assert_eq!(snapshots(&backup), 1);
        done(&["verify", &backup, "--full"]);
    }
    // With no room at all the former snapshot can still be checked, and others can be removed.
    disk.fill();
    done(&["verify", &backup, "--full"]);
    done(&["prune", &backup, "--keep-last", "1"]);
    disk.free();
    done(&["create", &backup, "--data", &data]);
    assert_eq!(snapshots(&backup), 2);
    done(&["verify", &backup, "--full"]);

    // A restore that finds no room, and goes on.
    let restored = text(&disk.path().join("restored"));
    disk.take(8);
    disk.fill();
    let said = failed(&["restore", &backup, "latest", "--data", &restored]);
    assert!(said.contains("Make room there, then run the command again"), "{said}");
    disk.free();
    done(&["prune", &backup, "--keep-last", "1"]);
    done(&["restore", &backup, "latest", "--data", &restored]);
}

#[test]
fn a_backup_that_cant_be_written_to_is_refused_to_writers_and_read_by_everybody_else() {
    let disk = Disk::tmpfs(64);
    let server = Server::start();
    let skopeo = Skopeo::on(Host::new());
    skopeo.push(&Layout::of("kept"), &server.image("kept:1"));
    let (data, backup) = (text(server.data()), text(&disk.path().join("backup")));
    done(&["create", &backup, "--data", &data]);
    disk.protect();
    for arguments in [&["create", &backup, "--data", &data][..], &["prune", &backup, "--keep-last", "1"]] {
        let said = failed(arguments);
        assert!(said.contains("The file system can't be written to; name a directory on another"), "{said}");
    }
    assert_eq!(snapshots(&backup), 1);
    done(&["show", &backup]);
    done(&["diff", &backup, "1"]);
    done(&["prune", &backup, "--keep-last", "1", "--dry-run"]);
    let said = done(&["verify", &backup, "--full"]);
    assert!(said.contains("an interrupted check begins again"), "{said}");
    let fresh = tempfile::tempdir().expect("a temporary folder can be made");
    done(&["restore", &backup, "latest", "--data", &text(&fresh.path().join("data"))]);
    done(&["restore", &backup, "latest", "--repository", "**", "--data", &data]);
}

fn text(path: &Path) -> String {
    path.to_str().expect("it is text").to_owned()
}

/// Pushes a blob under an image of its own.
fn push(server: &Server, bytes: Vec<u8>) {
    let digest = crate::image::sha256_of_bytes(&bytes);
    let client = reqwest::blocking::Client::new();
    let size = bytes.len();
    let url = server.url(&format!("filling/blobs/uploads/?digest={digest}"));
    let pushed = client.post(url).header("content-type", "application/octet-stream").body(bytes).send();
    assert_eq!(pushed.expect("the server answers").status(), 201);
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let blob = format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":{size}}}"#);
    let manifest =
        format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{blob},"layers":[{blob}]}}"#);
    let url = server.url(&format!("filling/manifests/{}", &digest[7..20]));
    let pushed = client.put(url).header("content-type", media_type).body(manifest).send();
    assert_eq!(pushed.expect("the server answers").status(), 201);
}
