//! One holder per digest, among those who publish or remove.

use crate::oci::Digest;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// The number of locks; two digests share one once in so many times, which costs a wait and nothing else.
const SHARDS: usize = 1024;

/// The locks of all digests.
#[derive(Debug)]
pub(super) struct DigestLocks {
    shards: Vec<Arc<Mutex<()>>>,
}

/// The right to publish or remove one digest's file, held from the decision to the commit that records it.
///
/// A task holds at most one: digests share locks, so that a second one might wait for the first.
#[derive(Debug)]
pub struct DigestGuard {
    shard: usize,
    _held: OwnedMutexGuard<()>,
}

impl DigestGuard {
    /// Whether this guard covers `digest`.
    pub fn covers(&self, digest: &Digest) -> bool {
        self.shard == shard_of(digest)
    }
}

impl DigestLocks {
    /// Locks that nobody holds.
    pub(super) fn new() -> DigestLocks {
        DigestLocks { shards: (0..SHARDS).map(|_| Arc::default()).collect() }
    }

    /// Waits for the digest's lock without blocking the thread.
    pub(super) async fn lock(&self, digest: &Digest) -> DigestGuard {
        let shard = shard_of(digest);
        DigestGuard { shard, _held: Arc::clone(&self.shards[shard]).lock_owned().await }
    }

    /// The digest's lock, if nobody holds it.
    pub(super) fn try_lock(&self, digest: &Digest) -> Option<DigestGuard> {
        let shard = shard_of(digest);
        Arc::clone(&self.shards[shard]).try_lock_owned().ok().map(|held| DigestGuard { shard, _held: held })
    }

    /// Waits for the digest's lock on a thread that may block; panics on an async one.
    pub(super) fn lock_blocking(&self, digest: &Digest) -> DigestGuard {
        let shard = shard_of(digest);
        DigestGuard { shard, _held: Arc::clone(&self.shards[shard]).blocking_lock_owned() }
    }
}

/// The lock that covers a digest; keyed by a hash, since the bytes are the client's to choose.
fn shard_of(digest: &Digest) -> usize {
    let mut hasher = DefaultHasher::new();
    digest.hash(&mut hasher);
    usize::try_from(hasher.finish() % SHARDS as u64).expect("less than the number of shards")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_digest_has_one_holder_at_a_time() {
        let locks = DigestLocks::new();
        let one = Digest::sha256(&[1; 32]);
        let held = locks.lock_blocking(&one);
        assert!(held.covers(&one));
        assert!(locks.lock(&one).now_or_never().is_none());
        let other = (2..=255).map(|i| Digest::sha256(&[i; 32])).find(|other| !held.covers(other)).unwrap();
        assert!(locks.lock(&other).now_or_never().is_some());
        drop(held);
        assert!(locks.lock(&one).now_or_never().is_some());
    }
}
