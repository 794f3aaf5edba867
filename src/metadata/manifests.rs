//! Manifests: the revision index of each repository, the payloads, and what manifests say of other content.

use bincode::{Decode, Encode};
use bytes::Bytes;

use super::blobs::{damaged_key, digest_of, repository_of};
use super::codec::{self, Record};
use super::key::{Key, Parts};
use super::links::{self, Link, Place};
use super::repositories::{Cached, RepositoryId};
use super::sizes::{self, Counted};
use super::{Error, Read, Scan, Table, WriteTx, usage};
use crate::oci::{Digest, MediaType};

/// A revision: that a repository has a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ManifestRecord {
    /// The media type that it was pushed with.
    pub media_type: MediaType,
    /// The payload's length in bytes.
    pub size: u64,
    /// When it was last pushed, in milliseconds since 1970.
    pub pushed_at: u64,
    /// Who pushed it.
    pub actor: String,
    /// The digest that it was first pushed by: the canonical one, unless a client named another.
    pub pushed_as: Digest,
    /// The subject that it names.
    pub subject: Option<Digest>,
    /// Until when it stays whatever a policy says, in milliseconds since 1970; `None` while a tag or a manifest of the
    /// repository names it, and for one that follows its subject.
    pub due_at: Option<u64>,
}

impl Record for ManifestRecord {
    const TABLE: Table = Table::Manifests;
    const VERSION: u8 = 2;
}

impl Link for ManifestRecord {
    const BY_DIGEST: Option<Table> = Some(Table::RepositoriesByManifest);
}

/// A referrer as listings show it, rendered once at push.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReferrerRecord {
    /// What a filter compares with.
    pub artifact_type: Option<String>,
    /// The descriptor, as JSON.
    pub descriptor: Vec<u8>,
}

impl Record for ReferrerRecord {
    const TABLE: Table = Table::ReferrersBySubject;
    const VERSION: u8 = 1;
}

fn key(repository: RepositoryId, digest: &Digest) -> Key {
    Key::new().number(repository.number()).digest(digest)
}

/// The revision with the canonical digest `digest`.
pub fn get(
    tx: &impl Read,
    repository: RepositoryId,
    digest: &Digest,
) -> Result<Option<ManifestRecord>, Error> {
    links::get(tx, Place::of(repository, digest))
}

/// Whether the repository has the revision.
pub fn exists(tx: &impl Read, repository: RepositoryId, digest: &Digest) -> Result<bool, Error> {
    links::has::<ManifestRecord>(tx, Place::of(repository, digest))
}

/// Hands a manifest's bytes to `read`.
pub fn payload<R>(
    tx: &impl Read,
    digest: &Digest,
    read: impl FnOnce(&[u8]) -> R,
) -> Result<Option<R>, Error> {
    tx.get(Table::ManifestPayloads, Key::new().digest(digest), |bytes| Ok(read(bytes)))
}

/// A manifest's bytes, shared with the cache where they are there.
pub fn payload_bytes(tx: &impl Read, digest: &Digest) -> Result<Option<Bytes>, Error> {
    tx.bytes(Table::ManifestPayloads, Key::new().digest(digest))
}

/// Whether any repository has the manifest.
pub fn has_payload(tx: &impl Read, digest: &Digest) -> Result<bool, Error> {
    tx.has(Table::ManifestPayloads, Key::new().digest(digest))
}

/// Records a revision and its payload, which is the same for all repositories. The due time stays what it was, and is
/// brought in line by [`settle`].
pub fn insert(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    digest: &Digest,
    record: &ManifestRecord,
    payload: &[u8],
) -> Result<(), Error> {
    let size = payload.len() as u64;
    if !tx.has(Table::ManifestPayloads, Key::new().digest(digest))? {
        sizes::stored(tx, Counted::Manifest, size)?;
        tx.insert(Table::ManifestPayloads, Key::new().digest(digest), payload)?;
    }
    let former = get(tx, repository, digest)?;
    if former.is_none() {
        sizes::added(tx, repository, Counted::Manifest, Table::RepositoriesByManifest, digest, size)?;
        regain(tx, repository, digest)?;
    }
    let due_at = former.and_then(|former| former.due_at);
    links::put(tx, Place::of(repository, digest), &ManifestRecord { due_at, ..record.clone() })
}

