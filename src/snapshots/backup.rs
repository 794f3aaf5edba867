//! A backup directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Error, Snapshot, SnapshotName};
use crate::fsio::{DirectoryLock, Disk, FileError, read_small, replace_small};
use crate::oci::Digest;

/// The content of the file `format`.
const FORMAT: &str = "orlop backup 1\n";
/// What every version begins it with.
const FORMAT_PREFIX: &str = "orlop backup ";

/// Where a snapshot is made.
const PARTIAL: &str = ".partial";

/// The longest `snapshot.json`.
const SNAPSHOT_BYTES: usize = 64 << 20;

/// The pause between two looks whether a lock is free.
const PAUSE: Duration = Duration::from_millis(200);

/// Nobody changes a backup directory while somebody has this.
#[derive(Debug)]
pub struct BackupHold(#[expect(dead_code, reason = "it is held")] DirectoryLock);

/// A directory with snapshots.
#[derive(Debug, Clone)]
pub struct Backup {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl Backup {
    /// Opens a backup directory that is there.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Backup, Error> {
        let format = read_small(disk.as_ref(), &dir.join("format"), 100)?;
        match format.as_deref().map(String::from_utf8_lossy) {
            Some(format) if format == FORMAT => Ok(Backup { disk, dir: dir.to_owned() }),
            Some(format) if format.starts_with(FORMAT_PREFIX) => Err(Error::NewerFormat(dir.to_owned())),
            Some(_) | None => Err(Error::NoBackup(dir.to_owned())),
        }
    }

    /// Opens a backup directory, or makes one where nothing is.
    pub fn create(disk: Arc<dyn Disk>, dir: &Path) -> Result<Backup, Error> {
        let is_fresh = |name: &str| matches!(name, "lock" | "format.new" | "lost+found");
        if disk.list(dir)?.iter().all(|entry| is_fresh(&entry.name)) {
            disk.create_dir(dir)?;
            replace_small(disk.as_ref(), &dir.join("format"), FORMAT.as_bytes())?;
        }
        let backup = Backup::open(disk, dir)?;
        for dir in [backup.snapshots_dir(), backup.dir.join("blobs"), backup.incoming_dir(), backup.partial()]
        {
            backup.disk.create_dir(&dir)?;
        }
        Ok(backup)
    }

    /// The right to change something here.
    pub(super) fn lock(&self) -> Result<DirectoryLock, Error> {
        self.disk.lock(&self.dir)?.ok_or_else(|| Error::Locked(self.dir.clone()))
    }

    /// The same once whoever has it is done; `tell` is asked each second whether that is still wanted.
    pub(super) fn lock_patiently(
        &self,
        tell: &mut dyn FnMut() -> Result<(), Error>,
    ) -> Result<DirectoryLock, Error> {
        loop {
            match self.lock() {
                Err(Error::Locked(_)) => tell()?,
                locked => return locked,
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Keeps everybody from changing something here until it is dropped: for whoever copies the directory.
    pub fn hold(&self) -> Result<BackupHold, Error> {
        Ok(BackupHold(self.lock_patiently(&mut || Ok(()))?))
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn snapshots_dir(&self) -> PathBuf {
        self.dir.join("snapshots")
    }

    /// Where a snapshot is made.
    pub(super) fn partial(&self) -> PathBuf {
        self.snapshots_dir().join(PARTIAL)
    }

    /// Where a snapshot is.
    pub(super) fn of(&self, name: &SnapshotName) -> PathBuf {
        self.snapshots_dir().join(name.as_str())
    }

    /// Where content of an algorithm is.
    pub(super) fn algorithm(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.algorithm().to_string())
    }

    /// Where content is, if it is there.
    pub(super) fn content(&self, digest: &Digest) -> PathBuf {
        self.algorithm(digest).join(digest.hex())
    }

    /// Where content waits to be durable, before it gets its name: what has that is trusted.
    pub(super) fn incoming_dir(&self) -> PathBuf {
        self.dir.join("incoming")
    }

    pub(super) fn incoming(&self, digest: &Digest) -> PathBuf {
        self.incoming_dir().join(digest.to_string().replace(':', "-"))
    }

    /// Whether there is content of this length; who wants to know more has to hash it.
    pub(super) fn has(&self, digest: &Digest, len: u64) -> Result<bool, FileError> {
        Ok(self.disk.len(&self.content(digest))? == Some(len))
    }

    /// The names of all snapshots, the first one first.
    pub fn names(&self) -> Result<Vec<SnapshotName>, Error> {
        let entries = self.disk.list(&self.snapshots_dir())?;
        let mut names: Vec<SnapshotName> =
            entries.iter().filter(|entry| entry.is_dir).filter_map(|entry| entry.name.parse().ok()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The snapshot that is called so: by its whole name, by its number, or `latest`.
    pub fn find(&self, text: &str) -> Result<SnapshotName, Error> {
        let mut names = self.names()?;
        let found = match text.parse::<u64>() {
            _ if text == "latest" => names.pop(),
            Ok(number) => names.into_iter().find(|name| name.number() == number),
            Err(_) => names.into_iter().find(|name| name.as_str() == text),
        };
        found.ok_or_else(|| Error::Unknown { name: text.to_owned(), dir: self.dir.clone() })
    }

    /// What is in a snapshot.
    pub fn snapshot(&self, name: &SnapshotName) -> Result<Snapshot, Error> {
        let path = self.of(name).join("snapshot.json");
        let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
        let bytes = read_small(self.disk.as_ref(), &path, SNAPSHOT_BYTES)?;
        let bytes = bytes.ok_or_else(|| damaged("it isn't there".to_owned()))?;
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))
    }
}
