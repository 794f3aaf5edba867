//! Repositories: names to small identifiers, so that a rename is one row.

use bincode::{Decode, Encode};

use super::codec::{self, Record};
use super::key::{Key, Parts};
use super::{Error, Read, Scan, Table, WriteTx};
use crate::clock::Timestamp;
use crate::oci::RepositoryName;

/// The identifier of a repository: the first part of the keys of all that is in it. Never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct RepositoryId(u64);

/// What the identifiers of deletions have and those of repositories don't, so that deletions come last in every order.
const DELETION: u64 = 1 << 63;

/// What the identifiers of cached repositories have and those of one's own don't, so that they come behind these.
const CACHED: u64 = 1 << 62;

/// Where the number of the upstream begins in the identifier of a cached repository. Below is the repository's own.
const UPSTREAM_SHIFT: u32 = 40;

/// The most upstreams that there can have been.
const MAX_UPSTREAMS: u32 = (1 << 22) - 1;

/// The number of an upstream's folder, given when its first repository comes, and never to another folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamNumber(u32);

/// Cached repositories: of one upstream, or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cached {
    /// Of all upstreams.
    All,
    /// Of one.
    Of(UpstreamNumber),
}

impl Cached {
    /// The identifier before those of all these repositories, which none has. The counters of all of them together lie there.
    pub(super) fn before(self) -> RepositoryId {
        match self {
            Cached::All => RepositoryId(CACHED),
            Cached::Of(UpstreamNumber(number)) => RepositoryId(CACHED | u64::from(number) << UPSTREAM_SHIFT),
        }
    }

    /// Whether the repository is one of these.
    pub fn contains(self, repository: RepositoryId) -> bool {
        match self {
            Cached::All => repository.is_cached(),
            Cached::Of(upstream) => repository.upstream() == Some(upstream),
        }
    }
}

impl RepositoryId {
    /// Whether this is a cached repository's. One whose name was taken away keeps the identifier that it had.
    pub fn is_cached(self) -> bool {
        self.0 & (DELETION | CACHED) == CACHED
    }

    /// The upstream that the repository caches; `None` for one's own.
    pub fn upstream(self) -> Option<UpstreamNumber> {
        let number = (self.0 & !CACHED) >> UPSTREAM_SHIFT;
        self.is_cached().then(|| UpstreamNumber(u32::try_from(number).expect("it has 22 bits")))
    }

    /// Of what the counters are that lie under this identifier, where it is no repository's.
    pub(super) fn totals(self) -> Option<Cached> {
        if !self.is_cached() || self.0 & ((1 << UPSTREAM_SHIFT) - 1) != 0 {
            return None;
        }
        Some(match self.upstream() {
            Some(UpstreamNumber(number)) if number > 0 => Cached::Of(UpstreamNumber(number)),
            _ => Cached::All,
        })
    }

    /// The identifier of a deletion: of a repository without a name that holds what was deleted.
    pub(super) fn of_deletion(number: u64) -> RepositoryId {
        RepositoryId(DELETION | number)
    }

    /// Whether this is a deletion's. A deleted repository keeps the identifier that it had.
    pub fn is_deletion(self) -> bool {
        self.0 & DELETION != 0
    }

    /// The number, as keys have it.
    pub(super) fn number(self) -> u64 {
        self.0
    }

    /// The identifier that a key has.
    pub(super) fn from_number(number: u64) -> RepositoryId {
        RepositoryId(number)
    }
}

impl From<RepositoryId> for u64 {
    fn from(id: RepositoryId) -> u64 {
        id.0
    }
}

impl From<u64> for RepositoryId {
    fn from(number: u64) -> RepositoryId {
        RepositoryId(number)
    }
}

/// A repository's row.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RepositoryRecord {
    /// Its present name.
    pub name: RepositoryName,
    /// When the first content came, in milliseconds since 1970.
    pub created_at: u64,
    /// Who brought it.
    pub actor: String,
    /// The folder of the upstream that it caches; `None` for a repository of one's own.
    pub upstream: Option<String>,
}

impl Record for RepositoryRecord {
    const TABLE: Table = Table::RepositoriesById;
    const VERSION: u8 = 2;
}

impl Record for RepositoryId {
    const TABLE: Table = Table::RepositoriesByName;
    const VERSION: u8 = 1;
}

const NEXT_ID: &[u8] = b"next_repository";

/// The identifier of the repository called `name`.
pub fn id_of(tx: &impl Read, name: &RepositoryName) -> Result<Option<RepositoryId>, Error> {
    tx.get(Table::RepositoriesByName, name.as_str(), codec::decode)
}

