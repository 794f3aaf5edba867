//! The cache, and which names are its.

use std::sync::Arc;

use super::eviction::{Growth, Guard};
use super::flights::Flights;
use super::heads::Heads;
use super::host::{HUB, canonical, means_folder};
use super::listings::{ReferrerLists, Referrers};
use super::manifests::Looked;
use super::place::{CachedRepository, Place, Purpose, Source};
use super::upstream::Upstream;
use super::{Error, Settings};
use crate::client;
use crate::client::registry::{Credentials, Missing};
use crate::oci::{Digest, RepositoryName, Tag};
use crate::registry::Registry;

/// The cache of a registry; clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Cache(Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    registry: Registry,
    pub(super) settings: Settings,
    pub(super) upstreams: Vec<Arc<Upstream>>,
    default: Option<Arc<Upstream>>,
    pub(super) flights: Running,
    growth: Growth,
    heads: Heads,
    referrers: ReferrerLists,
}

/// What is being asked of upstreams, so that it is asked once.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// Tags that are brought to where the upstream's are.
    pub(super) tags: Flights<(RepositoryName, Tag), Result<Source, Error>>,
    /// Looks at where a tag points.
    pub(super) looks: Flights<(RepositoryName, Tag), Result<Looked, Error>>,
    /// Manifests that are fetched.
    pub(super) manifests: Flights<(RepositoryName, Digest), Result<(), Error>>,
    /// Sizes of blobs that nobody fetches.
    pub(super) blob_sizes: Flights<(RepositoryName, Digest), Result<u64, Error>>,
    /// Lists of referrers that are fetched.
    pub(super) referrers: Flights<(RepositoryName, Digest), Result<Referrers, Error>>,
}

impl Cache {
    /// The cache of these upstreams in `registry`, whose policy has to know them too. Blocks; asks nobody yet.
    pub fn open(settings: Settings, registry: Registry) -> Result<Cache, client::Error> {
        let upstreams = settings
            .upstreams
            .iter()
            .cloned()
            .map(|upstream| Upstream::new(upstream, &settings.metrics).map(Arc::new));
        let upstreams: Vec<Arc<Upstream>> = upstreams.collect::<Result<_, _>>()?;
        let default = settings.default.as_deref().and_then(|host| by_host(&upstreams, host));
        let eviction = registry.eviction();
        let inner = Arc::new(Inner {
            registry,
            settings,
            upstreams,
            default,
            flights: Running::default(),
            growth: Growth::default(),
            heads: Heads::default(),
            referrers: ReferrerLists::default(),
        });
        eviction.set_guard(Arc::new(Guard(Arc::downgrade(&inner))));
        Ok(Cache(inner))
    }

