//! The log of events, and how far each listener has read it.
//!
//! Events are numbered one after the other, without a gap, in the order of their commits. What a reader misses between
//! two numbers was therefore dropped, and can be counted.

use std::sync::Arc;

use bincode::{Decode, Encode};

use super::codec::{self, Record};
use super::key::{Key, Parts};
use super::{Error, Read, Scan, Table, WriteTx};
use crate::oci::{Digest, MediaType, RepositoryName, Tag};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Action {
    /// Content came.
    Push,
    /// Content was asked for and given.
    Pull,
    /// A blob of one repository came into another.
    Mount,
    /// Something was taken away.
    Delete,
}

/// The kind of thing that an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum TargetKind {
    /// A blob.
    Blob,
    /// A manifest, by tag or by digest.
    Manifest,
    /// A tag alone, which was taken from its manifest.
    Tag,
    /// A repository with all that was in it.
    Repository,
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EventTarget {
    /// The kind of thing.
    pub kind: TargetKind,
    /// The repository that it is, or lies, in.
    pub repository: RepositoryName,
    /// The digest by which it was named.
    pub digest: Option<Digest>,
    /// Its media type; a deletion has none.
    pub media_type: Option<MediaType>,
    /// Its length in bytes; a deletion has none.
    pub size: Option<u64>,
    /// The tag that was named.
    pub tag: Option<Tag>,
    /// The repository that a blob was mounted from.
    pub from: Option<RepositoryName>,
    /// What a manifest names, where the registry was told to write that down.
    pub references: Vec<EventReference>,
}

/// What a manifest names.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EventReference {
    /// The media type.
    pub media_type: MediaType,
    /// The digest.
    pub digest: Digest,
    /// The length in bytes.
    pub size: u64,
}

/// The request that led to an event.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EventRequest {
    /// Its id, as the log has it.
    pub id: String,
    /// Whence it came: an address and a port.
    pub addr: String,
    /// The host that it was sent to.
    pub host: String,
    /// Its method.
    pub method: String,
    /// The program that sent it.
    pub user_agent: String,
    /// The URL under which its sender reaches the registry, without a slash at the end.
    pub base_url: String,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EventRecord {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Its identity, a UUID: the same however often the event is delivered.
    pub id: [u8; 16],
    /// What was done.
    pub action: Action,
    /// To what.
    pub target: EventTarget,
    /// By whom.
    pub actor: String,
    /// The request that asked for it; none for a program that uses the library.
    pub request: Option<Arc<EventRequest>>,
}

impl Record for EventRecord {
    const TABLE: Table = Table::Events;
    const VERSION: u8 = 1;
}

/// The number of the last event that a listener has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(super) struct CursorRecord(pub(super) u64);

impl Record for CursorRecord {
    const TABLE: Table = Table::EventCursors;
    const VERSION: u8 = 1;
}

/// Where the number of the last event lies while the log is empty.
const LAST: &[u8] = b"last_event";

/// What may go from the log.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Events up to this number were taken by all who listen.
    pub taken: u64,
    /// Events from before this time, in milliseconds since 1970, are too old.
    pub not_before: u64,
    /// More events than this are too many.
    pub max_events: u64,
}

/// The number of the newest event there has been; 0 before the first.
pub fn last(tx: &impl Read) -> Result<u64, Error> {
    let mut last = None;
    tx.scan_back(Table::Events, b"", None, |key, _| {
        last = Some(number_of(key)?);
        Ok(Scan::Stop)
    })?;
    match last {
        Some(last) => Ok(last),
        None => Ok(tx.get(Table::Meta, LAST, codec::decode::<CursorRecord>)?.map_or(0, |cursor| cursor.0)),
    }
}

/// The number of the oldest event that is kept.
fn first(tx: &impl Read) -> Result<Option<u64>, Error> {
    let mut first = None;
    tx.scan(Table::Events, b"", None, |key, _| {
        first = Some(number_of(key)?);
        Ok(Scan::Stop)
    })?;
    Ok(first)
}

/// Adds an event at the end. Where the log has `max_events` already, the oldest ones go.
pub fn append(tx: &WriteTx<'_>, record: &EventRecord, max_events: u64) -> Result<(), Error> {
    let number = last(tx)? + 1;
    tx.insert(Table::Events, Key::new().number(number), &codec::encode(record))?;
    // Two, so that a log whose limit was lowered shrinks.
    for _ in 0..2 {
        match first(tx)? {
            Some(oldest) if number - oldest >= max_events.max(1) => {
                tx.remove(Table::Events, Key::new().number(oldest))?;
            }
            _ => break,
        }
    }
    Ok(())
}

/// Once so many bytes of events are read, no more are.
const READ_BYTES: usize = 1 << 20;

/// Up to `limit` events behind the number `after`, with their numbers; fewer where they are large.
pub fn read(tx: &impl Read, after: u64, limit: usize) -> Result<Vec<(u64, EventRecord)>, Error> {
    let (mut events, mut bytes) = (Vec::new(), 0);
    let after = Key::new().number(after);
    tx.scan(Table::Events, b"", Some(after.as_ref()), |key, value| {
        if events.len() == limit || bytes >= READ_BYTES {
            return Ok(Scan::Stop);
        }
        bytes += value.len();
        events.push((number_of(key)?, codec::decode(value)?));
        Ok(Scan::Continue)
    })?;
    Ok(events)
}

