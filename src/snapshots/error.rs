//! What goes wrong.

use std::path::PathBuf;

use crate::fsio::FileError;
use crate::metadata;
use crate::registry;

/// Why there is no snapshot, or nothing was restored. The texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("{0}{advice}", advice = advice(.0))]
    File(#[from] FileError),
    /// The directory is something else.
    #[error("{} is not empty and no backup directory; name one that is empty, or doesn't exist yet", .0.display())]
    NoBackup(PathBuf),
    /// The directory of a schedule isn't there.
    #[error(
        "there is no directory {}: mount its disk, or make it once; the schedule makes none, so that no backup lands beside the \
         data while a disk is missing",
        .0.display()
    )]
    Absent(PathBuf),
    /// A defect.
    #[error("it panicked: {0}")]
    Panicked(String),
    /// A later version of Orlop has made it.
    #[error("the backup directory {} was made by a later version of Orlop; use that one", .0.display())]
    NewerFormat(PathBuf),
    /// There is no such snapshot.
    #[error("there is no snapshot {name} in {}; orlop backup list shows those that there are", dir.display())]
    Unknown {
        /// What was named.
        name: String,
        /// The backup directory.
        dir: PathBuf,
    },
    /// Somebody else is at work there.
    #[error("another process works in {}; try again when it has ended", .0.display())]
    Locked(PathBuf),
    /// A part of a snapshot isn't what it was.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Content is missing that a restore needs.
    #[error(
        "the snapshot can't be restored whole, and nothing was: {count} files are missing or damaged, among them {}. Restore an \
         earlier one, or put the files back",
        first.display()
    )]
    Incomplete {
        /// How many.
        count: u64,
        /// One of them.
        first: PathBuf,
    },
    /// The place for a restore is taken.
    #[error(
        "{} is not empty; a restore makes a data directory of its own: name one that is empty, or doesn't exist yet. --force moves what \
         it has into its folder former, and --repository '**' brings what it hasn't got",
        .0.display()
    )]
    Occupied(PathBuf),
    /// The caller wanted so.
    #[error("interrupted; what was copied stays, and the next run goes on from there")]
    Stopped,
    /// The registry.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// What was restored can't be opened.
    #[error(transparent)]
    Open(#[from] registry::OpenError),
    /// The metadata.
    #[error(transparent)]
    Metadata(#[from] metadata::Error),
    /// The new metadata can't be written.
    #[error(transparent)]
    Import(#[from] metadata::OpenError),
}

fn advice(error: &FileError) -> &'static str {
    match error.source.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            ". Make room there, then run the command again: what was copied stays"
        }
        std::io::ErrorKind::ReadOnlyFilesystem => {
            ". The file system can't be written to; name a directory on another"
        }
        std::io::ErrorKind::PermissionDenied => ". Give the user who runs orlop the right to it",
        _ => "",
    }
}
