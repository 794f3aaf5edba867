//! The blob directory as a whole.

use super::layout::Layout;
use super::locks::DigestLocks;
use super::{BlobFile, Checkpoint, DigestGuard, StagedBlob, UploadId};
use crate::clock;
use crate::fsio::{Access, Disk, Entry, FileError};
use crate::oci::{Digest, DigestAlgorithm};
use crate::telemetry::StorageMetrics;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

/// The algorithms that may have a directory.
const ALGORITHMS: [DigestAlgorithm; 3] =
    [DigestAlgorithm::Sha256, DigestAlgorithm::Sha384, DigestAlgorithm::Sha512];

/// The published blobs and the uploads of one data directory.
#[derive(Debug)]
pub struct BlobStore {
    disk: Arc<dyn Disk>,
    layout: Layout,
    locks: DigestLocks,
    /// The directories below `blobs` whose entries this process has made durable.
    durable_dirs: Mutex<HashSet<PathBuf>>,
    /// Whether the file system has said that it can't read without waiting.
    waits_always: Arc<AtomicBool>,
    metrics: StorageMetrics,
}

impl BlobStore {
    /// Opens the store in `root`, making what isn't there; looks at no blob.
    pub fn open(disk: Arc<dyn Disk>, root: PathBuf, metrics: StorageMetrics) -> Result<BlobStore, FileError> {
        let layout = Layout::new(root);
        disk.create_dir(layout.root())?;
        for dir in [layout.blobs(), layout.uploads(), layout.quarantine()] {
            disk.make_dir(&dir)?;
        }
        // Even if all were there: the process that made them may have died before its sync.
        disk.sync_dir(layout.root())?;
        let store = BlobStore {
            disk,
            layout,
            locks: DigestLocks::new(),
            durable_dirs: Mutex::default(),
            waits_always: Arc::default(),
            metrics,
        };
        store.make_durable(&store.layout.algorithm(DigestAlgorithm::CANONICAL))?;
        Ok(store)
    }

    /// Waits for the right to publish or remove a digest's file.
    pub async fn lock(&self, digest: &Digest) -> DigestGuard {
        self.locks.lock(digest).await
    }

    /// [`BlobStore::lock`] where nobody holds it.
    pub fn try_lock(&self, digest: &Digest) -> Option<DigestGuard> {
        self.locks.try_lock(digest)
    }

    /// [`BlobStore::lock`] for a thread that may block; panics on an async one.
    pub fn lock_blocking(&self, digest: &Digest) -> DigestGuard {
        self.locks.lock_blocking(digest)
    }

    /// Begins an upload that computes these digests; touches the disk at the first byte.
    pub fn stage(&self, id: UploadId, algorithms: &[DigestAlgorithm]) -> StagedBlob {
        StagedBlob::new(id, Arc::clone(&self.disk), self.layout.upload(id), algorithms, self.metrics.clone())
    }

    /// Goes on with an upload at a checkpoint, dropping what was written after it; `None` if the checkpoint's bytes
    /// aren't there. Nobody else may hold the upload.
    pub fn resume(&self, id: UploadId, checkpoint: &Checkpoint) -> Result<Option<StagedBlob>, FileError> {
        StagedBlob::resume(
            id,
            Arc::clone(&self.disk),
            self.layout.upload(id),
            checkpoint,
            self.metrics.clone(),
        )
    }

    /// Removes the file of an upload that nobody holds; `false` if it has none.
    pub fn discard(&self, id: UploadId) -> Result<bool, FileError> {
        self.disk.remove(&self.layout.upload(id))
    }

    /// Puts an upload's bytes at the digest's final path: bytes synced, then renamed, then the directory synced.
    ///
    /// On return they survive a power cut. The caller vouches that the digest is the bytes', and holds its lock; a file
    /// that is there already is replaced. After an error the upload's file is a leftover, at one path or the other.
    pub fn publish(&self, guard: &DigestGuard, staged: StagedBlob, digest: &Digest) -> Result<(), FileError> {
        debug_assert!(guard.covers(digest), "publishing {digest} needs its lock");
        let prefix = self.layout.prefix(digest);
        self.make_durable(&self.layout.algorithm(digest.algorithm()))?;
        self.make_durable(&prefix)?;
        let from = staged.finish()?;
        self.disk.rename(&from, &self.layout.blob(digest))?;
        let began = clock::monotonic();
        self.disk.sync_dir(&prefix)?;
        self.metrics.sync(began.elapsed());
        Ok(())
    }

