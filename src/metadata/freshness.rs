//! Freshness: when the upstream of a cached repository was asked last about a tag, and whether what the repository has came
//! with credentials.

use bincode::{Decode, Encode};

use super::blobs::{damaged_key, repository_of};
use super::codec::{self, Record};
use super::key::{Key, Parts};
use super::repositories::RepositoryId;
use super::{Error, Read, Scan, Table, WriteTx};
use crate::clock::Timestamp;
use crate::oci::Tag;

/// When, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct FreshnessRecord(u64);

impl Record for FreshnessRecord {
    const TABLE: Table = Table::Freshness;
    const VERSION: u8 = 1;
}

/// A row is about a tag, or about the whole repository where it has none.
fn key(repository: RepositoryId, tag: Option<&Tag>) -> Key {
    Key::new().number(repository.number()).text(tag.map_or("", Tag::as_str))
}

fn get(tx: &impl Read, repository: RepositoryId, tag: Option<&Tag>) -> Result<Option<Timestamp>, Error> {
    let found = tx.get(Table::Freshness, key(repository, tag), codec::decode::<FreshnessRecord>)?;
    Ok(found.map(|record| Timestamp::from_millis(record.0)))
}

/// When the upstream was asked last what the tag points to; `None` where it never was.
pub fn checked_at(tx: &impl Read, repository: RepositoryId, tag: &Tag) -> Result<Option<Timestamp>, Error> {
    get(tx, repository, Some(tag))
}

/// Records when the upstream was asked what the tag points to.
pub fn set_checked(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    tag: &Tag,
    at: Timestamp,
) -> Result<(), Error> {
    tx.insert(Table::Freshness, key(repository, Some(tag)), &codec::encode(&FreshnessRecord(at.millis())))
}

/// Forgets that; nothing where it isn't known.
pub fn remove(tx: &WriteTx<'_>, repository: RepositoryId, tag: &Tag) -> Result<(), Error> {
    let key = key(repository, Some(tag));
    if tx.has(Table::Freshness, &key)? { tx.remove(Table::Freshness, key).map(drop) } else { Ok(()) }
}

/// Since when the repository has something that came with credentials; `None` where nothing did.
pub fn private_since(tx: &impl Read, repository: RepositoryId) -> Result<Option<Timestamp>, Error> {
    get(tx, repository, None)
}

/// Records that something of the repository came with credentials.
pub fn set_private(tx: &WriteTx<'_>, repository: RepositoryId, since: Timestamp) -> Result<(), Error> {
    tx.insert(Table::Freshness, key(repository, None), &codec::encode(&FreshnessRecord(since.millis())))
}

/// Hands every row to `row`: the repository, and the tag, or nothing.
pub fn each(
    tx: &impl Read,
    mut row: impl FnMut(RepositoryId, &str) -> Result<(), Error>,
) -> Result<(), Error> {
    tx.scan(Table::Freshness, b"", None, |key, value| {
        let mut parts = Parts(key);
        let repository = repository_of(Table::Freshness, &mut parts)?;
        codec::decode::<FreshnessRecord>(value)?;
        row(repository, parts.text().ok_or_else(|| damaged_key(Table::Freshness, "tag"))?)?;
        Ok(Scan::Continue)
    })
}

/// Removes a row about a tag that isn't there, or of a repository that caches nothing; for a repair.
pub fn mend(tx: &WriteTx<'_>, repository: RepositoryId, tag: Option<&Tag>) -> Result<(), Error> {
    tx.remove(Table::Freshness, key(repository, tag)).map(drop)
}
