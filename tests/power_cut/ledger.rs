//! What a registry has acknowledged, and whether a disk still has it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use orlop::blobs::UploadId;
use orlop::fsio::{Replay, SimulatedDisk};
use orlop::oci::{Digest, DigestAlgorithm, Reference, RepositoryName};
use orlop::registry::{Actor, DeletedName, Depth, Options, Registry};
use tokio::runtime::Runtime;

use crate::store::read_blob;

/// How a registry is opened on a disk.
pub(crate) type Opening = Box<dyn Fn(&SimulatedDisk) -> Options>;

/// A fact that a client can see, such as `tag library/a:v1`, with what it sees there.
pub(crate) type Fact = (String, Option<String>);

/// Facts that change together or not at all.
pub(crate) type Change = Vec<Fact>;

/// One acknowledged request, or several that ran at once.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// The operations of the disk when it began and when it was acknowledged.
    pub(crate) from: u64,
    pub(crate) until: u64,
    pub(crate) changes: Vec<Change>,
}

/// An upload that was promised to survive a crash.
pub(crate) struct UploadPromise {
    /// From its acknowledgement until the next one about it, or until the request that ends it began.
    pub(crate) from: u64,
    pub(crate) until: u64,
    pub(crate) repository: RepositoryName,
    pub(crate) id: UploadId,
    /// The bytes that the promise covers, and all that the client has.
    pub(crate) len: u64,
    pub(crate) content: Vec<u8>,
}

/// A deletion that was promised to be undone when somebody asks for that.
pub(crate) struct UndoPromise {
    /// From its acknowledgement until something begins that may end it.
    pub(crate) from: u64,
    pub(crate) until: u64,
    pub(crate) repository: RepositoryName,
    pub(crate) name: DeletedName,
    /// What a client sees when it is undone.
    pub(crate) facts: Vec<Fact>,
}

/// Everything that a scenario was told, beside the disk that it ran on.
pub(crate) struct Ledger {
    pub(crate) disk: SimulatedDisk,
    /// How the registry is opened on a disk.
    pub(crate) options: Opening,
    /// How it is opened when all that was deleted is over, and all leases have ended.
    pub(crate) much_later: Option<Opening>,
    pub(crate) steps: Vec<Step>,
    pub(crate) uploads: Vec<UploadPromise>,
    pub(crate) deletions: Vec<UndoPromise>,
    /// Every digest that any step pushed as a blob.
    pub(crate) blobs: Vec<Digest>,
}

impl Ledger {
    pub(crate) fn new(disk: SimulatedDisk, options: impl Fn(&SimulatedDisk) -> Options + 'static) -> Ledger {
        Ledger {
            disk,
            options: Box::new(options),
            much_later: None,
            steps: Vec::new(),
            uploads: Vec::new(),
            deletions: Vec::new(),
            blobs: Vec::new(),
        }
    }

    /// Enters what was acknowledged just now.
    pub(crate) fn acknowledged(&mut self, name: &'static str, from: u64, changes: Vec<Change>) {
        self.steps.push(Step { name, from, until: self.disk.operations(), changes });
    }

    /// Says what is wrong after a cut at this point of the replay, if anything is.
    pub(crate) fn violation(&self, runtime: &Runtime, replay: &Replay, seed: u64) -> Option<String> {
        let disk = replay.reboot(seed);
        let check = || runtime.block_on(self.check(&disk, replay.completed(), seed));
        match catch_unwind(AssertUnwindSafe(check)) {
            Ok(Ok(())) => None,
            Ok(Err(violation)) => Some(violation),
            Err(_) => Some("a panic".to_owned()),
        }
    }

    /// The violation together with where the power failed.
    pub(crate) fn report(&self, replay: &Replay, seed: u64, violation: &str) -> String {
        let at = self.disk.describe(replay.completed() + 1);
        let step = self.steps.iter().find(|step| replay.completed() < step.until);
        let step = step.map_or("the end", |step| step.name);
        format!("{violation}\n  after a power cut during {at}\n  in the step `{step}`, with seed {seed}")
    }

    async fn check(&self, disk: &SimulatedDisk, completed: u64, seed: u64) -> Result<(), String> {
        let registry =
            Registry::open((self.options)(disk)).map_err(|error| format!("it doesn't open: {error}"))?;
        let visible = self.observe(&registry)?;
        self.compare(&visible, completed)?;
        let report = registry.verify(Depth::Full).map_err(|error| format!("verify fails: {error}"))?;
        if !report.is_clean() {
            return Err(format!("verify finds {:?}", report.problems));
        }
        self.check_uploads(&registry, completed).await?;
        self.check_deletions(&registry, completed).await?;
        if seed % 8 == 4 {
            check_life_goes_on(&registry).await.map_err(|error| format!("life doesn't go on: {error}"))?;
        }
        if let Some(much_later) = self.much_later.as_ref().filter(|_| seed % 8 == 4) {
            let tags = self.tags(&registry)?;
            registry.close().await;
            drop(registry);
            let registry = Registry::open(much_later(disk)).map_err(|error| error.to_string())?;
            self.check_collection(&registry, &tags).await?;
        }
        Ok(())
    }

    fn tags(&self, registry: &Registry) -> Result<BTreeMap<String, String>, String> {
        let visible = self.observe(registry)?;
        Ok(visible.into_iter().filter(|(fact, _)| fact.starts_with("tag ")).collect())
    }

