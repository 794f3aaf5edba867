//! Cached repositories: copies of what an upstream has, which come and go without anybody's word.

use std::time::Duration;

use super::repository::Scope;
use super::{Actor, BlobDescriptor, Error, Inner, Policy};
use crate::clock::Timestamp;
use crate::metadata::blobs::LinkRecord;
use crate::metadata::repositories::{self, Cached, RepositoryId};
use crate::metadata::{self, Metadata, Read, Scan, blobs, freshness, tags};
use crate::oci::{Digest, RepositoryName, Tag};

/// How long what nothing names stays in a cached repository.
pub(super) const LEASE: Duration = Duration::from_secs(5 * 60);

/// Who may read what is cached of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamAccess {
    /// Everybody, with whatever credentials it came.
    Public,
    /// Everybody: the upstream is asked without credentials. What came with some before is kept back.
    Anonymous,
    /// Nobody whom no rule allows: the upstream is asked with credentials.
    Private,
}

/// Whether there can be cached repositories: an upstream is configured, or once something came from one.
pub(super) fn may_be(metadata: &Metadata, policy: &Policy) -> Result<bool, metadata::Error> {
    let mut is_known = !policy.upstreams.is_empty();
    metadata.read(|tx| {
        repositories::each_upstream(tx, |_, _| {
            is_known = true;
            Ok(Scan::Stop)
        })
    })?;
    Ok(is_known)
}

impl Inner {
    /// Whether what a repository has is for nobody but those whom a rule allows.
    pub(super) fn is_private(
        &self,
        tx: &impl Read,
        name: &RepositoryName,
        id: RepositoryId,
    ) -> Result<bool, metadata::Error> {
        if !id.is_cached() {
            return Ok(false);
        }
        let access = self.policy.upstream_of(name).and_then(|folder| self.policy.upstreams.get(folder));
        match access {
            Some(UpstreamAccess::Public) => Ok(false),
            Some(UpstreamAccess::Private) => Ok(true),
            Some(UpstreamAccess::Anonymous) | None => Ok(freshness::private_since(tx, id)?.is_some()),
        }
    }
}

/// What there is to know of a repository as a copy of an upstream's. A repository that was local before its upstream was
/// configured is none: see [`Repository::is_cached`](super::Repository::is_cached).
#[derive(Debug, Clone)]
pub struct CachedService {
    scope: Scope,
}

impl CachedService {
    pub(super) fn new(scope: Scope) -> CachedService {
        CachedService { scope }
    }

    /// When the upstream was asked last what a tag points to that is cached; `None` where it wasn't, or the tag isn't there.
    pub fn checked_at(&self, tag: &Tag) -> Result<Option<Timestamp>, Error> {
        Ok(self.scope.look_up(|tx, id| freshness::checked_at(tx, id, tag))?.flatten())
    }

    /// Records when the upstream was asked what the tag points to; says whether the tag is there. Goes with the tag.
    pub async fn set_checked(&self, tag: &Tag, at: Timestamp) -> Result<bool, Error> {
        let (scope, tag) = (self.scope.clone(), tag.clone());
        self.scope
            .write(move |tx| {
                let id = scope.cached_id(tx)?;
                if tags::get(tx, id, &tag)?.is_none() {
                    return Ok(false);
                }
                freshness::set_checked(tx, id, &tag, at)?;
                Ok(true)
            })
            .await
    }

    /// Whether what the repository has is for nobody but those whom a rule allows: its upstream is asked with credentials, or
    /// was, and isn't public. One that doesn't exist is private where its upstream is.
    pub fn is_private(&self) -> Result<bool, Error> {
        let (inner, name) = (&self.scope.inner, &self.scope.name);
        if !inner.may_have_cached {
            // A look-up less for each pull.
            return Ok(false);
        }
        let access = self.scope.upstream().and_then(|folder| inner.policy.upstreams.get(folder));
        let found = self.scope.look_up(|tx, id| match access {
            Some(UpstreamAccess::Public) => Ok(false),
            _ => inner.is_private(tx, name, id),
        })?;
        Ok(found.unwrap_or(access == Some(&UpstreamAccess::Private)))
    }

    /// Whether something of the repository came with credentials, whatever the configuration says now.
    pub fn came_privately(&self) -> Result<bool, Error> {
        Ok(self.scope.look_up(freshness::private_since)?.flatten().is_some())
    }

    /// Whether another repository of the same upstream has the blob, so that [`link`](CachedService::link) needs no bytes.
    pub fn is_linkable(&self, digest: &Digest) -> Result<bool, Error> {
        let scope = &self.scope;
        Ok(scope.inner.metadata.read(|tx| {
            let known = repositories::id_of(tx, &scope.name)?;
            Ok(scope.holder(tx, known, digest)?.is_some())
        })?)
    }

