//! Writing a blob.
//!
//! A small blob is kept in memory and written, hashed, synced and renamed in one visit to a blocking thread. A larger one
//! becomes a [`Stream`], whose threads never wait for the client.
//!
//! Blocking threads are few, and clients may be many and slow: so nobody waits for a digest's lock on a thread that the
//! lock's holder may need.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::runtime::Handle;

use super::publishing::{check, publish, vouched};
use super::repository::Scope;
use super::sessions::{self, Held, Session, blocking};
use super::stream::{Failed, LOOK_EVERY, Stream};
use super::{BlobDescriptor, Error, Inner, ProvisionalDescriptor, eviction};
use crate::blobs::{StagedBlob, UploadId};
use crate::clock::Timestamp;
use crate::fsio::{Adoption, SourceFile};
use crate::oci::{Digest, MediaType, ProvisionalDigest, RepositoryName};

/// A blob up to this size is written in one go when it is complete.
const SMALL: usize = 256 << 10;

/// What a piece counts at least, so that a client that sends single bytes can't make them cost a hundred times as much.
const LEAST_PIECE: usize = 1 << 10;

/// A source is read in pieces of this size.
const PIECE: usize = 256 << 10;

/// An upload in the hands of one request.
///
/// Dropping it interrupts the upload, which stays resumable with all that was written.
#[derive(Debug)]
pub struct BlobWriter {
    inner: Arc<Inner>,
    /// The repository, and on whose behalf bytes are sent to it now.
    scope: Scope,
    session: Arc<Session>,
    /// The length of all that was accepted.
    accepted: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Pieces collect until there is enough for a stream.
    Idle { held: Held, pending: Vec<Bytes>, bytes: usize },
    /// Threads hash and write what comes, and hold the state.
    Streaming(Stream),
    /// The writer is used up, or failed.
    Done,
}

impl BlobWriter {
    pub(super) fn new(scope: Scope, session: Arc<Session>, held: Held) -> BlobWriter {
        let accepted = held.staged.as_ref().map_or(0, StagedBlob::len);
        let stage = Stage::Idle { held, pending: Vec::new(), bytes: 0 };
        BlobWriter { inner: scope.inner.clone(), scope, session, accepted, stage }
    }

    /// The upload's identifier.
    pub fn id(&self) -> &UploadId {
        &self.session.id
    }

    /// When the upload began.
    pub fn started_at(&self) -> Timestamp {
        self.session.started_at
    }

    /// The length of all that was accepted so far, in bytes.
    pub fn size(&self) -> u64 {
        self.accepted
    }

    /// How much of that the threads of a large blob have written to the file so far.
    pub(super) fn written(&self) -> u64 {
        self.session.written()
    }

    /// Refuses, before they are taken, `more` bytes for which there is no room: on the disk, or within the quotas, also where
    /// what is cached makes some. With a
    /// `digest` under which the repository has the blob already, only the disk counts.
    pub async fn require_room(&self, more: u64, digest: Option<&ProvisionalDigest>) -> Result<(), Error> {
        eviction::make_space(&self.inner, more).await?;
        let blobs = super::BlobService::new(self.scope.clone());
        if let Some(digest) = digest
            && blobs.stat(*digest)?.is_some()
        {
            return Ok(());
        }
        let bytes = self.accepted.saturating_add(more);
        eviction::make_quota_for(&self.inner, &self.session.repository, bytes).await
    }

