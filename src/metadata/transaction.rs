//! Read and write transactions as closures see them.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use bytes::Bytes;
use redb::{AccessGuard, Range, ReadTransaction, ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::cache::{Caches, Change, Ticket};
use super::changed_rows::Changes;
use super::{Error, Table};

/// Whether a scan goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// The next row, please.
    Continue,
    /// Enough.
    Stop,
}

/// Which way a scan goes through the rows of a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the smallest key.
    Ascending,
    /// From the largest key.
    Descending,
}

/// Reading, the same in read and in write transactions.
///
/// The functions of the nouns (`repositories`, `blobs`, `manifests`, `tags`, `uploads`) take any reader.
pub trait Read {
    /// Hands the value under `key` to `read`; `None` where there is none.
    #[doc(hidden)]
    fn get<R>(
        &self,
        table: Table,
        key: impl AsRef<[u8]>,
        read: impl FnOnce(&[u8]) -> Result<R, Error>,
    ) -> Result<Option<R>, Error>;

    /// Hands the rows whose key begins with `prefix` to `row`, without the prefix and in key order, beginning behind
    /// `after` (also without the prefix), which need not exist.
    #[doc(hidden)]
    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        row: impl FnMut(&[u8], &[u8]) -> Result<Scan, Error>,
    ) -> Result<(), Error>;

    /// The same from the largest key down, beginning before `before`.
    #[doc(hidden)]
    fn scan_back(
        &self,
        table: Table,
        prefix: &[u8],
        before: Option<&[u8]>,
        row: impl FnMut(&[u8], &[u8]) -> Result<Scan, Error>,
    ) -> Result<(), Error>;

    /// The value under `key`, for one that is too large to copy twice.
    #[doc(hidden)]
    fn bytes(&self, table: Table, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, Error> {
        self.get(table, key, |value| Ok(Bytes::copy_from_slice(value)))
    }

    /// What `make` makes of the rows whose key begins with `prefix`, and of nothing that ever changes besides. Look-ups
    /// have it from the cache until one of the rows changes, if [`Caches::place`] has a place for it.
    #[doc(hidden)]
    fn made_of(
        &self,
        _table: Table,
        _prefix: impl AsRef<[u8]>,
        make: impl FnOnce(&Self) -> Result<Option<Bytes>, Error>,
    ) -> Result<Option<Bytes>, Error> {
        make(self)
    }

    /// Whether there is a value under `key`.
    #[doc(hidden)]
    fn has(&self, table: Table, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        Ok(self.get(table, key, |_| Ok(()))?.is_some())
    }
}

/// A consistent view of all tables as of one commit; in a look-up, at first the rows that are cached.
#[derive(Debug)]
pub struct ReadTx {
    source: Source,
    caches: Arc<Caches>,
    met: RefCell<Met>,
}

/// Which rows a look-up has met.
#[derive(Debug, Default)]
pub(super) enum Met {
    /// Nobody wants to know.
    #[default]
    Unnoted,
    /// These.
    Rows(Vec<(Table, Vec<u8>)>),
    /// More than can be named.
    Many,
}

#[derive(Debug)]
enum Source {
    /// Only what is cached; anything else is [`Error::NotCached`].
    Cache,
    /// The tables. With a ticket, rows that are met are cached.
    Tables { transaction: ReadTransaction, ticket: Option<Ticket> },
}

impl ReadTx {
    pub(super) fn new(transaction: ReadTransaction, caches: Arc<Caches>, ticket: Option<Ticket>) -> ReadTx {
        ReadTx { source: Source::Tables { transaction, ticket }, caches, met: RefCell::default() }
    }

    pub(super) fn cached(caches: Arc<Caches>) -> ReadTx {
        ReadTx { source: Source::Cache, caches, met: RefCell::default() }
    }

    /// Notes from now on which rows are met.
    pub(super) fn begin_noting(&self) {
        self.met.replace(Met::Rows(Vec::new()));
    }

