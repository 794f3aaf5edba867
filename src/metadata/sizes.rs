//! Sizes: how much each repository holds, and the whole store, counted in the transactions that change it.
//!
//! A repository's bytes are those of the distinct blobs and manifests that it has. Its unique bytes are those of them that
//! no other repository has. What a deletion keeps counts for the store alone. What cached repositories have is counted once
//! more for their upstream, and for the whole cache, there each blob and each manifest once.

use bincode::{Decode, Encode};

use super::blobs::repository_of;
use super::codec::{self, Record};
use super::key::{Key, Parts};
use super::links::any_cached_in;
use super::repositories::{Cached, RepositoryId};
use super::{Error, Read, Scan, Table, WriteTx};
use crate::oci::Digest;

/// How much a repository holds, or the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct SizeRecord {
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Manifests.
    pub manifests: u64,
    /// Their bytes.
    pub manifest_bytes: u64,
    /// Tags; 0 for the store.
    pub tags: u64,
    /// The bytes of blobs and manifests that no other repository has; 0 for the store.
    pub unique_bytes: u64,
}

impl SizeRecord {
    /// The bytes of blobs and manifests.
    pub fn bytes(&self) -> u64 {
        self.blob_bytes.saturating_add(self.manifest_bytes)
    }
}

impl Record for SizeRecord {
    const TABLE: Table = Table::RepositorySizes;
    const VERSION: u8 = 1;
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    Blob,
    Manifest,
}

/// The row of the store, an identifier that no repository has.
const STORE: u64 = 0;

fn read(tx: &impl Read, row: u64) -> Result<SizeRecord, Error> {
    Ok(tx.get(Table::RepositorySizes, Key::new().number(row), codec::decode)?.unwrap_or_default())
}

fn change(tx: &WriteTx<'_>, row: u64, change: impl FnOnce(&mut SizeRecord)) -> Result<(), Error> {
    let mut sizes = read(tx, row)?;
    change(&mut sizes);
    tx.insert(Table::RepositorySizes, Key::new().number(row), &codec::encode(&sizes))
}

/// How much a repository holds.
pub fn of(tx: &impl Read, repository: RepositoryId) -> Result<SizeRecord, Error> {
    read(tx, repository.number())
}

/// How much the store holds: each blob and each manifest once, what deletions keep included.
pub fn of_store(tx: &impl Read) -> Result<SizeRecord, Error> {
    read(tx, STORE)
}

/// How much cached repositories hold together: each blob and each manifest once.
pub fn of_cached(tx: &impl Read, cached: Cached) -> Result<SizeRecord, Error> {
    read(tx, cached.before().number())
}

/// Hands the sizes of every repository to `row`, the deleted ones that can come back included.
pub fn each(
    tx: &impl Read,
    mut row: impl FnMut(RepositoryId, SizeRecord) -> Result<Scan, Error>,
) -> Result<(), Error> {
    let after = Key::new().number(STORE);
    tx.scan(Table::RepositorySizes, b"", Some(after.as_ref()), |key, value| {
        let repository = repository_of(Table::RepositorySizes, &mut Parts(key))?;
        if repository.totals().is_some() {
            return Ok(Scan::Continue);
        }
        row(repository, codec::decode(value)?)
    })
}

/// Hands the sizes of the cached repositories of each upstream, and of all together, to `row`.
pub fn each_cached(
    tx: &impl Read,
    mut row: impl FnMut(Cached, SizeRecord) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut known = Vec::new();
    super::repositories::each_upstream(tx, |_, upstream| {
        known.push(Cached::Of(upstream));
        Ok(Scan::Continue)
    })?;
    known.push(Cached::All);
    known.into_iter().try_for_each(|cached| row(cached, of_cached(tx, cached)?))
}

/// Up to two repositories, deletions aside, that an index has under a digest.
fn holders(tx: &impl Read, index: Table, digest: &Digest) -> Result<Vec<RepositoryId>, Error> {
    let mut found = Vec::with_capacity(2);
    tx.scan(index, Key::new().digest(digest).as_ref(), None, |key, _| {
        let repository = repository_of(index, &mut Parts(key))?;
        // Deletions come last.
        if repository.is_deletion() || found.len() == 2 {
            return Ok(Scan::Stop);
        }
        found.push(repository);
        Ok(Scan::Continue)
    })?;
    Ok(found)
}

/// Which way a count goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

