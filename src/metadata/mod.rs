//! The transactional tables; the only user of redb and bincode.
//!
//! Everything that the registry knows is here, but for the bytes of blobs: the database alone decides what exists. Reads
//! run in closures that can't be held across an await, on one consistent view. Writes are closures too; one thread runs
//! those that wait in one transaction and answers them after its one durable commit (see [`Metadata::write`]). A handle
//! that met a disk error is reopened. Hot reads go through a cache of rows that never differs from the tables (see
//! [`Metadata::look_up`]).
//!
//! [`repositories`], [`blobs`], [`manifests`], [`tags`], [`signatures`], [`uploads`], [`events`], [`users`] and
//! [`access_tokens`] hold the records and what can be asked of them; [`candidates`], [`deletions`] and [`sizes`] follow from those, in the same transactions.

mod backend;
mod cache;
mod cached_rows;
mod changed_rows;
mod codec;
mod compact;
mod database;
mod error;
mod export;
mod import;
mod key;
mod links;
mod migration;
mod table;
mod transaction;
mod writer;

pub mod access_tokens;
pub mod blobs;
pub mod candidates;
pub mod deletions;
pub mod dismantle;
pub mod events;
pub mod fetches;
pub mod freshness;
pub mod manifests;
pub mod repositories;
pub mod signatures;
pub mod sizes;
pub mod tags;
pub mod uploads;
pub mod usage;
pub mod users;

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

pub use cache::CacheOptions;
// For the benchmarks of the parts; records are written and read by the functions of their nouns.
#[doc(hidden)]
pub use codec::{Record, decode, encode};
pub use compact::{CompactError, CompactProgress, CompactReport};
pub use error::{Error, OpenError};
pub use export::{Content, Export, ExportedTag, content, is_manifest, is_signed};
pub use import::{Imported, import};
pub use migration::SCHEMA;
pub use table::Table;
pub use transaction::{Read, ReadTx, Scan, WriteTx};

use tokio::sync::oneshot;

use crate::fsio::{Disk, FileError};
use crate::telemetry::StorageMetrics;
use database::DatabaseSlot;
use transaction::Met;
use writer::{Hold, Writer};

/// The name of the database file in the data directory.
pub const FILE_NAME: &str = "metadata.redb";

/// How the database is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// redb's page cache, in bytes.
    pub cache_bytes: usize,
    /// Commits record what a recovery would have to find by reading the whole file: about one sync more per commit, and
    /// a start within milliseconds after a crash.
    pub quick_repair: bool,
    /// How much hot reads find without a transaction.
    pub cache: CacheOptions,
}

impl Default for Options {
    fn default() -> Options {
        Options { cache_bytes: 16 << 20, quick_repair: true, cache: CacheOptions::default() }
    }
}

/// The metadata of one data directory.
#[derive(Debug)]
pub struct Metadata {
    slot: Arc<DatabaseSlot>,
    /// Empty once the metadata is closed.
    writer: RwLock<Option<Writer>>,
}

impl Metadata {
    /// Whether the directory `data` has a database that isn't empty.
    pub fn is_there(disk: &dyn Disk, data: &Path) -> Result<bool, FileError> {
        Ok(disk.len(&data.join(FILE_NAME))?.is_some_and(|len| len > 0))
    }

    /// Opens the database in the directory `data`, creating or migrating it where needed. The caller holds the
    /// directory's lock. Blocks; takes no longer for a large database than for a small one.
    pub fn open(
        disk: &Arc<dyn Disk>,
        data: impl Into<PathBuf>,
        options: Options,
        metrics: StorageMetrics,
    ) -> Result<Metadata, OpenError> {
        let path = data.into().join(FILE_NAME);
        let opening = || {
            migration::prepare(disk.as_ref(), &path, options)?;
            DatabaseSlot::open(disk.clone(), path.clone(), options, metrics.clone())
        };
        // redb panics on some pages that make no sense.
        let slot = catch_unwind(AssertUnwindSafe(opening)).unwrap_or_else(|_| {
            let reason = "a page makes no sense; put the file back from a backup".to_owned();
            Err(OpenError::Database { path: path.display().to_string(), reason })
        })?;
        let slot = Arc::new(slot);
        let writer = Writer::start(slot.clone(), metrics).map_err(|source| crate::fsio::FileError {
            operation: "start the writer of",
            path,
            source,
        })?;
        Ok(Metadata { slot, writer: RwLock::new(Some(writer)) })
    }

    /// Runs `read` on a consistent view of every table, on the calling thread. It takes microseconds, and must not take
    /// longer than a page of a listing does, since the file grows while a view is held. Runs twice where the first run
    /// met a broken handle.
    pub fn read<T>(&self, read: impl FnMut(&ReadTx) -> Result<T, Error>) -> Result<T, Error> {
        self.slot.read(read)
    }

