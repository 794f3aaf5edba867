//! What can go wrong below the registry's tables.

use std::sync::Arc;

use super::Table;
use crate::fsio::FileError;

/// A failed read or write of the metadata.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The disk has no room for the transaction; nothing of it was kept.
    #[error("no space is left on the disk of the metadata")]
    Full,
    /// The database could not be read or written; its handle is being reopened.
    #[error("the metadata can't be read or written: {0}")]
    Storage(Arc<str>),
    /// A record doesn't have the form that its version promises.
    #[error("a record of the table {table} is damaged: {reason}")]
    Damaged {
        /// The table that holds the record.
        table: &'static str,
        /// What doesn't fit.
        reason: String,
    },
    /// A look-up wants a row that is not cached; it then runs in a transaction, and nobody sees this.
    #[error("a row of the table {} is not cached", .0.name())]
    NotCached(Table),
    /// The closure of a write panicked; its transaction was rolled back.
    #[error("a write to the metadata failed unexpectedly and was rolled back")]
    Panicked,
    /// The metadata was closed, since the process is on its way out.
    #[error("the metadata is closed")]
    Closed,
}

impl Error {
    /// Turns redb's error into ours, telling a full disk from the rest.
    pub(super) fn from_redb(error: impl Into<redb::Error>) -> Error {
        let error = error.into();
        if let redb::Error::Io(source) = &error
            && is_full(source)
        {
            return Error::Full;
        }
        Error::Storage(Arc::from(error.to_string()))
    }
}

/// Whether an I/O error says that the disk or the quota is full.
fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// Why the metadata could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory was written by a newer Orlop.
    #[error(
        "the data directory has schema {found}, and this Orlop knows schemas up to {known}; start it with the newer \
         Orlop that wrote it, or restore the copy that was put aside before the migration"
    )]
    NewerSchema {
        /// The schema number in the file.
        found: u32,
        /// The newest schema number that this binary knows.
        known: u32,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The database refused.
    #[error("the metadata file {path} can't be opened: {reason}")]
    Database {
        /// The file.
        path: String,
        /// What redb says.
        reason: String,
    },
    /// A record needed at start is damaged, or a read failed.
    #[error(transparent)]
    Metadata(#[from] Error),
}
