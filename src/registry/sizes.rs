//! Sizes: how much a repository, a tag or the store holds, and how much of it nothing else has.

use std::collections::BTreeSet;

use super::manifest_service::missing_payload;
use super::repository::Scope;
use super::{Error, Inner, Page};
use crate::metadata::repositories::{self, Cached, RepositoryId};
use crate::metadata::sizes::{self, SizeRecord};
use crate::metadata::{self, Read, Scan, blobs, manifests, tags};
use crate::oci::{Digest, Manifest, RepositoryName, Tag};

/// How much something holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Distinct blobs.
    pub blobs: u64,
    /// Manifests.
    pub manifests: u64,
    /// Tags.
    pub tags: u64,
    /// The bytes of the blobs and the manifests.
    pub bytes: u64,
    /// The bytes of those that nothing else has: no other repository, or no other image.
    pub unique: u64,
}

impl Sizes {
    /// The bytes of what something else has too.
    pub fn shared(&self) -> u64 {
        self.bytes.saturating_sub(self.unique)
    }
}

impl From<SizeRecord> for Sizes {
    fn from(record: SizeRecord) -> Sizes {
        Sizes {
            blobs: record.blobs,
            manifests: record.manifests,
            tags: record.tags,
            bytes: record.bytes(),
            unique: record.unique_bytes,
        }
    }
}

/// The store: each blob and manifest once, what can be undeleted included, all of it unique.
pub(super) fn of_store(inner: &Inner) -> Result<Sizes, Error> {
    let record = inner.metadata.read(sizes::of_store)?;
    Ok(Sizes { unique: record.bytes(), ..record.into() })
}

/// What is cached of an upstream, or of all: each blob and manifest once, all of it unique.
pub(super) fn of_cached(inner: &Inner, upstream: Option<&str>) -> Result<Sizes, Error> {
    let record = inner.metadata.read(|tx| {
        let cached = match upstream {
            Some(folder) => repositories::upstream(tx, folder)?.map(Cached::Of),
            None => Some(Cached::All),
        };
        cached.map(|cached| sizes::of_cached(tx, cached)).transpose()
    })?;
    let record = record.unwrap_or_default();
    Ok(Sizes { unique: record.bytes(), ..record.into() })
}

/// What each upstream's repositories hold, by folder.
pub(super) fn of_upstreams(inner: &Inner) -> Result<Vec<(String, Sizes)>, Error> {
    let found = inner.metadata.read(|tx| {
        let mut upstreams = Vec::new();
        repositories::each_upstream(tx, |folder, number| {
            upstreams.push((folder.to_owned(), number));
            Ok(Scan::Continue)
        })?;
        let sizes = upstreams.into_iter().map(|(folder, number)| {
            let record = sizes::of_cached(tx, Cached::Of(number))?;
            Ok((folder, Sizes { unique: record.bytes(), ..record.into() }))
        });
        sizes.collect::<Result<_, metadata::Error>>()
    })?;
    Ok(found)
}

