//! A registry on a simulated disk whose time is told to it, and what to push to it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use orlop::clock::{ManualClock, Timestamp};
use orlop::fsio::SimulatedDisk;
use orlop::oci::{Digest, DigestAlgorithm, MediaType, Reference, Tag};
use orlop::registry::{
    Actor, Collected, Collection, Depth, Error, EventOptions, ManifestPut, OpenError, Options, Policy,
    Registry, Repository,
};
use orlop::telemetry::StorageMetrics;

pub(crate) const BEGIN: Timestamp = Timestamp::from_millis(1_800_000_000_000);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);
/// The lease of the tests, and how long a look, a push or a mount holds in fact.
pub(crate) const LEASE: Duration = Duration::from_secs(40 * 60);
pub(crate) const HELD: Duration = Duration::from_secs(50 * 60);

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Deletions that can't be undone, and untagged manifests that go.
pub(crate) fn no_undo() -> Collection {
    let untagged_grace = Some(MINUTE);
    Collection { lease: LEASE, undo: Duration::ZERO, untagged_grace, ..Collection::default() }
}

pub(crate) struct Store {
    pub(crate) registry: Registry,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) disk: SimulatedDisk,
    policy: Policy,
}

impl Store {
    pub(crate) fn new(collection: Collection) -> Store {
        Store::with(Policy { collection, ..Policy::default() })
    }

    pub(crate) fn with(policy: Policy) -> Store {
        let policy = Policy { free_floor_bytes: 0, ..policy };
        Store::open(SimulatedDisk::new(), Arc::new(ManualClock::new(BEGIN)), policy)
    }

    /// Somebody hears of events.
    pub(crate) fn listening(policy: Policy, events: EventOptions) -> Store {
        let (disk, clock) = (SimulatedDisk::new(), Arc::new(ManualClock::new(BEGIN)));
        let policy = Policy { free_floor_bytes: 0, ..policy };
        let registry = Registry::open(Options { events, ..Store::options(&disk, &clock, &policy) }).unwrap();
        Store { registry, clock, disk, policy }
    }

    /// One whose commits are counted.
    pub(crate) fn counting(collection: Collection) -> (Store, StorageMetrics) {
        let (disk, clock) = (SimulatedDisk::new(), Arc::new(ManualClock::new(BEGIN)));
        let policy = Policy { collection, free_floor_bytes: 0, ..Policy::default() };
        let options = Store::options(&disk, &clock, &policy);
        let metrics = options.metrics.clone();
        (Store { registry: Registry::open(options).unwrap(), clock, disk, policy }, metrics)
    }

    pub(crate) fn open(disk: SimulatedDisk, clock: Arc<ManualClock>, policy: Policy) -> Store {
        let registry = Registry::open(Store::options(&disk, &clock, &policy)).unwrap();
        Store { registry, clock, disk, policy }
    }

    fn options(disk: &SimulatedDisk, clock: &Arc<ManualClock>, policy: &Policy) -> Options {
        let mut options = Options::new("/data");
        options.disk = Arc::new(disk.clone());
        options.clock = clock.clone();
        options.policy = policy.clone();
        options
    }

    /// Ends the process and begins another one.
    pub(crate) async fn restart(self) -> Store {
        let policy = self.policy.clone();
        self.restart_with(policy).await
    }

    /// The same with another configuration.
    pub(crate) async fn restart_with(self, policy: Policy) -> Store {
        let policy = Policy { free_floor_bytes: 0, ..policy };
        let Store { registry, clock, disk, .. } = self;
        registry.close().await;
        drop(registry);
        for _ in 0..10_000 {
            // A step of a collection that nobody waits for may be on its way out.
            match Registry::open(Store::options(&disk, &clock, &policy)) {
                Err(OpenError::Locked(_)) => tokio::time::sleep(Duration::from_millis(1)).await,
                opened => return Store { registry: opened.unwrap(), clock, disk, policy },
            }
        }
        panic!("somebody still has a handle to the former registry");
    }

