//! Signatures: who has signed a manifest of a repository, one for each key and algorithm.

use bincode::{Decode, Encode};
use bytes::Bytes;

use super::codec::Record;
use super::key::Key;
use super::links::{self, Link, Place};
use super::repositories::RepositoryId;
use super::{Error, Read, Scan, Table, WriteTx, blobs};
use crate::oci::Digest;

/// A signature of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SignatureRecord {
    /// The signature with its headers, in the form in which it is served.
    pub signature: Vec<u8>,
    /// When it came, in milliseconds since 1970.
    pub created_at: u64,
    /// Who brought it.
    pub actor: String,
}

impl Record for SignatureRecord {
    const TABLE: Table = Table::Signatures;
    const VERSION: u8 = 1;
}

impl Link for SignatureRecord {
    const BY_DIGEST: Option<Table> = None;
}

/// The key and the algorithm of a signature; neither has a NUL in it.
fn name(key_id: &str, algorithm: &str) -> Vec<u8> {
    [key_id.as_bytes(), b"\0", algorithm.as_bytes()].concat()
}

/// Hands the key id, the algorithm and the record of every signature of a manifest to `row`, in the order of the keys.
pub fn each_of(
    tx: &impl Read,
    repository: RepositoryId,
    manifest: &Digest,
    mut row: impl FnMut(&str, &str, SignatureRecord) -> Result<Scan, Error>,
) -> Result<(), Error> {
    links::each_of(tx, repository, manifest, |name, record| {
        let (key_id, algorithm) = parts(name)?;
        row(key_id, algorithm, record)
    })
}

/// Hands repository and manifest of every signature to `row`, also of those that can't be read.
pub fn each_manifest(
    tx: &impl Read,
    mut row: impl FnMut(RepositoryId, Digest) -> Result<(), Error>,
) -> Result<(), Error> {
    links::each_place::<SignatureRecord>(tx, |repository, manifest, _| row(repository, manifest))
}

fn parts(name: &[u8]) -> Result<(&str, &str), Error> {
    let text = std::str::from_utf8(name).ok();
    text.and_then(|text| text.split_once('\0'))
        .ok_or_else(|| blobs::damaged_key(Table::Signatures, "key id and algorithm"))
}

/// What `make` makes of a manifest's payload and all its signatures, and of nothing else. Look-ups have it from the cache
/// until a signature is written or removed.
pub fn merged<T: Read>(
    tx: &T,
    repository: RepositoryId,
    manifest: &Digest,
    make: impl FnOnce(&T) -> Result<Option<Bytes>, Error>,
) -> Result<Option<Bytes>, Error> {
    tx.made_of(Table::Signatures, Key::new().number(repository.number()).digest(manifest), make)
}

/// Writes the signature of a key by an algorithm, replacing the one that was there. The key id has at most 128 bytes.
pub fn put(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    manifest: &Digest,
    key_id: &str,
    algorithm: &str,
    record: &SignatureRecord,
) -> Result<(), Error> {
    links::put(tx, Place::named(repository, manifest, &name(key_id, algorithm)), record)
}

/// Removes every signature of a manifest, also those that can't be read; returns how many there were.
pub fn remove_all(tx: &WriteTx<'_>, repository: RepositoryId, manifest: &Digest) -> Result<usize, Error> {
    let mut names = Vec::new();
    links::each_unread::<SignatureRecord>(tx, repository, manifest, |name, _| {
        names.push(name.to_vec());
        Ok(Scan::Continue)
    })?;
    for name in &names {
        links::remove::<SignatureRecord>(tx, Place::named(repository, manifest, name))?;
    }
    Ok(names.len())
}

/// Gives another repository the signatures that `from` has of a manifest, as they are, but for those of keys that it has
/// already.
pub fn copy(tx: &WriteTx<'_>, from: RepositoryId, to: RepositoryId, manifest: &Digest) -> Result<(), Error> {
    let mut copied = Vec::new();
    links::each_unread::<SignatureRecord>(tx, from, manifest, |name, signature| {
        copied.push((name.to_vec(), signature.to_vec()));
        Ok(Scan::Continue)
    })?;
    for (name, signature) in &copied {
        let place = Place::named(to, manifest, name);
        if !links::has::<SignatureRecord>(tx, place)? {
            links::put_unread::<SignatureRecord>(tx, place, signature)?;
        }
    }
    Ok(())
}
