//! A blob that is still being written.

use super::UploadId;
use crate::clock;
use crate::fsio::{Access, Adoption, Disk, DiskFile, FileError, SourceFile};
use crate::oci::{Digest, DigestAlgorithm, HashState, Hasher};
use crate::telemetry::StorageMetrics;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes are written and hashed in pieces of this size, so that the second of the two finds them in the processor's cache.
const PIECE: usize = 128 << 10;

/// Write-back is started after so many new bytes, which leaves little for the sync at the end.
const WRITEBACK: u64 = 8 << 20;

/// Bytes are read back in pieces of this size.
const READ_BACK: usize = 1 << 20;

/// Hash states that are kept for a truncation; each checkpoint leaves one.
const KEPT_MARKS: usize = 32;

/// What a restart needs to go on with an upload: a length that is durable, and the hash states at that length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The bytes that are on the disk for certain.
    pub len: u64,
    /// One state for each algorithm that is being computed.
    pub states: Vec<HashState>,
}

impl Checkpoint {
    /// With the hashes of the first `len` bytes.
    pub fn at(len: u64, hashers: &[Hasher]) -> Checkpoint {
        Checkpoint { len, states: hashers.iter().map(Hasher::save).collect() }
    }
}

/// The file of an upload, open for appending, with the hashes of what it holds.
///
/// The file comes into being with the first byte. Dropping the value leaves the file where it is, for [`resume`].
///
/// [`resume`]: super::BlobStore::resume
#[derive(Debug)]
pub struct StagedBlob {
    id: UploadId,
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Option<Arc<dyn DiskFile>>,
    /// The bytes written and hashed; what the file may hold beyond is the remainder of a failed write.
    len: u64,
    hashers: Vec<Hasher>,
    /// The states at former lengths, ascending.
    marks: Vec<(u64, Vec<Hasher>)>,
    /// The length for which write-back was asked last.
    written_back: u64,
    /// Whether the name in `uploads` is durable.
    is_named: bool,
    /// Whether nothing has changed in the file since a sync.
    is_clean: bool,
    /// Once a sync has failed, nobody knows which bytes reached the disk, and later syncs prove nothing.
    has_failed_sync: Arc<AtomicBool>,
    metrics: StorageMetrics,
}

/// Makes the bytes durable that an upload had at one moment, while more of them are written.
#[derive(Debug)]
pub struct StagedSync {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    is_named: bool,
    has_failed_sync: Arc<AtomicBool>,
    metrics: StorageMetrics,
}

impl StagedSync {
    /// Syncs the file and, where that hasn't been done yet, its name. Blocks.
    pub fn run(&self) -> Result<(), FileError> {
        let failure = |error| FileError::new("sync", &self.path, error);
        if self.has_failed_sync.load(Ordering::Acquire) {
            return Err(failure(io::Error::other("an earlier sync of this file failed")));
        }
        let began = clock::monotonic();
        if let Err(error) = self.file.sync() {
            self.has_failed_sync.store(true, Ordering::Release);
            return Err(failure(error));
        }
        self.metrics.sync(began.elapsed());
        if !self.is_named {
            let uploads = self.path.parent().expect("uploads lie in a directory");
            self.disk.sync_dir(uploads)?;
        }
        Ok(())
    }
}

impl StagedBlob {
    /// An upload without a byte; does nothing to the disk.
    pub(super) fn new(
        id: UploadId,
        disk: Arc<dyn Disk>,
        path: PathBuf,
        algorithms: &[DigestAlgorithm],
        metrics: StorageMetrics,
    ) -> StagedBlob {
        let mut staged = StagedBlob {
            id,
            disk,
            path,
            file: None,
            len: 0,
            hashers: Vec::new(),
            marks: Vec::new(),
            written_back: 0,
            is_named: false,
            is_clean: false,
            has_failed_sync: Arc::default(),
            metrics,
        };
        for algorithm in algorithms {
            staged.add_empty(*algorithm);
        }
        staged
    }

    /// Goes on at a checkpoint: cuts off what came after it; `None` if the file hasn't got that far.
    pub(super) fn resume(
        id: UploadId,
        disk: Arc<dyn Disk>,
        path: PathBuf,
        checkpoint: &Checkpoint,
        metrics: StorageMetrics,
    ) -> Result<Option<StagedBlob>, FileError> {
        let mut staged = StagedBlob::new(id, disk, path, &[], metrics);
        staged.file = staged.disk.open(&staged.path, Access::Write)?.map(Arc::from);
        let held = match &staged.file {
            Some(file) => file.len().map_err(|error| staged.failure("stat", error))?,
            None => 0,
        };
        if held < checkpoint.len {
            return Ok(None);
        }
        // The checkpoint made the bytes and the name durable. A cut-off tail may come back until the next sync.
        staged.is_named = checkpoint.len > 0;
        staged.is_clean = held == checkpoint.len;
        if let Some(file) = &staged.file
            && held > checkpoint.len
        {
            file.set_len(checkpoint.len).map_err(|error| staged.failure("truncate", error))?;
        }
        // A state of another release of the hash library is left out; its digest is then computed by reading back.
        staged.hashers = checkpoint.states.iter().filter_map(Hasher::restore).collect();
        staged.len = checkpoint.len;
        staged.written_back = checkpoint.len;
        staged.marks = vec![(checkpoint.len, staged.hashers.clone())];
        Ok(Some(staged))
    }

