//! Fetches of blobs: one for all who want a blob, which goes on when they have left.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::manifests::panicked;
use super::transfer::Transfer;
use super::{CachedRepository, Error, Source};
use crate::clock::monotonic;
use crate::oci::{Digest, RepositoryName};
use crate::registry::{self, Actor, BlobFetch, GrowingBlob};

/// An upstream that pauses for so long makes what has come readable.
const PAUSE: Duration = Duration::from_millis(200);

/// The fetches of one upstream.
#[derive(Debug)]
pub(super) struct Fetches {
    running: Mutex<BTreeMap<Key, Arc<Running>>>,
    /// Held by those that take bytes from the upstream.
    slots: Arc<Semaphore>,
    /// How many wait for one.
    waiting: AtomicUsize,
    is_stopping: watch::Sender<bool>,
}

/// The blob, and the repository that it is fetched for.
type Key = (Digest, RepositoryName);

/// A fetch, for those who want its blob.
#[derive(Debug)]
struct Running {
    stage: watch::Sender<Stage>,
    /// Whether it follows a fetch for another repository.
    follows: bool,
}

/// How far a fetch has come.
#[derive(Debug, Clone)]
pub(super) enum Stage {
    /// There is nothing to read yet.
    Asking,
    /// It can be read while it comes.
    Growing(GrowingBlob),
    /// It is in the repository.
    Stored(Source),
    /// There is no room for it; its size, where the upstream has said it.
    NotKept(Option<u64>),
    /// It can't be had.
    Failed(Error),
}

/// Why a fetch ended before the blob did.
enum End {
    /// It can be gone on with.
    Interrupted(Error),
    /// What has come isn't the blob.
    Wrong(Error),
    /// The store took no more of it.
    Lost(Error),
}

impl Stage {
    fn has_failed(&self) -> bool {
        match self {
            Stage::Growing(blob) => blob.has_failed(),
            Stage::Failed(_) => true,
            Stage::Asking | Stage::Stored(_) | Stage::NotKept(_) => false,
        }
    }
}

impl Fetches {
    pub(super) fn new(at_once: usize) -> Fetches {
        let slots = Arc::new(Semaphore::new(at_once.clamp(1, Semaphore::MAX_PERMITS)));
        let (running, waiting) = (Mutex::default(), AtomicUsize::new(0));
        Fetches { running, slots, waiting, is_stopping: watch::Sender::new(false) }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the blob is being fetched for the repository.
    pub(super) fn has(&self, repository: &RepositoryName, digest: &Digest) -> bool {
        self.running().contains_key(&(*digest, repository.clone()))
    }

    /// Interrupts all of them, so that they can be gone on with after a restart, and waits for that.
    pub(super) async fn stop(&self) {
        self.is_stopping.send_replace(true);
        loop {
            let Some(mut stage) = self.running().values().next().map(|running| running.stage.subscribe())
            else {
                return;
            };
            while stage.changed().await.is_ok() {}
        }
    }

    async fn stopping(&self) {
        // The sender is here.
        let _ = self.is_stopping.subscribe().wait_for(|is_stopping| *is_stopping).await;
    }
}

/// Counts one that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Waiting<'_> {
    fn of(count: &AtomicUsize) -> Waiting<'_> {
        count.fetch_add(1, Ordering::Relaxed);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes a fetch off the list when it has ended, or panicked.
struct Landing {
    repository: CachedRepository,
    key: Key,
    running: Arc<Running>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut all = self.repository.upstream.fetches.running();
        if all.get(&self.key).is_some_and(|running| Arc::ptr_eq(running, &self.running)) {
            all.remove(&self.key);
        }
    }
}

impl CachedRepository {
    /// Waits until the blob can be read, or can't be had. Begins to fetch it where nobody does.
    pub(super) async fn fetched(&self, digest: &Digest) -> Stage {
        while let Some(mut stages) = self.join(digest) {
            // Whoever comes after a failure tries anew, as soon as what is left of the fetch is put away.
            if stages.borrow().has_failed() {
                while stages.changed().await.is_ok() {}
                continue;
            }
            return match stages.wait_for(|stage| !matches!(stage, Stage::Asking)).await {
                Ok(stage) => stage.clone(),
                Err(_) => Stage::Failed(panicked()),
            };
        }
        Stage::Failed(self.stopped())
    }

    /// The size of the blob, where it is being fetched for this repository and that is known.
    pub(super) fn growing_size(&self, digest: &Digest) -> Option<u64> {
        let running = self.upstream.fetches.running();
        match &*running.get(&(*digest, self.name.clone()))?.stage.borrow() {
            Stage::Growing(blob) => Some(blob.size()),
            Stage::Asking | Stage::Stored(_) | Stage::NotKept(_) | Stage::Failed(_) => None,
        }
    }

