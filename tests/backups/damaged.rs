//! Snapshots whose own files are damaged: who refuses, who goes on, and what is advised.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::command::{Backups, all_below};
use crate::support::Server;
use crate::{Scene, blob_file, layer_of, orlop, scene};

/// What `verify` advises about content, and about a snapshot.
const OF_CONTENT: &str = "Remove what is damaged below blobs: the next snapshot copies it anew";
const OF_SNAPSHOT: &str = "can't be mended: remove its directory below snapshots";

/// A file of the snapshot of this name.
fn file(backups: &Backups, snapshot: &str, name: &str) -> PathBuf {
    backups.0.join("snapshots").join(snapshot).join(name)
}

/// Cuts off half of what a snapshot says of itself; returns the file.
fn truncate(backups: &Backups, snapshot: &str) -> PathBuf {
    let path = file(backups, snapshot, "snapshot.json");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    path
}

#[test]
fn a_snapshot_that_cannot_be_read_is_named_until_its_directory_is_removed() {
    let Scene { server, backups, .. } = scene();
    for seed in 1..=2 {
        server.push_image("app", &format!("v{seed}"), seed);
        backups.create(&server.data());
    }
    let names = backups.names();
    let damaged = truncate(&backups, &names[0]);
    let told = format!("{} is damaged", damaged.display());
    let before = all_below(&backups.0);
    for (verb, arguments) in [
        ("list", &[][..]),
        ("list", &["--json"]),
        ("prune", &["--keep-last", "1", "--dry-run"]),
        ("prune", &["--keep-last", "1"]),
    ] {
        backups.run(verb, arguments).code(1).complains(&[&told]);
    }
    assert_eq!(all_below(&backups.0), before, "nothing was removed");
    backups.run("verify", &[]).code(3).prints(&[damaged.to_str().unwrap(), OF_SNAPSHOT]);

    fs::remove_dir_all(damaged.parent().unwrap()).unwrap();
    assert_eq!(backups.names(), names[1..]);
    backups.verify();
    backups.run("prune", &["--keep-last", "1"]).ok().prints(&[&format!("keep    {}", names[1])]);
    backups.verify();
}

#[test]
fn a_schedule_goes_on_where_the_last_snapshot_cannot_be_read() {
    let to = TempDir::new().unwrap();
    let backups = Backups(to.path().to_owned());
    let mut server = Server::with_file(&format!("[[backup]]\nto = {:?}\n", backups.dir()), &[]);
    server.wait_for_line(&["took a backup"]);
    let damaged = truncate(&backups, &backups.names()[0]);
    let told = format!("{} is damaged", damaged.display());
    server.stop();
    let status = orlop(&server, &["status"]);
    assert!(status.lines().any(|line| line.starts_with("WARNING: ") && line.contains(&told)), "{status}");

    server.run_again();
    server.wait_for_line(&["WARN", "the last backup is damaged; another one is due", &told]);
    server.wait_for_lines(2, &["took a backup"]);
    backups.run("list", &[]).code(1).complains(&[&told]);
    fs::remove_dir_all(damaged.parent().unwrap()).unwrap();
    let names = backups.names();
    assert!(names.len() == 1 && names[0].starts_with("000002-"), "{names:?}");
    backups.verify();
}

#[test]
fn verify_advises_by_what_is_damaged() {
    let Scene { server, backups, folder } = scene();
    let layer = layer_of(&server.push_image("app", "v1", 1));
    backups.create(&server.data());
    let (index, blob) = (file(&backups, &backups.names()[0], "index.json"), backups.content(&layer));
    let [own, content] = [&index, &blob].map(|path| format!("problem: {}", path.display()));
    let right = fs::read(&index).unwrap();
    fs::write(&index, b"{}").unwrap();
    backups.run("verify", &[]).code(3).prints(&[&own, OF_SNAPSHOT]).omits(&[OF_CONTENT]);
    fs::remove_file(&blob).unwrap();
    backups.run("verify", &[]).code(3).prints(&[&own, &content, OF_CONTENT, OF_SNAPSHOT]);
    fs::write(&index, right).unwrap();
    backups.run("verify", &[]).code(3).prints(&[&content, OF_CONTENT]).omits(&[OF_SNAPSHOT]);
    backups.create(&server.data());
    backups.verify();

    // A snapshot that lacks what the registry had lost is whole itself.
    let data = folder.path().join("restored");
    backups.restore("latest", &data).ok();
    fs::remove_file(blob_file(&data, &layer)).unwrap();
    let lossy = Backups(folder.path().join("lossy"));
    lossy.run("create", &["--data", data.to_str().unwrap()]).code(3);
    let said = lossy.run("verify", &[]).code(3);
    said.prints(&["snapshot.json: ", "was lost before it was taken"]).omits(&[OF_SNAPSHOT]);
}
