//! Users: who may log in, and with which password.

use std::fmt;

use bincode::{Decode, Encode};

use super::blobs::damaged_key;
use super::codec::{self, Record};
use super::key::{Key, Parts};
use super::{Error, Read, Scan, Table, WriteTx};

/// A user. The hash is never printed.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct UserRecord {
    /// The password's bcrypt hash.
    pub hash: String,
    /// The groups that they are in.
    pub groups: Vec<String>,
    /// When they were added, in milliseconds since 1970.
    pub created_at: u64,
    /// When the password or the groups were changed last, in milliseconds since 1970.
    pub changed_at: u64,
}

impl fmt::Debug for UserRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UserRecord { groups, created_at, changed_at, .. } = self;
        write!(f, "UserRecord({groups:?}, {created_at}, {changed_at})")
    }
}

impl Record for UserRecord {
    const TABLE: Table = Table::Users;
    const VERSION: u8 = 1;
}

/// The user of this name.
pub fn get(tx: &impl Read, name: &str) -> Result<Option<UserRecord>, Error> {
    tx.get(Table::Users, Key::new().text(name), codec::decode)
}

/// Whether there is a user of this name, also one whose record can't be read.
pub fn exists(tx: &impl Read, name: &str) -> Result<bool, Error> {
    tx.has(Table::Users, Key::new().text(name))
}

/// Writes a user, replacing what was known of them. The name has at most 128 bytes.
pub fn put(tx: &WriteTx<'_>, name: &str, record: &UserRecord) -> Result<(), Error> {
    tx.insert(Table::Users, Key::new().text(name), &codec::encode(record))
}

/// Removes a user, also one whose record can't be read; says whether there was one.
pub fn remove(tx: &WriteTx<'_>, name: &str) -> Result<bool, Error> {
    tx.remove(Table::Users, Key::new().text(name))
}

/// Hands every user to `row`, in the order of their names, also those whose record can't be read.
pub fn each(
    tx: &impl Read,
    mut row: impl FnMut(&str, Result<UserRecord, Error>) -> Result<(), Error>,
) -> Result<(), Error> {
    tx.scan(Table::Users, b"", None, |key, value| {
        let name = Parts(key).text().ok_or_else(|| damaged_key(Table::Users, "name"))?;
        row(name, codec::decode(value))?;
        Ok(Scan::Continue)
    })
}

/// Writes a record that can't be read.
#[cfg(test)]
pub(crate) fn put_damaged(tx: &WriteTx<'_>, name: &str) -> Result<(), Error> {
    tx.insert(Table::Users, Key::new().text(name), b"\x01?")
}
