//! The copier of images: what it takes from any source, and in which order.

mod blob;
mod repository;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ops::ControlFlow;

use bytes::Bytes;
use tokio::sync::Semaphore;

pub(super) use self::repository::{RepositoryCopy, named};
use super::refusal::reason;
use super::turns::Turns;
use super::{Error, Report, Skipped, Tell, Told};
use crate::oci::{Descriptor, Digest, MediaType, RepositoryName, Tag};
use crate::registry::{self, Actor, NamePattern, Registry, TagPattern};

/// How many blobs come at once.
const BLOBS: usize = 8;

/// What the names of those who import begin with, in the history of tags.
const IMPORTED: &str = "import by ";

/// What is taken of a source, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// What stands before each name here.
    pub below: Option<RepositoryName>,
    /// Only repositories whose name in the source one of these matches; all where there is none.
    pub repositories: Vec<NamePattern>,
    /// Only these tags, with what accompanies them; all where there is none.
    pub tags: Vec<TagPattern>,
    /// Whether tags also move that somebody has set here otherwise than by an import.
    pub move_tags: bool,
    /// Whether nothing is changed, and only told of what would come.
    pub dry_run: bool,
    /// On whose behalf.
    pub actor: Actor,
}

impl Options {
    pub(super) fn wants_repository(&self, name: &str) -> bool {
        self.repositories.is_empty() || self.repositories.iter().any(|pattern| pattern.matches(name))
    }

    pub(super) fn wants_tag(&self, tag: &Tag) -> bool {
        self.tags.is_empty() || self.tags.iter().any(|pattern| pattern.matches(tag))
    }
}

/// What images are taken from.
pub(super) trait Source {
    /// Where in it the content of one repository is.
    type Place;
    /// The bytes of a blob on their way.
    type Pieces: Pieces;

    /// A manifest of at most `limit` bytes; `None` if there is none. Its bytes are compared with the digest by the copier.
    async fn manifest(
        &self,
        place: &Self::Place,
        digest: &Digest,
        limit: usize,
    ) -> Result<Option<SourceManifest>, Failure>;

    /// The bytes of a blob; `None` if there is none. They are compared with the digest by the copier.
    async fn blob(&self, place: &Self::Place, digest: &Digest) -> Result<Option<Self::Pieces>, Failure>;

    /// The length of a blob, where it is known without reading it; `None` if there is none.
    async fn blob_len(&self, place: &Self::Place, named: &Descriptor) -> Result<Option<u64>, Failure>;

    /// The manifests that refer to one, of those that nothing else leads to.
    async fn referrers(&self, place: &Self::Place, subject: &Digest) -> Result<Vec<Digest>, Failure>;

    /// How messages name something in it.
    fn path(&self, place: &Self::Place, digest: &Digest) -> String;
}

/// A manifest as a source has it.
pub(super) struct SourceManifest {
    pub(super) bytes: Bytes,
    /// What the source says that it is, where it does.
    pub(super) media_type: Option<MediaType>,
}

/// The bytes of a blob, as they come.
pub(super) trait Pieces {
    /// How many there are, where the source knows.
    fn size(&self) -> Option<u64>;

    /// The next ones; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Failure>;
}

/// Why something doesn't come.
pub(super) enum Failure {
    /// It can't be taken.
    Skipped(Skipped),
    /// Nothing more can.
    Ended(Error),
}

impl From<Skipped> for Failure {
    fn from(skipped: Skipped) -> Failure {
        Failure::Skipped(skipped)
    }
}

/// The work on one source.
pub(super) struct Copier<'c, S> {
    registry: &'c Registry,
    source: &'c S,
    pub(super) options: &'c Options,
    tell: &'c Tell<'c>,
    /// Who sets tags.
    tagger: Actor,
    report: RefCell<Report>,
    stopped: Cell<bool>,
    /// Bytes of blobs that are done, and of how many; the same of images.
    done: Cell<u64>,
    total: Cell<u64>,
    images: Cell<(u64, u64)>,
    blobs: Turns,
    copies: Semaphore,
    /// Blobs that would have come, in a dry run.
    pretended: RefCell<HashSet<Digest>>,
}

