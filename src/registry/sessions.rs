//! The open uploads.
//!
//! An upload lives in memory; its row is written at checkpoints. Whoever sends to it holds its state alone, a writer or the
//! thread that works for one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::blob_writer::BlobWriter;
use super::pushes::Pushes;
use super::repository::Scope;
use super::step_memory::StepMemory;
use super::{Actor, Error, Inner};
use crate::blobs::{Checkpoint, DigestGuard, StagedBlob, UploadId};
use crate::clock::Timestamp;
use crate::metadata::uploads::{self, UploadRecord};
use crate::metadata::{Metadata, blobs};
use crate::oci::{Digest, DigestAlgorithm, Hasher, RepositoryName};
use crate::telemetry::StorageMetrics;

/// How long a request waits for another one that still sends to the same upload.
const BUSY_WAIT: Duration = Duration::from_secs(10);

/// The open uploads of a registry.
#[derive(Debug)]
pub(super) struct Sessions {
    open: Mutex<HashMap<UploadId, Arc<Session>>>,
    /// Those that are not open any more.
    pushes: Pushes,
    /// Whether `pushes` knows of those that a former process has recorded.
    knows_recorded: AtomicBool,
    /// The memory of the large ones.
    steps: StepMemory,
    metrics: StorageMetrics,
}

/// One open upload.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: UploadId,
    pub(super) repository: RepositoryName,
    pub(super) started_at: Timestamp,
    pub(super) actor: String,
    /// Whose it is; see [`Actor::key`].
    owner: String,
    /// When bytes last came, in milliseconds since 1970.
    active_at: AtomicU64,
    /// How many bytes the writer's thread has written to the file, for who follows it.
    written: AtomicU64,
    state: Arc<tokio::sync::Mutex<State>>,
}

/// What only one holder at a time touches.
#[derive(Debug)]
pub(super) struct State {
    /// The bytes so far; `None` once the upload is finished or cancelled.
    pub(super) staged: Option<StagedBlob>,
    /// The length that the row in the database has; `None` where there is no row.
    pub(super) recorded: Option<u64>,
}

/// The state of a session, held alone.
pub(super) type Held = OwnedMutexGuard<State>;

impl Sessions {
    /// None yet; what clients were told holds for `lease`.
    pub(super) fn new(metrics: StorageMetrics, lease: Duration) -> Sessions {
        Sessions {
            open: Mutex::new(HashMap::new()),
            pushes: Pushes::new(lease),
            knows_recorded: AtomicBool::new(false),
            steps: StepMemory::default(),
            metrics,
        }
    }

    /// The memory in which large uploads are gathered.
    pub(super) fn step_memory(&self) -> &StepMemory {
        &self.steps
    }

    fn open(&self) -> MutexGuard<'_, HashMap<UploadId, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Arc<Session>> {
        self.open().values().cloned().collect()
    }

    /// When the earliest upload began of those to each repository that were sent to at `since` or later: open ones, ended
    /// ones, and those that wait for somebody to go on with them.
    pub(super) fn pushed_to(
        &self,
        metadata: &Metadata,
        since: Timestamp,
    ) -> Result<HashMap<RepositoryName, u64>, Error> {
        if !self.knows_recorded.load(Ordering::Acquire) {
            metadata.read(|tx| {
                uploads::each(tx, |_, record| {
                    let (started, active) = (record.started_at, record.active_at);
                    let millis = Timestamp::from_millis;
                    self.pushes.remember(&record.repository, millis(started), millis(active));
                    Ok(())
                })
            })?;
            self.knows_recorded.store(true, Ordering::Release);
        }
        // An upload is remembered as ended before it is forgotten as open.
        let open = self.all();
        let mut earliest = self.pushes.earliest(since);
        let is_active = |session: &&Arc<Session>| session.active_at() >= since;
        for session in open.iter().filter(is_active) {
            let start = session.started_at.millis();
            let earliest = earliest.entry(session.repository.clone()).or_insert(start);
            *earliest = (*earliest).min(start);
        }
        Ok(earliest)
    }

    fn get(&self, id: &UploadId) -> Option<Arc<Session>> {
        self.open().get(id).cloned()
    }

    pub(super) fn forget(&self, id: &UploadId) {
        if let Some(session) = self.get(id) {
            self.pushes.remember(&session.repository, session.started_at, session.active_at());
        }
        self.open().remove(id);
    }
}

