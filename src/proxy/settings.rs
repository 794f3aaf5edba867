//! How the cache is run.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use super::SyncSettings;
use super::host::{canonical, folder};
use crate::client::registry;
use crate::registry::{NamePattern, NameScope, TagPattern, UpstreamAccess};
use crate::telemetry::CacheMetrics;

/// What is cached, of whom, and how much of it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The upstreams, each host once.
    pub upstreams: Vec<UpstreamSettings>,
    /// The host of the upstream that is asked for names that are nobody's: neither under a configured host nor local.
    pub default: Option<String>,
    /// Names that are local, whether or not there is anything under them.
    pub local: NameScope,
    /// What all cached content together may take, in bytes.
    pub max_bytes: Option<u64>,
    /// How long a manifest stays that no tag names any more, counted from its last use.
    pub keep_superseded: Duration,
    /// What is never evicted.
    pub pinned: Vec<ImagePattern>,
    /// What is fetched by the clock.
    pub sync: SyncSettings,
    /// Where it is counted what the cache does.
    pub metrics: CacheMetrics,
}

/// One upstream.
#[derive(Debug, Clone)]
pub struct UpstreamSettings {
    /// What images call it: `docker.io`, `registry.example.org:5000`; in lower case, and as [`parse_host`](super::parse_host) has
    /// it.
    pub host: String,
    /// Where it is and how it is asked.
    pub client: registry::Options,
    /// Whether what its credentials open may be read by everybody.
    pub is_public: bool,
    /// How long a tag is believed without a look at the upstream.
    pub revalidate_after: Duration,
    /// How long a client that could have the cached tag waits for the upstream's word on it.
    pub patience: Duration,
    /// What its content may take, in bytes.
    pub max_bytes: Option<u64>,
    /// The repositories that may be asked for, named without the host.
    pub allow: NameScope,
    /// Those of them that may not.
    pub deny: NameScope,
    /// Whether it is never asked.
    pub is_offline: bool,
    /// How its blobs are fetched.
    pub fetching: FetchLimits,
}

/// How blobs are fetched of one upstream, so that neither clients nor the upstream can make it cost without bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchLimits {
    /// How many are fetched at once; others wait.
    pub at_once: usize,
    /// How often a blob is asked for that breaks off before it has brought [`slowest_bytes`](FetchLimits::slowest_bytes).
    pub attempts: u32,
    /// The pause before it is asked for again; it doubles each time.
    pub first_pause: Duration,
    /// The longest pause; an upstream that asks for a longer one ends the transfer.
    pub longest_pause: Duration,
    /// A transfer that brings less than this in [`slowest_time`](FetchLimits::slowest_time) has broken off.
    pub slowest_bytes: u64,
    /// Counted is the time spent waiting for the upstream.
    pub slowest_time: Duration,
    /// How long a fetch goes on that nobody reads.
    pub unread_time: Duration,
    /// The same while others wait for their turn.
    pub contended_unread_time: Duration,
    /// How much may be missing yet of a blob that nobody reads, for its fetch to go on.
    pub unread_bytes: u64,
}

impl Default for FetchLimits {
    fn default() -> FetchLimits {
        FetchLimits {
            at_once: 16,
            attempts: 6,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(60),
            slowest_bytes: 64 << 10,
            slowest_time: Duration::from_secs(60),
            unread_time: Duration::from_secs(10 * 60),
            contended_unread_time: Duration::from_secs(10),
            unread_bytes: 8 << 30,
        }
    }
}

/// Images by repository, the upstream's host included, and tag: `docker.io/library/*:1.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePattern {
    /// The repositories.
    pub repository: NamePattern,
    /// The tags; all of them where there is none.
    pub tag: Option<TagPattern>,
}

/// A text that is no pattern of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a pattern of images is one of repositories with their hosts, and one of tags: docker.io/library/*:1.*"
)]
pub struct ImagePatternError;

impl FromStr for ImagePattern {
    type Err = ImagePatternError;

    fn from_str(text: &str) -> Result<ImagePattern, ImagePatternError> {
        let (repository, tag) = match text.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (text, None),
        };
        let (host, path) = repository.split_once('/').ok_or(ImagePatternError)?;
        let repository =
            format!("{}/{path}", folder(&canonical(host))).parse().map_err(|_| ImagePatternError)?;
        let tag = tag.map(str::parse).transpose().map_err(|_| ImagePatternError)?;
        Ok(ImagePattern { repository, tag })
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            upstreams: Vec::new(),
            default: None,
            local: NameScope::new(Vec::new()),
            max_bytes: None,
            keep_superseded: Duration::from_secs(24 * 60 * 60),
            pinned: Vec::new(),
            sync: SyncSettings::default(),
            metrics: CacheMetrics::default(),
        }
    }
}

impl Settings {
    /// What the registry's policy has to know of the upstreams.
    pub fn access(&self) -> BTreeMap<String, UpstreamAccess> {
        self.upstreams.iter().map(|upstream| (upstream.folder(), upstream.access())).collect()
    }
}

impl UpstreamSettings {
    /// An upstream that is asked anonymously, with the usual limits.
    pub fn new(host: impl Into<String>, client: registry::Options) -> UpstreamSettings {
        UpstreamSettings {
            host: canonical(&host.into()),
            client,
            is_public: false,
            revalidate_after: Duration::from_secs(15 * 60),
            patience: Duration::from_secs(5),
            max_bytes: None,
            allow: NameScope::everything(),
            deny: NameScope::new(Vec::new()),
            is_offline: false,
            fetching: FetchLimits::default(),
        }
    }

    /// The first component of the names of its repositories here: the host, with `_` for the colon before a port.
    pub fn folder(&self) -> String {
        folder(&self.host)
    }

    /// Who may read what comes from it.
    pub fn access(&self) -> UpstreamAccess {
        match self.client.credentials {
            _ if self.is_public => UpstreamAccess::Public,
            None => UpstreamAccess::Anonymous,
            Some(_) => UpstreamAccess::Private,
        }
    }

    /// Whether what comes from it is for nobody but those whom a rule allows.
    pub fn is_private(&self) -> bool {
        self.access() == UpstreamAccess::Private
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_meant_by_repository_and_tag() {
        for (text, repository, tag) in [
            ("docker.io/library/*", "docker.io/library/*", None),
            ("index.docker.io/library/busybox:1.*", "docker.io/library/busybox", Some("1.*")),
            ("registry.example.org:5000/team/**", "registry.example.org_5000/team/**", None),
            ("registry.example.org:5000/team/**:v*", "registry.example.org_5000/team/**", Some("v*")),
            ("**/app", "**/app", None),
        ] {
            let pattern: ImagePattern = text.parse().unwrap();
            assert_eq!(pattern.repository.to_string(), repository, "{text}");
            assert_eq!(pattern.tag.map(|tag| tag.to_string()).as_deref(), tag, "{text}");
        }
        for text in
            ["", "busybox", "docker.io/library/*:", "docker.io/A", "docker.io/a:v/*", "docker.io/a@sha256:1"]
        {
            assert_eq!(text.parse::<ImagePattern>(), Err(ImagePatternError), "{text}");
        }
    }
}
