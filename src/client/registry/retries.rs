//! When to ask again.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

use super::{Error, Outage};

/// The longest pause that isn't asked for by the upstream.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How often and how long a request that failed is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// How often a request is sent at most.
    pub attempts: u32,
    /// How long after the first attempt another one may begin.
    pub patience: Duration,
    /// The pause after the first attempt; it doubles after each, and half of it is left to chance.
    pub first_pause: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Retries { attempts: 3, patience: Duration::from_secs(10), first_pause: Duration::from_millis(200) }
    }
}

impl Retries {
    /// How long to wait before another attempt, after so many and `elapsed` since the first one began; none where no other
    /// one is made. An upstream that says when to come back is never asked before.
    pub(super) fn pause(&self, attempts: u32, elapsed: Duration, error: &Error) -> Option<Duration> {
        if attempts >= self.attempts {
            return None;
        }
        let own = {
            let doubled = self.first_pause.saturating_mul(1 << (attempts - 1).min(16)).min(LONGEST_PAUSE);
            doubled / 2 + (doubled / 2).mul_f64(chance())
        };
        let pause = match error {
            Error::RateLimited { retry_after, .. } => (*retry_after)?.max(own),
            Error::Unavailable { outage, retry_after, .. } => match outage {
                // Whoever waits has waited long enough.
                Outage::TimedOut => return None,
                Outage::Unreachable | Outage::Interrupted | Outage::Status(_) => {
                    retry_after.unwrap_or_default().max(own)
                }
            },
            Error::NotFound { .. } | Error::Denied { .. } | Error::Invalid { .. } => return None,
        };
        (elapsed.saturating_add(pause) <= self.patience).then_some(pause)
    }
}

/// A random number from 0 to 1.
fn chance() -> f64 {
    // The keys of a hasher are random.
    let random = RandomState::new().hash_one(0_u8) >> 32;
    f64::from(u32::try_from(random).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable(outage: Outage, retry_after: Option<u64>) -> Error {
        let retry_after = retry_after.map(Duration::from_secs);
        Error::Unavailable { host: "a".to_owned(), outage, reason: String::new(), retry_after }
    }

    #[test]
    fn pauses_grow_and_vary_and_end() {
        let retries = Retries { attempts: 4, ..Retries::default() };
        let error = unavailable(Outage::Status(500), None);
        for (attempts, longest) in [(1, 200), (2, 400), (3, 800)] {
            let pauses: Vec<Duration> =
                (0..50).map(|_| retries.pause(attempts, Duration::ZERO, &error).unwrap()).collect();
            let longest = Duration::from_millis(longest);
            assert!(pauses.iter().all(|pause| (longest / 2..=longest).contains(pause)), "{pauses:?}");
            assert!(pauses.iter().any(|pause| *pause != pauses[0]), "they vary");
        }
        assert_eq!(retries.pause(4, Duration::ZERO, &error), None);
        assert_eq!(retries.pause(1, retries.patience, &error), None);
    }

    #[test]
    fn nobody_is_asked_before_the_time_that_they_said() {
        let retries = Retries::default();
        let soon = retries.pause(1, Duration::ZERO, &unavailable(Outage::Status(503), Some(7)));
        assert_eq!(soon, Some(Duration::from_secs(7)));
        assert_eq!(retries.pause(1, Duration::ZERO, &unavailable(Outage::Status(503), Some(11))), None);
    }

    #[test]
    fn a_time_out_is_not_tried_again() {
        let error = unavailable(Outage::TimedOut, None);
        assert_eq!(Retries::default().pause(1, Duration::ZERO, &error), None);
    }
}
