//! Damaged blobs: out of reach until their bytes are pushed again, and what that means for images.
//!
//! A damaged blob loses its row, so that clients are told that it isn't there and send it anew; the links stay. Its file is
//! moved aside for a human to look at. What is in its place after that is garbage to everybody.

use std::collections::BTreeSet;

use super::{Error, Inner};
use crate::blobs::DigestGuard;
use crate::clock::Timestamp;
use crate::metadata::blobs::{self, DamagedRecord};
use crate::metadata::repositories::RepositoryId;
use crate::metadata::{self, ReadTx, deletions, manifests, repositories, tags};
use crate::oci::{Digest, Tag};

/// The most images that are named for one blob; further ones are counted.
const MAX_IMAGES: usize = 100;
/// The most repositories, and parents of one manifest, that are looked at for one blob.
const MAX_NAMED: usize = 1000;

/// A blob whose bytes are damaged or missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedBlob {
    /// The canonical digest.
    pub digest: Digest,
    /// The length that it should have.
    pub size: u64,
    /// When that was found.
    pub found_at: Timestamp,
    /// What is wrong.
    pub reason: String,
    /// The images that need it; the first hundred.
    pub images: Vec<AffectedImage>,
    /// How many images need it beyond those.
    pub unlisted_images: u64,
}

/// A manifest that names a damaged blob, itself or by another manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AffectedImage {
    /// The repository.
    pub repository: String,
    /// Whether it is deleted there, and could be undeleted.
    pub is_deleted: bool,
    /// The manifest; none where the repository has the blob and no manifest names it.
    pub manifest: Option<Digest>,
    /// The manifest's tags.
    pub tags: Vec<Tag>,
}

/// Takes a damaged blob out of reach: its row first, its file then. Blocks. The caller holds its lock and has found it damaged since.
pub(super) fn set_aside(
    inner: &Inner,
    lock: &DigestGuard,
    digest: &Digest,
    reason: &str,
) -> Result<(), Error> {
    let (digest, found_at, reason) = (*digest, inner.clock.now().millis(), reason.to_owned());
    inner.metadata.write_blocking(move |tx| {
        if let Some(blob) = blobs::get(tx, &digest)? {
            let record = DamagedRecord { size: blob.size, found_at, reason: reason.clone() };
            blobs::set_damaged(tx, &digest, &record)?;
        }
        Ok::<_, Error>(())
    })?;
    inner.blobs.set_aside(lock, &digest)?;
    Ok(())
}

/// Every blob that is out of reach, in the order of the digests, and how many there are beyond `limit`.
pub(super) fn damaged(inner: &Inner, limit: usize) -> Result<(Vec<DamagedBlob>, u64), Error> {
    let (mut found, mut unlisted) = (Vec::new(), 0);
    inner.metadata.read(|tx| {
        (found, unlisted) = (Vec::new(), 0);
        blobs::each_damaged(tx, |digest, record| {
            if found.len() < limit {
                found.push((digest, record));
            } else {
                unlisted += 1;
            }
            Ok(())
        })
    })?;
    let describe = |(digest, record): (Digest, DamagedRecord)| describe(inner, digest, record);
    Ok((found.into_iter().map(describe).collect::<Result<_, _>>()?, unlisted))
}

/// What damage of a blob means.
pub(super) fn describe(inner: &Inner, digest: Digest, record: DamagedRecord) -> Result<DamagedBlob, Error> {
    let (images, unlisted_images) = inner.metadata.read(|tx| affected(tx, &digest))?;
    let DamagedRecord { size, found_at, reason } = record;
    let found_at = Timestamp::from_millis(found_at);
    Ok(DamagedBlob { digest, size, found_at, reason, images, unlisted_images })
}

/// The images that need a blob.
fn affected(tx: &ReadTx, digest: &Digest) -> Result<(Vec<AffectedImage>, u64), metadata::Error> {
    let (mut images, mut unlisted) = (Vec::new(), 0);
    for id in blobs::repositories_of(tx, digest, MAX_NAMED)? {
        let (repository, is_deleted) = name_of(tx, id)?;
        let mut above = BTreeSet::new();
        let mut waiting = blobs::aliases(tx, digest)?;
        waiting.push(*digest);
        while let Some(child) = waiting.pop() {
            for parent in manifests::parents(tx, id, &child, MAX_NAMED)? {
                if above.insert(parent) {
                    waiting.push(parent);
                    waiting.extend(blobs::aliases(tx, &parent)?);
                }
            }
        }
        let mut add = |manifest, tags| {
            if images.len() < MAX_IMAGES {
                images.push(AffectedImage { repository: repository.clone(), is_deleted, manifest, tags });
            } else {
                unlisted += 1;
            }
        };
        if above.is_empty() {
            add(None, Vec::new());
        }
        for manifest in above {
            add(Some(manifest), tags::of_manifest(tx, id, &manifest)?);
        }
    }
    Ok((images, unlisted))
}

/// The name of a repository, or of the one that something was deleted from.
fn name_of(tx: &ReadTx, id: RepositoryId) -> Result<(String, bool), metadata::Error> {
    let of =
        if id.is_deletion() { deletions::get(tx, id)?.map(|deletion| deletion.repository) } else { Some(id) };
    let name = match of {
        Some(of) => repositories::get(tx, of)?.map(|record| record.name.to_string()),
        None => None,
    };
    Ok((name.unwrap_or_else(|| "a deleted repository".to_owned()), id.is_deletion()))
}
