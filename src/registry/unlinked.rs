//! Blobs that no repository links, and that no client can see therefore.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::sessions::blocking;
use super::{Error, Inner};
use crate::blobs::DigestGuard;
use crate::metadata::{self, WriteTx, blobs, candidates};
use crate::oci::Digest;

/// How many of them one transaction looks at.
pub(super) const AT_ONCE: usize = 32;

/// Blobs whose rows a transaction has removed, and the locks that keep everybody else from their digests until their files
/// are gone too.
#[derive(Debug, Default)]
pub(super) struct Removed {
    sizes: HashMap<Digest, u64>,
    guards: Vec<DigestGuard>,
}

/// Removes the rows of those of these blobs that no repository links, as far as nobody holds them back. Waits for nobody: it
/// may run in the writer.
pub(super) fn remove_rows(
    tx: &WriteTx<'_>,
    inner: &Inner,
    digests: &[Digest],
) -> Result<Removed, metadata::Error> {
    let mut removed = Removed::default();
    for digest in digests {
        // Digests share locks, and one that is held is being pushed: its turn comes later.
        if !removed.guards.iter().any(|guard| guard.covers(digest)) {
            let Some(guard) = inner.blobs.try_lock(digest) else { continue };
            removed.guards.push(guard);
        }
        if let Some(size) = blobs::remove_unlinked(tx, digest)? {
            removed.sizes.insert(*digest, size);
        }
        candidates::remove_unlinked(tx, digest)?;
    }
    Ok(removed)
}

/// Removes the files of blobs whose rows are durably gone; returns how many blobs they were, and their bytes.
pub(super) async fn remove_files(inner: &Arc<Inner>, removed: Removed) -> Result<(u64, u64), Error> {
    let Removed { sizes, guards } = removed;
    let gone = (sizes.len() as u64, sizes.values().sum());
    if sizes.is_empty() {
        return Ok(gone);
    }
    let worker = inner.clone();
    blocking(move || {
        for digest in sizes.keys() {
            let Some(guard) = guards.iter().find(|guard| guard.covers(digest)) else { continue };
            // A file that stays is an orphan, which the next start finds.
            if let Err(error) = worker.blobs.remove(guard, digest) {
                tracing::warn!(%digest, %error, "the file of a collected blob could not be removed");
            }
        }
        Ok(())
    })
    .await?;
    Ok(gone)
}

/// Removes those of these blobs that no repository links, as far as nobody holds them back; returns how many went, and their
/// bytes. The caller holds the lock of those who collect.
pub(super) async fn collect_these(inner: &Arc<Inner>, digests: Vec<Digest>) -> Result<(u64, u64), Error> {
    let mut gone = (0, 0);
    for some in digests.chunks(AT_ONCE) {
        if inner.holds.load(Ordering::SeqCst) > 0 {
            break;
        }
        let (worker, some) = (inner.clone(), some.to_vec());
        let removed =
            inner.metadata.write(move |tx| Ok::<_, Error>(remove_rows(tx, &worker, &some)?)).await?;
        let (blobs, bytes) = remove_files(inner, removed).await?;
        gone = (gone.0 + blobs, gone.1 + bytes);
    }
    Ok(gone)
}
