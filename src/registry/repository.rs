//! Namespace and repository: the doors to the services.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use super::{
    Actor, BlobService, CachedService, DeletionService, Error, ExpiryService, Inner, ManifestService, Origin,
    ReferrerService, Registry, SignatureService, Sizes, TagService, eviction, sizes,
};
use crate::clock::Timestamp;
use crate::metadata::events::{Action, EventTarget};
use crate::metadata::repositories::{self, RepositoryId};
use crate::metadata::{self, Read, WriteTx, deletions, freshness};
use crate::oci::{Digest, Reference, RepositoryName, Tag};

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

    /// The repository called `name`, whether or not it has any content yet. Outside of the policy's scope every use of
    /// it fails, with [`Error::NameUnserved`] or [`Error::NameRefused`].
    pub fn repository(&self, name: &RepositoryName) -> Repository {
        Repository {
            scope: Scope {
                inner: self.inner.clone(),
                name: name.clone(),
                origin: Origin::default(),
                has_credentials: false,
            },
        }
    }

    /// Up to `limit` names of repositories in the scope that have had content, in byte order, behind `after`; private ones
    /// aside.
    pub fn repositories(&self, after: Option<&str>, limit: usize) -> Result<Page<RepositoryName>, Error> {
        self.repositories_for(after, limit, |_, is_private| !is_private)
    }

    /// The same, of those that `is_shown` lets through, which is told of each whether it is private.
    pub fn repositories_for(
        &self,
        after: Option<&str>,
        limit: usize,
        is_shown: impl Fn(&RepositoryName, bool) -> bool,
    ) -> Result<Page<RepositoryName>, Error> {
        let scope = &self.inner.policy.scope;
        let wanted = limit.saturating_add(1);
        let mut after = after.map(str::to_owned);
        let mut found = Vec::new();
        loop {
            let names = self.inner.metadata.read(|tx| {
                let mut names = Vec::new();
                for (name, id) in repositories::list(tx, after.as_deref(), wanted)? {
                    let is_private = self.inner.is_private(tx, &name, id)?;
                    names.push((name, is_private));
                }
                Ok(names)
            })?;
            let is_last = names.len() < wanted;
            after = names.last().map(|(name, _)| name.as_str().to_owned());
            let is_listed = |(name, is_private): &(RepositoryName, bool)| {
                scope.contains(name) && is_shown(name, *is_private)
            };
            found.extend(names.into_iter().filter(is_listed).map(|(name, _)| name));
            if is_last || found.len() >= wanted {
                return Ok(Page::of(found, limit));
            }
        }
    }
}

impl Namespace {
    /// Up to `limit` repositories behind `after`, in byte order, with what each holds.
    pub fn sizes(&self, after: Option<&str>, limit: usize) -> Result<Page<(RepositoryName, Sizes)>, Error> {
        sizes::of_repositories(&self.inner, after, limit)
    }
}

/// What every service of a repository holds.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) inner: Arc<Inner>,
    pub(super) name: RepositoryName,
    /// Whose work it is, as events tell.
    pub(super) origin: Origin,
    /// Whether what comes was asked for with credentials.
    pub(super) has_credentials: bool,
}

impl Scope {
    /// The same on behalf of `actor`.
    pub(super) fn by(&self, actor: &Actor) -> Scope {
        let origin = Origin { actor: actor.clone(), ..self.origin.clone() };
        Scope { origin, ..self.clone() }
    }

    /// The folder of the upstream that the repository caches, by its name; `None` for one's own.
    pub(super) fn upstream(&self) -> Option<&str> {
        self.inner.policy.upstream_of(&self.name)
    }

    /// Whether the repository is a cached one, with the identifier that it has, or by its name where it doesn't exist yet.
    pub(super) fn is_cached(&self, id: Option<RepositoryId>) -> bool {
        id.map_or(self.upstream().is_some(), RepositoryId::is_cached)
    }

    /// Refuses content of one's own for a repository that has what was cached of an upstream: it would go like that.
    pub(super) fn require_own(&self, id: Option<RepositoryId>) -> Result<(), Error> {
        if self.is_cached(id) && self.upstream().is_none() {
            return Err(Error::NameCached(self.name.clone()));
        }
        Ok(())
    }

    /// The repository's identifier for content that is about to come, where it may; it comes into being where it doesn't
    /// exist.
    pub(super) fn ensure(
        &self,
        tx: &WriteTx<'_>,
        known: Option<RepositoryId>,
        now: Timestamp,
        actor: &str,
    ) -> Result<RepositoryId, Error> {
        self.require_own(known)?;
        let id = match known {
            Some(id) => id,
            None => repositories::ensure(tx, &self.name, now, actor, self.upstream())?,
        };
        if self.has_credentials && id.is_cached() && freshness::private_since(tx, id)?.is_none() {
            freshness::set_private(tx, id, now)?;
        }
        Ok(id)
    }

