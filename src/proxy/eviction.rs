//! Keeping the cache within what it may take: when something is evicted, and what is left alone.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use super::Settings;
use super::cache::{Cache, Inner};
use crate::clock::monotonic;
use crate::oci::{Digest, RepositoryName, Tag};
use crate::registry::{self, Evicted, EvictionGuard};

/// How often the sizes are looked at where nothing was fetched, and how long nothing is tried again that was in vain.
const PAUSE: Duration = Duration::from_secs(60);

/// How often manifests are looked for that no tag names any more.
const SUPERSEDED_EVERY: Duration = Duration::from_secs(10 * 60);

/// What is left of a limit after an eviction, in percent.
const LOW_WATER: u64 = 90;

/// Told when the cache may have grown.
#[derive(Debug, Default)]
pub(super) struct Growth(Notify);

impl Growth {
    /// Notes that something was stored.
    pub(super) fn note(&self) {
        self.0.notify_one();
    }
}

/// Leaves alone what the settings pin and what is being fetched.
#[derive(Debug)]
pub(super) struct Guard(pub(super) Weak<Inner>);

impl EvictionGuard for Guard {
    fn is_pinned(&self, repository: &RepositoryName, tags: &[Tag]) -> bool {
        self.0.upgrade().is_some_and(|cache| cache.settings.is_pinned(repository, tags))
    }

    fn is_fetched(&self, repository: &RepositoryName, digest: &Digest) -> bool {
        let is_fetched = |cache: Arc<Inner>| {
            cache.upstreams.iter().any(|upstream| upstream.fetches.has(repository, digest))
                || cache.flights.manifests.has(&(repository.clone(), *digest))
        };
        self.0.upgrade().is_some_and(is_fetched)
    }
}

impl Settings {
    /// Whether an image with these tags is never evicted.
    fn is_pinned(&self, repository: &RepositoryName, tags: &[Tag]) -> bool {
        self.pinned.iter().any(|pattern| {
            pattern.repository.matches(repository.as_str())
                && pattern.tag.as_ref().is_none_or(|pattern| tags.iter().any(|tag| pattern.matches(tag)))
        })
    }
}

impl Cache {
    /// Evicts what the limits have no room for, down to nine tenths of each. Little is read where they are kept.
    pub async fn evict(&self) -> Result<Evicted, registry::Error> {
        let mut evicted = Evicted::default();
        for (upstream, most) in self.exceeded()? {
            let target = most / 100 * LOW_WATER + most % 100 * LOW_WATER / 100;
            evicted.add(&self.registry().eviction().evict(upstream.as_deref(), target).await?);
        }
        Ok(evicted)
    }

    /// The limits that are exceeded: of an upstream's folder, or of the whole cache.
    fn exceeded(&self) -> Result<Vec<(Option<String>, u64)>, registry::Error> {
        let settings = self.settings();
        let own = settings.upstreams.iter().map(|upstream| (Some(upstream.folder()), upstream.max_bytes));
        let mut exceeded = Vec::new();
        for (upstream, most) in own.chain([(None, settings.max_bytes)]) {
            let Some(most) = most else { continue };
            if self.registry().cached_sizes(upstream.as_deref())?.bytes > most {
                exceeded.push((upstream, most));
            }
        }
        Ok(exceeded)
    }

    /// Keeps the cache within its limits for as long as this is awaited, and removes what no tag names any more.
    pub async fn keep_within_limits(&self) {
        let mut looked_at = None;
        loop {
            if looked_at.is_none_or(|at| monotonic().duration_since(at) >= SUPERSEDED_EVERY) {
                looked_at = Some(monotonic());
                let keep = self.settings().keep_superseded;
                tell(self.registry().eviction().evict_superseded(keep).await, "no tag names them any more");
            }
            tell(self.evict().await, "the cache takes what it may");
            if self.exceeded().is_ok_and(|exceeded| exceeded.is_empty()) {
                let _ = tokio::time::timeout(PAUSE, self.growth().0.notified()).await;
            } else {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn tell(evicted: Result<Evicted, registry::Error>, why: &str) {
    match evicted {
        Ok(Evicted { images: 0, .. }) => {}
        Ok(Evicted { images, blobs, bytes, .. }) => {
            tracing::info!(images, blobs, bytes, "evicted cached images, since {why}");
        }
        Err(error) => tracing::warn!(%error, "cached images were not evicted"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pinned_is_meant_by_repository_and_by_any_of_its_tags() {
        let pinned = ["docker.io/library/*:1.*", "quay.io/team/**"].map(|text| text.parse().unwrap()).into();
        let settings = Settings { pinned, ..Settings::default() };
        for (repository, tags, is_pinned) in [
            ("docker.io/library/busybox", vec!["latest", "1.36"], true),
            ("docker.io/library/busybox", vec!["latest"], false),
            ("docker.io/library/busybox", vec![], false),
            ("docker.io/other/busybox", vec!["1.36"], false),
            ("quay.io/team/a/b", vec![], true),
            ("quay.io/other", vec!["1.0"], false),
        ] {
            let names: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
            assert_eq!(
                settings.is_pinned(&repository.parse().unwrap(), &names),
                is_pinned,
                "{repository} {tags:?}"
            );
        }
    }
}
