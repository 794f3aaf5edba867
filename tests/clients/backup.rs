//! Snapshots: other tools read them, and after a disaster every image of one pulls and runs.

use std::path::Path;
use std::process::Command;

use crate::disk::Disk;
use crate::docker::Docker;
use crate::image::{random_bytes, sha256_of_bytes};
use crate::page::snippet_of;
use crate::podman::Podman;
use crate::process::{find, run};
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

/// What is in the newest snapshot.
fn newest(backup: &str) -> serde_json::Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    let shown = run(command.args(["backup", "show", backup, "--json"]));
    serde_json::from_str(&shown).expect("it is JSON")
}

/// The newest snapshot, as an OCI image layout.
fn layout_of(backup: &str) -> String {
    format!("oci:{backup}/snapshots/{}", newest(backup)["name"].as_str().expect("it has a name"))
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
        let strong = Layout::by_sha512("by sha512");
        let strong = strong.folder().display().to_string();
        orlop(&["import", "oci", &strong, "--as", "team/strong:1"], server.data());
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
    // A layer that is named by its sha512 is there by that too.
    let archive = format!("docker-archive:{}", folder.path().join("strong.tar").display());
    skopeo.run(&["copy", "--quiet", &format!("{layout}:team/strong:1"), &archive]);
    let id = podman.pull(&archive, &[]);
    assert_eq!(podman.read(id.trim(), "/etc/hello"), "by sha512");
    let sums = Command::new("sha256sum")
        .args(["--check", "--quiet", "--strict", "SHA256SUMS"])
        .current_dir(layout.strip_prefix("oci:").expect("it is a layout"))
        .output()
        .expect("sha256sum runs");
    assert!(sums.status.success(), "{sums:?}");
}

/// Runs a snippet of the page about operations in a shell, with these places in place of the page's.
fn as_on_the_page(snippet: &str, backup: &str, data: &Path) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_orlop"));
    let text = snippet_of("operations.md", snippet);
    assert!(text.contains("/mnt/backup"), "{text}");
    let text = text.replace("/mnt/backup", backup).replace("/var/lib/orlop", &data.display().to_string());
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", program.parent().expect("it has one").display());
    run(Command::new("sh").args(["-e", "-c", &text]).env("PATH", path))
}

#[test]
fn after_the_disk_is_lost_every_image_of_the_snapshot_pulls_and_runs_in_docker() {
    let folder = folder("disaster");
    let backup = backup_in(&folder);
    let docker = Docker::start(&[]);
    let names = ["team/one:1", "team/one:2", "two:latest"];
    let late = "late:1";
    let (address, lost) = {
        let server = Server::start();
        for name in names {
            docker.load(&Layout::of(name), &server.image(name));
            docker.run(&["push", &server.image(name)]);
        }
        orlop(&["backup", "create", &backup], server.data());
        docker.load(&Layout::of(late), &server.image(late));
        docker.run(&["push", &server.image(late)]);
        for name in names {
            docker.run(&["rmi", "--force", &server.image(name)]);
        }
        (server.address(), server.data().to_owned())
        // The directory goes with the server.
    };
    assert!(!lost.exists());
    let data = folder.path().join("data");
    let said = as_on_the_page("look at the backup", &backup, &data);
    assert!(said.contains("000001-"), "{said}");
    let said = as_on_the_page("restore", &backup, &data);
    assert!(said.contains("orlop serve --data"), "{said}");
    let server = Server::start_in_place_of(address, &data);
    for name in names {
        let image = server.image(name);
        docker.run(&["pull", "--quiet", &image]);
        assert_eq!(docker.run_in_container(&image, &["/bin/busybox", "cat", "/etc/hello"]), name);
    }
    // The machine that still has it pushes what came after the snapshot.
    docker.fail_to_pull(&server.image(late));
    docker.run(&["push", &server.image(late)]);
    let said = as_on_the_page("go on", &backup, &data);
    assert!(said.contains("000002-"), "{said}");
    let newest = newest(&backup);
    let (added, all) = (newest["addedFiles"].as_u64(), newest["blobs"].as_u64());
    assert!(added.is_some_and(|added| added > 0) && added < all, "{added:?} of {all:?}");
}

