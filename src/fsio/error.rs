//! What went wrong with a file, and with which one.

use std::io;
use std::path::{Path, PathBuf};

/// A failure of the file system, with the operation and the path it happened to.
#[derive(Debug, thiserror::Error)]
#[error("can't {operation} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried, as a verb: `open`, `rename`, `sync`.
    pub operation: &'static str,
    /// The file or directory that it was tried on.
    pub path: PathBuf,
    /// The operating system's answer.
    pub source: io::Error,
}

impl FileError {
    /// Names the operation and the path that `source` belongs to.
    pub fn new(operation: &'static str, path: &Path, source: io::Error) -> FileError {
        FileError { operation, path: path.to_owned(), source }
    }

    /// Whether the disk or the quota is full: the one failure that goes away by itself when somebody makes room.
    pub fn is_full(&self) -> bool {
        is_full(&self.source)
    }
}

/// Whether an answer of the operating system says that there is no room left.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Gives a plain result its operation and path.
pub(super) trait Context<T> {
    /// Turns the error into a [`FileError`].
    fn context(self, operation: &'static str, path: &Path) -> Result<T, FileError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, operation: &'static str, path: &Path) -> Result<T, FileError> {
        self.map_err(|source| FileError::new(operation, path, source))
    }
}