    /// Runs `read` as [`read`](Metadata::read) does, for look-ups by key that are wanted often: where every row that it
    /// wants is cached, it needs no transaction. It may run three times, and must do the same again.
    ///
    /// Each row is as of some moment of the call, and its absence is never taken from the cache.
    pub fn look_up<T>(&self, mut read: impl FnMut(&ReadTx) -> Result<T, Error>) -> Result<T, Error> {
        let caches = self.slot.caches();
        if caches.is_on() {
            match read(&ReadTx::cached(caches.clone())) {
                Err(Error::NotCached(table)) => caches.metrics.cache_missed(table == Table::ManifestPayloads),
                result => {
                    caches.metrics.descriptors_cached();
                    return result;
                }
            }
        }
        self.slot.look_up(read)
    }

    /// What `make` makes of rows, with its weight in bytes, by look-ups of keys alone: from memory, under a key of the caller's own, for as
    /// long as none of these rows has changed. Nothing is kept of what there is none of.
    pub fn look_up_made<T: Send + Sync + 'static>(
        &self,
        key: &[u8],
        mut make: impl FnMut(&ReadTx) -> Result<Option<(T, usize)>, Error>,
    ) -> Result<Option<Arc<T>>, Error> {
        let caches = self.slot.caches();
        if let Some(value) = caches.made(key).and_then(|value| value.downcast().ok()) {
            caches.metrics.descriptors_cached();
            // The only thing that is made so far has a manifest's bytes.
            caches.metrics.manifest_cached();
            return Ok(Some(value));
        }
        let ticket = caches.ticket();
        let mut met = Met::Unnoted;
        let found = self.look_up(|tx| {
            tx.begin_noting();
            let result = make(tx);
            met = tx.end_noting();
            result
        })?;
        let Some((value, weight)) = found else { return Ok(None) };
        let value = Arc::new(value);
        if let Met::Rows(rows) = met {
            caches.keep(ticket, key, &rows, value.clone(), weight);
        }
        Ok(Some(value))
    }

    /// Reads the whole file and compares it with its checksums; what is wrong, if something is. Everybody else waits
    /// meanwhile.
    pub fn damage(&self) -> Result<Option<String>, Error> {
        self.slot.damage()
    }

    /// Copies every row into a fresh file, which has no free space in it, and goes on with that one.
    ///
    /// Reads and writes go on meanwhile; writes wait at the end, for as long as the last changed rows take. On any error,
    /// and after a crash, the former file is there as it was. At least `keep_free_bytes` are left free on the disk.
    /// `progress` hears of each step and may stop. Blocks.
    pub fn compact(
        &self,
        keep_free_bytes: u64,
        progress: &mut dyn FnMut(CompactProgress) -> ControlFlow<()>,
    ) -> Result<CompactReport, CompactError> {
        compact::compact(self, keep_free_bytes, progress)
    }

    /// Halts the writer thread between two transactions, after what waits, until the answer is dropped. Blocks.
    fn hold_writer(&self) -> Result<Hold, Error> {
        let writer = self.writer.read().unwrap_or_else(PoisonError::into_inner);
        let hold = writer.as_ref().ok_or(Error::Closed)?.hold();
        // Whoever closes the metadata doesn't wait for the halt.
        drop(writer);
        hold().ok_or(Error::Closed)
    }

    /// Runs `write` in the writer thread and returns what it returned after the commit that makes it durable.
    ///
    /// `write` checks first and writes then: an error before the first write costs the others of its batch nothing. It may
    /// run more than once, and must then do the same again.
    pub async fn write<T, E, F>(&self, write: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnMut(&WriteTx<'_>) -> Result<T, E> + Send + 'static,
    {
        self.submit(write).await.unwrap_or_else(|_| Err(Error::Closed.into()))
    }

    /// The same for threads that may block.
    pub fn write_blocking<T, E, F>(&self, write: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnMut(&WriteTx<'_>) -> Result<T, E> + Send + 'static,
    {
        self.submit(write).blocking_recv().unwrap_or_else(|_| Err(Error::Closed.into()))
    }

    fn submit<T, E, F>(&self, write: F) -> oneshot::Receiver<Result<T, E>>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnMut(&WriteTx<'_>) -> Result<T, E> + Send + 'static,
    {
        let writer = self.writer.read().unwrap_or_else(PoisonError::into_inner);
        match writer.as_ref() {
            Some(writer) => writer.submit(write),
            // A receiver whose sender is gone answers that the metadata is closed.
            None => oneshot::channel().1,
        }
    }

    /// Commits the writes that wait, then closes the file cleanly. Later reads and writes fail with [`Error::Closed`].
    pub fn close(&self) {
        let writer = self.writer.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(writer);
        self.slot.close();
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        self.close();
    }
}
