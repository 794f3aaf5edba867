//! Giving free space back: every row is copied into a fresh file, which then takes the place of the present one.
//!
//! Reads and writes go on meanwhile. The copy goes through the tables page by page, each page in a read transaction of its
//! own, so that none is held open and makes the file grow. What is written meanwhile is recorded (see
//! [`ChangedRows`](super::changed_rows::ChangedRows)): a changed row before the copy's place is read again and put right,
//! one behind it will be met by the copy. When few are left, the writer thread halts between two transactions, the last
//! rows are put right, the copy is made durable and renamed, and the handle is opened on it. A row is therefore in the copy
//! as the last transaction left it: its page or its repeated read was later, or the transaction was recorded.
//!
//! Until the rename the present file is not touched, and after it the copy has all rows, so that a crash at any moment
//! leaves one of two whole files under the name.

use std::collections::BTreeSet;
use std::ops::{Bound, ControlFlow};
use std::path::PathBuf;
use std::time::Duration;

use redb::{Database, Durability, ReadableTableMetadata, WriteTransaction};

use super::changed_rows::{Recording, Row};
use super::database::{DatabaseSlot, open_file};
use super::migration::fresh_path;
use super::{Error, Metadata, OpenError, Options, Read, Scan, Table};
use crate::clock;
use crate::fsio::{DiskFile, FileError};

/// The size of the steps, in rows.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// How many of a table are read and written at a time.
    page: usize,
    /// So many changed ones are put right before the copy goes on.
    many: usize,
    /// So few changed ones are put right while the writer waits.
    few: usize,
    /// A copy that is no shorter is used too.
    keeps_any: bool,
}

const PACE: Pace = Pace { page: 10_000, many: 10_000, few: 500, keeps_any: false };
/// A page of rows ends behind so many bytes.
const PAGE_BYTES: usize = 1 << 20;
/// So often it is tried to have but few changed rows left.
const ROUNDS: usize = 50;
/// The most memory for the pages of the copy.
const CACHE_BYTES: usize = 64 << 20;

/// Why there was no compaction. The metadata is as it was.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// There is one already.
    #[error("the metadata is being compacted already; wait for that to end")]
    Busy,
    /// The copy has no room.
    #[error(
        "a compaction writes a copy first, which needs about {needed_bytes} bytes; {free_bytes} bytes are free for it: make room \
         on the disk of the data directory, then try again"
    )]
    NoRoom {
        /// What the copy may need, as far as it was estimated.
        needed_bytes: u64,
        /// What there is, without what is to be left free.
        free_bytes: u64,
    },
    /// More was written than could be followed.
    #[error("rows are changed faster than the compaction can copy them; try again when less is pushed")]
    Overtaken,
    /// A transaction that was under way then may be there or not, and the copy may have it otherwise.
    #[error(
        "the metadata had to be reopened after a disk error during the compaction; look at the disk, then try again"
    )]
    Reopened,
    /// The caller wanted so.
    #[error("the compaction was stopped; the metadata is as it was")]
    Stopped,
    /// The copy was not used, since it has another number of rows.
    #[error(
        "the copy of the table {table} has {copied} rows instead of {present}, and was not used; run orlop verify"
    )]
    Differs {
        /// The table.
        table: &'static str,
        /// What the copy has.
        copied: u64,
        /// What the table has.
        present: u64,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The copy could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A read or a write failed.
    #[error(transparent)]
    Metadata(#[from] Error),
}

/// How far a compaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactProgress {
    /// The rows that have been copied.
    pub rows: u64,
    /// The rows that there were at the start.
    pub total_rows: u64,
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactReport {
    /// The rows of all tables.
    pub rows: u64,
    /// The rows that were changed meanwhile and copied again.
    pub changed_rows: u64,
    /// The length of the file before.
    pub before_bytes: u64,
    /// And after; the same where the copy was no shorter and was not used.
    pub after_bytes: u64,
    /// How long it took.
    pub took: Duration,
    /// For how long of that no write was committed.
    pub held: Duration,
}

/// Compacts the metadata; see [`Metadata::compact`].
pub(super) fn compact(
    metadata: &Metadata,
    keep_free_bytes: u64,
    progress: &mut dyn FnMut(CompactProgress) -> ControlFlow<()>,
) -> Result<CompactReport, CompactError> {
    compact_at(PACE, metadata, keep_free_bytes, progress)
}

fn compact_at(
    pace: Pace,
    metadata: &Metadata,
    keep_free_bytes: u64,
    progress: &mut dyn FnMut(CompactProgress) -> ControlFlow<()>,
) -> Result<CompactReport, CompactError> {
    let began = clock::monotonic();
    let slot = metadata.slot.as_ref();
    let opened = slot.opened();
    let recording = slot.changed_rows().record().ok_or(CompactError::Busy)?;
    // Transactions that began before the recording have ended when this one has.
    metadata.write_blocking(|_| Ok::<_, Error>(()))?;

    let before_bytes = slot.disk().len(slot.path())?.unwrap_or(0);
    let mut copy = Copy::begin(pace, slot, recording, keep_free_bytes, before_bytes)?;
    copy.every_table(progress)?;
    copy.settle()?;
    copy.follow_until_few()?;
    if !pace.keeps_any && copy.len()? >= before_bytes {
        let (rows, changed_rows, took) = (copy.rows, copy.changed_rows, began.elapsed());
        let held = Duration::ZERO;
        return Ok(CompactReport { rows, changed_rows, before_bytes, after_bytes: before_bytes, took, held });
    }

    let halt = metadata.hold_writer()?;
    let halted = clock::monotonic();
    // A write that failed has reopened the file before it let the writer go on.
    if slot.opened() != opened {
        return Err(CompactError::Reopened);
    }
    let Finished { rows, changed_rows, former } = copy.finish()?;
    let held = halted.elapsed();
    drop(halt);
    drop(former);
    let after_bytes = slot.disk().len(slot.path())?.unwrap_or(0);
    Ok(CompactReport { rows, changed_rows, before_bytes, after_bytes, took: began.elapsed(), held })
}

/// A copy that is being made.
struct Copy<'m> {
    pace: Pace,
    slot: &'m DatabaseSlot,
    recording: Recording,
    /// The copy. Closed before its file is removed or renamed.
    database: Database,
    file: FreshFile<'m>,
    /// Which rows have been copied: all of the tables before this place in [`Table::ALL`], and of this one those up to the
    /// key.
    table: usize,
    key: Option<Vec<u8>>,
    rows: u64,
    changed_rows: u64,
    total_rows: u64,
    keep_free_bytes: u64,
}