    pub(crate) fn repository(&self, name: &str) -> Repository {
        self.registry.namespace().repository(&name.parse().unwrap())
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// Collects, and looks at nothing.
    pub(crate) async fn collect_all(&self) -> Collected {
        self.registry.collect(|_| {}).await.unwrap()
    }

    pub(crate) async fn collect(&self) -> Collected {
        let collected = self.registry.collect(|_| {}).await.unwrap();
        self.check();
        collected
    }

    /// Rows, references and files agree, and what is known at a glance does too.
    #[track_caller]
    pub(crate) fn check(&self) {
        assert_eq!(self.problems(), [""; 0]);
        let status = self.registry.status().unwrap();
        let each = self.registry.namespace().sizes(None, usize::MAX).unwrap().items;
        let sum = each.iter().fold((0, 0), |sum, (_, sizes)| (sum.0 + sizes.manifests, sum.1 + sizes.tags));
        assert_eq!((status.manifests, status.tags), sum);
    }

    /// What is wrong, files that nothing names included.
    pub(crate) fn problems(&self) -> Vec<String> {
        let report = self.registry.verify(Depth::Full).unwrap();
        let orphans = report.orphans.into_iter().filter(|orphan| !orphan.contains("upload"));
        report.problems.into_iter().chain(orphans).collect()
    }

    /// How many blobs there are in the whole store.
    pub(crate) fn blobs(&self) -> u64 {
        self.registry.verify(Depth::Quick).unwrap().blobs
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Digest::of(DigestAlgorithm::Sha256, bytes)
}

pub(crate) fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

pub(crate) fn media_type(text: &str) -> MediaType {
    text.parse().unwrap()
}

pub(crate) async fn push_blob(repository: &Repository, text: &str) -> Digest {
    let bytes = Bytes::from(text.to_owned());
    repository.blobs().put(bytes, None, &Actor::anonymous()).await.unwrap().digest
}

pub(crate) async fn try_push(
    repository: &Repository,
    kind: &str,
    payload: &str,
    tags: &[&str],
) -> Result<Digest, Error> {
    let put = ManifestPut {
        payload: payload.to_owned().into(),
        media_type: media_type(kind),
        reference: Reference::Digest(sha256(payload.as_bytes())),
        tags: tags.iter().map(|name| tag(name)).collect(),
        actor: Actor::anonymous(),
    };
    repository.manifests().put(put).await.map(|pushed| pushed.canonical)
}

pub(crate) async fn push(repository: &Repository, kind: &str, payload: &str, tags: &[&str]) -> Digest {
    try_push(repository, kind, payload, tags).await.unwrap()
}

fn descriptor(kind: &str, bytes: &str) -> String {
    format!(r#"{{"mediaType":"{kind}","digest":"{}","size":{}}}"#, sha256(bytes.as_bytes()), bytes.len())
}

/// An image of these layers without a configuration of its own, about `subject` where there is one.
pub(crate) fn image(layers: &[&str], subject: Option<&str>) -> String {
    let config = descriptor("application/vnd.oci.empty.v1+json", layers[0]);
    let subject = subject.map_or(String::new(), |it| format!(r#","subject":{}"#, descriptor(IMAGE, it)));
    let layers: Vec<String> = layers.iter().map(|layer| descriptor("a/layer", layer)).collect();
    let layers = layers.join(",");
    format!(r#"{{"schemaVersion":2,"mediaType":"{IMAGE}","config":{config},"layers":[{layers}]{subject}}}"#)
}

pub(crate) fn index(children: &[&str]) -> String {
    let children: Vec<String> = children.iter().map(|child| descriptor(IMAGE, child)).collect();
    format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, children.join(","))
}

/// Pushes an image with its layers.
pub(crate) async fn push_image(repository: &Repository, layers: &[&str], tags: &[&str]) -> Digest {
    for layer in layers {
        push_blob(repository, layer).await;
    }
    push(repository, IMAGE, &image(layers, None), tags).await
}
