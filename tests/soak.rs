//! Many clients at work on the real program while it collects without pause, and nothing that anybody was told is ever taken
//! back: not by the collection, and not by a kill at any moment.
//!
//! The clients push layers that they share, skip what HEAD has told them is there, mount, send in chunks and go on where they
//! were interrupted; they pull, tag, re-tag, delete and undelete. Each has tags of its own that nobody else touches, and
//! deletes only what no other client relies on. In the end rows, files and references have to agree exactly.
//!
//! `SOAK_OPERATIONS` and `SOAK_SEED` choose how much is done in each of the runs, and what.
#![expect(clippy::unwrap_used, reason = "in a test, whatever is not as it should be is a failure")]

#[path = "soak/arena.rs"]
mod arena;
#[path = "soak/audit.rs"]
mod audit;
#[path = "soak/client.rs"]
mod client;
#[path = "soak/content.rs"]
mod content;
#[path = "soak/counts.rs"]
mod counts;
#[path = "crash/killer.rs"]
mod killer;
#[path = "crash/program.rs"]
mod program;
#[path = "crash/random.rs"]
mod random;
#[path = "soak/undelete.rs"]
mod undelete;
#[path = "crash/wire.rs"]
mod wire;
#[path = "soak/worker.rs"]
mod worker;

use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use std::{env, thread};

use arena::Arena;
use counts::Counts;
use orlop::registry::Collection;
use random::Random;
use worker::{Scene, Worker};

/// How many clients there are at once.
const CLIENTS: u64 = 10;
/// How many repositories they share.
const REPOSITORIES: u64 = 3;

/// How one run goes.
struct Plan {
    name: &'static str,
    /// How long what was deleted can come back.
    undo: Duration,
    /// About how many requests the server lives for; 0 for the whole run.
    kill_after: u64,
}

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).ok().map_or(default, |value| value.parse().unwrap())
}

#[test]
fn nothing_that_was_promised_is_collected() {
    soak(&Plan { name: "no undo", undo: Duration::ZERO, kill_after: 0 });
}

#[test]
fn nothing_that_was_promised_is_collected_while_deletions_are_undone() {
    soak(&Plan { name: "undo", undo: Duration::from_secs(3), kill_after: 0 });
}

#[test]
fn nothing_that_was_promised_is_collected_however_often_the_server_is_killed() {
    soak(&Plan { name: "kills", undo: Duration::from_secs(2), kill_after: 300 });
}

#[expect(clippy::print_stdout, reason = "the counts say what was tested")]
fn soak(plan: &Plan) {
    let (operations, seed) = (setting("SOAK_OPERATIONS", 2_500), setting("SOAK_SEED", 1));
    let directory = tempfile::tempdir().unwrap();
    // Longer than nearly every push takes; a push that takes longer still is told so, and does it again.
    let collection = Collection {
        lease: Duration::from_millis(setting("SOAK_LEASE_MS", 1_000)),
        undo: plan.undo,
        untagged_grace: Some(Duration::from_millis(1)),
        ..Collection::default()
    };
    let settings = [
        format!("delete.undo={}ms", plan.undo.as_millis()),
        format!("collection.lease={}ms", collection.lease.as_millis()),
        "collection.untagged_grace=1ms".to_owned(),
        "collection.every=10ms".to_owned(),
    ];
    let mut random = Random::new(seed);
    let repositories: Vec<String> = (0..REPOSITORIES).map(|number| format!("team-{number}/app")).collect();
    let (arena, left) = (Arena::default(), AtomicU64::new(operations));
    let scene = Scene {
        arena: &arena,
        repositories: &repositories,
        blobs: &content::shared(),
        lease: collection.lease,
        undo: plan.undo,
        socket: directory.path().join("data").join("admin.sock"),
        left: &left,
    };
    let began = Instant::now();
    let (kills, outcomes) = thread::scope(|scope| {
        let (working, done) = channel::<()>();
        let mut killing = Random::new(random.next());
        let server = scope.spawn({
            let (arena, directory, settings) = (&arena, directory.path(), &settings);
            move || arena.serve(directory, settings, plan.kill_after, &mut killing, &done)
        });
        let workers: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let worker = Worker::new(format!("w{number}"), &scene, Random::new(random.next()));
                scope.spawn(move || worker.work())
            })
            .collect();
        let outcomes: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        // Also where a worker has failed, so that the server ends.
        drop(working);
        let kills = server.join().unwrap();
        (kills, outcomes.into_iter().map(Result::unwrap).collect::<Vec<_>>())
    });
    let took = began.elapsed();

    let log = std::fs::read_to_string(directory.path().join("log")).unwrap();
    assert!(!log.contains("ERROR"), "{log}");
    let mut counts = Counts::default();
    for outcome in &outcomes {
        counts.merge(&outcome.counts);
    }
    let requests: u64 = outcomes.iter().map(|outcome| outcome.requests).sum();
    let pushed = outcomes.iter().flat_map(|outcome| &outcome.seen).collect::<HashSet<_>>().len() as u64;
    let tags: Vec<_> = outcomes.into_iter().flat_map(|outcome| outcome.tags).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let data = directory.path().join("data");
    let end = runtime.block_on(audit::audit(&data, collection, &tags, plan.kill_after > 0));
    let collected = pushed - end.stopped_with;
    println!("{}: {kills} kills, {requests} requests in {took:?}\n{counts}", plan.name);
    println!("{collected} of {pushed} blobs and manifests were collected meanwhile; {end:?}");
    assert!(counts.of("pull") > 0 && counts.of("image") > 0 && counts.total() >= operations);
    assert!(collected > 0, "nothing was collected while clients were at work");
    assert!(plan.kill_after == 0 || kills > 1, "the server was hardly ever killed");
}
