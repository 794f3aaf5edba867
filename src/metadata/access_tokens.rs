//! Access tokens: secrets that stand for a user, or for nobody but themselves.

use std::fmt;

use bincode::{Decode, Encode};

use super::blobs::damaged_key;
use super::codec::{self, Record};
use super::key::Key;
use super::{Error, Read, Scan, Table, WriteTx};

/// The number of an access token, never given twice.
pub type AccessTokenId = uuid::Uuid;

/// An access token. The hash is never printed.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct AccessTokenRecord {
    /// Its name, which no other has.
    pub name: String,
    /// The SHA-256 of its secret.
    pub hash: [u8; 32],
    /// The user whom it stands for; a robot account stands for nobody.
    pub owner: Option<String>,
    /// What it is restricted to.
    pub scope: Option<Vec<String>>,
    /// When it was made, in milliseconds since 1970.
    pub created_at: u64,
    /// From when on it is worth nothing, in milliseconds since 1970.
    pub expires_at: Option<u64>,
    /// When it was last used, in milliseconds since 1970; 0 where it never was.
    pub used_at: u64,
}

impl fmt::Debug for AccessTokenRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AccessTokenRecord { name, owner, scope, .. } = self;
        write!(f, "AccessTokenRecord({name:?}, {owner:?}, {scope:?})")
    }
}

impl Record for AccessTokenRecord {
    const TABLE: Table = Table::AccessTokens;
    const VERSION: u8 = 1;
}

fn key(id: AccessTokenId) -> Key {
    Key::new().bytes(id.as_bytes())
}

/// The token of this number.
pub fn get(tx: &impl Read, id: AccessTokenId) -> Result<Option<AccessTokenRecord>, Error> {
    tx.get(Table::AccessTokens, key(id), codec::decode)
}

/// Writes a token, replacing what was known of it.
pub fn put(tx: &WriteTx<'_>, id: AccessTokenId, record: &AccessTokenRecord) -> Result<(), Error> {
    tx.insert(Table::AccessTokens, key(id), &codec::encode(record))
}

/// Removes a token, also one whose record can't be read; says whether there was one.
pub fn remove(tx: &WriteTx<'_>, id: AccessTokenId) -> Result<bool, Error> {
    tx.remove(Table::AccessTokens, key(id))
}

/// Hands every token to `row`, in the order in which they were made, also those whose record can't be read.
pub fn each(
    tx: &impl Read,
    mut row: impl FnMut(AccessTokenId, Result<AccessTokenRecord, Error>) -> Result<(), Error>,
) -> Result<(), Error> {
    tx.scan(Table::AccessTokens, b"", None, |key, value| {
        let id = AccessTokenId::from_slice(key).map_err(|_| damaged_key(Table::AccessTokens, "number"))?;
        row(id, codec::decode(value))?;
        Ok(Scan::Continue)
    })
}

/// Writes a record that can't be read.
#[cfg(test)]
pub(crate) fn put_damaged(tx: &WriteTx<'_>, id: AccessTokenId) -> Result<(), Error> {
    tx.insert(Table::AccessTokens, key(id), b"\x09")
}
