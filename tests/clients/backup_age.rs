//! Encrypted backups: in a directory and in a bucket, and age itself opens them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::backup_s3::orlop;
use crate::garage::{BUCKET, Garage};
use crate::image::sha256_of;
use crate::process::{find, run, run_to_failure};
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::{Client, Host, Layout};

/// A name that must not be found in what is encrypted.
const NAME: &str = "secretproject/box";

/// An identity that age made: its file, and its recipient.
pub(crate) fn identity(folder: &TempDir, name: &str) -> (String, String) {
    let path = folder.path().join(name).display().to_string();
    run(Command::new(find("age-keygen")).args(["--output", &path]));
    let recipient = run(Command::new(find("age-keygen")).args(["-y", &path]));
    (path, recipient)
}

/// All files in a folder, and in those in it.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("the folder is there") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Takes two snapshots, checks and prunes them without an identity, and restores with one.
fn round_trip(garage: &Garage, at: &str, folder: &TempDir) {
    let skopeo = Skopeo::on(Host::new());
    let (key, recipient) = identity(folder, "key");
    let (spare, spare_recipient) = identity(folder, "spare");
    let (other, _) = identity(folder, "other");
    let server = Server::start_at(&folder.path().join("data"), &settings(garage));
    let image = server.image(&format!("{NAME}:1"));
    skopeo.push(&Layout::of("sealed"), &image);
    let create = |recipients: &[&str]| {
        let mut command = orlop(garage, &["backup", "create", at, "--data"]);
        command.arg(server.data());
        for recipient in recipients {
            command.args(["--encrypt-to", recipient]);
        }
        command
    };
    let said = run_to_failure(&mut create(&["age1nobody"]));
    assert!(said.contains("age-keygen"), "{said}");
    run(&mut create(&[&recipient, &spare_recipient]));
    let said = run(&mut create(&[&recipient, &spare_recipient]));
    assert!(said.contains("added            0 files"), "{said}");
    let said = run_to_failure(&mut create(&[]));
    assert!(said.contains("--encrypt-to"), "{said}");

    let command = |verb: &str, more: &[&str]| {
        let mut command = orlop(garage, &["backup", verb, at]);
        command.args(more);
        command
    };
    run(&mut command("verify", &[]));
    run(&mut command("list", &[]));
    let shown = run(&mut command("show", &["1"]));
    assert!(shown.contains("tags             1"), "{shown}");
    let said = run_to_failure(&mut command("verify", &["--full"]));
    assert!(said.contains("--identity"), "{said}");
    let said = run_to_failure(&mut command("verify", &["--full", "--identity", &other]));
    assert!(said.contains("others than the given identities"), "{said}");
    for key in [&key, &spare] {
        run(&mut command("verify", &["--full", "--identity", key]));
    }
    run(&mut command("diff", &["1", "2", "--identity", &key]));
    run(&mut command("prune", &["--keep-last", "1"]));
    run(&mut command("verify", &["--full", "--identity", &key]));

    let data = folder.path().join("restored");
    let data_text = data.display().to_string();
    run_to_failure(&mut command("restore", &["latest", "--data", &data_text]));
    run(&mut command("restore", &["latest", "--data", &data_text, "--identity", &key]));
    let restored = Server::start_at(&data, &settings(garage));
    let again = restored.image(&format!("{NAME}:1"));
    assert_eq!(skopeo.digest(&again), skopeo.digest(&image));
    assert_eq!(skopeo.pull_and_read(&again, "/etc/hello"), "sealed");
}

fn settings(garage: &Garage) -> Vec<(&'static str, &'static str)> {
    let settings = garage.settings().into_iter();
    settings.map(|(key, value)| (key, &*Box::leak(value.into_boxed_str()))).collect()
}

/// What age makes of an encrypted file.
fn opened(folder: &TempDir, file: &Path) -> PathBuf {
    let (key, to) = (folder.path().join("key"), folder.path().join("opened"));
    run(Command::new(find("age"))
        .arg("--decrypt")
        .arg("--identity")
        .arg(key)
        .arg("--output")
        .arg(&to)
        .arg(file));
    to
}

#[test]
fn an_encrypted_directory_tells_no_name_and_age_opens_it() {
    let garage = Garage::start();
    let folder = TempDir::with_prefix("orlop-age-").expect("a temporary folder can be made");
    let dir = folder.path().join("backup");
    round_trip(&garage, &dir.display().to_string(), &folder);
    let found = files(&dir);
    let blobs: Vec<_> = found.iter().filter(|path| path.starts_with(dir.join("blobs"))).collect();
    // The manifest, the configuration and three layers.
    assert_eq!(blobs.len(), 5);
    for blob in blobs {
        let name = blob.file_name().expect("it has a name").to_string_lossy().into_owned();
        let hex = name.strip_suffix(".age").expect("it is encrypted");
        assert_eq!(sha256_of(&opened(&folder, blob)), format!("sha256:{hex}"));
    }
    for path in &found {
        let bytes = fs::read(path).expect("it can be read");
        let project = NAME.split_once('/').expect("it has two parts").0.as_bytes();
        assert!(!bytes.windows(project.len()).any(|window| window == project), "{}", path.display());
    }
    let index = found.iter().find(|path| path.ends_with("index.json.age")).expect("it is there");
    let index = fs::read_to_string(opened(&folder, index)).expect("it is text");
    assert!(index.contains(NAME), "{index}");

    // What is changed in an encrypted file is found, and named.
    let blob = found.iter().find(|path| path.starts_with(dir.join("blobs"))).expect("there is one");
    let mut bytes = fs::read(blob).expect("it can be read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(blob, &bytes).expect("it can be written");
    let (at, key) = (dir.display().to_string(), folder.path().join("key").display().to_string());
    let said = run_to_failure(&mut orlop(&garage, &["backup", "verify", &at, "--full", "--identity", &key]));
    assert!(said.contains(&blob.display().to_string()), "{said}");
}

#[test]
fn an_encrypted_bucket_is_opened_by_age() {
    let garage = Garage::start();
    let folder = TempDir::with_prefix("orlop-age-").expect("a temporary folder can be made");
    round_trip(&garage, &format!("s3://{BUCKET}/sealed"), &folder);
    let blobs = garage.list("sealed/blobs/");
    // The manifest, the configuration and three layers.
    assert_eq!(blobs.len(), 5);
    let copy = folder.path().join("copy");
    for blob in blobs {
        garage.get(&blob, &copy);
        let hex =
            blob.rsplit_once('/').and_then(|(_, name)| name.strip_suffix(".age")).expect("it is encrypted");
        assert_eq!(sha256_of(&opened(&folder, &copy)), format!("sha256:{hex}"));
    }
}