    /// The rows that were met since [`begin_noting`](ReadTx::begin_noting).
    pub(super) fn end_noting(&self) -> Met {
        self.met.take()
    }

    fn meet(&self, table: Table, key: &[u8]) {
        if let Met::Rows(rows) = &mut *self.met.borrow_mut() {
            rows.push((table, key.to_vec()));
        }
    }

    fn meet_many(&self) {
        let mut met = self.met.borrow_mut();
        if matches!(*met, Met::Rows(_)) {
            *met = Met::Many;
        }
    }

    /// How many rows a table has; read from its root.
    pub fn count(&self, table: Table) -> Result<u64, Error> {
        self.meet_many();
        match &self.source {
            Source::Cache => Err(Error::NotCached(table)),
            Source::Tables { transaction, .. } => {
                let table = transaction.open_table(table.definition()).map_err(Error::from_redb)?;
                table.len().map_err(Error::from_redb)
            }
        }
    }

    /// The rows of a table in their order, for those who go through several tables side by side.
    pub(super) fn rows(&self, table: Table) -> Result<Rows, Error> {
        let Source::Tables { transaction, .. } = &self.source else { return Err(Error::NotCached(table)) };
        let table = transaction.open_table(table.definition()).map_err(Error::from_redb)?;
        let mut rows = Rows { range: table.range::<&[u8]>(..).map_err(Error::from_redb)?, row: None };
        rows.advance()?;
        Ok(rows)
    }

    fn scan_in(
        &self,
        table: Table,
        prefix: &[u8],
        beyond: Option<&[u8]>,
        direction: Direction,
        row: impl FnMut(&[u8], &[u8]) -> Result<Scan, Error>,
    ) -> Result<(), Error> {
        self.meet_many();
        match &self.source {
            Source::Cache => Err(Error::NotCached(table)),
            Source::Tables { transaction, .. } => {
                let table = transaction.open_table(table.definition()).map_err(Error::from_redb)?;
                scan_in(&table, prefix, beyond, direction, row)
            }
        }
    }
}

type Guard = AccessGuard<'static, &'static [u8]>;

/// A place in a table that only moves on: to go through two tables side by side costs their rows, and no look-ups.
pub(super) struct Rows {
    range: Range<'static, &'static [u8], &'static [u8]>,
    row: Option<(Guard, Guard)>,
}

impl Rows {
    /// Moves on to the first key that isn't below `key`, and returns it; keys have to be asked for in their order.
    pub(super) fn seek(&mut self, key: &[u8]) -> Result<Option<&[u8]>, Error> {
        while self.row.as_ref().is_some_and(|(here, _)| here.value() < key) {
            self.advance()?;
        }
        Ok(self.row.as_ref().map(|(here, _)| here.value()))
    }

    /// Moves on to the next row.
    pub(super) fn advance(&mut self) -> Result<(), Error> {
        self.row = self.range.next().transpose().map_err(Error::from_redb)?;
        Ok(())
    }
}

impl Read for ReadTx {
    fn get<R>(
        &self,
        table: Table,
        key: impl AsRef<[u8]>,
        read: impl FnOnce(&[u8]) -> Result<R, Error>,
    ) -> Result<Option<R>, Error> {
        let key = key.as_ref();
        self.meet(table, key);
        match &self.source {
            Source::Cache => match self.caches.get(table, key, |value| read(value)) {
                Some(result) => result.map(Some),
                None => Err(Error::NotCached(table)),
            },
            Source::Tables { transaction, ticket } => {
                let opened = transaction.open_table(table.definition()).map_err(Error::from_redb)?;
                get_in(&opened, key, |value| {
                    if let Some(ticket) = ticket.filter(|_| self.caches.keeps(table)) {
                        self.caches.fill(ticket, table, key, Bytes::copy_from_slice(value));
                    }
                    read(value)
                })
            }
        }
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        row: impl FnMut(&[u8], &[u8]) -> Result<Scan, Error>,
    ) -> Result<(), Error> {
        self.scan_in(table, prefix, after, Direction::Ascending, row)
    }

