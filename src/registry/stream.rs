//! The way of a large blob into its file: steps that are hashed by one thread while another writes them.
//!
//! The task of the request gathers a step in aligned memory, and hands it to both when it is full. Each of the two works
//! through its own queue, in order; when both are through with a step, its memory is free again, and the task, which waits
//! while it has its share outstanding, goes on. A thread ends with its queue, so that none ever waits for a client.
//!
//! A checkpoint stops neither: when both have come to its place, a third thread syncs the file and records the hashes as
//! they were there.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};

use super::blob_writer::keep_or_discard;
use super::sessions::{self, Held, Session, blocking};
use super::step_memory::StepShare;
use super::{Error, Inner, eviction};
use crate::blobs::{Checkpoint, StagedBlob, StagedSync};
use crate::fsio::AlignedBuffer;
use crate::oci::Hasher;

/// Steps end at multiples of this, so that the disk can be written without the page cache.
const BOUNDARY: u64 = 4096;

/// How many bytes may come between two checkpoints, while one doesn't take longer than the bytes until the next.
const CHECKPOINT_BYTES: u64 = 64 << 20;

/// How often an upload looks whether there is still room for it: once in so many bytes.
pub(super) const LOOK_EVERY: u64 = 64 << 20;

/// A large upload under way. Dropping it loses what was gathered last.
#[derive(Debug)]
pub(super) struct Stream {
    shared: Arc<Shared>,
    /// What comes next.
    gathered: Option<AlignedBuffer>,
    /// The length of all that was handed over.
    len: u64,
    /// The length at the last checkpoint.
    marked: u64,
}

/// The stream has failed; [`Stream::finish`] says why.
#[derive(Debug)]
pub(super) struct Failed;

/// What the task and the threads share.
#[derive(Debug)]
struct Shared {
    inner: Arc<Inner>,
    session: Arc<Session>,
    share: StepShare,
    progress: Mutex<Progress>,
    /// Told when memory is free again and when a thread has ended. Only the task listens.
    moved: Notify,
}

#[derive(Debug)]
struct Progress {
    to_hash: VecDeque<Arc<Step>>,
    to_write: VecDeque<Arc<Step>>,
    /// With the thread that hashes while there is one.
    hashers: Option<Vec<Hasher>>,
    /// With the thread that writes while there is one.
    held: Option<Held>,
    checkpoint: CheckpointState,
    /// The checkpoints that were made, for whoever has the upload to note.
    recorded: Vec<(u64, Vec<Hasher>)>,
    failure: Option<Error>,
    /// The threads that were begun, to be waited for: whoever has the upload back may close the registry, which they hold.
    threads: Vec<JoinHandle<()>>,
    /// A thread has panicked, and what it had is lost.
    is_broken: bool,
}

/// A step in two queues.
#[derive(Debug)]
struct Step {
    bytes: AlignedBuffer,
    /// Whether there is a checkpoint behind it.
    is_marked: bool,
}

/// How far the one checkpoint is that may be under way.
#[derive(Debug)]
enum CheckpointState {
    /// There is none.
    None,
    /// Its place is known, and not yet reached by both.
    Ahead { hashers: Option<Vec<Hasher>>, written: Option<(u64, Box<StagedSync>)> },
    /// A thread records it.
    Recording,
}

impl Stream {
    /// Goes on with an upload.
    pub(super) fn new(inner: Arc<Inner>, session: Arc<Session>, mut held: Held) -> Result<Stream, Error> {
        let staged = held.staged.as_mut().ok_or(Error::UploadUnknown)?;
        let (len, hashers) = (staged.len(), staged.take_hashers());
        let marked = held.recorded.unwrap_or(0);
        let progress = Progress {
            to_hash: VecDeque::new(),
            to_write: VecDeque::new(),
            hashers: Some(hashers),
            held: Some(held),
            checkpoint: CheckpointState::None,
            recorded: Vec::new(),
            failure: None,
            threads: Vec::new(),
            is_broken: false,
        };
        let share = inner.sessions.step_memory().share();
        let (progress, moved) = (Mutex::new(progress), Notify::new());
        let shared = Arc::new(Shared { inner, session, share, progress, moved });
        Ok(Stream { shared, gathered: None, len, marked })
    }

