//! Tokens of upstreams' token services, kept until shortly before they end.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use serde::Deserialize;

use super::Error;
use crate::clock::{Clock, Timestamp};

/// How long a token holds where the service doesn't say.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);

/// The most tokens that are kept.
const MAX_TOKENS: usize = 4096;

/// The longest token that is sent; servers refuse longer headers.
const MAX_TOKEN: usize = 64 << 10;

/// What a token is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TokenKey {
    pub(super) realm: String,
    pub(super) service: Option<String>,
    pub(super) scope: String,
}

/// A token as a request sends it.
#[derive(Clone)]
pub(super) struct Token {
    /// `Bearer …`, marked as sensitive.
    pub(super) authorization: HeaderValue,
    /// Which of the tokens for its key it is.
    serial: u64,
    /// When it is fetched anew.
    until: Timestamp,
    since: Timestamp,
}

impl Token {
    fn holds(&self, now: Timestamp) -> bool {
        self.since <= now && now < self.until
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.serial)
    }
}

/// The answer of a token service.
#[derive(Deserialize)]
struct Granted {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// What a token service grants: `Bearer …`, and for how long.
pub(super) struct Grant {
    authorization: HeaderValue,
    life: Duration,
}

impl Grant {
    /// Reads a token service's answer; none where there is no token in it that can be sent.
    pub(super) fn parse(body: &[u8]) -> Option<Grant> {
        let granted: Granted = serde_json::from_slice(body).ok()?;
        let is_sendable = |token: &String| !token.is_empty() && token.len() <= MAX_TOKEN;
        let token = granted.token.into_iter().chain(granted.access_token).find(is_sendable)?;
        let mut authorization = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
        authorization.set_sensitive(true);
        let life =
            granted.expires_in.filter(|seconds| *seconds > 0).map_or(DEFAULT_LIFE, Duration::from_secs);
        Some(Grant { authorization, life })
    }
}

/// The tokens of an upstream. For each key one request is under way at a time, whose outcome all get who wait for it.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    slots: Mutex<HashMap<TokenKey, Arc<Slot>>>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Locked while a token is fetched.
    state: tokio::sync::Mutex<State>,
    /// How many fetches have ended.
    ended: AtomicU64,
    /// When it was last wanted, for choosing what to forget.
    wanted: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    token: Option<Token>,
    serial: u64,
    /// Why the last fetch failed, if it did.
    failure: Option<Error>,
}

