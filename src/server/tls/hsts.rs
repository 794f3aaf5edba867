//! The advice to come by TLS only.

use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use futures_util::FutureExt;
use http::header::STRICT_TRANSPORT_SECURITY;
use http::{HeaderValue, Response};

use crate::http::{Peer, Respond};

/// Adds the advice to every answer over TLS (RFC 6797); over anything else it mustn't be given.
#[derive(Debug, Clone)]
pub(in crate::server) struct Hsts<R> {
    inner: R,
    advice: Option<HeaderValue>,
}

impl<R> Hsts<R> {
    /// Advises for this long; for no time, not at all.
    pub(in crate::server) fn new(inner: R, time: Duration) -> Hsts<R> {
        let advice = || HeaderValue::from_str(&format!("max-age={}", time.as_secs()));
        let advice = (!time.is_zero()).then(|| advice().expect("a number is a header's value"));
        Hsts { inner, advice }
    }
}

impl<R: Respond> Respond for Hsts<R> {
    type Body = R::Body;

    fn respond(self, request: Request) -> impl Future<Output = Response<R::Body>> + Send + 'static {
        let peer = request.extensions().get::<ConnectInfo<Peer>>();
        let advice = self.advice.filter(|_| peer.is_some_and(|peer| peer.0.is_secure));
        self.inner.respond(request).map(|mut response| {
            if let Some(advice) = advice {
                response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, advice);
            }
            response
        })
    }
}