    /// Refuses to move a tag that the configuration says stays; cached ones follow their upstream.
    pub(super) fn require_mutable(
        &self,
        id: Option<RepositoryId>,
        tag: &Tag,
        former: Option<&Digest>,
        new: Option<&Digest>,
    ) -> Result<(), Error> {
        if self.is_cached(id) {
            return Ok(());
        }
        self.inner.policy.immutable.require_mutable(&self.name, tag, former, new)
    }

    /// Refuses to change a repository that isn't served.
    pub(super) fn require_served(&self) -> Result<(), Error> {
        let scope = &self.inner.policy.scope;
        if scope.contains(&self.name) {
            return Ok(());
        }
        Err(Error::NameRefused { name: self.name.clone(), scope: scope.clone() })
    }

    /// Refuses to read from a repository that isn't served.
    fn require_readable(&self) -> Result<(), Error> {
        let scope = &self.inner.policy.scope;
        if scope.contains(&self.name) {
            return Ok(());
        }
        Err(Error::NameUnserved { name: self.name.clone(), scope: scope.clone() })
    }

    /// Runs `write` in a transaction and returns what it returned after the commit; then readers of events are told. Where
    /// the store may hold no more, it runs again when eviction has made room.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        write: impl FnMut(&WriteTx<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.require_served()?;
        if self.inner.policy.quotas.store_bytes.is_none() {
            return self.commit(write).await;
        }
        let write = Arc::new(Mutex::new(write));
        let written = self.commit(shared(write.clone())).await;
        match written.as_ref().err().and_then(Error::lacks_in_store) {
            Some(more) if eviction::make_quota(&self.inner, more).await? => self.commit(shared(write)).await,
            _ => written,
        }
    }

    async fn commit<T: Send + 'static>(
        &self,
        write: impl FnMut(&WriteTx<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.inner.changes.fetch_add(1, Ordering::Relaxed);
        let written = self.inner.metadata.write(write).await;
        self.inner.events.committed();
        written
    }

    /// Writes an event in the transaction of what it tells of. What comes from an upstream, and goes, is no news.
    pub(super) fn tell(
        &self,
        tx: &WriteTx<'_>,
        id: RepositoryId,
        now: Timestamp,
        action: Action,
        target: EventTarget,
    ) -> Result<(), metadata::Error> {
        if id.is_cached() {
            return Ok(());
        }
        self.inner.events.write(tx, now, action, target, &self.origin)
    }

    /// Notes that content was asked for and is about to be given.
    pub(super) fn tell_of_pull(&self, target: impl FnOnce() -> EventTarget) {
        if !self.inner.events.options.listeners.is_empty() {
            self.inner.events.note_pull(self.inner.clock.now(), target(), &self.origin);
        }
    }

    /// Runs `read` with the repository's identifier; `None` where the repository doesn't exist.
    pub(super) fn read<T>(
        &self,
        mut read: impl FnMut(&metadata::ReadTx, RepositoryId) -> Result<T, metadata::Error>,
    ) -> Result<Option<T>, Error> {
        self.require_readable()?;
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
        self.require_readable()?;
        Ok(self.inner.metadata.look_up(|tx| match repositories::id_of(tx, &self.name)? {
            Some(id) => read(tx, id).map(Some),
            None => Ok(None),
        })?)
    }

    /// The same for listings: the identifier is looked up before, where the cache may have it, and the rows are those of a later
    /// view. Of a repository that went in between, it finds what is left.
    pub(super) fn list<T>(
        &self,
        mut read: impl FnMut(&metadata::ReadTx, RepositoryId) -> Result<T, metadata::Error>,
    ) -> Result<Option<T>, Error> {
        let Some(id) = self.look_up(|_, id| Ok(id))? else { return Ok(None) };
        Ok(Some(self.inner.metadata.read(|tx| read(tx, id))?))
    }

    /// What is made of rows of the repository for one reference, while they stay as they are: see
    /// [`metadata::Metadata::look_up_made`].
    pub(super) fn look_up_made<T: Send + Sync + 'static>(
        &self,
        reference: &Reference,
        mut make: impl FnMut(&metadata::ReadTx, RepositoryId) -> Result<Option<(T, usize)>, metadata::Error>,
    ) -> Result<Option<Arc<T>>, Error> {
        self.require_readable()?;
        let key = MadeKey::of(&self.name, reference);
        Ok(self.inner.metadata.look_up_made(key.as_bytes(), |tx| {
            match repositories::id_of(tx, &self.name)? {
                Some(id) => make(tx, id),
                None => Ok(None),
            }
        })?)
    }

    /// The repository's identifier inside a transaction.
    pub(super) fn id(&self, tx: &impl Read) -> Result<RepositoryId, Error> {
        repositories::id_of(tx, &self.name)?.ok_or(Error::RepositoryUnknown)
    }
}

impl Registry {
    /// How many changes of any repository have been begun since it was opened.
    pub fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Relaxed)
    }
}

/// Under which key something is kept that is made for a reference: the name, a NUL, and the tag or, behind another NUL, the digest.
/// On the stack, since every answer needs one.
struct MadeKey {
    bytes: [u8; RepositoryName::MAX_LEN + 2 + Tag::MAX_LEN],
    len: usize,
}

