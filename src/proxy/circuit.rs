//! Whether an upstream is asked at all.
//!
//! After a failure it is left alone for a while, so that nobody waits for what has just failed: for as long as it asks for, or
//! else longer after each failure. Then one request finds out whether it is back.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Error;
use crate::client::registry as upstream;

/// For how long an upstream is left alone after the first failure, and at most.
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(5 * 60);

/// For how long one is left alone that has had enough and doesn't say when to come back, and the longest that it may ask for.
const LIMITED: Duration = Duration::from_secs(60);
const LONGEST_LIMITED: Duration = Duration::from_secs(6 * 60 * 60);

/// How long the others wait for the one that finds out.
const PROBE: Duration = Duration::from_secs(60);

/// Lets requests to an upstream through, or not.
#[derive(Debug, Default)]
pub(super) struct Circuit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The failures since the last answer.
    failures: u32,
    open: Option<Open>,
}

#[derive(Debug, Clone)]
struct Open {
    since: Instant,
    until: Instant,
    is_limited: bool,
    reason: String,
}

impl Circuit {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says why the upstream is left alone; whoever comes when that time is over finds out whether it is back.
    pub(super) fn enter(&self, now: Instant) -> Result<Entered<'_>, Error> {
        let mut state = self.state();
        let entered = |probe| Entered { circuit: self, at: now, probe };
        let Some(open) = &mut state.open else { return Ok(entered(None)) };
        if now >= open.until {
            open.until = now + PROBE;
            return Ok(entered(Some(open.until)));
        }
        let (reason, retry_after) = (open.reason.clone(), open.until - now);
        Err(if open.is_limited {
            Error::RateLimited { reason, retry_after }
        } else {
            Error::Unavailable { reason, retry_after }
        })
    }

    /// Whether the last request has failed.
    pub(super) fn is_open(&self) -> bool {
        self.state().open.is_some()
    }

    /// Why the upstream is left alone now, and how much longer.
    pub(super) fn left_alone(&self, now: Instant) -> Option<(String, Duration)> {
        let state = self.state();
        let open = state.open.as_ref().filter(|open| now < open.until)?;
        Some((open.reason.clone(), open.until - now))
    }

    /// Notes how a request went that began at `began`. What began before the upstream was left alone says nothing new: of all
    /// that an outage breaks off at once the first counts.
    fn note<T>(&self, result: &Result<T, upstream::Error>, began: Instant, now: Instant) {
        let mut state = self.state();
        let is_limited = matches!(result, Err(upstream::Error::RateLimited { .. }));
        if state.open.as_ref().is_some_and(|open| began < open.since && (open.is_limited || !is_limited)) {
            return;
        }
        let (is_limited, until) = match result {
            Err(upstream::Error::RateLimited { retry_after, .. }) => {
                (true, now + retry_after.unwrap_or(LIMITED).min(LONGEST_LIMITED))
            }
            Err(upstream::Error::Unavailable { retry_after, .. }) => {
                state.failures = state.failures.saturating_add(1);
                let own = FIRST.saturating_mul(1 << (state.failures - 1).min(16)).min(LONGEST);
                (false, now + retry_after.unwrap_or(own).min(LONGEST_LIMITED))
            }
            // Whatever it says, it is there.
            Ok(_)
            | Err(
                upstream::Error::NotFound { .. }
                | upstream::Error::Denied { .. }
                | upstream::Error::Invalid { .. },
            ) => {
                *state = State::default();
                return;
            }
        };
        let reason = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
        state.open = Some(Open { since: now, until, is_limited, reason });
    }
}

/// A request that was let through. One that is given up without an answer lets the next one find out.
#[derive(Debug)]
pub(super) struct Entered<'a> {
    circuit: &'a Circuit,
    at: Instant,
    /// Until when the others wait for this one.
    probe: Option<Instant>,
}

