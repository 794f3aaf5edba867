//! Limits on what anybody can ask.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::{CONNECTION, HOST, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderValue, Version};

use crate::auth::{Principal, PrincipalKind, network};
use crate::clock::monotonic;
use crate::oci::RepositoryName;

use super::errors::{ApiError, ErrorCode};
use super::forwarded::is_host;
use super::peer::address;

/// How much may be asked. Zero sets no limit, unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLimits {
    /// The longest path with its query, in bytes.
    pub url_bytes: usize,
    /// Requests in a second from one address.
    pub per_address: u32,
    /// Requests in a second by one user.
    pub per_user: u32,
    /// The longest name of a repository, in bytes.
    pub name_bytes: usize,
    /// The most components of one.
    pub name_components: usize,
    /// The largest blob, in bytes.
    pub blob_bytes: u64,
    /// The largest body that is neither a blob nor a manifest, in bytes; zero takes none.
    pub body_bytes: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            url_bytes: 8 << 10,
            per_address: 0,
            per_user: 0,
            name_bytes: 255,
            name_components: 0,
            blob_bytes: 0,
            body_bytes: 1 << 20,
        }
    }
}

/// The limits, and who has asked how much.
#[derive(Debug)]
pub(super) struct Guard {
    limits: RequestLimits,
    of_addresses: Rates<IpAddr>,
    of_users: Rates<(PrincipalKind, String)>,
}

/// What answers without anybody's content, so that whoever watches over the registry is never held up.
const WATCHED: [&str; 3] = ["livez", "readyz", "metrics"];

impl Guard {
    pub(super) fn new(limits: RequestLimits) -> Guard {
        let (of_addresses, of_users) = (Rates::new(limits.per_address), Rates::new(limits.per_user));
        Guard { limits, of_addresses, of_users }
    }

    /// Refuses a request by its head: one that isn't HTTP as everybody understands it, that is too long, or one too many.
    pub(super) fn admit(&self, parts: &Parts) -> Result<(), ApiError> {
        require_host(parts)?;
        let length = parts.uri.path_and_query().map_or(0, |asked| asked.as_str().len());
        let most = self.limits.url_bytes;
        if most > 0 && length > most {
            return Err(ApiError::new(
                ErrorCode::UrlTooLong,
                format!("a path with its query may have {most} bytes at most in this registry"),
            ));
        }
        let is_watched = || {
            let path = parts.uri.path();
            WATCHED.iter().any(|watched| path.strip_suffix(watched).is_some_and(|rest| rest == "/"))
        };
        if self.of_addresses.is_off() || is_watched() {
            return Ok(());
        }
        match address(parts) {
            Some(address) => self.of_addresses.take(network(address), monotonic()).map_err(too_many),
            None => Ok(()),
        }
    }

    /// Counts a request of somebody who has said who they are.
    pub(super) fn count(&self, principal: &Principal) -> Result<(), ApiError> {
        if self.of_users.is_off() {
            return Ok(());
        }
        self.of_users.take((principal.kind, principal.name.clone()), monotonic()).map_err(too_many)
    }

    /// Refuses a name of a repository that is longer or deeper than the operator wants.
    pub(super) fn require_name(&self, name: &RepositoryName) -> Result<(), ApiError> {
        let RequestLimits { name_bytes, name_components, .. } = self.limits;
        let name = name.as_str();
        if name_bytes > 0 && name.len() > name_bytes {
            let message =
                format!("a repository's name may have {name_bytes} characters at most in this registry");
            return Err(ApiError::new(ErrorCode::NameInvalid, message));
        }
        if name_components > 0 && name.split('/').count() > name_components {
            let message =
                format!("a repository's name may have {name_components} components at most in this registry");
            return Err(ApiError::new(ErrorCode::NameInvalid, message));
        }
        Ok(())
    }

    /// Refuses a blob of so many bytes.
    pub(super) fn require_blob_size(&self, bytes: u64) -> Result<(), ApiError> {
        let most = self.limits.blob_bytes;
        if most > 0 && bytes > most {
            let message = format!("a blob may have {most} bytes at most in this registry");
            return Err(ApiError::new(ErrorCode::BlobTooLarge, message));
        }
        Ok(())
    }

