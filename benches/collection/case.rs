//! What is measured on a store, each in a process of its own, so that its memory is its own too.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use orlop::clock::monotonic;
use orlop::maintenance::retention::{DeleteRules, DeleteTags, KeepRules, Retention, RetentionPolicy};
use orlop::maintenance::{RunOptions, run};
use orlop::oci::Reference;
use orlop::registry::{Collected, Collection, NameScope, TagSelection};
use serde::{Deserialize, Serialize};

use crate::store::{self, IMAGES, Store};

/// How often a process does what it measures.
const TIMES: u64 = 30;

/// The size of pages.
const PAGE: usize = 1_000;

/// Longer than any lease.
const AFTER_THE_LEASE: Duration = Duration::from_secs(2 * 60 * 60);

/// Something that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    /// What the command line calls it.
    pub(crate) key: &'static str,
    /// What the report calls it.
    pub(crate) title: &'static str,
    /// Whether it is about everything that the store holds, so that the larger store takes longer.
    pub(crate) is_about_everything: bool,
}

/// Everything that is measured, in the report's order.
pub(crate) const CASES: [Case; 16] = [
    Case::of_one("delete", "delete an image, without undo"),
    Case::of_one("reclaim", "collect it after its lease"),
    Case::of_one("delete-undo", "delete an image that can come back"),
    Case::of_one("reclaim-undo", "collect it after its undo and its lease"),
    Case::of_one("delete-plain", "delete one that can come back, without quick repair"),
    Case::of_one("reclaim-plain", "collect it after its undo and its lease, without quick repair"),
    Case::of_one("idle", "collect where nothing is due"),
    Case::of_one("plan", "say what a collection would do, where nothing is due"),
    Case::of_one("policy", "decide about all tags of one repository by a policy"),
    Case::of_one("tags", "a page of 100 tags"),
    Case::of_one("du", "the sizes of ten repositories"),
    Case::of_one("du-tag", "the sizes of one tag"),
    Case::of_one("status", "`orlop status`"),
    Case::of_one("start", "start, to the first answer"),
    Case::of_one("start-after-crash", "start after a crash, to the first answer"),
    Case { key: "du-all", title: "the sizes of all repositories", is_about_everything: true },
];

impl Case {
    const fn of_one(key: &'static str, title: &'static str) -> Case {
        Case { key, title, is_about_everything: false }
    }
}

/// What one process has measured.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// How long it took each time, in microseconds.
    pub(crate) micros: Vec<f64>,
    /// The most that was in memory, in KiB.
    pub(crate) peak_kib: u64,
}

/// Measures the case on the store at `data` with so many repositories.
pub(crate) async fn measure(key: &str, data: &Path, repositories: u64) -> Measured {
    let mut taken = Vec::new();
    match key {
        "delete" | "reclaim" => {
            let collection = Collection { undo: Duration::ZERO, ..Collection::default() };
            let open = || Store::open(data, collection);
            reclaim(open, repositories, collection, key == "delete", &mut taken).await;
        }
        "delete-undo" | "reclaim-undo" => {
            let collection = Collection::default();
            let open = || Store::open(data, collection);
            reclaim(open, repositories, collection, key == "delete-undo", &mut taken).await;
        }
        "delete-plain" | "reclaim-plain" => {
            let collection = Collection::default();
            let open = || Store::open_slow_to_repair(data, collection);
            reclaim(open, repositories, collection, key == "delete-plain", &mut taken).await;
        }
        "start" => taken.push(start(data)),
        "start-after-crash" => {
            crash(data);
            taken.push(start(data));
        }
        "crash" => {
            let store = Store::open(data, Collection::default());
            push_own(&store, 0).await;
            std::process::abort();
        }
        _ => look(key, data, repositories, &mut taken).await,
    }
    let micros = taken.iter().map(|taken| taken.as_secs_f64() * 1e6).collect();
    Measured { micros, peak_kib: peak_kib() }
}

/// Deletes images with a layer of their own and has them collected, one after the other, in repositories all over the
/// store.
async fn reclaim(
    open: impl Fn() -> Store,
    repositories: u64,
    collection: Collection,
    is_deletion_timed: bool,
    taken: &mut Vec<Duration>,
) {
    let mut images = Vec::new();
    let store = open();
    for time in 0..TIMES {
        let number = time * repositories / TIMES;
        images.push((number, push_own(&store, number).await));
    }
    store.registry.close().await;
    drop(store);

    // Opened again, so that nothing of what is deleted is in memory.
    let store = open();
    store.clock.advance(AFTER_THE_LEASE);
    for (number, digest) in images {
        let manifests = store.repository(number).manifests();
        let began = monotonic();
        let tags = manifests.delete(&digest).await.expect("it can be deleted");
        if is_deletion_timed {
            taken.push(began.elapsed());
        }
        assert_eq!(tags.map(|tags| tags.len()), Some(1), "the image was there");
        store.clock.advance(collection.undo + AFTER_THE_LEASE);
        let began = monotonic();
        let gone = store.registry.collect(|_| {}).await.expect("it collects");
        if !is_deletion_timed {
            taken.push(began.elapsed());
        }
        assert_eq!(gone.blobs, 1, "{gone:?}");
    }
    store.registry.close().await;
}