impl Tokens {
    /// Returns the token for a key that is kept, or the one that `fetch` gets. `refused` is one that the upstream didn't take:
    /// it is never returned. The answer says whether the token was kept from before, so that a fresh one may still help.
    pub(super) async fn get<F: Future<Output = Result<Grant, Error>>>(
        &self,
        key: &TokenKey,
        refused: Option<&Token>,
        clock: &dyn Clock,
        fetch: impl FnOnce() -> F,
    ) -> Result<(Token, bool), Error> {
        let slot = self.slot(key, clock.now());
        let ended = slot.ended.load(Ordering::SeqCst);
        let mut state = slot.state.lock().await;
        let is_usable = |token: &&Token| {
            token.holds(clock.now()) && refused.is_none_or(|refused| token.serial > refused.serial)
        };
        if let Some(token) = state.token.as_ref().filter(is_usable) {
            // One that another request fetched because the same token was refused is as fresh as one's own.
            return Ok((token.clone(), refused.is_none()));
        }
        if slot.ended.load(Ordering::SeqCst) > ended
            && let Some(failure) = &state.failure
        {
            return Err(failure.clone());
        }
        // From before the request, since that is when the service may begin to count.
        let since = clock.now();
        let outcome = fetch().await;
        slot.ended.fetch_add(1, Ordering::SeqCst);
        match outcome {
            Ok(Grant { authorization, life }) => {
                state.serial = state.serial.max(refused.map_or(0, |refused| refused.serial)) + 1;
                let margin = (life / 10).min(Duration::from_secs(30));
                let until = since.saturating_add(life.saturating_sub(margin));
                let token = Token { authorization, serial: state.serial, until, since };
                state.token = Some(token.clone());
                state.failure = None;
                Ok((token, false))
            }
            Err(error) => {
                state.token = None;
                state.failure = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Forgets all of them. Who waits for one that is being fetched still gets it.
    pub(super) fn forget(&self) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn slot(&self, key: &TokenKey, now: Timestamp) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MAX_TOKENS && !slots.contains_key(key) {
            forget_half(&mut slots);
        }
        let slot = slots.entry(key.clone()).or_default();
        slot.wanted.store(now.millis(), Ordering::SeqCst);
        slot.clone()
    }
}

/// Forgets the tokens that nobody has wanted for longest.
fn forget_half(slots: &mut HashMap<TokenKey, Arc<Slot>>) {
    let mut ages: Vec<u64> = slots.values().map(|slot| slot.wanted.load(Ordering::SeqCst)).collect();
    ages.sort_unstable();
    let oldest_kept = ages.get(ages.len() / 2).copied().unwrap_or_default();
    let mut left = slots.len() / 2;
    slots.retain(|_, slot| {
        let is_kept = slot.wanted.load(Ordering::SeqCst) >= oldest_kept && left > 0;
        left -= usize::from(is_kept);
        is_kept
    });
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::clock::ManualClock;

    fn key(scope: &str) -> TokenKey {
        TokenKey { realm: "https://a/token".to_owned(), service: None, scope: scope.to_owned() }
    }

    async fn get(tokens: &Tokens, clock: &ManualClock, body: &str) -> String {
        let grant = || async { Ok(Grant::parse(body.as_bytes()).unwrap()) };
        let (token, _) = tokens.get(&key("x"), None, clock, grant).await.unwrap();
        token.authorization.to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_token_is_kept_until_shortly_before_its_end() {
        let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
        let tokens = Tokens::default();
        assert_eq!(get(&tokens, &clock, r#"{"token":"one"}"#).await, "Bearer one");
        clock.advance(Duration::from_secs(53));
        assert_eq!(get(&tokens, &clock, r#"{"token":"two"}"#).await, "Bearer one");
        clock.advance(Duration::from_secs(1));
        assert_eq!(get(&tokens, &clock, r#"{"access_token":"two","expires_in":300}"#).await, "Bearer two");
        clock.advance(Duration::from_secs(269));
        assert_eq!(get(&tokens, &clock, r#"{"token":"three"}"#).await, "Bearer two");
        clock.advance(Duration::from_secs(1));
        assert_eq!(get(&tokens, &clock, r#"{"token":"three"}"#).await, "Bearer three");
        clock.set(Timestamp::from_millis(0));
        assert_eq!(
            get(&tokens, &clock, r#"{"token":"four"}"#).await,
            "Bearer four",
            "after the clock was set back"
        );
    }

    #[tokio::test]
    async fn all_who_wait_share_one_outcome() {
        let clock = ManualClock::new(Timestamp::from_millis(1_000_000));
        let tokens = Tokens::default();
        let (fetches, error) = (Cell::new(0), Error::invalid("a", "no"));
        let one = |is_granted: bool| {
            let (fetches, error, tokens, clock) = (&fetches, &error, &tokens, &clock);
            async move {
                let fetch = || async move {
                    fetches.set(fetches.get() + 1);
                    tokio::task::yield_now().await;
                    if is_granted {
                        Ok(Grant::parse(br#"{"token":"t"}"#).unwrap())
                    } else {
                        Err(error.clone())
                    }
                };
                tokens.get(&key("x"), None, clock, fetch).await
            }
        };
        let failed = futures_util::future::join_all((0..50).map(|_| one(false))).await;
        assert!(failed.iter().all(|outcome| outcome.as_ref().err() == Some(&error)));
        assert_eq!(fetches.replace(0), 1, "a failure is shared by those who waited");
        let granted = futures_util::future::join_all((0..50).map(|_| one(true))).await;
        assert!(granted.iter().all(Result::is_ok));
        assert_eq!(fetches.get(), 1, "and not remembered after them");
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for body in ["", "[]", "{}", r#"{"token":""}"#, r#"{"token":"a\nb"}"#, r#"{"token":7}"#] {
            assert!(Grant::parse(body.as_bytes()).is_none(), "{body}");
        }
        let long = format!(r#"{{"token":"{}"}}"#, "x".repeat(MAX_TOKEN + 1));
        assert!(Grant::parse(long.as_bytes()).is_none());
    }

    #[test]
    fn tokens_of_many_names_are_bounded() {
        let tokens = Tokens::default();
        for number in 0..3 * MAX_TOKENS as u64 {
            tokens.slot(&key(&number.to_string()), Timestamp::from_millis(number / 3));
        }
        let slots = tokens.slots.lock().unwrap();
        assert!(slots.len() <= MAX_TOKENS);
        assert!(slots.contains_key(&key(&(3 * MAX_TOKENS - 1).to_string())));
    }
}
