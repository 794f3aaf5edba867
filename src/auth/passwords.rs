//! Whether a password is right.
//!
//! bcrypt takes tens of milliseconds on purpose, so what was right is remembered for a while: not the password, but a keyed
//! hash of it with the user and the stored hash, under a key that this process alone has. A few passwords are checked at
//! once, on threads that may block. A user who doesn't exist takes as long as one who does.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::{hmac, rand};
use tokio::sync::Semaphore;

/// How long a password is believed that was right.
const BELIEVED: Duration = Duration::from_secs(10 * 60);

/// The most passwords that are remembered.
const MOST: usize = 10_000;

/// How many are checked at once, and how many may wait for that.
const AT_ONCE: usize = 2;
const MAY_WAIT: usize = 200;

/// The longest password; bcrypt looks at the first 72 bytes.
const MAX_PASSWORD: usize = 1024;

/// What a password of nobody is compared with.
const NOBODY_COST: u32 = 10;

/// Checks passwords. Nothing of them is ever printed.
pub(super) struct Passwords {
    key: hmac::Key,
    right: Mutex<HashMap<[u8; 32], Instant>>,
    turns: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// Too many passwords wait to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Busy;

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passwords")
    }
}

impl Passwords {
    /// With a key of its own.
    pub(super) fn new() -> Passwords {
        let mut key = [0; 32];
        // Without random numbers there is no TLS either.
        rand::fill(&mut key).expect("the system has random numbers");
        Passwords {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            right: Mutex::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(Semaphore::new(MAY_WAIT)),
        }
    }

    /// Whether the password was right for this hash not long ago.
    pub(super) fn is_known(&self, user: &str, password: &str, hash: &str, now: Instant) -> bool {
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right.get(&self.tag(user, password, hash)).is_some_and(|until| now < *until)
    }

    /// Whether the password is right for this hash; of a user who doesn't exist, never, and not sooner.
    pub(super) async fn check(
        &self,
        user: &str,
        password: &str,
        hash: Option<&str>,
        cost: Option<u32>,
        now: Instant,
    ) -> Result<bool, Busy> {
        let Ok(_place) = self.waiting.clone().try_acquire_owned() else { return Err(Busy) };
        let Ok(turn) = self.turns.clone().acquire_owned().await else { return Err(Busy) };
        let (given, stored) = (password.to_owned(), hash.map(str::to_owned));
        let checked = tokio::task::spawn_blocking(move || {
            // To its end, also where nobody waits any more.
            let _turn = turn;
            if given.len() > MAX_PASSWORD {
                return false;
            }
            if let Some(hash) = stored {
                return bcrypt::verify(&given, &hash).unwrap_or(false);
            }
            // For the time that it takes.
            let _ = bcrypt::hash_with_salt(&given, cost.unwrap_or(NOBODY_COST), [0; 16]);
            false
        });
        let is_right = checked.await.unwrap_or(false);
        if let Some(hash) = hash.filter(|_| is_right) {
            let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
            if right.len() >= MOST {
                right.retain(|_, until| now < *until);
            }
            if right.len() < MOST {
                right.insert(self.tag(user, password, hash), now + BELIEVED);
            }
        }
        Ok(is_right)
    }

    fn tag(&self, user: &str, password: &str, hash: &str) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user, password, hash] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic;

    #[tokio::test]
    async fn a_right_password_is_remembered_for_a_while_and_for_its_hash_only() {
        let (passwords, now) = (Passwords::new(), monotonic());
        let hash =
            bcrypt::hash_with_salt("sesame", 4, [7; 16]).unwrap().format_for_version(bcrypt::Version::TwoY);
        let check = async |password: &str, hash: Option<&str>| {
            passwords.check("anna", password, hash, Some(4), now).await.unwrap()
        };
        assert!(!check("open", Some(&hash)).await);
        assert!(!passwords.is_known("anna", "open", &hash, now));
        assert!(check("sesame", Some(&hash)).await);
        assert!(passwords.is_known("anna", "sesame", &hash, now));
        assert!(!passwords.is_known("anna", "sesame", &hash, now + BELIEVED));
        assert!(!passwords.is_known("bo", "sesame", &hash, now));
        assert!(!passwords.is_known("anna", "sesame", "another hash", now), "the password was changed");
        assert!(!check("sesame", None).await, "a user who doesn't exist");
        assert!(!check(&"x".repeat(MAX_PASSWORD + 1), Some(&hash)).await);
        assert_eq!(format!("{passwords:?}"), "Passwords");
    }
}
