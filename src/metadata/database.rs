//! The database handle in a slot that can be emptied and filled again.
//!
//! After one I/O error redb refuses every further read and write on that handle, also when the disk works again (a full
//! disk that got space back). So whoever meets such an error reopens the file; what was committed is all there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use redb::{Builder, Database, ReadableDatabase, WriteTransaction};

use super::backend::{FileBackend, Overlay};
use super::cache::{Caches, Ticket};
use super::changed_rows::ChangedRows;
use super::{CompactError, Error, OpenError, Options, ReadTx};
use crate::fsio::{Access, Disk, DiskFile};
use crate::telemetry::StorageMetrics;

/// The one database of a data directory.
#[derive(Debug)]
pub(super) struct DatabaseSlot {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    options: Options,
    metrics: StorageMetrics,
    /// Rows of the open handle.
    caches: Arc<Caches>,
    changed_rows: Arc<ChangedRows>,
    /// Readers hold the lock for the length of one closure, the writer for one batch, a reopening alone.
    handle: RwLock<Handle>,
    /// Counts openings, so that of many who meet a broken handle one reopens it.
    opened: AtomicU64,
    /// The file has been renamed and its directory not synced: nothing may be written to it before that.
    is_name_unsynced: AtomicBool,
}

#[derive(Debug)]
enum Handle {
    Open(Database),
    /// The disk refused what opening writes: what was committed is read, and writes fail with this error until one of
    /// them finds that the file opens again.
    ReadOnly(Database, Error),
    /// The last attempt to reopen failed; the next user tries again.
    Broken(Error),
    Closed,
}

