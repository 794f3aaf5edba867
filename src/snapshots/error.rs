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
    /// A later version of Orlop has taken the snapshot.
    #[error("the snapshot of {} was taken by a later version of Orlop; use that one", .0.display())]
    NewerSchema(PathBuf),
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
    /// A call to a store failed.
    #[error("can't {operation} {}: {reason}{advice}", path.display())]
    Remote {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the store said, or what happened on the way to it.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// A store can't be reached by what is known of it.
    #[error("{location} can't be used: {reason}")]
    Settings {
        /// Where the backup is.
        location: String,
        /// What is missing or wrong.
        reason: String,
    },
    /// Somebody else has taken the lock, since this process didn't show itself for a while.
    #[error(
        "another process works in {0}: this one was stopped, or couldn't reach it, for some minutes. Run the command again"
    )]
    LostLock(String),
    /// The backup isn't encrypted.
    #[error(
        "{} isn't encrypted, and stays so: leave out the recipients, or name another place for an encrypted backup",
        .0.display()
    )]
    Plain(PathBuf),
    /// The backup is encrypted.
    #[error("{} is encrypted: name the recipients that new files are encrypted to, for example --encrypt-to age1…", .0.display())]
    Sealed(PathBuf),
    /// A recipient is none.
    #[error(
        "{text:?} is no recipient: {reason}; name the public key that age-keygen prints, which begins with age1"
    )]
    Recipient {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file with identities can't be used.
    #[error("the file with the identity, {}: {reason}; name one that age-keygen wrote", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Something is encrypted, and nothing is there to open it.
    #[error("{} is encrypted: name the file with its identity, --identity FILE", .0.display())]
    NoIdentity(PathBuf),
    /// Something is encrypted to others.
    #[error("{} is encrypted to others than the given identities, or damaged in its head", .0.display())]
    WrongIdentity(PathBuf),
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