impl<'c, S: Source> Copier<'c, S> {
    pub(super) fn new(
        registry: &'c Registry,
        source: &'c S,
        options: &'c Options,
        tell: &'c Tell<'c>,
    ) -> Copier<'c, S> {
        Copier {
            registry,
            source,
            options,
            tell,
            tagger: Actor::new(format!("{IMPORTED}{}", options.actor.as_str())),
            report: RefCell::default(),
            stopped: Cell::new(false),
            done: Cell::new(0),
            total: Cell::new(0),
            images: Cell::new((0, 0)),
            blobs: Turns::default(),
            copies: Semaphore::new(BLOBS),
            pretended: RefCell::default(),
        }
    }

    /// Begins with a repository, named as in the source; `None`, which has been told, where it can't come here.
    pub(super) async fn repository(
        &self,
        name: &RepositoryName,
        place: S::Place,
        path: &str,
    ) -> Result<Option<RepositoryCopy<'_, S>>, Error> {
        let name = match &self.options.below {
            None => name.clone(),
            Some(below) => match format!("{below}/{name}").parse() {
                Ok(name) => name,
                Err(error) => {
                    self.skip(Skipped::new(path, format!("it can't be called {below}/{name} here: {error}")))
                        .await;
                    return Ok(None);
                }
            },
        };
        let repository = self.registry.namespace().repository(&name);
        match repository.is_cached() {
            Ok(false) => {}
            Ok(true) => {
                let reason =
                    format!("{name} is what is cached of an upstream here; --below puts it elsewhere");
                self.skip(Skipped::new(path, reason)).await;
                return Ok(None);
            }
            Err(error) => {
                self.refused(path, error).await?;
                return Ok(None);
            }
        }
        self.report.borrow_mut().repositories += 1;
        Ok(Some(RepositoryCopy::new(self, place, repository)))
    }

    /// What came of it.
    pub(super) fn report(&self) -> Report {
        let mut report = *self.report.borrow();
        report.ended_early = self.stopped.get();
        report
    }

    /// Tells of what can't be taken.
    pub(super) async fn skip(&self, skipped: Skipped) {
        self.report.borrow_mut().skipped += 1;
        self.hear(Told::Skipped(skipped)).await;
    }

    /// The same of a source's failure; one that ends everything is returned.
    pub(super) async fn failed(&self, failure: Failure) -> Result<(), Error> {
        match failure {
            Failure::Skipped(skipped) => self.skip(skipped).await,
            Failure::Ended(error) => return Err(error),
        }
        Ok(())
    }

    /// The same of what the registry refuses; where it is the registry that fails, the import ends.
    pub(super) async fn refused(&self, path: &str, error: registry::Error) -> Result<(), Error> {
        if !error.is_about_content() {
            return Err(error.into());
        }
        self.skip(Skipped::new(path, reason(&error))).await;
        Ok(())
    }

    /// How messages name something in the source.
    pub(super) fn path(&self, place: &S::Place, digest: &Digest) -> String {
        self.source.path(place, digest)
    }

    /// Counts images that are to come.
    pub(super) fn expect_images(&self, count: u64) {
        let (done, total) = self.images.get();
        self.images.set((done, total.saturating_add(count)));
    }

    /// Tells that one more of them is done.
    pub(super) async fn image_done(&self) {
        let (done, total) = self.images.get();
        let done = done.saturating_add(1);
        self.images.set((done, total.max(done)));
        self.hear(Told::Images(done, total.max(done))).await;
    }

    fn expect_bytes(&self, bytes: u64) {
        self.total.set(self.total.get().saturating_add(bytes));
    }

    async fn advance(&self, bytes: u64) {
        let done = self.done.get().saturating_add(bytes);
        self.done.set(done);
        self.total.set(self.total.get().max(done));
        self.hear(Told::Importing(done, self.total.get())).await;
    }

    async fn hear(&self, told: Told) {
        if let ControlFlow::Break(()) = (self.tell)(told).await {
            self.stopped.set(true);
        }
    }

    /// Whether nobody wants it to go on.
    pub(super) fn is_over(&self) -> bool {
        self.stopped.get()
    }
}
