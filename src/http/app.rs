//! What the handlers share.

use std::sync::Arc;

use http::HeaderValue;

use crate::auth;
use crate::proxy::Cache;
use crate::registry::Registry;
use crate::telemetry::Metrics;

use super::admin::Admin;
use super::body::BlobBodies;
use super::buffers::BufferPool;
use super::headers;
use super::limits::Guard;
use super::service::Service;

/// What all handlers see.
#[derive(Debug)]
pub(super) struct App {
    pub(super) registry: Registry,
    pub(super) access: auth::Access,
    pub(super) admin: Option<Admin>,
    pub(super) tokens: Option<auth::Tokens>,
    pub(super) cache: Option<Cache>,
    pub(super) metrics: Metrics,
    pub(super) bodies: BlobBodies,
    /// The limits on what is asked.
    pub(super) guard: Arc<Guard>,
    /// The `OCI-Chunk-Min-Length` of upload answers.
    pub(super) chunk_min_length: Option<HeaderValue>,
    /// The external URL without its last slash, or nothing.
    origin: String,
}

impl App {
    /// What the handlers of a registry share; it has a buffer pool of its own.
    pub(super) fn new(service: Service) -> App {
        let Service { registry, access, tokens, admin, cache, settings, metrics } = service;
        App {
            registry,
            access,
            tokens,
            admin,
            cache,
            metrics,
            bodies: BlobBodies::new(BufferPool::new(settings.buffer_bytes)),
            guard: Arc::new(Guard::new(settings.limits)),
            chunk_min_length: (settings.chunk_min_length > 0)
                .then(|| HeaderValue::from(settings.chunk_min_length)),
            origin: settings.external_url.unwrap_or_default().trim_end_matches('/').to_owned(),
        }
    }

    /// The URL under which clients reach the registry, without its last slash; empty where it isn't configured.
    pub(super) fn external_url(&self) -> &str {
        &self.origin
    }

    /// The path of that URL; none where the registry lies at its host's root.
    pub(super) fn path(&self) -> Option<&str> {
        let (_, rest) = self.origin.split_once("://")?;
        rest.find('/').map(|at| &rest[at..])
    }

    /// The URL of `path` as clients should use it.
    pub(super) fn url(&self, path: &str) -> HeaderValue {
        headers::value([&self.origin, path].concat())
    }

    /// The value of a `Link` header to the next page of a listing.
    pub(super) fn next_link(&self, path_and_query: &str) -> HeaderValue {
        headers::value(format!("<{}{path_and_query}>; rel=\"next\"", self.origin))
    }
}
