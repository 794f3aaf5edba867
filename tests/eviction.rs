//! Eviction: which cached images go, what goes with them, and what stays.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "collection/store.rs"]
mod store;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use orlop::client;
use orlop::clock::ManualClock;
use orlop::fsio::SimulatedDisk;
use orlop::oci::{Digest, RepositoryName, Tag};
use orlop::proxy::{Cache, Settings, UpstreamSettings};
use orlop::registry::{
    Actor, Error, Evicted, EvictionGuard, Options, Policy, Quotas, Registry, Repository, UpstreamAccess,
};
use orlop::telemetry::Metrics;
use store::{
    BEGIN, HOUR, IMAGE, INDEX, MINUTE, Store, image, index, push, push_blob, push_image, sha256, tag,
};

const UP: &str = "up.example";

fn policy() -> Policy {
    let upstreams = [UP, "other.example"].map(|folder| (folder.to_owned(), UpstreamAccess::Anonymous));
    Policy { upstreams: upstreams.into(), ..Policy::default() }
}

fn store() -> Store {
    Store::with(policy())
}

fn has(repository: &Repository, reference: &str) -> bool {
    repository.manifests().stat(&reference.parse().unwrap()).unwrap().is_some()
}

fn pull(repository: &Repository, reference: &str) {
    repository.manifests().get(&reference.parse().unwrap()).unwrap().unwrap();
}

fn bytes(store: &Store, upstream: Option<&str>) -> u64 {
    store.registry.cached_sizes(upstream).unwrap().bytes
}

/// Evicts as much as it takes to have so much less.
async fn evict(store: &Store, less: u64) -> Evicted {
    let target = bytes(store, None).saturating_sub(less);
    let evicted = store.registry.eviction().evict(None, target).await.unwrap();
    store.check();
    evicted
}

async fn evict_all(store: &Store) -> Evicted {
    evict(store, u64::MAX).await
}

#[tokio::test]
async fn the_least_recently_used_images_go_first_until_there_is_room() {
    let store = store();
    let cached = store.repository("up.example/app");
    for number in 1..=6 {
        push_image(&cached, &[&format!("layer {number}")], &[&format!("v{number}")]).await;
        store.pass(MINUTE);
    }
    store.pass(MINUTE * 10);
    pull(&cached, "v1");
    store.pass(MINUTE);
    // A HEAD is as good, also where it isn't written down yet.
    store.registry.flush_pulls().await.unwrap();
    cached.manifests().ask(&"v2".parse().unwrap()).unwrap().unwrap();
    store.pass(MINUTE * 10);
    let target = bytes(&store, None) - 2 * bytes(&store, None) / 6;
    let evicted = store.registry.eviction().evict(Some(UP), target).await.unwrap();
    assert_eq!((evicted.images, evicted.tags, evicted.blobs, evicted.bytes), (2, 2, 2, 14));
    let there: Vec<bool> = (1..=6).map(|number| has(&cached, &format!("v{number}"))).collect();
    assert_eq!(there, [true, true, false, false, true, true]);
    assert!(bytes(&store, None) <= target);
    assert_eq!(store.blobs(), 4);
    store.check();
    let again = store.registry.eviction().evict(Some(UP), target).await.unwrap();
    assert_eq!(again, Evicted::default());
    assert_eq!(cached.tags().history(&tag("v3"), None, 10).unwrap().items.len(), 1, "its name stays known");
}

#[tokio::test]
async fn what_is_evicted_is_counted_in_the_metrics() {
    let clock = Arc::new(ManualClock::new(BEGIN));
    let mut options = Options::new("/data");
    options.disk = Arc::new(SimulatedDisk::new());
    options.clock = clock.clone();
    options.policy = Policy { free_floor_bytes: 0, ..policy() };
    let metrics = Metrics::new(&options.metrics);
    let registry = Registry::open(options).unwrap();
    let cached = registry.namespace().repository(&"up.example/app".parse().unwrap());
    push_image(&cached, &["layer 1"], &["v1"]).await;
    clock.advance(HOUR);
    assert_eq!(registry.eviction().evict(None, 0).await.unwrap().images, 1);
    let text = metrics.render();
    for line in ["\norlop_cache_evicted_images_total 1\n", "\norlop_cache_evicted_bytes_total 7\n"] {
        assert!(text.contains(line), "{text}");
    }
}

