//! How the cache is run.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::client::registry;
use crate::registry::{NamePattern, NameScope, TagPattern, UpstreamAccess};

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
}

/// One upstream.
#[derive(Debug, Clone)]
pub struct UpstreamSettings {
    /// What images call it: `docker.io`, `registry.example.org:5000`; in lower case.
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
}

/// Images by repository, the upstream's host included, and tag: `docker.io/library/*:1.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePattern {
    /// The repositories.
    pub repository: NamePattern,
    /// The tags; all of them where there is none.
    pub tag: Option<TagPattern>,
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
            host: host.into().to_ascii_lowercase(),
            client,
            is_public: false,
            revalidate_after: Duration::from_secs(15 * 60),
            patience: Duration::from_secs(5),
            max_bytes: None,
            allow: NameScope::everything(),
            deny: NameScope::new(Vec::new()),
            is_offline: false,
        }
    }

    /// The first component of the names of its repositories here: the host, with `_` for the colon before a port.
    pub fn folder(&self) -> String {
        self.host.replace(':', "_")
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