/// Up to `limit` repositories behind `after` in byte order, with what each holds.
pub(super) fn of_repositories(
    inner: &Inner,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<(RepositoryName, Sizes)>, Error> {
    let found = inner.metadata.read(|tx| {
        let mut found = Vec::new();
        for (name, id) in repositories::list(tx, after, limit.saturating_add(1))? {
            found.push((name, sizes::of(tx, id)?.into()));
        }
        Ok(found)
    })?;
    Ok(Page::of(found, limit))
}

/// What the repository holds.
pub(super) fn of_repository(scope: &Scope) -> Result<Option<Sizes>, Error> {
    scope.read(|tx, id| Ok(sizes::of(tx, id)?.into()))
}

/// What the image under a tag is made of; unique is what no other image has, of this repository or of another.
pub(super) fn of_tag(scope: &Scope, tag: &Tag) -> Result<Option<Sizes>, Error> {
    let found = scope.read(|tx, id| match tags::get(tx, id, tag)? {
        Some(record) => of_image(tx, id, &record.digest).map(Some),
        None => Ok(None),
    })?;
    Ok(found.flatten())
}

/// The manifests and the blobs of an image.
#[derive(Default)]
struct Image {
    manifests: BTreeSet<Digest>,
    blobs: BTreeSet<Digest>,
}

fn image(tx: &impl Read, id: RepositoryId, digest: &Digest) -> Result<Image, metadata::Error> {
    let mut image = Image::default();
    let mut waiting = vec![*digest];
    while let Some(digest) = waiting.pop() {
        if image.manifests.contains(&digest) {
            continue;
        }
        let Some(record) = manifests::get(tx, id, &digest)? else { continue };
        image.manifests.insert(digest);
        let parsed = manifests::payload(tx, &digest, |bytes| Manifest::parse(&record.media_type, bytes))?;
        let Ok(manifest) = parsed.ok_or_else(|| missing_payload(&digest))? else { continue };
        for child in &manifest.children {
            let Some(canonical) = blobs::canonical(tx, &child.descriptor.digest)? else { continue };
            if blobs::link(tx, id, &canonical)?.is_some() {
                image.blobs.insert(canonical);
            }
            waiting.push(canonical);
        }
    }
    Ok(image)
}

fn of_image(tx: &impl Read, id: RepositoryId, digest: &Digest) -> Result<Sizes, metadata::Error> {
    let image = image(tx, id, digest)?;
    let mut sizes = Sizes {
        blobs: image.blobs.len() as u64,
        manifests: image.manifests.len() as u64,
        tags: 1,
        ..Sizes::default()
    };
    for manifest in &image.manifests {
        let size = manifests::payload(tx, manifest, |bytes| bytes.len() as u64)?.unwrap_or_default();
        sizes.bytes += size;
        let is_shared = is_elsewhere(&manifests::repositories_of(tx, manifest, 2)?, id)
            || is_named_beside(tx, id, manifest, &image.manifests)?;
        sizes.unique += if is_shared { 0 } else { size };
    }
    for blob in &image.blobs {
        let size = blobs::size_of(tx, blob)?.unwrap_or_default();
        sizes.bytes += size;
        let is_shared = is_elsewhere(&blobs::repositories_of(tx, blob, 2)?, id)
            || is_named_beside(tx, id, blob, &image.manifests)?;
        sizes.unique += if is_shared { 0 } else { size };
    }
    Ok(sizes)
}

/// The bytes of the blobs that only this manifest names, in whichever repository.
pub(super) fn only_of(tx: &impl Read, id: RepositoryId, digest: &Digest) -> Result<u64, metadata::Error> {
    let own = BTreeSet::from([*digest]);
    let mut bytes = 0;
    for blob in image(tx, id, digest)?.blobs {
        if !is_elsewhere(&blobs::repositories_of(tx, &blob, 2)?, id) && !is_named_beside(tx, id, &blob, &own)?
        {
            bytes += blobs::size_of(tx, &blob)?.unwrap_or_default();
        }
    }
    Ok(bytes)
}

/// Whether another repository has the content; deletions, which come last, don't count.
fn is_elsewhere(holders: &[RepositoryId], id: RepositoryId) -> bool {
    holders.iter().any(|holder| *holder != id && !holder.is_deletion())
}

/// Whether a manifest of the repository beside those of an image names the content.
fn is_named_beside(
    tx: &impl Read,
    id: RepositoryId,
    digest: &Digest,
    image: &BTreeSet<Digest>,
) -> Result<bool, metadata::Error> {
    let mut names = blobs::aliases(tx, digest)?;
    names.push(*digest);
    for name in &names {
        let mut is_beside = false;
        manifests::each_parent(tx, id, name, |parent| {
            is_beside = !image.contains(&parent);
            Ok(if is_beside { Scan::Stop } else { Scan::Continue })
        })?;
        if is_beside {
            return Ok(true);
        }
    }
    Ok(false)
}