#[tokio::test]
async fn what_was_used_in_the_last_five_minutes_stays() {
    let store = store();
    let cached = store.repository("up.example/app");
    push_image(&cached, &["one"], &["v1"]).await;
    push_image(&cached, &["two"], &["v2"]).await;
    assert_eq!(evict_all(&store).await, Evicted::default());
    store.pass(Duration::from_secs(290));
    pull(&cached, "v2");
    store.pass(Duration::from_secs(10));
    assert_eq!(evict_all(&store).await.images, 1);
    assert!(has(&cached, "v2"));
    store.pass(MINUTE * 5);
    assert_eq!(evict_all(&store).await.images, 1);
}

#[tokio::test]
async fn a_repository_without_anything_left_disappears() {
    let store = store();
    let cached = store.repository("up.example/app");
    push_image(&cached, &["one"], &["v1"]).await;
    for number in 0..300 {
        push_image(&cached, &["one", &format!("{number}")], &[&format!("v{number}")]).await;
    }
    push_blob(&cached, "alone").await;
    store.pass(MINUTE * 4);
    evict_all(&store).await;
    assert!(cached.exists().unwrap());
    store.pass(MINUTE * 6);
    evict_all(&store).await;
    assert!(cached.exists().unwrap(), "a blob is left");
    store.collect().await;
    store.registry.eviction().evict_superseded(HOUR).await.unwrap();
    assert!(!cached.exists().unwrap());
    store.collect().await;
    assert_eq!(store.blobs(), 0);
    assert_eq!(store.registry.sizes().unwrap().bytes, 0);
    push_image(&cached, &["one"], &["v1"]).await;
    assert_eq!(cached.tags().history(&tag("v1"), None, 10).unwrap().items.len(), 1);
    store.check();
}

#[tokio::test]
async fn a_layer_stays_as_long_as_another_image_needs_it() {
    let store = store();
    let (a, b) = (store.repository("up.example/a"), store.repository("up.example/b"));
    let local = store.repository("local");
    push_image(&a, &["shared", "a1"], &["v1"]).await;
    store.pass(MINUTE);
    push_image(&a, &["shared", "a2"], &["v2"]).await;
    store.pass(MINUTE);
    push_image(&b, &["shared", "both"], &["v1"]).await;
    push_image(&local, &["both"], &["v1"]).await;
    store.pass(HOUR);
    let first = evict(&store, 1).await;
    assert_eq!((first.images, first.links, first.blobs), (1, 1, 1));
    assert!(a.blobs().stat(sha256(b"shared")).unwrap().is_some());
    let second = evict(&store, 1).await;
    assert_eq!((second.images, second.links, second.blobs), (1, 2, 1));
    assert!(!a.exists().unwrap());
    assert!(b.blobs().get(sha256(b"shared")).await.unwrap().is_some());
    let third = evict_all(&store).await;
    assert_eq!((third.images, third.links, third.blobs), (1, 2, 1));
    assert_eq!(local.blobs().get(sha256(b"both")).await.unwrap().unwrap(), "both");
    assert_eq!((bytes(&store, None), store.blobs()), (0, 1));
}

