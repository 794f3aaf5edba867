//! Fetches from upstreams: which upload the bytes of a blob go to, so that a restart goes on with it.

use bincode::{Decode, Encode};

use super::codec::{self, Record};
use super::key::Key;
use super::{Error, Read, Table, WriteTx};
use crate::oci::Digest;

/// The upload that a fetch writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct FetchRecord([u8; 16]);

impl Record for FetchRecord {
    const TABLE: Table = Table::Fetches;
    const VERSION: u8 = 1;
}

/// The identifier of the upload that a fetch of the blob has written to, and that may be gone.
pub fn get(tx: &impl Read, digest: &Digest) -> Result<Option<[u8; 16]>, Error> {
    Ok(tx
        .get(Table::Fetches, Key::new().digest(digest), codec::decode::<FetchRecord>)?
        .map(|record| record.0))
}

/// Remembers the upload of a fetch.
pub fn set(tx: &WriteTx<'_>, digest: &Digest, upload: &[u8; 16]) -> Result<(), Error> {
    tx.insert(Table::Fetches, Key::new().digest(digest), &codec::encode(&FetchRecord(*upload)))
}

/// Forgets a fetch.
pub fn remove(tx: &WriteTx<'_>, digest: &Digest) -> Result<(), Error> {
    let key = Key::new().digest(digest);
    if tx.has(Table::Fetches, &key)? { tx.remove(Table::Fetches, key).map(drop) } else { Ok(()) }
}
