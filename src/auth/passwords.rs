//! Whether a password is right.
//!
//! bcrypt takes tens of milliseconds on purpose, so what was right is remembered for a while: not the password, but a keyed
//! hash of it with the user and the stored hash, under a key that this process alone has. A few passwords are checked at
//! once, on threads that may block. A wrong password takes the same work whosever it was to be, also for a user who doesn't
//! exist: as much as the most expensive of all stored hashes.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::{hmac, rand};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::htpasswd;
use crate::registry::PasswordHash;
use crate::secret::Secret;

/// How long a password is believed that was right.
const BELIEVED: Duration = Duration::from_secs(10 * 60);

/// The most passwords that are remembered.
const MOST: usize = 10_000;

/// How many are checked at once, and how many may wait for that.
const AT_ONCE: usize = 2;
const MAY_WAIT: usize = 200;

/// The longest password; bcrypt looks at the first 72 bytes.
const MAX_PASSWORD: usize = 1024;
const BCRYPT_LOOKS_AT: usize = 72;

/// The work factor of new hashes, and of what a password of nobody is compared with where there is no other.
const COST: u32 = 10;

/// Why a password can't be somebody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NewPasswordError {
    /// There is none.
    #[error("the password is empty; choose another one")]
    Empty,
    /// Its end would mean nothing.
    #[error(
        "the password has more than {BCRYPT_LOOKS_AT} bytes, of which bcrypt would ignore the rest; choose a shorter one"
    )]
    TooLong,
    /// Clients can't send it.
    #[error("the password has a control character, such as a line end or a tab; choose another one")]
    Control,
    /// The system has no random numbers.
    #[error("the password can't be hashed: the system gives no random numbers")]
    Unhashed,
}

/// Hashes a password that somebody is to have. Blocks for tens of milliseconds.
pub fn hash_password(password: &str) -> Result<PasswordHash, NewPasswordError> {
    if password.is_empty() {
        return Err(NewPasswordError::Empty);
    }
    if password.len() > BCRYPT_LOOKS_AT {
        return Err(NewPasswordError::TooLong);
    }
    if password.chars().any(char::is_control) {
        return Err(NewPasswordError::Control);
    }
    let parts = bcrypt::hash_with_result(password, COST).map_err(|_| NewPasswordError::Unhashed)?;
    // As htpasswd calls it; there is no difference.
    Ok(PasswordHash::new(parts.format_for_version(bcrypt::Version::TwoY)))
}

/// The work factors of further hashes that make a check of a hash of `own` as much work as one of `most`: each factor is twice
/// the work of the one below it.
fn padding(own: u32, most: u32) -> Range<u32> {
    own..most
}

/// Checks passwords. Nothing of them is ever printed.
pub(super) struct Passwords {
    key: hmac::Key,
    right: Mutex<HashMap<[u8; 32], Instant>>,
    turns: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// The right to have a password checked now.
#[derive(Debug)]
pub(super) struct Turn {
    _place: OwnedSemaphorePermit,
    _turn: OwnedSemaphorePermit,
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

    /// Waits for a turn. What others have shown or failed to show before is known when it comes, if they kept theirs until then.
    pub(super) async fn turn(&self) -> Result<Turn, Busy> {
        let Ok(place) = self.waiting.clone().try_acquire_owned() else { return Err(Busy) };
        let Ok(turn) = self.turns.clone().acquire_owned().await else { return Err(Busy) };
        Ok(Turn { _place: place, _turn: turn })
    }