#[tokio::test]
async fn an_index_goes_with_the_children_that_nothing_else_names() {
    let store = store();
    let cached = store.repository("up.example/app");
    let children: Vec<String> =
        ["amd64", "arm64", "tagged", "shared", "absent"].map(|layer| image(&[layer], None)).into();
    for layer in ["amd64", "arm64", "tagged", "shared"] {
        push_blob(&cached, layer).await;
    }
    for child in &children[..4] {
        push(&cached, IMAGE, child, if child == &children[2] { &["child"] } else { &[] }).await;
    }
    let all: Vec<&str> = children.iter().map(String::as_str).collect();
    push(&cached, INDEX, &index(&all), &["v1", "latest"]).await;
    store.check();
    store.pass(HOUR);
    push(&cached, INDEX, &index(&all[3..4]), &["v2"]).await;
    store.pass(MINUTE);
    // Nobody takes a child out of an index, however long ago it was used.
    let evicted = evict(&store, 1).await;
    assert_eq!((evicted.images, evicted.manifests, evicted.tags, evicted.blobs), (1, 3, 2, 2));
    let there: Vec<bool> =
        children.iter().map(|child| has(&cached, &sha256(child.as_bytes()).to_string())).collect();
    assert_eq!(there, [false, false, true, true, false]);
    assert!(has(&cached, "child") && has(&cached, "v2"));
    store.pass(HOUR);
    assert_eq!(evict_all(&store).await.images, 2);
    assert_eq!(store.blobs(), 0);
}

#[tokio::test]
async fn an_index_in_indexes_goes_with_the_last_of_them() {
    let store = store();
    let cached = store.repository("up.example/app");
    push_blob(&cached, "layer").await;
    let leaf = image(&["layer"], None);
    push(&cached, IMAGE, &leaf, &[]).await;
    let inner = index(&[&leaf]);
    push(&cached, INDEX, &inner, &[]).await;
    let outer = index(&[&inner, &leaf]);
    push(&cached, INDEX, &outer, &["v1"]).await;
    store.pass(HOUR);
    let evicted = evict(&store, 1).await;
    assert_eq!((evicted.images, evicted.manifests, evicted.blobs), (1, 3, 1));
    assert!(!cached.exists().unwrap());
}

#[tokio::test]
async fn an_image_of_one_platform_that_is_pulled_keeps_its_index() {
    let store = store();
    let cached = store.repository("up.example/app");
    let child = image(&["layer"], None);
    push_image(&cached, &["layer"], &[]).await;
    push(&cached, INDEX, &index(&[&child]), &["v1"]).await;
    push_image(&cached, &["other"], &["v2"]).await;
    store.pass(HOUR);
    pull(&cached, &sha256(child.as_bytes()).to_string());
    assert_eq!(evict_all(&store).await.images, 1);
    assert!(has(&cached, "v1") && !has(&cached, "v2"));
}

#[tokio::test]
async fn what_refers_to_an_image_goes_by_its_own_use() {
    let store = store();
    let cached = store.repository("up.example/app");
    let subject = image(&["layer"], None);
    push_image(&cached, &["layer"], &["v1"]).await;
    push_blob(&cached, "signature").await;
    let referrer = push(&cached, IMAGE, &image(&["signature"], Some(&subject)), &[]).await;
    store.pass(HOUR);
    pull(&cached, "v1");
    assert_eq!(evict_all(&store).await.images, 1);
    assert!(!cached.manifests().exists(&referrer).unwrap() && has(&cached, "v1"));
    push(&cached, IMAGE, &image(&["signature"], Some(&subject)), &[]).await;
    store.pass(HOUR);
    pull(&cached, &referrer.to_string());
    assert_eq!(evict_all(&store).await.images, 1);
    assert!(cached.manifests().exists(&referrer).unwrap() && !has(&cached, "v1"));
}

#[tokio::test]
async fn only_the_upstream_that_has_too_much_gives_something() {
    let store = store();
    let (up, other) = (store.repository("up.example/app"), store.repository("other.example/app"));
    push_image(&other, &["shared", "other"], &["v1"]).await;
    push_image(&up, &["shared", "up"], &["v1"]).await;
    store.pass(HOUR);
    let evicted = store.registry.eviction().evict(Some(UP), 0).await.unwrap();
    assert_eq!((evicted.images, evicted.links, evicted.blobs), (1, 2, 1));
    assert!(has(&other, "v1") && !up.exists().unwrap());
    assert_eq!(bytes(&store, Some(UP)), 0);
    let unknown = store.registry.eviction().evict(Some("unknown.example"), 0).await.unwrap();
    assert_eq!(unknown, Evicted::default());
    store.check();
}

