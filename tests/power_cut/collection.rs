//! Another day: what was pushed is deleted, undeleted, collected, and pushed again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use orlop::clock::{Clock, ManualClock, Timestamp};
use orlop::fsio::SimulatedDisk;
use orlop::registry::{Actor, Collection, DeletedName, ManifestPut, Options, Registry, Repository};

use crate::ledger::{Change, Ledger, UndoPromise};
use crate::scenario::{bytes, image, image_type, name, sha256, tag};
use crate::store::{new_runtime, options};

const BEGIN: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const LEASE: Duration = Duration::from_secs(60 * 60);
const UNDO: Duration = Duration::from_secs(60);

fn options_at(disk: &SimulatedDisk, clock: Arc<dyn Clock>) -> Options {
    let mut options = options(disk);
    options.clock = clock;
    options.policy.collection =
        Collection { lease: LEASE, undo: UNDO, untagged_grace: Some(UNDO), ..Collection::default() };
    options
}

struct Day {
    registry: Registry,
    clock: Arc<ManualClock>,
    ledger: Ledger,
}

/// Runs the whole scenario on an undisturbed disk.
pub(crate) fn run() -> Ledger {
    new_runtime().block_on(async {
        let (disk, clock) = (SimulatedDisk::new(), Arc::new(ManualClock::new(BEGIN)));
        let registry = Registry::open(options_at(&disk, clock.clone())).unwrap();
        // After a cut, no time has passed as far as the clock knows.
        let mut ledger = Ledger::new(disk, |disk| options_at(disk, Arc::new(ManualClock::new(BEGIN))));
        let later = BEGIN.saturating_add(LEASE * 100);
        ledger.much_later = Some(Box::new(move |disk| options_at(disk, Arc::new(ManualClock::new(later)))));
        ledger.acknowledged("open", 0, Vec::new());
        let mut day = Day { registry, clock, ledger };
        day.push().await;
        day.delete_and_undelete().await;
        day.collect().await;
        day.push_again().await;
        day.ledger
    })
}

fn contents() -> [Bytes; 4] {
    [Bytes::from_static(b"{\"os\":\"linux\"}"), bytes(1, 3000), bytes(2, 300_000), bytes(3, 10)]
}

impl Day {
    fn repository(&self, repository: &str) -> Repository {
        self.registry.namespace().repository(&name(repository))
    }

    /// Does something, and enters what clients see of it: as one change, or as one for each fact.
    async fn step<T>(&mut self, what: &'static str, is_one: bool, work: impl AsyncFnOnce(&Day) -> T) -> T {
        let before = self.ledger.observe(&self.registry).unwrap();
        let from = self.ledger.disk.operations();
        let result = work(self).await;
        let after = self.ledger.observe(&self.registry).unwrap();
        let keys = before.keys().chain(after.keys().filter(|key| !before.contains_key(*key)));
        let differing = keys.filter(|key| before.get(*key) != after.get(*key));
        let facts: Change = differing.map(|key| (key.clone(), after.get(key).cloned())).collect();
        let changes = if is_one { vec![facts] } else { facts.into_iter().map(|fact| vec![fact]).collect() };
        self.ledger.acknowledged(what, from, changes);
        result
    }

    async fn put_blob(&mut self, repository: &'static str, content: Bytes) {
        self.ledger.blobs.push(sha256(&content));
        self.step("push a blob", true, async |day: &Day| {
            day.repository(repository).blobs().put(content, None, &Actor::anonymous()).await.unwrap();
        })
        .await;
    }

    async fn put_image(&mut self, repository: &'static str, payload: Bytes, tags: &[&str]) {
        let put = ManifestPut {
            reference: orlop::oci::Reference::Digest(sha256(&payload)),
            payload,
            media_type: image_type(),
            tags: tags.iter().map(|text| tag(text)).collect(),
            actor: Actor::anonymous(),
        };
        self.step("push a manifest", true, async |day: &Day| {
            day.repository(repository).manifests().put(put).await.unwrap();
        })
        .await;
    }

