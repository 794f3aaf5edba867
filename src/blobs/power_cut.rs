//! What publishing promises, against a disk that loses all it may.

use super::{BlobStore, Checkpoint, StagedBlob, UploadId};
use crate::clock::Timestamp;
use crate::fsio::{Fault, Replay, SimulatedDisk};
use crate::oci::{Digest, DigestAlgorithm};
use crate::telemetry::StorageMetrics;
use std::path::PathBuf;
use std::sync::Arc;

const SEEDS: std::ops::Range<u64> = 0..16;

/// Something that the store has said is durable, and the operations that had returned when it said so.
enum Promise {
    Blob { at: u64, digest: Digest },
    Upload { at: u64, until: u64, id: UploadId, checkpoint: Checkpoint, content: Vec<u8> },
}

/// A disk on which a store has worked, with everything it promised.
struct Scenario {
    disk: SimulatedDisk,
    promises: Vec<Promise>,
    /// The digests in the order of their publication.
    published: Vec<Digest>,
    /// The operations of opening.
    opened: u64,
}

fn open(disk: &SimulatedDisk) -> BlobStore {
    BlobStore::open(Arc::new(disk.clone()), PathBuf::from("/data"), StorageMetrics::default()).unwrap()
}

fn stage(store: &BlobStore) -> StagedBlob {
    let id = UploadId::generate(Timestamp::from_millis(1_700_000_000_000));
    store.stage(id, &[DigestAlgorithm::Sha256])
}

fn content(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i * 7 + usize::from(seed)) % 251).unwrap()).collect()
}

fn publish(store: &BlobStore, mut staged: StagedBlob) -> Digest {
    let digest = staged.digest(DigestAlgorithm::Sha256).unwrap();
    store.publish(&store.lock_blocking(&digest), staged, &digest).unwrap();
    digest
}

impl Scenario {
    /// Opens a store and publishes blobs: of many sectors, of no bytes, the same one again, and one by way of a
    /// checkpoint and a resumption.
    fn run() -> Scenario {
        let disk = SimulatedDisk::new();
        let store = open(&disk);
        let mut scenario = Scenario {
            opened: disk.operations(),
            published: Vec::new(),
            disk: disk.clone(),
            promises: Vec::new(),
        };
        let large = content(1, 3000);
        for bytes in [large.as_slice(), b"", large.as_slice()] {
            let mut staged = stage(&store);
            staged.write(bytes).unwrap();
            let digest = publish(&store, staged);
            scenario.published.push(digest);
            scenario.promises.push(Promise::Blob { at: disk.operations(), digest });
        }

        let resumed = content(2, 2500);
        let mut staged = stage(&store);
        let id = staged.id();
        staged.write(&resumed[..1000]).unwrap();
        let checkpoint = staged.checkpoint().unwrap();
        let promised = disk.operations();
        staged.write(b"not to be kept").unwrap();
        drop(staged);
        let mut staged = store.resume(id, &checkpoint).unwrap().unwrap();
        staged.write(&resumed[1000..]).unwrap();
        scenario.promises.push(Promise::Upload {
            at: promised,
            until: disk.operations(),
            id,
            checkpoint,
            content: resumed[..1000].to_vec(),
        });
        let digest = publish(&store, staged);
        scenario.promises.push(Promise::Blob { at: disk.operations(), digest });
        scenario
    }

    /// What is wrong with the disk after a cut at this point of the replay, if anything is.
    fn violation(&self, replay: &Replay, seed: u64) -> Option<String> {
        let disk = replay.reboot(seed);
        let completed = replay.completed();
        let store = open(&disk);
        let mut buf = vec![0; 10_000];
        for found in store.walk() {
            let (digest, len) = found.unwrap();
            let read = store.open_blob(&digest).unwrap().unwrap().read_at(&mut buf, 0).unwrap();
            if Digest::of(digest.algorithm(), &buf[..read]) != digest || read as u64 != len {
                return Some(format!("{digest} has other bytes"));
            }
        }
        for promise in &self.promises {
            match promise {
                Promise::Blob { at, digest } => {
                    if *at <= completed && store.open_blob(digest).unwrap().is_none() {
                        return Some(format!("{digest} is lost"));
                    }
                }
                Promise::Upload { at, until, id, checkpoint, content } => {
                    if !(*at..=*until).contains(&completed) {
                        continue;
                    }
                    let Some(mut staged) = store.resume(*id, checkpoint).unwrap() else {
                        return Some("the checkpoint is lost".to_owned());
                    };
                    staged.add_algorithm(DigestAlgorithm::Sha512).unwrap();
                    for algorithm in [DigestAlgorithm::Sha256, DigestAlgorithm::Sha512] {
                        if staged.digest(algorithm).unwrap() != Digest::of(algorithm, content) {
                            return Some("the checkpoint has other bytes".to_owned());
                        }
                    }
                }
            }
        }
        None
    }

