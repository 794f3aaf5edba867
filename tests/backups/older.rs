//! Snapshots of former schemas: one that each released schema has taken, and one made of the rows of a schema before the first that took
//! any.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use orlop::metadata::SCHEMA;
use orlop::oci::{Digest, DigestAlgorithm};
use orlop::registry::{Depth, Options, Registry, VerifyReport};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle};
use serde_json::json;
use tempfile::TempDir;

use crate::command::Backups;
use crate::sha256;

/// The first schema that took snapshots.
const FIRST: u32 = 4;

fn unpack(name: &str, to: &Path) {
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    let advice = "take a snapshot of what tests/data/fill.py makes, and keep it as a tar file";
    assert!(stored.exists(), "there is no {}: {advice}", stored.display());
    fs::create_dir_all(to).unwrap();
    let unpacked = Command::new("tar").arg("-xzf").arg(&stored).arg("-C").arg(to).status().unwrap();
    assert!(unpacked.success());
}

fn report(data: &Path) -> VerifyReport {
    let report = Registry::open(Options::new(data)).unwrap().verify(Depth::Full).unwrap();
    assert_eq!(report.problems, [""; 0]);
    report
}

/// What is the same of a registry and of a restored one.
fn counts(report: &VerifyReport) -> [u64; 4] {
    [report.repositories, report.blobs, report.manifests, report.tags]
}

/// Restores a snapshot whole, and by parts into another directory.
fn restored(backups: &Backups, folder: &Path) -> [VerifyReport; 2] {
    let [whole, parts] = ["whole", "parts"].map(|name| folder.join(name));
    backups.verify();
    backups.restore("latest", &whole).ok();
    let said = backups.run("restore", &["latest", "--repository", "**", "--data", parts.to_str().unwrap()]);
    said.ok().prints(&["conflicts        0", "failed           0"]);
    [report(&whole), report(&parts)]
}

#[test]
fn every_stored_snapshot_of_a_former_schema_restores_whole_and_by_parts() {
    for schema in FIRST..=SCHEMA {
        let folder = TempDir::new().unwrap();
        let backups = Backups(folder.path().join("backup"));
        unpack(&format!("snapshot-schema-{schema}.tar.gz"), &backups.0);
        let shown = backups.run("show", &["--json"]).ok().json();
        assert_eq!(shown["schema"], schema);
        let [whole, parts] = restored(&backups, folder.path());
        assert_eq!((counts(&whole), counts(&parts)), ([3, 8, 7, 5], [3, 7, 7, 5]), "schema {schema}");
    }
}

/// The tables that no snapshot has.
const OF_THE_MACHINE: [&str; 5] = ["uploads", "fetches", "events", "event_cursors", "damaged"];

/// Makes a snapshot of a stored data directory, in the layout that docs/backup.md describes, as its schema would have.
fn snapshot_of(data: &Path, schema: u32, backup: &Path) {
    let dir = backup.join("snapshots/000001-20261121-120000");
    let blobs = backup.join("blobs/sha256");
    for dir in [&dir, &blobs] {
        fs::create_dir_all(dir).unwrap();
    }
    fs::write(backup.join("format"), "orlop backup 1\n").unwrap();
    let prefixes = fs::read_dir(data.join("blobs/sha256")).unwrap();
    for file in prefixes.flat_map(|prefix| fs::read_dir(prefix.unwrap().path()).unwrap()).map(Result::unwrap)
    {
        fs::copy(file.path(), blobs.join(file.file_name())).unwrap();
    }
    let database = Database::open(data.join("metadata.redb")).unwrap();
    let read = database.begin_read().unwrap();
    let (mut copy, mut rows) = (b"ORLOPMD1".to_vec(), 0_u64);
    copy.extend(schema.to_be_bytes());
    let names: Vec<String> = read.list_tables().unwrap().map(|table| table.name().to_owned()).collect();
    for name in names {
        let table = read.open_table(TableDefinition::<&[u8], &[u8]>::new(&name)).unwrap();
        copy.push(1);
        copy.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
        copy.extend(name.as_bytes());
        for row in table.iter().unwrap() {
            let (key, value) = row.unwrap();
            let (key, value) = (key.value(), value.value());
            if name == "manifest_payloads" {
                let digest = Digest::of(DigestAlgorithm::Sha256, value);
                fs::write(blobs.join(digest.hex()), value).unwrap();
            } else if !OF_THE_MACHINE.contains(&&*name) {
                copy.push(2);
                copy.extend(u32::try_from(key.len()).unwrap().to_be_bytes());
                copy.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                copy.extend([key, value].concat());
                rows += 1;
            }
        }
    }
    copy.push(0);
    copy.extend(rows.to_be_bytes());
    let mut out = zstd::Encoder::new(Vec::new(), 3).unwrap();
    out.include_checksum(true).unwrap();
    out.write_all(&copy).unwrap();
    let snapshot = json!({
        "name": "000001-20261121-120000", "takenAt": "2026-11-21T12:00:00.000Z", "takenAtMillis": 1_795_262_400_000_u64,
        "version": "0.0.1", "schema": schema, "withCached": false, "tags": 0, "manifests": 7, "blobs": 8, "bytes": 0,
        "addedFiles": 0, "addedBytes": 0, "absent": 0, "lost": [], "rows": rows,
    });
    let files: [(&str, Vec<u8>); 5] = [
        ("absent.jsonl", Vec::new()),
        ("index.json", b"{\"schemaVersion\":2,\"manifests\":[]}".to_vec()),
        ("metadata.zst", out.finish().unwrap()),
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("snapshot.json", snapshot.to_string().into_bytes()),
    ];
    let mut sums = String::new();
    for (name, bytes) in &files {
        fs::write(dir.join(name), bytes).unwrap();
        sums.extend([&sha256(bytes)[7..], "  ", name, "\n"]);
    }
    fs::write(dir.join("SHA256SUMS"), sums).unwrap();
}

fn stored(schema: u32, folder: &TempDir) -> (PathBuf, Backups) {
    let data = folder.path().join("stored");
    unpack("schema-3.tar.gz", &data);
    let backups = Backups(folder.path().join("backup"));
    snapshot_of(&data, schema, &backups.0);
    (data, backups)
}

#[test]
fn a_snapshot_of_the_rows_of_an_older_schema_is_migrated() {
    let folder = TempDir::new().unwrap();
    let (data, backups) = stored(3, &folder);
    let [whole, parts] = restored(&backups, folder.path());
    // Migrated as the directory itself is. What was deleted and can come back isn't brought by parts.
    let expected = counts(&report(&data));
    assert_eq!(counts(&whole), expected);
    assert_eq!((parts.repositories, parts.manifests, parts.tags), (expected[0], expected[2], expected[3]));
}

#[test]
fn a_snapshot_of_a_newer_schema_is_left_to_the_version_that_took_it() {
    let folder = TempDir::new().unwrap();
    let (_, backups) = stored(SCHEMA + 1, &folder);
    let data = folder.path().join("restored");
    let told = ["was taken by a later version of Orlop", "use that one"];
    backups.restore("1", &data).code(1).complains(&told);
    backups
        .run("restore", &["1", "--repository", "**", "--data", data.to_str().unwrap()])
        .code(1)
        .complains(&told);
    backups.run("verify", &[]).code(1).complains(&told);
    // Nobody knows what it needs.
    fs::write(backups.0.join("blobs/sha256").join(&sha256(b"stray")[7..]), b"stray").unwrap();
    backups.run("prune", &["--keep-last", "1"]).code(1).complains(&told);
    assert!(backups.0.join("blobs/sha256").join(&sha256(b"stray")[7..]).exists());
}
