//! What an upstream says of how much may be asked.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;

use crate::clock::{Clock, Timestamp};

/// The state of an upstream's limit, as `RateLimit-Limit` and `RateLimit-Remaining` tell it, Docker Hub's with the window
/// behind a semicolon: `100;w=21600`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateLimit {
    /// How many pulls a window allows.
    pub limit: Option<u64>,
    /// How many of them are left.
    pub remaining: Option<u64>,
    /// How long a window is.
    pub window: Option<Duration>,
}

impl RateLimit {
    /// Whether nothing was said.
    pub fn is_unknown(&self) -> bool {
        *self == RateLimit::default()
    }

    /// Reads the headers; what is malformed counts as not said.
    pub(super) fn of(headers: &HeaderMap) -> RateLimit {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (limit, window) = quota(text("ratelimit-limit"));
        let (remaining, other) = quota(text("ratelimit-remaining"));
        RateLimit { limit, remaining, window: window.or(other) }
    }
}

/// Reads `100;w=21600`.
fn quota(text: &str) -> (Option<u64>, Option<Duration>) {
    let mut parts = text.split(';').map(str::trim);
    let count = parts.next().and_then(|part| part.parse().ok());
    let window = parts.find_map(|part| part.strip_prefix("w=")?.parse().ok().map(Duration::from_secs));
    (count, window)
}

/// Reads `Retry-After`, in seconds or as a date; a date that has passed is now.
pub(super) fn retry_after(headers: &HeaderMap, clock: &dyn Clock) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = text.parse().ok().map(Duration::from_secs);
    seconds.or_else(|| Some(Timestamp::from_http_date(text)?.since(clock.now())))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::clock::ManualClock;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn limits_are_read_as_docker_hub_writes_them() {
        let limit = RateLimit::of(&headers(&[
            ("ratelimit-limit", "100;w=21600"),
            ("ratelimit-remaining", "76;w=21600"),
        ]));
        let window = Some(Duration::from_secs(21600));
        assert_eq!(limit, RateLimit { limit: Some(100), remaining: Some(76), window });
        let plain = RateLimit::of(&headers(&[("ratelimit-remaining", "0")]));
        assert_eq!(plain, RateLimit { remaining: Some(0), ..RateLimit::default() });
        assert!(RateLimit::of(&headers(&[("ratelimit-limit", "many;w=-1")])).is_unknown());
    }

    #[test]
    fn the_time_to_come_back_is_read_in_both_forms() {
        // Sun, 06 Nov 1994 08:49:37 GMT
        let clock = ManualClock::new(Timestamp::from_millis(784_111_777_000));
        for (text, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            let read = retry_after(&headers(&[("retry-after", text)]), &clock);
            assert_eq!(read, seconds.map(Duration::from_secs), "{text}");
        }
    }
}
