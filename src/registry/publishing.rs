//! Publishing a blob: from an upload whose bytes are all there to a name that a repository has.

use std::sync::Arc;

use super::blob_writer::keep_or_discard;
use super::quota::{self, Addition};
use super::repository::Scope;
use super::sessions::{self, Held, Session, blocking};
use super::{BlobDescriptor, Error, Inner, deletion, events};
use crate::blobs::{DigestGuard, StagedBlob, UploadId};
use crate::clock::Timestamp;
use crate::metadata::blobs::{Alias, BlobRecord, LinkRecord};
use crate::metadata::events::Action;
use crate::metadata::{blobs, repositories, uploads};
use crate::oci::tarsum::{TarSum, TarSumVersion, TarSummer};
use crate::oci::{Digest, DigestAlgorithm, MediaType, ProvisionalDigest};

/// A blob whose bytes are durable at their final path, and whose rows are not written yet.
pub(super) struct Published {
    canonical: Digest,
    size: u64,
    /// Whether this upload put the file there.
    fresh: bool,
    recorded: bool,
    lock: DigestGuard,
    /// The session, until its end.
    held: Held,
}

/// An upload whose bytes are those of the digest that was claimed.
pub(super) struct Checked {
    pub(super) canonical: Digest,
    size: u64,
    held: Held,
}

/// The same for an upload whose bytes the caller vouches for: nothing is read.
pub(super) fn vouched(held: Held, canonical: Digest) -> Result<Checked, Error> {
    let size = held.staged.as_ref().ok_or(Error::UploadUnknown)?.len();
    Ok(Checked { canonical, size, held })
}

/// The tarsum of an archive, which costs reading it once more: only clients of ten years ago name one.
fn tarsum(staged: &StagedBlob, version: TarSumVersion) -> Result<TarSum, Error> {
    let mut summer = TarSummer::new(version);
    staged.each_piece(|piece| Ok::<_, Error>(summer.update(piece)?))?;
    Ok(summer.finish()?)
}

/// Checks the digest. Blocks.
pub(super) fn check(
    inner: &Inner,
    session: &Session,
    mut held: Held,
    claimed: ProvisionalDigest,
) -> Result<Checked, Error> {
    if held.staged.is_none() {
        return Err(Error::UploadUnknown);
    }
    let checked = (|| {
        let staged = held.staged.as_mut().ok_or(Error::UploadUnknown)?;
        let computed = match claimed {
            ProvisionalDigest::Digest(digest) => staged.digest(digest.algorithm())?.into(),
            ProvisionalDigest::TarSum(sum) => tarsum(staged, sum.version())?.into(),
        };
        if computed != claimed {
            return Err(Error::DigestMismatch { claimed, computed });
        }
        let checked = (staged.digest(DigestAlgorithm::CANONICAL)?, staged.len());
        if held.recorded.is_some() {
            // What was acknowledged of the upload has to survive a crash before the commit: see `sessions::load`.
            sessions::checkpoint(inner, session, &mut held)?;
        }
        Ok(checked)
    })();
    match checked {
        Ok((canonical, size)) => Ok(Checked { canonical, size, held }),
        Err(error) => keep_or_discard(inner, session, held, Err(error)).and(Err(Error::UploadUnknown)),
    }
}

/// Puts the bytes at their final path, unless the blob is there already. Blocks.
pub(super) fn publish(
    inner: &Inner,
    session: &Session,
    checked: Checked,
    lock: DigestGuard,
) -> Result<Published, Error> {
    let Checked { canonical, size, mut held } = checked;
    let result = (|| {
        let known = inner.metadata.read(|tx| blobs::get(tx, &canonical))?.is_some();
        let fresh = !(known && inner.blobs.blob_len(&canonical)? == Some(size));
        let staged = held.staged.take().ok_or(Error::UploadUnknown)?;
        if fresh {
            inner.blobs.publish(&lock, staged, &canonical)?;
        } else if held.recorded.is_none() {
            staged.discard()?;
        }
        Ok(fresh && !known)
    })();
    match result {
        Ok(fresh) => Ok(Published { canonical, size, fresh, recorded: held.recorded.is_some(), lock, held }),
        Err(error) => keep_or_discard(inner, session, held, Err(error)).and(Err(Error::UploadUnknown)),
    }
}

