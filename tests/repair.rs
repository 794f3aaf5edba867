//! Whatever can be derived from other rows can be lost, or be nonsense, and is mended by `orlop verify --repair`.
#![expect(clippy::unwrap_used, reason = "in a test, whatever is not as it should be is a failure")]

#[path = "cli/running.rs"]
#[allow(dead_code, reason = "the tests of the program use all of it")]
mod running;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use orlop::metadata::{FILE_NAME, Table};
use orlop::oci::{Digest, DigestAlgorithm};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use reqwest::blocking::Client;
use running::{Running, run};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::of(DigestAlgorithm::Sha256, bytes)
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": sha256(bytes), "size": bytes.len()})
}

fn push_blob(server: &Running, name: &str, bytes: &[u8], algorithm: DigestAlgorithm) {
    let path = format!("/v2/{name}/blobs/uploads/?digest={}", Digest::of(algorithm, bytes));
    assert_eq!(client().post(server.url(&path)).body(bytes.to_vec()).send().unwrap().status(), 201);
}

fn push_manifest(server: &Running, name: &str, reference: &str, document: &Value) -> Vec<u8> {
    let bytes = serde_json::to_vec(document).unwrap();
    let reference = if reference.is_empty() { sha256(&bytes).to_string() } else { reference.to_owned() };
    let request = client().put(server.url(&format!("/v2/{name}/manifests/{reference}"))).body(bytes.clone());
    let media_type = document["mediaType"].as_str().unwrap();
    assert_eq!(request.header("content-type", media_type).send().unwrap().status(), 201);
    bytes
}

fn image(name: &str, server: &Running, reference: &str, layer: &[u8], subject: Option<&[u8]>) -> Vec<u8> {
    push_blob(server, name, b"{}", DigestAlgorithm::Sha256);
    push_blob(server, name, layer, DigestAlgorithm::Sha512);
    let mut document = json!({
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": descriptor(CONFIG, b"{}"),
        "layers": [descriptor(LAYER, layer)],
    });
    if let Some(subject) = subject {
        document["subject"] = descriptor(IMAGE, subject);
    }
    push_manifest(server, name, reference, &document)
}

/// A stopped server's store with a row in every table that can be derived.
fn store() -> TempDir {
    let directory = tempdir().unwrap();
    let server = Running::start(directory.path(), &[]);
    for name in ["a", "b/c"] {
        let tagged = image(name, &server, "v1", b"a layer", None);
        image(name, &server, "", format!("a signature in {name}").as_bytes(), Some(&tagged));
        image(name, &server, "", format!("without a tag in {name}").as_bytes(), None);
        let child = image(name, &server, "", b"of an index", None);
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(IMAGE, &child)]});
        push_manifest(&server, name, "all", &index);
        push_blob(&server, name, b"not needed yet", DigestAlgorithm::Sha256);
    }
    let deleted = client().delete(server.url("/v2/a/manifests/v1")).send().unwrap();
    assert_eq!(deleted.status(), 202);
    assert!(server.stop().status.success());
    directory
}

fn copy(store: &TempDir) -> TempDir {
    let copy = tempdir().unwrap();
    let copied = Command::new("cp").arg("-a").arg(store.path().join("data")).arg(copy.path()).status();
    assert!(copied.unwrap().success());
    copy
}

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.name())
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// Every row of every table.
fn dump(directory: &Path) -> BTreeMap<&'static str, Rows> {
    let database = Database::open(directory.join("data").join(FILE_NAME)).unwrap();
    let transaction = database.begin_read().unwrap();
    let rows = |table: Table| {
        let opened = transaction.open_table(definition(table)).unwrap();
        let rows = opened.iter().unwrap().map(|row| {
            let (key, value) = row.unwrap();
            (key.value().to_vec(), value.value().to_vec())
        });
        rows.collect::<Rows>()
    };
    Table::ALL.into_iter().map(|table| (table.name(), rows(table))).collect()
}

fn change(directory: &Path, table: Table, change: impl FnOnce(&mut Rows)) {
    let mut rows = dump(directory).remove(table.name()).unwrap();
    let before: Vec<Vec<u8>> = rows.keys().cloned().collect();
    assert!(!before.is_empty(), "{} has rows to lose", table.name());
    change(&mut rows);
    let database = Database::open(directory.join("data").join(FILE_NAME)).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut opened = transaction.open_table(definition(table)).unwrap();
        for key in &before {
            opened.remove(key.as_slice()).unwrap();
        }
        for (key, value) in &rows {
            opened.insert(key.as_slice(), value.as_slice()).unwrap();
        }
    }
    transaction.commit().unwrap();
}

