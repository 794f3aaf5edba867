//! Tags: what each points to, the way back from a manifest, and the history of each.

use bincode::{Decode, Encode};

use super::blobs::{damaged_key, digest_of, repository_of};
use super::codec::{self, Record};
use super::key::{Key, Parts};
use super::repositories::RepositoryId;
use super::sizes;
use super::{Error, Read, Scan, Table, WriteTx, freshness, usage};
use crate::oci::{Digest, Tag};

/// What a tag points to, or pointed to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TagRecord {
    /// The manifest's canonical digest.
    pub digest: Digest,
    /// The digest that was named when the tag was set; the canonical one unless a client named another.
    pub named: Digest,
    /// When, in milliseconds since 1970.
    pub updated_at: u64,
    /// Who set it.
    pub actor: String,
}

impl Record for TagRecord {
    const TABLE: Table = Table::Tags;
    const VERSION: u8 = 1;
}

fn key(repository: RepositoryId, tag: &Tag) -> Key {
    Key::new().number(repository.number()).text(tag.as_str())
}

fn by_manifest(repository: RepositoryId, digest: &Digest, tag: &Tag) -> Key {
    Key::new().number(repository.number()).digest(digest).text(tag.as_str())
}

fn history_of(repository: RepositoryId, tag: &Tag) -> Key {
    Key::new().number(repository.number()).terminated(tag.as_str())
}

/// What the tag points to.
pub fn get(tx: &impl Read, repository: RepositoryId, tag: &Tag) -> Result<Option<TagRecord>, Error> {
    tx.get(Table::Tags, key(repository, tag), codec::decode)
}

/// The most entries that the history of a tag has; older ones go.
pub const HISTORY: u64 = 100;

/// Points the tag to a manifest, and adds that to its history unless it pointed there before. Returns the manifest that it
/// pointed to before, if that is another one.
pub fn set(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    tag: &Tag,
    record: &TagRecord,
) -> Result<Option<Digest>, Error> {
    let former = get(tx, repository, tag)?;
    let left = former.as_ref().map(|former| former.digest).filter(|former| *former != record.digest);
    if let Some(left) = &left {
        tx.remove(Table::TagsByManifest, by_manifest(repository, left, tag))?;
        usage::move_tag(tx, repository, left, &record.digest, tag)?;
    }
    if former.is_none() || left.is_some() {
        add_to_history(tx, repository, tag, record)?;
    }
    put(tx, repository, tag, record, former.is_none())?;
    Ok(left)
}

/// Writes a tag of a deletion, which has no history.
pub fn keep(tx: &WriteTx<'_>, deletion: RepositoryId, tag: &Tag, record: &TagRecord) -> Result<(), Error> {
    debug_assert!(deletion.is_deletion());
    put(tx, deletion, tag, record, true)
}

fn put(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    tag: &Tag,
    record: &TagRecord,
    is_new: bool,
) -> Result<(), Error> {
    if is_new {
        sizes::tagged(tx, repository, true)?;
    }
    tx.insert(Table::TagsByManifest, by_manifest(repository, &record.digest, tag), &[])?;
    tx.insert(Table::Tags, key(repository, tag), &codec::encode(record))
}

/// Adds to the history of a tag what it pointed to, which the tag itself doesn't take part in.
pub fn add_to_history(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    tag: &Tag,
    record: &TagRecord,
) -> Result<(), Error> {
    let prefix = history_of(repository, tag);
    let number = |key: &[u8]| Parts(key).number().ok_or_else(|| damaged_key(Table::TagHistory, "number"));
    let mut next = 0;
    tx.scan_back(Table::TagHistory, prefix.as_ref(), None, |key, _| {
        next = number(key)? + 1;
        Ok(Scan::Stop)
    })?;
    let mut old = Vec::new();
    if next >= HISTORY {
        tx.scan(Table::TagHistory, prefix.as_ref(), None, |key, _| {
            let number = number(key)?;
            if number + HISTORY > next || old.len() as u64 == HISTORY {
                return Ok(Scan::Stop);
            }
            old.push(number);
            Ok(Scan::Continue)
        })?;
    }
    for number in old {
        tx.remove(Table::TagHistory, prefix.clone().number(number))?;
    }
    tx.insert(Table::TagHistory, prefix.number(next), &codec::encode(record))
}

/// Removes the tag; its history stays. Returns what it pointed to.
pub fn remove(tx: &WriteTx<'_>, repository: RepositoryId, tag: &Tag) -> Result<Option<TagRecord>, Error> {
    let Some(record) = get(tx, repository, tag)? else { return Ok(None) };
    tx.remove(Table::TagsByManifest, by_manifest(repository, &record.digest, tag))?;
    tx.remove(Table::Tags, key(repository, tag))?;
    usage::remove_tag(tx, repository, &record.digest, tag)?;
    if repository.is_cached() {
        freshness::remove(tx, repository, tag)?;
    }
    sizes::tagged(tx, repository, false)?;
    Ok(Some(record))
}

/// Brings the index's row of a tag in line with what the tag points to; for a repair.
pub fn mend(tx: &WriteTx<'_>, repository: RepositoryId, digest: &Digest, tag: &Tag) -> Result<(), Error> {
    let row = by_manifest(repository, digest, tag);
    if get(tx, repository, tag)?.is_some_and(|record| record.digest == *digest) {
        tx.insert(Table::TagsByManifest, row, &[])
    } else {
        tx.remove(Table::TagsByManifest, row).map(drop)
    }
}