/// The row of a repository.
pub fn get(tx: &impl Read, id: RepositoryId) -> Result<Option<RepositoryRecord>, Error> {
    tx.get(Table::RepositoriesById, Key::new().number(id.0), codec::decode)
}

/// The identifier of the repository called `name`, which comes into being where it doesn't exist: as a cache of `upstream`,
/// or as one's own.
pub fn ensure(
    tx: &WriteTx<'_>,
    name: &RepositoryName,
    now: Timestamp,
    actor: &str,
    upstream: Option<&str>,
) -> Result<RepositoryId, Error> {
    if let Some(id) = id_of(tx, name)? {
        return Ok(id);
    }
    let id = match upstream {
        Some(folder) => allocate_cached(tx, folder)?,
        None => allocate(tx)?,
    };
    tx.insert(Table::RepositoriesByName, name.as_str(), &codec::encode(&id))?;
    let record = RepositoryRecord {
        name: name.clone(),
        created_at: now.millis(),
        actor: actor.into(),
        upstream: upstream.map(str::to_owned),
    };
    tx.insert(Table::RepositoriesById, Key::new().number(id.0), &codec::encode(&record))?;
    Ok(id)
}

fn allocate(tx: &WriteTx<'_>) -> Result<RepositoryId, Error> {
    let id = RepositoryId(tx.get(Table::Meta, NEXT_ID, codec::decode::<NextId>)?.map_or(1, |next| next.0));
    tx.insert(Table::Meta, NEXT_ID, &codec::encode(&NextId(id.0 + 1)))?;
    Ok(id)
}

/// What is known of an upstream.
#[derive(Debug, Clone, Copy, Encode, Decode)]
struct UpstreamRecord {
    number: u32,
    /// The number that its next repository gets.
    next: u64,
}

impl Record for UpstreamRecord {
    const TABLE: Table = Table::Meta;
    const VERSION: u8 = 1;
}

/// Where the [`UpstreamRecord`] of a folder lies.
const UPSTREAM: &[u8] = b"upstream/";

const NEXT_UPSTREAM: &[u8] = b"next_upstream";

fn upstream_key(folder: &str) -> Key {
    Key::new().bytes(UPSTREAM).text(folder)
}

fn allocate_cached(tx: &WriteTx<'_>, folder: &str) -> Result<RepositoryId, Error> {
    let known = tx.get(Table::Meta, upstream_key(folder), codec::decode::<UpstreamRecord>)?;
    let UpstreamRecord { number, next } = if let Some(known) = known {
        known
    } else {
        let next = tx.get(Table::Meta, NEXT_UPSTREAM, codec::decode::<NextId>)?.map_or(1, |next| next.0);
        let number = u32::try_from(next).ok().filter(|number| *number <= MAX_UPSTREAMS);
        let number = number.ok_or_else(exhausted)?;
        tx.insert(Table::Meta, NEXT_UPSTREAM, &codec::encode(&NextId(next + 1)))?;
        UpstreamRecord { number, next: 1 }
    };
    if next >> UPSTREAM_SHIFT != 0 {
        return Err(exhausted());
    }
    let record = UpstreamRecord { number, next: next + 1 };
    tx.insert(Table::Meta, upstream_key(folder), &codec::encode(&record))?;
    Ok(RepositoryId(Cached::Of(UpstreamNumber(number)).before().0 | next))
}

fn exhausted() -> Error {
    Error::Damaged {
        table: Table::Meta.name(),
        reason: "there are no more numbers for cached repositories".into(),
    }
}

/// The number of an upstream's folder; `None` where nothing of it was ever cached.
pub fn upstream(tx: &impl Read, folder: &str) -> Result<Option<UpstreamNumber>, Error> {
    let known = tx.get(Table::Meta, upstream_key(folder), codec::decode::<UpstreamRecord>)?;
    Ok(known.map(|known| UpstreamNumber(known.number)))
}

/// Hands every upstream's folder to `row`, with its number.
pub fn each_upstream(
    tx: &impl Read,
    mut row: impl FnMut(&str, UpstreamNumber) -> Result<Scan, Error>,
) -> Result<(), Error> {
    tx.scan(Table::Meta, UPSTREAM, None, |key, value| {
        let folder = Parts(key).text().ok_or_else(|| super::blobs::damaged_key(Table::Meta, "folder"))?;
        row(folder, UpstreamNumber(codec::decode::<UpstreamRecord>(value)?.number))
    })
}

/// The name of a repository; `None` for a deletion, and for a repository that is deleted.
pub fn name_of(tx: &impl Read, id: RepositoryId) -> Result<Option<RepositoryName>, Error> {
    let Some(record) = get(tx, id)? else { return Ok(None) };
    Ok((id_of(tx, &record.name)? == Some(id)).then_some(record.name))
}