    /// The first cut, with its seed, that breaks a promise.
    fn first_violation(&self, mut replay: Replay) -> Option<String> {
        loop {
            for seed in SEEDS {
                if let Some(violation) = self.violation(&replay, seed) {
                    let at = self.disk.describe(replay.completed() + 1);
                    return Some(format!("{violation} after a cut during {at}, seed {seed}"));
                }
            }
            if !replay.advance() {
                return None;
            }
        }
    }
}

#[test]
fn what_publish_and_checkpoint_promised_survives_a_cut_at_every_operation() {
    let scenario = Scenario::run();
    assert_eq!(scenario.first_violation(scenario.disk.replay()), None);
}

#[test]
fn leaving_out_any_one_sync_breaks_a_promise() {
    let scenario = Scenario::run();
    let mut harmless = Vec::new();
    for sync in 1..=scenario.disk.syncs() {
        if scenario.first_violation(scenario.disk.replay().ignoring_sync(sync)).is_none() {
            harmless.push(scenario.disk.describe_sync(sync));
        }
    }
    let (empty, twice) = (&scenario.published[1], &scenario.published[2]);
    let known = [
        // A file of no bytes has none to lose.
        format!("sync /data/blobs/sha256/e3/{}", empty.hex()),
        // The name was there already, for the same bytes.
        format!("sync directory /data/blobs/sha256/{}", &twice.hex()[..2]),
    ];
    let without_numbers: Vec<_> = harmless.iter().map(|line| line.split_once(": ").unwrap().1).collect();
    assert_eq!(without_numbers, known);
}

#[test]
fn the_power_may_fail_under_the_running_store() {
    let whole = Scenario::run();
    for cut in whole.opened + 1..=whole.disk.operations() {
        let disk = SimulatedDisk::new();
        let store = open(&disk);
        disk.cut_power_at(cut);
        let push = || {
            let mut staged = stage(&store);
            staged.write(&content(1, 3000))?;
            let digest = staged.digest(DigestAlgorithm::Sha256)?;
            store.publish(&store.lock_blocking(&digest), staged, &digest).map(|()| digest)
        };
        let acknowledged = push();
        for seed in SEEDS {
            let store = open(&disk.reboot(seed));
            if let Ok(digest) = &acknowledged {
                assert_eq!(store.blob_len(digest).unwrap(), Some(3000), "cut at {cut}, seed {seed}");
            }
        }
    }
}

#[test]
fn a_full_disk_fails_the_push_alone_and_room_heals_it() {
    let whole = Scenario::run();
    for full in whole.opened + 1..=whole.disk.operations() {
        let disk = SimulatedDisk::new();
        let store = open(&disk);
        let kept = publish(&store, {
            let mut staged = stage(&store);
            staged.write(b"kept").unwrap();
            staged
        });
        disk.fill_up_at(full);
        let staged = stage(&store);
        let id = staged.id();
        let large = content(1, 3000);
        let push = |mut staged: StagedBlob| {
            staged.write(&large)?;
            let digest = staged.digest(DigestAlgorithm::Sha256)?;
            store.publish(&store.lock_blocking(&digest), staged, &digest)
        };
        if let Err(error) = push(staged) {
            assert!(error.is_full(), "{error}");
        }
        assert_eq!(store.blob_len(&kept).unwrap(), Some(4));
        disk.set_capacity(None);
        store.discard(id).unwrap();
        push(stage(&store)).unwrap();
        assert_eq!(store.walk().count(), 2);
        assert!(store.staged_ids().unwrap().is_empty());
    }
}