impl DatabaseSlot {
    /// Opens the existing file at `path`.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        options: Options,
        metrics: StorageMetrics,
    ) -> Result<DatabaseSlot, OpenError> {
        let database = open_file(disk.as_ref(), &path, options)?;
        let handle = RwLock::new(Handle::Open(database));
        let caches = Arc::new(Caches::new(options.cache, metrics.clone()));
        Ok(DatabaseSlot {
            disk,
            path,
            options,
            metrics,
            caches,
            changed_rows: Arc::default(),
            handle,
            opened: AtomicU64::new(0),
            is_name_unsynced: AtomicBool::new(false),
        })
    }

    /// Where the file lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The disk that it lies on.
    pub(super) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// How the database is run.
    pub(super) fn options(&self) -> Options {
        self.options
    }

    /// The rows that writes change, while somebody records them.
    pub(super) fn changed_rows(&self) -> &Arc<ChangedRows> {
        &self.changed_rows
    }

    /// The rows that look-ups have met.
    pub(super) fn caches(&self) -> &Arc<Caches> {
        &self.caches
    }

    /// Runs `read` on a new read transaction; once more on a reopened handle where the first was broken.
    pub(super) fn read<T>(&self, read: impl FnMut(&ReadTx) -> Result<T, Error>) -> Result<T, Error> {
        self.retry(read, || None)
    }

    /// The same, and leaves the rows that it meets in the cache.
    pub(super) fn look_up<T>(&self, read: impl FnMut(&ReadTx) -> Result<T, Error>) -> Result<T, Error> {
        self.retry(read, || self.caches.is_on().then(|| self.caches.ticket()))
    }

    /// `ticket` is taken before each transaction begins.
    fn retry<T>(
        &self,
        mut read: impl FnMut(&ReadTx) -> Result<T, Error>,
        ticket: impl Fn() -> Option<Ticket>,
    ) -> Result<T, Error> {
        let opened = self.opened.load(Ordering::Acquire);
        match self.try_read(&mut read, ticket()) {
            Err(Error::Storage(_) | Error::Full) => {
                self.reopen(opened)?;
                self.try_read(&mut read, ticket())
            }
            result => result,
        }
    }

    fn try_read<T>(
        &self,
        read: &mut impl FnMut(&ReadTx) -> Result<T, Error>,
        ticket: Option<Ticket>,
    ) -> Result<T, Error> {
        let handle = self.handle();
        let transaction = handle.database()?.begin_read().map_err(Error::from_redb)?;
        read(&ReadTx::new(transaction, self.caches.clone(), ticket))
    }

    /// Runs `write` on a new write transaction, which it must commit or abort. The handle is kept in place meanwhile.
    pub(super) fn write<T>(
        &self,
        write: impl FnOnce(WriteTransaction) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let handle = self.handle();
        let mut transaction = handle.writable()?.begin_write().map_err(Error::from_redb)?;
        transaction.set_quick_repair(self.options.quick_repair);
        write(transaction)
    }

    /// How often the file was opened again; to be read before the work that may find the handle broken.
    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Acquire)
    }

    /// Drops the handle and opens the file again, unless somebody did so since `opened` was read.
    pub(super) fn reopen(&self, opened: u64) -> Result<(), Error> {
        let mut handle = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*handle, Handle::Closed) {
            return Err(Error::Closed);
        }
        if self.opened.load(Ordering::Acquire) != opened {
            return Ok(());
        }
        // The old handle goes first: redb's state on the way out must not meet the new one.
        *handle = Handle::Broken(Error::Storage("the metadata is being reopened".into()));
        self.metrics.database_reopened();
        self.opened.fetch_add(1, Ordering::AcqRel);
        // A commit that failed may be there after all.
        self.caches.clear();
        self.fill(&mut handle)?;
        if matches!(*handle, Handle::Open(_)) {
            tracing::warn!(path = %self.path.display(), "reopened the metadata after a disk error");
        }
        Ok(())
    }

    /// Opens the file for an empty slot, for reading only where nothing else is possible.
    fn fill(&self, handle: &mut Handle) -> Result<(), Error> {
        let error = match self.open_again(Access::Write) {
            Ok(database) => {
                *handle = Handle::Open(database);
                return Ok(());
            }
            Err(error) => error,
        };
        if let Ok(database) = self.open_again(Access::Read) {
            tracing::error!(%error, "the metadata can be read only; the next write tries again");
            *handle = Handle::ReadOnly(database, error);
            return Ok(());
        }
        tracing::error!(%error, "the metadata can't be reopened; the next request tries again");
        *handle = Handle::Broken(error.clone());
        Err(error)
    }

    /// Puts the closed database file `fresh`, which has the same rows, in the place of the present one. The caller keeps
    /// the writer from writing. Readers that are under way are waited for, and later ones wait. Returns the former file,
    /// whose end may take long: the file system frees its blocks when it is closed.
    pub(super) fn replace(&self, fresh: &Path) -> Result<Option<Box<dyn DiskFile>>, CompactError> {
        let former = self.disk.open(&self.path, Access::Read)?;
        let mut handle = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        handle.writable()?;
        // The old handle goes first: what it writes on its way out must not meet the new file.
        *handle = Handle::Broken(Error::Storage("the metadata is being replaced".into()));
        self.opened.fetch_add(1, Ordering::AcqRel);
        // A rename that fails may have happened; whichever file it is has all rows, once its name is durable.
        self.is_name_unsynced.store(true, Ordering::Release);
        let renamed = self.disk.rename(fresh, &self.path);
        // The rows are the same, so that those in the cache stay.
        self.fill(&mut handle)?;
        renamed?;
        handle.writable()?;
        Ok(former)
    }

    fn open_again(&self, access: Access) -> Result<Database, Error> {
        let broken = |error: &dyn std::fmt::Display| Error::Storage(error.to_string().into());
        if access == Access::Write && self.is_name_unsynced.load(Ordering::Acquire) {
            let directory = self.path.parent().unwrap_or(Path::new("/"));
            self.disk.sync_dir(directory).map_err(|error| broken(&error))?;
            self.is_name_unsynced.store(false, Ordering::Release);
        }
        let file = self.disk.open(&self.path, access).map_err(|error| broken(&error))?;
        let file = file.ok_or_else(|| broken(&"the metadata file is not there"))?;
        let mut builder = Builder::new();
        builder.set_cache_size(self.options.cache_bytes);
        let database = match access {
            Access::Write => builder.create_with_backend(FileBackend(file)),
            Access::Read => builder.create_with_backend(Overlay::new(file).map_err(|error| broken(&error))?),
        };
        database.map_err(Error::from_redb)
    }

    /// What a comparison of the whole file with its checksums finds wrong. A damaged file isn't used any more.
    pub(super) fn damage(&self) -> Result<Option<String>, Error> {
        let mut handle = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        let Handle::Open(database) = &mut *handle else { return handle.database().map(|_| None) };
        // redb panics on some pages that make no sense.
        let damage = match catch_unwind(AssertUnwindSafe(|| database.check_integrity())) {
            Ok(Ok(true)) => return Ok(None),
            Ok(Ok(false)) => "its checksums were wrong, and were written anew".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "a page makes no sense".to_owned(),
        };
        *handle = Handle::Broken(Error::Storage(damage.as_str().into()));
        Ok(Some(damage))
    }

    /// Closes the file cleanly, for good; waits for the readers and the writer that are under way.
    pub(super) fn close(&self) {
        let mut handle = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        self.caches.close();
        *handle = Handle::Closed;
    }

    fn handle(&self) -> RwLockReadGuard<'_, Handle> {
        self.handle.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handle {
    fn database(&self) -> Result<&Database, Error> {
        match self {
            Handle::Open(database) | Handle::ReadOnly(database, _) => Ok(database),
            Handle::Broken(error) => Err(error.clone()),
            Handle::Closed => Err(Error::Closed),
        }
    }

    fn writable(&self) -> Result<&Database, Error> {
        match self {
            Handle::ReadOnly(_, error) => Err(error.clone()),
            Handle::Open(_) | Handle::Broken(_) | Handle::Closed => self.database(),
        }
    }
}

/// Opens the file at `path`, which must exist; an empty file becomes an empty database.
pub(super) fn open_file(disk: &dyn Disk, path: &Path, options: Options) -> Result<Database, OpenError> {
    let refused = |reason: String| OpenError::Database { path: path.display().to_string(), reason };
    let file = disk.open(path, Access::Write)?.ok_or_else(|| refused("it is not there".into()))?;
    Builder::new()
        .set_cache_size(options.cache_bytes)
        .create_with_backend(FileBackend(file))
        .map_err(|error| refused(error.to_string()))
}
