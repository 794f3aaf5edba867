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

impl RepositoryId {
    /// The number, as keys have it.
    pub(super) fn number(self) -> u64 {
        self.0
    }

    /// The identifier that a key has.
    pub(super) fn from_number(number: u64) -> RepositoryId {
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
}

impl Record for RepositoryRecord {
    const TABLE: Table = Table::RepositoriesById;
    const VERSION: u8 = 1;
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

/// The identifier of the repository called `name`, which comes into being where it doesn't exist.
pub fn ensure(
    tx: &WriteTx<'_>,
    name: &RepositoryName,
    now: Timestamp,
    actor: &str,
) -> Result<RepositoryId, Error> {
    if let Some(id) = id_of(tx, name)? {
        return Ok(id);
    }
    let id = RepositoryId(tx.get(Table::Meta, NEXT_ID, codec::decode::<NextId>)?.map_or(1, |next| next.0));
    tx.insert(Table::Meta, NEXT_ID, &codec::encode(&NextId(id.0 + 1)))?;
    tx.insert(Table::RepositoriesByName, name.as_str(), &codec::encode(&id))?;
    let record = RepositoryRecord { name: name.clone(), created_at: now.millis(), actor: actor.into() };
    tx.insert(Table::RepositoriesById, Key::new().number(id.0), &codec::encode(&record))?;
    Ok(id)
}

/// Up to `limit` names in byte order, behind `after`, which need not exist.
pub fn list(tx: &impl Read, after: Option<&str>, limit: usize) -> Result<Vec<RepositoryName>, Error> {
    let mut names = Vec::new();
    tx.scan(Table::RepositoriesByName, b"", after.map(str::as_bytes), |key, _| {
        if names.len() == limit {
            return Ok(Scan::Stop);
        }
        let name = Parts(key).text().and_then(|name| name.parse().ok()).ok_or_else(|| Error::Damaged {
            table: Table::RepositoriesByName.name(),
            reason: "a key is no repository name".into(),
        })?;
        names.push(name);
        Ok(Scan::Continue)
    })?;
    Ok(names)
}

/// The next identifier to give.
#[derive(Encode, Decode)]
struct NextId(u64);

impl Record for NextId {
    const TABLE: Table = Table::Meta;
    const VERSION: u8 = 1;
}