/// Pushes an image with a layer that no other has.
async fn push_own(store: &Store, number: u64) -> orlop::oci::Digest {
    let fresh = store::fresh();
    let (own, tag) = (format!("fresh layer {fresh}"), format!("fresh-{fresh}"));
    let tag = tag.parse().expect("it is a tag");
    let pushed = store::push_image(&store.repository(number), number, Some(own), tag).await;
    pushed.expect("an image is pushed").canonical
}

/// From a closed store to the first answer.
fn start(data: &Path) -> Duration {
    let began = monotonic();
    let store = Store::open(data, Collection::default());
    let reference = Reference::Tag(store::tag(0));
    let found = store.repository(0).manifests().get(&reference).expect("it answers");
    let taken = began.elapsed();
    assert!(found.is_some(), "the image is there");
    taken
}

/// Leaves the store as a process does that is killed after a push.
fn crash(data: &Path) {
    let program = std::env::current_exe().expect("it runs");
    let status = std::process::Command::new(program)
        .args(["measure", "crash", &data.display().to_string(), "1"])
        .stderr(std::process::Stdio::null())
        .status();
    assert!(!status.expect("a process starts").success(), "it was to crash");
}

/// What changes nothing.
async fn look(key: &str, data: &Path, repositories: u64, taken: &mut Vec<Duration>) {
    let store = Store::open(data, Collection::default());
    let policies = policies();
    for time in 0..TIMES {
        let number = time * repositories / TIMES;
        let repository = store.repository(number);
        let began = monotonic();
        match key {
            "idle" => {
                let gone = store.registry.collect(|_| {}).await.expect("it collects");
                assert_eq!(gone, Collected::default());
            }
            "plan" => {
                let plan = store.registry.collection_plan().expect("it looks");
                assert_eq!(plan.due, Collected::default());
            }
            "policy" => {
                let options = RunOptions { repository: Some(store::name(number)), dry_run: true };
                let report = run(&store.registry, &policies, &options, |_| {
                    std::future::ready(ControlFlow::Continue(()))
                })
                .await;
                let report = report.expect("it decides");
                assert!(report.deleted_tags >= IMAGES / 2, "{report:?}");
            }
            "tags" => {
                let page = repository.tags().list(None, 100).expect("it lists");
                assert_eq!(page.items.len(), 100);
            }
            "du" => {
                let page = store.registry.namespace().sizes(None, 10).expect("it lists");
                assert_eq!(page.items.len(), 10);
            }
            "du-tag" => {
                let sizes = repository.sizes_of_tag(&store::tag(0)).expect("it counts").expect("it is there");
                assert!(sizes.blobs == 4 && sizes.unique > 0, "{sizes:?}");
            }
            "du-all" => all_sizes(&store, repositories),
            "status" => assert!(store.registry.status().expect("it looks").tags >= repositories * IMAGES),
            _ => panic!("there is no case {key}"),
        }
        taken.push(began.elapsed());
    }
    store.registry.close().await;
}

fn all_sizes(store: &Store, repositories: u64) {
    let (mut seen, mut after) = (0, None);
    loop {
        let page = store.registry.namespace().sizes(after.as_deref(), PAGE).expect("it lists");
        seen += page.items.len() as u64;
        after = page.items.last().map(|(name, _)| name.as_str().to_owned());
        if !page.more {
            return assert_eq!(seen, repositories);
        }
    }
}

/// Keeps the last ten tags of each repository, and versions 1.2.x.
fn policies() -> Retention {
    let keep = KeepRules {
        matching: vec!["1.2.*".parse().expect("it is a pattern")],
        last: std::num::NonZeroUsize::new(10),
        ..KeepRules::default()
    };
    let policy = RetentionPolicy {
        name: "last-ten".to_owned(),
        repositories: NameScope::everything(),
        tags: TagSelection::everything(),
        keep,
        delete: DeleteRules { tags: DeleteTags::Others, untagged_after: None },
    };
    Retention { policies: vec![policy] }
}

/// The most that this process had in memory, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
