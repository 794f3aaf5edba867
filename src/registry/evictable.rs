//! Which cached images may go, and what goes with one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::cached::LEASE;
use super::eviction::{Candidate, Evicted};
use super::manifest_service::missing_payload;
use super::revision;
use super::{Error, Inner};
use crate::clock::Timestamp;
use crate::metadata::deletions::{DeletedKind, DeletionRecord};
use crate::metadata::repositories::{self, Cached, RepositoryId};
use crate::metadata::{self, Read, Scan, WriteTx, blobs, deletions, dismantle, manifests, tags};
use crate::oci::{Digest, Manifest, ManifestKind, RepositoryName};

/// How many revisions one view of the tables is held for.
const PAGE: usize = 256;

/// The most manifests that go with an image in one transaction. What is left of a larger one goes as images of their own.
const MANIFESTS: usize = 1_000;

/// How many rows of an empty repository one transaction removes; the collection removes the rest.
const ROWS: usize = 256;

/// Where a search stands: behind this revision.
pub(super) type Position = (RepositoryId, Digest);

/// Up to `limit` images behind `last`, the least recently used first, that nobody has used in the last minutes and that are
/// not pinned. Blocks.
pub(super) fn least_used(
    inner: &Inner,
    cached: Cached,
    last: Option<Candidate>,
    limit: usize,
) -> Result<Vec<Candidate>, Error> {
    let until = inner.clock.now().saturating_sub(LEASE).millis();
    let mut found = BTreeSet::new();
    let mut after = None;
    loop {
        let (page, position) = page(inner, cached, after, |tx, id, digest, _| {
            let used = used_at(tx, inner, id, digest)?;
            let candidate = (used, id, *digest);
            Ok((used <= until && last.is_none_or(|last| candidate > last)).then_some(candidate))
        })?;
        for candidate in page {
            found.insert(candidate);
            if found.len() > limit {
                found.pop_last();
            }
        }
        if position.is_none() {
            return Ok(found.into_iter().collect());
        }
        after = position;
    }
}

/// The images of a page behind `after` that nothing names and that nobody has used for `keep`, and where the page ends.
/// Blocks.
pub(super) fn superseded(
    inner: &Inner,
    after: Option<Position>,
    keep: Duration,
) -> Result<(Vec<Candidate>, Option<Position>), Error> {
    let until = inner.clock.now().saturating_sub(keep.max(LEASE)).millis();
    page(inner, Cached::All, after, |tx, id, digest, record| {
        if record.due_at.is_none() {
            return Ok(None);
        }
        let used = used_at(tx, inner, id, digest)?;
        Ok((used <= until).then_some((used, id, *digest)))
    })
}

/// Hands the images of a page to `look`, pinned ones aside; returns what it made of them, and where the page ends.
fn page<T>(
    inner: &Inner,
    cached: Cached,
    after: Option<Position>,
    look: impl Fn(
        &metadata::ReadTx,
        RepositoryId,
        &Digest,
        &manifests::ManifestRecord,
    ) -> Result<Option<T>, metadata::Error>,
) -> Result<(Vec<T>, Option<Position>), Error> {
    Ok(inner.metadata.read(|tx| {
        let revisions = manifests::page_of_cached(tx, cached, after.as_ref(), PAGE)?;
        let last = revisions.last().filter(|_| revisions.len() == PAGE).map(|(id, digest, _)| (*id, *digest));
        let mut names = HashMap::<RepositoryId, Option<RepositoryName>>::new();
        let mut found = Vec::new();
        for (id, digest, record) in &revisions {
            let name = match names.get(id) {
                Some(name) => name.clone(),
                None => names.entry(*id).or_insert(repositories::name_of(tx, *id)?).clone(),
            };
            let Some(name) = name else { continue };
            if manifests::is_needed(tx, *id, digest)? {
                continue;
            }
            if let Some(one) = look(tx, *id, digest, record)?
                && !inner.eviction.is_pinned(&name, &tags::of_manifest(tx, *id, digest)?)
            {
                found.push(one);
            }
        }
        Ok((found, last))
    })?)
}

