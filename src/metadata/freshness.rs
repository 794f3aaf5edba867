//! Freshness: when the upstream of a cached repository was asked for a tag last.

use bincode::{Decode, Encode};

use super::codec::{self, Record};
use super::key::Key;
use super::repositories::RepositoryId;
use super::{Error, Read, Table, WriteTx};
use crate::oci::Tag;

/// When, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct AskedAt(u64);

impl Record for AskedAt {
    const TABLE: Table = Table::Freshness;
    const VERSION: u8 = 1;
}

fn key(repository: RepositoryId, tag: &Tag) -> Key {
    Key::new().number(repository.number()).text(tag.as_str())
}

/// When the upstream said last what the tag points to, in milliseconds since 1970.
pub fn asked_at(tx: &impl Read, repository: RepositoryId, tag: &Tag) -> Result<Option<u64>, Error> {
    Ok(tx.get(Table::Freshness, key(repository, tag), codec::decode::<AskedAt>)?.map(|asked| asked.0))
}

/// Remembers that the upstream has said what the tag points to.
pub fn set_asked_at(tx: &WriteTx<'_>, repository: RepositoryId, tag: &Tag, at: u64) -> Result<(), Error> {
    tx.insert(Table::Freshness, key(repository, tag), &codec::encode(&AskedAt(at)))
}