    /// Adds bytes at the end. Waits while the disk is slower than the sender. After an error the upload is gone.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.accepted += bytes.len() as u64;
        match &mut self.stage {
            Stage::Idle { pending, bytes: kept, .. } => {
                *kept += bytes.len().max(LEAST_PIECE);
                pending.push(bytes);
                if *kept > SMALL { self.start_stream().await } else { Ok(()) }
            }
            Stage::Streaming(_) => self.add(&bytes).await,
            Stage::Done => Err(Error::UploadUnknown),
        }
    }

    async fn start_stream(&mut self) -> Result<(), Error> {
        let Stage::Idle { held, pending, .. } = std::mem::replace(&mut self.stage, Stage::Done) else {
            return Err(Error::UploadUnknown);
        };
        self.session.touch(self.inner.clock.now());
        self.stage = Stage::Streaming(Stream::new(self.inner.clone(), self.session.clone(), held)?);
        for piece in pending {
            self.add(&piece).await?;
        }
        Ok(())
    }

    /// Adds bytes to the stream.
    async fn add(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Stage::Streaming(stream) = &mut self.stage else { return Err(Error::UploadUnknown) };
        match stream.add(bytes).await {
            Ok(()) => Ok(()),
            // Its end says why.
            Err(Failed) => self.settle().await.and(Err(Error::Unavailable)),
        }
    }

    /// Waits until all that was accepted is written, and takes the state back.
    async fn settle(&mut self) -> Result<Held, Error> {
        self.session.touch(self.inner.clock.now());
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Idle { held, pending, .. } if pending.is_empty() => Ok(held),
            Stage::Idle { held, pending, .. } => {
                let (inner, session) = (self.inner.clone(), self.session.clone());
                blocking(move || write_all(&inner, &session, held, &pending)).await
            }
            Stage::Streaming(stream) => stream.finish().await,
            Stage::Done => Err(Error::UploadUnknown),
        }
    }

    /// Waits until all that was accepted is written, and returns its length. The bytes need not be durable.
    pub async fn flush(&mut self) -> Result<u64, Error> {
        let held = self.settle().await?;
        self.stage = Stage::Idle { held, pending: Vec::new(), bytes: 0 };
        Ok(self.accepted)
    }

    /// Waits until all that was accepted is durable and recorded, and returns its length: the upload survives a crash.
    pub async fn checkpoint(&mut self) -> Result<u64, Error> {
        let mut held = self.settle().await?;
        let (inner, session) = (self.inner.clone(), self.session.clone());
        let held = blocking(move || {
            sessions::checkpoint(&inner, &session, &mut held)?;
            Ok(held)
        })
        .await?;
        self.stage = Stage::Idle { held, pending: Vec::new(), bytes: 0 };
        Ok(self.accepted)
    }

    /// Adds all that `source` has; returns how much that was. Where the source fails, what came before stays.
    pub async fn read_from(&mut self, mut source: impl AsyncRead + Unpin) -> Result<u64, Error> {
        let start = self.accepted;
        loop {
            let mut piece = BytesMut::with_capacity(PIECE);
            let mut outcome = Ok(1);
            while piece.len() < PIECE && matches!(outcome, Ok(1..)) {
                outcome = source.read_buf(&mut piece).await;
            }
            self.write(piece.freeze()).await?;
            if outcome.map_err(Error::Io)? == 0 {
                return Ok(self.accepted - start);
            }
        }
    }

    /// The same for a source that blocks; it is read on a thread that may.
    pub async fn read_from_blocking(
        &mut self,
        mut source: impl std::io::Read + Send + 'static,
    ) -> Result<u64, Error> {
        let start = self.accepted;
        loop {
            let (returned, piece, outcome) = blocking(move || {
                let mut piece = Vec::with_capacity(PIECE);
                let limited = &mut std::io::Read::take(&mut source, PIECE as u64);
                let outcome = std::io::Read::read_to_end(limited, &mut piece);
                Ok((source, piece, outcome))
            })
            .await?;
            source = returned;
            self.write(piece.into()).await?;
            if outcome.map_err(Error::Io)? == 0 {
                return Ok(self.accepted - start);
            }
        }
    }

    /// Goes back to `offset`: what came after it is dropped, and the hash is that of the bytes before it. Behind the end is
    /// [`Error::OffsetUnknown`], and changes nothing.
    ///
    /// A checkpoint behind `offset` is replaced by one at `offset`, so that a crash at any moment leaves the upload at one of
    /// the two.
    pub async fn seek(&mut self, offset: u64) -> Result<(), Error> {
        if offset > self.accepted {
            return Err(Error::OffsetUnknown { offset, size: self.accepted });
        }
        let mut held = self.settle().await?;
        if offset < self.accepted {
            let (inner, session) = (self.inner.clone(), self.session.clone());
            held = blocking(move || {
                let result = go_back(&inner, &session, &mut held, offset);
                keep_or_discard(&inner, &session, held, result)
            })
            .await?;
            self.accepted = offset;
        }
        self.stage = Stage::Idle { held, pending: Vec::new(), bytes: 0 };
        Ok(())
    }

    /// Takes the bytes of a file of another tree without copying them, into an upload that has none; `false` where the file
    /// system can't. Nothing more can be written to it.
    pub(super) async fn adopt(&mut self, source: Arc<SourceFile>, how: Adoption) -> Result<bool, Error> {
        let mut held = self.settle().await?;
        let (held, adopted) = blocking(move || {
            let adopted = held.staged.as_mut().ok_or(Error::UploadUnknown)?.adopt(&source, how);
            Ok((held, adopted))
        })
        .await?;
        self.accepted = held.staged.as_ref().map_or(0, StagedBlob::len);
        self.stage = Stage::Idle { held, pending: Vec::new(), bytes: 0 };
        Ok(adopted?)
    }

    /// Publishes the blob under its canonical digest and links it into the repository; when this returns, both are
    /// durable. The writer is used up then.
    ///
    /// Bytes that are not those of the digest fail with [`Error::DigestMismatch`], and the upload is gone; where there are
    /// more or fewer than `blob` says, with [`Error::SizeMismatch`], and the upload stays. Goes on to its end where the
    /// caller stops waiting.
    pub async fn commit(&mut self, blob: impl Into<ProvisionalDescriptor>) -> Result<BlobDescriptor, Error> {
        self.publish(blob.into(), true).await
    }

    /// The same for bytes that the caller vouches for: they are not hashed, and `digest` is the canonical one.
    pub(super) async fn commit_vouched(&mut self, digest: Digest) -> Result<BlobDescriptor, Error> {
        self.publish(digest.into(), false).await
    }

    async fn publish(
        &mut self,
        blob: ProvisionalDescriptor,
        is_checked: bool,
    ) -> Result<BlobDescriptor, Error> {
        let ProvisionalDescriptor { digest, size, media_type } = blob;
        if let Some(claimed) = size.filter(|claimed| *claimed != self.accepted) {
            return Err(Error::SizeMismatch { claimed, received: self.accepted });
        }
        let media_type = media_type.unwrap_or(MediaType::OCTET_STREAM);
        let mut writer = self.hand_over();
        let task = tokio::spawn(async move {
            let (inner, session) = (writer.inner.clone(), writer.session.clone());
            let (held, pending) = match std::mem::replace(&mut writer.stage, Stage::Done) {
                Stage::Idle { held, pending, .. } => (held, pending),
                stage @ (Stage::Streaming(_) | Stage::Done) => {
                    writer.stage = stage;
                    (writer.settle().await?, Vec::new())
                }
            };
            let worker = (inner.clone(), session.clone());
            let begun = blocking(move || {
                let (inner, session) = worker;
                let held = write_all(&inner, &session, held, &pending)?;
                let checked = match digest {
                    ProvisionalDigest::Digest(digest) if !is_checked => vouched(held, digest)?,
                    digest => check(&inner, &session, held, digest)?,
                };
                // The usual case, in one visit to the thread.
                match inner.blobs.try_lock(&checked.canonical) {
                    Some(lock) => publish(&inner, &session, checked, lock).map(Ok),
                    None => Ok(Err(checked)),
                }
            });
            let published = match begun.await? {
                Ok(published) => published,
                Err(checked) => {
                    let lock = inner.blobs.lock(&checked.canonical).await;
                    let worker = (inner.clone(), session.clone());
                    blocking(move || publish(&worker.0, &worker.1, checked, lock)).await?
                }
            };
            published.link(&writer.scope, &session, digest, media_type).await
        });
        match task.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Error::Unavailable),
        }
    }

    /// The upload in a writer of its own; this one is used up.
    fn hand_over(&mut self) -> BlobWriter {
        BlobWriter {
            inner: self.inner.clone(),
            scope: self.scope.clone(),
            session: self.session.clone(),
            accepted: self.accepted,
            stage: std::mem::replace(&mut self.stage, Stage::Done),
        }
    }

    /// Drops the upload and its bytes. Does nothing after a commit, an earlier cancel, or an error that ended the upload.
    pub async fn cancel(&mut self) -> Result<(), Error> {
        let held = match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Done => return Ok(()),
            Stage::Idle { held, .. } => held,
            Stage::Streaming(stream) => stream.finish().await?,
        };
        let (inner, session) = (self.inner.clone(), self.session.clone());
        blocking(move || sessions::discard(&inner, &session, held)).await
    }
}