impl Entered<'_> {
    /// Notes how the request went.
    pub(super) fn note<T>(mut self, result: &Result<T, upstream::Error>, now: Instant) {
        self.probe = None;
        self.circuit.note(result, self.at, now);
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let Some(probe) = self.probe else { return };
        if let Some(open) = self.circuit.state().open.as_mut().filter(|open| open.until == probe) {
            open.until = self.at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::registry::{Outage, RateLimit};
    use crate::clock::monotonic;

    fn down(retry_after: Option<Duration>) -> Result<(), upstream::Error> {
        let (outage, reason) = (Outage::TimedOut, "nothing came".to_owned());
        Err(upstream::Error::Unavailable { host: "a".to_owned(), outage, reason, retry_after })
    }

    fn retry_after(circuit: &Circuit, now: Instant) -> Option<Duration> {
        match circuit.enter(now) {
            Err(Error::Unavailable { retry_after, .. } | Error::RateLimited { retry_after, .. }) => {
                Some(retry_after)
            }
            _ => None,
        }
    }

    #[test]
    fn a_failure_opens_it_for_longer_each_time_and_an_answer_closes_it() {
        let (circuit, mut now) = (Circuit::default(), monotonic());
        for seconds in [10, 20, 40, 80, 160, 300, 300] {
            circuit.enter(now).expect("one finds out").note(&down(None), now);
            assert_eq!(retry_after(&circuit, now), Some(Duration::from_secs(seconds)));
            now += Duration::from_secs(seconds);
        }
        let probe = circuit.enter(now).unwrap();
        assert!(circuit.enter(now).is_err(), "the others wait for the one that finds out");
        probe.note(&Ok(()), now);
        assert!(circuit.enter(now).is_ok());
        circuit.note(&down(None), now, now);
        assert_eq!(retry_after(&circuit, now), Some(FIRST), "the count began anew");
    }

    #[test]
    fn who_asks_to_be_left_alone_is() {
        let (circuit, now) = (Circuit::default(), monotonic());
        let limited = |retry_after| -> Result<(), upstream::Error> {
            let limit = RateLimit::default();
            Err(upstream::Error::RateLimited { host: "a".to_owned(), retry_after, limit })
        };
        circuit.note(&limited(Some(Duration::from_secs(900))), now, now);
        assert!(matches!(circuit.enter(now), Err(Error::RateLimited { .. })));
        assert_eq!(retry_after(&circuit, now), Some(Duration::from_secs(900)));
        circuit.note(&limited(None), now, now);
        assert_eq!(retry_after(&circuit, now), Some(LIMITED));
        circuit.note(&limited(Some(Duration::MAX)), now, now);
        assert_eq!(retry_after(&circuit, now), Some(LONGEST_LIMITED));
        circuit.note(&down(Some(Duration::from_secs(1))), now, now);
        assert_eq!(retry_after(&circuit, now), Some(Duration::from_secs(1)));
    }

    #[test]
    fn an_upstream_that_says_no_is_there() {
        let (circuit, now) = (Circuit::default(), monotonic());
        circuit.note(&down(None), now, now);
        let missing = upstream::Error::NotFound {
            host: "a".to_owned(),
            what: upstream::Missing::Manifest,
            reason: String::new(),
        };
        circuit.note::<()>(&Err(missing), now, now);
        assert!(circuit.enter(now).is_ok());
    }

    #[test]
    fn what_an_outage_breaks_off_at_once_is_one_failure() {
        let (circuit, began) = (Circuit::default(), monotonic());
        let under_way: Vec<_> = (0..6).map(|_| circuit.enter(began).unwrap()).collect();
        let late = circuit.enter(began).unwrap();
        let now = began + Duration::from_secs(1);
        for entered in under_way {
            entered.note(&down(None), now);
        }
        assert_eq!(retry_after(&circuit, now), Some(FIRST));
        late.note(&Ok(()), now);
        assert_eq!(
            retry_after(&circuit, now),
            Some(FIRST),
            "an answer to what was asked before says nothing"
        );
    }

    #[test]
    fn who_gives_up_leaves_it_to_the_next_one_to_find_out() {
        let (circuit, now) = (Circuit::default(), monotonic());
        circuit.note(&down(None), now, now);
        let later = now + FIRST;
        let probe = circuit.enter(later).unwrap();
        assert!(circuit.enter(later).is_err());
        drop(probe);
        assert!(circuit.enter(later).is_ok());
    }
}