/// When an image, or a part of it, was last used or fetched, in milliseconds since 1970.
fn used_at(tx: &impl Read, inner: &Inner, id: RepositoryId, digest: &Digest) -> Result<u64, metadata::Error> {
    let mut used = 0;
    let mut seen = BTreeSet::new();
    let mut waiting = vec![*digest];
    while let Some(digest) = waiting.pop() {
        if seen.len() == MANIFESTS || !seen.insert(digest) {
            continue;
        }
        let Some(record) = manifests::get(tx, id, &digest)? else { continue };
        used = used.max(record.pushed_at).max(inner.pulls.used_at(tx, id, &digest)?);
        if ManifestKind::of(&record.media_type) == ManifestKind::Index {
            waiting.extend(named_by(tx, &digest, &record)?);
        }
    }
    Ok(used)
}

/// The digests of what a manifest names, the canonical ones included where they are known.
fn named_by(
    tx: &impl Read,
    digest: &Digest,
    record: &manifests::ManifestRecord,
) -> Result<Vec<Digest>, metadata::Error> {
    let parsed = manifests::payload(tx, digest, |bytes| Manifest::parse(&record.media_type, bytes))?;
    let Ok(manifest) = parsed.ok_or_else(|| missing_payload(digest))? else { return Ok(Vec::new()) };
    let mut named = Vec::with_capacity(manifest.children.len());
    for child in &manifest.children {
        let digest = child.descriptor.digest;
        named.push(digest);
        named.extend(blobs::canonical(tx, &digest)?.filter(|canonical| *canonical != digest));
    }
    Ok(named)
}

/// What goes with an image.
#[derive(Debug, Default)]
struct Parts {
    /// The manifests.
    manifests: Vec<Digest>,
    /// The blobs that no other manifest of the repository names.
    blobs: BTreeSet<Digest>,
    /// Everything that these manifests name.
    named: BTreeSet<Digest>,
}

fn parts(tx: &impl Read, id: RepositoryId, root: &Digest) -> Result<Parts, metadata::Error> {
    let mut parts = Parts::default();
    let (mut going, mut waiting) = (BTreeSet::from([*root]), vec![*root]);
    // A manifest that two of them name goes when the second one is known to go.
    while let Some(digest) = waiting.pop() {
        let Some(record) = manifests::get(tx, id, &digest)? else { continue };
        parts.manifests.push(digest);
        for child in named_by(tx, &digest, &record)? {
            parts.named.insert(child);
            if going.len() < MANIFESTS
                && !going.contains(&child)
                && manifests::exists(tx, id, &child)?
                && !tags::any_of_manifest(tx, id, &child)?
                && is_only_of(tx, id, &child, &going)?
            {
                going.insert(child);
                waiting.push(child);
            }
        }
    }
    for named in &parts.named {
        if blobs::link(tx, id, named)?.is_some() && is_only_of(tx, id, named, &going)? {
            parts.blobs.insert(*named);
        }
    }
    Ok(parts)
}

/// Whether no manifest of the repository names the content but these.
fn is_only_of(
    tx: &impl Read,
    id: RepositoryId,
    digest: &Digest,
    these: &BTreeSet<Digest>,
) -> Result<bool, metadata::Error> {
    let mut names = blobs::aliases(tx, digest)?;
    names.push(*digest);
    let mut is_only = true;
    for name in &names {
        manifests::each_parent(tx, id, name, |parent| {
            is_only = is_only && these.contains(&parent);
            Ok(if is_only { Scan::Continue } else { Scan::Stop })
        })?;
    }
    Ok(is_only)
}

/// What is gone, and the blobs that may be without a link now.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) evicted: Evicted,
    pub(super) blobs: Vec<Digest>,
}

