//! The check of a store while others work on it, its interruption and its resumption.
#![expect(clippy::unwrap_used, reason = "in a test, whatever is not as it should be is a failure")]

use std::fs;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use orlop::clock::monotonic;
use orlop::oci::Digest;
use orlop::registry::{
    Actor, BlobService, Depth, Error, Options, Registry, Treatment, VerifyOptions, VerifyProgress,
};
use tempfile::{TempDir, tempdir};
use tokio::runtime::Runtime;

/// A registry with these blobs in one repository.
struct Store {
    registry: Registry,
    runtime: Runtime,
    directory: TempDir,
}

impl Store {
    fn with(blobs: impl IntoIterator<Item = Vec<u8>>) -> (Store, Vec<Digest>) {
        let directory = tempdir().unwrap();
        let registry = Registry::open(Options::new(directory.path())).unwrap();
        let store = Store { registry, runtime: Runtime::new().unwrap(), directory };
        let mut digests: Vec<Digest> = blobs.into_iter().map(|bytes| store.push(bytes)).collect();
        digests.sort_unstable();
        (store, digests)
    }

    fn blobs(&self) -> BlobService {
        self.registry.namespace().repository(&"a".parse().unwrap()).blobs()
    }

    fn push(&self, bytes: Vec<u8>) -> Digest {
        let put = self.blobs();
        self.runtime.block_on(put.put(Bytes::from(bytes), None, &Actor::anonymous())).unwrap().digest
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.directory.path().join("blobs/sha256").join(&hex[..2]).join(&hex)
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("scrub.json")
    }
}

fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    bytes[0] ^= 1;
    fs::write(file, bytes).unwrap();
}

const FULL: VerifyOptions = VerifyOptions {
    depth: Depth::Full,
    rate: None,
    resume: false,
    treatment: Treatment::Report,
    is_alone: false,
};

/// Stops a full check once so many blobs were looked at; slow enough that it is asked after each.
fn interrupt_after(registry: &Registry, blobs: u64) {
    let rate = NonZeroU64::new(20_000);
    let stopped = registry.verify_with(&VerifyOptions { rate, ..FULL }, |progress| {
        if progress.blobs >= blobs { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(Error::VerifyStopped)), "{stopped:?}");
}

#[test]
fn an_interrupted_check_goes_on_where_it_was_and_knows_what_it_had_found() {
    let (store, digests) = Store::with((0..6_u8).map(|n| vec![n; 5000]));
    flip(&store.file(&digests[0]));
    interrupt_after(&store.registry, 2);
    assert!(store.state().is_file());

    let mut first = None;
    let resumed = VerifyOptions { resume: true, ..FULL };
    let report = store
        .registry
        .verify_with(&resumed, |progress| {
            first.get_or_insert(progress);
            ControlFlow::Continue(())
        })
        .unwrap();
    let first = first.unwrap();
    assert!(first.blobs >= 2 && first.bytes == first.blobs * 5000, "{first:?}");
    assert_eq!((first.total_blobs, first.total_bytes), (6, 30_000));
    assert_eq!(report.problems, [format!("the bytes of the blob {} are damaged", digests[0])]);
    assert!(!store.state().exists(), "the check has ended");

    // Without anything to resume it begins at the beginning.
    let mut first = None;
    let again = store.registry.verify_with(&resumed, |progress| {
        first.get_or_insert(progress);
        ControlFlow::Continue(())
    });
    assert_eq!((first.unwrap().blobs, again.unwrap().problems.len()), (0, 1));
}

#[test]
fn what_was_healed_since_the_interruption_is_not_reported() {
    let (store, digests) = Store::with((0..6_u8).map(|n| vec![n; 5000]));
    flip(&store.file(&digests[0]));
    interrupt_after(&store.registry, 2);
    flip(&store.file(&digests[0]));
    let report =
        store.registry.verify_with(&VerifyOptions { resume: true, ..FULL }, |_| ControlFlow::Continue(()));
    assert_eq!(report.unwrap().problems, [""; 0]);
}

#[test]
fn a_state_that_makes_no_sense_is_as_good_as_none() {
    let (store, _) = Store::with([vec![1; 100]]);
    let large = vec![b' '; 2 << 20];
    for nonsense in [b"{".as_slice(), b"", b"{\"after\": \"sha256:0\"}", &large] {
        fs::write(store.state(), nonsense).unwrap();
        let mut first = None;
        let report = store.registry.verify_with(&VerifyOptions { resume: true, ..FULL }, |progress| {
            first.get_or_insert(progress);
            ControlFlow::Continue(())
        });
        assert!(report.unwrap().is_clean());
        assert_eq!(first.unwrap(), VerifyProgress { total_blobs: 1, total_bytes: 100, ..first.unwrap() });
        assert!(!store.state().exists());
    }
}

#[test]
fn a_rate_is_kept() {
    let (store, _) = Store::with([vec![1; 30_000], vec![2; 30_000]]);
    let began = monotonic();
    let rate = NonZeroU64::new(200_000);
    let report = store.registry.verify_with(&VerifyOptions { rate, ..FULL }, |_| ControlFlow::Continue(()));
    assert!(report.unwrap().is_clean());
    assert!(began.elapsed() >= Duration::from_millis(300), "60,000 bytes at 200,000 a second");
}

#[test]
fn one_check_runs_at_a_time() {
    let (store, _) = Store::with([vec![1; 100]]);
    let mut second = None;
    let first = store.registry.verify_with(&FULL, |_| {
        second.get_or_insert_with(|| store.registry.verify(Depth::Quick));
        ControlFlow::Continue(())
    });
    assert!(first.is_ok());
    assert!(matches!(second, Some(Err(Error::VerifyRunning))), "{second:?}");
    assert!(store.registry.verify(Depth::Quick).is_ok());
}

#[test]
fn pushes_beside_a_check_are_neither_refused_nor_reported() {
    let (store, _) = Store::with((0..50_u8).map(|n| vec![n; 1000]));
    let mut next = 0_u32;
    let report =
        store.registry.verify_with(&VerifyOptions { rate: NonZeroU64::new(100_000), ..FULL }, |_| {
            store.push(next.to_be_bytes().repeat(300));
            next += 1;
            ControlFlow::Continue(())
        });
    let report = report.unwrap();
    assert!(next >= 3, "there was time for {next} pushes");
    assert_eq!((report.problems, report.orphans), (Vec::new(), Vec::new()));
}

#[test]
fn a_report_lists_the_first_thousand_of_anything_and_counts_the_rest() {
    let (store, _) = Store::with([vec![1; 100]]);
    let directory = store.directory.path().join("blobs/sha256/00");
    fs::create_dir(&directory).unwrap();
    for number in 0..1003 {
        fs::write(directory.join(format!("00{number:062x}")), "x").unwrap();
    }
    let report = store.registry.verify(Depth::Quick).unwrap();
    assert!(report.is_clean());
    assert_eq!((report.orphans.len(), report.unlisted_orphans), (1000, 3));
}
