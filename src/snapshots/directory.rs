//! A backup in a directory.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::form::Form;
use super::store::{Amount, BackupHold, Intake, Store};
use super::{Error, SnapshotName, sums};
use crate::fsio::{Access, Disk, DiskFile, Entry, FileError, FileReader, FileWriter, replace_small};
use crate::oci::{Digest, DigestAlgorithm, Hasher};

/// Where a snapshot is made.
const PARTIAL: &str = ".partial";

/// What the directory of a snapshot that is being removed begins with.
const REMOVED: &str = ".removed-";

/// The bytes that are copied at a time.
const PIECE: usize = 1 << 20;

/// So many files, or bytes, are made durable at once. Who pushes meanwhile waits for the same journal: with 1,000 files their p99
/// doubles, with 100 it is 1.3 ×.
const BATCH_FILES: usize = 100;
const BATCH_BYTES: u64 = 4 << 30;

/// A directory, and the disk that it is on.
#[derive(Debug)]
pub(super) struct Directory {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl Directory {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Directory {
        Directory { disk, dir }
    }

    fn snapshots_dir(&self) -> PathBuf {
        self.dir.join("snapshots")
    }

    fn partial(&self) -> PathBuf {
        self.snapshots_dir().join(PARTIAL)
    }

    /// Where content waits to be durable, before it gets its name: what has that is trusted.
    fn incoming_dir(&self) -> PathBuf {
        self.dir.join("incoming")
    }

    fn incoming(&self, digest: &Digest) -> PathBuf {
        self.incoming_dir().join(digest.to_string().replace(':', "-"))
    }

    /// Where content of an algorithm is.
    fn algorithm(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.algorithm().to_string())
    }
}

impl Store for Directory {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn list(&self, folder: &str) -> Result<Vec<Entry>, Error> {
        Ok(self.disk.list(&self.path(folder))?)
    }

    fn list_after(&self, folder: &str, after: &str, limit: usize) -> Result<Vec<Entry>, Error> {
        Ok(self.disk.list_after(&self.path(folder), after, limit)?)
    }

    fn is_linked(&self, name: &str) -> Result<bool, Error> {
        Ok(self.disk.links(&self.path(name))? > 1)
    }