#[tokio::test]
async fn an_image_that_is_being_read_stays() {
    let store = store();
    let cached = store.repository("up.example/app");
    push_image(&cached, &["one"], &["v1"]).await;
    push_image(&cached, &["two"], &["v2"]).await;
    store.pass(HOUR);
    let reader = cached.blobs().open(sha256(b"one")).unwrap().unwrap();
    let clone = reader.clone();
    drop(reader);
    assert_eq!(evict_all(&store).await.images, 1);
    assert!(has(&cached, "v1"));
    drop(clone);
    assert_eq!(evict_all(&store).await.images, 1);
    assert_eq!(store.blobs(), 0);
}

#[tokio::test]
async fn an_image_stays_while_somebody_reads_what_was_just_fetched() {
    let store = store();
    let cached = store.repository("up.example/app");
    push(&cached, IMAGE, &image(&["one"], None), &["v1"]).await;
    let mut fetch = cached.blobs().fetch(&sha256(b"one"), 3, &Actor::anonymous()).await.unwrap();
    let growing = fetch.blob();
    fetch.write(Bytes::from_static(b"one")).await.unwrap();
    fetch.finish().await.unwrap();
    store.pass(HOUR);
    assert_eq!(evict_all(&store).await.images, 0);
    drop(growing);
    assert_eq!(evict_all(&store).await.images, 1);
}

/// Guards what it is told of.
#[derive(Debug, Default)]
struct Guard {
    pinned: BTreeSet<String>,
    fetched: Mutex<Option<Digest>>,
}

impl EvictionGuard for Guard {
    fn is_pinned(&self, repository: &RepositoryName, tags: &[Tag]) -> bool {
        tags.iter().any(|tag| self.pinned.contains(&format!("{repository}:{tag}")))
    }

    fn is_fetched(&self, _: &RepositoryName, digest: &Digest) -> bool {
        self.fetched.lock().unwrap().as_ref() == Some(digest)
    }
}

#[tokio::test]
async fn what_is_pinned_or_being_fetched_stays() {
    let store = store();
    let guard = Guard { pinned: ["up.example/app:v1".to_owned()].into(), ..Guard::default() };
    let guard = Arc::new(guard);
    store.registry.eviction().set_guard(guard.clone());
    let cached = store.repository("up.example/app");
    push_image(&cached, &["one"], &["v1", "also"]).await;
    push_image(&cached, &["two", "three"], &["v2"]).await;
    // A layer that nobody has asked for yet.
    push(&cached, IMAGE, &image(&["absent"], None), &["v3"]).await;
    store.pass(HOUR);
    *guard.fetched.lock().unwrap() = Some(sha256(b"absent"));
    assert_eq!(evict_all(&store).await.images, 1);
    assert!(has(&cached, "v1") && !has(&cached, "v2") && has(&cached, "v3"));
    *guard.fetched.lock().unwrap() = None;
    assert_eq!(evict_all(&store).await.images, 1);
    assert!(has(&cached, "v1") && has(&cached, "also"));
    assert_eq!(store.blobs(), 1);
}

#[tokio::test]
async fn what_no_tag_names_any_more_goes_some_time_after_its_last_use() {
    let store = store();
    let cached = store.repository("up.example/app");
    let former = push_image(&cached, &["one"], &["v1"]).await;
    let child = image(&["child"], None);
    push_image(&cached, &["child"], &[]).await;
    push(&cached, INDEX, &index(&[&child]), &["v2"]).await;
    push_image(&cached, &["two"], &["v1"]).await;
    let eviction = store.registry.eviction();
    store.pass(HOUR * 23);
    assert_eq!(eviction.evict_superseded(HOUR * 24).await.unwrap(), Evicted::default());
    pull(&cached, &former.to_string());
    store.pass(HOUR * 23);
    assert_eq!(eviction.evict_superseded(HOUR * 24).await.unwrap(), Evicted::default());
    store.pass(HOUR);
    let evicted = eviction.evict_superseded(HOUR * 24).await.unwrap();
    assert_eq!((evicted.images, evicted.tags, evicted.blobs), (1, 0, 1));
    assert!(has(&cached, "v1") && has(&cached, "v2") && !has(&cached, &former.to_string()));
    let history = cached.tags().history(&tag("v1"), None, 10).unwrap().items;
    assert!(history.iter().any(|revision| revision.digest == former), "its name stays known");
    store.check();
}

