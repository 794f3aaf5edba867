//! Deletions: what was deleted and can come back until its time has passed.
//!
//! What is deleted moves to a repository without a name, whose identifier is the deletion's, so that blobs and payloads
//! stay as long as anybody has them. A deleted repository keeps its own identifier and loses its name.

use bincode::{Decode, Encode};

use super::blobs::{damaged_key, repository_of};
use super::codec::{self, Record};
use super::key::{Key, Parts};
use super::repositories::RepositoryId;
use super::{Error, Read, Scan, Table, WriteTx};
use crate::oci::{Digest, RepositoryName, Tag};

/// What kind of thing was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum DeletedKind {
    /// A tag.
    Tag,
    /// A manifest with its tags.
    Manifest,
    /// A blob of a repository.
    Blob,
    /// A repository.
    Repository,
}

/// A deletion.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DeletionRecord {
    /// Of what.
    pub kind: DeletedKind,
    /// Out of which repository; of a deleted one, itself.
    pub repository: RepositoryId,
    /// What the repository was called.
    pub name: RepositoryName,
    /// The tag that was deleted.
    pub tag: Option<Tag>,
    /// The canonical digest of the manifest or the blob; of a tag, what it pointed to.
    pub digest: Option<Digest>,
    /// When, in milliseconds since 1970.
    pub deleted_at: u64,
    /// Until when it can come back, in milliseconds since 1970.
    pub expires_at: u64,
    /// Who deleted it.
    pub actor: String,
    /// Why, where no person did: the rule of a policy.
    pub reason: Option<String>,
}

impl Record for DeletionRecord {
    const TABLE: Table = Table::Deletions;
    const VERSION: u8 = 1;
}

/// The next identifier to give, without the bit that all deletions have.
#[derive(Encode, Decode)]
struct NextId(u64);

impl Record for NextId {
    const TABLE: Table = Table::Meta;
    const VERSION: u8 = 1;
}

const NEXT_ID: &[u8] = b"next_deletion";

/// An identifier that no deletion had before.
pub fn allocate(tx: &WriteTx<'_>) -> Result<RepositoryId, Error> {
    let next = tx.get(Table::Meta, NEXT_ID, codec::decode::<NextId>)?.map_or(1, |next| next.0);
    tx.insert(Table::Meta, NEXT_ID, &codec::encode(&NextId(next + 1)))?;
    Ok(RepositoryId::of_deletion(next))
}

fn by_expiry(id: RepositoryId, record: &DeletionRecord) -> Key {
    Key::new().number(record.expires_at).number(id.number())
}

fn by_repository(id: RepositoryId, record: &DeletionRecord) -> Key {
    Key::new().number(record.repository.number()).number(id.number())
}

fn by_name(id: RepositoryId, name: &RepositoryName) -> Key {
    Key::new().terminated(name.as_str()).number(id.number())
}

/// The deletion called `id`.
pub fn get(tx: &impl Read, id: RepositoryId) -> Result<Option<DeletionRecord>, Error> {
    tx.get(Table::Deletions, Key::new().number(id.number()), codec::decode)
}

/// Records a deletion, or changes one; `id` is that of the repository that holds what was deleted.
pub fn set(tx: &WriteTx<'_>, id: RepositoryId, record: &DeletionRecord) -> Result<(), Error> {
    remove(tx, id)?;
    tx.insert(Table::Deletions, Key::new().number(id.number()), &codec::encode(record))?;
    tx.insert(Table::DeletionsByExpiry, by_expiry(id, record), &[])?;
    tx.insert(Table::DeletionsByRepository, by_repository(id, record), &[])?;
    if record.kind == DeletedKind::Repository {
        tx.insert(Table::DeletedNames, by_name(id, &record.name), &[])?;
    }
    Ok(())
}

/// Forgets a deletion; says whether it was there.
pub fn remove(tx: &WriteTx<'_>, id: RepositoryId) -> Result<bool, Error> {
    let Some(record) = get(tx, id)? else { return Ok(false) };
    tx.remove(Table::Deletions, Key::new().number(id.number()))?;
    tx.remove(Table::DeletionsByExpiry, by_expiry(id, &record))?;
    tx.remove(Table::DeletionsByRepository, by_repository(id, &record))?;
    if record.kind == DeletedKind::Repository {
        tx.remove(Table::DeletedNames, by_name(id, &record.name))?;
    }
    Ok(true)
}