    fn keep(&self, name: &str, bytes: &[u8]) -> Result<bool, Error> {
        match replace_small(self.disk.as_ref(), &self.path(name), bytes) {
            Ok(()) => Ok(true),
            Err(error) if is_read_only(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn len(&self, name: &str) -> Result<Option<u64>, Error> {
        Ok(self.disk.len(&self.path(name))?)
    }

    fn open(&self, name: &str) -> Result<Option<Box<dyn Read + Send>>, Error> {
        let file = self.disk.open(&self.path(name), Access::Read)?;
        Ok(file.map(|file| Box::new(FileReader::new(file)) as Box<dyn Read + Send>))
    }

    fn remove(&self, name: &str) -> Result<bool, Error> {
        Ok(self.disk.remove(&self.path(name))?)
    }

    fn settle(&self, folder: &str) -> Result<(), Error> {
        Ok(self.disk.sync_dir(&self.path(folder))?)
    }

    fn initialize(&self, format: &str) -> Result<(), Error> {
        let is_fresh = |name: &str| matches!(name, "lock" | "format.new" | "lost+found");
        let has_nothing =
            || Ok::<_, Error>(self.disk.list(&self.dir)?.iter().all(|entry| is_fresh(&entry.name)));
        if has_nothing()? {
            self.disk.create_dir(&self.dir)?;
            // Two that begin at once make it one after the other.
            let _lock = self.disk.lock(&self.dir)?.ok_or_else(|| Error::Locked(self.dir.clone()))?;
            if !has_nothing()? {
                return Ok(());
            }
            replace_small(self.disk.as_ref(), &self.dir.join("format"), format.as_bytes())?;
        }
        Ok(())
    }

    fn prepare(&self) -> Result<(), Error> {
        for dir in [self.snapshots_dir(), self.dir.join("blobs"), self.incoming_dir(), self.partial()] {
            self.disk.create_dir(&dir)?;
        }
        Ok(())
    }

    fn lock(&self) -> Result<Option<BackupHold>, Error> {
        Ok(self.disk.lock(&self.dir)?.map(BackupHold::new))
    }

    fn lock_names(&self) -> Result<Option<BackupHold>, Error> {
        Ok(self.disk.lock(&self.snapshots_dir())?.map(BackupHold::new))
    }

    fn snapshots(&self) -> Result<Vec<SnapshotName>, Error> {
        let entries = self.disk.list(&self.snapshots_dir())?;
        Ok(entries.iter().filter(|entry| entry.is_dir).filter_map(|entry| entry.name.parse().ok()).collect())
    }

    /// Its own where nothing is encrypted: then the files are where they belong already.
    fn workshop(&self, form: &Form, scratch: &Path) -> Result<PathBuf, Error> {
        let partial = self.partial();
        empty(self.disk.as_ref(), &partial)?;
        if !form.is_sealed() {
            return Ok(partial);
        }
        empty(self.disk.as_ref(), scratch)?;
        Ok(scratch.to_owned())
    }

    fn publish(&self, name: &SnapshotName, workshop: &Path, files: &[String]) -> Result<(), Error> {
        let (disk, partial) = (self.disk.as_ref(), self.partial());
        if workshop == partial {
            disk.symlink("../../blobs", &partial.join("blobs"))?;
        } else {
            for file in files {
                let (from, to) = (workshop.join(file), partial.join(file));
                copy(disk, &from, &to)?;
                disk.remove(&from)?;
            }
        }
        // All of it is durable before it is called a snapshot.
        disk.sync_all(&self.dir)?;
        disk.rename(&partial, &self.snapshots_dir().join(name.as_str()))?;
        Ok(self.disk.sync_dir(&self.snapshots_dir())?)
    }

    fn withdraw(&self, names: &[SnapshotName]) -> Result<(), Error> {
        let (disk, snapshots) = (&self.disk, self.snapshots_dir());
        for name in names {
            disk.rename(&snapshots.join(name.as_str()), &snapshots.join(format!("{REMOVED}{name}")))?;
        }
        disk.sync_dir(&snapshots)?;
        for entry in disk.list(&snapshots)? {
            if entry.name.starts_with(REMOVED) {
                let dir = snapshots.join(&entry.name);
                for file in disk.list(&dir)? {
                    disk.remove(&dir.join(file.name))?;
                }
                disk.remove_dir(&dir)?;
            }
        }
        Ok(())
    }

    fn intake<'a>(&'a self, form: &'a Form, _workshop: &Path) -> Result<Box<dyn Intake + 'a>, Error> {
        Ok(Box::new(DirectoryIntake::begin(self, form)?))
    }
}

/// Brings content to the directory. Only what is durable gets its name, since what has that isn't copied again.
struct DirectoryIntake<'a> {
    directory: &'a Directory,
    form: &'a Form,
    /// What has come and isn't known to be durable.
    batch: HashMap<Digest, u64>,
    batch_bytes: u64,
    syncs: u64,
    /// The algorithms whose folders are there.
    folders: Vec<DigestAlgorithm>,
    added: Amount,
    lost: Vec<Digest>,
}

impl<'a> DirectoryIntake<'a> {
    /// Goes on with what another one has left, where it isn't encrypted: else nobody can tell whether it is right.
    fn begin(directory: &'a Directory, form: &'a Form) -> Result<DirectoryIntake<'a>, Error> {
        let mut intake = DirectoryIntake {
            directory,
            form,
            batch: HashMap::new(),
            batch_bytes: 0,
            syncs: 0,
            folders: Vec::new(),
            added: Amount::default(),
            lost: Vec::new(),
        };
        let (disk, incoming) = (directory.disk.as_ref(), directory.incoming_dir());
        for entry in disk.list(&incoming)? {
            let path = incoming.join(&entry.name);
            let digest = entry.name.replace('-', ":").parse::<Digest>().ok();
            let found = match disk.open(&path, Access::Read)? {
                _ if form.is_sealed() => None,
                Some(file) => Some(sums::digest_of(&mut FileReader::new(file), &path)?),
                None => None,
            };
            match (digest, found) {
                (Some(digest), Some((found, len))) if digest == found => intake.arrived(digest, len)?,
                _ => disk.remove(&path).map(drop)?,
            }
        }
        Ok(intake)
    }

    fn content(&self, digest: &Digest) -> PathBuf {
        self.directory.path(&self.form.content_name(digest))
    }

    /// Makes the folder for content of this algorithm, once: that it is there is synced each time.
    fn make_folder(&mut self, digest: &Digest) -> Result<(), Error> {
        if !self.folders.contains(&digest.algorithm()) {
            self.directory.disk.create_dir(&self.directory.algorithm(digest))?;
            self.folders.push(digest.algorithm());
        }
        Ok(())
    }

    fn arrived(&mut self, digest: Digest, len: u64) -> Result<(), Error> {
        self.batch.insert(digest, len);
        self.batch_bytes += len;
        if self.batch.len() >= BATCH_FILES || self.batch_bytes >= BATCH_BYTES {
            self.settle()?;
        }
        Ok(())
    }
}

impl Intake for DirectoryIntake<'_> {
    fn has(&self, digest: &Digest, len: u64) -> Result<bool, Error> {
        let found = || self.directory.disk.len(&self.content(digest));
        Ok(self.batch.contains_key(digest) || found()?.is_some_and(|found| self.form.is_length(found, len)))
    }

    fn file(&mut self, from: &Path, digest: &Digest, len: u64) -> Result<(), Error> {
        let (disk, to) = (self.directory.disk.as_ref(), self.directory.incoming(digest));
        disk.remove(&to)?;
        let is_there = disk.len(from)? == Some(len);
        let clone = || Ok::<_, Error>(!self.form.is_sealed() && disk.clone_file(from, &to)?);
        if is_there && (clone()? || copy_file(disk, self.form, from, &to, digest)?) {
            return self.arrived(*digest, len);
        }
        disk.remove(&to)?;
        self.lost.push(*digest);
        Ok(())
    }