    /// Links a blob into the repository that another one of the same upstream has; `None` where none has it. The caller knows
    /// that the upstream has it in this one too.
    pub async fn link(&self, digest: &Digest, actor: &Actor) -> Result<Option<BlobDescriptor>, Error> {
        let (scope, digest, actor) = (self.scope.clone(), *digest, actor.clone());
        let now = scope.inner.clock.now();
        self.scope
            .write(move |tx| {
                let known = repositories::id_of(tx, &scope.name)?;
                scope.require_cached(known)?;
                let Some((holder, canonical)) = scope.holder(tx, known, &digest)? else { return Ok(None) };
                let Some(blob) = blobs::get(tx, &canonical)? else { return Ok(None) };
                let Some(link) = blobs::link(tx, holder, &canonical)? else { return Ok(None) };
                let id = scope.ensure(tx, known, now, actor.as_str())?;
                let due_at = Some(scope.inner.lease_end(id, now));
                let link =
                    LinkRecord { created_at: now.millis(), actor: actor.as_str().into(), due_at, ..link };
                blobs::insert_link(tx, id, &canonical, &link)?;
                Ok(Some(BlobDescriptor {
                    digest: canonical,
                    size: blob.size,
                    media_type: link.media_type,
                    created_at: Timestamp::from_millis(blob.created_at),
                }))
            })
            .await
    }
}

impl Scope {
    /// Refuses what only a cached repository can be asked.
    fn require_cached(&self, id: Option<RepositoryId>) -> Result<(), Error> {
        if self.is_cached(id) && self.upstream().is_some() {
            return Ok(());
        }
        Err(Error::NotCached(self.name.clone()))
    }

    /// A repository of the upstream that this one, known by its identifier, is of, which has the blob; and the blob's canonical
    /// digest.
    fn holder(
        &self,
        tx: &impl Read,
        known: Option<RepositoryId>,
        digest: &Digest,
    ) -> Result<Option<(RepositoryId, Digest)>, metadata::Error> {
        let Some(canonical) = blobs::canonical(tx, digest)? else { return Ok(None) };
        let upstream = match (known, self.upstream()) {
            (Some(id), _) => id.upstream(),
            (None, Some(folder)) => repositories::upstream(tx, folder)?,
            (None, None) => None,
        };
        let Some(upstream) = upstream else { return Ok(None) };
        Ok(blobs::any_cached(tx, &canonical, Cached::Of(upstream))?.map(|holder| (holder, canonical)))
    }

    fn cached_id(&self, tx: &impl Read) -> Result<RepositoryId, Error> {
        let id = self.id(tx)?;
        if id.is_cached() { Ok(id) } else { Err(Error::NotCached(self.name.clone())) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fsio::SimulatedDisk;
    use crate::metadata::sizes::{self, Counters, SizeRecord};
    use crate::registry::{Actor, Depth, Options, Registry, Treatment, VerifyOptions};

    #[test]
    fn wrong_counters_and_freshness_without_a_tag_are_found_and_repaired() {
        let mut options = Options::new("/data");
        options.disk = Arc::new(SimulatedDisk::new());
        options.policy.upstreams = [("up.example".to_owned(), UpstreamAccess::Anonymous)].into();
        let registry = Registry::open(options).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for (name, content) in [("up.example/app", "cached"), ("local", "own")] {
            let repository = registry.namespace().repository(&name.parse().unwrap());
            let blobs = repository.blobs();
            runtime.block_on(blobs.put(content.into(), None, &Actor::anonymous())).unwrap();
        }
        assert_eq!(registry.verify(Depth::Quick).unwrap().problems, [""; 0]);
        let right = registry.cached_sizes(Some("up.example")).unwrap();
        registry
            .0
            .metadata
            .write_blocking(|tx| {
                let upstream = repositories::upstream(tx, "up.example")?.map(Cached::Of);
                for cached in upstream.into_iter().chain([Cached::All]) {
                    sizes::repair(tx, Counters::OfCached(cached), &SizeRecord::default())?;
                }
                for name in ["up.example/app", "local"] {
                    let id = repositories::id_of(tx, &name.parse().unwrap())?.unwrap();
                    freshness::set_checked(tx, id, &"gone".parse().unwrap(), Timestamp::from_millis(1))?;
                }
                Ok::<_, metadata::Error>(())
            })
            .unwrap();
        let problems = registry.verify(Depth::Quick).unwrap().problems;
        assert_eq!(problems.len(), 4, "{problems:?}");
        let repair = VerifyOptions {
            is_alone: true,
            treatment: Treatment::Repair,
            ..VerifyOptions::new(Depth::Quick)
        };
        let report = registry.verify_with(&repair, |_| std::ops::ControlFlow::Continue(())).unwrap();
        assert_eq!((report.problems, report.repaired.len()), (Vec::new(), 4));
        assert_eq!(registry.cached_sizes(Some("up.example")).unwrap(), right);
    }
}
