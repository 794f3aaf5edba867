//! Disks that are really full: a small ext4 in a file, and a tmpfs, which can't say what it has in memory (so every
//! read takes the slower path as well).

use reqwest::StatusCode;

use crate::disk::Disk;
use crate::image::{random_bytes, sha256_of_bytes};
use crate::process::run_to_failure;
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::{Client, Host, Layout};

#[test]
fn a_full_tmpfs_refuses_pushes_and_goes_on_serving() {
    full_disk(&Disk::tmpfs(160), "64 MiB");
}

#[test]
fn a_full_ext4_refuses_pushes_and_goes_on_serving() {
    full_disk(&Disk::ext4(160), "64 MiB");
}

/// With no space kept free, the disk's own error is what the server gets to see, in the database too.
#[test]
fn a_tmpfs_full_to_the_last_block_refuses_pushes_and_goes_on_serving() {
    full_disk(&Disk::tmpfs(96), "0");
}

/// With no space kept free, the disk's own error is what the server gets to see, in the database too.
#[test]
fn an_ext4_full_to_the_last_block_refuses_pushes_and_goes_on_serving() {
    full_disk(&Disk::ext4(96), "0");
}

fn full_disk(disk: &Disk, free_floor: &str) {
    let server = Server::start_at(&disk.path().join("data"), &[("ORLOP_STORAGE_FREE_FLOOR", free_floor)]);
    let skopeo = Skopeo::on(Host::new());
    let kept = Layout::of("kept");
    skopeo.push(&kept, &server.image("kept:1"));

    disk.take(24);

    // Blobs, until there is no room for another.
    let mut accepted = Vec::new();
    let refused = loop {
        let bytes = random_bytes(4 << 20);
        let digest = sha256_of_bytes(&bytes);
        let status = push_blob(&server, &digest, bytes);
        if status != StatusCode::CREATED {
            break status;
        }
        accepted.push(digest);
        assert!(accepted.len() < 100, "the disk is never full");
    };
    assert_eq!(refused, StatusCode::INSUFFICIENT_STORAGE);
    disk.fill();

    // Clients get an error, not a hung or broken connection; manifests are refused as blobs are.
    let to = format!("docker://{}", server.image("refused:1"));
    let said = run_to_failure(&mut skopeo.command(&[
        "copy",
        "--dest-tls-verify=false",
        "--preserve-digests",
        &Layout::of("refused").oci(),
        &to,
    ]));
    assert!(said.contains("507") || said.to_lowercase().contains("full"), "{said}");
    for index in 0..8 {
        assert_eq!(push_manifest(&server, index), StatusCode::INSUFFICIENT_STORAGE);
    }

    // Pulls go on, of what was pushed before and of what was pushed last.
    assert_eq!(skopeo.pull_and_read(&server.image("kept:1"), "/etc/hello"), "kept");
    for digest in &accepted {
        let body = get(&server, &format!("filling/blobs/{digest}"));
        assert_eq!(&sha256_of_bytes(&body), digest);
    }

    // Space is back: so are pushes, by the same process.
    disk.free();
    skopeo.push(&Layout::of("again"), &server.image("again:1"));
    assert_eq!(skopeo.pull_and_read(&server.image("again:1"), "/etc/hello"), "again");
    assert_eq!(skopeo.digest(&server.image("kept:1")), kept.digest());
    let tags = String::from_utf8(get(&server, "refused/tags/list")).expect("JSON is text");
    assert!(!tags.contains("manifest-"), "a refused manifest is tagged: {tags}");
}

fn push_blob(server: &Server, digest: &str, bytes: Vec<u8>) -> StatusCode {
    let url = server.url(&format!("filling/blobs/uploads/?digest={digest}"));
    let request =
        reqwest::blocking::Client::new().post(url).header("content-type", "application/octet-stream");
    request.body(bytes).send().expect("the server answers").status()
}

/// Pushes an index without members, which needs the database and no file.
fn push_manifest(server: &Server, index: u32) -> StatusCode {
    let media_type = "application/vnd.oci.image.index.v1+json";
    // Larger than what the database has left in pages that it allocated earlier.
    let filler = "x".repeat(3_000_000);
    let body = format!(
        r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[],"annotations":{{"n":"{index}","f":"{filler}"}}}}"#
    );
    let url = server.url(&format!("refused/manifests/manifest-{index}"));
    let request = reqwest::blocking::Client::new().put(url).header("content-type", media_type);
    request.body(body).send().expect("the server answers").status()
}

fn get(server: &Server, path: &str) -> Vec<u8> {
    let response = reqwest::blocking::get(server.url(path)).expect("the server answers");
    response.bytes().expect("the body is whole").to_vec()
}
