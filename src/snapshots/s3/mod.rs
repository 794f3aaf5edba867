//! A backup in a bucket of a store that speaks S3.
//!
//! Its objects are called as the files of a backup directory are, below the prefix. A snapshot is there when its `SHA256SUMS` is, which
//! comes last and goes first. Content is an object when all of it has come and has its digest. Other names for content, which a
//! directory has as links, aren't there.

mod api;
mod keys;
mod lock;
mod upload;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::io::{Cursor, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::api::{Api, Threads};
use self::lock::{Locked, S3Lock};
use self::upload::{Item, Notes, PART, upload};
use super::form::Form;
use super::store::{Amount, BackupHold, Intake, Store};
use super::{Error, S3Location, S3Options, SnapshotName, sums};
use crate::fsio::{Access, Disk, Entry, FileReader};
use crate::oci::{Digest, DigestAlgorithm};

/// So many files are sent, or removed, at once.
const AT_ONCE: usize = 16;
/// Of these so many that have more bytes than this.
const LARGE_AT_ONCE: usize = 4;
const LARGE: u64 = 1 << 20;

/// The threads of the connections.
const THREADS: usize = 2;

/// The bytes of a digest by the canonical algorithm, which content is called by.
type Key = [u8; 32];

/// A bucket, and what its objects begin with.
pub(super) struct S3 {
    api: Api,
    disk: Arc<dyn Disk>,
    /// The lengths of all content, from the first question on until the lock is taken: asking for each would take far longer.
    contents: Mutex<Option<HashMap<Key, u64>>>,
    lock: Mutex<Weak<S3Lock>>,
    removing: Mutex<JoinSet<Result<(), Error>>>,
    /// Held while a large file is sent.
    large: Arc<Semaphore>,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3({})", self.api.place)
    }
}

impl S3 {
    pub(super) fn new(disk: Arc<dyn Disk>, place: &S3Location, options: &S3Options) -> Result<S3, Error> {
        let client = Arc::new(keys::client(place, options)?);
        let threads = Threads::start(THREADS);
        let threads = threads
            .map_err(|error| Error::Settings { location: place.to_string(), reason: error.to_string() })?;
        Ok(S3 {
            api: Api { client, threads: Arc::new(threads), place: place.clone() },
            disk,
            contents: Mutex::default(),
            lock: Mutex::default(),
            removing: Mutex::default(),
            large: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
        })
    }

    /// The lengths of all content, asked for where they aren't known.
    fn contents(&self) -> Result<MutexGuard<'_, Option<HashMap<Key, u64>>>, Error> {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        if contents.is_none() {
            let mut found = HashMap::new();
            self.api.each("blobs", |name, meta| {
                if let Some(key) = key_of(name) {
                    found.insert(key, meta.size);
                }
            })?;
            *contents = Some(found);
        }
        Ok(contents)
    }

    /// The names of all folders of snapshots, and whether each is whole.
    fn folders(&self) -> Result<HashMap<SnapshotName, bool>, Error> {
        let mut found = HashMap::new();
        self.api.each("snapshots", |name, _| {
            if let Some((folder, file)) = name.split_once('/')
                && let Ok(snapshot) = folder.parse::<SnapshotName>()
            {
                *found.entry(snapshot).or_default() |= file == sums::NAME;
            }
        })?;
        Ok(found)
    }

    /// Removes what is there of a snapshot: first what makes it one.
    fn remove_snapshot(&self, name: &SnapshotName) -> Result<(), Error> {
        let folder = format!("snapshots/{name}");
        self.api.delete(&format!("{folder}/{}", sums::NAME))?;
        let mut files = Vec::new();
        self.api.each(&folder, |file, _| files.push(format!("{folder}/{file}")))?;
        files.iter().try_for_each(|file| self.api.delete(file))
    }

    fn remove_unfinished(&self) -> Result<(), Error> {
        let folders = self.folders()?;
        let unfinished = folders.iter().filter(|(_, is_whole)| !**is_whole);
        unfinished.into_iter().try_for_each(|(name, _)| self.remove_snapshot(name))
    }

    fn check_lock(&self) -> Result<(), Error> {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        lock.map_or(Ok(()), |lock| lock.check())
    }
}

/// The digest of content, by its name below `blobs`.
fn key_of(name: &str) -> Option<Key> {
    let (algorithm, name) = name.split_once('/')?;
    let name = name.split_once('.').map_or(name, |(name, _)| name);
    let digest: Digest = format!("{algorithm}:{name}").parse().ok()?;
    (digest.algorithm() == DigestAlgorithm::CANONICAL).then(|| key(&digest)).flatten()
}

fn key(digest: &Digest) -> Option<Key> {
    digest.as_bytes().try_into().ok()
}

