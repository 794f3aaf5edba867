//! How often somebody may try a wrong password.
//!
//! Failures are counted by address, and by address and user: never by user alone, or anybody could lock somebody else out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many wrong passwords an address may try in a row, and of one user; afterwards one in each pause.
const OF_ADDRESS: f64 = 50.0;
const OF_USER: f64 = 10.0;
const PAUSE_OF_ADDRESS: Duration = Duration::from_secs(2);
const PAUSE_OF_USER: Duration = Duration::from_secs(10);

/// How much is remembered at most.
const MOST: usize = 20_000;

/// Failed tries, not long ago.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<HashMap<Key, Failures>>);

type Key = (IpAddr, Option<String>);

/// Failures that are forgotten one by one.
#[derive(Debug, Clone, Copy)]
struct Failures {
    count: f64,
    at: Instant,
}

impl Failures {
    /// What is left of them.
    fn left(self, now: Instant, pause: Duration) -> f64 {
        let forgotten = now.saturating_duration_since(self.at).as_secs_f64() / pause.as_secs_f64();
        (self.count - forgotten).max(0.0)
    }
}

fn limits(key: &Key) -> (f64, Duration) {
    if key.1.is_some() { (OF_USER, PAUSE_OF_USER) } else { (OF_ADDRESS, PAUSE_OF_ADDRESS) }
}

/// Addresses that one customer usually has all of count as one.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
    }
}

impl Attempts {
    /// How long to wait before the next try, if that is not at once.
    pub(super) fn pause(&self, address: IpAddr, user: &str, now: Instant) -> Option<Duration> {
        let attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let address = network(address);
        let pauses = [(address, None), (address, Some(user.to_owned()))].into_iter().filter_map(|key| {
            let (most, pause) = limits(&key);
            let over = attempts.get(&key)?.left(now, pause) - (most - 1.0);
            (over > 0.0).then(|| pause.mul_f64(over))
        });
        pauses.max()
    }

    /// Notes a wrong password.
    pub(super) fn note_failure(&self, address: IpAddr, user: &str, now: Instant) {
        let mut attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let address = network(address);
        for key in [(address, None), (address, Some(user.to_owned()))] {
            let (_, pause) = limits(&key);
            if attempts.len() >= MOST && !attempts.contains_key(&key) {
                attempts.retain(|key, failures| failures.left(now, limits(key).1) > 0.0);
            }
            if attempts.len() >= MOST && !attempts.contains_key(&key) {
                // Whoever has so many addresses is not held up by this anyway.
                attempts.clear();
            }
            let failures = attempts.entry(key).or_insert(Failures { count: 0.0, at: now });
            *failures = Failures { count: failures.left(now, pause) + 1.0, at: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn a_guesser_has_to_wait_and_nobody_else_does() {
        let (attempts, now) = (Attempts::default(), monotonic());
        for _ in 0..10 {
            assert_eq!(attempts.pause(address(1), "anna", now), None);
            attempts.note_failure(address(1), "anna", now);
        }
        assert_eq!(attempts.pause(address(1), "anna", now), Some(PAUSE_OF_USER));
        assert_eq!(attempts.pause(address(1), "bo", now), None);
        assert_eq!(attempts.pause(address(2), "anna", now), None, "she is not locked out herself");
        assert_eq!(attempts.pause(address(1), "anna", now + PAUSE_OF_USER), None);
    }

    #[test]
    fn an_address_that_tries_many_users_has_to_wait() {
        let (attempts, now) = (Attempts::default(), monotonic());
        for at in 0..50 {
            assert_eq!(attempts.pause(address(1), &format!("user{at}"), now), None, "{at}");
            attempts.note_failure(address(1), &format!("user{at}"), now);
        }
        assert_eq!(attempts.pause(address(1), "anna", now), Some(PAUSE_OF_ADDRESS));
        assert_eq!(attempts.pause(address(2), "anna", now), None);
    }

    #[test]
    fn the_addresses_of_one_customer_count_as_one() {
        let (attempts, now) = (Attempts::default(), monotonic());
        for at in 0..10_u16 {
            let address: IpAddr = [0x2001, 0xdb8, 0, 1, 0, 0, 0, at].into();
            attempts.note_failure(address, "anna", now);
        }
        let (same, other) = ([0x2001, 0xdb8, 0, 1, 9, 9, 9, 9], [0x2001, 0xdb8, 0, 2, 0, 0, 0, 1]);
        assert!(attempts.pause(same.into(), "anna", now).is_some());
        assert!(attempts.pause(other.into(), "anna", now).is_none());
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let (attempts, now) = (Attempts::default(), monotonic());
        for at in 0..MOST {
            attempts.note_failure(address(1), &format!("user{at}"), now);
        }
        assert!(attempts.0.lock().unwrap().len() <= MOST);
        attempts.note_failure(address(2), "anna", now + Duration::from_secs(3600));
        assert!(attempts.0.lock().unwrap().len() < 10, "what is long ago makes room");
    }
}