/// Gives another repository a revision that `from` has; nothing where it has it already, or `from` hasn't.
pub fn copy(tx: &WriteTx<'_>, from: RepositoryId, to: RepositoryId, digest: &Digest) -> Result<bool, Error> {
    let Some(record) = get(tx, from, digest)? else { return Ok(false) };
    usage::copy(tx, from, to, digest)?;
    if exists(tx, to, digest)? {
        return Ok(false);
    }
    sizes::added(tx, to, Counted::Manifest, Table::RepositoriesByManifest, digest, payload_len(tx, digest)?)?;
    regain(tx, to, digest)?;
    links::put(tx, Place::of(to, digest), &ManifestRecord { due_at: None, ..record })?;
    Ok(true)
}

/// Removes a revision, and the payload where no other repository has it.
pub fn remove(tx: &WriteTx<'_>, repository: RepositoryId, digest: &Digest) -> Result<(), Error> {
    let Some(record) = get(tx, repository, digest)? else { return Ok(()) };
    if record.due_at.is_some() {
        list_untagged(tx, repository, digest, None)?;
    }
    links::remove::<ManifestRecord>(tx, Place::of(repository, digest))?;
    usage::remove(tx, repository, digest)?;
    let size = payload_len(tx, digest)?;
    sizes::removed(tx, repository, Counted::Manifest, Table::RepositoriesByManifest, digest, size)?;
    if links::any_repository::<ManifestRecord>(tx, digest)?.is_none() {
        tx.remove(Table::ManifestPayloads, Key::new().digest(digest))?;
        sizes::discarded(tx, Counted::Manifest, size)?;
        super::blobs::forget_aliases(tx, digest)?;
    }
    Ok(())
}

fn payload_len(tx: &impl Read, digest: &Digest) -> Result<u64, Error> {
    Ok(payload(tx, digest, |bytes| bytes.len() as u64)?.unwrap_or_default())
}

/// Up to `limit` repositories that have the manifest, deletions included, in the order of their identifiers.
pub fn repositories_of(tx: &impl Read, digest: &Digest, limit: usize) -> Result<Vec<RepositoryId>, Error> {
    links::repositories::<ManifestRecord>(tx, digest, limit)
}

/// Brings a revision in line with who names it: one that a tag or a manifest names, or that follows a subject, has no
/// due time, and any other has one, `due` if it had none, and is listed as untagged since `now`, unless it is cached.
pub fn settle(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    digest: &Digest,
    now: u64,
    due: u64,
) -> Result<(), Error> {
    if repository.is_deletion() {
        return Ok(());
    }
    let Some(record) = get(tx, repository, digest)? else { return Ok(()) };
    let is_named = record.subject.is_some()
        || super::tags::any_of_manifest(tx, repository, digest)?
        || is_needed(tx, repository, digest)?;
    let due_at = match (is_named, record.due_at) {
        (true, Some(_)) => None,
        (false, None) => Some(due),
        _ => return Ok(()),
    };
    list_untagged(tx, repository, digest, due_at.map(|_| now))?;
    links::change(tx, Place::of(repository, digest), &ManifestRecord { due_at, ..record })
}

/// Brings the index's row of a revision in line with whether the repository has it; for a repair.
pub fn mend(tx: &WriteTx<'_>, repository: RepositoryId, digest: &Digest) -> Result<(), Error> {
    links::mend::<ManifestRecord>(tx, Place::of(repository, digest))
}

/// Brings the row that lists a revision as untagged in line with its due time; for a repair.
pub fn mend_untagged(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    digest: &Digest,
    now: u64,
) -> Result<(), Error> {
    let is_untagged = get(tx, repository, digest)?.is_some_and(|record| record.due_at.is_some());
    if is_untagged && !repository.is_cached() {
        list_untagged(tx, repository, digest, Some(now))
    } else {
        tx.remove(Table::Untagged, key(repository, digest)).map(drop)
    }
}

/// Lists a revision as untagged since some time, or takes it out of the list. Cached ones are not listed: no policy is about
/// them.
fn list_untagged(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    digest: &Digest,
    since: Option<u64>,
) -> Result<(), Error> {
    if repository.is_cached() {
        return Ok(());
    }
    match since {
        Some(since) => {
            tx.insert(Table::Untagged, key(repository, digest), &codec::encode(&UntaggedSince(since)))
        }
        None => tx.remove(Table::Untagged, key(repository, digest)).map(drop),
    }
}