impl Store for S3 {
    fn path(&self, name: &str) -> PathBuf {
        self.api.path(name)
    }

    fn list(&self, folder: &str) -> Result<Vec<Entry>, Error> {
        let (mut files, mut folders) = (Vec::new(), BTreeSet::new());
        self.api.each(folder, |name, meta| match name.split_once('/') {
            None => files.push(Entry { name: name.to_owned(), is_dir: false, len: meta.size }),
            Some((folder, _)) if folders.contains(folder) => {}
            Some((folder, _)) => drop(folders.insert(folder.to_owned())),
        })?;
        files.extend(folders.into_iter().map(|name| Entry { name, is_dir: true, len: 0 }));
        Ok(files)
    }

    fn list_after(&self, folder: &str, after: &str, limit: usize) -> Result<Vec<Entry>, Error> {
        let mut files = Vec::new();
        self.api.each_after(folder, after, |name, meta| {
            if !name.contains('/') {
                files.push(Entry { name: name.to_owned(), is_dir: false, len: meta.size });
            }
            if files.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(files)
    }

    /// Whoever may only read has no note.
    fn keep(&self, name: &str, bytes: &[u8]) -> Result<bool, Error> {
        Ok(self.api.put(name, bytes.to_vec().into()).is_ok())
    }

    fn len(&self, name: &str) -> Result<Option<u64>, Error> {
        match name.strip_prefix("blobs/").and_then(key_of) {
            Some(key) => Ok(self.contents()?.as_ref().and_then(|contents| contents.get(&key).copied())),
            None => Ok(self.api.head(name)?.map(|meta| meta.size)),
        }
    }

    fn open(&self, name: &str) -> Result<Option<Box<dyn Read + Send>>, Error> {
        Ok(self.api.open(name)?.map(|reader| Box::new(reader) as Box<dyn Read + Send>))
    }

    /// Only begins with it where it is content, of which many are removed at once.
    fn remove(&self, name: &str) -> Result<bool, Error> {
        if !name.starts_with("blobs/") {
            return self.api.delete(name).map(|()| true);
        }
        let mut removing = self.removing.lock().unwrap_or_else(PoisonError::into_inner);
        while removing.len() >= AT_ONCE {
            self.api.join(&mut removing)?;
        }
        if let Some(key) = name.strip_prefix("blobs/").and_then(key_of)
            && let Some(contents) = &mut *self.contents.lock().unwrap_or_else(PoisonError::into_inner)
        {
            contents.remove(&key);
        }
        removing.spawn_on(self.api.delete_later(name.to_owned()), self.api.threads());
        Ok(true)
    }

    fn settle(&self, _folder: &str) -> Result<(), Error> {
        let mut removing = self.removing.lock().unwrap_or_else(PoisonError::into_inner);
        while self.api.join(&mut removing)?.is_some() {}
        Ok(())
    }

    fn initialize(&self, format: &str) -> Result<(), Error> {
        if self.api.is_empty()? { self.api.put("format", format.to_owned().into()) } else { Ok(()) }
    }

    fn prepare(&self) -> Result<(), Error> {
        Ok(())
    }

    fn lock(&self) -> Result<Option<BackupHold>, Error> {
        let Some(lock) = S3Lock::acquire(&self.api, Locked::Content)? else { return Ok(None) };
        let lock = Arc::new(lock);
        *self.contents.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&lock);
        Ok(Some(BackupHold::new(lock)))
    }

    fn lock_names(&self) -> Result<Option<BackupHold>, Error> {
        Ok(S3Lock::acquire(&self.api, Locked::Names)?.map(BackupHold::new))
    }

    fn snapshots(&self) -> Result<Vec<SnapshotName>, Error> {
        Ok(self.folders()?.into_iter().filter(|(_, is_whole)| *is_whole).map(|(name, _)| name).collect())
    }

    fn workshop(&self, _form: &Form, scratch: &Path) -> Result<PathBuf, Error> {
        self.disk.create_dir(scratch)?;
        Notes::new(Arc::clone(&self.disk), scratch.to_owned()).call_off(&self.api)?;
        for entry in self.disk.list(scratch)?.into_iter().filter(|entry| !entry.is_dir) {
            self.disk.remove(&scratch.join(entry.name))?;
        }
        self.remove_unfinished()?;
        Ok(scratch.to_owned())
    }

    fn publish(&self, name: &SnapshotName, workshop: &Path, files: &[String]) -> Result<(), Error> {
        let notes = Notes::new(Arc::clone(&self.disk), workshop.to_owned());
        for file in files {
            if file == sums::NAME {
                self.check_lock()?;
            }
            let from = workshop.join(file);
            let missing = || Error::Damaged { path: from.clone(), reason: "it isn't there".to_owned() };
            let source = self.disk.open(&from, Access::Read)?.ok_or_else(missing)?;
            let len = self.disk.len(&from)?.unwrap_or_default();
            let to = format!("snapshots/{name}/{file}");
            let item = Item { name: &to, len, digest: None };
            upload(&self.api, &notes, &Form::Plain, &item, &mut FileReader::new(source), &from)?;
            self.disk.remove(&from)?;
        }
        Ok(())
    }

    fn withdraw(&self, names: &[SnapshotName]) -> Result<(), Error> {
        self.check_lock()?;
        names.iter().try_for_each(|name| self.remove_snapshot(name))?;
        self.remove_unfinished()
    }

    fn intake<'a>(&'a self, form: &'a Form, workshop: &Path) -> Result<Box<dyn Intake + 'a>, Error> {
        let notes = Notes::new(Arc::clone(&self.disk), workshop.to_owned());
        Ok(Box::new(S3Intake {
            s3: self,
            form: form.clone(),
            notes,
            running: JoinSet::new(),
            coming: HashSet::new(),
            added: Amount::default(),
            lost: Vec::new(),
        }))
    }
}

/// Sends content.
struct S3Intake<'a> {
    s3: &'a S3,
    form: Form,
    notes: Notes,
    running: JoinSet<Result<Sent, Error>>,
    /// What is on its way.
    coming: HashSet<Digest>,
    added: Amount,
    lost: Vec<Digest>,
}