fn verify(directory: &Path, arguments: &[&str]) -> Value {
    let output = run(directory, &[&["verify", "--json"], arguments].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

/// The tables that can be derived, and the place of a byte of a digest in their keys.
const DERIVED: [(Table, usize); 9] = [
    (Table::LinksByBlob, 5),
    (Table::RepositoriesByManifest, 5),
    (Table::TagsByManifest, 14),
    (Table::AliasesByDigest, 5),
    (Table::ReferencesByChild, 14),
    (Table::ReferrersBySubject, 14),
    (Table::Untagged, 14),
    (Table::Candidates, 22),
    (Table::RepositorySizes, 7),
];

/// Mends what `damage` did to a store, which then has to be as it was, but for when manifests became untagged.
fn mended(store: &TempDir, table: Table, damage: impl FnOnce(&mut Rows)) {
    let directory = copy(store);
    let before = dump(directory.path());
    change(directory.path(), table, damage);
    assert_eq!(verify(directory.path(), &["--quick"])["clean"], false, "{}", table.name());
    let repaired = verify(directory.path(), &["--quick", "--repair"]);
    assert_eq!(repaired["clean"], true, "{}: {repaired}", table.name());
    assert!(!repaired["repaired"].as_array().unwrap().is_empty(), "{}", table.name());
    let after = dump(directory.path());
    for (name, rows) in &before {
        if *name == Table::Untagged.name() {
            assert!(rows.keys().eq(after[name].keys()), "{name} after damage of {}", table.name());
        } else {
            assert_eq!(rows, &after[name], "{name} after damage of {}", table.name());
        }
    }
    assert_eq!(verify(directory.path(), &[])["clean"], true);
}

#[test]
fn indexes_and_counters_that_are_lost_are_derived_again() {
    let store = store();
    assert_eq!(verify(store.path(), &[])["clean"], true);
    for (table, _) in DERIVED {
        mended(&store, table, BTreeMap::clear);
    }
}

#[test]
fn rows_of_indexes_that_make_no_sense_are_removed_and_counters_put_right() {
    let store = store();
    for (table, at) in DERIVED {
        mended(&store, table, |rows| {
            if table == Table::RepositorySizes {
                let counters = rows.values_mut().last().unwrap();
                counters[1] ^= 1;
                return;
            }
            let (key, value) = rows.iter().next().map(|(key, value)| (key.clone(), value.clone())).unwrap();
            let mut nonsense = key;
            nonsense[at] ^= 1;
            rows.insert(nonsense, value);
        });
    }
}

#[test]
fn without_being_asked_to_nothing_is_mended() {
    let store = store();
    change(store.path(), Table::TagsByManifest, BTreeMap::clear);
    let before = dump(store.path());
    for arguments in [["--dry-run"].as_slice(), &[], &["--quick"]] {
        let found = verify(store.path(), arguments);
        assert_eq!((&found["clean"], &found["repaired"]), (&false.into(), &json!([])));
    }
    assert_eq!(dump(store.path()), before);
    assert_eq!(run(store.path(), &["verify", "--repair", "--dry-run"]).status.code(), Some(2));
}

#[test]
fn a_repair_beside_a_server_removes_what_nothing_names_and_nothing_else() {
    let store = store();
    let orphan = sha256(b"left by a crash");
    let path = store.path().join("data/blobs/sha256").join(&orphan.hex()[..2]);
    fs::create_dir_all(&path).unwrap();
    let orphan_file = path.join(orphan.hex());
    fs::write(&orphan_file, b"left by a crash").unwrap();
    let server = Running::start(store.path(), &[]);
    let layer = sha256(b"a layer");
    let layer_file = store.path().join("data/blobs/sha256").join(&layer.hex()[..2]).join(layer.hex());
    fs::write(&layer_file, b"A layer").unwrap();
    assert_eq!(verify(store.path(), &[])["clean"], false);
    let aside = store.path().join("data/quarantine").join(format!("sha256-{}", layer.hex()));
    // The damaged blob is still to be healed.
    verify(store.path(), &["--repair"]);
    assert!(aside.exists() && !orphan_file.exists());
    push_blob(&server, "a", b"a layer", DigestAlgorithm::Sha256);
    let begun = client().post(server.url("/v2/a/blobs/uploads/")).body("").send().unwrap();
    let upload = begun.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(client().patch(server.url(&upload)).body(vec![7; 1 << 20]).send().unwrap().status(), 202);

    let repaired = verify(store.path(), &["--repair"]);
    assert_eq!((&repaired["clean"], &repaired["orphans"]), (&true.into(), &json!([])));
    assert_eq!(repaired["repaired"].as_array().unwrap().len(), 1, "{repaired}");
    assert!(!aside.exists() && layer_file.exists());
    let finish = format!("{upload}?digest={}", sha256(&vec![7; 1 << 20]));
    assert_eq!(client().put(server.url(&finish)).send().unwrap().status(), 201);
    server.stop();
}
