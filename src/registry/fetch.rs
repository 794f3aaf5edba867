//! A blob that is being fetched from an upstream: written once, and read by everybody who wants it meanwhile.
//!
//! The bytes go to an upload of the repository. Readers follow the growing file, but for its end, which is held back until
//! all of it has come, has the right digest and is published. What turns out to be something else is never published, and
//! its readers get an error instead of an end.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use super::blob_writer::BlobWriter;
use super::readers::Reading;
use super::repository::Scope;
use super::{Actor, BlobDescriptor, BlobService, Error, events, eviction};
use crate::blobs::{BlobFile, UploadId};
use crate::clock::monotonic;
use crate::fsio::ReadNow;
use crate::metadata::{fetches, repositories};
use crate::oci::{Digest, MediaType};

/// Readers are told of new bytes in steps of this size.
const STEP: u64 = 1 << 20;

/// How long readers wait for a step of a slow upstream that is not on the disk yet. Of a fast one they hear what has been
/// written without anybody waiting for that.
const SLOW: Duration = Duration::from_millis(50);

/// How much of the end is held back.
const HELD_BACK: u64 = 64 << 10;

/// Fetches of blobs of this size and more go on after a restart.
const REMEMBERED: u64 = 8 << 20;

/// What has come of them is made durable whenever so much time has passed and so much is new.
const RECORDED_EVERY: Duration = Duration::from_secs(5);
const RECORDED_BYTES: u64 = 8 << 20;

/// How far a fetch has come.
#[derive(Debug, Clone)]
enum Progress {
    /// So many bytes may be read.
    Growing(u64),
    /// All of it is published.
    Whole,
    /// It won't come.
    Failed(Arc<str>),
}

/// What the writer and the readers share.
#[derive(Debug)]
struct Shared {
    digest: Digest,
    size: u64,
    /// Open from the first step on.
    file: OnceLock<BlobFile>,
    /// What keeps the blob from being evicted as long as anybody reads it, from when it is published on.
    reading: OnceLock<Reading>,
}

/// The writer of a blob that others read meanwhile. Dropping it interrupts the fetch: the upload can be gone on with, and
/// the readers get an error.
#[derive(Debug)]
pub struct BlobFetch {
    scope: Scope,
    writer: BlobWriter,
    shared: Arc<Shared>,
    progress: watch::Sender<Progress>,
    /// What readers know of, and since when.
    told: u64,
    told_at: Instant,
    /// How much was durable, and since when.
    recorded: (u64, Instant),
}

/// A blob that is being fetched, for its readers. Clones read on their own.
#[derive(Debug, Clone)]
pub struct GrowingBlob {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
}

/// Reads a [`GrowingBlob`] from wherever, and waits for what hasn't come yet.
#[derive(Debug)]
pub struct GrowingReader {
    blob: GrowingBlob,
    /// What may be read, as far as this reader knows.
    readable: u64,
    waiting: Option<Waiting>,
}

/// Ends when there is news.
struct Waiting(Pin<Box<dyn Future<Output = bool> + Send + Sync>>);

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waiting")
    }
}

impl BlobService {
    /// Begins to fetch a blob of `size` bytes, or goes on where a fetch of it was interrupted: see
    /// [`BlobFetch::size`]. There is one at a time; the caller sees to that.
    pub async fn fetch(&self, digest: &Digest, size: u64, actor: &Actor) -> Result<BlobFetch, Error> {
        let scope = self.scope();
        eviction::make_space(&scope.inner, size).await?;
        eviction::make_quota_for(&scope.inner, &scope.name, size).await?;
        let writer = match self.interrupted_fetch(digest).await? {
            Some(writer) if writer.size() <= size => writer,
            _ => {
                let writer = self.create(digest.algorithm(), actor)?;
                if size >= REMEMBERED {
                    let (digest, id) = (*digest, *writer.id().as_bytes());
                    scope.write(move |tx| Ok(fetches::set(tx, &digest, &id)?)).await?;
                }
                writer
            }
        };
        let shared =
            Arc::new(Shared { digest: *digest, size, file: OnceLock::new(), reading: OnceLock::new() });
        let progress = watch::Sender::new(Progress::Growing(0));
        let recorded = (writer.size(), monotonic());
        let (scope, told_at) = (scope.clone(), recorded.1);
        let mut fetch = BlobFetch { scope, writer, shared, progress, told: 0, told_at, recorded };
        if fetch.writer.size() > 0 {
            fetch.tell().await?;
        }
        Ok(fetch)
    }

    /// Whether a fetch of the blob was interrupted that [`fetch`](BlobService::fetch) may go on with.
    pub fn was_interrupted(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(self.scope().inner.metadata.read(|tx| fetches::get(tx, digest))?.is_some())
    }

