//! Disks that are really full: a small ext4 in a file, and a tmpfs, which can't say what it has in memory (so every
//! read takes the slower path as well).

use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::StatusCode;
use tempfile::TempDir;

use crate::image::{random_bytes, sha256_of_bytes};
use crate::process::{Daemon, find, run, run_to_failure};
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::{Client, Host, Layout};

/// A file system of its own, in a mount namespace that ends with it.
#[derive(Debug)]
struct Disk {
    // Fields drop in this order: the mount goes before the folder that it lies on.
    holder: Daemon,
    folder: TempDir,
}

impl Disk {
    /// So many MiB of memory.
    fn tmpfs(mebibytes: u32) -> Disk {
        let folder = TempDir::with_prefix("orlop-disk-").expect("a temporary folder can be made");
        Disk::mounted(&format!("mount -t tmpfs -o size={mebibytes}m tmpfs \"$0\""), folder)
    }

    /// A file of so many MiB with an ext4 in it.
    fn ext4(mebibytes: u32) -> Disk {
        let folder = TempDir::with_prefix("orlop-disk-").expect("a temporary folder can be made");
        let make = format!("truncate -s {mebibytes}M \"$0.img\" && mkfs.ext4 -q -m 0 \"$0.img\"");
        let (mkfs, image) = (find("mkfs.ext4"), folder.path().with_extension("img"));
        let script = make
            .replace("mkfs.ext4", &mkfs.display().to_string())
            .replace("$0.img", &image.display().to_string());
        // The image needs no name once it is mounted.
        let script = format!("{script} && mount -o loop \"{0}\" \"$0\" && rm \"{0}\"", image.display());
        Disk::mounted(&script, folder)
    }

    fn mounted(mount: &str, folder: TempDir) -> Disk {
        assert!(rustix::process::geteuid().is_root(), "mounting a disk needs root");
        find("mount");
        let mut command = Command::new(find("unshare"));
        let script = format!("{mount} && echo mounted && exec tail -f /dev/null");
        command.args(["--mount", "--", "/bin/sh", "-ec", &script]).arg(folder.path());
        let (holder, _) = Daemon::start("mount", &command, "mounted");
        Disk { holder, folder }
    }

    /// The mounted folder, as everybody else sees it.
    fn path(&self) -> PathBuf {
        let folder = self.folder.path().strip_prefix("/").expect("temporary folders have absolute paths");
        Path::new("/proc").join(self.holder.pid().to_string()).join("root").join(folder)
    }

    /// Takes so many MiB, to be given back later.
    fn take(&self, mebibytes: usize) {
        std::fs::write(self.path().join("taken"), vec![1; mebibytes << 20]).expect("there is room");
    }

    /// Takes all that is free, down to the last block.
    fn fill(&self) {
        let mut file =
            std::fs::File::options().append(true).open(self.path().join("taken")).expect("it is there");
        let piece = vec![1; 64 << 10];
        for size in [64 << 10, 4 << 10, 1] {
            while std::io::Write::write_all(&mut file, &piece[..size]).is_ok() {}
        }
        let _ = file.sync_all();
    }

    /// Gives all of it back; ext4 does so no sooner than its journal says that it was given.
    fn free(&self) {
        std::fs::remove_file(self.path().join("taken")).expect("it was taken");
        run(Command::new(find("sync")).arg("--file-system").arg(self.path()));
    }
}

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
