//! A backup: snapshots, and the content that they share.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::directory::Directory;
use super::metadata_copy::CopyReader;
use super::store::{BackupHold, Store};
use super::{Error, Snapshot, SnapshotName, sums};
use crate::fsio::{Disk, FileError};
use crate::oci::Digest;

/// The content of the file `format`.
const FORMAT: &str = "orlop backup 1\n";
/// What every version begins it with.
const FORMAT_PREFIX: &str = "orlop backup ";

/// The longest `snapshot.json`.
const SNAPSHOT_BYTES: u64 = 64 << 20;

/// The pause between two looks whether a lock is free.
const PAUSE: Duration = Duration::from_millis(200);

/// A place with snapshots.
#[derive(Debug, Clone)]
pub struct Backup {
    store: Arc<dyn Store>,
    /// The disk of the registry, and of what is made on the way.
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl Backup {
    /// Opens a backup directory that is there.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Backup, Error> {
        Backup::on(disk, dir).opened()
    }

    /// Opens a backup directory, or makes one where nothing is.
    pub fn create(disk: Arc<dyn Disk>, dir: &Path) -> Result<Backup, Error> {
        let backup = Backup::on(disk, dir);
        backup.store.initialize(FORMAT)?;
        let backup = backup.opened()?;
        backup.store.prepare()?;
        Ok(backup)
    }

    fn on(disk: Arc<dyn Disk>, dir: &Path) -> Backup {
        let store = Arc::new(Directory::new(Arc::clone(&disk), dir.to_owned()));
        Backup { store, disk, dir: dir.to_owned() }
    }

    fn opened(self) -> Result<Backup, Error> {
        let format = self.read("format", 100)?;
        match format.as_deref().map(String::from_utf8_lossy) {
            Some(format) if format == FORMAT => Ok(self),
            Some(format) if format.starts_with(FORMAT_PREFIX) => Err(Error::NewerFormat(self.dir)),
            Some(_) | None => Err(Error::NoBackup(self.dir)),
        }
    }

    /// The right to change something here.
    pub(super) fn lock(&self) -> Result<BackupHold, Error> {
        self.store.lock()?.ok_or_else(|| Error::Locked(self.dir.clone()))
    }

    /// The same once whoever has it is done; `tell` is asked each time whether that is still wanted.
    pub(super) fn lock_patiently(
        &self,
        tell: &mut dyn FnMut() -> Result<(), Error>,
    ) -> Result<BackupHold, Error> {
        patiently(|| self.store.lock(), tell)
    }

    /// The right to add snapshots or to take them away, once whoever has it is done.
    pub(super) fn lock_names_patiently(
        &self,
        tell: &mut dyn FnMut() -> Result<(), Error>,
    ) -> Result<BackupHold, Error> {
        patiently(|| self.store.lock_names(), tell)
    }

    /// Keeps the snapshots as they are until it is dropped, with all of their content: for whoever copies the directory. One that is
    /// being taken goes on, and has its name afterwards.
    pub fn hold(&self) -> Result<BackupHold, Error> {
        self.lock_names_patiently(&mut || Ok(()))
    }

    pub(super) fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// Where it is, as messages call it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The whole path of a file, for messages.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.store.path(name)
    }

    /// A file from its beginning; `None` means that there is none.
    pub(super) fn open_file(&self, name: &str) -> Result<Option<Box<dyn Read + Send>>, Error> {
        self.store.open(name)
    }

    /// A file of a snapshot, which has to be there.
    pub(super) fn require_file(&self, name: &str) -> Result<Box<dyn Read + Send>, Error> {
        let damaged = || Error::Damaged { path: self.path(name), reason: "it isn't there".to_owned() };
        self.open_file(name)?.ok_or_else(damaged)
    }

    /// All of a file that has no more bytes than this; `None` means that there is none.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some(file) = self.open_file(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = file.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|source| FileError::new("read", &self.path(name), source))?;
        if bytes.len() as u64 > limit {
            let reason = format!("it has more than {limit} bytes");
            return Err(Error::Damaged { path: self.path(name), reason });
        }
        Ok(Some(bytes))
    }

    /// The digest and the length of content as it is; `None` means that there is none.
    pub(super) fn hash(&self, digest: &Digest) -> Result<Option<(Digest, u64)>, Error> {
        let name = content_name(digest);
        match self.open_file(&name)? {
            Some(mut file) => Ok(Some(sums::digest_of(&mut file, &self.path(&name))?)),
            None => Ok(None),
        }
    }

    /// Content from its beginning; `None` means that there is none.
    pub(super) fn open_content(&self, digest: &Digest) -> Result<Option<Box<dyn Read + Send>>, Error> {
        self.open_file(&content_name(digest))
    }

    /// The whole path of content, for messages.
    pub(super) fn content_path(&self, digest: &Digest) -> PathBuf {
        self.path(&content_name(digest))
    }

    /// The length of content; `None` means that there is none.
    pub(super) fn content_len(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        self.store.len(&content_name(digest))
    }

    /// Whether content shares its bytes with another name.
    pub(super) fn is_linked(&self, digest: &Digest) -> Result<bool, Error> {
        self.store.is_linked(&content_name(digest))
    }

    /// Whether there is content of this length; who wants to know more has to hash it.
    pub(super) fn has(&self, digest: &Digest, len: u64) -> Result<bool, Error> {
        Ok(self.content_len(digest)? == Some(len))
    }

    /// The names of all snapshots, the first one first.
    pub fn names(&self) -> Result<Vec<SnapshotName>, Error> {
        let mut names = self.store.snapshots()?;
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
        let file = file_name(name, "snapshot.json");
        let damaged = |reason: String| Error::Damaged { path: self.path(&file), reason };
        let bytes = self.read(&file, SNAPSHOT_BYTES)?.ok_or_else(|| damaged("it isn't there".to_owned()))?;
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))
    }

    /// The copy of the metadata in a snapshot.
    pub(super) fn metadata(&self, name: &SnapshotName) -> Result<CopyReader, Error> {
        let file = file_name(name, "metadata.zst");
        CopyReader::new(self.require_file(&file)?, self.path(&file))
    }
}

/// What a file of a snapshot is called within the backup.
pub(super) fn file_name(name: &SnapshotName, file: &str) -> String {
    format!("snapshots/{name}/{file}")
}

/// What content is called within the backup.
pub(super) fn content_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn patiently(
    lock: impl Fn() -> Result<Option<BackupHold>, Error>,
    tell: &mut dyn FnMut() -> Result<(), Error>,
) -> Result<BackupHold, Error> {
    loop {
        if let Some(hold) = lock()? {
            return Ok(hold);
        }
        tell()?;
        std::thread::sleep(PAUSE);
    }
}