    /// The longest body that is neither a blob nor a manifest.
    pub(super) fn body_bytes(&self) -> usize {
        self.limits.body_bytes
    }
}

/// The longest body that a request to the admin API may have, where it comes from elsewhere; it stands in the request's extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimit(pub(super) usize);

/// Refuses a request whose host is missing, said twice, or none (RFC 9112, section 3.2): what stands between could have understood it in
/// another way.
fn require_host(parts: &Parts) -> Result<(), ApiError> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let (host, further) = (hosts.next(), hosts.next());
    let is_fine = match host.map(HeaderValue::as_bytes) {
        None => parts.version != Version::HTTP_11,
        Some(b"") => true,
        Some(host) => further.is_none() && std::str::from_utf8(host).is_ok_and(is_host),
    };
    if is_fine {
        return Ok(());
    }
    let error = ApiError::new(ErrorCode::RequestInvalid, "a request names one host, in the header Host");
    Err(error.with_header(CONNECTION, HeaderValue::from_static("close")))
}

fn too_many(pause: Duration) -> ApiError {
    let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
    let message = format!("you send more requests than this registry lets you; go on in {seconds} s");
    ApiError::new(ErrorCode::TooManyRequests, message).with_header(RETRY_AFTER, HeaderValue::from(seconds))
}

/// For how many seconds somebody can save requests up, for the next pull of an image with many layers.
const SAVED_SECONDS: f64 = 10.0;

/// How many are remembered at most.
const MOST: usize = 20_000;

/// How often each of many may ask: so many times in a second, and ten times as many at once after a pause.
#[derive(Debug)]
struct Rates<K> {
    per_second: f64,
    buckets: Mutex<HashMap<K, Bucket>>,
}

/// What somebody may still ask.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl<K: Eq + Hash> Rates<K> {
    fn new(per_second: u32) -> Rates<K> {
        Rates { per_second: f64::from(per_second), buckets: Mutex::default() }
    }

    fn is_off(&self) -> bool {
        self.per_second <= 0.0
    }

    /// Counts a request, or says after which time there may be one.
    fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        let (rate, full) = (self.per_second, self.per_second * SAVED_SECONDS);
        let left = |bucket: &Bucket| {
            let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
            (bucket.left + passed * rate).min(full)
        };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MOST && !buckets.contains_key(&key) {
            buckets.retain(|_, bucket| left(bucket) < full);
            if buckets.len() >= MOST {
                // Whoever has so many addresses is not held up by this anyway.
                buckets.clear();
            }
        }
        let bucket = buckets.entry(key).or_insert(Bucket { left: full, at: now });
        let left = left(bucket);
        if left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - left) / rate));
        }
        *bucket = Bucket { left: left - 1.0, at: now };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_asks_as_often_as_the_rate_says_and_more_after_a_pause() {
        let (rates, now) = (Rates::new(2), monotonic());
        for asked in 0..20 {
            assert_eq!(rates.take("anna", now), Ok(()), "{asked}");
        }
        assert_eq!(rates.take("anna", now), Err(Duration::from_millis(500)));
        assert_eq!(rates.take("bo", now), Ok(()), "he has not asked");
        let later = now + Duration::from_millis(500);
        assert_eq!(rates.take("anna", later), Ok(()));
        assert_eq!(rates.take("anna", later), Err(Duration::from_millis(500)), "one request has come back");
        let rested = now + Duration::from_secs(3600);
        for asked in 0..20 {
            assert_eq!(rates.take("anna", rested), Ok(()), "{asked}");
        }
        assert!(rates.take("anna", rested).is_err(), "no more is saved up");
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let (rates, now) = (Rates::new(1), monotonic());
        for user in 0..MOST {
            assert_eq!(rates.take(user, now), Ok(()));
        }
        assert!(rates.take(MOST, now).is_ok());
        assert!(rates.buckets.lock().unwrap().len() <= MOST);
        assert!(rates.take(0, now + Duration::from_secs(60)).is_ok());
    }

    #[test]
    fn zero_is_no_rate() {
        assert!(Rates::<u8>::new(0).is_off());
        assert!(!Rates::<u8>::new(1).is_off());
    }
}