/// Removes an image with all that only it names, at once; `None` where it is in use by now, or isn't what it was.
pub(super) fn remove_image(
    tx: &WriteTx<'_>,
    inner: &Inner,
    now: Timestamp,
    (used, id, digest): Candidate,
) -> Result<Option<Gone>, Error> {
    let Some(name) = repositories::name_of(tx, id)? else { return Ok(None) };
    if !manifests::exists(tx, id, &digest)? || manifests::is_needed(tx, id, &digest)? {
        return Ok(None);
    }
    let used_since = used_at(tx, inner, id, &digest)?;
    if used_since > used || used_since > now.saturating_sub(LEASE).millis() {
        return Ok(None);
    }
    let names = tags::of_manifest(tx, id, &digest)?;
    let parts = parts(tx, id, &digest)?;
    let eviction = &inner.eviction;
    let is_busy = eviction.is_pinned(&name, &names)
        || parts.manifests.iter().chain(&parts.named).any(|part| eviction.is_fetched(&name, part))
        || parts.blobs.iter().any(|blob| inner.readers.are_there(id, blob));
    if is_busy {
        return Ok(None);
    }
    for tag in &names {
        tags::remove(tx, id, tag)?;
    }
    for blob in &parts.blobs {
        blobs::remove_link(tx, id, blob)?;
    }
    // What names others goes last, so that little becomes untagged on the way.
    for manifest in parts.manifests.iter().rev() {
        revision::remove(tx, inner, now, id, manifest)?;
    }
    forget_if_empty(tx, now, id, &name)?;
    let evicted = Evicted {
        images: 1,
        manifests: parts.manifests.len() as u64,
        tags: names.len() as u64,
        links: parts.blobs.len() as u64,
        ..Evicted::default()
    };
    Ok(Some(Gone { evicted, blobs: parts.blobs.into_iter().collect() }))
}

/// Takes away a cached repository that has nothing; says whether it did.
fn forget_if_empty(
    tx: &WriteTx<'_>,
    now: Timestamp,
    id: RepositoryId,
    name: &RepositoryName,
) -> Result<bool, metadata::Error> {
    let has_content = !tags::list(tx, id, None, 1)?.is_empty()
        || !manifests::list(tx, id, None, 1)?.is_empty()
        || !blobs::list_links(tx, id, None, 1)?.is_empty();
    if has_content {
        return Ok(false);
    }
    repositories::take_name(tx, name)?;
    if dismantle::step(tx, id, ROWS)?.is_none() {
        let record = DeletionRecord {
            kind: DeletedKind::Repository,
            repository: id,
            name: name.clone(),
            tag: None,
            digest: None,
            deleted_at: now.millis(),
            expires_at: 0,
            actor: String::new(),
            reason: None,
        };
        deletions::set(tx, id, &record)?;
    }
    Ok(true)
}

/// Forgets cached repositories that lost the last of what they had otherwise.
pub(super) async fn forget_empty(inner: &Arc<Inner>) -> Result<(), Error> {
    let mut after = None;
    loop {
        let page = inner.metadata.read(|tx| repositories::page_of_cached(tx, after, PAGE))?;
        after = page.last().copied().filter(|_| page.len() == PAGE);
        let empty = inner.metadata.read(|tx| {
            let mut empty = Vec::new();
            for id in &page {
                if manifests::list(tx, *id, None, 1)?.is_empty()
                    && blobs::list_links(tx, *id, None, 1)?.is_empty()
                {
                    empty.push(*id);
                }
            }
            Ok(empty)
        })?;
        for id in empty {
            let now = inner.clock.now();
            let forget = move |tx: &WriteTx<'_>| match repositories::name_of(tx, id)? {
                Some(name) => Ok::<_, Error>(forget_if_empty(tx, now, id, &name)?),
                None => Ok(false),
            };
            inner.metadata.write(forget).await?;
        }
        if after.is_none() {
            return Ok(());
        }
    }
}