#[test]
fn a_write_that_failed_can_be_repeated_and_its_remains_are_not_published() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let mut staged = stage(&store);
    staged.write(b"first ").unwrap();
    disk.fail_at(disk.operations() + 1, Fault::Full);
    assert!(staged.write(b"second").unwrap_err().is_full());
    assert_eq!(staged.len(), 6);
    staged.write(b"second").unwrap();
    let digest = publish(&store, staged);
    assert_eq!(digest, Digest::of(DigestAlgorithm::Sha256, b"first second"));
    assert_eq!(store.blob_len(&digest).unwrap(), Some(12));
}

#[test]
fn nothing_is_promised_on_a_file_whose_sync_has_failed() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let mut staged = stage(&store);
    staged.write(b"bytes").unwrap();
    disk.fail_at(disk.operations() + 1, Fault::InputOutput);
    assert!(staged.checkpoint().is_err());
    assert!(staged.checkpoint().is_err(), "the second sync would succeed and prove nothing");
    let digest = staged.digest(DigestAlgorithm::Sha256).unwrap();
    assert!(store.publish(&store.lock_blocking(&digest), staged, &digest).is_err());
    assert!(store.open_blob(&digest).unwrap().is_none());
}

/// A store that has published an upload, taken it back, and gone on with it up to another checkpoint.
fn taken_back() -> (SimulatedDisk, UploadId, Checkpoint) {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let mut staged = stage(&store);
    let id = staged.id();
    staged.write(b"before").unwrap();
    let checkpoint = staged.checkpoint().unwrap();
    let digest = staged.digest(DigestAlgorithm::Sha256).unwrap();
    let lock = store.lock_blocking(&digest);
    store.publish(&lock, staged, &digest).unwrap();
    // Another upload makes durable that the name in `uploads` is gone.
    let mut other = stage(&store);
    other.write(b"other").unwrap();
    other.checkpoint().unwrap();
    assert!(store.unpublish(&lock, id, &digest, 6).unwrap());
    let mut staged = store.resume(id, &checkpoint).unwrap().unwrap();
    staged.write(b" and after").unwrap();
    let checkpoint = staged.checkpoint().unwrap();
    (disk, id, checkpoint)
}

fn goes_on(replay: &Replay, id: UploadId, checkpoint: &Checkpoint) -> bool {
    let whole = Digest::of(DigestAlgorithm::Sha256, b"before and after");
    SEEDS.into_iter().all(|seed| {
        let resumed = open(&replay.reboot(seed)).resume(id, checkpoint).unwrap();
        // From the bytes, since the hash in the checkpoint knows nothing of the disk.
        let bytes = Checkpoint { len: checkpoint.len, states: Vec::new() };
        resumed.is_some()
            && open(&replay.reboot(seed))
                .resume(id, &bytes)
                .unwrap()
                .unwrap()
                .digest(DigestAlgorithm::Sha256)
                .unwrap()
                == whole
    })
}

#[test]
fn an_upload_that_was_taken_back_keeps_what_it_promises_later() {
    let (disk, id, checkpoint) = taken_back();
    let mut replay = disk.replay();
    while replay.advance() {}
    assert!(goes_on(&replay, id, &checkpoint));
}

#[test]
fn each_sync_from_the_taking_back_on_is_needed() {
    let (disk, id, checkpoint) = taken_back();
    let syncs = disk.syncs();
    // The directory of the uploads after the rename, and the bytes that came later.
    for sync in [syncs - 1, syncs] {
        let mut replay = disk.replay().ignoring_sync(sync);
        while replay.advance() {}
        assert!(!goes_on(&replay, id, &checkpoint), "{}", disk.describe_sync(sync));
    }
}

/// A checkpoint before the first byte has no file to name, so a file that is found there later proves nothing.
#[test]
fn an_upload_resumed_before_its_first_byte_keeps_what_it_promises_later() {
    let disk = SimulatedDisk::new();
    let store = open(&disk);
    let mut staged = stage(&store);
    let (id, checkpoint) = (staged.id(), staged.checkpoint().unwrap());
    staged.write(b"never acknowledged").unwrap();
    drop(staged);
    let mut staged = store.resume(id, &checkpoint).unwrap().unwrap();
    staged.write(b"before and after").unwrap();
    let checkpoint = staged.checkpoint().unwrap();
    let mut replay = disk.replay();
    while replay.advance() {}
    assert!(goes_on(&replay, id, &checkpoint));
}