/// What became of content: how long its object is, where it is one.
struct Sent {
    digest: Digest,
    len: u64,
    stored: Option<u64>,
}

/// Where content is.
enum Source {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl S3Intake<'_> {
    fn begin(&mut self, source: Source, digest: Digest, len: u64) -> Result<(), Error> {
        while self.running.len() >= AT_ONCE {
            self.join()?;
        }
        self.coming.insert(digest);
        let (api, notes, form) = (self.s3.api.clone(), self.notes.clone(), self.form.clone());
        let (disk, large) = (Arc::clone(&self.s3.disk), Arc::clone(&self.s3.large));
        let sending = move || {
            let _turn = if len > LARGE.min(PART) { Some(api.wait(large.acquire_owned())) } else { None };
            let name = form.content_name(&digest);
            let item = Item { name: &name, len, digest: Some(&digest) };
            let send = |source: &mut dyn Read, from: &Path| upload(&api, &notes, &form, &item, source, from);
            let stored = match source {
                Source::Bytes(bytes) => send(&mut Cursor::new(bytes), Path::new(""))?,
                // Another length can't have this digest, and isn't read.
                Source::File(path) if disk.len(&path)? != Some(len) => None,
                Source::File(path) => match disk.open(&path, Access::Read)? {
                    Some(file) => send(&mut FileReader::new(file), &path)?,
                    None => None,
                },
            };
            Ok(Sent { digest, len, stored })
        };
        self.running.spawn_blocking_on(sending, self.s3.api.threads());
        Ok(())
    }

    /// Waits for one that is on its way.
    fn join(&mut self) -> Result<(), Error> {
        let Some(Sent { digest, len, stored }) = self.s3.api.join(&mut self.running)? else { return Ok(()) };
        self.coming.remove(&digest);
        match (stored, key(&digest)) {
            (Some(stored), Some(key)) => {
                self.added.add(len);
                if let Some(contents) = &mut *self.s3.contents()? {
                    contents.insert(key, stored);
                }
            }
            _ => self.lost.push(digest),
        }
        Ok(())
    }
}

impl Intake for S3Intake<'_> {
    fn has(&self, digest: &Digest, len: u64) -> Result<bool, Error> {
        let found = self.s3.len(&self.form.content_name(digest))?;
        Ok(self.coming.contains(digest) || found.is_some_and(|found| self.form.is_length(found, len)))
    }

    fn file(&mut self, from: &Path, digest: &Digest, len: u64) -> Result<(), Error> {
        self.begin(Source::File(from.to_owned()), *digest, len)
    }

    fn bytes(&mut self, digest: &Digest, bytes: Vec<u8>) -> Result<(), Error> {
        let len = bytes.len() as u64;
        self.begin(Source::Bytes(bytes), *digest, len)
    }

    fn settle(&mut self) -> Result<(), Error> {
        while !self.running.is_empty() {
            self.join()?;
        }
        Ok(())
    }

    /// There are no links.
    fn alias(&mut self, _alias: &Digest, _canonical: &Digest) -> Result<(), Error> {
        Ok(())
    }

    fn added(&self) -> Amount {
        self.added
    }

    fn lost(&self) -> &[Digest] {
        &self.lost
    }
}
