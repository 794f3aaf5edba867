//! One repository: its tags with what they lead to, its other manifests, and then its other layers.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::import::{Import, MANIFESTS};
use super::tree;
use crate::oci::{Digest, RepositoryName};
use crate::registry::Repository;
use crate::transfer::Error;
use crate::transfer::Skipped;
use crate::transfer::children::Took;
use crate::transfer::turns::Turns;

/// A repository under way.
pub(super) struct RepositoryImport<'i> {
    pub(super) import: &'i Import<'i>,
    /// Its directory in the tree.
    pub(super) below: String,
    pub(super) repository: Repository,
    pub(super) manifests: Turns,
    /// The layers that manifests name which came now.
    pub(super) named: RefCell<HashSet<Digest>>,
    /// Manifests and layers that can't be taken, and have been told of.
    pub(super) failed: RefCell<HashSet<Digest>>,
    /// Manifests whose signatures have been looked at.
    pub(super) signed: RefCell<HashSet<Digest>>,
    /// Manifests that would have come, in a dry run.
    pub(super) pretended: RefCell<HashSet<Digest>>,
    /// How many manifests came, and how many of those in the tree are here.
    pub(super) came: Cell<u64>,
    here: Cell<u64>,
    /// How many bytes have been told of as done.
    pub(super) credited: Cell<u64>,
}

impl<'i> RepositoryImport<'i> {
    pub(super) fn new(
        import: &'i Import<'i>,
        name: &RepositoryName,
        repository: Repository,
    ) -> RepositoryImport<'i> {
        RepositoryImport {
            import,
            below: tree::repository(name),
            repository,
            manifests: Turns::default(),
            named: RefCell::default(),
            failed: RefCell::default(),
            signed: RefCell::default(),
            pretended: RefCell::default(),
            came: Cell::new(0),
            here: Cell::new(0),
            credited: Cell::new(0),
        }
    }

    pub(super) async fn run(&self) -> Result<(), Error> {
        // Tags first: what they lead to has a name at once, and an import that is interrupted has whole images.
        self.each(self.import.tree.directories(&self.tags()), |tag| self.tag(tag)).await?;
        self.each(self.import.tree.digests(&self.revisions()), |digest| self.revision(digest)).await?;
        let known = self.here.get().saturating_sub(self.came.get());
        self.import.report.borrow_mut().known_manifests += known;
        self.other_layers().await
    }

    pub(super) fn tags(&self) -> String {
        format!("{}/_manifests/tags", self.below)
    }

    pub(super) fn revisions(&self) -> String {
        format!("{}/_manifests/revisions", self.below)
    }

    pub(super) fn layers(&self) -> String {
        format!("{}/_layers", self.below)
    }

    /// Works on some at a time.
    async fn each<T, F>(
        &self,
        all: impl Iterator<Item = Result<T, Skipped>>,
        work: impl Fn(T) -> F,
    ) -> Result<(), Error>
    where
        F: Future<Output = Result<(), Error>>,
    {
        let mut running = FuturesUnordered::new();
        for one in all {
            if self.import.is_over() {
                break;
            }
            match one {
                Ok(one) => running.push(work(one)),
                Err(skipped) => self.import.skip(skipped).await,
            }
            while running.len() >= MANIFESTS {
                running.next().await.transpose()?;
            }
        }
        while let Some(ended) = running.next().await {
            ended?;
        }
        Ok(())
    }

    /// A revision of the list; most have come with their tags or their indexes by now.
    async fn revision(&self, digest: Digest) -> Result<(), Error> {
        if self.manifest(digest, 0, false).await? == Took::Here {
            self.here.set(self.here.get() + 1);
        }
        Ok(())
    }

    /// Tells of something that can't be taken, and remembers that.
    pub(super) async fn fail(&self, digest: &Digest, skipped: Skipped) -> Took {
        self.failed.borrow_mut().insert(*digest);
        self.import.skip(skipped).await;
        Took::Skipped
    }

    pub(super) fn has_failed(&self, digest: &Digest) -> bool {
        self.failed.borrow().contains(digest)
    }

    /// Tells that so many bytes more are done.
    pub(super) async fn advance(&self, bytes: u64) {
        self.credited.set(self.credited.get().saturating_add(bytes));
        self.import.advance(bytes).await;
    }
}