impl Drop for BlobWriter {
    /// An interruption: what was accepted is written and recorded in the background, then the upload is free to resume.
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        let (inner, session) = (self.inner.clone(), self.session.clone());
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Idle { held, pending, .. } if !pending.is_empty() => {
                runtime.spawn_blocking(move || {
                    let written = write_all(&inner, &session, held, &pending);
                    record_interruption(&inner, &session, written);
                });
            }
            Stage::Streaming(stream) => {
                runtime.spawn(async move {
                    let written = stream.finish().await;
                    // What can't be recorded is logged.
                    let _ = blocking(move || {
                        record_interruption(&inner, &session, written);
                        Ok(())
                    })
                    .await;
                });
            }
            Stage::Idle { .. } | Stage::Done => {}
        }
    }
}

/// Records how far an upload came whose sender has gone.
fn record_interruption(inner: &Inner, session: &Session, written: Result<Held, Error>) {
    let recorded = written.and_then(|mut held| {
        session.touch(inner.clock.now());
        sessions::checkpoint(inner, session, &mut held)
    });
    match recorded {
        Ok(()) => tracing::debug!(upload = %session.id, "an upload was interrupted and can be resumed"),
        Err(error) => {
            tracing::warn!(upload = %session.id, %error, "an interrupted upload could not be recorded");
        }
    }
}