#[tokio::test]
async fn files_stay_while_the_collection_is_held() {
    let store = store();
    let cached = store.repository("up.example/app");
    push_image(&cached, &["one"], &["v1"]).await;
    store.pass(HOUR);
    let hold = store.registry.hold_collection().await;
    let evicted = evict_all(&store).await;
    assert_eq!((evicted.images, evicted.blobs), (1, 0));
    assert_eq!(store.blobs(), 1);
    drop(hold);
    assert_eq!(store.collect().await.blobs, 1);
}

#[tokio::test]
async fn a_push_that_the_registry_has_no_room_for_evicts_what_is_cached() {
    let quotas = Quotas { store_bytes: Some(3_000), repositories: Vec::new() };
    let store = Store::with(Policy { quotas, ..policy() });
    let cached = store.repository("up.example/app");
    for number in 0..5 {
        push_image(&cached, &[&format!("{number}").repeat(100)], &[&format!("v{number}")]).await;
        store.pass(MINUTE);
    }
    store.pass(HOUR);
    pull(&cached, "v0");
    let before = bytes(&store, None);
    let local = store.repository("local");
    let refused = local.blobs().put("x".repeat(2_900).into(), None, &Actor::anonymous()).await;
    assert!(matches!(refused, Err(Error::QuotaExceeded { .. })), "{refused:?}");
    assert!(has(&cached, "v0"), "it is being used");
    store.check();
    let after_first = bytes(&store, None);
    assert!(after_first < before);
    push_image(&local, &["y".repeat(2_000).as_str()], &["v1"]).await;
    assert!(has(&cached, "v0"));
    store.check();
    let vain = local.blobs().put("z".repeat(4_000).into(), None, &Actor::anonymous()).await;
    assert!(matches!(vain, Err(Error::QuotaExceeded { .. })), "{vain:?}");
    assert_eq!(local.blobs().get(sha256("y".repeat(2_000).as_bytes())).await.unwrap().unwrap().len(), 2_000);
}

#[tokio::test]
async fn nothing_is_evicted_for_what_will_not_fit_anyway() {
    let quotas = Quotas { store_bytes: Some(3_000), repositories: Vec::new() };
    let store = Store::with(Policy { quotas, ..policy() });
    let cached = store.repository("up.example/app");
    push_image(&cached, &["one"], &["v1"]).await;
    store.pass(HOUR);
    let vain =
        store.repository("local").blobs().put("z".repeat(4_000).into(), None, &Actor::anonymous()).await;
    assert!(matches!(vain, Err(Error::QuotaExceeded { .. })), "{vain:?}");
    assert!(has(&cached, "v1"));
}

/// The cache over a store, with a limit for all and one for `up.example`. Nobody is asked for anything.
fn cache(store: &Store, all: Option<u64>, own: Option<u64>, pinned: &[&str]) -> Cache {
    let upstreams = [(UP, own), ("other.example", None)].map(|(host, max_bytes)| {
        let client = client::registry::Options::new(format!("http://{host}").parse().unwrap());
        UpstreamSettings { max_bytes, ..UpstreamSettings::new(host, client) }
    });
    let pinned = pinned.iter().map(|pattern| pattern.parse().unwrap()).collect();
    let settings = Settings { upstreams: upstreams.into(), max_bytes: all, pinned, ..Settings::default() };
    Cache::open(settings, store.registry.clone()).unwrap()
}

