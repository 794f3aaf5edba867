//! Every data directory that a released Orlop wrote opens, migrates and has all that was put into it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use orlop::clock::{ManualClock, Timestamp};
use orlop::metadata::SCHEMA;
use orlop::oci::{Digest, DigestAlgorithm, Reference};
use orlop::registry::{Depth, Options, Registry, Repository};
use tempfile::TempDir;

/// Shortly after the directories were written: their uploads have not expired.
const THEN: Timestamp = Timestamp::from_millis(1_795_271_520_000);

/// The upload that `tests/data/fill.py` left half way, by schema.
const UPLOADS: [&str; 3] = [
    "01a1fcc3-35ec-7010-a082-7eb562fedecb",
    "01a1fd25-0253-7440-910a-ca8a80151158",
    "01a1fe84-ae0b-7a92-b81e-8f04ccdcfa43",
];

/// How many repositories, blobs, manifests and tags the directories hold, by schema.
const COUNTS: [(u64, u64, u64, u64); 3] = [(2, 5, 6, 4), (3, 7, 7, 5), (3, 8, 7, 5)];

fn stored(schema: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/schema-{schema}.tar.gz"))
}

fn repository(registry: &Registry, name: &str) -> Repository {
    registry.namespace().repository(&name.parse().unwrap())
}

fn tag(name: &str) -> Reference {
    Reference::Tag(name.parse().unwrap())
}

#[test]
fn there_is_a_stored_directory_of_every_former_schema() {
    for schema in 1..SCHEMA {
        assert!(stored(schema).exists(), "make {} with tests/data/fill.py", stored(schema).display());
    }
    assert!(UPLOADS.len() >= SCHEMA as usize - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_of_every_schema_open_with_all_that_is_in_them() {
    for (schema, (upload, counts)) in (1..).zip(UPLOADS.into_iter().zip(COUNTS)) {
        let dir = TempDir::new().unwrap();
        let unpacked =
            Command::new("tar").arg("-xzf").arg(stored(schema)).arg("-C").arg(dir.path()).status().unwrap();
        assert!(unpacked.success());
        let mut options = Options::new(dir.path());
        options.clock = Arc::new(ManualClock::new(THEN));
        let registry = Registry::open(options.clone()).unwrap();

        let report = registry.verify(Depth::Full).unwrap();
        assert_eq!((report.problems, report.orphans), (vec![], vec![]), "schema {schema}");
        assert_eq!((report.repositories, report.blobs, report.manifests, report.tags), counts);

        let app = repository(&registry, "team/app");
        let (latest, _) = app.manifests().get(&tag("latest")).unwrap().unwrap();
        assert_eq!(app.tags().history(&"latest".parse().unwrap(), None, 10).unwrap().items.len(), 2);
        assert_eq!(app.referrers().list(&latest.digest, None, None).unwrap().descriptors.len(), 1);
        assert!(app.manifests().get(&tag("both")).unwrap().is_some());
        let first = Digest::of(DigestAlgorithm::Sha256, b"first layer");
        let other = repository(&registry, "other");
        assert_eq!(other.blobs().get(&first).await.unwrap().unwrap(), Bytes::from_static(b"first layer"));
        let named = Digest::of(DigestAlgorithm::Sha512, b"named by sha512");
        assert_eq!(other.blobs().stat(named).unwrap().unwrap().size, 15);
        let opaque = other.manifests().stat(&tag("opaque")).unwrap().unwrap();
        assert_eq!(opaque.digest.algorithm(), DigestAlgorithm::Sha512);

        if schema >= 2 {
            let signed = repository(&registry, "team/box");
            let manifest = signed.tags().get(&"1".parse().unwrap()).unwrap().unwrap();
            assert_eq!(signed.signatures().get(&manifest.digest).unwrap().unwrap().len(), 7);
        }

        if schema >= 3 {
            let pulls = app.manifests().usage(&tag("latest")).unwrap().unwrap().pulls;
            assert_eq!(pulls, 2, "one of then and one of here");
            assert_eq!(registry.deletions(None, 10).unwrap().items.len(), 1);
        }

        let mut writer = other.blobs().resume(&upload.parse().unwrap()).await.unwrap().unwrap();
        writer.write(Bytes::from_static(b" a blob")).await.unwrap();
        writer.commit(&Digest::of(DigestAlgorithm::Sha256, b"half of a blob")).await.unwrap();
        assert_eq!(options.metrics.rehashed_bytes(), 0, "schema {schema}: the hash state is read");
        assert!(registry.verify(Depth::Full).unwrap().is_clean());
    }
}