impl Session {
    fn new(id: UploadId, record: &UploadRecord, staged: StagedBlob, recorded: Option<u64>) -> Session {
        Session {
            id,
            repository: record.repository.clone(),
            started_at: Timestamp::from_millis(record.started_at),
            actor: record.actor.clone(),
            owner: record.owner.clone(),
            active_at: AtomicU64::new(record.active_at),
            written: AtomicU64::new(0),
            state: Arc::new(tokio::sync::Mutex::new(State { staged: Some(staged), recorded })),
        }
    }

    /// Notes that bytes came.
    pub(super) fn touch(&self, now: Timestamp) {
        self.active_at.store(now.millis(), Ordering::Relaxed);
    }

    /// Notes how long the file is.
    pub(super) fn note_written(&self, bytes: u64) {
        self.written.store(bytes, Ordering::Release);
    }

    /// How long the file was last known to be; it may be longer.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    fn active_at(&self) -> Timestamp {
        Timestamp::from_millis(self.active_at.load(Ordering::Relaxed))
    }

    /// The row of a checkpoint.
    fn record(&self, checkpoint: Checkpoint) -> UploadRecord {
        UploadRecord {
            repository: self.repository.clone(),
            started_at: self.started_at.millis(),
            active_at: self.active_at.load(Ordering::Relaxed),
            actor: self.actor.clone(),
            owner: self.owner.clone(),
            durable_len: checkpoint.len,
            states: checkpoint.states.into_iter().map(Into::into).collect(),
        }
    }

    fn is_expired(&self, inner: &Inner) -> bool {
        is_expired(self.active_at.load(Ordering::Relaxed), inner)
    }
}

fn is_expired(active_at: u64, inner: &Inner) -> bool {
    inner.clock.now().since(Timestamp::from_millis(active_at)) > inner.policy.upload_expiry
}

/// Begins an upload.
pub(super) fn begin(scope: &Scope, algorithm: DigestAlgorithm, actor: &Actor) -> Result<BlobWriter, Error> {
    let inner = &scope.inner;
    let now = inner.clock.now();
    let id = UploadId::generate(now);
    let mut algorithms = vec![DigestAlgorithm::CANONICAL];
    if algorithm != DigestAlgorithm::CANONICAL {
        algorithms.push(algorithm);
    }
    let record = UploadRecord {
        repository: scope.name.clone(),
        started_at: now.millis(),
        active_at: now.millis(),
        actor: actor.as_str().into(),
        durable_len: 0,
        states: Vec::new(),
        owner: actor.key().into(),
    };
    let session = Arc::new(Session::new(id, &record, inner.blobs.stage(id, &algorithms), None));
    let held = session.state.clone().try_lock_owned().expect("nobody else knows the new session");
    {
        let mut open = inner.sessions.open();
        if open.len() >= inner.policy.max_uploads {
            drop_idlest(&mut open, |_| true)?;
        }
        let (most, is_own) =
            (inner.policy.max_uploads_of_one, |other: &Session| other.owner == session.owner);
        // Only where there are so many can one have too many.
        if most > 0 && open.len() >= most && open.values().filter(|other| is_own(other)).count() >= most {
            drop_idlest(&mut open, is_own)?;
        }
        open.insert(id, session.clone());
    }
    Ok(BlobWriter::new(scope.by(actor), session, held))
}

/// Makes room for a new upload: of those that have not a byte and that nobody sends to, the one that waits longest goes.
fn drop_idlest(
    open: &mut HashMap<UploadId, Arc<Session>>,
    is_meant: impl Fn(&Session) -> bool,
) -> Result<(), Error> {
    let is_empty = |session: &&Arc<Session>| match session.state.try_lock() {
        Ok(state) => state.recorded.is_none() && state.staged.as_ref().is_some_and(StagedBlob::is_empty),
        Err(_) => false,
    };
    let idle_since = |session: &&Arc<Session>| session.active_at.load(Ordering::Relaxed);
    let idlest =
        open.values().filter(|session| is_meant(session)).filter(is_empty).min_by_key(idle_since).cloned();
    let idlest = idlest.ok_or(Error::UploadsExhausted)?;
    // Who has it by now is told that it is gone.
    if let Ok(mut state) = idlest.state.try_lock() {
        state.staged = None;
    }
    open.remove(&idlest.id);
    Ok(())
}

/// Takes up an upload of the repository; only one that `owner` has begun, where somebody is named.
pub(super) async fn resume(
    scope: &Scope,
    id: &UploadId,
    owner: Option<&Actor>,
) -> Result<Option<BlobWriter>, Error> {
    let inner = &scope.inner;
    let session = match inner.sessions.get(id) {
        Some(session) => session,
        None => match load(inner, *id).await? {
            Some(session) => session,
            None => return Ok(None),
        },
    };
    if session.repository != scope.name || owner.is_some_and(|owner| owner.key() != session.owner) {
        return Ok(None);
    }
    let held = tokio::time::timeout(BUSY_WAIT, session.state.clone().lock_owned())
        .await
        .map_err(|_| Error::UploadBusy)?;
    // Whoever held it may have finished it.
    Ok(held.staged.is_some().then(|| BlobWriter::new(scope.clone(), session, held)))
}

