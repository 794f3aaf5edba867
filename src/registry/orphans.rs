//! Files of blobs that nothing names: a crash between a rename and its commit leaves them, or one between the removal of a
//! row and that of its file.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::sessions::{blocking, recorded_digest};
use super::{Error, Inner};
use crate::blobs::UploadId;
use crate::metadata::{blobs, uploads};
use crate::oci::Digest;

/// How many files are looked at between two pauses.
const AT_ONCE: usize = 1_000;

/// How long the others have the disk to themselves.
const PAUSE: Duration = Duration::from_millis(10);

/// Removes them; returns how many there were, and their bytes.
pub(super) async fn sweep(inner: &Arc<Inner>) -> Result<(u64, u64), Error> {
    let worker = inner.clone();
    blocking(move || {
        let claimed = claimed(&worker)?;
        let (mut files, mut bytes) = (0, 0);
        for (place, entry) in worker.blobs.walk().enumerate() {
            if place % AT_ONCE == AT_ONCE - 1 {
                std::thread::sleep(PAUSE);
            }
            let (digest, len) = entry?;
            if !claimed.contains(&digest) && remove(&worker, &digest)? {
                tracing::debug!(%digest, len, "removed a file that nothing names");
                files += 1;
                bytes += len;
            }
        }
        Ok((files, bytes))
    })
    .await
}

/// The blobs whose files uploads may take back, since a crash came between the rename and the commit.
fn claimed(inner: &Inner) -> Result<BTreeSet<Digest>, Error> {
    let mut recorded = Vec::new();
    inner.metadata.read(|tx| {
        recorded.clear();
        uploads::each(tx, |id, record| {
            recorded.push((UploadId::from_bytes(id), record));
            Ok(())
        })
    })?;
    let mut claimed = BTreeSet::new();
    for (id, record) in &recorded {
        if !inner.blobs.is_staged(*id)? {
            claimed.extend(recorded_digest(record));
        }
    }
    Ok(claimed)
}

/// Removes a file unless a row names it, or somebody is publishing it.
fn remove(inner: &Inner, digest: &Digest) -> Result<bool, Error> {
    let is_named = || inner.metadata.read(|tx| Ok(blobs::get(tx, digest)?.is_some()));
    if is_named()? {
        return Ok(false);
    }
    // Whoever publishes it holds the lock from before the file is there until its row is.
    let Some(guard) = inner.blobs.try_lock(digest) else { return Ok(false) };
    Ok(!is_named()? && inner.blobs.remove(&guard, digest)?)
}
