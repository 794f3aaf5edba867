//! Whose a name is.

use std::sync::Arc;

use super::upstream::Upstream;
use super::{Cache, Error};
use crate::oci::RepositoryName;
use crate::registry::Repository;
use crate::telemetry::UpstreamMetrics;

/// What somebody wants of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To read what is there, or could be had from an upstream.
    Pull,
    /// To have it here for others, by whoever runs the registry.
    Keep,
    /// To add something.
    Push,
    /// To take something away.
    Delete,
}

/// Whose a name is.
#[derive(Debug, Clone)]
pub enum Place {
    /// One's own.
    Local,
    /// An upstream's.
    Cached(CachedRepository),
}

/// A repository of an upstream, some of which is here.
#[derive(Debug, Clone)]
pub struct CachedRepository {
    pub(super) cache: Cache,
    pub(super) upstream: Arc<Upstream>,
    /// The name that the upstream knows.
    pub(super) path: RepositoryName,
    /// The name here.
    pub(super) name: RepositoryName,
    /// Whether the request named no upstream.
    pub(super) is_by_default: bool,
}

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// It was here, and is known to be right.
    Hit,
    /// It was here, and the upstream says that it is right.
    Revalidated,
    /// It came from the upstream.
    Miss,
    /// It was here, and the upstream couldn't be asked.
    Stale,
    /// It came from the upstream and is not kept.
    Streamed,
}

impl Source {
    /// As logs and metrics call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Hit => "hit",
            Source::Revalidated => "revalidated",
            Source::Miss => "miss",
            Source::Stale => "stale",
            Source::Streamed => "streamed",
        }
    }

    /// Whether the content was here.
    pub fn is_hit(self) -> bool {
        match self {
            Source::Hit | Source::Revalidated | Source::Stale => true,
            Source::Miss | Source::Streamed => false,
        }
    }
}

/// What the cache says of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Where it came from.
    pub source: Source,
    /// What the client should know of it.
    pub warning: Option<String>,
}

impl Outcome {
    /// An answer about which there is nothing to say.
    pub fn of(source: Source) -> Outcome {
        Outcome { source, warning: None }
    }
}

impl CachedRepository {
    /// Its name in the registry.
    pub fn name(&self) -> &RepositoryName {
        &self.name
    }

    /// The upstream's host, as images call it.
    pub fn host(&self) -> &str {
        &self.upstream.settings.host
    }

    /// Where it is counted what the cache does for this upstream.
    pub fn metrics(&self) -> &UpstreamMetrics {
        &self.upstream.metrics
    }

    /// Whether the request named no upstream, so that it may as well mean a repository of one's own that is still to come.
    pub fn is_by_default(&self) -> bool {
        self.is_by_default
    }

    /// Whether what it has came with credentials, or would, and isn't for everybody.
    pub(super) fn is_private(&self) -> Result<bool, Error> {
        let settings = &self.upstream.settings;
        Ok(settings.is_private() || !settings.is_public && self.stored().cached().came_privately()?)
    }

    /// What the registry has of it, and notes to have come with credentials where there are some.
    pub(super) fn stored(&self) -> Repository {
        let stored = self.cache.registry().namespace().repository(&self.name);
        if self.upstream.settings.client.credentials.is_some() { stored.with_credentials() } else { stored }
    }
}