    /// Whether an upload has a file.
    pub fn is_staged(&self, id: UploadId) -> Result<bool, FileError> {
        Ok(self.disk.len(&self.layout.upload(id))?.is_some())
    }

    /// Undoes [`BlobStore::publish`] for an upload that was never committed: the digest's file is the upload's again, if
    /// it has `len` bytes. The caller holds the digest's lock and knows that no row names it.
    pub fn unpublish(
        &self,
        guard: &DigestGuard,
        id: UploadId,
        digest: &Digest,
        len: u64,
    ) -> Result<bool, FileError> {
        debug_assert!(guard.covers(digest), "unpublishing {digest} needs its lock");
        if self.blob_len(digest)? != Some(len) {
            return Ok(false);
        }
        self.disk.rename(&self.layout.blob(digest), &self.layout.upload(id))?;
        // The next checkpoint relies on the name.
        self.disk.sync_dir(&self.layout.uploads())?;
        Ok(true)
    }

    /// Where the file of a published blob is, if there is one.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.layout.blob(digest)
    }

    /// Opens a published blob's file; `None` if there is none.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<BlobFile>, FileError> {
        let path = self.layout.blob(digest);
        let Some(file) = self.disk.open(&path, Access::Read)? else { return Ok(None) };
        let blob = BlobFile::new(Arc::from(file), Arc::clone(&self.waits_always));
        Ok(Some(blob.map_err(|source| FileError::new("stat", &path, source))?))
    }

    /// Opens the file of an upload that goes on being written; `None` if there is none. What is read has to have been
    /// written before.
    pub fn open_staged(&self, id: UploadId) -> Result<Option<BlobFile>, FileError> {
        let path = self.layout.upload(id);
        let Some(file) = self.disk.open(&path, Access::Read)? else { return Ok(None) };
        let blob = BlobFile::new(Arc::from(file), Arc::clone(&self.waits_always));
        Ok(Some(blob.map_err(|source| FileError::new("stat", &path, source))?))
    }

    /// The length of a published blob's file; `None` if there is none.
    pub fn blob_len(&self, digest: &Digest) -> Result<Option<u64>, FileError> {
        self.disk.len(&self.layout.blob(digest))
    }

    /// Removes a published blob's file; `false` if there was none. No row may name it any more.
    ///
    /// The removal isn't synced: a file that a power cut brings back is garbage that nothing names.
    pub fn remove(&self, guard: &DigestGuard, digest: &Digest) -> Result<bool, FileError> {
        debug_assert!(guard.covers(digest), "removing {digest} needs its lock");
        self.disk.remove(&self.layout.blob(digest))
    }

    /// Moves a blob's file into the quarantine, in place of one that was set aside before; `false` if there is none. No row
    /// may name it any more.
    pub fn set_aside(&self, guard: &DigestGuard, digest: &Digest) -> Result<bool, FileError> {
        debug_assert!(guard.covers(digest), "setting {digest} aside needs its lock");
        if self.blob_len(digest)?.is_none() {
            return Ok(false);
        }
        self.disk.rename(&self.layout.blob(digest), &self.layout.quarantined(digest))?;
        // Whichever of the two names survives a power cut, nothing leads to it.
        Ok(true)
    }

    /// The blobs that have a file in the quarantine, and its length.
    pub fn quarantined(&self) -> Result<Vec<(Digest, u64)>, FileError> {
        let entries = self.disk.list(&self.layout.quarantine())?;
        let digest = |entry: &Entry| entry.name.replacen('-', ":", 1).parse().ok();
        Ok(entries.iter().filter_map(|entry| Some((digest(entry)?, entry.len))).collect())
    }

    /// Removes a blob's file from the quarantine; `false` if there is none.
    pub fn discard_quarantined(&self, digest: &Digest) -> Result<bool, FileError> {
        self.disk.remove(&self.layout.quarantined(digest))
    }

    /// The uploads that have a file.
    pub fn staged_ids(&self) -> Result<Vec<UploadId>, FileError> {
        let entries = self.disk.list(&self.layout.uploads())?;
        Ok(entries.iter().filter_map(|entry| entry.name.parse().ok()).collect())
    }

    /// Every published blob with its length, in no particular order; one directory is read at a time.
    ///
    /// A name that isn't a digest's is passed over.
    pub fn walk(&self) -> impl Iterator<Item = Result<(Digest, u64), FileError>> + use<'_> {
        ALGORITHMS.into_iter().flat_map(move |algorithm| {
            let dir = self.layout.algorithm(algorithm);
            let prefixes = self.entries(&dir);
            prefixes.flat_map(move |prefix| {
                let dir = prefix.as_ref().map(|prefix| dir.join(&prefix.name)).unwrap_or_default();
                let (failed, blobs) = match prefix {
                    Err(error) => (Some(Err(error)), None),
                    Ok(prefix) if prefix.is_dir => (None, Some(self.entries(&dir))),
                    Ok(_) => (None, None),
                };
                let blobs = blobs.into_iter().flatten().filter_map(move |blob| match blob {
                    Err(error) => Some(Err(error)),
                    Ok(blob) => digest_of(algorithm, &dir, &blob).map(|digest| Ok((digest, blob.len))),
                });
                failed.into_iter().chain(blobs)
            })
        })
    }

    /// Whether any blob has ever been published here; looks at no blob.
    pub fn has_blobs(&self) -> Result<bool, FileError> {
        for algorithm in ALGORITHMS {
            if !self.disk.list(&self.layout.algorithm(algorithm))?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The bytes that may still be written.
    pub fn free_bytes(&self) -> Result<u64, FileError> {
        self.disk.free_bytes(self.layout.root())
    }

    fn entries(&self, dir: &Path) -> impl Iterator<Item = Result<Entry, FileError>> + use<> {
        let (failed, entries) = match self.disk.list(dir) {
            Ok(entries) => (None, entries),
            Err(error) => (Some(Err(error)), Vec::new()),
        };
        failed.into_iter().chain(entries.into_iter().map(Ok))
    }

    /// Makes a directory, unless this process has done so before.
    fn make_durable(&self, dir: &Path) -> Result<(), FileError> {
        let is_durable = || self.durable_dirs.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_durable().contains(dir) {
            self.disk.create_dir(dir)?;
            is_durable().insert(dir.to_owned());
        }
        Ok(())
    }
}

/// The digest that a file's place and name say, if they agree.
fn digest_of(algorithm: DigestAlgorithm, prefix: &Path, blob: &Entry) -> Option<Digest> {
    let digest: Digest = format!("{}:{}", algorithm.as_str(), blob.name).parse().ok()?;
    let is_in_place = !blob.is_dir && prefix.file_name()?.to_str()? == &blob.name[..2];
    is_in_place.then_some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::fsio::{ReadNow, RealDisk};

    fn store() -> (tempfile::TempDir, BlobStore) {
        let dir = tempfile::tempdir().unwrap();
        let store =
            BlobStore::open(Arc::new(RealDisk), dir.path().join("data"), StorageMetrics::default()).unwrap();
        (dir, store)
    }

    fn new_id() -> UploadId {
        UploadId::generate(Timestamp::from_millis(1_700_000_000_000))
    }

    fn push(store: &BlobStore, bytes: &[u8]) -> Digest {
        let mut staged = store.stage(new_id(), &[DigestAlgorithm::Sha256]);
        staged.write(bytes).unwrap();
        let digest = staged.digest(DigestAlgorithm::Sha256).unwrap();
        store.publish(&store.lock_blocking(&digest), staged, &digest).unwrap();
        digest
    }

    #[test]
    fn a_published_blob_is_found_read_walked_and_removed() {
        let (_dir, store) = store();
        let content = b"some content".as_slice();
        let digest = push(&store, content);
        assert_eq!(digest, Digest::of(DigestAlgorithm::Sha256, content));
        assert_eq!(store.blob_len(&digest).unwrap(), Some(12));
        let blob = store.open_blob(&digest).unwrap().unwrap();
        let mut buf = [0; 64];
        assert_eq!((blob.len(), blob.read_at(&mut buf, 5).unwrap()), (12, 7));
        assert_eq!(&buf[..7], b"content");
        match blob.read_at_now(&mut buf, 0).unwrap() {
            ReadNow::Read(read) => assert_eq!(&buf[..read], content),
            ReadNow::NotInMemory | ReadNow::Unsupported => {}
        }
        assert_eq!(store.walk().collect::<Result<Vec<_>, _>>().unwrap(), [(digest, 12)]);
        assert!(store.staged_ids().unwrap().is_empty());

        let guard = store.lock_blocking(&digest);
        assert!(store.remove(&guard, &digest).unwrap());
        assert!(!store.remove(&guard, &digest).unwrap());
        assert!(store.open_blob(&digest).unwrap().is_none());
        assert_eq!(blob.read_at(&mut buf, 0).unwrap(), 12, "an open blob stays readable");
    }

    #[test]
    fn a_blob_that_is_set_aside_is_no_blob_any_more_and_can_be_published_again() {
        let (dir, store) = store();
        let digest = push(&store, b"some content");
        for content in [b"some c0ntent", b"s0me content"] {
            std::fs::write(store.layout.blob(&digest), content).unwrap();
            assert!(store.set_aside(&store.lock_blocking(&digest), &digest).unwrap());
            assert!(!store.set_aside(&store.lock_blocking(&digest), &digest).unwrap());
            assert!(store.open_blob(&digest).unwrap().is_none());
            let aside = dir.path().join("data/quarantine").join(format!("sha256-{}", digest.hex()));
            assert_eq!(std::fs::read(aside).unwrap(), content, "the last one");
            push(&store, b"some content");
        }
        std::fs::write(dir.path().join("data/quarantine/notes"), b"by a human").unwrap();
        assert_eq!(store.quarantined().unwrap(), [(digest, 12)]);
        assert!(store.discard_quarantined(&digest).unwrap());
        assert!(!store.discard_quarantined(&digest).unwrap());
        assert_eq!(store.blob_len(&digest).unwrap(), Some(12));
    }

    #[test]
    fn the_blob_of_no_bytes_can_be_published() {
        let (_dir, store) = store();
        let digest = push(&store, b"");
        let blob = store.open_blob(&digest).unwrap().unwrap();
        assert!(blob.is_empty());
        assert_eq!(blob.read_at(&mut [0; 8], 0).unwrap(), 0);
    }

    #[test]
    fn an_upload_that_was_published_and_never_committed_can_be_taken_back() {
        let (_dir, store) = store();
        let id = new_id();
        let mut staged = store.stage(id, &[DigestAlgorithm::Sha256]);
        staged.write(b"some bytes").unwrap();
        let checkpoint = staged.checkpoint().unwrap();
        let digest = Digest::of(DigestAlgorithm::Sha256, b"some bytes");
        let guard = store.lock_blocking(&digest);
        store.publish(&guard, staged, &digest).unwrap();
        assert!(!store.is_staged(id).unwrap());

        assert!(!store.unpublish(&guard, id, &digest, 9).unwrap(), "another length is another upload's");
        assert!(store.unpublish(&guard, id, &digest, 10).unwrap());
        assert!(store.is_staged(id).unwrap() && store.blob_len(&digest).unwrap().is_none());
        assert_eq!(store.resume(id, &checkpoint).unwrap().unwrap().len(), 10);
        assert!(!store.unpublish(&guard, id, &digest, 10).unwrap());
    }

    #[test]
    fn publishing_what_is_there_already_replaces_it() {
        let (_dir, store) = store();
        assert_eq!(push(&store, b"twice"), push(&store, b"twice"));
        assert_eq!(store.walk().count(), 1);
        assert!(store.staged_ids().unwrap().is_empty());
    }

    #[test]
    fn a_walk_passes_over_what_is_no_blob() {
        let (dir, store) = store();
        let digest = push(&store, b"a blob");
        let sha256 = dir.path().join("data/blobs/sha256");
        std::fs::write(sha256.join("stray"), b"x").unwrap();
        std::fs::write(sha256.join(&digest.hex()[..2]).join("stray"), b"x").unwrap();
        std::fs::create_dir(sha256.join("zz")).unwrap();
        std::fs::write(sha256.join("zz").join(digest.hex()), b"in the wrong place").unwrap();
        assert_eq!(store.walk().collect::<Result<Vec<_>, _>>().unwrap(), [(digest, 6)]);
    }

    #[test]
    fn an_upload_goes_on_at_its_checkpoint_without_what_came_after() {
        let (_dir, store) = store();
        let id = new_id();
        let mut staged = store.stage(id, &[DigestAlgorithm::Sha256, DigestAlgorithm::Sha512]);
        assert!(store.staged_ids().unwrap().is_empty(), "no file before the first byte");
        staged.write(b"kept ").unwrap();
        let checkpoint = staged.checkpoint().unwrap();
        assert_eq!((checkpoint.len, checkpoint.states.len()), (5, 2));
        staged.write(b"lost").unwrap();
        drop(staged);
        assert_eq!(store.staged_ids().unwrap(), [id]);

        let mut staged = store.resume(id, &checkpoint).unwrap().unwrap();
        assert_eq!(staged.len(), 5);
        staged.write(b"bytes").unwrap();
        for algorithm in [DigestAlgorithm::Sha256, DigestAlgorithm::Sha512, DigestAlgorithm::Sha384] {
            assert_eq!(staged.digest(algorithm).unwrap(), Digest::of(algorithm, b"kept bytes"));
        }
        let beyond = Checkpoint { len: 11, states: Vec::new() };
        assert!(store.resume(id, &beyond).unwrap().is_none());
        assert!(store.resume(new_id(), &checkpoint).unwrap().is_none());
        staged.discard().unwrap();
        assert!(store.staged_ids().unwrap().is_empty());
        assert!(!store.discard(id).unwrap());
    }

    #[test]
    fn a_hash_state_that_cannot_be_read_is_replaced_by_reading_the_file() {
        let (_dir, store) = store();
        let id = new_id();
        let mut staged = store.stage(id, &[DigestAlgorithm::Sha256]);
        staged.write(b"kept ").unwrap();
        let mut checkpoint = staged.checkpoint().unwrap();
        checkpoint.states[0].format = "of another release".to_owned();
        let mut staged = store.resume(id, &checkpoint).unwrap().unwrap();
        staged.write(b"bytes").unwrap();
        let digest = staged.digest(DigestAlgorithm::Sha256).unwrap();
        assert_eq!(digest, Digest::of(DigestAlgorithm::Sha256, b"kept bytes"));
    }

    #[test]
    fn a_truncated_upload_hashes_as_if_the_tail_had_never_come() {
        let (_dir, store) = store();
        let content: Vec<u8> = (0..700_000_u32).map(|i| u8::try_from(i % 253).unwrap()).collect();
        for len in [0, 1, 299_999, 300_000, 300_001, 650_000, 700_000, 700_001] {
            let mut staged = store.stage(new_id(), &[DigestAlgorithm::Sha256]);
            staged.write(&content[..300_000]).unwrap();
            staged.checkpoint().unwrap();
            staged.write(&content[300_000..]).unwrap();
            staged.add_algorithm(DigestAlgorithm::Sha384).unwrap();
            staged.truncate(len).unwrap();
            let kept = usize::try_from(len).unwrap().min(content.len());
            assert_eq!(staged.len(), kept as u64);
            staged.write(b"tail").unwrap();
            let expected = [&content[..kept], b"tail"].concat();
            for algorithm in [DigestAlgorithm::Sha256, DigestAlgorithm::Sha384, DigestAlgorithm::Sha512] {
                assert_eq!(staged.digest(algorithm).unwrap(), Digest::of(algorithm, &expected), "{len}");
            }
            staged.discard().unwrap();
        }
    }
}