/// Brings back an upload from its row, after a restart.
async fn load(inner: &Arc<Inner>, id: UploadId) -> Result<Option<Arc<Session>>, Error> {
    let Some(record) = inner.metadata.read(|tx| uploads::get(tx, id.as_bytes()))? else { return Ok(None) };
    if is_expired(record.active_at, inner) {
        return Ok(None);
    }
    let worker = inner.clone();
    let (has_bytes, record) =
        blocking(move || Ok((record.durable_len == 0 || worker.blobs.is_staged(id)?, record))).await?;
    let published = if has_bytes {
        None
    } else {
        let Some(digest) = recorded_digest(&record) else { return Ok(None) };
        Some((digest, inner.blobs.lock(&digest).await))
    };
    let worker = inner.clone();
    blocking(move || {
        if let Some((digest, lock)) = published
            && !take_back(&worker, id, &record, &digest, &lock)?
        {
            return Ok(None);
        }
        let states = record.states.iter().cloned().filter_map(uploads::HashStateRecord::state).collect();
        let checkpoint = Checkpoint { len: record.durable_len, states };
        // Two requests may load the same upload: the file is opened under the lock, so that one of them does.
        let mut open = worker.sessions.open();
        if let Some(session) = open.get(&id) {
            return Ok(Some(session.clone()));
        }
        let Some(staged) = worker.blobs.resume(id, &checkpoint)? else { return Ok(None) };
        let session = Arc::new(Session::new(id, &record, staged, Some(record.durable_len)));
        open.insert(id, session.clone());
        Ok(Some(session))
    })
    .await
}

/// The canonical digest of all the bytes that are recorded.
pub(super) fn recorded_digest(record: &UploadRecord) -> Option<Digest> {
    let mut states = record.states.iter().cloned().filter_map(uploads::HashStateRecord::state);
    let canonical = states.find(|state| state.algorithm == DigestAlgorithm::CANONICAL)?;
    Hasher::restore(&canonical).map(Hasher::finish)
}

/// Brings an upload's bytes back from the blobs, where a crash between the rename and the commit of its last request has
/// left them; says whether they are there. Blocks. The caller holds the lock of the recorded digest.
///
/// That request made a checkpoint of all bytes before the rename, so the recorded hash says which file it is.
fn take_back(
    inner: &Inner,
    id: UploadId,
    record: &UploadRecord,
    digest: &Digest,
    lock: &DigestGuard,
) -> Result<bool, Error> {
    // Another request may have taken it back, or even finished it, before the lock was ours.
    if inner.blobs.is_staged(id)? {
        return Ok(true);
    }
    let is_free = inner
        .metadata
        .read(|tx| Ok(uploads::get(tx, id.as_bytes())?.is_some() && blobs::get(tx, digest)?.is_none()))?;
    Ok(is_free && inner.blobs.unpublish(lock, id, digest, record.durable_len)?)
}

/// Drops the bytes and the row of an upload; the session is gone when it returns. Blocks.
pub(super) fn discard(inner: &Inner, session: &Session, mut held: Held) -> Result<(), Error> {
    let removed = match held.staged.take() {
        Some(staged) => staged.discard().map_err(Error::from),
        // Publishing took it and failed on the way.
        None => inner.blobs.discard(session.id).map(drop).map_err(Error::from),
    };
    inner.sessions.forget(&session.id);
    if held.recorded.is_some() {
        let id = *session.id.as_bytes();
        inner.metadata.write_blocking(move |tx| uploads::remove(tx, &id).map_err(Error::from))?;
    }
    removed
}

/// Forgets what is left of an upload whose commit was refused. What can't be forgotten now is swept when it expires.
pub(super) async fn forget_refused(inner: &Arc<Inner>, id: [u8; 16], recorded: bool) {
    let worker = inner.clone();
    let forgotten = blocking(move || {
        worker.blobs.discard(UploadId::from_bytes(id))?;
        if recorded {
            worker.metadata.write_blocking(move |tx| uploads::remove(tx, &id).map_err(Error::from))?;
        }
        Ok(())
    });
    if let Err(error) = forgotten.await {
        tracing::warn!(%error, "what was refused is left behind until the next sweep");
    }
}