/// Moves the due time of a revision that nothing names to `due`; nothing where it has none, or a later one.
pub fn postpone(tx: &WriteTx<'_>, repository: RepositoryId, digest: &Digest, due: u64) -> Result<(), Error> {
    match get(tx, repository, digest)? {
        Some(record) if record.due_at.is_some_and(|former| former < due) => {
            links::change(tx, Place::of(repository, digest), &ManifestRecord { due_at: Some(due), ..record })
        }
        _ => Ok(()),
    }
}

/// Since when nothing names a revision, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct UntaggedSince(u64);

impl Record for UntaggedSince {
    const TABLE: Table = Table::Untagged;
    const VERSION: u8 = 1;
}

/// Since when nothing has named the revision, in milliseconds since 1970; `None` where something does.
pub fn untagged_since(
    tx: &impl Read,
    repository: RepositoryId,
    digest: &Digest,
) -> Result<Option<u64>, Error> {
    Ok(tx.get(Table::Untagged, key(repository, digest), codec::decode::<UntaggedSince>)?.map(|since| since.0))
}

/// Up to `limit` revisions of a repository that nothing names, in the order of their digests, behind `after`, each with
/// the time since when.
pub fn untagged(
    tx: &impl Read,
    repository: RepositoryId,
    after: Option<&Digest>,
    limit: usize,
) -> Result<Vec<(Digest, u64)>, Error> {
    let prefix = Key::new().number(repository.number());
    let after = after.map(|digest| Key::new().digest(digest));
    let mut found = Vec::new();
    tx.scan(Table::Untagged, prefix.as_ref(), after.as_ref().map(Key::as_ref), |key, value| {
        if found.len() == limit {
            return Ok(Scan::Stop);
        }
        let since = codec::decode::<UntaggedSince>(value)?.0;
        found.push((digest_of(Table::Untagged, &mut Parts(key))?, since));
        Ok(Scan::Continue)
    })?;
    Ok(found)
}

/// Hands every revision that nothing names to `row`, behind the one of `after`.
pub fn each_untagged(
    tx: &impl Read,
    after: Option<(RepositoryId, &Digest)>,
    mut row: impl FnMut(RepositoryId, Digest, u64) -> Result<Scan, Error>,
) -> Result<(), Error> {
    let after = after.map(|(repository, digest)| key(repository, digest));
    tx.scan(Table::Untagged, b"", after.as_ref().map(Key::as_ref), |key, value| {
        let mut parts = Parts(key);
        let repository = repository_of(Table::Untagged, &mut parts)?;
        let digest = digest_of(Table::Untagged, &mut parts)?;
        row(repository, digest, codec::decode::<UntaggedSince>(value)?.0)
    })
}

/// Up to `limit` revisions in the order of their digests, behind `after`.
pub fn list(
    tx: &impl Read,
    repository: RepositoryId,
    after: Option<&Digest>,
    limit: usize,
) -> Result<Vec<(Digest, ManifestRecord)>, Error> {
    links::list(tx, repository, after, limit)
}

/// Up to `limit` revisions of cached repositories, in the order of their identifiers and digests, behind `after`.
pub fn page_of_cached(
    tx: &impl Read,
    cached: Cached,
    after: Option<&(RepositoryId, Digest)>,
    limit: usize,
) -> Result<Vec<(RepositoryId, Digest, ManifestRecord)>, Error> {
    let mut found = Vec::new();
    let after = match after {
        Some((repository, digest)) => key(*repository, digest),
        None => Key::new().number(cached.before().number()),
    };
    tx.scan(Table::Manifests, b"", Some(after.as_ref()), |key, value| {
        let mut parts = Parts(key);
        let repository = repository_of(Table::Manifests, &mut parts)?;
        if found.len() == limit || !cached.contains(repository) {
            return Ok(Scan::Stop);
        }
        found.push((repository, digest_of(Table::Manifests, &mut parts)?, codec::decode(value)?));
        Ok(Scan::Continue)
    })?;
    Ok(found)
}

/// Hands every revision of every repository to `row`.
pub fn each(
    tx: &impl Read,
    mut row: impl FnMut(RepositoryId, Digest, ManifestRecord) -> Result<(), Error>,
) -> Result<(), Error> {
    links::each(tx, |repository, digest, _, record| row(repository, digest, record))
}