#[tokio::test]
async fn each_limit_is_kept_to_nine_tenths_once_it_is_exceeded() {
    let store = store();
    let (up, other) = (store.repository("up.example/app"), store.repository("other.example/app"));
    for number in 0..20 {
        push_image(&up, &[&format!("up {number:02}")], &[&format!("v{number}")]).await;
        push_image(&other, &[&format!("other {number:02}")], &[&format!("v{number}")]).await;
        store.pass(MINUTE);
    }
    store.pass(HOUR);
    let (own, all) = (bytes(&store, Some(UP)), bytes(&store, None));
    let one = own / 20;
    let enough = cache(&store, Some(all), Some(own), &[]);
    assert_eq!(enough.evict().await.unwrap(), Evicted::default());
    drop((enough, up, other));
    let store = store.restart().await;
    let cache =
        cache(&store, Some(all - 4 * one), Some(own - 1), &["up.example/app:v0", "up.example/app:v1*"]);
    cache.evict().await.unwrap();
    let up = store.repository("up.example/app");
    assert!(bytes(&store, Some(UP)) <= own * 9 / 10);
    assert!(bytes(&store, None) <= (all - 4 * one) * 9 / 10);
    assert!(bytes(&store, None) > (all - 4 * one) * 9 / 10 - 2 * one);
    assert!(has(&up, "v0") && has(&up, "v1") && !has(&up, "v2") && has(&up, "v10"));
    store.check();
}

#[tokio::test]
async fn the_cache_is_kept_within_its_limits_by_itself() {
    let store = store();
    let cached = store.repository("up.example/app");
    let former = push_image(&cached, &["former"], &["v1"]).await;
    push_image(&cached, &["one"], &["v1"]).await;
    push_image(&cached, &["two"], &["v2"]).await;
    store.pass(HOUR * 25);
    pull(&cached, "v2");
    let cache = cache(&store, Some(1), None, &["up.example/app:v1"]);
    let keeping = tokio::spawn(async move { cache.keep_within_limits().await });
    while has(&cached, &former.to_string()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(has(&cached, "v1") && has(&cached, "v2"), "one is pinned, and one is being used");
    keeping.abort();
    store.check();
}

const MIB: usize = 1 << 20;

fn large(number: usize, len: usize) -> Bytes {
    (0..len).map(|at| u8::try_from((at / 7 + number * 31) % 251).unwrap()).collect::<Vec<u8>>().into()
}

async fn push_large(repository: &Repository, number: usize) {
    let blob = repository.blobs().put(large(number, 2 * MIB), None, &Actor::anonymous()).await.unwrap();
    let descriptor = format!(r#"{{"mediaType":"a/b","digest":"{}","size":{}}}"#, blob.digest, blob.size);
    let manifest = format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[]}}"#);
    push(repository, IMAGE, &manifest, &[&format!("v{number}")]).await;
}

