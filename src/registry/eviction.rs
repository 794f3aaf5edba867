//! Eviction: cached images go, the least recently used first, where there has to be room.
//!
//! An image is a manifest that no index names, with its tags, the manifests that only it names, and the blobs that no other
//! manifest of its repository names. The search reads pages, each in a view of its own, and keeps the least recently used
//! ones that it finds. Each is looked at again in the transaction that removes it, all at once: nobody has used it meanwhile,
//! reads it, or fetches a part of it. Files go behind the commit, as in a collection.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::sessions::blocking;
use super::{Error, Inner, evictable, unlinked};
use crate::clock::monotonic;
use crate::metadata::repositories::{self, Cached, RepositoryId};
use crate::metadata::sizes;
use crate::oci::{Digest, RepositoryName, Tag};
use crate::telemetry::StorageMetrics;

/// How many images one search finds at most.
const FOUND: usize = 4096;

/// How long those who need room wait for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the disk is full, so much more is made free than is needed, so that the next one need not wait.
const SPARE: u64 = 16 << 20;

/// What eviction leaves alone beside what the registry itself knows to be in use.
pub trait EvictionGuard: fmt::Debug + Send + Sync {
    /// Whether an image of a repository stays whatever room there is, which has these tags.
    fn is_pinned(&self, repository: &RepositoryName, tags: &[Tag]) -> bool;

    /// Whether this manifest or blob of a repository is being fetched.
    fn is_fetched(&self, repository: &RepositoryName, digest: &Digest) -> bool;
}

/// What was evicted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Images.
    pub images: u64,
    /// Their manifests, those of indexes included.
    pub manifests: u64,
    /// Their tags.
    pub tags: u64,
    /// Blobs that no other image of their repository needed.
    pub links: u64,
    /// Those of them that nobody needed, whose files are gone.
    pub blobs: u64,
    /// The bytes of these files.
    pub bytes: u64,
}

impl Evicted {
    /// Adds what else was evicted.
    pub fn add(&mut self, other: &Evicted) {
        self.images += other.images;
        self.manifests += other.manifests;
        self.tags += other.tags;
        self.links += other.links;
        self.blobs += other.blobs;
        self.bytes += other.bytes;
    }
}

/// What eviction knows.
#[derive(Debug)]
pub(super) struct Eviction {
    guard: OnceLock<Arc<dyn EvictionGuard>>,
    metrics: StorageMetrics,
    /// Held by the one who evicts.
    alone: tokio::sync::Mutex<()>,
}

impl Eviction {
    pub(super) fn new(metrics: StorageMetrics) -> Eviction {
        Eviction { guard: OnceLock::new(), metrics, alone: tokio::sync::Mutex::default() }
    }

    pub(super) fn is_pinned(&self, repository: &RepositoryName, tags: &[Tag]) -> bool {
        self.guard.get().is_some_and(|guard| guard.is_pinned(repository, tags))
    }

    pub(super) fn is_fetched(&self, repository: &RepositoryName, digest: &Digest) -> bool {
        self.guard.get().is_some_and(|guard| guard.is_fetched(repository, digest))
    }
}

/// An image that may go: when it was last used, in milliseconds since 1970, and where it is.
pub(super) type Candidate = (u64, RepositoryId, Digest);

/// Evicts what is cached.
#[derive(Debug, Clone)]
pub struct EvictionService {
    inner: Arc<Inner>,
}

impl EvictionService {
    pub(super) fn new(inner: Arc<Inner>) -> EvictionService {
        EvictionService { inner }
    }

    /// Sets what is left alone. The first call counts.
    pub fn set_guard(&self, guard: Arc<dyn EvictionGuard>) {
        if self.inner.eviction.guard.set(guard).is_err() {
            tracing::warn!("a second guard of what is cached was ignored");
        }
    }

    /// Evicts images of an upstream, or of all where none is named, until they take no more than `bytes`, as
    /// [`cached_sizes`](super::Registry::cached_sizes) counts. Ends where nothing more may go.
    pub async fn evict(&self, upstream: Option<&str>, bytes: u64) -> Result<Evicted, Error> {
        let cached = match upstream {
            Some(folder) => {
                self.inner.metadata.read(|tx| repositories::upstream(tx, folder))?.map(Cached::Of)
            }
            None => Some(Cached::All),
        };
        let Some(cached) = cached else { return Ok(Evicted::default()) };
        let is_enough =
            move |inner: &Inner| Ok(inner.metadata.read(|tx| sizes::of_cached(tx, cached))?.bytes() <= bytes);
        run(&self.inner, cached, None, is_enough).await
    }

    /// Evicts manifests that neither a tag nor a manifest names, nor are about another one, `keep` after their last use, and
    /// forgets cached repositories that have nothing any more.
    pub async fn evict_superseded(&self, keep: Duration) -> Result<Evicted, Error> {
        let _alone = self.inner.eviction.alone.lock().await;
        let mut evicted = Evicted::default();
        let mut after = None;
        loop {
            let (worker, behind) = (self.inner.clone(), after);
            let (found, last) = blocking(move || evictable::superseded(&worker, behind, keep)).await?;
            for candidate in found {
                evicted.add(&evict_image(&self.inner, candidate).await?.unwrap_or_default());
            }
            if last.is_none() {
                break;
            }
            after = last;
        }
        evictable::forget_empty(&self.inner).await?;
        Ok(evicted)
    }
}

