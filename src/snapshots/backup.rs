//! A backup: snapshots, and the content that they share.

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::directory::{Directory, copy_hashed};
use super::form::{self, Form, Seal};
use super::metadata_copy::CopyReader;
use super::s3::S3;
use super::store::{BackupHold, Intake, Store};
use super::{BackupOptions, Error, Location, Snapshot, SnapshotName, sums};
use crate::fsio::{Disk, FileError};
use crate::metadata::SCHEMA;
use crate::oci::{Digest, DigestAlgorithm};

/// The content of the file `format`: of a backup whose files are kept as they are, and of one that is encrypted.
const FORMAT: &str = "orlop backup 1\n";
const SEALED_FORMAT: &str = "orlop backup 1 age\n";
/// What every version begins it with.
const FORMAT_PREFIX: &str = "orlop backup ";

/// The longest `snapshot.json`.
const SNAPSHOT_BYTES: u64 = 64 << 20;

/// The pause between two looks whether a lock is free, at first and at most.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A place with snapshots.
#[derive(Debug, Clone)]
pub struct Backup {
    store: Arc<dyn Store>,
    form: Form,
    /// The disk of the registry, and of what is made on the way.
    disk: Arc<dyn Disk>,
    location: Location,
    dir: PathBuf,
}

impl Backup {
    /// Opens a backup directory that is there.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Backup, Error> {
        Backup::open_at(disk, &dir.into(), &BackupOptions::default())
    }

    /// Opens a backup directory, or makes one where nothing is.
    pub fn create(disk: Arc<dyn Disk>, dir: &Path) -> Result<Backup, Error> {
        Backup::create_at(disk, &dir.into(), &BackupOptions::default())
    }

    /// Opens a backup that is there, wherever that is.
    pub fn open_at(
        disk: Arc<dyn Disk>,
        location: &Location,
        options: &BackupOptions,
    ) -> Result<Backup, Error> {
        Backup::on(disk, location, options)?.opened(options)
    }

    /// Opens a backup, or makes one where nothing is: an encrypted one where there are recipients.
    pub fn create_at(
        disk: Arc<dyn Disk>,
        location: &Location,
        options: &BackupOptions,
    ) -> Result<Backup, Error> {
        let backup = Backup::on(disk, location, options)?;
        // Nothing is made for recipients that are none.
        let seal = Seal::new(&options.encrypt_to, &[])?;
        backup.store.initialize(if seal.has_recipients() { SEALED_FORMAT } else { FORMAT })?;
        let backup = backup.opened(options)?;
        match &backup.form {
            Form::Plain if seal.has_recipients() => Err(Error::Plain(backup.dir)),
            Form::Sealed(_) if !seal.has_recipients() => Err(Error::Sealed(backup.dir)),
            Form::Plain | Form::Sealed(_) => {
                backup.store.prepare()?;
                Ok(backup)
            }
        }
    }

    fn on(disk: Arc<dyn Disk>, location: &Location, options: &BackupOptions) -> Result<Backup, Error> {
        let store: Arc<dyn Store> = match location {
            Location::Directory(dir) => Arc::new(Directory::new(Arc::clone(&disk), dir.clone())),
            Location::S3(place) => Arc::new(S3::new(Arc::clone(&disk), place, &options.s3)?),
        };
        let dir = PathBuf::from(location.to_string());
        Ok(Backup { store, form: Form::Plain, disk, location: location.clone(), dir })
    }

    fn opened(mut self, options: &BackupOptions) -> Result<Backup, Error> {
        let format = self.read("format", 100)?;
        match format.as_deref().map(String::from_utf8_lossy) {
            Some(format) if format == FORMAT => Ok(self),
            Some(format) if format == SEALED_FORMAT => {
                self.form = Form::Sealed(Arc::new(Seal::new(&options.encrypt_to, &options.identities)?));
                Ok(self)
            }
            Some(format) if format.starts_with(FORMAT_PREFIX) => Err(Error::NewerFormat(self.dir)),
            Some(_) | None => Err(Error::NoBackup(self.dir)),
        }
    }

    /// Where it is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Whether it is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.form.is_sealed()
    }

    pub(super) fn form(&self) -> &Form {
        &self.form
    }

    /// An empty folder for the files of a snapshot while they are made. Asks for the lock.
    pub(super) fn workshop(&self, scratch: &Path) -> Result<PathBuf, Error> {
        // One for each place, which has its own lock.
        let place = Digest::of(DigestAlgorithm::CANONICAL, self.dir.as_os_str().as_bytes());
        self.store.workshop(&self.form, &scratch.join(&place.hex()[..16]))
    }

    /// Takes content. Asks for the lock.
    pub(super) fn intake<'a>(&'a self, workshop: &Path) -> Result<Box<dyn Intake + 'a>, Error> {
        self.store.intake(&self.form, workshop)
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

    /// What a file of a snapshot keeps, which has to be there.
    pub(super) fn require_file(&self, name: &str) -> Result<Box<dyn Read + Send>, Error> {
        let name = self.form.name(name);
        let path = self.path(&name);
        let damaged = || Error::Damaged { path: path.clone(), reason: "it isn't there".to_owned() };
        self.form.open(&path, self.open_file(&name)?.ok_or_else(damaged)?)
    }

    /// All of a file that has no more bytes than this; `None` means that there is none.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        match self.open_file(name)? {
            Some(file) => self.read_all(name, file, limit).map(Some),
            None => Ok(None),
        }
    }

    fn read_all(&self, name: &str, file: Box<dyn Read + Send>, limit: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let read = file.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|source| self.unreadable(name, source))?;
        if bytes.len() as u64 > limit {
            let reason = format!("it has more than {limit} bytes");
            return Err(Error::Damaged { path: self.path(name), reason });
        }
        Ok(bytes)
    }

    /// What it means that a file can't be read.
    fn unreadable(&self, name: &str, source: std::io::Error) -> Error {
        if self.form.is_sealed() && form::is_damage(&source) {
            return Error::Damaged { path: self.path(name), reason: source.to_string() };
        }
        FileError::new("read", &self.path(name), source).into()
    }

    /// The digest and the length of content as it is; `None` means that there is none. What was encrypted and can't be opened any
    /// more is [`Error::Damaged`].
    pub(super) fn hash(&self, digest: &Digest) -> Result<Option<(Digest, u64)>, Error> {
        let name = self.form.content_name(digest);
        match self.open_content(digest)? {
            Some(mut file) => {
                let hashed = sums::digest_of(&mut file, &self.path(&name));
                hashed.map(Some).map_err(|error| self.unreadable(&name, error.source))
            }
            None => Ok(None),
        }
    }

    /// Content from its beginning; `None` means that there is none.
    pub(super) fn open_content(&self, digest: &Digest) -> Result<Option<Box<dyn Read + Send>>, Error> {
        let name = self.form.content_name(digest);
        let Some(file) = self.open_file(&name)? else { return Ok(None) };
        match self.form.open(&self.path(&name), file) {
            // The identity has opened what belongs to the snapshot.
            Err(Error::WrongIdentity(path)) => {
                let reason = "no given identity opens it; its head is damaged, or it was encrypted to others"
                    .to_owned();
                Err(Error::Damaged { path, reason })
            }
            opened => opened.map(Some),
        }
    }

    /// All of content that has no more bytes than this; `None` means that there is none.
    pub(super) fn read_content(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        match self.open_content(digest)? {
            Some(file) => self.read_all(&self.form.content_name(digest), file, limit).map(Some),
            None => Ok(None),
        }
    }

    /// Writes content to a file of `disk`; says whether it is there and right.
    pub(super) fn copy_content(&self, digest: &Digest, disk: &dyn Disk, to: &Path) -> Result<bool, Error> {
        let Some(mut source) = self.open_content(digest)? else { return Ok(false) };
        match copy_hashed(&mut source, &self.content_path(digest), disk, to, digest) {
            Err(Error::File(error)) if error.operation == "read" => {
                Err(self.unreadable(&self.form.content_name(digest), error.source))
            }
            copied => copied,
        }
    }

    /// The whole path of content, for messages.
    pub(super) fn content_path(&self, digest: &Digest) -> PathBuf {
        self.path(&self.form.content_name(digest))
    }

    /// The length of the file of content, which is more than that of the content where it is encrypted; `None` means that there is
    /// none.
    pub(super) fn content_len(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        self.store.len(&self.form.content_name(digest))
    }

    /// Whether content shares its bytes with another name.
    pub(super) fn is_linked(&self, digest: &Digest) -> Result<bool, Error> {
        self.store.is_linked(&self.form.content_name(digest))
    }

    /// Whether there is content of this length; who wants to know more has to hash it.
    pub(super) fn has(&self, digest: &Digest, len: u64) -> Result<bool, Error> {
        Ok(self.content_len(digest)?.is_some_and(|found| self.form.is_length(found, len)))
    }

    /// Whether files can be read at all.
    pub(super) fn answers(&self) -> bool {
        self.read("format", 100).is_ok()
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

    /// The same of one that is to be read further, which no later version may have taken.
    pub(super) fn known_snapshot(&self, name: &SnapshotName) -> Result<Snapshot, Error> {
        let snapshot = self.snapshot(name)?;
        if snapshot.schema > SCHEMA {
            return Err(Error::NewerSchema(self.path(&file_name(name, "metadata.zst"))));
        }
        Ok(snapshot)
    }

    /// The copy of the metadata in a snapshot.
    pub(super) fn metadata(&self, name: &SnapshotName) -> Result<CopyReader, Error> {
        let file = file_name(name, "metadata.zst");
        CopyReader::new(self.require_file(&file)?, self.path(&self.form.name(&file)))
    }
}

/// What a file of a snapshot is called within the backup.
pub(super) fn file_name(name: &SnapshotName, file: &str) -> String {
    format!("snapshots/{name}/{file}")
}

fn patiently(
    lock: impl Fn() -> Result<Option<BackupHold>, Error>,
    tell: &mut dyn FnMut() -> Result<(), Error>,
) -> Result<BackupHold, Error> {
    let mut pause = PAUSE;
    loop {
        if let Some(hold) = lock()? {
            return Ok(hold);
        }
        tell()?;
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
