//! Snapshots: copies of all that a registry holds as of one instant, taken while it serves, in a directory that other tools
//! can read.
//!
//! ```text
//! backup/
//! ├── format                       "orlop backup 1"
//! ├── lock                         held by whoever changes something here; snapshots/lock by whoever adds a snapshot, removes one or copies all
//! ├── verify.json                  how far an interrupted check of all bytes has come
//! ├── blobs/<algorithm>/<hex>      blobs and manifests, shared by all snapshots
//! ├── incoming/                    the same before they are durable
//! └── snapshots/<number>-<date>-<time>/
//!     ├── oci-layout, index.json   with `blobs` an OCI image layout; a tag is called `<repository>:<tag>`
//!     ├── blobs                    a link to ../../blobs
//!     ├── absent.jsonl             what manifests name and their repository hadn't got
//!     ├── metadata.zst             the rows of all tables
//!     ├── snapshot.json            what is in it
//!     └── SHA256SUMS               of the files above, as sha256sum reads it
//! ```
//!
//! A snapshot exists when its directory has its name: everything is durable before. One that was interrupted is no snapshot, and
//! what it has copied is there for the next one.
//!
//! That is a backup in a directory. In a bucket (`s3`) the same files are objects, without the links, and a snapshot is there when its
//! `SHA256SUMS` is. Where a backup is encrypted (`form`), `format` is "orlop backup 1 age" and the names of content, `absent.jsonl`,
//! `index.json` and `metadata.zst` end with `.age`; `oci-layout` and links aren't there, and `contents.txt` lists the content in plain, so
//! that whoever checks and prunes needs no identity:
//!
//! ```text
//! sha256:<hex> <length> manifest|blob
//! sha512:<hex> sha256:<hex> manifest|blob      another name
//! ```
//!
//! What goes to a bucket, or is encrypted, is made in the folder `backup` of the data directory first.

mod backup;
mod create;
mod diff;
mod directory;
mod error;
mod form;
mod former;
mod hashing;
mod location;
mod metadata_copy;
mod parts;
mod prune;
mod restore;
mod s3;
mod schedule;
mod snapshot;
mod store;
mod sums;
mod target;
mod verify;

pub use backup::Backup;
pub use create::{CreateOptions, create};
pub use diff::{Change, Difference, TagChange, diff};
pub use error::Error;
pub use location::{BackupOptions, Location, LocationError, S3Location, S3Options};
pub use parts::{
    Fate, PartsHear, PartsOptions, PartsTell, RestoredItem, RestoredParts, Selection, TaggedPattern,
    TaggedPatternError, restore_parts,
};
pub use prune::{Keep, PrunePlan, Pruned, prune, prune_dry};
pub use restore::{RestoreOptions, Restored, restore};
pub use schedule::{BackupFailure, BackupSchedule, BackupStatus};
pub use snapshot::{Snapshot, SnapshotName};
pub use store::BackupHold;
pub use target::{BackupTarget, TimeOfDay, TimeOfDayError};
pub use verify::{Problem, Verified, verify};

/// How far a snapshot, a check or a restore has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub step: Step,
    /// How much of it is done: rows of the metadata, or bytes.
    pub done: u64,
    /// How much there is to do, where that is known.
    pub total: Option<u64>,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Somebody else works in the directory, or copies it.
    Waiting,
    /// The metadata is copied; counted in rows.
    Metadata,
    /// Content is copied; counted in bytes.
    Copying,
    /// Content is compared with its digests; counted in bytes.
    Hashing,
    /// Content that nothing needs is removed; counted in bytes.
    Removing,
    /// Images are brought to a registry; counted in tags.
    Images,
}

/// Who hears of progress, and may end the work.
pub type Tell<'t> = &'t mut (dyn FnMut(Progress) -> std::ops::ControlFlow<()> + Send);