    /// Takes part in the fetch of the blob, which begins where there is none; `None` where the cache stops.
    fn join(&self, digest: &Digest) -> Option<watch::Receiver<Stage>> {
        let fetches = &self.upstream.fetches;
        let key = (*digest, self.name.clone());
        let mut all = fetches.running();
        if let Some(running) = all.get(&key) {
            return Some(running.stage.subscribe());
        }
        if *fetches.is_stopping.borrow() {
            return None;
        }
        let (stage, stages) = watch::channel(Stage::Asking);
        let leader = all
            .iter()
            .filter(|((of, _), running)| of == digest && !running.follows)
            .map(|(_, running)| running.stage.subscribe())
            .next();
        let running = Arc::new(Running { stage, follows: leader.is_some() });
        all.insert(key.clone(), running.clone());
        let landing = Landing { repository: self.clone(), key, running };
        tokio::spawn(landing.repository.clone().run(*digest, landing, leader));
        Some(stages)
    }

    pub(super) fn stopped(&self) -> Error {
        let host = self.host();
        let reason =
            format!("what comes from {host} was interrupted, since this registry stops; try again later");
        Error::Unavailable { reason, retry_after: Duration::from_secs(10) }
    }

    /// A fetch, from its beginning to its end.
    async fn run(self, digest: Digest, landing: Landing, leader: Option<watch::Receiver<Stage>>) {
        let running = &landing.running;
        let stage = self.bring(&digest, running, leader).await.unwrap_or_else(|error| {
            tracing::debug!(%digest, repository = %self.name, %error, "a blob was not fetched");
            Stage::Failed(error)
        });
        running.stage.send_replace(stage);
        self.cache.growth().note();
    }

    async fn bring(
        &self,
        digest: &Digest,
        running: &Running,
        leader: Option<watch::Receiver<Stage>>,
    ) -> Result<Stage, Error> {
        let blobs = self.stored().blobs();
        // Another fetch may have ended a moment ago. What is here in name only comes anew.
        let is_known = blobs.stat(digest)?.is_some();
        if is_known && blobs.has_file(digest)? {
            return Ok(Stage::Stored(Source::Hit));
        }
        if let Some(most) = self.max_bytes()
            && blobs.is_of_image_within(digest, most)? == Some(false)
        {
            return Ok(Stage::NotKept(None));
        }
        if let Some(leader) = leader {
            self.unless_stopped(self.ask_size(digest)).await?;
            self.follow(running, leader).await?;
            if self.link(digest).await? {
                return Ok(Stage::Stored(Source::Miss));
            }
        } else if !is_known && self.stored().cached().is_linkable(digest)? {
            self.unless_stopped(self.ask_size(digest)).await?;
            if self.link(digest).await? {
                return Ok(Stage::Stored(Source::Revalidated));
            }
        }
        let Some(_slot) = self.slot(digest, running).await else { return Err(self.stopped()) };
        self.fetch_blob(digest, running).await
    }

    /// The most that an image may have to be kept.
    fn max_bytes(&self) -> Option<u64> {
        let (own, all) = (self.upstream.settings.max_bytes, self.cache.settings().max_bytes);
        own.into_iter().chain(all).min()
    }

