//! A disk and a clock that stop at one of their operations, so that something else can happen just then.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use orlop::clock::{Clock, ManualClock, Timestamp};
use orlop::fsio::{Access, DirectoryLock, Disk, DiskFile, Entry, FileError, SimulatedDisk};

/// What is done at the stop.
pub(crate) type Stop = Box<dyn FnOnce() + Send>;

/// A simulated disk with a gate in front of and behind each operation on the directories of blobs and uploads.
#[derive(Clone)]
pub(crate) struct Gate {
    disk: SimulatedDisk,
    /// How many gates are passed before the stop; counts on below zero.
    left: Arc<AtomicU64>,
    stop: Arc<Mutex<Option<Stop>>>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}

impl Gate {
    pub(crate) fn new() -> Gate {
        Gate { disk: SimulatedDisk::new(), left: Arc::default(), stop: Arc::default() }
    }

    /// Does `stop` at gate `number` from now on.
    pub(crate) fn stop_at(&self, number: u64, stop: Stop) {
        self.left.store(number, Ordering::SeqCst);
        *self.stop.lock().unwrap() = Some(stop);
    }

    /// Forgets a stop that was never reached; says whether there was one.
    pub(crate) fn forget(&self) -> bool {
        self.stop.lock().unwrap().take().is_some()
    }

    fn pass(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            let stop = self.stop.lock().unwrap().take();
            if let Some(stop) = stop {
                stop();
            }
        }
    }

    fn around<T>(&self, path: &Path, change: impl FnOnce() -> T) -> T {
        let is_gated = ["blobs", "uploads"].iter().any(|name| path.iter().any(|part| part == *name));
        if !is_gated {
            return change();
        }
        self.pass();
        let result = change();
        self.pass();
        result
    }
}

/// A clock with a gate in front of each look at it: operations look between what they read and what they write.
#[derive(Debug)]
pub(crate) struct GatedClock {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) gate: Gate,
}

impl Clock for GatedClock {
    fn now(&self) -> Timestamp {
        self.gate.pass();
        self.clock.now()
    }
}

impl Disk for Gate {
    fn make_dir(&self, dir: &Path) -> Result<bool, FileError> {
        self.disk.make_dir(dir)
    }

    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>, FileError> {
        self.around(path, || self.disk.create(path))
    }

    fn open(&self, path: &Path, access: Access) -> Result<Option<Box<dyn DiskFile>>, FileError> {
        self.disk.open(path, access)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        self.around(to, || self.disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> Result<bool, FileError> {
        self.around(path, || self.disk.remove(path))
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), FileError> {
        self.around(dir, || self.disk.sync_dir(dir))
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>, FileError> {
        self.around(dir, || self.disk.list(dir))
    }

    fn len(&self, path: &Path) -> Result<Option<u64>, FileError> {
        self.around(path, || self.disk.len(path))
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64, FileError> {
        self.disk.free_bytes(dir)
    }

    fn lock(&self, dir: &Path) -> Result<Option<DirectoryLock>, FileError> {
        self.disk.lock(dir)
    }
}
