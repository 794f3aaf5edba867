//! A disk in memory that can lose power, fill up and fail: for tests of durability.
//!
//! All files and directories share one numbered timeline of operations, so that a fault can be put between any two of
//! them, whichever files they concern. What a power cut may take away is all that POSIX allows:
//!
//! - bytes and lengths that no [`DiskFile::sync`] followed, each 512-byte sector by itself;
//! - names that no [`Disk::sync_dir`] of their directory followed, each by itself, whatever happened to the bytes;
//! - of a rename whose target directory was synced, the end of the old name.
//!
//! A rename is atomic: no cut leaves the file without both names. Directories are durable like files: by a sync of the
//! directory they lie in.
//!
//! [`DiskFile::sync`]: super::DiskFile::sync
//! [`Disk::sync_dir`]: super::Disk::sync_dir

mod disk;
mod file;
mod image;
mod operation;
mod replay;
mod state;

#[cfg(test)]
mod tests;

pub use disk::SimulatedDisk;
pub use replay::Replay;
pub use state::Fault;