#[tokio::test]
async fn a_full_disk_evicts_before_it_refuses() {
    let store = Store::with(policy());
    let cached = store.repository("up.example/app");
    for number in 0..20 {
        push_large(&cached, number).await;
        store.pass(MINUTE);
    }
    store.pass(HOUR);
    pull(&cached, "v0");
    store.disk.set_capacity(Some(48 * MIB as u64));
    let local = store.repository("local");
    let mut writer = local.blobs().create(orlop::oci::DigestAlgorithm::Sha256, &Actor::anonymous()).unwrap();
    writer.require_room(20 * MIB as u64, None).await.unwrap();
    let content = large(77, 20 * MIB);
    for piece in content.chunks(MIB) {
        writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    writer.commit(&sha256(&content)).await.unwrap();
    assert!(has(&cached, "v0") && !has(&cached, "v1"));
    store.check();
    // Of unknown length.
    for number in 20..24 {
        push_large(&local, number).await;
    }
    let before = bytes(&store, None);
    store.registry.make_space(400 * MIB as u64).await.unwrap_err();
    assert_eq!(bytes(&store, None), before, "nothing goes in vain");
    store.check();
}

/// An image is there with all its layers, or isn't there at all.
fn is_whole(repository: &Repository, tag: &str, layers: &[&str]) -> bool {
    let is_there = has(repository, tag);
    for layer in layers {
        let found = repository.blobs().open(sha256(layer.as_bytes())).unwrap();
        assert!(!is_there || found.is_some(), "{layer} of {tag} is missing");
    }
    is_there
}

#[test]
fn a_power_cut_at_any_moment_of_an_eviction_leaves_a_sound_store() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (disk, clock, from) = runtime.block_on(async {
        let store = store();
        let (cached, local) = (store.repository("up.example/app"), store.repository("local"));
        push_image(&local, &["shared"], &["v1"]).await;
        push_image(&cached, &["shared", "one"], &["v1"]).await;
        store.pass(MINUTE);
        let child = image(&["child"], None);
        push_image(&cached, &["child"], &[]).await;
        push(&cached, INDEX, &index(&[&child]), &["v2"]).await;
        store.pass(HOUR);
        let from = store.disk.operations();
        assert_eq!(evict(&store, 1).await.images, 1);
        evict_all(&store).await;
        assert!(!cached.exists().unwrap());
        store.registry.close().await;
        (store.disk.clone(), store.clock.clone(), from)
    });
    let mut replay = disk.replay();
    replay.advance_to(from);
    let mut cuts = 0;
    loop {
        for kind in [0, 2, 6] {
            let store = Store::open(replay.reboot(kind + 8 * replay.completed()), clock.clone(), policy());
            runtime.block_on(async {
                let (cached, local) = (store.repository("up.example/app"), store.repository("local"));
                assert!(is_whole(&local, "v1", &["shared"]));
                let first = is_whole(&cached, "v1", &["shared", "one"]);
                let second = is_whole(&cached, "v2", &["child"]);
                assert!(second || !first || !cached.exists().unwrap(), "the older one goes first");
                let problems = store.registry.verify(orlop::registry::Depth::Full).unwrap().problems;
                assert_eq!(problems, [""; 0]);
                store.collect_all().await;
                assert_eq!(
                    store.registry.cached_sizes(None).unwrap().tags,
                    u64::from(first) + u64::from(second)
                );
                store.registry.close().await;
            });
            cuts += 1;
        }
        if !replay.advance() {
            break;
        }
    }
    assert!(cuts > 30, "{cuts}");
}

/// Numbers that look like chance, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

const REPOSITORIES: [&str; 5] =
    ["up.example/a", "up.example/b", "other.example/a", "local", "other.example/b"];
const LAYERS: [&str; 7] = ["one", "two two", "three three", "four", "five five five", "six", "seven"];
const TAGS: [&str; 4] = ["v1", "v2", "latest", "edge"];