impl MadeKey {
    fn of(name: &RepositoryName, reference: &Reference) -> MadeKey {
        let mut key = MadeKey { bytes: [0; RepositoryName::MAX_LEN + 2 + Tag::MAX_LEN], len: 0 };
        key.push(name.as_str().as_bytes());
        match reference {
            Reference::Tag(tag) => {
                key.push(&[0]);
                key.push(tag.as_str().as_bytes());
            }
            Reference::Digest(digest) => {
                key.push(&[0, 0, digest.algorithm().tag()]);
                key.push(digest.as_bytes());
            }
        }
        key
    }

    fn push(&mut self, part: &[u8]) {
        self.bytes[self.len..self.len + part.len()].copy_from_slice(part);
        self.len += part.len();
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A write that may have to be run in a second transaction.
fn shared<T>(
    write: Arc<Mutex<impl FnMut(&WriteTx<'_>) -> Result<T, Error> + Send + 'static>>,
) -> impl FnMut(&WriteTx<'_>) -> Result<T, Error> + Send + 'static {
    move |tx| {
        let mut write = write.lock().unwrap_or_else(PoisonError::into_inner);
        write(tx)
    }
}

/// A repository. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repository {
    scope: Scope,
}

impl Repository {
    /// The same repository, used on behalf of `origin`, which events tell of.
    #[must_use]
    pub fn on_behalf_of(self, origin: Origin) -> Repository {
        Repository { scope: Scope { origin, ..self.scope } }
    }

    /// The same repository, for content of an upstream that was asked for with credentials: the commit that brings it records
    /// that, for as long as the repository has anything.
    #[must_use]
    pub fn with_credentials(self) -> Repository {
        Repository { scope: Scope { has_credentials: true, ..self.scope } }
    }

    /// Its name.
    pub fn name(&self) -> &RepositoryName {
        &self.scope.name
    }

    /// Whether it has ever had content.
    pub fn exists(&self) -> Result<bool, Error> {
        Ok(self.scope.look_up(|_, _| Ok(()))?.is_some())
    }

    /// Whether the name is a repository's, served or not, or was one's that is deleted and can come back or that is called
    /// something else now.
    pub fn is_taken(&self) -> Result<bool, Error> {
        let (name, metadata) = (&self.scope.name, &self.scope.inner.metadata);
        if metadata.look_up(|tx| repositories::id_of(tx, name))?.is_some() {
            return Ok(true);
        }
        let now = self.scope.inner.clock.now().millis();
        Ok(metadata.read(|tx| {
            let newest = deletions::of_name(tx, name, 1)?.pop();
            let deletion = newest.map(|id| deletions::get(tx, id)).transpose()?.flatten();
            Ok(deletion.is_some_and(|deletion| deletion.expires_at > now)
                || repositories::former(tx, name)?.is_some())
        })?)
    }

    /// Whether it is a copy of an upstream's: by the name where it doesn't exist. One that was local before its upstream was
    /// configured stays that.
    pub fn is_cached(&self) -> Result<bool, Error> {
        let id = self.scope.look_up(|_, id| Ok(id))?;
        Ok(self.scope.is_cached(id))
    }

    /// Its blobs and uploads.
    pub fn blobs(&self) -> BlobService {
        BlobService::new(self.scope.clone())
    }

    /// Its manifests, by digest or tag.
    pub fn manifests(&self) -> ManifestService {
        ManifestService::new(self.scope.clone())
    }

    /// The same, for whoever wants nothing else of the repository.
    pub fn into_manifests(self) -> ManifestService {
        ManifestService::new(self.scope)
    }
    /// Its tags.
    pub fn tags(&self) -> TagService {
        TagService::new(self.scope.clone())
    }

    /// Who has signed its schema 1 manifests.
    pub fn signatures(&self) -> SignatureService {
        SignatureService::new(self.scope.clone())
    }

    /// What was deleted from it and can come back, its own deletion, and its name.
    pub fn deletions(&self) -> DeletionService {
        DeletionService::new(self.scope.clone())
    }

    /// How much it holds; `None` where it doesn't exist.
    pub fn sizes(&self) -> Result<Option<Sizes>, Error> {
        sizes::of_repository(&self.scope)
    }

    /// How much the image under a tag is made of.
    pub fn sizes_of_tag(&self, tag: &Tag) -> Result<Option<Sizes>, Error> {
        sizes::of_tag(&self.scope, tag)
    }

    /// What there is to know of it as a copy of an upstream's.
    pub fn cached(&self) -> CachedService {
        CachedService::new(self.scope.clone())
    }

    /// What policies take away.
    pub fn expiry(&self) -> ExpiryService {
        ExpiryService::new(self.scope.clone())
    }

    /// What refers to its manifests.
    pub fn referrers(&self) -> ReferrerService {
        ReferrerService::new(self.scope.clone())
    }
}
