//! What is counted of an upstream's answers.

use crate::client::registry::{Blob, BlobHead, Error, Manifest, ManifestHead, RateLimit, Referrers, TagList};
use crate::telemetry::CacheKind;

/// An answer of an upstream.
pub(super) trait Told {
    /// What was asked for.
    const KIND: CacheKind;
    /// How.
    const METHOD: &'static str = "GET";

    /// What the upstream says of its limit along with it.
    fn rate_limit(&self) -> RateLimit {
        RateLimit::default()
    }

    /// How much of the content is in it. A blob comes afterwards.
    fn bytes(&self) -> u64 {
        0
    }
}

impl Told for ManifestHead {
    const KIND: CacheKind = CacheKind::Manifest;
    const METHOD: &'static str = "HEAD";

    fn rate_limit(&self) -> RateLimit {
        self.rate_limit
    }
}

impl Told for Manifest {
    const KIND: CacheKind = CacheKind::Manifest;

    fn rate_limit(&self) -> RateLimit {
        self.rate_limit
    }

    fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl Told for BlobHead {
    const KIND: CacheKind = CacheKind::Blob;
    const METHOD: &'static str = "HEAD";

    fn rate_limit(&self) -> RateLimit {
        self.rate_limit
    }
}

impl Told for Blob {
    const KIND: CacheKind = CacheKind::Blob;

    fn rate_limit(&self) -> RateLimit {
        self.rate_limit
    }
}

impl Told for Referrers {
    const KIND: CacheKind = CacheKind::Referrers;

    fn bytes(&self) -> u64 {
        self.index.len() as u64
    }
}

impl Told for TagList {
    const KIND: CacheKind = CacheKind::Tags;
}

/// What came of a question, as metrics call it.
pub(super) fn result_of<T>(answer: &Result<T, Error>) -> &'static str {
    match answer {
        Ok(_) => "ok",
        Err(Error::NotFound { .. }) => "not_found",
        Err(Error::Denied { .. }) => "denied",
        Err(Error::RateLimited { .. }) => "limited",
        Err(Error::Unavailable { .. }) => "unavailable",
        Err(Error::Invalid { .. }) => "invalid",
    }
}

/// What the upstream says of its limit, in whatever answer.
pub(super) fn rate_limit_of<T: Told>(answer: &Result<T, Error>) -> RateLimit {
    match answer {
        Ok(told) => told.rate_limit(),
        Err(Error::RateLimited { limit, .. }) => *limit,
        Err(
            Error::NotFound { .. } | Error::Denied { .. } | Error::Unavailable { .. } | Error::Invalid { .. },
        ) => RateLimit::default(),
    }
}