    /// The upload's name.
    pub fn id(&self) -> UploadId {
        self.id
    }

    /// The bytes accepted so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no byte has been accepted.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends. After an error the length is that of the pieces that were written whole, and writing may be repeated.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.create_file()?;
        for piece in bytes.chunks(PIECE) {
            self.write_unhashed(piece)?;
            for hasher in &mut self.hashers {
                hasher.update(piece);
            }
        }
        Ok(())
    }

    /// Appends what somebody else hashes, who has the hashes from [`take_hashers`](StagedBlob::take_hashers).
    pub fn write_unhashed(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.create_file()?;
        self.is_clean = false;
        let file = self.file.as_ref().expect("created above");
        file.write_at(bytes, self.len).map_err(|error| self.failure("write", error))?;
        self.len += bytes.len() as u64;
        self.start_writeback();
        Ok(())
    }

    /// Gives the hashes away, to be computed beside the writing. Until they come back, nothing but appending may be done.
    pub fn take_hashers(&mut self) -> Vec<Hasher> {
        std::mem::take(&mut self.hashers)
    }

    /// Takes the hashes back, which have seen exactly what was appended meanwhile.
    pub fn return_hashers(&mut self, hashers: Vec<Hasher>) {
        self.hashers = hashers;
    }

    /// For a checkpoint of the bytes so far that more bytes don't wait for; `None` where there are none.
    pub fn sync_beside(&self) -> Option<StagedSync> {
        Some(StagedSync {
            disk: Arc::clone(&self.disk),
            path: self.path.clone(),
            file: Arc::clone(self.file.as_ref()?),
            is_named: self.is_named,
            has_failed_sync: Arc::clone(&self.has_failed_sync),
            metrics: self.metrics.clone(),
        })
    }

    /// Notes that such a checkpoint was made, with the hashes as they were there.
    pub fn note_synced(&mut self, len: u64, hashers: Vec<Hasher>) {
        self.is_named = true;
        self.mark(len, hashers);
    }

    /// Takes the bytes of a file of another tree without copying them, where this has none yet; `false` where the file system
    /// can't. They are not hashed: a digest that is asked for reads them.
    pub fn adopt(&mut self, source: &SourceFile, how: Adoption) -> Result<bool, FileError> {
        if self.file.is_some() || self.len > 0 || !self.disk.adopt(source, &self.path, how)? {
            return Ok(false);
        }
        let file = self.disk.open(&self.path, Access::Read)?;
        let file = file.ok_or_else(|| self.failure("open", io::ErrorKind::NotFound.into()))?;
        self.len = file.len().map_err(|error| self.failure("stat", error))?;
        self.file = Some(Arc::from(file));
        self.hashers.clear();
        self.marks.clear();
        self.is_clean = false;
        Ok(true)
    }

    fn start_writeback(&mut self) {
        if let Some(file) = &self.file
            && self.len - self.written_back >= WRITEBACK
        {
            file.start_writeback(self.written_back, self.len - self.written_back);
            self.written_back = self.len;
        }
    }

    /// Makes everything accepted so far durable, and answers what is needed to go on from here after a crash.
    pub fn checkpoint(&mut self) -> Result<Checkpoint, FileError> {
        if self.file.is_some() {
            self.sync()?;
            if !self.is_named {
                let uploads = self.path.parent().expect("uploads lie in a directory");
                self.disk.sync_dir(uploads)?;
                self.is_named = true;
            }
        }
        self.mark(self.len, self.hashers.clone());
        Ok(Checkpoint::at(self.len, &self.hashers))
    }

    fn mark(&mut self, len: u64, hashers: Vec<Hasher>) {
        if self.marks.last().is_none_or(|(last, _)| *last < len) {
            if self.marks.len() == KEPT_MARKS {
                self.marks.remove(0);
            }
            self.marks.push((len, hashers));
        }
    }

    /// The digest of everything accepted so far; reads the file again if the algorithm wasn't computed on the way.
    pub fn digest(&mut self, algorithm: DigestAlgorithm) -> Result<Digest, FileError> {
        self.add_algorithm(algorithm)?;
        let hasher = self.hashers.iter().find(|hasher| hasher.algorithm() == algorithm);
        Ok(hasher.expect("added above").clone().finish())
    }

    /// Computes one more algorithm from now on, reading back what has been written already.
    pub fn add_algorithm(&mut self, algorithm: DigestAlgorithm) -> Result<(), FileError> {
        if self.hashers.iter().any(|hasher| hasher.algorithm() == algorithm) {
            return Ok(());
        }
        let mut added = [Hasher::new(algorithm)];
        self.read_back(&mut added, 0)?;
        self.hashers.extend(added);
        Ok(())
    }

    /// Drops what comes after `len`; more than there is drops nothing.
    pub fn truncate(&mut self, len: u64) -> Result<(), FileError> {
        self.rewind(len)?;
        self.trim()
    }

    /// Goes on at `len` as if nothing had come after it; more than there is changes nothing. The file keeps its tail until
    /// [`trim`](StagedBlob::trim) or the next bytes, so that an older checkpoint holds until a new one is made.
    ///
    /// The hash goes on from the nearest checkpoint of this process below `len`, reading back the rest.
    pub fn rewind(&mut self, len: u64) -> Result<(), FileError> {
        if len >= self.len {
            return Ok(());
        }
        let algorithms: Vec<_> = self.hashers.iter().map(Hasher::algorithm).collect();
        let (from, mut hashers) = match self.marks.iter().rev().find(|(mark, _)| *mark <= len) {
            // An algorithm that was added later isn't in the mark.
            Some((mark, hashers)) if hashers.len() == algorithms.len() => (*mark, hashers.clone()),
            Some(_) | None => (0, algorithms.into_iter().map(Hasher::new).collect()),
        };
        self.is_clean = false;
        // Should the reading fail, the upload has lost its hashes and says so by knowing none.
        self.hashers.clear();
        self.len = len;
        self.written_back = self.written_back.min(len);
        self.marks.retain(|(mark, _)| *mark <= len);
        self.read_back(&mut hashers, from)?;
        self.hashers = hashers;
        Ok(())
    }

    /// Gives back the space of what a rewinding has left in the file.
    pub fn trim(&mut self) -> Result<(), FileError> {
        if let Some(file) = &self.file {
            file.set_len(self.len).map_err(|error| self.failure("truncate", error))?;
        }
        self.is_clean = false;
        Ok(())
    }

    /// Gives the upload up and removes its file.
    pub fn discard(self) -> Result<(), FileError> {
        drop(self.file);
        self.disk.remove(&self.path)?;
        Ok(())
    }

    /// Makes the bytes durable, for the rename that follows; a blob of no bytes gets its file here.
    pub(super) fn finish(mut self) -> Result<PathBuf, FileError> {
        self.create_file()?;
        let file = self.file.as_ref().expect("created above");
        // A write that failed half-way may have left bytes that were never accepted.
        if file.len().map_err(|error| self.failure("stat", error))? != self.len {
            file.set_len(self.len).map_err(|error| self.failure("truncate", error))?;
            self.is_clean = false;
        }
        self.sync()?;
        Ok(self.path)
    }

    fn add_empty(&mut self, algorithm: DigestAlgorithm) {
        if self.hashers.iter().all(|hasher| hasher.algorithm() != algorithm) {
            self.hashers.push(Hasher::new(algorithm));
        }
    }

    fn create_file(&mut self) -> Result<(), FileError> {
        if self.file.is_none() {
            self.file = Some(Arc::from(self.disk.create(&self.path)?));
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), FileError> {
        if self.has_failed_sync.load(Ordering::Acquire) {
            return Err(self.failure("sync", io::Error::other("an earlier sync of this file failed")));
        }
        if self.is_clean {
            return Ok(());
        }
        let file = self.file.as_ref().expect("only a file is synced");
        let began = clock::monotonic();
        if let Err(error) = file.sync() {
            self.has_failed_sync.store(true, Ordering::Release);
            return Err(self.failure("sync", error));
        }
        self.metrics.sync(began.elapsed());
        self.is_clean = true;
        self.written_back = self.len;
        Ok(())
    }

    /// Hands everything accepted so far to `visit`, in pieces.
    pub fn each_piece<E: From<FileError>>(
        &self,
        mut visit: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.read_from(0, |piece| {
            self.metrics.rehashed(piece.len() as u64);
            visit(piece)
        })
    }

    /// Feeds the bytes from `offset` to the end to `hashers`.
    fn read_back(&self, hashers: &mut [Hasher], offset: u64) -> Result<(), FileError> {
        self.read_from(offset, |piece| {
            for hasher in &mut *hashers {
                hasher.update(piece);
            }
            self.metrics.rehashed(piece.len() as u64);
            Ok(())
        })
    }

    fn read_from<E: From<FileError>>(
        &self,
        mut offset: u64,
        mut visit: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut piece = vec![0; READ_BACK];
        while offset < self.len {
            let wanted = usize::try_from(self.len - offset).unwrap_or(READ_BACK).min(READ_BACK);
            let read =
                file.read_at(&mut piece[..wanted], offset).map_err(|error| self.failure("read", error))?;
            if read == 0 {
                return Err(self.failure("read", io::ErrorKind::UnexpectedEof.into()).into());
            }
            visit(&piece[..read])?;
            offset += read as u64;
        }
        Ok(())
    }

    fn failure(&self, operation: &'static str, source: io::Error) -> FileError {
        FileError::new(operation, &self.path, source)
    }
}