/// Evicts until there is enough room, nothing more may go, or `patience` is over.
async fn run(
    inner: &Arc<Inner>,
    cached: Cached,
    patience: Option<Duration>,
    is_enough: impl Fn(&Inner) -> Result<bool, Error>,
) -> Result<Evicted, Error> {
    let began = monotonic();
    let alone = inner.eviction.alone.lock();
    let _alone = match patience {
        None => alone.await,
        // Somebody else's eviction has made room by then, or is too large to wait for.
        Some(patience) => match tokio::time::timeout(patience, alone).await {
            Ok(alone) => alone,
            Err(_) => return Ok(Evicted::default()),
        },
    };
    let mut evicted = Evicted::default();
    let mut behind: Option<Candidate> = None;
    let mut images = 0;
    while !is_enough(inner)? {
        let (worker, last) = (inner.clone(), behind);
        let found = blocking(move || evictable::least_used(&worker, cached, last, FOUND)).await?;
        behind = found.last().copied();
        for candidate in found {
            evicted.add(&evict_image(inner, candidate).await?.unwrap_or_default());
            if is_enough(inner)? || patience.is_some_and(|patience| began.elapsed() > patience) {
                return Ok(evicted);
            }
        }
        if behind.is_none() {
            if evicted.images == images {
                break;
            }
            // What an index has left may be an image of its own now, before those that were found.
            images = evicted.images;
        }
    }
    Ok(evicted)
}

/// Removes an image, unless it is in use by now; to its end where the caller stops waiting.
async fn evict_image(inner: &Arc<Inner>, candidate: Candidate) -> Result<Option<Evicted>, Error> {
    let worker = inner.clone();
    let task = tokio::spawn(async move {
        // Whoever holds the files of collected blobs holds these too.
        let _alone = worker.collecting.lock().await;
        let (writer, now) = (worker.clone(), worker.clock.now());
        let gone =
            worker.metadata.write(move |tx| evictable::remove_image(tx, &writer, now, candidate)).await?;
        let Some(gone) = gone else { return Ok(None) };
        worker.eviction.metrics.evicted(gone.evicted.images, 0);
        let (blobs, bytes) = unlinked::collect_these(&worker, gone.blobs).await?;
        worker.eviction.metrics.evicted(0, bytes);
        Ok(Some(Evicted { blobs, bytes, ..gone.evicted }))
    });
    match task.await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::Unavailable),
    }
}

/// Sees to it that `bytes` more leave the disk its floor, by eviction where need be.
pub(super) async fn make_space(inner: &Arc<Inner>, bytes: u64) -> Result<(), Error> {
    match inner.require_space(bytes) {
        Err(Error::DiskFull) => {}
        result => return result,
    }
    let wanted = inner.policy.free_floor_bytes.saturating_add(bytes);
    let missing = wanted.saturating_sub(inner.blobs.free_bytes()?);
    if could_give(inner, missing)? {
        let is_enough = move |inner: &Inner| Ok(inner.blobs.free_bytes()? >= wanted.saturating_add(SPARE));
        tell(run(inner, Cached::All, Some(PATIENCE), is_enough).await?, "the disk is full");
    }
    inner.require_space(bytes)
}

/// Refuses bytes on their way to a repository that nobody has yet as far as is known, unless eviction makes room for them.
pub(super) async fn make_quota_for(
    inner: &Arc<Inner>,
    name: &RepositoryName,
    bytes: u64,
) -> Result<(), Error> {
    let refused = inner.require_quota(name, bytes);
    match refused.as_ref().err().and_then(Error::lacks_in_store) {
        Some(more) if make_quota(inner, more).await? => inner.require_quota(name, bytes),
        _ => refused,
    }
}

/// Makes room for `more` bytes within what the store may hold; says whether it may hold them now.
pub(super) async fn make_quota(inner: &Arc<Inner>, more: u64) -> Result<bool, Error> {
    let Some(quota) = inner.policy.quotas.store_bytes else { return Ok(true) };
    let missing = move |inner: &Inner| {
        let used = inner.metadata.read(sizes::of_store)?.bytes();
        Ok::<_, Error>(used.saturating_add(more).saturating_sub(quota))
    };
    if !could_give(inner, missing(inner)?)? {
        return Ok(false);
    }
    let is_enough = move |inner: &Inner| Ok(missing(inner)? == 0);
    tell(run(inner, Cached::All, Some(PATIENCE), is_enough).await?, "the registry holds what it may");
    Ok(missing(inner)? == 0)
}

/// Whether there is so much in the cache at all: nothing is evicted in vain.
fn could_give(inner: &Inner, bytes: u64) -> Result<bool, Error> {
    let cached = inner.metadata.read(|tx| sizes::of_cached(tx, Cached::All))?;
    Ok(cached.bytes() > 0 && cached.bytes() >= bytes)
}

fn tell(evicted: Evicted, why: &str) {
    let Evicted { images, blobs, bytes, .. } = evicted;
    if images > 0 {
        tracing::info!(images, blobs, bytes, "evicted cached images, since {why}");
    }
}
