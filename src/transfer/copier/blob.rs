//! One blob: linked where the store has it, else copied, and hashed on the way.

use super::{Copier, Failure, Pieces, RepositoryCopy, Source};
use crate::oci::Descriptor;
use crate::registry;
use crate::transfer::children::Took;
use crate::transfer::{Error, Skipped};

impl<S: Source> RepositoryCopy<'_, S> {
    /// Takes a blob that a manifest names; with `has_size` it has to have the length that this says.
    pub(super) async fn blob(&self, named: &Descriptor, has_size: bool) -> Result<Took, Error> {
        let (copier, digest) = (self.copier, named.digest);
        let len = if has_size { named.size } else { 0 };
        copier.expect_bytes(len);
        let _turn = copier.blobs.of(&digest).await;
        if self.has_failed(&digest) || copier.is_over() {
            return Ok(Took::Skipped);
        }
        let blobs = self.repository.blobs();
        let is_dry = copier.options.dry_run;
        let known = if is_dry { blobs.stat(digest)? } else { blobs.stat_held(digest).await? };
        // Where the bytes of what is known are gone, these ones mend it.
        if known.is_some_and(|known| blobs.has_file(&known.digest).is_ok_and(|has| has)) {
            copier.advance(len).await;
            return Ok(Took::Here);
        }
        if is_dry {
            return self.pretend_blob(named, has_size).await;
        }
        let _permit = copier.copies.acquire().await.map_err(|_| registry::Error::Unavailable)?;
        let path = copier.source.path(&self.place, &digest);
        match blobs.mount(digest, None, &copier.options.actor).await {
            Ok(Some(known)) if blobs.has_file(&known.digest).is_ok_and(|has| has) => {
                copier.report.borrow_mut().linked_blobs += 1;
                copier.advance(len).await;
                return Ok(Took::Here);
            }
            Ok(_) => {}
            Err(error) => {
                self.failed.borrow_mut().insert(digest);
                copier.refused(&path, error).await?;
                return Ok(Took::Skipped);
            }
        }
        let pieces = match copier.source.blob(&self.place, &digest).await {
            Ok(Some(pieces)) => pieces,
            Ok(None) => return Ok(Took::Absent),
            Err(failure) => return self.lost(&digest, failure).await,
        };
        match self.copy(named, has_size, pieces).await {
            Ok(true) => Ok(Took::Here),
            // Nobody waits any more.
            Ok(false) => Ok(Took::Skipped),
            Err(Stop::Source(failure)) => self.lost(&digest, failure).await,
            Err(Stop::Registry(error)) => {
                self.failed.borrow_mut().insert(digest);
                copier.refused(&path, error).await?;
                Ok(Took::Skipped)
            }
        }
    }

    /// Whether a blob would come.
    async fn pretend_blob(&self, named: &Descriptor, has_size: bool) -> Result<Took, Error> {
        let (copier, digest) = (self.copier, named.digest);
        if copier.pretended.borrow().contains(&digest) {
            return Ok(Took::Here);
        }
        let len = match copier.source.blob_len(&self.place, named).await {
            Ok(Some(len)) => len,
            Ok(None) => return Ok(Took::Absent),
            Err(failure) => return self.lost(&digest, failure).await,
        };
        if has_size && len != named.size {
            return self.lost(&digest, self.other_size(named, len)).await;
        }
        copier.pretended.borrow_mut().insert(digest);
        copier.would_come(len);
        copier.advance(if has_size { len } else { 0 }).await;
        Ok(Took::Here)
    }

    fn other_size(&self, named: &Descriptor, len: u64) -> Failure {
        let reason = format!("it has {len} bytes, and a manifest says {}", named.size);
        Failure::Skipped(Skipped::new(self.copier.source.path(&self.place, &named.digest), reason))
    }

    /// Copies the bytes; `false` where it was stopped.
    async fn copy(&self, named: &Descriptor, has_size: bool, mut pieces: S::Pieces) -> Result<bool, Stop> {
        let copier = self.copier;
        let size = pieces.size();
        if let Some(size) = size.filter(|size| has_size && *size != named.size) {
            return Err(Stop::Source(self.other_size(named, size)));
        }
        copier.registry.make_space(size.unwrap_or(named.size)).await?;
        let mut writer = self.repository.blobs().create(named.digest.algorithm(), &copier.options.actor)?;
        let copying = async {
            let mut len: u64 = 0;
            while let Some(piece) = pieces.next().await.map_err(Stop::Source)? {
                let more = piece.len() as u64;
                len += more;
                if has_size && len > named.size {
                    return Err(Stop::Source(self.other_size(named, len)));
                }
                writer.write(piece).await?;
                copier.advance(if has_size { more } else { 0 }).await;
                if copier.is_over() {
                    return Ok(None);
                }
            }
            if has_size && len != named.size {
                return Err(Stop::Source(self.other_size(named, len)));
            }
            Ok(Some(len))
        };
        match copying.await {
            Ok(Some(len)) => {
                writer.commit(&named.digest).await?;
                copier.came(len);
                Ok(true)
            }
            Ok(None) => writer.cancel().await.map(|()| false).map_err(Stop::Registry),
            Err(stop) => {
                writer.cancel().await?;
                Err(stop)
            }
        }
    }
}

impl<S> Copier<'_, S> {
    fn would_come(&self, len: u64) {
        let mut report = self.report.borrow_mut();
        report.blobs += 1;
        report.bytes += len;
    }

    fn came(&self, len: u64) {
        let mut report = self.report.borrow_mut();
        report.blobs += 1;
        report.bytes += len;
        report.copied_bytes += len;
    }
}

/// Why a blob did not come.
enum Stop {
    /// Because of where it comes from.
    Source(Failure),
    /// Because of the registry.
    Registry(registry::Error),
}

impl From<registry::Error> for Stop {
    fn from(error: registry::Error) -> Stop {
        Stop::Registry(error)
    }
}