/// Drops what came after `offset`. The row of a checkpoint never names bytes that the file may have lost.
fn go_back(inner: &Inner, session: &Session, held: &mut Held, offset: u64) -> Result<(), Error> {
    held.staged.as_mut().ok_or(Error::UploadUnknown)?.rewind(offset)?;
    if held.recorded.is_some_and(|recorded| recorded > offset) {
        sessions::checkpoint(inner, session, held)?;
    }
    Ok(held.staged.as_mut().ok_or(Error::UploadUnknown)?.trim()?)
}

/// Writes all pieces; where the disk refuses, the upload is dropped and its space given back.
fn write_all(inner: &Arc<Inner>, session: &Session, mut held: Held, pieces: &[Bytes]) -> Result<Held, Error> {
    let result =
        pieces.iter().try_for_each(|piece| write_piece(inner, &session.repository, &mut held, piece));
    keep_or_discard(inner, session, held, result)
}

fn write_piece(
    inner: &Arc<Inner>,
    name: &RepositoryName,
    held: &mut Held,
    piece: &[u8],
) -> Result<(), Error> {
    let staged = held.staged.as_mut().ok_or(Error::UploadUnknown)?;
    if staged.len() % LOOK_EVERY < piece.len() as u64 {
        let more = piece.len() as u64;
        let bytes = staged.len() + more;
        Handle::current().block_on(async {
            eviction::make_space(inner, more).await?;
            eviction::make_quota_for(inner, name, bytes).await
        })?;
    }
    Ok(staged.write(piece)?)
}

pub(super) fn keep_or_discard(
    inner: &Inner,
    session: &Session,
    held: Held,
    result: Result<(), Error>,
) -> Result<Held, Error> {
    match result {
        Ok(()) => Ok(held),
        Err(error) => {
            if let Err(second) = sessions::discard(inner, session, held) {
                tracing::warn!(upload = %session.id, error = %second, "the bytes of a failed upload could not be removed");
            }
            Err(error)
        }
    }
}
