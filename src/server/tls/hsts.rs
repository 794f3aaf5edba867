//! The advice to come by TLS only.

use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::{Next, from_fn};
use http::HeaderValue;
use http::header::STRICT_TRANSPORT_SECURITY;

use crate::http::Peer;

/// Adds the advice to every answer over TLS (RFC 6797); over anything else it mustn't be given.
pub(in crate::server) fn with_hsts(router: Router, time: Duration) -> Router {
    if time.is_zero() {
        return router;
    }
    let advice = HeaderValue::from_str(&format!("max-age={}", time.as_secs()));
    let advice = advice.expect("a number is a header's value");
    router.layer(from_fn(move |request: Request, next: Next| {
        let peer = request.extensions().get::<ConnectInfo<Peer>>();
        let advice = peer.is_some_and(|peer| peer.0.is_secure).then(|| advice.clone());
        async move {
            let mut response = next.run(request).await;
            if let Some(advice) = advice {
                response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, advice);
            }
            response
        }
    }))
}