/// Does something, and says what.
async fn act(store: &Store, dice: &mut Dice) -> String {
    let name = dice.one(&REPOSITORIES);
    let repository = store.repository(name);
    let (layers, tag_name) = ([dice.one(&LAYERS), dice.one(&LAYERS)], dice.one(&TAGS));
    let one = image(&layers, None);
    let digest = sha256(one.as_bytes());
    let is_cached = name.contains('/');
    match dice.below(20) {
        0..=3 => {
            let tags = [tag_name];
            push_image(&repository, &layers, if dice.below(3) == 0 { &[] } else { &tags }).await;
            format!("push {layers:?} to {name}:{tag_name}")
        }
        4 if is_cached => {
            // Without its layers.
            push(&repository, IMAGE, &one, &[tag_name]).await;
            format!("cache {layers:?} in {name}:{tag_name}")
        }
        5 if is_cached => {
            let other = image(&[layers[1], layers[0]], None);
            push(&repository, INDEX, &index(&[&one, &other]), &[tag_name]).await;
            format!("cache an index of {layers:?} in {name}:{tag_name}")
        }
        6 => {
            push_blob(&repository, layers[0]).await;
            push(&repository, IMAGE, &image(&layers[..1], Some(&one)), &[]).await;
            format!("push something about {layers:?} to {name}")
        }
        7 => {
            push_blob(&repository, layers[0]).await;
            format!("push {} to {name}", layers[0])
        }
        8 => {
            let _ = repository.manifests().get(&tag_name.parse().unwrap()).unwrap();
            let _ = repository.manifests().ask(&digest.to_string().parse().unwrap()).unwrap();
            if dice.below(2) == 0 {
                store.registry.flush_pulls().await.unwrap();
            }
            format!("pull {name}:{tag_name}")
        }
        9 => {
            let _ = repository.tags().untag(&tag(tag_name)).await;
            format!("untag {name}:{tag_name}")
        }
        10 => {
            let _ = repository.manifests().delete(&digest).await;
            format!("delete {layers:?} from {name}")
        }
        11 => {
            let linked = repository.cached().link(&sha256(layers[0].as_bytes()), &Actor::anonymous()).await;
            let checked = repository.cached().set_checked(&tag(tag_name), store::BEGIN).await;
            format!("link {} into {name}: {linked:?}, {checked:?}", layers[0])
        }
        12 if dice.below(4) == 0 => {
            repository.deletions().delete_repository().await.unwrap();
            format!("delete {name}")
        }
        13 => {
            store.collect_all().await;
            "collect".to_owned()
        }
        14 => {
            let evicted = store.registry.eviction().evict_superseded(HOUR).await.unwrap();
            format!("evict what is superseded: {evicted:?}")
        }
        15 | 16 => {
            let upstream = [None, Some(UP), Some("other.example")][usize::try_from(dice.below(3)).unwrap()];
            let target = bytes(store, upstream) * dice.below(10) / 10;
            let evicted = store.registry.eviction().evict(upstream, target).await.unwrap();
            format!("evict from {upstream:?}: {evicted:?}")
        }
        _ => {
            store.pass(MINUTE * u32::try_from(dice.below(30)).unwrap());
            "wait".to_owned()
        }
    }
}

#[tokio::test]
async fn counters_indexes_and_local_images_are_right_whatever_happens() {
    let (rounds, steps) = match std::env::var("EVICTION_ROUNDS") {
        Ok(rounds) => (rounds.parse().unwrap(), 300),
        Err(_) => (6, 120),
    };
    for seed in 0..rounds {
        let mut dice = Dice(seed);
        let mut store = store();
        let mut log = Vec::new();
        for step in 0..steps {
            log.push(act(&store, &mut dice).await);
            let problems = store.problems();
            assert!(problems.is_empty(), "seed {seed}: {problems:?} after {log:#?}");
            let local = store.repository("local");
            for name in local.tags().list(None, 10).map(|page| page.items).unwrap_or_default() {
                let (_, manifest) = local.manifests().get(&name.as_str().parse().unwrap()).unwrap().unwrap();
                let manifest = String::from_utf8(manifest.to_vec()).unwrap();
                for layer in LAYERS.iter().filter(|it| manifest.contains(&sha256(it.as_bytes()).to_string()))
                {
                    let found = local.blobs().get(sha256(layer.as_bytes())).await.unwrap();
                    assert_eq!(found.as_deref(), Some(layer.as_bytes()), "seed {seed}: {log:#?}");
                }
            }
            drop(local);
            if step % 50 == 49 {
                store = store.restart().await;
            }
        }
        store.pass(HOUR * 24);
        store.registry.eviction().evict(None, 0).await.unwrap();
        store.collect_all().await;
        store.registry.eviction().evict_superseded(HOUR).await.unwrap();
        store.collect_all().await;
        let left = store.registry.cached_sizes(None).unwrap();
        assert_eq!((left.blobs, left.manifests, left.bytes), (0, 0, 0), "seed {seed}: {log:#?}");
        assert_eq!(store.problems(), [""; 0]);
    }
}
