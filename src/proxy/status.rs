//! What the cache holds, and how its upstreams do.

use std::time::Duration;

use super::Cache;
use crate::registry;
use crate::telemetry::UpstreamSummary;

/// One upstream, as it does now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamStatus {
    /// What images call it.
    pub host: String,
    /// The first component of the names of its repositories here.
    pub folder: String,
    /// Whether it is asked.
    pub state: UpstreamState,
    /// Whether nobody can read what comes from it.
    pub is_private: bool,
    /// What its content may take, in bytes.
    pub max_bytes: Option<u64>,
    /// What was asked and answered since the start.
    pub summary: UpstreamSummary,
}

/// Whether an upstream is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamState {
    /// It is.
    Asked,
    /// It isn't, after a failure.
    LeftAlone {
        /// What has failed.
        reason: String,
        /// How much longer.
        remaining: Duration,
    },
    /// It never is.
    Offline,
}

impl Cache {
    /// How the upstreams do, in the order of the configuration.
    pub fn status(&self) -> Vec<UpstreamStatus> {
        let status = self.upstreams().iter().map(|upstream| {
            let state = match upstream.left_alone() {
                _ if upstream.settings.is_offline => UpstreamState::Offline,
                Some((reason, remaining)) => UpstreamState::LeftAlone { reason, remaining },
                None => UpstreamState::Asked,
            };
            UpstreamStatus {
                host: upstream.settings.host.clone(),
                folder: upstream.folder.clone(),
                state,
                is_private: upstream.settings.is_private(),
                max_bytes: upstream.settings.max_bytes,
                summary: upstream.metrics.summary(),
            }
        });
        status.collect()
    }

    /// Records in the metrics how much is cached of each upstream.
    pub fn measure(&self) -> Result<(), registry::Error> {
        for upstream in self.upstreams() {
            upstream.metrics.cached(self.registry().cached_sizes(Some(&upstream.folder))?.bytes);
        }
        Ok(())
    }
}
