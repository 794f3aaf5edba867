//! Where a request comes from, as events tell of it.

use http::header::USER_AGENT;
use http::request::Parts;
use http::{HeaderMap, HeaderName};

use crate::registry::{Actor, EventRequest, Origin};

use super::app::App;
use super::base_url::{base_url, host};
use super::observe::request_id;
use super::peer::remote;

/// The longest piece of a header that an event repeats, in bytes.
const MAX_BYTES: usize = 512;

/// Who asks, and by which request.
pub(super) fn origin(app: &App, parts: &Parts, actor: Actor) -> Origin {
    let request = EventRequest {
        id: request_id(&parts.extensions).map_or_else(String::new, ToString::to_string),
        addr: remote(parts).map_or_else(String::new, |remote| remote.to_string()),
        host: host(parts).unwrap_or_default().to_owned(),
        method: parts.method.to_string(),
        user_agent: text(&parts.headers, &USER_AGENT),
        base_url: base_url(app, parts),
    };
    Origin::with_request(actor, request)
}

/// A header as text, bounded; nothing where it is missing or not ASCII.
fn text(headers: &HeaderMap, name: &HeaderName) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.chars().take(MAX_BYTES).collect()
}