    /// The registry that holds what is cached.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    pub(super) fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.0.upstreams
    }

    pub(super) fn flights(&self) -> &Running {
        &self.0.flights
    }

    /// To be told when something was stored.
    pub(super) fn growth(&self) -> &Growth {
        &self.0.growth
    }

    pub(super) fn heads(&self) -> &Heads {
        &self.0.heads
    }

    pub(super) fn referrer_lists(&self) -> &ReferrerLists {
        &self.0.referrers
    }

    /// Interrupts what is being fetched, so that it can be gone on with after a restart. Nothing is fetched any more.
    pub async fn close(&self) {
        for upstream in &self.0.upstreams {
            upstream.fetches.stop().await;
        }
    }

    /// Asks an upstream with other credentials from now on; says whether they are others. One that is asked anonymously stays
    /// so: whether what it has is private was decided when the registry was opened.
    pub fn set_credentials(&self, host: &str, credentials: Credentials) -> bool {
        let upstream = by_host(&self.0.upstreams, host);
        let Some(upstream) = upstream.filter(|upstream| upstream.settings.client.credentials.is_some())
        else {
            return false;
        };
        let are_others = upstream.client.set_credentials(credentials);
        if are_others {
            upstream.absent.forget();
        }
        are_others
    }

    /// How the cache is run.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Whose `name` is, where `namespace` (the `ns` of a request) may say which upstream is meant. Nobody is asked. What came
    /// with credentials, or would, is pulled only where `is_reader` says of its canonical name that it may be.
    ///
    /// A name under a configured host is that upstream's, and so is any name with its `ns`. Other names are local where a
    /// repository is called so, or was until its deletion can't be undone any more, or the settings say so. The rest is
    /// the default upstream's for those who pull, unless the name begins with what could be another host. Docker Hub's
    /// `busybox` is its `library/busybox`.
    pub fn locate(
        &self,
        name: &RepositoryName,
        namespace: Option<&str>,
        purpose: Purpose,
        is_reader: &dyn Fn(&RepositoryName) -> bool,
    ) -> Result<Place, Error> {
        let inner = &self.0;
        if let Some(namespace) = namespace {
            let upstream = by_host(&inner.upstreams, namespace);
            let upstream = upstream.ok_or_else(|| Error::HostUnknown { host: namespace.to_owned() })?;
            let path = match name.as_str().split_once('/') {
                // Both ways at once name the same.
                Some((first, rest)) if means_folder(first, &upstream.folder) => {
                    rest.parse().unwrap_or_else(|_| name.clone())
                }
                _ => name.clone(),
            };
            return self.cached(&upstream, name, path, purpose, false, is_reader);
        }
        if let Some((first, rest)) = name.as_str().split_once('/')
            && let Some(upstream) =
                inner.upstreams.iter().find(|upstream| means_folder(first, &upstream.folder))
            && let Ok(path) = rest.parse::<RepositoryName>()
        {
            return self.cached(upstream, name, path, purpose, false, is_reader);
        }
        if !matches!(purpose, Purpose::Pull | Purpose::Keep)
            || inner.upstreams.is_empty()
            || self.is_local(name)?
        {
            return Ok(Place::Local);
        }
        let first = name.as_str().split_once('/').map(|(first, _)| first);
        if let Some(host) = first.filter(|first| first.contains('.') || *first == "localhost") {
            return Err(Error::HostUnknown { host: host.to_owned() });
        }
        let Some(upstream) = &inner.default else { return Ok(Place::Local) };
        match self.cached(upstream, name, name.clone(), purpose, true, is_reader) {
            // It may be a name of one's own that is still to come.
            Err(Error::Denied(_) | Error::Private(_) | Error::NameTooLong { .. }) => Ok(Place::Local),
            place => place,
        }
    }

    /// The names that repositories of upstreams have here which a request for `name` could mean, by whatever `ns`.
    pub fn meanings(&self, name: &RepositoryName) -> Vec<RepositoryName> {
        let is_reader = |_: &RepositoryName| true;
        let locate = |namespace| self.locate(name, namespace, Purpose::Pull, &is_reader);
        let hosts = self.0.upstreams.iter().map(|upstream| upstream.settings.host.as_str());
        let places = hosts.map(|host| locate(Some(host))).chain([locate(None)]);
        let names = places.filter_map(|place| match place {
            Ok(Place::Cached(cached)) => Some(cached.name().clone()),
            Ok(Place::Local) | Err(_) => None,
        });
        names.collect()
    }

    fn is_local(&self, name: &RepositoryName) -> Result<bool, Error> {
        if self.0.settings.local.contains(name) {
            return Ok(true);
        }
        Ok(self.0.registry.namespace().repository(name).is_taken()?)
    }

    /// The upstream's repository that was asked for as `asked`.
    fn cached(
        &self,
        upstream: &Arc<Upstream>,
        asked: &RepositoryName,
        path: RepositoryName,
        purpose: Purpose,
        is_by_default: bool,
        is_reader: &dyn Fn(&RepositoryName) -> bool,
    ) -> Result<Place, Error> {
        let host = &upstream.settings.host;
        let path = match format!("library/{path}").parse() {
            Ok(official) if host == HUB && !path.as_str().contains('/') => official,
            _ => path,
        };
        let name = upstream.name_of(&path)?;
        if purpose == Purpose::Push {
            return Err(Error::Denied(format!(
                "{name} caches {host} and takes no pushes; push under a name that doesn't begin with {}",
                upstream.folder
            )));
        }
        let cached =
            CachedRepository { cache: self.clone(), upstream: upstream.clone(), path, name, is_by_default };
        if !cached.stored().is_cached()? {
            // What was pushed before the upstream was configured stays what it is, and is nothing of the upstream's.
            if is_by_default || cached.name == *asked {
                return Ok(Place::Local);
            }
            let reason = format!(
                "{} is a repository of this registry's own, pushed before {host} was cached; its operator can delete it to \
                 have the one of {host} cached",
                cached.name
            );
            return Err(Error::NotFound { what: Missing::Repository, reason });
        }
        if matches!(purpose, Purpose::Pull | Purpose::Keep) {
            upstream.require_allowed(&cached.path)?;
        }
        if purpose == Purpose::Pull && cached.is_private()? && !is_reader(&cached.name) {
            return Err(Error::Private(format!(
                "what is cached of {} came with the registry's own credentials for {host}; its operator can write a rule \
                 that lets you pull it, or set `public = true` for this upstream to let everybody",
                cached.name
            )));
        }
        Ok(Place::Cached(cached))
    }
}

fn by_host(upstreams: &[Arc<Upstream>], host: &str) -> Option<Arc<Upstream>> {
    let host = canonical(host);
    upstreams.iter().find(|upstream| upstream.settings.host == host).cloned()
}
