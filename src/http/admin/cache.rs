//! How the upstreams of the cache do, and what is cached of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::call::{Answer, Call, json};
use crate::proxy::{UpstreamState, UpstreamStatus};
use crate::registry::{Error, Registry, Sizes, UpstreamAccess};

/// The answer to `GET cache`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CacheStatus {
    /// The upstreams that are configured, and then others of which something is still cached.
    pub upstreams: Vec<CachedUpstream>,
    /// What all of them take, each blob once.
    pub bytes: u64,
    /// What that may be, as far as the server says; none where there is no limit.
    pub max_bytes: Option<u64>,
}

/// One upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CachedUpstream {
    /// Its host; where it isn't known, the first component of the names of its repositories.
    pub host: String,
    /// Whether it is configured.
    pub configured: bool,
    /// Whether nobody can read what comes from it.
    pub private: bool,
    /// What its content takes, each blob once.
    pub bytes: u64,
    /// What that may be.
    pub max_bytes: Option<u64>,
    /// The manifests that are cached of it.
    pub manifests: u64,
    /// What it does in the server that runs; none where no server runs.
    pub activity: Option<Activity>,
}

/// What an upstream was asked and what it answered, since the server's start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    /// Whether it is never asked.
    pub offline: bool,
    /// Why it isn't asked at the moment.
    pub left_alone: Option<LeftAlone>,
    /// Answers to clients with what was here.
    pub hits: u64,
    /// Other answers with its content.
    pub misses: u64,
    /// The bytes of all of these.
    pub sent_bytes: u64,
    /// The bytes that came from it.
    pub fetched_bytes: u64,
    /// The bytes that were sent and didn't have to come from it for that.
    pub saved_bytes: u64,
    /// What it was asked, tokens and repetitions not counted.
    pub requests: u64,
    /// The median time in which the last answers began.
    pub first_byte_ms: Option<u64>,
    /// How many pulls it allows, as it last said.
    pub rate_limit: Option<u64>,
    /// How many of these are left.
    pub rate_limit_remaining: Option<u64>,
}

/// Why an upstream isn't asked, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftAlone {
    /// What has failed.
    pub reason: String,
    /// How much longer.
    pub seconds: u64,
}

/// Says how the upstreams do.
pub(super) fn get_cache(call: &Call) -> Answer {
    json(&status(call)?)
}

/// How the upstreams do.
pub(super) fn status(call: &Call) -> Result<CacheStatus, Error> {
    let registry = call.registry();
    let mut stored: BTreeMap<String, Sizes> = registry.cached_upstreams()?.into_iter().collect();
    let mut upstreams = match call.cache() {
        Some(cache) => {
            let running = cache.status().into_iter();
            running.map(|status| running_upstream(status, &mut stored)).collect()
        }
        None => configured_upstreams(registry, &mut stored),
    };
    let left = stored.into_iter().filter(|(_, sizes)| sizes.manifests > 0 || sizes.bytes > 0);
    upstreams.extend(left.map(|(folder, sizes)| CachedUpstream {
        bytes: sizes.bytes,
        manifests: sizes.manifests,
        ..unknown(folder)
    }));
    Ok(CacheStatus {
        upstreams,
        bytes: registry.cached_sizes(None)?.bytes,
        max_bytes: call.cache().and_then(|cache| cache.settings().max_bytes),
    })
}

/// An upstream that isn't configured any more.
fn unknown(host: String) -> CachedUpstream {
    CachedUpstream {
        host,
        configured: false,
        private: false,
        bytes: 0,
        max_bytes: None,
        manifests: 0,
        activity: None,
    }
}

fn running_upstream(status: UpstreamStatus, stored: &mut BTreeMap<String, Sizes>) -> CachedUpstream {
    let sizes = stored.remove(&status.folder).unwrap_or_default();
    let summary = status.summary;
    let (offline, left_alone) = match status.state {
        UpstreamState::Asked => (false, None),
        UpstreamState::Offline => (true, None),
        UpstreamState::LeftAlone { reason, remaining } => {
            (false, Some(LeftAlone { reason, seconds: remaining.as_secs().max(1) }))
        }
    };
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    CachedUpstream {
        host: status.host,
        configured: true,
        private: status.is_private,
        bytes: sizes.bytes,
        max_bytes: status.max_bytes,
        manifests: sizes.manifests,
        activity: Some(Activity {
            offline,
            left_alone,
            hits: summary.hits,
            misses: summary.misses,
            sent_bytes: summary.sent_bytes,
            fetched_bytes: summary.fetched_bytes,
            saved_bytes: summary.sent_bytes.saturating_sub(summary.fetched_bytes),
            requests: summary.requests,
            first_byte_ms: summary.median_first_byte.map(millis),
            rate_limit: summary.rate_limit,
            rate_limit_remaining: summary.rate_limit_remaining,
        }),
    }
}

/// What is known of the upstreams where no server runs.
fn configured_upstreams(registry: &Registry, stored: &mut BTreeMap<String, Sizes>) -> Vec<CachedUpstream> {
    let configured = registry.policy().upstreams.iter().map(|(folder, access)| {
        let sizes = stored.remove(folder).unwrap_or_default();
        CachedUpstream {
            configured: true,
            private: *access == UpstreamAccess::Private,
            bytes: sizes.bytes,
            manifests: sizes.manifests,
            ..unknown(folder.clone())
        }
    });
    configured.collect()
}
