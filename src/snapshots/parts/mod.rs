//! Restoring some repositories or tags of a snapshot into a registry, which may be in use.
//!
//! The rows of the snapshot become a registry of their own ([`scratch`]), which says what there is; then each image is brought as
//! a push brings it: what it names, the manifest, what refers to it, and its tag last. So an interruption leaves whole images or
//! none under a tag, what came stays for a lease at least, and what is here already isn't copied again.

mod blob;
mod image;
mod scratch;
mod selection;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream;
use serde::{Deserialize, Serialize};

use super::backup::{Backup, file_name};
use super::{Error, Progress, SnapshotName, Step, sums};
use crate::oci::{Digest, RepositoryName};
use crate::registry::{self, Actor, Registry};
use image::Images;
use scratch::Scratch;

pub use selection::{Selection, TaggedPattern, TaggedPatternError};

/// So many tags, or manifests without one, are restored at once.
const IMAGES: usize = 8;

/// So many names are read at a time.
const PAGE: usize = 1_000;

/// How parts of a snapshot are restored.
#[derive(Debug, Clone)]
pub struct PartsOptions {
    /// What is wanted.
    pub wanted: Selection,
    /// Move tags that point elsewhere now; their history keeps what they pointed to.
    pub force: bool,
    /// Change nothing, and say what would come.
    pub dry_run: bool,
    /// Who restores.
    pub actor: Actor,
}

/// What became of a tag, or would in a dry run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "state")]
pub enum Fate {
    /// It came.
    Came,
    /// It was here, and points to the same.
    Here,
    /// It pointed elsewhere here, and was moved.
    Moved {
        /// Where it pointed.
        former: Digest,
    },
    /// It points elsewhere here, and stays.
    Conflict {
        /// Where it points.
        here: Digest,
    },
    /// It can't be restored.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A tag, or a manifest without one, with what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredItem {
    /// `team/app:v1`, or `team/app@sha256:…`.
    pub name: String,
    /// What the snapshot has under the name.
    pub digest: Digest,
    /// What became of it.
    #[serde(flatten)]
    pub fate: Fate,
}

/// What came, or would come in a dry run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoredParts {
    /// The snapshot.
    pub snapshot: SnapshotName,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// The repositories of which something was wanted.
    pub repositories: u64,
    /// The tags that came or were moved.
    pub tags: u64,
    /// The tags that were here and point to the same.
    pub known_tags: u64,
    /// The tags that point elsewhere here, and stay.
    pub conflicts: u64,
    /// What could not be restored.
    pub failed: u64,
    /// The manifests that came.
    pub manifests: u64,
    /// The blobs whose bytes came.
    pub blobs: u64,
    /// These bytes.
    pub bytes: u64,
    /// The repositories that were left out, since they are what was cached of an upstream.
    pub cached_repositories: u64,
}

impl RestoredParts {
    /// Whether all that was wanted is here.
    pub fn is_whole(&self) -> bool {
        self.conflicts == 0 && self.failed == 0
    }
}

/// Hears how far a restore has come, and may end it.
pub type PartsTell = Arc<dyn Fn(Progress) -> ControlFlow<()> + Send + Sync>;

/// Hears what became of each tag.
pub type PartsHear<'h> = &'h (dyn Fn(RestoredItem) -> BoxFuture<'static, ()> + 'h);

/// A restore under way.
struct Restoring<'r> {
    backup: &'r Backup,
    scratch: &'r Registry,
    target: &'r Registry,
    options: &'r PartsOptions,
    tell: PartsTell,
    hear: PartsHear<'r>,
    report: RefCell<RestoredParts>,
    /// The blobs that would have come, in a dry run.
    pretended: RefCell<HashSet<Digest>>,
    /// How many tags and manifests are done, and how many there are.
    done: Cell<u64>,
    total: u64,
}