/// Hands every row of the index from manifests to the repositories that have them to `row`.
pub fn each_by_digest(
    tx: &impl Read,
    row: impl FnMut(Digest, RepositoryId) -> Result<(), Error>,
) -> Result<(), Error> {
    links::each_by_digest::<ManifestRecord>(tx, row)
}

/// How a manifest names a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// It needs the child, which can't be deleted before it.
    Needs,
    /// It lists the child, which may be missing: the list of referrers that a client keeps under a tag.
    Lists,
    /// It needed the child, which was deleted by force, and needs it again as soon as it is back.
    Misses,
}

impl Reference {
    fn value(self) -> &'static [u8] {
        match self {
            Reference::Needs => &[],
            Reference::Lists => &[1],
            Reference::Misses => &[2],
        }
    }

    fn of(value: &[u8]) -> Result<Reference, Error> {
        let all = [Reference::Needs, Reference::Lists, Reference::Misses];
        all.into_iter().find(|kind| kind.value() == value).ok_or_else(|| Error::Damaged {
            table: Table::ReferencesByChild.name(),
            reason: "a value is unknown".into(),
        })
    }
}

/// Records how `parent` names `child`. What is needed once stays needed.
pub fn insert_reference(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    child: &Digest,
    parent: &Digest,
    kind: Reference,
) -> Result<(), Error> {
    if kind != Reference::Needs && reference(tx, repository, child, parent)?.is_some() {
        return Ok(());
    }
    tx.insert(Table::ReferencesByChild, key(repository, child).digest(parent), kind.value())
}

/// Lets everybody who needs `child` do without it until it is back.
pub fn let_miss(tx: &WriteTx<'_>, repository: RepositoryId, child: &Digest) -> Result<(), Error> {
    for parent in parents(tx, repository, child, usize::MAX)? {
        tx.insert(
            Table::ReferencesByChild,
            key(repository, child).digest(&parent),
            Reference::Misses.value(),
        )?;
    }
    Ok(())
}

/// Takes back that `parent` names `child`.
pub fn remove_reference(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    child: &Digest,
    parent: &Digest,
) -> Result<(), Error> {
    tx.remove(Table::ReferencesByChild, key(repository, child).digest(parent)).map(drop)
}

/// How `parent` names `child`, if it does.
pub fn reference(
    tx: &impl Read,
    repository: RepositoryId,
    child: &Digest,
    parent: &Digest,
) -> Result<Option<Reference>, Error> {
    tx.get(Table::ReferencesByChild, key(repository, child).digest(parent), Reference::of)
}

/// Up to `limit` manifests of the repository that need `child`.
pub fn parents(
    tx: &impl Read,
    repository: RepositoryId,
    child: &Digest,
    limit: usize,
) -> Result<Vec<Digest>, Error> {
    let mut parents = Vec::new();
    if limit == 0 {
        return Ok(parents);
    }
    each_parent(tx, repository, child, |parent| {
        parents.push(parent);
        Ok(if parents.len() == limit { Scan::Stop } else { Scan::Continue })
    })?;
    Ok(parents)
}

/// Sees to it that content that a repository is about to have is needed by those that have missed it.
pub(super) fn regain(tx: &WriteTx<'_>, repository: RepositoryId, canonical: &Digest) -> Result<(), Error> {
    let mut names = super::blobs::aliases(tx, canonical)?;
    names.push(*canonical);
    for name in names {
        let child = key(repository, &name);
        let mut missing = Vec::new();
        tx.scan(Table::ReferencesByChild, child.as_ref(), None, |parent, value| {
            if Reference::of(value)? == Reference::Misses {
                missing.push(parent.to_vec());
            }
            Ok(Scan::Continue)
        })?;
        for parent in missing {
            tx.insert(Table::ReferencesByChild, child.clone().bytes(&parent), Reference::Needs.value())?;
        }
    }
    Ok(())
}

/// Whether a manifest of the repository needs `child`, or misses it.
pub(super) fn is_named(tx: &impl Read, repository: RepositoryId, child: &Digest) -> Result<bool, Error> {
    let mut is_named = false;
    tx.scan(Table::ReferencesByChild, key(repository, child).as_ref(), None, |_, value| {
        is_named = Reference::of(value)? != Reference::Lists;
        Ok(if is_named { Scan::Stop } else { Scan::Continue })
    })?;
    Ok(is_named)
}