/// Up to `limit` deletions that can't come back at `now`, those that ended first in front.
pub fn expired(tx: &impl Read, now: u64, limit: usize) -> Result<Vec<RepositoryId>, Error> {
    let mut found = Vec::new();
    tx.scan(Table::DeletionsByExpiry, b"", None, |key, _| {
        let mut parts = Parts(key);
        let expires_at = parts.number().ok_or_else(|| damaged_key(Table::DeletionsByExpiry, "time"))?;
        if expires_at > now || found.len() == limit {
            return Ok(Scan::Stop);
        }
        found.push(repository_of(Table::DeletionsByExpiry, &mut parts)?);
        Ok(Scan::Continue)
    })?;
    Ok(found)
}

/// Up to `limit` deletions that can come back at `now`, those that end first in front.
pub fn unexpired(tx: &impl Read, now: u64, limit: usize) -> Result<Vec<RepositoryId>, Error> {
    let mut found = Vec::new();
    let ended = Key::new().number(now).number(u64::MAX);
    tx.scan(Table::DeletionsByExpiry, b"", Some(ended.as_ref()), |key, _| {
        let mut parts = Parts(key);
        parts.number().ok_or_else(|| damaged_key(Table::DeletionsByExpiry, "time"))?;
        if found.len() == limit {
            return Ok(Scan::Stop);
        }
        found.push(repository_of(Table::DeletionsByExpiry, &mut parts)?);
        Ok(Scan::Continue)
    })?;
    Ok(found)
}

/// Up to `limit` deletions out of a repository, the newest first, of those before `before`.
pub fn of_repository(
    tx: &impl Read,
    repository: RepositoryId,
    before: Option<RepositoryId>,
    limit: usize,
) -> Result<Vec<RepositoryId>, Error> {
    let prefix = Key::new().number(repository.number());
    ids(tx, Table::DeletionsByRepository, prefix.as_ref(), before, limit)
}

/// Up to `limit` deleted repositories that had the name, the newest first.
pub fn of_name(tx: &impl Read, name: &RepositoryName, limit: usize) -> Result<Vec<RepositoryId>, Error> {
    let prefix = Key::new().terminated(name.as_str());
    ids(tx, Table::DeletedNames, prefix.as_ref(), None, limit)
}

fn ids(
    tx: &impl Read,
    table: Table,
    prefix: &[u8],
    before: Option<RepositoryId>,
    limit: usize,
) -> Result<Vec<RepositoryId>, Error> {
    let mut found = Vec::new();
    let before = before.map(|before| Key::new().number(before.number()));
    tx.scan_back(table, prefix, before.as_ref().map(Key::as_ref), |key, _| {
        if found.len() == limit {
            return Ok(Scan::Stop);
        }
        found.push(repository_of(table, &mut Parts(key))?);
        Ok(Scan::Continue)
    })?;
    Ok(found)
}

/// How many rows of a table whose keys begin with a repository are those of deletions. Reads all of these, which lie behind
/// the others.
pub fn count_rows(tx: &impl Read, table: Table) -> Result<u64, Error> {
    let before = Key::new().number(RepositoryId::of_deletion(0).number());
    let mut rows = 0;
    tx.scan(table, b"", Some(before.as_ref()), |_, _| {
        rows += 1;
        Ok(Scan::Continue)
    })?;
    Ok(rows)
}

/// Hands every deletion behind `after` to `row`, in the order of their identifiers.
pub fn each(
    tx: &impl Read,
    after: Option<RepositoryId>,
    mut row: impl FnMut(RepositoryId, DeletionRecord) -> Result<Scan, Error>,
) -> Result<(), Error> {
    let after = after.map(|after| Key::new().number(after.number()));
    tx.scan(Table::Deletions, b"", after.as_ref().map(Key::as_ref), |key, value| {
        row(repository_of(Table::Deletions, &mut Parts(key))?, codec::decode(value)?)
    })
}