    /// Notes that somebody pulls a blob that isn't here yet.
    pub fn note_pull(&self, digest: &Digest, size: u64) {
        let scope = self.scope();
        scope.tell_of_pull(|| events::blob(&scope.name, *digest, &MediaType::OCTET_STREAM, size));
    }

    async fn interrupted_fetch(&self, digest: &Digest) -> Result<Option<BlobWriter>, Error> {
        let Some(id) = self.scope().inner.metadata.read(|tx| fetches::get(tx, digest))? else {
            return Ok(None);
        };
        match self.resume(&UploadId::from_bytes(id)).await {
            // It may be held by the fetch that is just ending.
            Ok(None) | Err(Error::UploadBusy) => Ok(None),
            resumed => resumed,
        }
    }
}

impl BlobFetch {
    /// How many bytes have come.
    pub fn size(&self) -> u64 {
        self.writer.size()
    }

    /// How many are still to come.
    pub fn missing(&self) -> u64 {
        self.shared.size - self.writer.size()
    }

    /// The digest that was asked for.
    pub fn digest(&self) -> &Digest {
        &self.shared.digest
    }

    /// For somebody who wants to read the blob.
    pub fn blob(&self) -> GrowingBlob {
        GrowingBlob { shared: self.shared.clone(), progress: self.progress.subscribe() }
    }

    /// How many hold the blob, readers or not.
    pub fn readers(&self) -> usize {
        self.progress.receiver_count()
    }

    /// Adds bytes. After an error the fetch has failed.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        let size = self.shared.size;
        if self.writer.size() + bytes.len() as u64 > size {
            return Err(Error::SizeMismatch {
                claimed: size,
                received: self.writer.size() + bytes.len() as u64,
            });
        }
        self.writer.write(bytes).await?;
        let written = self.writer.written();
        if self.is_due(self.writer.size()) {
            self.tell().await
        } else if written >= self.told + STEP {
            self.tell_of(written)
        } else if self.writer.size() >= self.told + STEP && self.told_at.elapsed() >= SLOW {
            self.tell().await
        } else {
            Ok(())
        }
    }

    /// Lets readers have what has come, as [`write`](BlobFetch::write) does only once there is a certain amount: for an
    /// upstream that pauses.
    pub async fn show(&mut self) -> Result<(), Error> {
        if self.writer.size() > self.told { self.tell().await } else { Ok(()) }
    }

    /// Whether it is time to make so many bytes durable.
    fn is_due(&self, bytes: u64) -> bool {
        let (recorded, since) = self.recorded;
        self.is_remembered() && bytes >= recorded + RECORDED_BYTES && since.elapsed() >= RECORDED_EVERY
    }

    /// Lets readers have all that has come, and makes it durable from time to time.
    async fn tell(&mut self) -> Result<(), Error> {
        let written = self.writer.flush().await?;
        if self.is_due(written) {
            self.writer.checkpoint().await?;
            self.recorded = (written, monotonic());
        }
        self.tell_of(written)
    }

    /// Lets readers have what is in the file.
    fn tell_of(&mut self, written: u64) -> Result<(), Error> {
        if self.shared.file.get().is_none()
            && let Some(file) = self.scope.inner.blobs.open_staged(*self.writer.id())?
        {
            // Nobody else sets it.
            let _ = self.shared.file.set(file);
        }
        (self.told, self.told_at) = (written, monotonic());
        let readable = written.min(self.shared.size.saturating_sub(HELD_BACK));
        self.progress.send_replace(Progress::Growing(readable));
        Ok(())
    }

    /// Publishes what has come, if it is the blob, and gives readers its end.
    pub async fn finish(mut self) -> Result<BlobDescriptor, Error> {
        let digest = self.shared.digest;
        let published = self.publish().await;
        let told = match &published {
            Ok(_) => Progress::Whole,
            Err(error) => Progress::Failed(error.to_string().into()),
        };
        let forgotten = self.scope.write(move |tx| Ok(fetches::remove(tx, &digest)?)).await;
        if let Err(error) = forgotten {
            tracing::debug!(%digest, %error, "a fetch is remembered for longer than need be");
        }
        self.progress.send_replace(told);
        published
    }

    async fn publish(&mut self) -> Result<BlobDescriptor, Error> {
        let Shared { digest, size, .. } = *self.shared;
        let received = self.writer.size();
        if received != size {
            return Err(Error::SizeMismatch { claimed: size, received });
        }
        let written = self.writer.flush().await?;
        if written > 0 && self.shared.file.get().is_none() {
            self.tell().await?;
        }
        let blob = self.writer.commit(&digest).await?;
        let id = self.scope.inner.metadata.read(|tx| repositories::id_of(tx, &self.scope.name))?;
        if let Some(reading) = id.and_then(|id| self.scope.inner.readers.read(id, &blob.digest)) {
            let _ = self.shared.reading.set(reading);
        }
        if self.shared.file.get().is_none()
            && let Some(file) = self.scope.inner.blobs.open_blob(&blob.digest)?
        {
            let _ = self.shared.file.set(file);
        }
        Ok(blob)
    }

    fn is_remembered(&self) -> bool {
        self.shared.size >= REMEMBERED
    }

    /// Stops for now: readers get an error. What has come of a large blob stays for a later fetch, also after a crash.
    pub async fn interrupt(mut self, reason: &str) -> Result<(), Error> {
        self.progress.send_replace(Progress::Failed(reason.into()));
        if self.is_remembered() {
            self.writer.checkpoint().await.map(drop)
        } else {
            self.writer.cancel().await
        }
    }

    /// Gives up what has come: it is not the blob's beginning.
    pub async fn discard(mut self, reason: &str) -> Result<(), Error> {
        self.progress.send_replace(Progress::Failed(reason.into()));
        self.writer.cancel().await
    }
}

