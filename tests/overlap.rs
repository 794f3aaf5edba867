//! One operation in the middle of another: at each of its uses of the directories of blobs and uploads, and at each look at the
//! clock, the collection or a client comes in between, as far as the locks let it.
//!
//! What both were told has to be true afterwards, and rows, references and files have to agree.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has to fail")]

#[path = "overlap/gate.rs"]
mod gate;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use gate::{Gate, GatedClock};
use orlop::clock::{ManualClock, Timestamp};
use orlop::fsio::Disk;
use orlop::oci::{Digest, DigestAlgorithm};
use orlop::registry::{Actor, Collection, Depth, Options, Policy, Registry, Repository, VerifyOptions};
use tokio::runtime::Runtime;

const BLOB: &[u8] = b"the blob that everything is about";
const LEASE: Duration = Duration::from_secs(60);
/// How long the one waits for the other, which may have to wait for it.
const PATIENCE: Duration = Duration::from_millis(8);

/// How things stand before.
#[derive(Debug, Clone, Copy)]
enum Before {
    /// Nobody has the blob.
    Nothing,
    /// A crash has left its file, of the right length and with other bytes.
    Orphan,
    /// It has lost its last link, and may go at once.
    Unlinked,
    /// A repository has it, and its lease has ended.
    Due,
    /// A repository has it, and just got it.
    Leased,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    /// A push in one go.
    Push(&'static str),
    /// A push that was recorded on its way, so that its bytes survive a crash.
    PushRecorded(&'static str),
    /// A look whether the blob is there; says nothing where it isn't.
    Head(&'static str),
    Mount(&'static str),
    Delete(&'static str),
    Collect,
    SweepOrphans,
    SweepUploads,
    Verify,
}

const BEFORE: [Before; 5] = [Before::Nothing, Before::Orphan, Before::Unlinked, Before::Due, Before::Leased];

const OPERATIONS: [Operation; 9] = [
    Operation::Push("a"),
    Operation::PushRecorded("a"),
    Operation::Head("old"),
    Operation::Mount("b"),
    Operation::Delete("old"),
    Operation::Collect,
    Operation::SweepOrphans,
    Operation::SweepUploads,
    Operation::Verify,
];

struct Scene {
    registry: Registry,
    gate: Gate,
    clock: Arc<ManualClock>,
}

fn digest() -> Digest {
    Digest::of(DigestAlgorithm::Sha256, BLOB)
}

fn repository(registry: &Registry, name: &str) -> Repository {
    registry.namespace().repository(&name.parse().unwrap())
}

impl Scene {
    async fn new(before: Before) -> Scene {
        let gate = Gate::new();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_800_000_000_000)));
        let mut options = Options::new("/data");
        options.disk = Arc::new(gate.clone());
        options.clock = Arc::new(GatedClock { clock: clock.clone(), gate: gate.clone() });
        let collection = Collection { lease: LEASE, undo: Duration::ZERO, ..Collection::default() };
        options.policy = Policy { collection, free_floor_bytes: 0, ..Policy::default() };
        let scene = Scene { registry: Registry::open(options).unwrap(), gate, clock };
        match before {
            Before::Nothing => {}
            Before::Orphan => scene.leave_file(),
            Before::Unlinked => {
                scene.push("old").await;
                assert!(repository(&scene.registry, "old").blobs().delete(digest()).await.unwrap());
            }
            Before::Due => {
                scene.push("old").await;
                scene.clock.advance(LEASE * 2);
            }
            Before::Leased => scene.push("old").await,
        }
        scene
    }

    async fn push(&self, name: &str) {
        let blobs = repository(&self.registry, name).blobs();
        blobs.put(Bytes::from_static(BLOB), None, &Actor::anonymous()).await.unwrap();
    }

    fn leave_file(&self) {
        let hex = digest().hex();
        let dir = Path::new("/data/blobs/sha256").join(&hex[..2]);
        self.gate.create_dir(&dir).unwrap();
        let file = self.gate.create(&dir.join(hex)).unwrap();
        file.write_at(&vec![0; BLOB.len()], 0).unwrap();
        file.sync().unwrap();
        self.gate.sync_dir(&dir).unwrap();
    }
}

/// Runs an operation; returns the repository that was told to have the blob.
async fn run(registry: Registry, operation: Operation) -> Option<&'static str> {
    let anonymous = Actor::anonymous();
    match operation {
        Operation::Push(name) => {
            let blobs = repository(&registry, name).blobs();
            blobs.put(Bytes::from_static(BLOB), None, &anonymous).await.unwrap();
            Some(name)
        }
        Operation::PushRecorded(name) => {
            let blobs = repository(&registry, name).blobs();
            let mut upload = blobs.create(DigestAlgorithm::Sha256, &anonymous).unwrap();
            upload.write(Bytes::from_static(&BLOB[..5])).await.unwrap();
            upload.checkpoint().await.unwrap();
            upload.write(Bytes::from_static(&BLOB[5..])).await.unwrap();
            upload.commit(&digest()).await.unwrap();
            Some(name)
        }
        Operation::Head(name) => {
            repository(&registry, name).blobs().stat_held(digest()).await.unwrap().map(|_| name)
        }
        Operation::Mount(name) => {
            let mounted = repository(&registry, name).blobs().mount(digest(), None, &anonymous).await;
            mounted.unwrap().map(|_| name)
        }
        Operation::Delete(name) => {
            // The repository may never have been.
            let _ = repository(&registry, name).blobs().delete(digest()).await;
            None
        }
        Operation::Collect => {
            registry.collect(|_| {}).await.unwrap();
            None
        }
        Operation::SweepOrphans => {
            registry.sweep_orphans().await.unwrap();
            None
        }
        Operation::SweepUploads => {
            registry.sweep_uploads().await.unwrap();
            None
        }
        Operation::Verify => {
            let check = move || {
                let options = VerifyOptions::new(Depth::Full);
                registry.verify_with(&options, |_| std::ops::ControlFlow::Continue(()))
            };
            let report = tokio::task::spawn_blocking(check).await.unwrap().unwrap();
            assert_eq!(report.problems, [""; 0], "beside somebody else");
            None
        }
    }
}

type Told = Option<&'static str>;

/// Runs `outer`, and `inner` at its gate with the number; `None` where it has fewer gates.
fn overlap(
    runtime: &Runtime,
    before: Before,
    outer: Operation,
    inner: Operation,
    number: u64,
) -> Option<(Told, Told)> {
    let scene = runtime.block_on(Scene::new(before));
    let (done, finished) = channel::<Told>();
    let (resume, stopped) = channel::<Receiver<Told>>();
    let (handle, registry) = (runtime.handle().clone(), scene.registry.clone());
    scene.gate.stop_at(
        number,
        Box::new(move || {
            handle.spawn(async move {
                let _ = done.send(run(registry, inner).await);
            });
            match finished.recv_timeout(PATIENCE) {
                Ok(told) => {
                    let (again, finished) = channel();
                    again.send(told).unwrap();
                    resume.send(finished).unwrap();
                }
                // It waits for the outer one.
                Err(RecvTimeoutError::Timeout) => resume.send(finished).unwrap(),
                Err(RecvTimeoutError::Disconnected) => panic!("{inner:?} has failed"),
            }
        }),
    );
    let outer_told = runtime.block_on(run(scene.registry.clone(), outer));
    if scene.gate.forget() {
        return None;
    }
    let finished = stopped.recv().unwrap();
    let inner_told = finished.recv().expect("the inner operation has failed");
    check(runtime, &scene, outer, inner, [outer_told, inner_told]);
    Some((outer_told, inner_told))
}

/// What was told is true, and stays so for the lease; rows, references and files agree.
fn check(runtime: &Runtime, scene: &Scene, outer: Operation, inner: Operation, told: [Told; 2]) {
    let deletes = |name| [outer, inner].contains(&Operation::Delete(name));
    let must_have: Vec<_> = told.into_iter().flatten().filter(|name| !deletes(name)).collect();
    let expect = || {
        for name in &must_have {
            let blob = runtime.block_on(repository(&scene.registry, name).blobs().get(digest())).unwrap();
            assert_eq!(blob.as_deref(), Some(BLOB), "{name} was told to have it");
        }
    };
    expect();
    runtime.block_on(scene.registry.collect(|_| {})).unwrap();
    scene.clock.advance(LEASE.saturating_sub(Duration::from_millis(1)));
    runtime.block_on(scene.registry.collect(|_| {})).unwrap();
    expect();
    runtime.block_on(scene.registry.sweep_orphans()).unwrap();
    let report = scene.registry.verify(Depth::Full).unwrap();
    assert_eq!((report.problems, report.orphans), (vec![], vec![]));
    scene.clock.advance(LEASE * 4);
    runtime.block_on(scene.registry.collect(|_| {})).unwrap();
    let report = scene.registry.verify(Depth::Full).unwrap();
    assert_eq!((report.problems, report.orphans, report.blobs), (vec![], vec![], 0));
}

/// Every inner operation at every gate of an outer one; returns how many overlaps that were.
fn overlaps(before: Before, outer: Operation) -> u64 {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap();
    let mut overlaps = 0;
    for inner in OPERATIONS {
        if (outer, inner) == (Operation::Verify, Operation::Verify) {
            // The second one is told that the first is at work.
            continue;
        }
        for number in 0.. {
            let run = || overlap(&runtime, before, outer, inner, number);
            match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
                Ok(None) => break,
                Ok(Some(_)) => overlaps += 1,
                Err(panic) => panic!("{inner:?} at gate {number} of {outer:?}, with {before:?}: {panic:?}"),
            }
        }
    }
    overlaps
}

#[test]
fn each_operation_may_come_in_the_middle_of_each_other() {
    let scenes: Vec<_> = BEFORE.iter().flat_map(|before| OPERATIONS.map(|outer| (*before, outer))).collect();
    let next = AtomicUsize::new(0);
    // Most of the time each waits for a lock that it gets only when it has waited enough.
    let all: u64 = thread::scope(|scope| {
        let work = || {
            let mut done = 0;
            while let Some((before, outer)) = scenes.get(next.fetch_add(1, Ordering::Relaxed)) {
                done += overlaps(*before, *outer);
            }
            done
        };
        let workers: Vec<_> = (0..6).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    println!("{all} overlaps");
    assert!(all > 500, "{all}");
}
