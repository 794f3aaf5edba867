//! Tokens whose signature was right.
//!
//! To verify a signature takes as long as dozens of requests, and clients send a token many times. So what was right is
//! remembered by a hash of the whole token.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};

use crate::clock::Timestamp;

/// How many tokens are remembered.
const MOST: usize = 4096;

/// The hash of a token.
pub(super) type TokenHash = [u8; 32];

/// What is remembered of tokens, until they expire.
#[derive(Debug)]
pub(super) struct Verified<T>(Mutex<HashMap<TokenHash, Entry<T>>>);

#[derive(Debug)]
struct Entry<T> {
    value: Arc<T>,
    until: Timestamp,
}

impl<T> Default for Verified<T> {
    fn default() -> Verified<T> {
        Verified(Mutex::default())
    }
}

/// Hashes a token.
pub(super) fn hash(token: &str) -> TokenHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

impl<T> Verified<T> {
    /// What was remembered of a token.
    pub(super) fn get(&self, hash: &TokenHash) -> Option<Arc<T>> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(hash).map(|entry| entry.value.clone())
    }

    /// Remembers something of a token.
    pub(super) fn insert(&self, hash: TokenHash, value: Arc<T>, until: Timestamp, now: Timestamp) {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MOST {
            tokens.retain(|_, entry| now < entry.until);
        }
        if tokens.len() >= MOST {
            // Each costs one more verification.
            let mut is_kept = false;
            tokens.retain(|_, _| {
                is_kept = !is_kept;
                is_kept
            });
        }
        tokens.insert(hash, Entry { value, until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let verified = Verified::default();
        let (now, later) = (Timestamp::from_millis(1), Timestamp::from_millis(2));
        for at in 0..3 * MOST {
            verified.insert(hash(&at.to_string()), Arc::new(at), later, now);
            assert!(verified.0.lock().unwrap().len() <= MOST);
            assert_eq!(verified.get(&hash(&at.to_string())).as_deref(), Some(&at));
        }
        verified.insert(hash("last"), Arc::new(0), later, later);
        verified.insert(hash("last but one"), Arc::new(0), later, later);
        let most = verified.0.lock().unwrap().len();
        assert!(most <= MOST);
        assert_eq!(verified.get(&hash("unknown")), None);
    }
}