    fn scan_back(
        &self,
        table: Table,
        prefix: &[u8],
        before: Option<&[u8]>,
        row: impl FnMut(&[u8], &[u8]) -> Result<Scan, Error>,
    ) -> Result<(), Error> {
        self.scan_in(table, prefix, before, Direction::Descending, row)
    }

    fn bytes(&self, table: Table, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, Error> {
        let key = key.as_ref();
        self.meet(table, key);
        match &self.source {
            Source::Cache => {
                let found = self.caches.get(table, key, Bytes::clone);
                if found.is_some() {
                    self.caches.metrics.manifest_cached();
                }
                found.map(Some).ok_or(Error::NotCached(table))
            }
            Source::Tables { transaction, ticket } => {
                let opened = transaction.open_table(table.definition()).map_err(Error::from_redb)?;
                let found = get_in(&opened, key, |value| Ok(Bytes::copy_from_slice(value)))?;
                if let (Some(found), Some(ticket)) = (&found, ticket) {
                    self.caches.fill(*ticket, table, key, found.clone());
                }
                Ok(found)
            }
        }
    }

    fn made_of(
        &self,
        table: Table,
        prefix: impl AsRef<[u8]>,
        make: impl FnOnce(&ReadTx) -> Result<Option<Bytes>, Error>,
    ) -> Result<Option<Bytes>, Error> {
        let (table, key) = Caches::place(table, prefix.as_ref());
        match &self.source {
            Source::Cache => self.bytes(table, key),
            Source::Tables { ticket, .. } => {
                // A change of any of the rows that it is made of is one of its place.
                let met = self.met.take();
                let whole = make(self);
                self.met.replace(met);
                self.meet(table, key);
                let whole = whole?;
                if let (Some(whole), Some(ticket)) = (&whole, ticket) {
                    self.caches.fill(*ticket, table, key, whole.clone());
                }
                Ok(whole)
            }
        }
    }
}

type OpenTable<'t> = redb::Table<'t, &'static [u8], &'static [u8]>;

/// The transaction of one batch of the writer thread; every closure of the batch sees what the ones before it wrote.
pub struct WriteTx<'t> {
    transaction: &'t WriteTransaction,
    /// The tables opened so far, each once for the whole batch.
    tables: RefCell<[Option<OpenTable<'t>>; Table::ALL.len()]>,
    /// How many rows were written: tells whether a failed closure left something behind.
    writes: Cell<u64>,
    caches: &'t Arc<Caches>,
    /// What is to hear of the transaction's end.
    written: RefCell<Written>,
}

/// The rows that a transaction has written, for those who want to know; to be dropped when it has ended.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// The cached ones; they come back when these are dropped.
    cached: Vec<Change>,
    /// All of them, where somebody records.
    recorded: Option<Changes>,
}

impl<'t> WriteTx<'t> {
    pub(super) fn new(
        transaction: &'t WriteTransaction,
        caches: &'t Arc<Caches>,
        recorded: Option<Changes>,
    ) -> WriteTx<'t> {
        WriteTx {
            transaction,
            tables: RefCell::new([const { None }; Table::ALL.len()]),
            writes: Cell::new(0),
            caches,
            written: RefCell::new(Written { cached: Vec::new(), recorded }),
        }
    }

    /// Ends the closures' part. What is returned keeps the written rows out of the cache, and is to be dropped when the
    /// commit or the abort has happened.
    pub(super) fn finish(self) -> Written {
        self.written.into_inner()
    }

    /// Takes a row out of the cache, before it is written, until the transaction has ended.
    fn note_change(&self, table: Table, key: &[u8]) {
        self.writes.set(self.writes.get() + 1);
        let mut written = self.written.borrow_mut();
        written.cached.extend(self.caches.change(table, key));
        if let Some(recorded) = &mut written.recorded {
            recorded.note(table, key);
        }
    }

    /// Rows inserted and removed so far.
    pub(super) fn writes(&self) -> u64 {
        self.writes.get()
    }

    fn with_table<R>(
        &self,
        table: Table,
        work: impl FnOnce(&mut OpenTable<'t>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let mut tables = self.tables.borrow_mut();
        let slot = &mut tables[table as usize];
        let opened = match slot {
            Some(opened) => opened,
            None => slot.insert(self.transaction.open_table(table.definition()).map_err(Error::from_redb)?),
        };
        work(opened)
    }

    /// Writes `value` under `key`, replacing what was there.
    pub(super) fn insert(&self, table: Table, key: impl AsRef<[u8]>, value: &[u8]) -> Result<(), Error> {
        self.note_change(table, key.as_ref());
        self.with_table(table, |table| {
            table.insert(key.as_ref(), value).map_err(Error::from_redb)?;
            Ok(())
        })
    }

    /// Removes the row under `key`; says whether there was one.
    pub(super) fn remove(&self, table: Table, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.note_change(table, key.as_ref());
        self.with_table(table, |table| Ok(table.remove(key.as_ref()).map_err(Error::from_redb)?.is_some()))
    }
}

