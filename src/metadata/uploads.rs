//! Uploads: what a restart needs to go on with them.

use bincode::{Decode, Encode};

use super::codec::{self, Record};
use super::key::Key;
use super::{Error, Read, Scan, Table, WriteTx};
use crate::oci::{DigestAlgorithm, HashState, RepositoryName};

/// An upload as of its last checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct UploadRecord {
    /// The repository that it belongs to, which may have no content yet.
    pub repository: RepositoryName,
    /// When it began, in milliseconds since 1970.
    pub started_at: u64,
    /// When its last bytes came, in milliseconds since 1970.
    pub active_at: u64,
    /// Who began it.
    pub actor: String,
    /// The length of its file that is durable.
    pub durable_len: u64,
    /// The hashes in progress, as of that length.
    pub states: Vec<HashStateRecord>,
    /// Whose it is, where several have one name; empty where everybody's who is nobody in particular.
    pub owner: String,
}

/// An upload as the first version of the record had it: without an owner.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
struct UploadRecordV1 {
    repository: RepositoryName,
    started_at: u64,
    active_at: u64,
    actor: String,
    durable_len: u64,
    states: Vec<HashStateRecord>,
}

impl Record for UploadRecordV1 {
    const TABLE: Table = Table::Uploads;
    const VERSION: u8 = 1;
}

impl From<UploadRecordV1> for UploadRecord {
    fn from(record: UploadRecordV1) -> UploadRecord {
        let UploadRecordV1 { repository, started_at, active_at, actor, durable_len, states } = record;
        // There were users only, and those who had not said who they are.
        let owner = if actor == "anonymous" { String::new() } else { actor.clone() };
        UploadRecord { repository, started_at, active_at, actor, durable_len, states, owner }
    }
}

/// The record of `bytes`. Uploads live for a day, so that those of the first version are read and not migrated.
fn decode(bytes: &[u8]) -> Result<UploadRecord, Error> {
    if bytes.first() == Some(&UploadRecordV1::VERSION) {
        return codec::decode::<UploadRecordV1>(bytes).map(UploadRecord::from);
    }
    codec::decode(bytes)
}

/// A hash in progress.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct HashStateRecord {
    algorithm: u8,
    format: String,
    bytes: Vec<u8>,
}

impl From<HashState> for HashStateRecord {
    fn from(state: HashState) -> HashStateRecord {
        HashStateRecord { algorithm: state.algorithm.tag(), format: state.format, bytes: state.bytes }
    }
}

impl HashStateRecord {
    /// The state; `None` where this binary doesn't know the algorithm.
    pub fn state(self) -> Option<HashState> {
        let algorithm = DigestAlgorithm::from_tag(self.algorithm)?;
        Some(HashState { algorithm, format: self.format, bytes: self.bytes })
    }
}

impl Record for UploadRecord {
    const TABLE: Table = Table::Uploads;
    const VERSION: u8 = 2;
}

/// The upload called `id`.
pub fn get(tx: &impl Read, id: &[u8; 16]) -> Result<Option<UploadRecord>, Error> {
    tx.get(Table::Uploads, Key::new().bytes(id), decode)
}

/// Records a checkpoint.
pub fn set(tx: &WriteTx<'_>, id: &[u8; 16], record: &UploadRecord) -> Result<(), Error> {
    tx.insert(Table::Uploads, Key::new().bytes(id), &codec::encode(record))
}

/// Forgets the upload; says whether it was there. Nothing is written where it wasn't.
pub fn remove(tx: &WriteTx<'_>, id: &[u8; 16]) -> Result<bool, Error> {
    Ok(tx.has(Table::Uploads, id)? && tx.remove(Table::Uploads, id)?)
}

/// Hands every upload to `row`, the oldest first, since ids sort by time.
pub fn each(
    tx: &impl Read,
    mut row: impl FnMut([u8; 16], UploadRecord) -> Result<(), Error>,
) -> Result<(), Error> {
    tx.scan(Table::Uploads, b"", None, |key, value| {
        let id = key
            .try_into()
            .map_err(|_| super::blobs::damaged_key(Table::Uploads, "identifier of 16 bytes"))?;
        row(id, decode(value)?)?;
        Ok(Scan::Continue)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_of_the_first_version_belong_to_whoever_began_them() {
        for (actor, owner) in [("anna", "anna"), ("anonymous", "")] {
            let first = UploadRecordV1 {
                repository: "a/b".parse().expect("a name"),
                started_at: 7,
                active_at: 8,
                actor: actor.to_owned(),
                durable_len: 9,
                states: Vec::new(),
            };
            let read = decode(&codec::encode(&first)).expect("it can be read");
            assert_eq!((read.actor.as_str(), read.owner.as_str()), (actor, owner));
            assert_eq!(decode(&codec::encode(&read)).expect("it can be read"), read);
        }
    }
}
