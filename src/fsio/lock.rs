//! One process per data directory.

use super::FileError;
use super::error::Context;
use std::any::Any;
use std::fmt;
use std::fs::{OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The right to be the only process that works in a directory; given back when dropped, or when the process dies.
pub struct DirectoryLock {
    _held: Box<dyn Any + Send + Sync>,
}

impl DirectoryLock {
    /// Locks the file `lock` in `dir`, creating it; `None` if another holder has it.
    ///
    /// The lock is the operating system's, so a leftover file locks nobody out, and the file is never removed: another
    /// process may be waiting on that very inode.
    pub fn acquire(dir: &Path) -> Result<Option<DirectoryLock>, FileError> {
        let path = dir.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.context("open", &path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(DirectoryLock::holding(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(FileError::new("lock", &path, error)),
        }
    }

    /// A lock that lasts as long as `held` isn't dropped.
    pub(super) fn holding(held: impl Any + Send + Sync) -> DirectoryLock {
        DirectoryLock { _held: Box::new(held) }
    }
}

impl fmt::Debug for DirectoryLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DirectoryLock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_until_the_first_has_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirectoryLock::acquire(dir.path()).unwrap();
        assert!(first.is_some());
        assert!(DirectoryLock::acquire(dir.path()).unwrap().is_none());
        drop(first);
        assert!(DirectoryLock::acquire(dir.path()).unwrap().is_some());
    }
}