    /// Adds bytes; waits while the hash or the disk is slower than the sender.
    pub(super) async fn add(&mut self, mut bytes: &[u8]) -> Result<(), Failed> {
        while !bytes.is_empty() {
            let step = match &mut self.gathered {
                Some(step) => step,
                None => self.gathered.insert(self.shared.take_memory().await?),
            };
            let beyond = usize::try_from(self.len % BOUNDARY).expect("it is below 4096");
            let limit = step.capacity() - beyond;
            let taken = step.append(bytes, limit);
            bytes = &bytes[taken..];
            if step.as_slice().len() == limit {
                self.hand_over().await?;
            }
        }
        Ok(())
    }

    /// Hands what was gathered to the threads.
    async fn hand_over(&mut self) -> Result<(), Failed> {
        let more = self.gathered.as_ref().map_or(0, |step| step.as_slice().len() as u64);
        if self.len % LOOK_EVERY < more {
            self.require_room(more).await?;
        }
        let Some(bytes) = self.gathered.take() else { return Ok(()) };
        self.len += more;
        let mut progress = self.shared.progress();
        progress.require_sound()?;
        let is_marked = self.len - self.marked >= CHECKPOINT_BYTES
            && matches!(progress.checkpoint, CheckpointState::None);
        if is_marked {
            self.marked = self.len;
            progress.checkpoint = CheckpointState::Ahead { hashers: None, written: None };
        }
        let step = Arc::new(Step { bytes, is_marked });
        progress.to_hash.push_back(step.clone());
        progress.to_write.push_back(step);
        // Where somebody has them, there is a thread that will see the step.
        if let Some(hashers) = progress.hashers.take() {
            let shared = self.shared.clone();
            progress.begin(move || shared.hash(hashers));
        }
        if let Some(held) = progress.held.take() {
            let shared = self.shared.clone();
            progress.begin(move || shared.write(held));
        }
        Ok(())
    }

    /// Refuses `more` bytes for which there is no room.
    async fn require_room(&self, more: u64) -> Result<(), Failed> {
        let Shared { inner, session, .. } = &*self.shared;
        let room = async {
            eviction::make_space(inner, more).await?;
            eviction::make_quota_for(inner, &session.repository, self.len + more).await
        };
        room.await.map_err(|error| {
            self.shared.progress().fail(error);
            Failed
        })
    }

    /// Waits until all of it is written, and gives the upload back; where that failed, the upload is gone, and its space
    /// given back.
    pub(super) async fn finish(mut self) -> Result<Held, Error> {
        // Where that fails, so does what follows.
        let _ = self.hand_over().await;
        let Shared { inner, session, moved, .. } = &*self.shared;
        let end = loop {
            if let Some(end) = self.shared.progress().end() {
                break end;
            }
            moved.notified().await;
        };
        let threads = std::mem::take(&mut self.shared.progress().threads);
        for thread in threads {
            // A panic has been told of already.
            let _ = thread.await;
        }
        let (held, failure) = end?;
        let Some(failure) = failure else { return Ok(held) };
        let (inner, session) = (inner.clone(), session.clone());
        blocking(move || keep_or_discard(&inner, &session, held, Err(failure))).await
    }
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory for a step; waits while the upload has its share outstanding.
    async fn take_memory(&self) -> Result<AlignedBuffer, Failed> {
        loop {
            self.progress().require_sound()?;
            if let Some(memory) = self.share.try_take() {
                return Ok(memory);
            }
            self.moved.notified().await;
        }
    }

    /// The thread that hashes.
    fn hash(self: Arc<Shared>, mut hashers: Vec<Hasher>) {
        let _watch = Watch(&self);
        loop {
            let step = {
                let mut progress = self.progress();
                let Some(step) = progress.to_hash.pop_front() else {
                    progress.hashers = Some(hashers);
                    return;
                };
                step
            };
            for hasher in &mut hashers {
                hasher.update(step.bytes.as_slice());
            }
            if step.is_marked {
                self.come_to_checkpoint(Some(hashers.clone()), None);
            }
            self.leave(step);
        }
    }

    /// The thread that writes.
    fn write(self: Arc<Shared>, mut held: Held) {
        let _watch = Watch(&self);
        loop {
            let step = {
                let mut progress = self.progress();
                progress.note_recorded(&mut held);
                let Some(step) = progress.to_write.pop_front() else {
                    progress.held = Some(held);
                    return;
                };
                step
            };
            match append(&mut held, step.bytes.as_slice()) {
                Ok(staged) => {
                    self.session.note_written(staged.len());
                    if step.is_marked {
                        let sync = staged.sync_beside().expect("there is a file with the first byte");
                        self.come_to_checkpoint(None, Some((staged.len(), Box::new(sync))));
                    }
                }
                Err(error) => self.progress().fail(error),
            }
            self.leave(step);
        }
    }