/// What a copy was when it became the database.
struct Finished {
    rows: u64,
    /// Of these, how many were copied again.
    changed_rows: u64,
    /// The file that had the name before.
    former: Option<Box<dyn DiskFile>>,
}

/// The file of a copy, which is removed unless it became the database.
struct FreshFile<'m> {
    slot: &'m DatabaseSlot,
    path: PathBuf,
}

impl Drop for FreshFile<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.slot.disk().remove(&self.path) {
            tracing::warn!(%error, "what is left of a compaction takes room until the next start");
        }
    }
}

impl<'m> Copy<'m> {
    fn begin(
        pace: Pace,
        slot: &'m DatabaseSlot,
        recording: Recording,
        keep_free_bytes: u64,
        present_bytes: u64,
    ) -> Result<Copy<'m>, CompactError> {
        let total_rows = slot.read(|tx| Table::ALL.iter().map(|table| tx.count(*table)).sum())?;
        let free_bytes = free_for_copy(slot, keep_free_bytes)?;
        // A copy is rarely larger than the original, and all rows are read only where that doesn't say enough.
        if free_bytes < present_bytes {
            let needed_bytes = present_bytes.min(estimate(slot)?);
            if free_bytes < needed_bytes {
                return Err(CompactError::NoRoom { needed_bytes, free_bytes });
            }
        }
        let path = fresh_path(slot.path());
        // Left where it could not be removed.
        slot.disk().remove(&path)?;
        drop(slot.disk().create(&path)?);
        let file = FreshFile { slot, path };
        let options = Options { cache_bytes: slot.options().cache_bytes.min(CACHE_BYTES), ..slot.options() };
        let database = open_file(slot.disk(), &file.path, options)?;
        Ok(Copy {
            pace,
            slot,
            recording,
            database,
            file,
            table: 0,
            key: None,
            rows: 0,
            changed_rows: 0,
            total_rows,
            keep_free_bytes,
        })
    }

    /// Copies the rows page by page.
    fn every_table(
        &mut self,
        progress: &mut dyn FnMut(CompactProgress) -> ControlFlow<()>,
    ) -> Result<(), CompactError> {
        while let Some(table) = Table::ALL.get(self.table).copied() {
            let page = read_page(self.slot, table, self.key.as_deref(), self.pace.page)?;
            self.write(|transaction| append(transaction, table, &page.rows))?;
            self.rows += page.rows.len() as u64;
            // What comes behind the last page is a change: a copy that met it would never overtake somebody who only adds.
            self.table += usize::from(page.next.is_none());
            self.key = page.next;
            if self.recording.len() > self.pace.many {
                self.follow()?;
            }
            let free_bytes = free_for_copy(self.slot, self.keep_free_bytes)?;
            if free_bytes == 0 {
                let needed_bytes = estimate(self.slot)?;
                return Err(CompactError::NoRoom { needed_bytes, free_bytes });
            }
            let so_far = CompactProgress { rows: self.rows, total_rows: self.total_rows };
            if progress(so_far).is_break() {
                return Err(CompactError::Stopped);
            }
        }
        Ok(())
    }

    /// Makes what has been copied durable, so that little is left to sync while the writer waits.
    fn settle(&mut self) -> Result<(), CompactError> {
        let transaction = self.database.begin_write().map_err(Error::from_redb)?;
        transaction.commit().map_err(Error::from_redb)?;
        Ok(())
    }

    fn len(&self) -> Result<u64, CompactError> {
        Ok(self.slot.disk().len(&self.file.path)?.unwrap_or(0))
    }

    fn follow_until_few(&mut self) -> Result<(), CompactError> {
        for _ in 0..ROUNDS {
            if self.recording.len() <= self.pace.few {
                return Ok(());
            }
            self.follow()?;
        }
        Err(CompactError::Overtaken)
    }

    /// Puts the rows right that were changed since the last time.
    fn follow(&mut self) -> Result<(), CompactError> {
        let changed = self.take_changed()?;
        self.write(|transaction| put_right(transaction, &changed))
    }

    /// What the copied ones among the changed rows are now; `None` for those that are no more.
    fn take_changed(&mut self) -> Result<Vec<Present>, CompactError> {
        let changed = self.recording.take().ok_or(CompactError::Overtaken)?;
        // The copy has yet to come to the others.
        let copied: BTreeSet<Row> = changed
            .into_iter()
            .filter(|(table, key)| {
                *table < self.table || *table == self.table && Some(key.as_ref()) <= self.key.as_deref()
            })
            .collect();
        self.changed_rows += copied.len() as u64;
        let mut present = Vec::with_capacity(copied.len());
        let mut waiting = copied.into_iter().peekable();
        while waiting.peek().is_some() {
            let page: Vec<Row> = waiting.by_ref().take(self.pace.page).collect();
            let values = self.slot.read(|tx| {
                page.iter()
                    .map(|(table, key)| tx.get(Table::ALL[*table], key, |value| Ok(value.to_vec())))
                    .collect()
            });
            let values: Vec<Option<Vec<u8>>> = values?;
            present.extend(page.into_iter().zip(values));
        }
        Ok(present)
    }

    /// Runs `write` in a transaction that only a later one makes durable.
    fn write(
        &self,
        write: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), CompactError> {
        let run = || {
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(Durability::None)?;
            write(&transaction)?;
            transaction.commit()?;
            Ok(())
        };
        run().map_err(|error: redb::Error| Error::from_redb(error).into())
    }

    /// Puts the last rows right and lets the copy be the database, while the writer is held.
    fn finish(mut self) -> Result<Finished, CompactError> {
        let changed = self.take_changed()?;
        let commit = || {
            let mut transaction = self.database.begin_write()?;
            transaction.set_quick_repair(self.slot.options().quick_repair);
            put_right(&transaction, &changed)?;
            let mut rows = Vec::new();
            for table in Table::ALL {
                rows.push(transaction.open_table(table.definition())?.len()?);
            }
            transaction.commit()?;
            Ok(rows)
        };
        let copied: Vec<u64> = commit().map_err(|error: redb::Error| Error::from_redb(error))?;
        let present: Vec<u64> =
            self.slot.read(|tx| Table::ALL.iter().map(|table| tx.count(*table)).collect())?;
        for (table, (copied, present)) in
            Table::ALL.iter().zip(copied.into_iter().zip(present.iter().copied()))
        {
            if copied != present {
                return Err(CompactError::Differs { table: table.name(), copied, present });
            }
        }
        let Copy { slot, database, file, changed_rows, .. } = self;
        drop(database);
        let former = slot.replace(&file.path)?;
        Ok(Finished { rows: present.iter().sum(), changed_rows, former })
    }
}

