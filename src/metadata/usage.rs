//! Usage: when manifests and tags were last pulled, and how often.
//!
//! Pulls are gathered in memory and written in batches. A batch has a number, which is written with it: whoever adds what is
//! in memory to what is in the table knows by it what is there already, and a batch is never added twice.

use bincode::{Decode, Encode};

use super::codec::{self, Record};
use super::key::{Key, Parts};
use super::repositories::RepositoryId;
use super::{Error, Read, Scan, Table, WriteTx, tags};
use crate::oci::{Digest, Tag};

/// How a manifest, or a tag of it, was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct UsageRecord {
    /// How often it was pulled.
    pub pulls: u64,
    /// When it was last pulled, in milliseconds since 1970; 0 where it never was.
    pub pulled_at: u64,
    /// When it was last pulled, or asked for without its bytes; 0 where it never was.
    pub used_at: u64,
}

impl UsageRecord {
    /// Adds what happened beside or after it.
    pub fn add(&mut self, more: &UsageRecord) {
        self.pulls = self.pulls.saturating_add(more.pulls);
        self.pulled_at = self.pulled_at.max(more.pulled_at);
        self.used_at = self.used_at.max(more.used_at);
    }

    /// Brings two accounts of the same together.
    fn unite(&mut self, other: &UsageRecord) {
        let pulls = self.pulls.max(other.pulls);
        self.add(other);
        self.pulls = pulls;
    }
}

impl Record for UsageRecord {
    const TABLE: Table = Table::Usage;
    const VERSION: u8 = 1;
}

/// What is known of the batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct BatchRecord {
    /// Since when pulls are written down, in milliseconds since 1970.
    pub since: u64,
    /// The number of the last batch that was written.
    pub last: u64,
}

impl Record for BatchRecord {
    const TABLE: Table = Table::Meta;
    const VERSION: u8 = 1;
}

/// Where the [`BatchRecord`] lies.
const BATCH: &[u8] = b"pull_batch";

fn of_manifest(repository: RepositoryId, digest: &Digest) -> Key {
    Key::new().number(repository.number()).digest(digest)
}

fn key(repository: RepositoryId, digest: &Digest, tag: Option<&Tag>) -> Key {
    let key = of_manifest(repository, digest);
    match tag {
        Some(tag) => key.text(tag.as_str()),
        None => key,
    }
}

/// How the manifest was used by whatever name, or the tag that points to it.
pub fn get(
    tx: &impl Read,
    repository: RepositoryId,
    digest: &Digest,
    tag: Option<&Tag>,
) -> Result<UsageRecord, Error> {
    Ok(tx.get(Table::Usage, key(repository, digest, tag), codec::decode)?.unwrap_or_default())
}

/// Adds to the row of a manifest or a tag.
pub fn add(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    digest: &Digest,
    tag: Option<&Tag>,
    more: &UsageRecord,
) -> Result<(), Error> {
    let mut usage = get(tx, repository, digest, tag)?;
    usage.add(more);
    tx.insert(Table::Usage, key(repository, digest, tag), &codec::encode(&usage))
}

/// Forgets how a manifest and its tags were used.
pub fn remove(tx: &WriteTx<'_>, repository: RepositoryId, digest: &Digest) -> Result<(), Error> {
    for (name, _) in rows(tx, repository, digest)? {
        tx.remove(Table::Usage, of_manifest(repository, digest).bytes(&name))?;
    }
    Ok(())
}

/// Forgets how a tag was used, which points to the manifest.
pub fn remove_tag(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    digest: &Digest,
    tag: &Tag,
) -> Result<(), Error> {
    tx.remove(Table::Usage, key(repository, digest, Some(tag))).map(drop)
}

/// Lets how a tag was used follow it from one manifest to another.
pub fn move_tag(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    from: &Digest,
    to: &Digest,
    tag: &Tag,
) -> Result<(), Error> {
    let usage = get(tx, repository, from, Some(tag))?;
    if usage == UsageRecord::default() {
        return Ok(());
    }
    remove_tag(tx, repository, from, tag)?;
    add(tx, repository, to, Some(tag), &usage)
}

/// Lets a deletion know how a manifest and its tags were used, or a repository what a deletion knows of what comes back;
/// what is known already isn't counted twice.
pub fn copy(tx: &WriteTx<'_>, from: RepositoryId, to: RepositoryId, digest: &Digest) -> Result<(), Error> {
    for (name, usage) in rows(tx, from, digest)? {
        let tag = std::str::from_utf8(&name).ok().and_then(|name| name.parse::<Tag>().ok());
        if let Some(tag) = tag
            && from.is_deletion()
            && tags::get(tx, from, &tag)?.is_none()
        {
            // A tag that stayed when this was deleted.
            continue;
        }
        let key = of_manifest(to, digest).bytes(&name);
        let mut united = tx.get(Table::Usage, &key, codec::decode::<UsageRecord>)?.unwrap_or_default();
        united.unite(&usage);
        tx.insert(Table::Usage, key, &codec::encode(&united))?;
    }
    Ok(())
}

/// The rows of a manifest: the tag's name, or nothing, with the usage.
fn rows(
    tx: &impl Read,
    repository: RepositoryId,
    digest: &Digest,
) -> Result<Vec<(Vec<u8>, UsageRecord)>, Error> {
    let mut rows = Vec::new();
    tx.scan(Table::Usage, of_manifest(repository, digest).as_ref(), None, |name, value| {
        rows.push((name.to_vec(), codec::decode(value)?));
        Ok(Scan::Continue)
    })?;
    Ok(rows)
}

/// Hands every row to `row`: the repository, the canonical digest, and the tag's name, or nothing.
pub fn each(
    tx: &impl Read,
    mut row: impl FnMut(RepositoryId, Digest, &str, UsageRecord) -> Result<(), Error>,
) -> Result<(), Error> {
    tx.scan(Table::Usage, b"", None, |key, value| {
        let mut parts = Parts(key);
        let repository = super::blobs::repository_of(Table::Usage, &mut parts)?;
        let digest = super::blobs::digest_of(Table::Usage, &mut parts)?;
        let name = parts.text().ok_or_else(|| super::blobs::damaged_key(Table::Usage, "tag"))?;
        row(repository, digest, name, codec::decode(value)?)?;
        Ok(Scan::Continue)
    })
}

/// What is known of the batches; `None` before the first one.
pub fn batch(tx: &impl Read) -> Result<Option<BatchRecord>, Error> {
    tx.get(Table::Meta, BATCH, codec::decode)
}

/// Records that a batch is written.
pub fn set_batch(tx: &WriteTx<'_>, record: BatchRecord) -> Result<(), Error> {
    tx.insert(Table::Meta, BATCH, &codec::encode(&record))
}