    fn link(&mut self, from: &Path, digest: &Digest, len: u64) -> Result<bool, Error> {
        let (disk, to) = (self.directory.disk.as_ref(), self.directory.incoming(digest));
        disk.remove(&to)?;
        let is_linked =
            !self.form.is_sealed() && disk.len(from)? == Some(len) && disk.hard_link(from, &to)?;
        if is_linked {
            self.arrived(*digest, len)?;
        }
        Ok(is_linked)
    }

    fn bytes(&mut self, digest: &Digest, bytes: Vec<u8>) -> Result<(), Error> {
        let (disk, to) = (self.directory.disk.as_ref(), self.directory.incoming(digest));
        if self.form.is_sealed() {
            disk.remove(&to)?;
            write_hashed(&mut &bytes[..], Path::new("a manifest"), disk, self.form, &to, digest)?;
        } else {
            write_file(disk, &to, &bytes)?;
        }
        self.arrived(*digest, bytes.len() as u64)
    }

    /// Makes what has come durable and gives it its names.
    fn settle(&mut self) -> Result<(), Error> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let (directory, disk) = (self.directory, self.directory.disk.as_ref());
        disk.sync_all(&directory.dir)?;
        self.syncs += 1;
        for (digest, len) in std::mem::take(&mut self.batch) {
            self.make_folder(&digest)?;
            disk.rename(&directory.incoming(&digest), &self.content(&digest))?;
            self.added.add(len);
        }
        self.batch_bytes = 0;
        Ok(())
    }

    fn alias(&mut self, alias: &Digest, canonical: &Digest) -> Result<(), Error> {
        let disk = self.directory.disk.as_ref();
        // They are for others, who can't read what is encrypted.
        if self.form.is_sealed() {
            return Ok(());
        }
        let path = self.content(alias);
        self.make_folder(alias)?;
        if disk.len(&path)?.is_none() && disk.len(&self.content(canonical))?.is_some() {
            disk.symlink(&format!("../{}/{}", canonical.algorithm(), canonical.hex()), &path)?;
        }
        Ok(())
    }

    fn syncs(&self) -> u64 {
        self.syncs
    }

    fn added(&self) -> Amount {
        self.added
    }

    fn lost(&self) -> &[Digest] {
        &self.lost
    }
}

/// Whether somebody who only reads is kept from writing, or there is no room.
fn is_read_only(error: &FileError) -> bool {
    use std::io::ErrorKind;
    let kind = error.source.kind();
    matches!(kind, ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) || error.is_full()
}

/// Makes a directory that has nothing in it.
pub(super) fn empty(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    disk.create_dir(dir)?;
    for entry in disk.list(dir)? {
        disk.remove(&dir.join(entry.name))?;
    }
    Ok(())
}

fn copy(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), Error> {
    let missing = || Error::Damaged { path: from.to_owned(), reason: "it isn't there".to_owned() };
    let mut source = FileReader::new(disk.open(from, Access::Read)?.ok_or_else(missing)?);
    let mut target = FileWriter::new(disk.create(to)?);
    let copied = io::copy(&mut source, &mut target);
    copied.map(drop).map_err(|source| FileError::new("copy", from, source).into())
}

fn copy_file(disk: &dyn Disk, form: &Form, from: &Path, to: &Path, digest: &Digest) -> Result<bool, Error> {
    match disk.open(from, Access::Read)? {
        Some(file) => write_hashed(&mut FileReader::new(file), from, disk, form, to, digest),
        None => Ok(false),
    }
}

/// Writes a file of what `source` has, which messages call `from`, and compares it with the digest on the way; says whether they
/// agree.
pub(super) fn copy_hashed(
    source: &mut dyn Read,
    from: &Path,
    disk: &dyn Disk,
    to: &Path,
    digest: &Digest,
) -> Result<bool, Error> {
    write_hashed(source, from, disk, &Form::Plain, to, digest)
}

/// The same in this form.
fn write_hashed(
    source: &mut dyn Read,
    from: &Path,
    disk: &dyn Disk,
    form: &Form,
    to: &Path,
    digest: &Digest,
) -> Result<bool, Error> {
    let failed = |source| FileError::new("write", to, source);
    let mut target = form.writer(Target { file: disk.create(to)?, offset: 0 }).map_err(failed)?;
    let (mut hasher, mut piece) = (Hasher::new(digest.algorithm()), vec![0; PIECE]);
    loop {
        let read = source.read(&mut piece).map_err(|source| FileError::new("read", from, source))?;
        if read == 0 {
            target.finish().map_err(failed)?;
            return Ok(hasher.finish() == *digest);
        }
        hasher.update(&piece[..read]);
        target.write_all(&piece[..read]).map_err(failed)?;
    }
}

/// Writes a file and asks for its early write-back.
struct Target {
    file: Box<dyn DiskFile>,
    offset: u64,
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(bytes, self.offset)?;
        self.file.start_writeback(self.offset, bytes.len() as u64);
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a whole file, which isn't durable by that.
pub(super) fn write_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    disk.remove(path)?;
    let file = disk.create(path)?;
    Ok(file.write_at(bytes, 0).map_err(|source| FileError::new("write", path, source))?)
}