/// Remembers that the history of a tag may hold the content of a manifest that it has left.
pub fn hold(tx: &WriteTx<'_>, repository: RepositoryId, digest: &Digest, tag: &Tag) -> Result<(), Error> {
    tx.insert(Table::HeldByHistory, by_manifest(repository, digest, tag), &[])
}

/// Forgets that.
pub fn release(tx: &WriteTx<'_>, repository: RepositoryId, digest: &Digest, tag: &Tag) -> Result<(), Error> {
    tx.remove(Table::HeldByHistory, by_manifest(repository, digest, tag)).map(drop)
}

/// The tags whose history may hold the content of a manifest.
pub fn holders(tx: &impl Read, repository: RepositoryId, digest: &Digest) -> Result<Vec<Tag>, Error> {
    list_by_manifest(tx, Table::HeldByHistory, repository, digest, None, usize::MAX)
}

/// Whether any tag points to the manifest.
pub fn any_of_manifest(tx: &impl Read, repository: RepositoryId, digest: &Digest) -> Result<bool, Error> {
    Ok(!list_of_manifest(tx, repository, digest, None, 1)?.is_empty())
}

/// Up to `limit` tags in byte order, behind `after`, with what they point to.
pub fn list_records(
    tx: &impl Read,
    repository: RepositoryId,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(Tag, TagRecord)>, Error> {
    let prefix = Key::new().number(repository.number());
    let mut tags = Vec::new();
    tx.scan(Table::Tags, prefix.as_ref(), after.map(str::as_bytes), |key, value| {
        if tags.len() == limit {
            return Ok(Scan::Stop);
        }
        tags.push((tag_of(Table::Tags, &mut Parts(key))?, codec::decode(value)?));
        Ok(Scan::Continue)
    })?;
    Ok(tags)
}

/// Up to `limit` tags in byte order, behind `after`, which need not exist.
pub fn list(
    tx: &impl Read,
    repository: RepositoryId,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Tag>, Error> {
    let prefix = Key::new().number(repository.number());
    let mut tags = Vec::new();
    tx.scan(Table::Tags, prefix.as_ref(), after.map(str::as_bytes), |key, _| {
        if tags.len() == limit {
            return Ok(Scan::Stop);
        }
        tags.push(tag_of(Table::Tags, &mut Parts(key))?);
        Ok(Scan::Continue)
    })?;
    Ok(tags)
}

/// Up to `limit` tags that point to the manifest, in byte order, behind `after`.
pub fn list_of_manifest(
    tx: &impl Read,
    repository: RepositoryId,
    digest: &Digest,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Tag>, Error> {
    list_by_manifest(tx, Table::TagsByManifest, repository, digest, after, limit)
}

fn list_by_manifest(
    tx: &impl Read,
    table: Table,
    repository: RepositoryId,
    digest: &Digest,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Tag>, Error> {
    let prefix = Key::new().number(repository.number()).digest(digest);
    let mut tags = Vec::new();
    tx.scan(table, prefix.as_ref(), after.map(str::as_bytes), |key, _| {
        if tags.len() == limit {
            return Ok(Scan::Stop);
        }
        tags.push(tag_of(table, &mut Parts(key))?);
        Ok(Scan::Continue)
    })?;
    Ok(tags)
}

/// All the tags that point to the manifest.
pub fn of_manifest(tx: &impl Read, repository: RepositoryId, digest: &Digest) -> Result<Vec<Tag>, Error> {
    list_of_manifest(tx, repository, digest, None, usize::MAX)
}

/// Up to `limit` entries of what the tag has pointed to, the newest first, each with its number, of those with a number
/// below `before`.
pub fn history(
    tx: &impl Read,
    repository: RepositoryId,
    tag: &Tag,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<(u64, TagRecord)>, Error> {
    let mut entries = Vec::new();
    let prefix = history_of(repository, tag);
    let before = before.map(u64::to_be_bytes);
    let before = before.as_ref().map(<[u8; 8]>::as_slice);
    tx.scan_back(Table::TagHistory, prefix.as_ref(), before, |key, value| {
        if entries.len() == limit {
            return Ok(Scan::Stop);
        }
        let number = Parts(key).number().ok_or_else(|| damaged_key(Table::TagHistory, "number"))?;
        entries.push((number, codec::decode(value)?));
        Ok(Scan::Continue)
    })?;
    Ok(entries)
}

/// Hands every tag to `row`.
pub fn each(
    tx: &impl Read,
    mut row: impl FnMut(RepositoryId, Tag, TagRecord) -> Result<(), Error>,
) -> Result<(), Error> {
    tx.scan(Table::Tags, b"", None, |key, value| {
        let mut parts = Parts(key);
        let repository = repository_of(Table::Tags, &mut parts)?;
        row(repository, tag_of(Table::Tags, &mut parts)?, codec::decode(value)?)?;
        Ok(Scan::Continue)
    })
}

/// Hands every row of the way back from manifests to tags to `row`.
pub fn each_by_manifest(
    tx: &impl Read,
    mut row: impl FnMut(RepositoryId, Digest, Tag) -> Result<(), Error>,
) -> Result<(), Error> {
    tx.scan(Table::TagsByManifest, b"", None, |key, _| {
        let mut parts = Parts(key);
        let repository = repository_of(Table::TagsByManifest, &mut parts)?;
        let digest = digest_of(Table::TagsByManifest, &mut parts)?;
        row(repository, digest, tag_of(Table::TagsByManifest, &mut parts)?)?;
        Ok(Scan::Continue)
    })
}

fn tag_of(table: Table, parts: &mut Parts<'_>) -> Result<Tag, Error> {
    parts.text().and_then(|tag| tag.parse().ok()).ok_or_else(|| damaged_key(table, "tag"))
}
