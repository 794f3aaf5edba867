//! A disk that makes nothing durable, so that a large store is made in minutes.

use std::io;
use std::path::Path;

use orlop::fsio::{Access, DirectoryLock, Disk, DiskFile, Entry, FileError, ReadNow, RealDisk};

/// The real disk, without its syncs.
#[derive(Debug)]
pub(crate) struct UnsyncedDisk;

impl Disk for UnsyncedDisk {
    fn make_dir(&self, dir: &Path) -> Result<bool, FileError> {
        RealDisk.make_dir(dir)
    }

    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>, FileError> {
        Ok(Box::new(UnsyncedFile(RealDisk.create(path)?)))
    }

    fn open(&self, path: &Path, access: Access) -> Result<Option<Box<dyn DiskFile>>, FileError> {
        let file = RealDisk.open(path, access)?;
        Ok(file.map(|file| Box::new(UnsyncedFile(file)) as Box<dyn DiskFile>))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<bool, FileError> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, _: &Path) -> Result<(), FileError> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>, FileError> {
        RealDisk.list(dir)
    }

    fn len(&self, path: &Path) -> Result<Option<u64>, FileError> {
        RealDisk.len(path)
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64, FileError> {
        RealDisk.free_bytes(dir)
    }

    fn lock(&self, dir: &Path) -> Result<Option<DirectoryLock>, FileError> {
        RealDisk.lock(dir)
    }
}

#[derive(Debug)]
struct UnsyncedFile(Box<dyn DiskFile>);

impl DiskFile for UnsyncedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn read_at_now(&self, buf: &mut [u8], offset: u64) -> io::Result<ReadNow> {
        self.0.read_at_now(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn start_writeback(&self, _: u64, _: u64) {}
}
