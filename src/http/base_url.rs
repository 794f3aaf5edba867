//! The URL under which clients reach the registry.

use http::request::Parts;

use super::app::App;
use super::forwarded::{Forwarded, requested_host};
use super::peer::peer;

/// The scheme and the host by which a request has come, and the path below which the registry lies, without a slash at the end: the
/// configured URL, or else what the request itself says, and the proxies that are trusted.
pub(super) fn base_url(app: &App, parts: &Parts) -> String {
    match app.external_url() {
        "" => {
            let scheme = if is_secure(parts) { "https" } else { "http" };
            // Only a request of HTTP/1.0 names no host.
            format!("{scheme}://{}", host(parts).unwrap_or("localhost"))
        }
        url => url.to_owned(),
    }
}

/// Whether the client speaks TLS, with the registry or with a proxy that is trusted.
pub(super) fn is_secure(parts: &Parts) -> bool {
    let forwarded = parts.extensions.get::<Forwarded>().and_then(|forwarded| forwarded.is_secure);
    forwarded.unwrap_or_else(|| peer(parts).is_some_and(|peer| peer.is_secure))
}

/// The host that the client has asked for.
pub(super) fn host(parts: &Parts) -> Option<&str> {
    let forwarded = parts.extensions.get::<Forwarded>().and_then(|forwarded| forwarded.host.as_deref());
    forwarded.or_else(|| requested_host(parts))
}