/// Brings what is wanted of a snapshot to a registry. Nothing that is here is overwritten: a tag that points elsewhere is told of
/// and stays, unless it is to be moved. Runs again where it was interrupted. Blocks, and waits for the registry.
pub async fn restore_parts(
    registry: &Registry,
    backup: &Backup,
    name: &SnapshotName,
    options: &PartsOptions,
    tell: PartsTell,
    hear: PartsHear<'_>,
) -> Result<RestoredParts, Error> {
    let snapshot = backup.known_snapshot(name)?;
    if let Some((file, reason)) = sums::check(backup, name)?.into_iter().next() {
        return Err(Error::Damaged { path: backup.path(&file_name(name, &file)), reason });
    }
    let scratch = Scratch::make(backup, &snapshot, registry, &mut |progress| tell(progress))?;
    let report = RestoredParts {
        snapshot: name.clone(),
        dry_run: options.dry_run,
        repositories: 0,
        tags: 0,
        known_tags: 0,
        conflicts: 0,
        failed: 0,
        manifests: 0,
        blobs: 0,
        bytes: 0,
        cached_repositories: 0,
    };
    let mut restoring = Restoring {
        backup,
        scratch: scratch.registry(),
        target: registry,
        options,
        tell,
        hear,
        report: RefCell::new(report),
        pretended: RefCell::default(),
        done: Cell::new(0),
        total: 0,
    };
    restoring.total = restoring.count()?;
    for name in restoring.repositories() {
        restoring.repository(&name?).await?;
    }
    Ok(restoring.report.into_inner())
}

impl Restoring<'_> {
    /// The repositories of the snapshot of which something may be wanted.
    fn repositories(&self) -> impl Iterator<Item = Result<RepositoryName, registry::Error>> {
        let namespace = self.scratch.namespace();
        let mut after: Option<String> = None;
        let mut page = Vec::new().into_iter();
        let mut is_over = false;
        let all = std::iter::from_fn(move || {
            loop {
                if let Some(name) = page.next() {
                    return Some(Ok(name));
                }
                if is_over {
                    return None;
                }
                match namespace.repositories_for(after.as_deref(), PAGE, |_, _| true) {
                    Ok(found) => {
                        is_over = !found.more;
                        after = found.items.last().map(|name: &RepositoryName| name.as_str().to_owned());
                        page = found.items.into_iter();
                    }
                    Err(error) => {
                        is_over = true;
                        return Some(Err(error));
                    }
                }
            }
        });
        all.filter(|name| name.as_ref().map_or(true, |name| self.options.wanted.has_any_of(name)))
    }

    /// How many tags are wanted.
    fn count(&self) -> Result<u64, Error> {
        let mut count = 0;
        for name in self.repositories() {
            let name = name?;
            for tag in self.scratch.namespace().repository(&name).tags().scroll() {
                count += u64::from(self.options.wanted.contains(&name, &tag?));
            }
        }
        Ok(count)
    }

    async fn repository(&self, name: &RepositoryName) -> Result<(), Error> {
        let images = &Images::new(self, name);
        let wanted = &self.options.wanted;
        if images.from.is_cached()? {
            self.report.borrow_mut().cached_repositories += 1;
            return Ok(());
        }
        let tags = images.from.tags().scroll();
        let tags = tags.filter(|tag| tag.as_ref().map_or(true, |tag| wanted.contains(name, tag)));
        let mut any = false;
        let mut running = stream::iter(tags)
            .map(|tag| async move {
                images.tag(&tag?).await?;
                self.advance(1)
            })
            .buffer_unordered(IMAGES);
        while let Some(ended) = running.next().await {
            ended?;
            any = true;
        }
        drop(running);
        if wanted.has_all_of(name) {
            any = true;
            let manifests = images.from.manifests().scroll();
            let mut running = stream::iter(manifests)
                .map(|manifest| async move {
                    images.untagged(&manifest?).await?;
                    self.advance(0)
                })
                .buffer_unordered(IMAGES);
            while let Some(ended) = running.next().await {
                ended?;
            }
        }
        self.report.borrow_mut().repositories += u64::from(any);
        Ok(())
    }

    fn advance(&self, images: u64) -> Result<(), Error> {
        self.done.set(self.done.get() + images);
        let done = self.done.get();
        match (self.tell)(Progress { step: Step::Images, done, total: Some(self.total.max(done)) }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Stopped),
        }
    }

    /// Tells what became of a tag or a manifest.
    async fn told(&self, name: String, digest: Digest, fate: Fate) {
        {
            let mut report = self.report.borrow_mut();
            match fate {
                Fate::Came | Fate::Moved { .. } => report.tags += 1,
                Fate::Here => report.known_tags += 1,
                Fate::Conflict { .. } => report.conflicts += 1,
                Fate::Failed { .. } => report.failed += 1,
            }
        }
        (self.hear)(RestoredItem { name, digest, fate }).await;
    }
}
