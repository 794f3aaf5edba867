//! Which rows were changed while a copy of the tables is made, so that the copy can follow.
//!
//! A row is entered when the transaction that changed it has *ended*. So whoever takes the entries and begins to read
//! afterwards sees what those transactions left; one that is still under way comes with the next entries.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Table;

/// The most bytes of keys that wait to be taken.
const ROOM: usize = 32 << 20;
/// What an entry costs besides its key.
const OVERHEAD: usize = 64;

/// The rows that were changed since they were last taken, while somebody records.
#[derive(Debug, Default)]
pub(super) struct ChangedRows {
    is_on: AtomicBool,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    rows: BTreeSet<Row>,
    bytes: usize,
    /// More was changed than there is room for, and some of it isn't here.
    has_overflowed: bool,
}

/// A place in [`Table::ALL`] and a key.
pub(super) type Row = (usize, Box<[u8]>);

impl ChangedRows {
    /// Records from now on, until the answer is dropped; `None` where somebody does so already. Transactions that have
    /// begun before are not recorded.
    pub(super) fn record(self: &Arc<ChangedRows>) -> Option<Recording> {
        let was_on = self.is_on.swap(true, Ordering::SeqCst);
        (!was_on).then(|| Recording(self.clone()))
    }

    /// The part of a transaction that is about to begin; `None` where nobody records.
    pub(super) fn of_transaction(self: &Arc<ChangedRows>) -> Option<Changes> {
        self.is_on.load(Ordering::SeqCst).then(|| Changes { of: self.clone(), rows: Vec::new() })
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rows that one transaction changes. They are entered when this is dropped, which has to be after its end.
#[derive(Debug)]
pub(super) struct Changes {
    of: Arc<ChangedRows>,
    rows: Vec<Row>,
}

impl Changes {
    /// Notes a row.
    pub(super) fn note(&mut self, table: Table, key: &[u8]) {
        self.rows.push((table as usize, key.into()));
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        let mut entries = self.of.entries();
        if !self.of.is_on.load(Ordering::SeqCst) {
            return;
        }
        for row in self.rows.drain(..) {
            if entries.bytes >= ROOM {
                entries.has_overflowed = true;
                return;
            }
            let bytes = row.1.len() + OVERHEAD;
            if entries.rows.insert(row) {
                entries.bytes += bytes;
            }
        }
    }
}

/// Whoever follows the changes; nothing is recorded any more when this is dropped.
#[derive(Debug)]
pub(super) struct Recording(Arc<ChangedRows>);

impl Recording {
    /// How many rows wait to be taken.
    pub(super) fn len(&self) -> usize {
        self.0.entries().rows.len()
    }

    /// The rows that were changed by transactions that have ended, each once, in the order of their tables and keys;
    /// `None` where there were too many.
    pub(super) fn take(&self) -> Option<BTreeSet<Row>> {
        let entries = std::mem::take(&mut *self.0.entries());
        (!entries.has_overflowed).then_some(entries.rows)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let mut entries = self.0.entries();
        self.0.is_on.store(false, Ordering::SeqCst);
        *entries = Entries::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_entered_when_its_transaction_has_ended_and_once() {
        let all = Arc::new(ChangedRows::default());
        assert!(all.of_transaction().is_none());
        let recording = all.record().unwrap();
        assert!(all.record().is_none());
        let mut own = all.of_transaction().unwrap();
        for key in [b"b", b"a", b"b"] {
            own.note(Table::Tags, key);
        }
        own.note(Table::Meta, b"z");
        assert_eq!(recording.take(), Some(BTreeSet::new()));
        drop(own);
        let taken: Vec<_> = recording.take().unwrap().into_iter().collect();
        let expected = [(Table::Meta, b"z"), (Table::Tags, b"a"), (Table::Tags, b"b")];
        assert_eq!(taken, expected.map(|(table, key)| (table as usize, Box::from(key.as_slice()))));
        assert_eq!(recording.len(), 0);
    }

    #[test]
    fn more_than_there_is_room_for_is_told() {
        let all = Arc::new(ChangedRows::default());
        let recording = all.record().unwrap();
        let write = |numbers: std::ops::Range<u32>| {
            let mut own = all.of_transaction().unwrap();
            numbers.for_each(|number| own.note(Table::Tags, &number.to_be_bytes()));
        };
        let most = u32::try_from(ROOM / (OVERHEAD + 4)).unwrap();
        write(0..most);
        assert_eq!(recording.take().map(|rows| rows.len()), Some(most as usize));
        write(0..most + 2);
        assert_eq!(recording.take(), None);
        write(0..1);
        assert_eq!(recording.take().map(|rows| rows.len()), Some(1));
    }

    #[test]
    fn what_ends_after_the_recording_is_left_out_of_the_next_one() {
        let all = Arc::new(ChangedRows::default());
        let recording = all.record().unwrap();
        let mut late = all.of_transaction().unwrap();
        late.note(Table::Tags, b"late");
        drop(recording);
        drop(late);
        assert_eq!(all.record().unwrap().len(), 0);
    }
}
