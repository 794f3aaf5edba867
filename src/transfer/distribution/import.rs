//! An import as a whole.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::path::Path;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;

use super::repository::RepositoryImport;
use super::tree::Tree;
use super::walk::Repositories;
use crate::oci::RepositoryName;
use crate::registry::{self, Actor, NamePattern, Registry};
use crate::transfer::refusal::reason;
use crate::transfer::turns::Turns;
use crate::transfer::{Error, Report, Skipped, Tell, Told};

/// How many repositories are under way at once, and how many manifests in each of them.
const REPOSITORIES: usize = 4;
pub(super) const MANIFESTS: usize = 4;

/// How many blobs are copied at once.
const BLOBS: usize = 8;

/// What is imported, and how.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command")]
pub struct Options {
    /// Only repositories whose name one of these matches; all where there is none.
    pub repositories: Vec<NamePattern>,
    /// Whether blobs are taken by hard links where that can be done.
    pub link: bool,
    /// Whether blobs that are not copied are hashed all the same.
    pub verify: bool,
    /// Whether layers come that no manifest names.
    pub all_layers: bool,
    /// Whether nothing is changed, and only told of what would come.
    pub dry_run: bool,
    /// On whose behalf.
    pub actor: Actor,
}

/// An import under way.
pub(super) struct Import<'i> {
    pub(super) registry: &'i Registry,
    pub(super) tree: &'i Tree,
    pub(super) options: &'i Options,
    tell: &'i Tell<'i>,
    pub(super) report: RefCell<Report>,
    stopped: Cell<bool>,
    /// Bytes of layers that are done, and of how many.
    done: Cell<u64>,
    total: u64,
    pub(super) blobs: Turns,
    pub(super) copies: Semaphore,
    /// Whether the file system has said that it can't clone, or link.
    pub(super) cannot_clone: Cell<bool>,
    pub(super) cannot_link: Cell<bool>,
}

/// Imports what is in `directory`. Reads directories on the calling thread, so that has to be one that may block; copies,
/// hashes and commits run on others.
pub async fn import(
    registry: &Registry,
    directory: &Path,
    options: &Options,
    tell: &Tell<'_>,
) -> Result<Report, Error> {
    let tree = Tree::open(directory).map_err(Error::Unreadable)?;
    let tree = tree.ok_or_else(|| no_store(directory))?;
    let mut report = Report::default();
    let Some(total) = survey(&tree, options, tell).await else {
        report.ended_early = true;
        return Ok(report);
    };
    let import = Import {
        registry,
        tree: &tree,
        options,
        tell,
        report: RefCell::new(report),
        stopped: Cell::new(false),
        done: Cell::new(0),
        total,
        blobs: Turns::default(),
        copies: Semaphore::new(BLOBS),
        cannot_clone: Cell::new(false),
        cannot_link: Cell::new(false),
    };
    import.repositories().await?;
    let mut report = *import.report.borrow();
    report.ended_early = import.stopped.get();
    Ok(report)
}

/// The bytes of all layers of all repositories that are wanted; `None` where nobody wants to know any more. What is wrong is
/// told of later.
async fn survey(tree: &Tree, options: &Options, tell: &Tell<'_>) -> Option<u64> {
    let mut total: u64 = 0;
    for (at, name) in Repositories::of(tree, &options.repositories).flatten().enumerate() {
        if tell(Told::Looking(at as u64)).await.is_break() {
            return None;
        }
        total = total.saturating_add(super::layers::bytes(tree, &name));
    }
    Some(total)
}

impl Import<'_> {
    async fn repositories(&self) -> Result<(), Error> {
        let mut running = FuturesUnordered::new();
        for name in Repositories::of(self.tree, &self.options.repositories) {
            if self.is_over() {
                break;
            }
            match name {
                Ok(name) => running.push(self.repository(name)),
                Err(skipped) => self.skip(skipped).await,
            }
            while running.len() >= REPOSITORIES {
                running.next().await.transpose()?;
            }
        }
        while let Some(ended) = running.next().await {
            ended?;
        }
        Ok(())
    }

    async fn repository(&self, name: RepositoryName) -> Result<(), Error> {
        let repository = self.registry.namespace().repository(&name);
        self.report.borrow_mut().repositories += 1;
        let cached = match repository.is_cached() {
            Ok(cached) => cached,
            Err(error) => return self.refused(&super::tree::repository(&name), error).await,
        };
        if cached {
            let reason = "its name is one of what is cached of an upstream here";
            self.skip(self.tree.skip(&super::tree::repository(&name), reason)).await;
            return Ok(());
        }
        RepositoryImport::new(self, &name, repository).run().await
    }

    /// Tells of what can't be taken.
    pub(super) async fn skip(&self, skipped: Skipped) {
        self.report.borrow_mut().skipped += 1;
        self.hear((self.tell)(Told::Skipped(skipped)).await);
    }

    /// The same of what the registry refuses; where it is the registry that fails, the import ends.
    pub(super) async fn refused(&self, below: &str, error: registry::Error) -> Result<(), Error> {
        if !error.is_about_content() {
            return Err(error.into());
        }
        self.skip(self.tree.skip(below, reason(&error))).await;
        Ok(())
    }

    /// Tells that so many bytes of layers more are done.
    pub(super) async fn advance(&self, bytes: u64) {
        self.done.set(self.done.get().saturating_add(bytes).min(self.total));
        self.hear((self.tell)(Told::Importing(self.done.get(), self.total)).await);
    }

    fn hear(&self, answer: ControlFlow<()>) {
        if answer.is_break() {
            self.stopped.set(true);
        }
    }

    /// Whether nobody wants it to go on.
    pub(super) fn is_over(&self) -> bool {
        self.stopped.get()
    }
}

fn no_store(directory: &Path) -> Error {
    Error::Unusable(format!(
        "{} is no store of a distribution registry: there is neither docker/registry/v2 nor repositories in it",
        directory.display()
    ))
}
