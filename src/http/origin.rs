//! Where a request comes from, as events tell of it.

use http::header::{HOST, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName};

use crate::registry::{Actor, EventRequest, Origin};
use crate::telemetry::RequestId;

use super::peer::peer;
use super::service::App;

/// The longest piece of a header that an event repeats, in bytes.
const MAX_BYTES: usize = 512;

/// Whether a proxy in front of the registry was reached by TLS.
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Who asks, and by which request.
pub(super) fn origin(app: &App, parts: &Parts, actor: Actor) -> Origin {
    let host = text(&parts.headers, &HOST);
    let base_url = match app.external_url() {
        "" => {
            let is_secure = text(&parts.headers, &FORWARDED_PROTO).eq_ignore_ascii_case("https");
            format!("{}://{host}", if is_secure { "https" } else { "http" })
        }
        url => url.to_owned(),
    };
    let request = EventRequest {
        id: parts.extensions.get::<RequestId>().map_or_else(String::new, ToString::to_string),
        addr: peer(parts)
            .and_then(|peer| peer.address)
            .map_or_else(String::new, |address| address.to_string()),
        host,
        method: parts.method.to_string(),
        user_agent: text(&parts.headers, &USER_AGENT),
        base_url,
    };
    Origin::with_request(actor, request)
}

/// A header as text, bounded; nothing where it is missing or not ASCII.
fn text(headers: &HeaderMap, name: &HeaderName) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.chars().take(MAX_BYTES).collect()
}