/// Makes what an upload has durable and records it, unless that is recorded already. Blocks.
pub(super) fn checkpoint(inner: &Inner, session: &Session, state: &mut State) -> Result<(), Error> {
    let Some(staged) = state.staged.as_mut() else { return Ok(()) };
    if state.recorded == Some(staged.len()) {
        return Ok(());
    }
    let checkpoint = staged.checkpoint()?;
    let len = checkpoint.len;
    record(inner, session, checkpoint)?;
    state.recorded = Some(len);
    Ok(())
}

/// Writes the row of a checkpoint whose bytes are durable. Blocks.
pub(super) fn record(inner: &Inner, session: &Session, checkpoint: Checkpoint) -> Result<(), Error> {
    let (id, record) = (*session.id.as_bytes(), session.record(checkpoint));
    inner.metadata.write_blocking(move |tx| uploads::set(tx, &id, &record).map_err(Error::from))
}

/// Records where every open upload stands; failures are logged.
pub(super) async fn checkpoint_all(inner: &Arc<Inner>) {
    for session in inner.sessions.all() {
        let Ok(mut held) = tokio::time::timeout(BUSY_WAIT, session.state.clone().lock_owned()).await else {
            tracing::warn!(upload = %session.id, "an upload was still being sent; it goes on from its last checkpoint");
            continue;
        };
        let worker = inner.clone();
        let done = blocking(move || {
            // An upload without a byte is as good as a new one.
            if held.staged.as_ref().is_some_and(|staged| !staged.is_empty()) {
                checkpoint(&worker, &session, &mut held)
            } else {
                Ok(())
            }
        });
        if let Err(error) = done.await {
            tracing::warn!(%error, "an upload could not be recorded; it goes on from its last checkpoint");
        }
    }
}

/// Removes abandoned uploads, and upload files that no upload has.
pub(super) async fn sweep(inner: &Arc<Inner>) -> Result<usize, Error> {
    let worker = inner.clone();
    let swept = blocking(move || {
        let inner = &worker;
        let mut swept = 0;
        for session in inner.sessions.all().into_iter().filter(|session| session.is_expired(inner)) {
            // A held one is being sent to.
            if let Ok(held) = session.state.clone().try_lock_owned() {
                discard(inner, &session, held)?;
                swept += 1;
            }
        }
        for id in abandoned_rows(inner)? {
            inner.blobs.discard(id)?;
            inner
                .metadata
                .write_blocking(move |tx| uploads::remove(tx, id.as_bytes()).map_err(Error::from))?;
            swept += 1;
        }
        for id in orphans(inner)? {
            if inner.blobs.discard(id)? {
                tracing::info!(upload = %id, "removed the bytes of an upload that a crash had left behind");
            }
        }
        Ok(swept)
    })
    .await?;
    if swept > 0 {
        inner.sessions.metrics.uploads_expired(swept as u64);
    }
    Ok(swept)
}

/// How many uploads are open, or can be taken up again. Blocks.
pub(super) fn count(inner: &Inner) -> Result<u64, Error> {
    Ok(inner.metadata.read(|tx| {
        let open = inner.sessions.open();
        let mut count = open.len() as u64;
        uploads::each(tx, |id, _| {
            count += u64::from(!open.contains_key(&UploadId::from_bytes(id)));
            Ok(())
        })?;
        Ok(count)
    })?)
}

/// The upload files that no upload has.
pub(super) fn orphans(inner: &Inner) -> Result<Vec<UploadId>, Error> {
    let mut orphans = Vec::new();
    // A file is made after its session is in the map, so a listed file without one was left by a crash.
    for id in inner.blobs.staged_ids()? {
        let known = inner.sessions.get(&id).is_some()
            || inner.metadata.read(|tx| uploads::get(tx, id.as_bytes()))?.is_some();
        // Its end may have come between the list and the look.
        if !known && inner.blobs.is_staged(id)? {
            orphans.push(id);
        }
    }
    Ok(orphans)
}

/// The recorded uploads that are expired and not open.
fn abandoned_rows(inner: &Inner) -> Result<Vec<UploadId>, Error> {
    let mut abandoned = Vec::new();
    inner.metadata.read(|tx| {
        abandoned.clear();
        uploads::each(tx, |id, record| {
            let id = UploadId::from_bytes(id);
            if is_expired(record.active_at, inner) && inner.sessions.get(&id).is_none() {
                abandoned.push(id);
            }
            Ok(())
        })
    })?;
    Ok(abandoned)
}

/// Runs `work` on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::Unavailable),
    }
}