/// Takes a repository's name away; all that it has stays.
pub fn take_name(tx: &WriteTx<'_>, name: &RepositoryName) -> Result<(), Error> {
    tx.remove(Table::RepositoriesByName, name.as_str()).map(drop)
}

/// Gives a repository a name that nobody has.
pub fn give_name(tx: &WriteTx<'_>, id: RepositoryId, name: &RepositoryName) -> Result<(), Error> {
    let record = get(tx, id)?.ok_or_else(|| missing(id))?;
    tx.insert(Table::RepositoriesByName, name.as_str(), &codec::encode(&id))?;
    let record = RepositoryRecord { name: name.clone(), ..record };
    tx.insert(Table::RepositoriesById, Key::new().number(id.0), &codec::encode(&record))?;
    forget_former(tx, name)
}

/// Forgets a repository that has no name and nothing else.
pub(super) fn forget(tx: &WriteTx<'_>, id: RepositoryId) -> Result<(), Error> {
    let key = Key::new().number(id.0);
    if tx.has(Table::RepositoriesById, &key)? {
        tx.remove(Table::RepositoriesById, key).map(drop)
    } else {
        Ok(())
    }
}

/// That a name was another repository's before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct FormerName {
    /// The repository that had it.
    pub repository: RepositoryId,
    /// When it was renamed, in milliseconds since 1970.
    pub renamed_at: u64,
}

impl Record for FormerName {
    const TABLE: Table = Table::FormerNames;
    const VERSION: u8 = 1;
}

/// Which repository had the name before it was renamed, unless another has it since.
pub fn former(tx: &impl Read, name: &RepositoryName) -> Result<Option<FormerName>, Error> {
    tx.get(Table::FormerNames, name.as_str(), codec::decode)
}

/// Remembers that a repository had the name.
pub fn set_former(tx: &WriteTx<'_>, name: &RepositoryName, former: &FormerName) -> Result<(), Error> {
    tx.insert(Table::FormerNames, name.as_str(), &codec::encode(former))
}

fn forget_former(tx: &WriteTx<'_>, name: &RepositoryName) -> Result<(), Error> {
    if tx.has(Table::FormerNames, name.as_str())? {
        tx.remove(Table::FormerNames, name.as_str())?;
    }
    Ok(())
}

/// Up to `limit` cached repositories in the order of their identifiers, behind `after`, deleted ones included.
pub fn page_of_cached(
    tx: &impl Read,
    after: Option<RepositoryId>,
    limit: usize,
) -> Result<Vec<RepositoryId>, Error> {
    let mut found = Vec::new();
    let after = Key::new().number(after.unwrap_or(Cached::All.before()).0);
    tx.scan(Table::RepositoriesById, b"", Some(after.as_ref()), |key, _| {
        let repository = super::blobs::repository_of(Table::RepositoriesById, &mut Parts(key))?;
        if found.len() == limit || !repository.is_cached() {
            return Ok(Scan::Stop);
        }
        found.push(repository);
        Ok(Scan::Continue)
    })?;
    Ok(found)
}

/// Hands every repository's row to `row`, deleted ones included.
pub fn each(
    tx: &impl Read,
    mut row: impl FnMut(RepositoryId, RepositoryRecord) -> Result<Scan, Error>,
) -> Result<(), Error> {
    tx.scan(Table::RepositoriesById, b"", None, |key, value| {
        let mut parts = Parts(key);
        row(super::blobs::repository_of(Table::RepositoriesById, &mut parts)?, codec::decode(value)?)
    })
}

fn missing(id: RepositoryId) -> Error {
    Error::Damaged {
        table: Table::RepositoriesById.name(),
        reason: format!("repository {} is missing", id.0),
    }
}

/// Up to `limit` repositories in the byte order of their names, behind `after`, which need not exist.
pub fn list(
    tx: &impl Read,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(RepositoryName, RepositoryId)>, Error> {
    let mut found = Vec::new();
    tx.scan(Table::RepositoriesByName, b"", after.map(str::as_bytes), |key, value| {
        if found.len() == limit {
            return Ok(Scan::Stop);
        }
        let name = Parts(key).text().and_then(|name| name.parse().ok()).ok_or_else(|| Error::Damaged {
            table: Table::RepositoriesByName.name(),
            reason: "a key is no repository name".into(),
        })?;
        found.push((name, codec::decode(value)?));
        Ok(Scan::Continue)
    })?;
    Ok(found)
}

/// The next identifier to give.
#[derive(Encode, Decode)]
struct NextId(u64);

impl Record for NextId {
    const TABLE: Table = Table::Meta;
    const VERSION: u8 = 1;
}