impl Read for WriteTx<'_> {
    fn get<R>(
        &self,
        table: Table,
        key: impl AsRef<[u8]>,
        read: impl FnOnce(&[u8]) -> Result<R, Error>,
    ) -> Result<Option<R>, Error> {
        self.with_table(table, |table| get_in(table, key.as_ref(), read))
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        row: impl FnMut(&[u8], &[u8]) -> Result<Scan, Error>,
    ) -> Result<(), Error> {
        self.with_table(table, |table| scan_in(table, prefix, after, Direction::Ascending, row))
    }

    fn scan_back(
        &self,
        table: Table,
        prefix: &[u8],
        before: Option<&[u8]>,
        row: impl FnMut(&[u8], &[u8]) -> Result<Scan, Error>,
    ) -> Result<(), Error> {
        self.with_table(table, |table| scan_in(table, prefix, before, Direction::Descending, row))
    }
}

fn get_in<R>(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
    read: impl FnOnce(&[u8]) -> Result<R, Error>,
) -> Result<Option<R>, Error> {
    match table.get(key).map_err(Error::from_redb)? {
        Some(value) => read(value.value()).map(Some),
        None => Ok(None),
    }
}

fn scan_in(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    prefix: &[u8],
    beyond: Option<&[u8]>,
    direction: Direction,
    mut row: impl FnMut(&[u8], &[u8]) -> Result<Scan, Error>,
) -> Result<(), Error> {
    use std::ops::Bound;
    let beyond = beyond.map(|beyond| Bound::Excluded([prefix, beyond].concat()));
    let (first, last) = match direction {
        Direction::Ascending => (beyond, None),
        Direction::Descending => (None, beyond),
    };
    let start = first.unwrap_or_else(|| Bound::Included(prefix.to_vec()));
    let end = last.unwrap_or_else(|| behind_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded));
    let range = (start.as_ref().map(Vec::as_slice), end.as_ref().map(Vec::as_slice));
    let mut rows = table.range::<&[u8]>(range).map_err(Error::from_redb)?;
    while let Some(entry) = match direction {
        Direction::Ascending => rows.next(),
        Direction::Descending => rows.next_back(),
    } {
        let (key, value) = entry.map_err(Error::from_redb)?;
        if row(&key.value()[prefix.len()..], value.value())? == Scan::Stop {
            break;
        }
    }
    Ok(())
}

/// The smallest key that is larger than every key with `prefix`; `None` where there is no end.
fn behind_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut end = prefix[..=kept].to_vec();
    end[kept] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::behind_prefix;

    #[test]
    fn the_end_of_a_prefix_carries_over_bytes_of_ones() {
        assert_eq!(behind_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(behind_prefix(&[1, 255, 255]), Some(vec![2]));
        assert_eq!(behind_prefix(&[255, 255]), None);
        assert_eq!(behind_prefix(b""), None);
    }
}
