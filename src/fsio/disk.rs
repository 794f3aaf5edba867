//! The seam between everything that stores bytes and the disk that keeps them.

use super::{DirectoryLock, FileError, SourceFile};
use std::fmt::Debug;
use std::io;
use std::path::Path;

/// A file system, reduced to what a store needs from it; the one seam at which tests inject faults.
///
/// All calls block. Nothing is durable before the sync that says so.
pub trait Disk: Send + Sync + Debug + 'static {
    /// Makes one directory whose parent exists; `false` if it was there already. Not durable by itself.
    fn make_dir(&self, dir: &Path) -> Result<bool, FileError>;

    /// Creates a file with mode 0600 that must not exist yet; its name isn't durable before [`Disk::sync_dir`].
    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>, FileError>;

    /// Opens a file; `None` means that there is none.
    fn open(&self, path: &Path, access: Access) -> Result<Option<Box<dyn DiskFile>>, FileError>;

    /// Gives a file another name, atomically replacing what had that name; durable after a sync of both directories.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError>;

    /// Removes a file; `false` if there was none. The name may come back after a power cut until the directory is synced.
    fn remove(&self, path: &Path) -> Result<bool, FileError>;

    /// Makes a new file out of one of another tree without copying its bytes; `false` where that can't be done, which leaves
    /// nothing. Neither bytes nor name are durable by that.
    fn adopt(&self, _source: &SourceFile, _to: &Path, _how: Adoption) -> Result<bool, FileError> {
        Ok(false)
    }

    /// Makes every change of this directory's entries durable that returned before.
    fn sync_dir(&self, dir: &Path) -> Result<(), FileError>;

    /// The entries of a directory in no particular order; empty if there is no such directory.
    fn list(&self, dir: &Path) -> Result<Vec<Entry>, FileError>;

    /// The first `limit` entries of a directory in the byte order of their names, of those whose name is behind `after`: for
    /// directories with more entries than memory should hold. Reads all names each time.
    fn list_after(&self, dir: &Path, after: &str, limit: usize) -> Result<Vec<Entry>, FileError> {
        let mut entries = self.list(dir)?;
        entries.retain(|entry| entry.name.as_str() > after);
        entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        entries.truncate(limit);
        Ok(entries)
    }

    /// How many names a file has; with more than one, others share its bytes and its sectors.
    fn links(&self, _path: &Path) -> Result<u64, FileError> {
        Ok(1)
    }

    /// Gives a file another name, `to`, which must not exist; `false` where the file system can't.
    fn hard_link(&self, _from: &Path, _to: &Path) -> Result<bool, FileError> {
        Ok(false)
    }

    /// The length of a file; `None` means that there is none.
    fn len(&self, path: &Path) -> Result<Option<u64>, FileError>;

    /// The bytes that this process may still write on the file system that holds `dir`.
    fn free_bytes(&self, dir: &Path) -> Result<u64, FileError>;

    /// Locks a directory against other processes until the answer is dropped; `None` if one of them holds it.
    fn lock(&self, dir: &Path) -> Result<Option<DirectoryLock>, FileError>;

    /// Removes a directory that has nothing in it; `false` where that can't be.
    fn remove_dir(&self, _dir: &Path) -> Result<bool, FileError> {
        Ok(false)
    }

    /// Makes everything durable that was written below `dir` before: files, lengths and names.
    fn sync_all(&self, dir: &Path) -> Result<(), FileError> {
        for entry in self.list(dir)? {
            let path = dir.join(&entry.name);
            if entry.is_dir {
                self.sync_all(&path)?;
            } else if let Some(file) = self.open(&path, Access::Write)? {
                file.sync().map_err(|source| FileError::new("sync", &path, source))?;
            }
        }
        self.sync_dir(dir)
    }

    /// Makes `to`, which must not exist, a file with mode 0600 that shares the blocks of `from` until one of them is written to;
    /// `false`, and no file, where the file system can't.
    fn clone_file(&self, _from: &Path, _to: &Path) -> Result<bool, FileError> {
        Ok(false)
    }

    /// Makes `path`, which must not exist, a symbolic link. A file system without these gets a file that says where it would
    /// lead.
    fn symlink(&self, target: &str, path: &Path) -> Result<(), FileError> {
        let file = self.create(path)?;
        file.write_at(target.as_bytes(), 0).map_err(|source| FileError::new("write", path, source))
    }

    /// Makes a directory with its parents; durable on return.
    ///
    /// The directory's own entry is synced even if it existed, since the process that made it may have died before its
    /// sync; a caller that wants this for each level asks for each level.
    fn create_dir(&self, dir: &Path) -> Result<(), FileError> {
        let parent = parent_of(dir);
        let made = match self.make_dir(dir) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound && parent != dir => {
                self.create_dir(parent)?;
                self.make_dir(dir)?
            }
            made => made?,
        };
        match self.sync_dir(parent) {
            // A directory handed to us, in a parent that we may not even read, is its owner's to make durable.
            Err(error) if !made && error.source.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        }
    }
}

/// The directory that holds `path`, `.` for a bare name and `/` for itself.
pub(super) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// An open file; dropping it closes it and syncs nothing.
pub trait DiskFile: Send + Sync + Debug {
    /// Writes all of `bytes` at `offset`, growing the file if need be; after an error any part may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Reads up to `buf.len()` bytes; fewer at the end of the file, and possibly before it.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Reads what is in memory and never waits for the disk, so that an async thread may call it.
    fn read_at_now(&self, buf: &mut [u8], offset: u64) -> io::Result<ReadNow>;

    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file off or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes the bytes and the length durable, not the name. After an error it is unknown which bytes are; a repeated
    /// call may answer success and prove nothing.
    fn sync(&self) -> io::Result<()>;

    /// Asks for early write-back of a range so that a later sync is short; promises nothing.
    fn start_writeback(&self, offset: u64, len: u64);
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    Write,
}

/// How a file of another tree is taken without copying its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adoption {
    /// By a file that shares the other one's blocks until one of the two is changed, with mode 0600.
    Clone,
    /// By another name for the very same file, which keeps its owner and its mode.
    Link,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name within the directory.
    pub name: String,
    /// Whether it is a directory itself.
    pub is_dir: bool,
    /// The length in bytes; meaningless for directories.
    pub len: u64,
}

/// The outcome of a read that must not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadNow {
    /// So many bytes were in memory and have been read; zero only at the end of the file.
    Read(usize),
    /// The bytes are on the disk: read them where waiting is allowed.
    NotInMemory,
    /// This file system can't say; it won't be able to later either.
    Unsupported,
}