    /// Waits for an answer of the upstream for as long as the cache is open.
    async fn unless_stopped<T>(&self, asked: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            biased;
            () = self.upstream.fetches.stopping() => Err(self.stopped()),
            answer = asked => answer,
        }
    }

    /// Waits for its turn; `None` where nobody waits for the blob any more, or the cache stops.
    async fn slot(&self, digest: &Digest, running: &Running) -> Option<OwnedSemaphorePermit> {
        let fetches = &self.upstream.fetches;
        if let Ok(slot) = fetches.slots.clone().try_acquire_owned() {
            return Some(slot);
        }
        let _waiting = Waiting::of(&fetches.waiting);
        let mut slot = pin!(fetches.slots.clone().acquire_owned());
        loop {
            tokio::select! {
                slot = &mut slot => return slot.ok(),
                () = fetches.stopping() => return None,
                () = running.stage.closed() => {
                    // Who comes from now on begins anew; nobody comes while the list is held.
                    let mut all = fetches.running();
                    if running.stage.receiver_count() == 0 {
                        all.remove(&(*digest, self.name.clone()));
                        return None;
                    }
                }
            }
        }
    }

    /// Gives the repository what another one of the upstream has; says whether there is something.
    async fn link(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(self.stored().cached().link(digest, &Actor::anonymous()).await?.is_some())
    }

    /// Takes part in a fetch for another repository of the upstream, until that has ended.
    async fn follow(&self, running: &Running, mut leader: watch::Receiver<Stage>) -> Result<(), Error> {
        let stage = leader.wait_for(|stage| !matches!(stage, Stage::Asking)).await;
        let growing = stage.map_or(None, |stage| match &*stage {
            Stage::Growing(blob) => Some(blob.clone()),
            Stage::Asking | Stage::Stored(_) | Stage::NotKept(_) | Stage::Failed(_) => None,
        });
        let Some(mut blob) = growing else { return Ok(()) };
        running.stage.send_replace(Stage::Growing(blob.clone()));
        let whole = blob.whole().await.map_err(|error| error.to_string());
        whole.map_err(|reason| Error::Unavailable { reason, retry_after: Duration::ZERO })
    }

    /// The blob's size; none where the upstream can't say it without sending the blob.
    async fn size_if_said(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        match self.unless_stopped(self.ask_size(digest)).await {
            Err(Error::Invalid(_)) => Ok(None),
            asked => asked.map(Some),
        }
    }

    async fn fetch_blob(&self, digest: &Digest, running: &Running) -> Result<Stage, Error> {
        let blobs = self.stored().blobs();
        let known = if blobs.was_interrupted(digest)? { self.size_if_said(digest).await? } else { None };
        let (size, blob) = if let Some(size) = known {
            (size, None)
        } else {
            let blob = self.unless_stopped(self.ask_bytes(digest, 0)).await?;
            let size = match blob.size {
                Some(size) => size,
                None => self.unless_stopped(self.ask_size(digest)).await?,
            };
            (size, Some(blob))
        };
        if self.max_bytes().is_some_and(|most| size > most) {
            return Ok(Stage::NotKept(Some(size)));
        }
        let mut fetch = match blobs.fetch(digest, size, &Actor::anonymous()).await {
            Err(registry::Error::DiskFull | registry::Error::QuotaExceeded { .. }) => {
                return Ok(Stage::NotKept(Some(size)));
            }
            begun => begun?,
        };
        let mut transfer = Transfer::new(self, digest, size, fetch.size(), blob);
        if let Err(error) = self.unless_stopped(transfer.begin()).await {
            fetch.interrupt(&error.to_string()).await?;
            return Err(error);
        }
        running.stage.send_replace(Stage::Growing(fetch.blob()));
        match self.receive(running, &mut fetch, &mut transfer).await {
            Ok(()) => {}
            Err(End::Interrupted(error)) => {
                fetch.interrupt(&error.to_string()).await?;
                return Err(error);
            }
            Err(End::Wrong(error)) => {
                fetch.discard(&error.to_string()).await?;
                return Err(error);
            }
            Err(End::Lost(error)) => return Err(error),
        }
        match fetch.finish().await {
            Ok(_) => Ok(Stage::Stored(Source::Miss)),
            Err(registry::Error::DigestMismatch { computed, .. }) => {
                let host = self.host();
                tracing::warn!(%digest, %computed, repository = %self.name, "an upstream has sent something else");
                Err(Error::Invalid(format!(
                    "{host} has sent something else than {digest}; nothing of it is kept"
                )))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Hands what comes to the fetch, to the blob's end.
    async fn receive(
        &self,
        running: &Running,
        fetch: &mut BlobFetch,
        transfer: &mut Transfer,
    ) -> Result<(), End> {
        let mut unread_since = None;
        loop {
            let mut next = pin!(transfer.next());
            let bytes = loop {
                self.require_wanted(running, fetch, &mut unread_since)?;
                tokio::select! {
                    biased;
                    () = self.upstream.fetches.stopping() => return Err(End::Interrupted(self.stopped())),
                    bytes = &mut next => break bytes,
                    () = tokio::time::sleep(PAUSE) => {
                        fetch.show().await.map_err(|error| End::Lost(error.into()))?;
                    }
                }
            };
            match bytes {
                Ok(Some(bytes)) => {
                    fetch.write(bytes).await.map_err(|error| End::Lost(error.into()))?;
                }
                Ok(None) => return Ok(()),
                Err(error @ Error::Invalid(_)) => return Err(End::Wrong(error)),
                Err(error) => {
                    let digest = fetch.digest();
                    tracing::warn!(%digest, repository = %self.name, came = fetch.size(), %error, "a fetch broke off");
                    return Err(End::Interrupted(error));
                }
            }
        }
    }

    /// Ends a fetch that nobody has read for too long, or of which there is too much to come.
    fn require_wanted(
        &self,
        running: &Running,
        fetch: &BlobFetch,
        unread_since: &mut Option<Instant>,
    ) -> Result<(), End> {
        // One is for those who come later; others may be about to read.
        if fetch.readers() > 1 || running.stage.receiver_count() > 0 {
            *unread_since = None;
            return Ok(());
        }
        let limits = &self.upstream.settings.fetching;
        let since = unread_since.get_or_insert_with(monotonic);
        let missing = fetch.missing();
        let has_others = self.upstream.fetches.waiting.load(Ordering::Relaxed) > 0;
        let longest = if has_others { limits.contended_unread_time } else { limits.unread_time };
        if since.elapsed() < longest && missing <= limits.unread_bytes {
            return Ok(());
        }
        let reason = format!("what comes from {} is read by nobody any more; ask again", self.host());
        Err(End::Interrupted(Error::Unavailable { reason, retry_after: Duration::ZERO }))
    }
}