impl GrowingBlob {
    /// The digest that was asked for.
    pub fn digest(&self) -> &Digest {
        &self.shared.digest
    }

    /// The length in bytes, of which not all may be there yet.
    pub fn size(&self) -> u64 {
        self.shared.size
    }

    /// Whether it is known that it won't come.
    pub fn has_failed(&self) -> bool {
        let is_over = self.progress.has_changed().is_err();
        match &*self.progress.borrow() {
            Progress::Growing(_) => is_over,
            Progress::Whole => false,
            Progress::Failed(_) => true,
        }
    }

    /// How many bytes have come that may be read.
    pub fn received(&self) -> u64 {
        match &*self.progress.borrow() {
            Progress::Growing(readable) => *readable,
            Progress::Whole => self.shared.size,
            Progress::Failed(_) => 0,
        }
    }

    /// A reader.
    pub fn reader(&self) -> GrowingReader {
        GrowingReader { blob: self.clone(), readable: 0, waiting: None }
    }

    /// Waits until all of it is published, or is known never to be.
    pub async fn whole(&mut self) -> io::Result<()> {
        loop {
            match &*self.progress.borrow_and_update() {
                Progress::Whole => return Ok(()),
                Progress::Failed(reason) => return Err(failed(reason)),
                Progress::Growing(_) => {}
            }
            if self.progress.changed().await.is_err() {
                return Err(interrupted());
            }
        }
    }
}

fn failed(reason: &str) -> io::Error {
    io::Error::other(format!("the upstream didn't send what was asked for: {reason}"))
}

fn interrupted() -> io::Error {
    io::Error::other("the fetch from the upstream was interrupted; ask again")
}

impl Clone for GrowingReader {
    fn clone(&self) -> Self {
        GrowingReader { blob: self.blob.clone(), readable: self.readable, waiting: None }
    }
}

impl GrowingReader {
    /// Waits until the byte at `offset` may be read.
    pub fn poll_readable(&mut self, offset: u64, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while offset >= self.readable {
            if let Some(waiting) = &mut self.waiting {
                let has_news = ready!(waiting.0.as_mut().poll(cx));
                self.waiting = None;
                if !has_news && !matches!(*self.blob.progress.borrow(), Progress::Whole) {
                    return Poll::Ready(Err(interrupted()));
                }
            }
            match &*self.blob.progress.borrow_and_update() {
                Progress::Growing(readable) => self.readable = *readable,
                Progress::Whole => self.readable = self.blob.shared.size,
                Progress::Failed(reason) => return Poll::Ready(Err(failed(reason))),
            }
            if offset < self.readable || self.readable == self.blob.shared.size {
                break;
            }
            let mut progress = self.blob.progress.clone();
            self.waiting = Some(Waiting(Box::pin(async move { progress.changed().await.is_ok() })));
        }
        Poll::Ready(Ok(()))
    }

    /// As much of `space` as may be filled from `offset` on.
    fn bounded<'s>(&self, space: &'s mut [u8], offset: u64) -> &'s mut [u8] {
        let readable = usize::try_from(self.readable.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = space.len().min(readable);
        &mut space[..len]
    }

    fn file(&self) -> io::Result<&BlobFile> {
        self.blob.shared.file.get().ok_or_else(interrupted)
    }

    /// Reads what may be read at `offset` and is in memory.
    pub fn read_at_now(&self, space: &mut [u8], offset: u64) -> io::Result<ReadNow> {
        self.file()?.read_at_now(self.bounded(space, offset), offset)
    }

    /// Reads what may be read at `offset`; zero bytes where nothing may be yet.
    pub fn read_at(&self, space: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file()?.read_at(self.bounded(space, offset), offset)
    }
}
