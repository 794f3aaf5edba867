//! A real disk that notes how the copying of a snapshot works on it.

use std::fmt;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use orlop::fsio::{Access, DirectoryLock, Disk, DiskFile, Entry, FileError, RealDisk};

/// What is done during each sync of the whole directory.
type During = Box<dyn Fn() + Send + Sync>;

/// One sync of the whole directory by the copying.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Synced {
    /// How long it took.
    pub(crate) took: Duration,
    ended: Instant,
    /// From its end to the next file that came in; nothing where none did.
    pub(crate) pause: Option<Duration>,
}

/// What was noted.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// The nice values with which content was written, each once.
    pub(crate) nice: Vec<i32>,
    /// The syncs, in their order.
    pub(crate) syncs: Vec<Synced>,
}

pub(crate) struct WatchedDisk {
    disk: RealDisk,
    during: During,
    notes: Mutex<Notes>,
}

impl fmt::Debug for WatchedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WatchedDisk")
    }
}

/// The nice value of this thread.
pub(crate) fn nice() -> i32 {
    rustix::process::getpriority_process(None).unwrap()
}

impl WatchedDisk {
    /// Does `during` in each sync of the whole directory.
    pub(crate) fn new(during: impl Fn() + Send + Sync + 'static) -> WatchedDisk {
        WatchedDisk { disk: RealDisk, during: Box::new(during), notes: Mutex::default() }
    }

    /// What was noted so far, which is forgotten.
    pub(crate) fn take_notes(&self) -> Notes {
        std::mem::take(&mut self.notes.lock().unwrap())
    }
}

impl Disk for WatchedDisk {
    fn make_dir(&self, dir: &Path) -> Result<bool, FileError> {
        self.disk.make_dir(dir)
    }

    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>, FileError> {
        if path.iter().any(|part| part == "incoming") {
            let mut notes = self.notes.lock().unwrap();
            if !notes.nice.contains(&nice()) {
                notes.nice.push(nice());
            }
            if let Some(sync) = notes.syncs.last_mut() {
                sync.pause.get_or_insert(sync.ended.elapsed());
            }
        }
        self.disk.create(path)
    }

    fn open(&self, path: &Path, access: Access) -> Result<Option<Box<dyn DiskFile>>, FileError> {
        self.disk.open(path, access)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<bool, FileError> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), FileError> {
        self.disk.sync_dir(dir)
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>, FileError> {
        self.disk.list(dir)
    }

    fn len(&self, path: &Path) -> Result<Option<u64>, FileError> {
        self.disk.len(path)
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64, FileError> {
        self.disk.free_bytes(dir)
    }

    fn lock(&self, dir: &Path) -> Result<Option<DirectoryLock>, FileError> {
        self.disk.lock(dir)
    }

    fn sync_all(&self, dir: &Path) -> Result<(), FileError> {
        let began = Instant::now();
        (self.during)();
        self.disk.sync_all(dir)?;
        let sync = Synced { took: began.elapsed(), ended: Instant::now(), pause: None };
        self.notes.lock().unwrap().syncs.push(sync);
        Ok(())
    }
}
