//! One at a time for each digest.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::oci::Digest;

/// Who works on which digest.
#[derive(Debug, Default)]
pub(super) struct Turns(RefCell<HashMap<Digest, Arc<Mutex<()>>>>);

/// The right to work on a digest; others wait until it is dropped.
pub(super) struct Turn<'t> {
    turns: &'t Turns,
    digest: Digest,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits until nobody else works on the digest.
    pub(super) async fn of(&self, digest: &Digest) -> Turn<'_> {
        let lock = self.0.borrow_mut().entry(*digest).or_default().clone();
        let guard = lock.lock_owned().await;
        Turn { turns: self, digest: *digest, guard: Some(guard) }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        drop(self.guard.take());
        let mut turns = self.turns.0.borrow_mut();
        // Whoever waits has the lock too.
        if turns.get(&self.digest).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            turns.remove(&self.digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::DigestAlgorithm;

    #[tokio::test]
    async fn a_digest_is_worked_on_by_one_at_a_time_and_then_forgotten() {
        let turns = Turns::default();
        let [one, other] = [b"one", b"two"].map(|text| Digest::of(DigestAlgorithm::Sha256, text));
        let first = turns.of(&one).await;
        let beside = turns.of(&other).await;
        {
            let waiting = turns.of(&one);
            tokio::pin!(waiting);
            tokio::select! {
                biased;
                _ = waiting.as_mut() => panic!("somebody else works on it"),
                () = std::future::ready(()) => {}
            }
            drop(first);
            drop(waiting.await);
        }
        drop(beside);
        assert!(turns.0.borrow().is_empty());
    }
}