#[test]
fn where_files_can_share_blocks_a_snapshot_takes_no_room_for_what_the_registry_has() {
    const MEBIBYTE: u64 = 1 << 20;
    let disk = Disk::xfs(512);
    let (data, backup) = (disk.path().join("data"), disk.path().join("backup").display().to_string());
    let server = Server::start_at(&data, &[]);
    let blob = random_bytes(64 << 20);
    let digest = sha256_of_bytes(&blob);
    let url = server.url(&format!("box/blobs/uploads/?digest={digest}"));
    let request =
        reqwest::blocking::Client::new().post(url).header("content-type", "application/octet-stream");
    assert_eq!(request.body(blob.clone()).send().expect("it answers").status(), 201);
    let before = disk.available();
    orlop(&["backup", "create", &backup], &data);
    let took = before - disk.available();
    assert!(took < 16 * MEBIBYTE, "{took} bytes for a blob of 64 MiB that is there already");
    let hex = digest.strip_prefix("sha256:").expect("it is a SHA-256");
    assert!(std::fs::read(Path::new(&backup).join("blobs/sha256").join(hex)).expect("it is there") == blob);
}

/// Waits until `done` says so; somebody else works on it.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..600 {
        if done() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("{what} takes more than a minute");
}

/// A copy names a snapshot only after its content, though rsync and restic see the content first, and a snapshot is taken between.
#[test]
fn copies_by_rsync_and_restic_are_whole_though_snapshots_are_taken_meanwhile() {
    let folder = folder("copies");
    let backup = backup_in(&folder);
    let skopeo = Skopeo::on(Host::new());
    let server = Server::start();
    let push = |name: &str| {
        skopeo.copy(&Layout::of(name).oci(), &format!("docker://{}", server.image(name)), &[]);
    };
    push("team/box:1");
    orlop(&["backup", "create", &backup], server.data());
    let copy = folder.path().join("copy").display().to_string();
    let path = |name: &str| folder.path().join(name);
    // Stops between the two as a copy of much content does.
    let script = format!(
        "rsync -a --exclude snapshots {backup}/ {copy}/; touch half; while [ ! -e go ]; do sleep 0.1; done; rsync -a {backup}/snapshots {copy}/"
    );
    let mut locked = Command::new(env!("CARGO_BIN_EXE_orlop"));
    locked.args(["backup", "lock", &backup, "--", "sh", "-ec", &script]).current_dir(folder.path());
    let mut locked = locked.spawn().expect("orlop starts");
    wait_until("the first half of the copy", || path("half").exists());
    push("team/box:2");
    let mut create = Command::new(env!("CARGO_BIN_EXE_orlop"));
    create.args(["backup", "create", &backup, "--data"]).arg(server.data());
    let mut create = create.spawn().expect("orlop starts");
    // All of it is there but its name.
    wait_until("the snapshot", || {
        let ended = create.try_wait().expect("it can be asked");
        assert!(ended.is_none(), "it doesn't wait for the copy: {ended:?}");
        Path::new(&backup).join("snapshots/.partial/SHA256SUMS").exists()
    });
    std::fs::write(path("go"), "").expect("it can be written");
    assert!(locked.wait().expect("it ends").success(), "the copy");
    assert!(create.wait().expect("it ends").success(), "the snapshot beside the copy");
    let list = |backup: &str| {
        run(Command::new(env!("CARGO_BIN_EXE_orlop")).args(["backup", "verify", backup, "--full", "--json"]));
        let listed = run(Command::new(env!("CARGO_BIN_EXE_orlop")).args(["backup", "list", backup]));
        listed.lines().filter(|line| line.starts_with("0000")).count()
    };
    assert_eq!((list(&copy), list(&backup)), (1, 2));

    // What restic gives back is a backup directory too, in which the next snapshot goes on.
    let repository = path("restic").display().to_string();
    let restic = |arguments: &[&str]| {
        let mut command = Command::new(find("restic"));
        command.args(["--repo", &repository, "--no-cache", "--quiet"]).args(arguments);
        run(command.env("RESTIC_PASSWORD", "test"))
    };
    restic(&["init"]);
    let mut locked = Command::new(env!("CARGO_BIN_EXE_orlop"));
    locked.args(["backup", "lock", &backup, "--"]).arg(find("restic"));
    locked.args(["--repo", &repository, "--no-cache", "--quiet", "backup", &backup]);
    run(locked.env("RESTIC_PASSWORD", "test"));
    let back = path("back").display().to_string();
    restic(&["restore", "latest", "--target", &back]);
    let back = format!("{back}{backup}");
    assert_eq!(list(&back), 2);
    push("team/box:3");
    orlop(&["backup", "create", &back], server.data());
    assert_eq!(list(&back), 3);
    let data = path("data");
    orlop(&["backup", "restore", &back, "latest"], &data);
    let restored = Server::start_at(&data, &[]);
    for name in ["team/box:1", "team/box:2", "team/box:3"] {
        assert_eq!(skopeo.digest(&restored.image(name)), skopeo.digest(&server.image(name)), "{name}");
    }
}