    fn images() -> [Bytes; 3] {
        let [config, small, large, tiny] = contents();
        let first = image(&config, &[&small, &large], None, "first");
        let second = image(&config, &[&small], None, "second");
        let note = image(&config, &[&tiny], Some(&first), "about the first");
        [first, second, note]
    }

    async fn push(&mut self) {
        for content in contents() {
            self.put_blob("library/a", content).await;
        }
        self.put_blob("library/b", contents()[1].clone()).await;
        let [first, second, note] = Day::images();
        self.put_image("library/a", first, &["v1", "latest"]).await;
        self.put_image("library/a", second, &["v2"]).await;
        self.put_image("library/a", note, &[]).await;
    }

    /// What was collected comes again, and some of it goes.
    async fn push_again(&mut self) {
        let [config, small, ..] = contents();
        for content in [config, small] {
            self.put_blob("library/a", content).await;
        }
        let [_, second, _] = Day::images();
        self.put_image("library/a", second, &["v2"]).await;
        self.put_blob("library/c", contents()[3].clone()).await;
        self.clock.advance(LEASE * 2);
        while self.collect_step().await {}
    }

    async fn collect_step(&mut self) -> bool {
        let work = async |day: &Day| day.registry.collect_step().await.unwrap().1;
        self.step("collect", false, work).await
    }

    /// Deletes something, and enters that it can come back as it was.
    async fn delete(
        &mut self,
        what: &'static str,
        repository: &'static str,
        deleted: DeletedName,
        work: impl AsyncFnOnce(&Day),
    ) {
        let before = self.ledger.observe(&self.registry).unwrap();
        self.step(what, true, work).await;
        let after = self.ledger.observe(&self.registry).unwrap();
        let facts = before.into_iter().filter(|(key, _)| !after.contains_key(key));
        let facts = facts.map(|(key, value)| (key, Some(value))).collect();
        let from = self.ledger.disk.operations();
        let repository = name(repository);
        self.ledger.deletions.push(UndoPromise { from, until: u64::MAX, repository, name: deleted, facts });
    }

    /// From here on what was deleted may come back, or go for good.
    fn end_promises(&mut self) {
        let now = self.ledger.disk.operations();
        for promise in &mut self.ledger.deletions {
            promise.until = promise.until.min(now);
        }
    }

    async fn delete_and_undelete(&mut self) {
        let [first, second, _] = Day::images().map(|payload| sha256(&payload));
        let by_digest = DeletedName::Digest(first);
        self.delete("delete a manifest", "library/a", by_digest.clone(), async |day: &Day| {
            day.repository("library/a").manifests().delete(&first).await.unwrap().unwrap();
        })
        .await;
        self.end_promises();
        self.step("undelete a manifest", true, async |day: &Day| {
            let deletions = day.repository("library/a").deletions();
            deletions.undelete(&by_digest, &Actor::anonymous()).await.unwrap();
        })
        .await;
        self.delete("delete a repository", "library/b", DeletedName::Repository, async |day: &Day| {
            assert!(day.repository("library/b").deletions().delete_repository().await.unwrap());
        })
        .await;
        self.end_promises();
        self.delete("delete a tag", "library/a", DeletedName::Tag(tag("v2")), async |day: &Day| {
            assert!(day.repository("library/a").tags().untag(&tag("v2")).await.unwrap());
        })
        .await;
        self.end_promises();
        let by_digest = DeletedName::Digest(second);
        self.delete("delete a manifest", "library/a", by_digest, async |day: &Day| {
            day.repository("library/a").manifests().delete(&second).await.unwrap().unwrap();
        })
        .await;
        self.end_promises();
        let by_digest = DeletedName::Digest(first);
        self.delete("delete a manifest", "library/a", by_digest, async |day: &Day| {
            day.repository("library/a").manifests().delete(&first).await.unwrap().unwrap();
        })
        .await;
        self.end_promises();
    }

    async fn collect(&mut self) {
        for pass in [UNDO, LEASE * 2, LEASE * 2, LEASE * 2] {
            self.clock.advance(pass);
            while self.collect_step().await {}
        }
    }
}
