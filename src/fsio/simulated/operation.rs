//! What can be done to a disk, as a record that can be replayed.

use std::sync::Arc;

/// A file or directory, whatever its name is at the moment.
pub(super) type Inode = u64;

/// The directory that everything lies in.
pub(super) const ROOT: Inode = 0;

/// A name within a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The directory.
    pub(super) dir: Inode,
    /// The name in it.
    pub(super) name: String,
}

/// One numbered step of a disk's timeline.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    /// A new, empty directory.
    MakeDir { place: Place, made: Inode },
    /// A new, empty file.
    Create { place: Place, made: Inode },
    /// Another name for a file.
    Rename { from: Place, to: Place, moved: Inode },
    /// The end of a name.
    Remove { place: Place, removed: Inode },
    /// Bytes into a file.
    Write { file: Inode, offset: u64, bytes: Arc<[u8]> },
    /// Another length of a file.
    SetLen { file: Inode, len: u64 },
    /// Bytes and length of a file become durable.
    SyncFile { file: Inode },
    /// The names in a directory become durable.
    SyncDir { dir: Inode },
    /// A sync that failed: what it should have made durable may be lost, and no later sync makes it durable.
    FailedSync { file: Inode },
    /// Something that failed and did nothing.
    Failed,
}

impl Operation {
    /// Whether this makes something durable.
    pub(super) fn is_sync(&self) -> bool {
        matches!(self, Operation::SyncFile { .. } | Operation::SyncDir { .. })
    }
}
