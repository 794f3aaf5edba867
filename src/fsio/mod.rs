//! The one place that changes the file system.
//!
//! Everything above works on a [`Disk`]: [`RealDisk`] outside tests, [`SimulatedDisk`] where a test wants to cut the
//! power. What a disk promises is what POSIX promises and no more: bytes are durable after [`DiskFile::sync`], the
//! name that leads to them after [`Disk::sync_dir`] of its directory, and whatever has not been synced may be lost,
//! torn or reordered.

mod aligned;
mod append;
mod background;
mod copy;
mod disk;
mod error;
mod lock;
mod pending;
mod real;
mod replace;
mod simulated;
mod socket;
mod source;
mod spool;
mod stream;

pub use aligned::AlignedBuffer;
pub use append::{append_to, append_to_present};
pub use background::{Turn, in_background};
pub use copy::copy_durable;
pub use disk::{Access, Adoption, Disk, DiskFile, Entry, ReadNow};
pub use error::FileError;
pub use lock::DirectoryLock;
pub use pending::{PendingDirectory, PendingFile, PendingPart};
pub use real::RealDisk;
pub use replace::{read_small, replace_file, replace_shared, replace_small};
pub use simulated::{Fault, Replay, SimulatedDisk};
pub use socket::{PublicSocket, bind_socket, connect_socket, remove_socket};
pub use source::{EntryKind, SourceEntries, SourceEntry, SourceFile, SourceTree};
pub use spool::Spool;
pub use stream::{FileReader, FileWriter};