    /// Whether the password is right for this hash; of a user who doesn't exist, never, and not sooner. `cost` is the largest work
    /// factor of all hashes. Gives the turn back, none where the check broke off.
    pub(super) async fn check(
        &self,
        turn: Turn,
        user: &str,
        password: &str,
        hash: Option<&str>,
        cost: Option<u32>,
        now: Instant,
    ) -> (bool, Option<Turn>) {
        let (given, stored) = (Secret::from(password), hash.map(str::to_owned));
        let checked = tokio::task::spawn_blocking(move || {
            // The turn is held to the end, also where nobody waits any more.
            if given.reveal().len() > MAX_PASSWORD {
                return (false, turn);
            }
            let most = cost.unwrap_or(COST);
            // For the time that they take.
            let further = match stored {
                Some(hash) if bcrypt::verify(given.reveal(), &hash).unwrap_or(false) => return (true, turn),
                Some(hash) => padding(htpasswd::cost(&hash).unwrap_or(most), most),
                None => most..most + 1,
            };
            for cost in further {
                let _ = bcrypt::hash_with_salt(given.reveal(), cost, [0; 16]);
            }
            (false, turn)
        });
        let (is_right, turn) = match checked.await {
            Ok((is_right, turn)) => (is_right, Some(turn)),
            Err(_) => (false, None),
        };
        if let Some(hash) = hash.filter(|_| is_right) {
            let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
            if right.len() >= MOST {
                right.retain(|_, until| now < *until);
            }
            if right.len() < MOST {
                right.insert(self.tag(user, password, hash), now + BELIEVED);
            }
        }
        (is_right, turn)
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
    async fn no_more_is_remembered_than_there_is_room_for() {
        let (passwords, now) = (Passwords::new(), monotonic());
        let hash =
            bcrypt::hash_with_salt("sesame", 4, [7; 16]).unwrap().format_for_version(bcrypt::Version::TwoY);
        let check = async |now: Instant| {
            let turn = passwords.turn().await.unwrap();
            assert!(passwords.check(turn, "anna", "sesame", Some(&hash), Some(4), now).await.0);
        };
        for at in 0..MOST as u64 {
            let mut tag = [0; 32];
            tag[..8].copy_from_slice(&at.to_be_bytes());
            passwords.right.lock().unwrap().insert(tag, now + BELIEVED);
        }
        check(now).await;
        assert_eq!(passwords.right.lock().unwrap().len(), MOST);
        check(now + BELIEVED).await;
        assert_eq!(passwords.right.lock().unwrap().len(), 1, "what is not believed any more makes room");
        let another = Passwords::new();
        assert_ne!(passwords.tag("a", "b", "c"), another.tag("a", "b", "c"), "the key is this process's own");
        assert_ne!(passwords.tag("a", "bc", "d"), passwords.tag("ab", "c", "d"));
    }

    #[test]
    fn a_wrong_password_takes_the_same_work_for_everybody() {
        let work = |costs: Range<u32>| costs.map(|cost| 1_u64 << cost).sum::<u64>();
        for own in 4..=16 {
            for most in own..=16 {
                assert_eq!((1 << own) + work(padding(own, most)), 1 << most, "{own} of {most}");
            }
        }
    }

    #[test]
    fn a_new_password_is_whole_in_its_hash() {
        let hash = hash_password("sesame").unwrap();
        assert!(hash.reveal().starts_with("$2y$10$") && bcrypt::verify("sesame", hash.reveal()).unwrap());
        assert_eq!(hash_password("").unwrap_err(), NewPasswordError::Empty);
        assert_eq!(hash_password(&"x".repeat(73)).unwrap_err(), NewPasswordError::TooLong);
        for text in ["a\nb", "a\0b", "a\tb"] {
            assert_eq!(hash_password(text).unwrap_err(), NewPasswordError::Control, "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_right_password_is_remembered_for_a_while_and_for_its_hash_only() {
        let (passwords, now) = (Passwords::new(), monotonic());
        let hash =
            bcrypt::hash_with_salt("sesame", 4, [7; 16]).unwrap().format_for_version(bcrypt::Version::TwoY);
        let check = async |password: &str, hash: Option<&str>| {
            let turn = passwords.turn().await.unwrap();
            passwords.check(turn, "anna", password, hash, Some(4), now).await.0
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