/// The bytes that the copy may take.
fn free_for_copy(slot: &DatabaseSlot, keep_free_bytes: u64) -> Result<u64, CompactError> {
    let directory = slot.path().parent().unwrap_or(slot.path());
    Ok(slot.disk().free_bytes(directory)?.saturating_sub(keep_free_bytes))
}

/// A row with its value, if it has one.
type Present = (Row, Option<Vec<u8>>);

/// Some rows of a table, in their order.
#[derive(Default)]
struct Page {
    rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// Behind which key the table may go on; `None` where it was read to its end.
    next: Option<Vec<u8>>,
}

/// The rows of a table behind a key.
fn read_page(
    slot: &DatabaseSlot,
    table: Table,
    after: Option<&[u8]>,
    most_rows: usize,
) -> Result<Page, Error> {
    slot.read(|tx| {
        let (mut page, mut bytes) = (Page::default(), 0);
        tx.scan(table, b"", after, |key, value| {
            bytes += key.len() + value.len();
            page.rows.push((key.to_vec(), value.to_vec()));
            if page.rows.len() < most_rows && bytes < PAGE_BYTES {
                return Ok(Scan::Continue);
            }
            page.next = Some(key.to_vec());
            Ok(Scan::Stop)
        })?;
        Ok(page)
    })
}