impl Published {
    /// Names the blob in one commit, which also ends the upload.
    pub(super) async fn link(
        self,
        scope: &Scope,
        session: &Session,
        named: ProvisionalDigest,
        media_type: MediaType,
    ) -> Result<BlobDescriptor, Error> {
        let Published { canonical, size, fresh, recorded, lock, held } = self;
        let (inner, teller) = (&scope.inner, scope.clone());
        let now = inner.clock.now();
        let (id, name, actor) = (*session.id.as_bytes(), session.repository.clone(), session.actor.clone());
        let link =
            LinkRecord { media_type: media_type.clone(), created_at: now.millis(), actor, due_at: None };
        let started_at = session.started_at;
        let linked = scope
            .write(move |tx| {
                deletion::require_not_renamed(tx, &name, started_at)?;
                let known = repositories::id_of(tx, &name)?;
                let has_link = match known {
                    Some(id) => blobs::link(tx, id, &canonical)?.is_some(),
                    None => false,
                };
                let addition = Addition {
                    to_repository: if has_link { 0 } else { size },
                    to_store: if blobs::size_of(tx, &canonical)?.is_some() { 0 } else { size },
                };
                quota::require(tx, &teller.inner, &name, known, addition)?;
                let repository = teller.ensure(tx, known, now, &link.actor)?;
                let due_at = Some(teller.inner.lease_end(repository, now));
                let link = LinkRecord { due_at, ..link.clone() };
                let blob = if let Some(blob) = blobs::get(tx, &canonical)? {
                    blob
                } else {
                    let blob = BlobRecord { size, created_at: now.millis() };
                    blobs::insert(tx, &canonical, &blob)?;
                    blob
                };
                blobs::insert_alias(tx, Alias::of(named, repository), &canonical)?;
                blobs::insert_link(tx, repository, &canonical, &link)?;
                if recorded {
                    uploads::remove(tx, &id)?;
                }
                let named = *named.digest().unwrap_or(&canonical);
                let target = events::blob(&name, named, &link.media_type, blob.size);
                teller.tell(tx, repository, now, Action::Push, target)?;
                Ok(blob)
            })
            .await;
        inner.sessions.forget(&session.id);
        if linked.is_err() && fresh {
            remove_unnamed(inner.clone(), lock, canonical).await;
        } else {
            drop(lock);
        }
        if linked.is_ok() && recorded {
            remove_duplicate(inner.clone(), session.id).await;
        }
        if let Err(Error::QuotaExceeded { .. } | Error::RepositoryRenamed { .. }) = linked {
            // What was refused leaves nothing.
            sessions::forget_refused(inner, id, recorded).await;
        }
        drop(held);
        let blob = linked?;
        Ok(BlobDescriptor {
            digest: canonical,
            size: blob.size,
            media_type,
            created_at: Timestamp::from_millis(blob.created_at),
        })
    }
}

/// Takes the bytes of an upload away that turned out to be a known blob; a recorded upload keeps them until its commit.
async fn remove_duplicate(inner: Arc<Inner>, id: UploadId) {
    if let Err(error) = blocking(move || Ok(inner.blobs.discard(id)?)).await {
        tracing::warn!(upload = %id, %error, "the bytes of a finished upload are left behind until the next sweep");
    }
}

/// Takes a file away whose commit failed, unless the database, asked again, names it after all.
async fn remove_unnamed(inner: Arc<Inner>, lock: DigestGuard, canonical: Digest) {
    let removed = blocking(move || {
        if inner.metadata.read(|tx| blobs::get(tx, &canonical))?.is_none() {
            inner.blobs.remove(&lock, &canonical)?;
        }
        Ok(())
    })
    .await;
    if let Err(error) = removed {
        tracing::warn!(digest = %canonical, %error, "the file of a blob that was not committed is left behind");
    }
}