impl Way {
    fn back(self) -> Way {
        match self {
            Way::Up => Way::Down,
            Way::Down => Way::Up,
        }
    }

    fn count(self, counter: &mut u64, by: u64) {
        *counter = match self {
            Way::Up => counter.saturating_add(by),
            Way::Down => counter.saturating_sub(by),
        };
    }
}

/// Counts content that a repository is about to have; the index doesn't say so yet.
pub(super) fn added(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    what: Counted,
    index: Table,
    digest: &Digest,
    size: u64,
) -> Result<(), Error> {
    count_in(tx, repository, what, (index, digest), size, Way::Up)
}

/// Counts content that a repository had; the index doesn't say so any more.
pub(super) fn removed(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    what: Counted,
    index: Table,
    digest: &Digest,
    size: u64,
) -> Result<(), Error> {
    count_in(tx, repository, what, (index, digest), size, Way::Down)
}

/// What is unique to a repository stops being so when a second one has it, and is again when that one hasn't.
fn count_in(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    what: Counted,
    (index, digest): (Table, &Digest),
    size: u64,
    way: Way,
) -> Result<(), Error> {
    if repository.is_deletion() {
        return Ok(());
    }
    let others = holders(tx, index, digest)?;
    if let [other] = others[..] {
        change(tx, other.number(), |sizes| way.back().count(&mut sizes.unique_bytes, size))?;
    }
    for cached in totals_of(repository) {
        if any_cached_in(tx, index, digest, cached)?.is_none() {
            change(tx, cached.before().number(), |sizes| sizes.count(what, size, way))?;
        }
    }
    change(tx, repository.number(), |sizes| {
        sizes.count(what, size, way);
        if others.is_empty() {
            way.count(&mut sizes.unique_bytes, size);
        }
    })
}

/// What else the content of a repository counts for.
fn totals_of(repository: RepositoryId) -> impl Iterator<Item = Cached> {
    repository.upstream().into_iter().flat_map(|upstream| [Cached::Of(upstream), Cached::All])
}

/// Counts content that the store has for the first time.
pub(super) fn stored(tx: &WriteTx<'_>, what: Counted, size: u64) -> Result<(), Error> {
    change(tx, STORE, |sizes| sizes.count(what, size, Way::Up))
}

/// Counts content that the store has no more.
pub(super) fn discarded(tx: &WriteTx<'_>, what: Counted, size: u64) -> Result<(), Error> {
    change(tx, STORE, |sizes| sizes.count(what, size, Way::Down))
}

/// Counts a tag more or one less.
pub(super) fn tagged(tx: &WriteTx<'_>, repository: RepositoryId, is_there: bool) -> Result<(), Error> {
    if repository.is_deletion() {
        return Ok(());
    }
    let way = if is_there { Way::Up } else { Way::Down };
    for cached in totals_of(repository) {
        change(tx, cached.before().number(), |sizes| way.count(&mut sizes.tags, 1))?;
    }
    change(tx, repository.number(), |sizes| way.count(&mut sizes.tags, 1))
}

/// Forgets a repository that holds nothing.
pub(super) fn forget(tx: &WriteTx<'_>, repository: RepositoryId) -> Result<(), Error> {
    let key = Key::new().number(repository.number());
    if tx.has(Table::RepositorySizes, &key)? {
        tx.remove(Table::RepositorySizes, key).map(drop)
    } else {
        Ok(())
    }
}

/// Whose counters there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counters {
    /// The store's.
    Store,
    /// A repository's.
    Of(RepositoryId),
    /// Those of cached repositories together.
    OfCached(Cached),
}

/// Replaces counters by what a count has found.
pub fn repair(tx: &WriteTx<'_>, counters: Counters, sizes: &SizeRecord) -> Result<(), Error> {
    let row = match counters {
        Counters::Store => STORE,
        Counters::Of(repository) => repository.number(),
        Counters::OfCached(cached) => cached.before().number(),
    };
    tx.insert(Table::RepositorySizes, Key::new().number(row), &codec::encode(sizes))
}

impl SizeRecord {
    fn count(&mut self, what: Counted, size: u64, way: Way) {
        let (number, bytes) = self.counters(what);
        way.count(number, 1);
        way.count(bytes, size);
    }

    fn counters(&mut self, what: Counted) -> (&mut u64, &mut u64) {
        match what {
            Counted::Blob => (&mut self.blobs, &mut self.blob_bytes),
            Counted::Manifest => (&mut self.manifests, &mut self.manifest_bytes),
        }
    }
}