/// Hands the manifests of the repository that need `child` to `row`, in the order of their digests.
pub fn each_parent(
    tx: &impl Read,
    repository: RepositoryId,
    child: &Digest,
    mut row: impl FnMut(Digest) -> Result<Scan, Error>,
) -> Result<(), Error> {
    tx.scan(Table::ReferencesByChild, key(repository, child).as_ref(), None, |key, value| {
        if Reference::of(value)? == Reference::Needs {
            row(digest_of(Table::ReferencesByChild, &mut Parts(key))?)
        } else {
            Ok(Scan::Continue)
        }
    })
}

/// Whether some manifest of the repository needs the content, by whichever of its digests.
pub fn is_needed(tx: &impl Read, repository: RepositoryId, canonical: &Digest) -> Result<bool, Error> {
    if !parents(tx, repository, canonical, 1)?.is_empty() {
        return Ok(true);
    }
    for alias in super::blobs::aliases(tx, canonical)? {
        if !parents(tx, repository, &alias, 1)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Hands every reference to `row`: repository, child, parent, kind.
pub fn each_reference(
    tx: &impl Read,
    mut row: impl FnMut(RepositoryId, Digest, Digest, Reference) -> Result<(), Error>,
) -> Result<(), Error> {
    each_pair(tx, Table::ReferencesByChild, |repository, child, parent, value| {
        row(repository, child, parent, Reference::of(value)?)
    })
}

/// Records `referrer` under the digest by which it names its subject.
pub fn insert_referrer(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    subject: &Digest,
    referrer: &Digest,
    record: &ReferrerRecord,
) -> Result<(), Error> {
    tx.insert(Table::ReferrersBySubject, key(repository, subject).digest(referrer), &codec::encode(record))
}

/// The row of a referrer.
pub fn referrer(
    tx: &impl Read,
    repository: RepositoryId,
    subject: &Digest,
    referrer: &Digest,
) -> Result<Option<ReferrerRecord>, Error> {
    tx.get(Table::ReferrersBySubject, key(repository, subject).digest(referrer), codec::decode)
}

/// Removes a referrer.
pub fn remove_referrer(
    tx: &WriteTx<'_>,
    repository: RepositoryId,
    subject: &Digest,
    referrer: &Digest,
) -> Result<(), Error> {
    tx.remove(Table::ReferrersBySubject, key(repository, subject).digest(referrer)).map(drop)
}

/// Hands the referrers that name `subject` to `row`, in the order of their digests, behind `after`.
pub fn each_referrer(
    tx: &impl Read,
    repository: RepositoryId,
    subject: &Digest,
    after: Option<&Digest>,
    mut row: impl FnMut(Digest, ReferrerRecord) -> Result<Scan, Error>,
) -> Result<(), Error> {
    let after = after.map(|digest| Key::new().digest(digest));
    let prefix = key(repository, subject);
    tx.scan(Table::ReferrersBySubject, prefix.as_ref(), after.as_ref().map(Key::as_ref), |key, value| {
        row(digest_of(Table::ReferrersBySubject, &mut Parts(key))?, codec::decode(value)?)
    })
}

/// Hands every row of the referrers' index to `row`: repository, subject, referrer.
pub fn each_referrer_row(
    tx: &impl Read,
    mut row: impl FnMut(RepositoryId, Digest, Digest) -> Result<(), Error>,
) -> Result<(), Error> {
    each_pair(tx, Table::ReferrersBySubject, |repository, subject, referrer, value| {
        codec::decode::<ReferrerRecord>(value)?;
        row(repository, subject, referrer)
    })
}

/// Hands the rows of a table with keys of a repository and two digests to `row`.
fn each_pair(
    tx: &impl Read,
    table: Table,
    mut row: impl FnMut(RepositoryId, Digest, Digest, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    tx.scan(table, b"", None, |key, value| {
        let mut parts = Parts(key);
        let repository = repository_of(table, &mut parts)?;
        let first = digest_of(table, &mut parts)?;
        let second = digest_of(table, &mut parts)?;
        if !parts.0.is_empty() {
            return Err(damaged_key(table, "end"));
        }
        row(repository, first, second, value)?;
        Ok(Scan::Continue)
    })
}
