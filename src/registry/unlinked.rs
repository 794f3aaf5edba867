//! Blobs that no repository links, and that no client can see therefore.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::sessions::blocking;
use super::{Collected, Error, Inner};
use crate::blobs::DigestGuard;
use crate::metadata::{blobs, candidates};
use crate::oci::Digest;

/// How many of them one transaction looks at.
const AT_ONCE: usize = 32;

/// Removes blobs that no repository links: their rows in one commit, and their files then. Says whether there may be more
/// behind the last one, which `pass` remembers.
pub(super) async fn collect_unlinked(
    inner: &Arc<Inner>,
    pass: &mut Option<Digest>,
    collected: &mut Collected,
) -> Result<bool, Error> {
    if inner.holds.load(Ordering::SeqCst) > 0 {
        return Ok(false);
    }
    let behind = *pass;
    let due = inner.metadata.read(|tx| candidates::unlinked(tx, behind.as_ref(), AT_ONCE))?;
    *pass = due.last().copied().filter(|_| due.len() == AT_ONCE);
    let (blobs, bytes) = collect_some(inner, due).await?;
    collected.blobs += blobs;
    collected.bytes += bytes;
    Ok(pass.is_some())
}

/// Removes those of these blobs that no repository links, as far as nobody holds them back; returns how many went, and their
/// bytes. The caller holds the lock of those who collect.
pub(super) async fn collect_these(inner: &Arc<Inner>, digests: Vec<Digest>) -> Result<(u64, u64), Error> {
    let mut gone = (0, 0);
    for some in digests.chunks(AT_ONCE) {
        if inner.holds.load(Ordering::SeqCst) > 0 {
            break;
        }
        let (blobs, bytes) = collect_some(inner, some.to_vec()).await?;
        gone = (gone.0 + blobs, gone.1 + bytes);
    }
    Ok(gone)
}

async fn collect_some(inner: &Arc<Inner>, due: Vec<Digest>) -> Result<(u64, u64), Error> {
    // Digests share locks, and one that is held is being pushed: its turn comes later.
    let mut locked = BTreeSet::new();
    let mut guards: Vec<DigestGuard> = Vec::new();
    for digest in due {
        if !guards.iter().any(|guard| guard.covers(&digest)) {
            let Some(guard) = inner.blobs.try_lock(&digest) else { continue };
            guards.push(guard);
        }
        locked.insert(digest);
    }
    if locked.is_empty() {
        return Ok((0, 0));
    }
    let removed = remove_unlinked(inner, locked, guards).await?;
    Ok((removed.len() as u64, removed.values().sum()))
}

/// Removes blobs that no repository links, whose locks are held; returns which went, with their sizes.
async fn remove_unlinked(
    inner: &Arc<Inner>,
    locked: BTreeSet<Digest>,
    guards: Vec<DigestGuard>,
) -> Result<HashMap<Digest, u64>, Error> {
    let removed = inner
        .metadata
        .write(move |tx| {
            let mut removed = HashMap::new();
            for digest in &locked {
                if let Some(size) = blobs::remove_unlinked(tx, digest)? {
                    removed.insert(*digest, size);
                }
                candidates::remove_unlinked(tx, digest)?;
            }
            Ok::<_, Error>(removed)
        })
        .await?;
    let worker = inner.clone();
    blocking(move || {
        for digest in removed.keys() {
            let Some(guard) = guards.iter().find(|guard| guard.covers(digest)) else { continue };
            // A file that stays is an orphan, which the next start finds.
            if let Err(error) = worker.blobs.remove(guard, digest) {
                tracing::warn!(%digest, %error, "the file of a collected blob could not be removed");
            }
        }
        Ok(removed)
    })
    .await
}
