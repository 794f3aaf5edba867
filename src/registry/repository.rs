//! Namespace and repository: the doors to the services.

use std::sync::Arc;

use super::{BlobService, Error, Inner, ManifestService, ReferrerService, TagService};
use crate::metadata::repositories::{self, RepositoryId};
use crate::metadata::{self, Read};
use crate::oci::RepositoryName;

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in their order.
    pub items: Vec<T>,
    /// Whether more follow behind the last item.
    pub more: bool,
}

impl<T> Page<T> {
    /// The page of at most `limit` items out of a look-up that asked for one more.
    pub(super) fn of(mut items: Vec<T>, limit: usize) -> Page<T> {
        let more = items.len() > limit;
        items.truncate(limit);
        Page { items, more }
    }
}

/// All the repositories of a registry.
#[derive(Debug, Clone)]
pub struct Namespace {
    inner: Arc<Inner>,
}

impl Namespace {
    pub(super) fn new(inner: Arc<Inner>) -> Namespace {
        Namespace { inner }
    }

    /// The repository called `name`, whether or not it has any content yet.
    pub fn repository(&self, name: &RepositoryName) -> Repository {
        Repository { scope: Scope { inner: self.inner.clone(), name: name.clone() } }
    }

    /// Up to `limit` names of repositories that have had content, in byte order, behind `after`.
    pub fn repositories(&self, after: Option<&str>, limit: usize) -> Result<Page<RepositoryName>, Error> {
        let names = self.inner.metadata.read(|tx| repositories::list(tx, after, limit.saturating_add(1)))?;
        Ok(Page::of(names, limit))
    }
}

/// What every service of a repository holds.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) inner: Arc<Inner>,
    pub(super) name: RepositoryName,
}

impl Scope {
    /// Runs `read` with the repository's identifier; `None` where the repository doesn't exist.
    pub(super) fn read<T>(
        &self,
        mut read: impl FnMut(&metadata::ReadTx, RepositoryId) -> Result<T, metadata::Error>,
    ) -> Result<Option<T>, Error> {
        Ok(self.inner.metadata.read(|tx| match repositories::id_of(tx, &self.name)? {
            Some(id) => read(tx, id).map(Some),
            None => Ok(None),
        })?)
    }

    /// The same for look-ups by key that are wanted often, which the cache may answer: see [`metadata::Metadata::look_up`].
    pub(super) fn look_up<T>(
        &self,
        mut read: impl FnMut(&metadata::ReadTx, RepositoryId) -> Result<T, metadata::Error>,
    ) -> Result<Option<T>, Error> {
        Ok(self.inner.metadata.look_up(|tx| match repositories::id_of(tx, &self.name)? {
            Some(id) => read(tx, id).map(Some),
            None => Ok(None),
        })?)
    }

    /// The repository's identifier inside a transaction.
    pub(super) fn id(&self, tx: &impl Read) -> Result<RepositoryId, Error> {
        repositories::id_of(tx, &self.name)?.ok_or(Error::RepositoryUnknown)
    }
}

/// A repository. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repository {
    scope: Scope,
}

impl Repository {
    /// Its name.
    pub fn name(&self) -> &RepositoryName {
        &self.scope.name
    }

    /// Whether it has ever had content.
    pub fn exists(&self) -> Result<bool, Error> {
        Ok(self.scope.look_up(|_, _| Ok(()))?.is_some())
    }

    /// Its blobs and uploads.
    pub fn blobs(&self) -> BlobService {
        BlobService::new(self.scope.clone())
    }

    /// Its manifests, by digest or tag.
    pub fn manifests(&self) -> ManifestService {
        ManifestService::new(self.scope.clone())
    }

    /// Its tags.
    pub fn tags(&self) -> TagService {
        TagService::new(self.scope.clone())
    }

    /// What refers to its manifests.
    pub fn referrers(&self) -> ReferrerService {
        ReferrerService::new(self.scope.clone())
    }
}