/// About how long a file with all rows is.
fn estimate(slot: &DatabaseSlot) -> Result<u64, Error> {
    let mut bytes = 0;
    for table in Table::ALL {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = read_page(slot, table, after.as_deref(), PACE.page)?;
            bytes += page.rows.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>();
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    // What pages leave empty and what a fresh file has beside them, as measured.
    Ok(bytes + bytes / 2 + (2 << 20))
}

/// Adds rows behind all that the copy of the table has.
fn append(
    transaction: &WriteTransaction,
    table: Table,
    rows: &[(Vec<u8>, Vec<u8>)],
) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(table.definition())?;
    let mut end = table.upper_bound_mut(Bound::<&[u8]>::Unbounded)?;
    for (key, value) in rows {
        end.insert_before(key.as_slice(), value.as_slice())?;
    }
    end.close()?;
    Ok(())
}

/// Gives each row the value that it has now, or removes it.
fn put_right(transaction: &WriteTransaction, changed: &[Present]) -> Result<(), redb::Error> {
    for of_table in changed.chunk_by(|((one, _), _), ((other, _), _)| one == other) {
        let Some(((place, _), _)) = of_table.first() else { continue };
        let mut table = transaction.open_table(Table::ALL[*place].definition())?;
        for ((_, key), value) in of_table {
            match value {
                Some(value) => drop(table.insert(key.as_ref(), value.as_slice())?),
                None => drop(table.remove(key.as_ref())?),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::{Arc, Mutex, mpsc};

    use super::*;
    use crate::fsio::{Disk, Fault, Replay, SimulatedDisk};
    use crate::metadata::{FILE_NAME, WriteTx};
    use crate::telemetry::StorageMetrics;

    /// Small steps, for few rows.
    const SLOW: Pace = Pace { page: 20, many: 40, few: 10, keeps_any: true };
    const GO_ON: ControlFlow<()> = ControlFlow::Continue(());

    fn open(disk: &SimulatedDisk) -> Result<Metadata, OpenError> {
        disk.create_dir("/data".as_ref())?;
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        Metadata::open(&shared, "/data", Options::default(), StorageMetrics::default())
    }

    /// A key in one of eight tables, so that the copy passes many borders.
    fn row(number: u64) -> (Table, [u8; 8]) {
        (Table::ALL[usize::try_from(number % 8).unwrap() + 1], number.to_be_bytes())
    }

    fn put(metadata: &Metadata, numbers: impl IntoIterator<Item = u64>, value: &'static [u8]) {
        let numbers: Vec<u64> = numbers.into_iter().collect();
        let write = move |tx: &WriteTx<'_>| {
            numbers.iter().try_for_each(|number| tx.insert(row(*number).0, row(*number).1, value))
        };
        metadata.write_blocking::<_, Error, _>(write).unwrap();
    }

    fn remove(metadata: &Metadata, numbers: impl IntoIterator<Item = u64>) {
        let numbers: Vec<u64> = numbers.into_iter().collect();
        let write = move |tx: &WriteTx<'_>| {
            numbers.iter().try_for_each(|number| tx.remove(row(*number).0, row(*number).1).map(drop))
        };
        metadata.write_blocking::<_, Error, _>(write).unwrap();
    }

    /// Every row of every table.
    fn rows(metadata: &Metadata) -> BTreeMap<(usize, Vec<u8>), Vec<u8>> {
        let mut rows = BTreeMap::new();
        for table in Table::ALL {
            let scan = |tx: &crate::metadata::ReadTx| {
                tx.scan(table, b"", None, |key, value| {
                    rows.insert((table as usize, key.to_vec()), value.to_vec());
                    Ok(Scan::Continue)
                })
            };
            metadata.read(scan).unwrap();
        }
        rows
    }

    fn value_of(metadata: &Metadata, number: u64) -> Option<Vec<u8>> {
        metadata.read(|tx| tx.get(row(number).0, row(number).1, |value| Ok(value.to_vec()))).unwrap()
    }

    fn compact(metadata: &Metadata) -> Result<CompactReport, CompactError> {
        compact_at(SLOW, metadata, 0, &mut |_| GO_ON)
    }

    fn compact_slowly(
        metadata: &Metadata,
        mut each: impl FnMut() -> ControlFlow<()>,
    ) -> Result<CompactReport, CompactError> {
        compact_at(SLOW, metadata, 0, &mut |_| each())
    }

    fn names(disk: &SimulatedDisk) -> Vec<String> {
        disk.list("/data".as_ref()).unwrap().into_iter().map(|entry| entry.name).collect()
    }

    #[test]
    fn free_space_is_given_back_and_every_row_is_there() {
        let disk = SimulatedDisk::new();
        let metadata = open(&disk).unwrap();
        put(&metadata, 0..8000, &[7; 500]);
        remove(&metadata, (0..8000).filter(|number| number % 10 > 0));
        let before = rows(&metadata);
        let mut steps = Vec::new();
        let report = compact_at(SLOW, &metadata, 0, &mut |step| {
            steps.push(step);
            GO_ON
        });
        let report = report.unwrap();
        assert_eq!(rows(&metadata), before);
        assert_eq!((report.rows, report.changed_rows), (before.len() as u64, 0));
        assert_eq!(Some(report.after_bytes), disk.len(format!("/data/{FILE_NAME}").as_ref()).unwrap());
        assert!(report.after_bytes * 5 < report.before_bytes, "{report:?}");
        assert!(steps.is_sorted_by_key(|step| step.rows), "{steps:?}");
        assert_eq!(
            steps.last().map(|step| (step.rows, step.total_rows)),
            Some((before.len() as u64, before.len() as u64))
        );
        put(&metadata, [1], b"afterwards");
        drop(metadata);
        assert_eq!(names(&disk), [FILE_NAME]);
        let metadata = open(&disk).unwrap();
        assert_eq!(value_of(&metadata, 1), Some(b"afterwards".to_vec()));
        assert_eq!(metadata.damage().unwrap(), None);
    }

    #[test]
    fn a_copy_that_is_no_shorter_is_not_used() {
        let disk = SimulatedDisk::new();
        let metadata = open(&disk).unwrap();
        put(&metadata, 0..20, b"row");
        let operations = disk.operations();
        let report = metadata.compact(0, &mut |_| GO_ON).unwrap();
        assert_eq!((report.after_bytes, report.held), (report.before_bytes, Duration::ZERO));
        assert_eq!(report.rows, rows(&metadata).len() as u64);
        assert_eq!(names(&disk), [FILE_NAME]);
        let done = (operations + 1..=disk.operations()).map(|operation| disk.describe(operation));
        assert!(done.into_iter().all(|operation| operation.contains(".new")), "the file was not touched");
    }

    #[test]
    fn rows_that_are_changed_before_at_and_behind_the_copy_are_as_they_were_left() {
        let disk = SimulatedDisk::new();
        let metadata = open(&disk).unwrap();
        put(&metadata, 0..2000, b"old");
        let mut step = 0;
        let report = compact_slowly(&metadata, || {
            // Of every table: its first rows, its last rows, and some that are removed, put, and put again.
            step += 1;
            assert!(step < 500, "it runs after what is added");
            put(&metadata, (0..16).chain(1990..2010), b"new");
            remove(&metadata, 16 * step..16 * step + 16);
            put(&metadata, 16 * step + 8..16 * step + 12, b"again");
            put(&metadata, 4000 + 8 * step..4000 + 8 * step + 16, b"more");
            remove(&metadata, 4000 + 8 * step..4000 + 8 * step + 8);
            GO_ON
        });
        assert!(step > 50, "{step} pages");
        assert!(report.unwrap().changed_rows > 1000);
        let kept = rows(&metadata);
        drop(metadata);
        let metadata = open(&disk).unwrap();
        assert_eq!(rows(&metadata), kept);
        assert_eq!(value_of(&metadata, 3), Some(b"new".to_vec()));
        assert_eq!(value_of(&metadata, 16 * step), None);
        assert_eq!(value_of(&metadata, 16 * step + 8), Some(b"again".to_vec()));
        assert_eq!(value_of(&metadata, 4000 + 8 * step), None);
        assert_eq!(value_of(&metadata, 4000 + 8 * step + 8), Some(b"more".to_vec()));
        assert_eq!(value_of(&metadata, 2005), Some(b"new".to_vec()));
    }

    /// The row was entered when it was written, the copy read it before the commit, and had the former value for good.
    #[test]
    fn a_row_whose_transaction_is_still_open_when_the_others_are_put_right_is_not_forgotten() {
        let disk = SimulatedDisk::new();
        let metadata = open(&disk).unwrap();
        put(&metadata, 0..2000, b"old");
        let (release, released) = mpsc::channel::<()>();
        let (written, is_written) = mpsc::channel();
        let released = Mutex::new(released);
        let mut release = Some(release);
        let mut open_write = Some(move |tx: &WriteTx<'_>| {
            tx.insert(row(0).0, row(0).1, b"new")?;
            written.send(()).unwrap();
            let _ = released.lock().unwrap().recv();
            Ok::<_, Error>(())
        });
        let mut answer = None;
        let mut steps = 0;
        let report = compact_slowly(&metadata, || {
            steps += 1;
            match steps {
                30 => {
                    // More than are left to the end: behind the next page they are put right.
                    put(&metadata, 0..100, b"changed");
                    answer = open_write.take().map(|write| metadata.submit(write));
                    is_written.recv().unwrap();
                }
                35 => drop(release.take()),
                _ => {}
            }
            GO_ON
        });
        report.unwrap();
        assert!(answer.unwrap().blocking_recv().unwrap().is_ok());
        assert_eq!(value_of(&metadata, 0), Some(b"new".to_vec()));
    }

    #[test]
    fn what_many_writers_and_readers_were_told_during_compactions_is_so_afterwards() {
        const WRITERS: u64 = 4;
        let disk = SimulatedDisk::new();
        let metadata = open(&disk).unwrap();
        put(&metadata, 0..2000, b"old");
        let acknowledged: [AtomicU64; 4] = Default::default();
        let is_over = AtomicBool::new(false);
        let compactions = std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (metadata, is_over) = (&metadata, &is_over);
                let acknowledged = &acknowledged[usize::try_from(writer).unwrap()];
                scope.spawn(move || {
                    for number in 1_u64.. {
                        if is_over.load(Ordering::Relaxed) {
                            break;
                        }
                        // A counter, a row that comes, and one that goes, all over the tables.
                        let key = move |number: u64| row(number * 379 % 1000 * WRITERS + writer);
                        let write = move |tx: &WriteTx<'_>| {
                            tx.insert(
                                Table::Meta,
                                [b'w', u8::try_from(writer).unwrap()],
                                &number.to_be_bytes(),
                            )?;
                            tx.insert(key(number).0, key(number).1, &number.to_be_bytes())?;
                            tx.remove(key(number - 1).0, key(number - 1).1).map(drop)
                        };
                        metadata.write_blocking::<_, Error, _>(write).unwrap();
                        acknowledged.store(number, Ordering::SeqCst);
                        let seen = metadata.look_up(|tx| {
                            tx.get(key(number).0, key(number).1, |value| Ok(value == number.to_be_bytes()))
                        });
                        assert_eq!(seen.unwrap(), Some(true), "{number}");
                    }
                });
            }
            let mut compactions = 0;
            while compactions < 5 {
                compact(&metadata).unwrap();
                compactions += 1;
            }
            is_over.store(true, Ordering::Relaxed);
            compactions
        });
        assert_eq!(compactions, 5);
        let kept = rows(&metadata);
        for writer in 0..WRITERS {
            let last = acknowledged[usize::try_from(writer).unwrap()].load(Ordering::SeqCst);
            assert!(last > 0);
            let counter = (Table::Meta as usize, vec![b'w', u8::try_from(writer).unwrap()]);
            assert_eq!(kept.get(&counter), Some(&last.to_be_bytes().to_vec()));
            let (table, key) = row(last * 379 % 1000 * WRITERS + writer);
            assert_eq!(kept.get(&(table as usize, key.to_vec())), Some(&last.to_be_bytes().to_vec()));
        }
        drop(metadata);
        let metadata = open(&disk).unwrap();
        assert_eq!(rows(&metadata), kept);
        assert_eq!(metadata.damage().unwrap(), None);
    }

    #[test]
    fn there_is_one_compaction_at_a_time_and_a_stopped_one_leaves_nothing() {
        let disk = SimulatedDisk::new();
        let metadata = open(&disk).unwrap();
        put(&metadata, 0..100, b"old");
        let mut refused = None;
        let stopped = compact_slowly(&metadata, || {
            refused = Some(compact(&metadata));
            ControlFlow::Break(())
        });
        assert!(matches!(refused, Some(Err(CompactError::Busy))));
        assert!(matches!(stopped, Err(CompactError::Stopped)));
        assert_eq!(names(&disk), [FILE_NAME]);
        compact(&metadata).unwrap();
        assert_eq!(value_of(&metadata, 99), Some(b"old".to_vec()));
        metadata.close();
        assert!(matches!(compact(&metadata), Err(CompactError::Metadata(Error::Closed))));
    }

    /// What failed may be durable all the same, and the copy may have read it before anybody knew.
    #[test]
    fn a_compaction_during_which_a_commit_fails_is_given_up() {
        let disk = SimulatedDisk::new();
        let metadata = open(&disk).unwrap();
        put(&metadata, 0..100, b"old");
        let mut failed = None;
        let outcome = compact_slowly(&metadata, || {
            if failed.is_none() {
                disk.fail_at(disk.operations() + 1, Fault::InputOutput);
                let write = |tx: &WriteTx<'_>| tx.insert(row(0).0, row(0).1, b"new");
                failed = Some(metadata.write_blocking::<_, Error, _>(write).is_err());
            }
            GO_ON
        });
        assert_eq!(failed, Some(true));
        assert!(matches!(outcome, Err(CompactError::Reopened)), "{outcome:?}");
        assert_eq!(names(&disk), [FILE_NAME]);
        put(&metadata, [1], b"new");
        compact(&metadata).unwrap();
        assert_eq!(value_of(&metadata, 1), Some(b"new".to_vec()));
    }

    #[test]
    fn a_copy_without_room_is_refused_before_it_begins_and_given_up_where_the_room_goes() {
        let disk = SimulatedDisk::new();
        let metadata = open(&disk).unwrap();
        put(&metadata, 0..8000, &[7; 500]);
        let len = disk.len(format!("/data/{FILE_NAME}").as_ref()).unwrap().unwrap();
        disk.set_capacity(Some(len + (3 << 20)));
        let operations = disk.operations();
        let error = compact(&metadata).unwrap_err();
        let CompactError::NoRoom { needed_bytes, free_bytes } = error else { panic!("{error}") };
        assert!(needed_bytes > 8000 * 500 && free_bytes == 3 << 20, "{error}");
        assert_eq!(disk.operations(), operations, "nothing was begun");

        // Little is left of it, and little is needed.
        remove(&metadata, 100..8000);
        let report = metadata.compact(1 << 19, &mut |_| GO_ON).unwrap();
        assert!(report.after_bytes < 2 << 20, "{report:?}");
        // What is to be left free isn't the copy's.
        let free = disk.free_bytes("/data".as_ref()).unwrap();
        assert!(matches!(metadata.compact(free, &mut |_| GO_ON), Err(CompactError::NoRoom { .. })));

        let full = compact_slowly(&metadata, || {
            disk.set_capacity(Some(0));
            GO_ON
        });
        assert!(full.is_err());
        assert_eq!(names(&disk), [FILE_NAME]);
        assert_eq!(value_of(&metadata, 99), Some(vec![7; 500]));
        disk.set_capacity(None);
        compact(&metadata).unwrap();
    }

    /// A compaction with writes before, during and after it; what each had acknowledged at which operation.
    struct Run {
        disk: SimulatedDisk,
        /// The operations of the disk when a write began and when it was acknowledged, and the row with its value.
        writes: Vec<(u64, u64, u64, Option<Vec<u8>>)>,
        compaction: std::ops::RangeInclusive<u64>,
    }

    fn run_with_writes() -> Run {
        let disk = SimulatedDisk::new();
        let metadata = open(&disk).unwrap();
        let mut writes = Vec::new();
        let mut write = |number: u64, value: Option<&'static [u8]>| {
            let from = disk.operations();
            match value {
                Some(value) => put(&metadata, [number], value),
                None => remove(&metadata, [number]),
            }
            writes.push((from, disk.operations(), number, value.map(<[u8]>::to_vec)));
        };
        for number in 0..8 {
            write(number, Some(b"before"));
        }
        let from = disk.operations() + 1;
        let turn = Cell::new(0);
        let outcome = compact_slowly(&metadata, || {
            let number = turn.replace(turn.get() + 1);
            if number < 8 {
                write(number, number.is_multiple_of(2).then_some(b"during"));
            }
            GO_ON
        });
        let compaction = from..=disk.operations();
        assert!(outcome.is_ok(), "{outcome:?}");
        for number in 8..12 {
            write(number, Some(b"after"));
        }
        drop(metadata);
        Run { disk, writes, compaction }
    }

    impl Run {
        /// What is wrong after a cut at this point of the replay.
        fn violation(&self, replay: &Replay, seed: u64) -> Option<String> {
            let metadata = match open(&replay.reboot(seed)) {
                Ok(metadata) => metadata,
                Err(error) => return Some(format!("it doesn't open: {error}")),
            };
            let completed = replay.completed();
            for number in 0..12 {
                let of_row = || self.writes.iter().filter(move |(_, _, row, _)| *row == number);
                let settled = of_row().rfind(|(_, until, ..)| *until <= completed);
                let open = of_row().find(|(from, until, ..)| *from <= completed && completed < *until);
                let found = value_of(&metadata, number);
                let expected = settled.and_then(|(.., value)| value.clone());
                if found != expected && open.is_none_or(|(.., value)| found != *value) {
                    return Some(format!("row {number} is {found:?} instead of {expected:?}"));
                }
            }
            (metadata.damage().unwrap()).map(|damage| format!("it is damaged: {damage}"))
        }

        /// The first violation after a cut at any operation from the compaction on.
        fn find_violation(&self, mut replay: Replay, kinds: &[u64]) -> Option<String> {
            replay.advance_to(self.compaction.start() - 1);
            loop {
                for kind in kinds {
                    let violation = self.violation(&replay, kind + 8 * replay.completed());
                    if let Some(violation) = violation {
                        let at = self.disk.describe(replay.completed() + 1);
                        return Some(format!("{violation}, after a cut during {at}, kind {kind}"));
                    }
                }
                if !replay.advance() {
                    return None;
                }
            }
        }
    }

    #[test]
    fn a_power_cut_at_any_operation_leaves_every_acknowledged_row() {
        let run = run_with_writes();
        let operations = run.compaction.end() - run.compaction.start();
        assert!(operations > 100, "{operations}");
        assert_eq!(run.find_violation(run.disk.replay(), &[0, 1, 2, 3, 4, 6]), None);
    }

    #[test]
    fn without_the_sync_of_the_copy_or_of_its_name_something_acknowledged_would_be_lost() {
        let run = run_with_writes();
        let syncs: Vec<u64> = (1..=run.disk.syncs())
            .filter(|sync| run.compaction.contains(&(run.disk.sync_window(*sync).start() - 1)))
            .collect();
        let of_directory: Vec<u64> = syncs
            .iter()
            .copied()
            .filter(|sync| !run.disk.describe_sync(*sync).contains("metadata.redb"))
            .collect();
        assert_eq!(of_directory.len(), 1, "one name was made durable");
        let without_name = run.disk.replay().ignoring_sync(of_directory[0]);
        assert!(run.find_violation(without_name, &[0, 6]).is_some());
        let of_copy = syncs.iter().filter(|sync| !of_directory.contains(sync));
        let without_copy = of_copy.fold(run.disk.replay(), |replay, sync| replay.ignoring_sync(*sync));
        // Reading what is left of the copy may panic too.
        let lost = std::panic::catch_unwind(|| run.find_violation(without_copy, &[2, 0]).is_some());
        assert!(lost.unwrap_or(true));
    }

    /// The disk fails, or is full, at each operation of a compaction in turn.
    #[test]
    fn a_compaction_that_fails_at_any_operation_costs_nothing_that_was_acknowledged() {
        let prepare = || {
            let disk = SimulatedDisk::new();
            let metadata = open(&disk).unwrap();
            put(&metadata, 0..8, b"before");
            (disk, metadata)
        };
        let (disk, metadata) = prepare();
        let from = disk.operations();
        compact(&metadata).unwrap();
        let mut failed = 0;
        for number in from + 1..=disk.operations() {
            for fault in [Some(Fault::InputOutput), None] {
                let (disk, metadata) = prepare();
                match fault {
                    Some(fault) => disk.fail_at(number, fault),
                    None => disk.fill_up_at(number),
                }
                let at = || format!("{fault:?} at {}", disk.describe(number));
                let outcome = compact(&metadata);
                failed += u32::from(outcome.is_err());
                if fault.is_none() {
                    disk.set_capacity(None);
                }
                assert_eq!(value_of(&metadata, 7), Some(b"before".to_vec()), "{}", at());
                put(&metadata, [7, 8], b"after");
                if outcome.is_err() {
                    compact(&metadata).unwrap_or_else(|error| panic!("{}: {error}", at()));
                }
                put(&metadata, [9], b"last");
                for seed in [0, 4, 6] {
                    let rebooted =
                        open(&disk.reboot(seed)).unwrap_or_else(|error| panic!("{}: {error}", at()));
                    let values = [6, 7, 8, 9].map(|number| value_of(&rebooted, number));
                    let expected: [&[u8]; 4] = [b"before", b"after", b"after", b"last"];
                    assert_eq!(values, expected.map(|value| Some(value.to_vec())), "{}", at());
                }
            }
        }
        assert!(failed > 50, "{failed}");
    }
}