    /// Gives a step's memory back when the other thread is through with it too.
    fn leave(&self, step: Arc<Step>) {
        if let Some(step) = Arc::into_inner(step) {
            self.share.give_back(step.bytes);
            self.moved.notify_one();
        }
    }

    /// Adds what a thread has for the checkpoint whose place it has come to; the second of the two has it made.
    fn come_to_checkpoint(
        self: &Arc<Shared>,
        hashed: Option<Vec<Hasher>>,
        synced: Option<(u64, Box<StagedSync>)>,
    ) {
        let mut progress = self.progress();
        // There is none any more where something has failed.
        let CheckpointState::Ahead { hashers, written } = &mut progress.checkpoint else { return };
        *hashers = hashed.or(hashers.take());
        *written = synced.or(written.take());
        if hashers.is_none() || written.is_none() {
            return;
        }
        if let (Some(hashers), Some((len, sync))) = (hashers.take(), written.take()) {
            progress.checkpoint = CheckpointState::Recording;
            let shared = self.clone();
            progress.begin(move || shared.record(len, &sync, hashers));
        }
    }

    /// The thread of a checkpoint.
    fn record(&self, len: u64, sync: &StagedSync, hashers: Vec<Hasher>) {
        let _watch = Watch(self);
        let Shared { inner, session, .. } = self;
        session.touch(inner.clock.now());
        let synced = sync.run().map_err(Error::from);
        let recorded = synced.and_then(|()| sessions::record(inner, session, Checkpoint::at(len, &hashers)));
        let mut progress = self.progress();
        progress.checkpoint = CheckpointState::None;
        match recorded {
            Ok(()) => progress.recorded.push((len, hashers)),
            Err(error) => progress.fail(error),
        }
    }
}

/// Writes bytes that somebody else hashes.
fn append<'h>(held: &'h mut Held, bytes: &[u8]) -> Result<&'h StagedBlob, Error> {
    let staged = held.staged.as_mut().ok_or(Error::UploadUnknown)?;
    staged.write_unhashed(bytes)?;
    Ok(staged)
}

impl Progress {
    fn require_sound(&self) -> Result<(), Failed> {
        if self.failure.is_some() || self.is_broken { Err(Failed) } else { Ok(()) }
    }

    /// Begins a thread, which comes to nothing before the caller lets go of this.
    fn begin(&mut self, work: impl FnOnce() + Send + 'static) {
        self.threads.retain(|thread| !thread.is_finished());
        self.threads.push(spawn_blocking(work));
    }

    /// Ends the stream with an error; of several, the first is told.
    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
        self.to_hash.clear();
        self.to_write.clear();
        if let CheckpointState::Ahead { .. } = self.checkpoint {
            self.checkpoint = CheckpointState::None;
        }
    }

    /// Notes the checkpoints that were made beside.
    fn note_recorded(&mut self, held: &mut Held) {
        for (len, hashers) in self.recorded.drain(..) {
            held.recorded = Some(len);
            if let Some(staged) = &mut held.staged {
                staged.note_synced(len, hashers);
            }
        }
    }

    /// The upload, and why it failed if it did; `None` while threads are still at it.
    fn end(&mut self) -> Option<Result<(Held, Option<Error>), Error>> {
        if self.is_broken {
            return Some(Err(Error::Unavailable));
        }
        let is_over = self.to_hash.is_empty()
            && self.to_write.is_empty()
            && self.hashers.is_some()
            && self.held.is_some()
            && !matches!(self.checkpoint, CheckpointState::Recording);
        if !is_over {
            return None;
        }
        let (mut held, hashers) = (self.held.take()?, self.hashers.take()?);
        self.note_recorded(&mut held);
        if let Some(staged) = &mut held.staged {
            staged.return_hashers(hashers);
        }
        Some(Ok((held, self.failure.take())))
    }
}

/// Wakes the task when a thread ends, also where that is by a panic.
struct Watch<'s>(&'s Shared);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut progress = self.0.progress();
            progress.is_broken = true;
            progress.to_hash.clear();
            progress.to_write.clear();
        }
        self.0.moved.notify_one();
    }
}