    /// All that is due goes, what the tags lead to stays, and not a file is left over.
    async fn check_collection(
        &self,
        registry: &Registry,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        let failed = |error: orlop::registry::Error| format!("the collection fails: {error}");
        registry.collect(|_| {}).await.map_err(failed)?;
        registry.sweep_orphans().await.map_err(failed)?;
        if self.tags(registry)? != *tags {
            return Err("a collection has taken a tag".to_owned());
        }
        let report = registry.verify(Depth::Full).map_err(failed)?;
        if !report.is_clean() || report.orphans.iter().any(|orphan| !orphan.contains("upload")) {
            return Err(format!("a collection leaves {:?} and {:?}", report.problems, report.orphans));
        }
        Ok(())
    }

    async fn check_deletions(&self, registry: &Registry, completed: u64) -> Result<(), String> {
        for promise in &self.deletions {
            if !(promise.from..promise.until).contains(&completed) {
                continue;
            }
            let deletions = registry.namespace().repository(&promise.repository).deletions();
            let undone = deletions.undelete(&promise.name, &Actor::anonymous()).await;
            undone.map_err(|error| format!("{:?} doesn't come back: {error}", promise.name))?;
            let visible = self.observe(registry)?;
            for (fact, value) in &promise.facts {
                if visible.get(fact) != value.as_ref() {
                    return Err(format!(
                        "{fact} should be back as {value:?}, and is {:?}",
                        visible.get(fact)
                    ));
                }
            }
            let report = registry.verify(Depth::Full).map_err(|error| error.to_string())?;
            if !report.is_clean() {
                return Err(format!("after an undeletion: {:?}", report.problems));
            }
        }
        Ok(())
    }

    /// Everything that a client can see.
    pub(crate) fn observe(&self, registry: &Registry) -> Result<BTreeMap<String, String>, String> {
        let failed = |error: orlop::registry::Error| format!("a read fails: {error}");
        let mut visible = BTreeMap::new();
        let namespace = registry.namespace();
        for name in namespace.repositories(None, 1000).map_err(failed)?.items {
            let repository = namespace.repository(&name);
            visible.insert(format!("repository {name}"), String::new());
            for tag in repository.tags().list(None, 1000).map_err(failed)?.items {
                let found = repository.manifests().get(&Reference::Tag(tag.clone())).map_err(failed)?;
                let (descriptor, payload) = found.ok_or_else(|| format!("the tag {tag} leads nowhere"))?;
                if Digest::of(DigestAlgorithm::Sha256, &payload) != descriptor.canonical {
                    return Err(format!("the tag {tag} leads to other bytes"));
                }
                visible.insert(format!("tag {name}:{tag}"), descriptor.canonical.to_string());
            }
            for manifest in repository.manifests().all(None, 1000).map_err(failed)?.items {
                visible.insert(
                    format!("manifest {name}@{}", manifest.canonical),
                    manifest.media_type.to_string(),
                );
            }
            for digest in &self.blobs {
                if let Some(size) = read_blob(&repository, digest)? {
                    visible.insert(format!("blob {name}@{digest}"), size.to_string());
                }
            }
        }
        Ok(visible)
    }

    /// Compares with what was acknowledged; what was under way may have happened or not, each change as a whole.
    fn compare(&self, visible: &BTreeMap<String, String>, completed: u64) -> Result<(), String> {
        let mut expected = BTreeMap::new();
        for step in &self.steps {
            for change in &step.changes {
                let is_under_way = completed < step.until;
                let has_happened = change.iter().all(|(key, value)| visible.get(key) == value.as_ref());
                if completed < step.from || is_under_way && !has_happened {
                    continue;
                }
                for (key, value) in change {
                    match value {
                        Some(value) => expected.insert(key.clone(), value.clone()),
                        None => expected.remove(key),
                    };
                }
            }
        }
        let keys = expected.keys().chain(visible.keys());
        match keys.into_iter().find(|key| expected.get(*key) != visible.get(*key)) {
            None => Ok(()),
            Some(key) => {
                Err(format!("{key} should be {:?} and is {:?}", expected.get(key), visible.get(key)))
            }
        }
    }

    async fn check_uploads(&self, registry: &Registry, completed: u64) -> Result<(), String> {
        for promise in &self.uploads {
            let digest = Digest::of(DigestAlgorithm::Sha256, &promise.content);
            if !(promise.from..promise.until).contains(&completed) {
                continue;
            }
            let failed = |error| format!("a promised upload can't go on: {error}");
            let repository = registry.namespace().repository(&promise.repository);
            // The request that finishes it may have done so.
            if repository.blobs().stat(digest).map_err(failed)?.is_some() {
                continue;
            }
            let resumed = repository.blobs().resume(&promise.id).await.map_err(failed)?;
            let Some(mut writer) = resumed else { return Err("a promised upload is lost".to_owned()) };
            if writer.size() < promise.len {
                return Err(format!("an upload promised up to {} ends at {}", promise.len, writer.size()));
            }
            let rest = promise.content[usize::try_from(writer.size()).unwrap()..].to_vec();
            writer.write(Bytes::from(rest)).await.map_err(failed)?;
            writer.commit(&digest).await.map_err(failed)?;
        }
        Ok(())
    }
}

/// Sweeps, pushes everything once more, and finds the store clean without leftovers of uploads.
async fn check_life_goes_on(registry: &Registry) -> Result<(), String> {
    let failed = |error: orlop::registry::Error| error.to_string();
    registry.sweep_uploads().await.map_err(failed)?;
    let repository = registry.namespace().repository(&"library/after".parse().unwrap());
    for content in crate::scenario::contents() {
        let pushed = repository.blobs().put(content, None, &Actor::anonymous()).await.map_err(failed)?;
        if read_blob(&repository, &pushed.digest)? != Some(pushed.size) {
            return Err("a blob pushed afterwards is not there".to_owned());
        }
    }
    let report = registry.verify(Depth::Full).map_err(failed)?;
    if report.is_clean() { Ok(()) } else { Err(format!("{:?}", report.problems)) }
}
