//! What the wire serves, and how.

use crate::auth;
use crate::proxy::Cache;
use crate::registry::Registry;
use crate::telemetry::Metrics;

use super::admin::Admin;
use super::forwarded::Proxies;
use super::limits::RequestLimits;

/// What the wire needs to serve a registry.
#[derive(Debug, Clone)]
pub struct Service {
    /// The registry that is served.
    pub registry: Registry,
    /// Who may do what.
    pub access: auth::Access,
    /// What those are answered whom a rule lets `admin`.
    pub admin: Option<Admin>,
    /// Bearer tokens; without them users come with passwords only.
    pub tokens: Option<auth::Tokens>,
    /// Other registries' content that is served beside its own.
    pub cache: Option<Cache>,
    /// How it is served.
    pub settings: Settings,
    /// Where requests are counted, and what `/metrics` shows.
    pub metrics: Metrics,
}

impl Service {
    /// A registry that is open to everybody, without a cache, served by the defaults.
    pub fn new(registry: Registry, metrics: Metrics) -> Service {
        let (access, settings) = (auth::Access::default(), Settings::default());
        Service { registry, access, tokens: None, admin: None, cache: None, settings, metrics }
    }
}

/// How a registry is served.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The URL under which clients reach the registry, such as `https://registry.example`, in visible ASCII. With it, `Location` and `Link`
    /// are absolute; without, they are relative, which works behind any proxy.
    pub external_url: Option<String>,
    /// The least length of a chunk that isn't the last, as uploads are told; 0 tells them nothing. It is advice: shorter
    /// ones are taken too.
    pub chunk_min_length: u64,
    /// The memory that answers may take together, in bytes.
    pub buffer_bytes: usize,
    /// The proxies in front of it.
    pub proxies: Proxies,
    /// How much may be asked of it.
    pub limits: RequestLimits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            external_url: None,
            chunk_min_length: 0,
            buffer_bytes: 32 * 1024 * 1024,
            proxies: Proxies::default(),
            limits: RequestLimits::default(),
        }
    }
}
