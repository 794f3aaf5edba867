//! What a backup asks of the place where it is kept.

use std::any::Any;
use std::fmt::Debug;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::form::Form;
use super::{Error, SnapshotName};
use crate::fsio::Entry;
use crate::oci::Digest;

/// A place for a backup. Files are called by their path within it, with `/`: `snapshots/…/index.json`, `blobs/sha256/…`. What a
/// call has written is durable when it returns, unless it says otherwise. All calls block.
pub(super) trait Store: Debug + Send + Sync + 'static {
    /// The whole path of a file, for messages.
    fn path(&self, name: &str) -> PathBuf;

    /// What is in a folder, in no particular order; nothing if there is no such folder.
    fn list(&self, folder: &str) -> Result<Vec<Entry>, Error>;

    /// The first `limit` entries of a folder in the order of their names, of those behind `after`.
    fn list_after(&self, folder: &str, after: &str, limit: usize) -> Result<Vec<Entry>, Error> {
        let mut entries = self.list(folder)?;
        entries.retain(|entry| entry.name.as_str() > after);
        entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        entries.truncate(limit);
        Ok(entries)
    }

    /// Whether a file shares its bytes with another name, so that one failing sector takes both.
    fn is_linked(&self, _name: &str) -> Result<bool, Error> {
        Ok(false)
    }

    /// Keeps a small file durably, in place of one of the same name; `false` where that can't be.
    fn keep(&self, _name: &str, _bytes: &[u8]) -> Result<bool, Error> {
        Ok(false)
    }

    /// The length of a file; `None` means that there is none.
    fn len(&self, name: &str) -> Result<Option<u64>, Error>;

    /// A file from its beginning; `None` means that there is none.
    fn open(&self, name: &str) -> Result<Option<Box<dyn Read + Send>>, Error>;

    /// Removes a file; `false` if there was none. Durable after [`Store::settle`] of its folder.
    fn remove(&self, name: &str) -> Result<bool, Error>;

    /// Makes it durable that files of a folder were removed.
    fn settle(&self, folder: &str) -> Result<(), Error>;

    /// Makes a backup where nothing is, of the format that the text says; where something is, nothing happens.
    fn initialize(&self, format: &str) -> Result<(), Error>;

    /// Brings a backup that is there into the shape that [`Store::intake`] and [`Store::workshop`] want.
    fn prepare(&self) -> Result<(), Error>;

    /// The right to change something; `None` if somebody else has it.
    fn lock(&self) -> Result<Option<BackupHold>, Error>;

    /// The right to add snapshots to those that are whole, to take them away, or to keep others from both; `None` if somebody else
    /// has it. Whoever wants both asks for this one last.
    fn lock_names(&self) -> Result<Option<BackupHold>, Error>;

    /// The snapshots that are whole, in no particular order.
    fn snapshots(&self) -> Result<Vec<SnapshotName>, Error>;

    /// An empty folder of this machine for the files of a snapshot while they are made, which aren't encrypted yet: `scratch`, or one
    /// of its own. Ends what an interrupted one has left. Asks for the lock.
    fn workshop(&self, form: &Form, scratch: &Path) -> Result<PathBuf, Error>;

    /// Makes these files of the workshop a snapshot: whole at once, or not at all. Asks for both locks.
    fn publish(&self, name: &SnapshotName, workshop: &Path, files: &[String]) -> Result<(), Error>;

    /// Makes these no snapshots any more, and removes their own files and those of others that were begun. None is left in part.
    /// Asks for both locks.
    fn withdraw(&self, names: &[SnapshotName]) -> Result<(), Error>;

    /// Takes content, after what an interrupted one has left. Asks for the lock.
    fn intake<'a>(&'a self, form: &'a Form, workshop: &Path) -> Result<Box<dyn Intake + 'a>, Error>;
}

/// Takes content into a backup. Each is compared with its digest on the way, and has its name only when it is durable and right.
pub(super) trait Intake {
    /// Whether content of this length is there, or on its way; encrypted content, as far as its length can be known.
    fn has(&self, digest: &Digest, len: u64) -> Result<bool, Error>;

    /// Takes a file of the registry.
    fn file(&mut self, from: &Path, digest: &Digest, len: u64) -> Result<(), Error>;

    /// Takes a file of the registry by a further name for it, unread; `false` where that can't be.
    fn link(&mut self, _from: &Path, _digest: &Digest, _len: u64) -> Result<bool, Error> {
        Ok(false)
    }

    /// Takes bytes.
    fn bytes(&mut self, digest: &Digest, bytes: Vec<u8>) -> Result<(), Error>;

    /// Ends the taking of what has come so far: all of it is durable, or known to be lost.
    fn settle(&mut self) -> Result<(), Error>;

    /// Gives content that was settled another name too, where the place knows of such.
    fn alias(&mut self, alias: &Digest, canonical: &Digest) -> Result<(), Error>;

    /// How often what came was made durable by this machine's disk, which others wait for meanwhile.
    fn syncs(&self) -> u64 {
        0
    }

    /// What was taken that wasn't there before.
    fn added(&self) -> Amount;

    /// The digests of what wasn't there to be taken, or had other bytes.
    fn lost(&self) -> &[Digest];
}

/// Files, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl Amount {
    pub(super) fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// A lock of a backup, until it is dropped.
pub struct BackupHold {
    _held: Box<dyn Any + Send + Sync>,
}

impl BackupHold {
    /// A hold that lasts as long as `held` isn't dropped.
    pub(super) fn new(held: impl Any + Send + Sync) -> BackupHold {
        BackupHold { _held: Box::new(held) }
    }
}

impl Debug for BackupHold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BackupHold")
    }
}