/// Hands every event to `row`, oldest first.
pub fn each(tx: &impl Read, mut row: impl FnMut(u64, EventRecord) -> Result<(), Error>) -> Result<(), Error> {
    tx.scan(Table::Events, b"", None, |key, value| {
        row(number_of(key)?, codec::decode(value)?)?;
        Ok(Scan::Continue)
    })
}

/// Removes up to `limit` of the oldest events that `bounds` lets go; says whether there may be more of them.
pub fn trim(tx: &WriteTx<'_>, bounds: &Bounds, limit: usize) -> Result<bool, Error> {
    let newest = last(tx)?;
    for _ in 0..limit {
        let Some(number) = first(tx)? else { return Ok(false) };
        let key = Key::new().number(number);
        let is_old = |value: &[u8]| Ok(codec::decode::<EventRecord>(value)?.at < bounds.not_before);
        let is_due = number <= bounds.taken
            || newest - number >= bounds.max_events.max(1)
            || tx.get(Table::Events, &key, is_old)? == Some(true);
        if !is_due {
            return Ok(false);
        }
        tx.remove(Table::Events, key)?;
        if number == newest {
            // No number is given twice, so that nothing looks as if it had been delivered.
            tx.insert(Table::Meta, LAST, &codec::encode(&CursorRecord(newest)))?;
        }
    }
    Ok(true)
}

/// The number of the last event that the listener has taken; `None` for one that is not known yet.
pub fn cursor(tx: &impl Read, listener: &str) -> Result<Option<u64>, Error> {
    let cursor = tx.get(Table::EventCursors, listener, codec::decode::<CursorRecord>)?;
    Ok(cursor.map(|cursor| cursor.0))
}

/// Records how far a listener is.
pub fn set_cursor(tx: &WriteTx<'_>, listener: &str, number: u64) -> Result<(), Error> {
    tx.insert(Table::EventCursors, listener, &codec::encode(&CursorRecord(number)))
}

/// Forgets a listener.
pub fn remove_cursor(tx: &WriteTx<'_>, listener: &str) -> Result<(), Error> {
    tx.remove(Table::EventCursors, listener).map(drop)
}

/// All listeners that are known, and how far each is.
pub fn cursors(tx: &impl Read) -> Result<Vec<(String, u64)>, Error> {
    let mut cursors = Vec::new();
    tx.scan(Table::EventCursors, b"", None, |key, value| {
        let name = Parts(key).text().ok_or_else(|| super::blobs::damaged_key(Table::EventCursors, "name"))?;
        cursors.push((name.to_owned(), codec::decode::<CursorRecord>(value)?.0));
        Ok(Scan::Continue)
    })?;
    Ok(cursors)
}

fn number_of(key: &[u8]) -> Result<u64, Error> {
    Parts(key).number().ok_or_else(|| super::blobs::damaged_key(Table::Events, "number"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fsio::{Disk, SimulatedDisk};
    use crate::metadata::{Metadata, Options};
    use crate::telemetry::StorageMetrics;

    fn metadata() -> Metadata {
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new());
        disk.create_dir("/data".as_ref()).unwrap();
        Metadata::open(&disk, "/data", Options::default(), StorageMetrics::default()).unwrap()
    }

    fn event(actor: &str) -> EventRecord {
        EventRecord {
            at: 7,
            id: [0; 16],
            action: Action::Push,
            target: EventTarget {
                kind: TargetKind::Repository,
                repository: "a".parse().unwrap(),
                digest: None,
                media_type: None,
                size: None,
                tag: None,
                from: None,
                references: Vec::new(),
            },
            actor: actor.to_owned(),
            request: None,
        }
    }

    #[test]
    fn a_read_of_large_events_ends_early_and_never_with_nothing() {
        let metadata = metadata();
        let large = "x".repeat(READ_BYTES);
        let write = move |tx: &WriteTx<'_>| {
            [&large, "y", "z", &large].iter().try_for_each(|actor| append(tx, &event(actor), 100))
        };
        metadata.write_blocking(write).unwrap();
        let read = |after| metadata.read(|tx| read(tx, after, 100)).unwrap();
        let numbers = |after| read(after).iter().map(|(number, _)| *number).collect::<Vec<_>>();
        assert_eq!((numbers(0), numbers(1), numbers(4)), (vec![1], vec![2, 3, 4], vec![]));
    }

    #[test]
    fn a_limit_that_was_lowered_is_kept_after_a_while() {
        let metadata = metadata();
        let count = |metadata: &Metadata| metadata.read(|tx| read(tx, 0, 1000)).unwrap().len();
        metadata.write_blocking(|tx| (0..20).try_for_each(|_| append(tx, &event("x"), 100))).unwrap();
        metadata.write_blocking(|tx| append(tx, &event("x"), 5)).unwrap();
        assert_eq!(count(&metadata), 19);
        let bounds = Bounds { taken: 0, not_before: 0, max_events: 5 };
        assert!(metadata.write_blocking(move |tx| trim(tx, &bounds, 10)).unwrap());
        assert!(!metadata.write_blocking(move |tx| trim(tx, &bounds, 10)).unwrap());
        assert_eq!(count(&metadata), 5);
    }
}
