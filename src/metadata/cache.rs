//! The row cache: rows that hot reads have met lately, as they lie in the tables.
//!
//! Where a read finds every row that it wants here, it needs no transaction. A row is here only while the table has the
//! same: a write takes each row that it touches out *before* its commit and keeps it out until that has happened, and a
//! read that began before the end of a change can't put what it saw back. So a hit is what a transaction begun at that
//! moment would have found, also between a commit and its answer.
//!
//! The signatures of a manifest are the exception: what is cached is the manifest with all of them, under the part of their
//! keys that they have in common, and a write of any of them takes it out.
//!
//! Above the rows lies what is made of several: a manifest as it is served, say. It is made by a look-up that notes which rows it has
//! met, and holds for as long as nothing in the parts of the tables that these are in has changed, which costs a hit one number per row and
//! no search.
//!
//! How a late reader is told: every change, at its begin and at its end, takes the next number of one sequence and leaves
//! it in the shard of its row, and in its part, of which there are many more. A read notes the sequence before its transaction
//! begins; what it saw is taken into a shard
//! only if no later number stands there, and if nobody is changing the very row.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use smallvec::SmallVec;

use super::Table;
use super::cached_rows::{CachedRows, Part, part_of};
use crate::telemetry::StorageMetrics;

/// Into how many parts, each with its own lock, the rows of small tables are divided.
const SHARDS: usize = 16;
/// The same for manifests: fewer, so that a large one has room in its part.
const PAYLOAD_SHARDS: usize = 4;
/// What a row costs besides its bytes.
const OVERHEAD: usize = 128;

/// How long the beginning is that the keys of a manifest's signatures have in common: its repository and canonical digest.
const SIGNED_MANIFEST: usize = 8 + 1 + 32;

/// How much is cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheOptions {
    /// The most rows of each small table: names, tags, revisions, links, blobs, digests, freshness. 0 caches none.
    pub descriptors: usize,
    /// The memory for manifests, in bytes: a quarter for their payloads, the rest for what is served. 0 caches none, and so
    /// does `descriptors` of 0.
    pub manifest_bytes: usize,
}

impl Default for CacheOptions {
    fn default() -> CacheOptions {
        CacheOptions { descriptors: 10_000, manifest_bytes: 32 << 20 }
    }
}

/// The caches of all tables that have one.
#[derive(Debug)]
pub(super) struct Caches {
    tables: [Option<CachedRows<Bytes>>; Table::ALL.len()],
    /// What is made of rows.
    made: CachedRows<Made>,
    /// The number of the last change.
    sequence: AtomicU64,
    is_on: AtomicBool,
    pub(super) metrics: StorageMetrics,
}

/// The moment before a read began: what it sees may be taken where nothing has changed since.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket(u64);

impl Caches {
    pub(super) fn new(options: CacheOptions, metrics: StorageMetrics) -> Caches {
        let CacheOptions { descriptors, manifest_bytes } = options;
        let tables = Table::ALL.map(|table| match table {
            _ if descriptors == 0 => None,
            Table::RepositoriesByName
            | Table::Blobs
            | Table::DigestAliases
            | Table::BlobLinks
            | Table::Manifests
            | Table::Tags
            | Table::Freshness => Some(CachedRows::new(SHARDS, descriptors, |_| 1)),
            Table::ManifestPayloads => (manifest_bytes > 0).then(|| {
                CachedRows::new(PAYLOAD_SHARDS, manifest_bytes / 4, |row: &Bytes| row.len() + OVERHEAD)
            }),
            Table::Meta
            | Table::RepositoriesById
            | Table::AliasesByDigest
            | Table::LinksByBlob
            | Table::RepositoriesByManifest
            | Table::ReferencesByChild
            | Table::TagsByManifest
            | Table::TagHistory
            | Table::ReferrersBySubject
            | Table::Uploads
            | Table::Signatures
            | Table::Events
            | Table::EventCursors
            | Table::Candidates
            | Table::Untagged
            | Table::Deletions
            | Table::DeletionsByExpiry
            | Table::DeletionsByRepository
            | Table::DeletedNames
            | Table::RepositorySizes
            | Table::Usage
            | Table::FormerNames
            | Table::HeldByHistory
            | Table::Damaged
            | Table::Fetches
            | Table::Users
            | Table::AccessTokens => None,
        });
        let made = CachedRows::new(SHARDS, manifest_bytes / 4 * 3, |made: &Made| made.weight);
        let is_on = AtomicBool::new(descriptors > 0);
        Caches { tables, made, sequence: AtomicU64::new(0), is_on, metrics }
    }

    /// Whether looking here first can help.
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Where the cache has a row, or what is made of it: signed manifests lie beside the payloads, whose keys are shorter.
    pub(super) fn place(table: Table, key: &[u8]) -> (Table, &[u8]) {
        if table == Table::Signatures {
            (Table::ManifestPayloads, &key[..key.len().min(SIGNED_MANIFEST)])
        } else {
            (table, key)
        }
    }

    /// Hands the row to `read`, if it is here.
    pub(super) fn get<R>(&self, table: Table, key: &[u8], read: impl FnOnce(&Bytes) -> R) -> Option<R> {
        let rows = self.tables[table as usize].as_ref()?.shard(key).read();
        rows.get(key).map(read)
    }

    /// What was made under this key, if everything is as it was then.
    pub(super) fn made(&self, key: &[u8]) -> Option<Arc<dyn Any + Send + Sync>> {
        let rows = self.made.shard(key).read();
        let made = rows.get(key)?;
        let is_unchanged = made.of.iter().all(|(table, part)| {
            let cache = self.tables[*table as usize].as_ref();
            cache.is_some_and(|cache| cache.changed(*part) <= made.ticket.0)
        });
        (is_unchanged && self.is_on()).then(|| Arc::clone(&made.value))
    }

    /// Keeps what the holder of `ticket` has made of these rows, unless one of them may have changed since.
    pub(super) fn keep(
        &self,
        ticket: Ticket,
        key: &[u8],
        rows: &[(Table, Vec<u8>)],
        value: Arc<dyn Any + Send + Sync>,
        weight: usize,
    ) {
        let mut of = SmallVec::new();
        for (table, key) in rows {
            let Some(cache) = &self.tables[*table as usize] else { return };
            let part = part_of(key);
            if cache.changed(part) > ticket.0 || cache.shard(key).read().changing.contains_key(key.as_slice())
            {
                return;
            }
            of.push((*table, part));
        }
        if self.is_on() {
            let weight = weight + OVERHEAD;
            let mut shard = self.made.shard(key).write();
            // One that holds no longer.
            shard.take(key);
            shard.put(key, Made { value, of, ticket, weight }, weight, self.made.room());
        }
    }

    /// To be taken before the transaction of a read begins.
    pub(super) fn ticket(&self) -> Ticket {
        Ticket(self.sequence.load(Ordering::SeqCst))
    }

    /// Whether rows of the table are worth a copy.
    pub(super) fn keeps(&self, table: Table) -> bool {
        self.tables[table as usize].is_some() && self.is_on()
    }

    /// Takes a row that the holder of `ticket` has read, unless it may have changed since.
    pub(super) fn fill(&self, ticket: Ticket, table: Table, key: &[u8], value: Bytes) {
        if let Some(cache) = self.tables[table as usize].as_ref().filter(|_| self.is_on()) {
            cache.fill(ticket.0, key, value);
        }
    }

    /// Takes the row out and keeps it out until the change is dropped, which has to be after the commit.
    pub(super) fn change(self: &Arc<Caches>, table: Table, key: &[u8]) -> Option<Change> {
        let (table, key) = Caches::place(table, key);
        let cache = self.tables[table as usize].as_ref()?;
        let key: Arc<[u8]> = key.into();
        let mut rows = cache.shard(&key).write();
        cache.note_change(&mut rows, &key, self.next());
        rows.take(&key);
        *rows.changing.entry(key.clone()).or_default() += 1;
        drop(rows);
        Some(Change { caches: self.clone(), table, key })
    }

    /// Forgets everything, what is being read included: the tables may be others than they were.
    pub(super) fn clear(&self) {
        for cache in self.tables.iter().flatten() {
            cache.clear(|| self.next());
        }
        self.made.clear(|| self.next());
    }

    /// Forgets everything for good.
    pub(super) fn close(&self) {
        self.is_on.store(false, Ordering::SeqCst);
        self.clear();
    }

    fn next(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// A row that is being changed; it stays out of the cache until this is dropped.
#[derive(Debug)]
pub(super) struct Change {
    caches: Arc<Caches>,
    table: Table,
    key: Arc<[u8]>,
}

impl Drop for Change {
    fn drop(&mut self) {
        let Some(cache) = self.caches.tables[self.table as usize].as_ref() else { return };
        let mut rows = cache.shard(&self.key).write();
        cache.note_change(&mut rows, &self.key, self.caches.next());
        if let Some(changes) = rows.changing.get_mut(&self.key) {
            *changes -= 1;
            if *changes == 0 {
                rows.changing.remove(&self.key);
            }
        }
    }
}

/// What is made of rows.
#[derive(Debug)]
struct Made {
    value: Arc<dyn Any + Send + Sync>,
    /// The parts of the tables that those rows are in: of a manifest under a tag, its name, tag, revision, digest and payload.
    of: SmallVec<[(Table, Part); 6]>,
    /// From before the first of them was read.
    ticket: Ticket,
    weight: usize,
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const TAGS: Table = Table::Tags;

    fn caches(descriptors: usize) -> Arc<Caches> {
        let options = CacheOptions { descriptors, manifest_bytes: 4 * 4096 };
        Arc::new(Caches::new(options, StorageMetrics::default()))
    }

    fn cached(caches: &Caches, key: &[u8]) -> Option<Bytes> {
        caches.get(TAGS, key, Bytes::clone)
    }

    /// What somebody does next in [`explore`].
    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// A read notes the sequence, sees the table, and fills.
        Ticket,
        See,
        Fill,
        /// A write takes the row out, commits its value (0 removes the row), and ends.
        Begin,
        Commit(u8),
        End,
    }

    /// One actor: its steps, and what it has in hand.
    #[derive(Debug, Clone, Default)]
    struct Actor {
        steps: Vec<Step>,
        ticket: Option<Ticket>,
        seen: Option<u8>,
    }

    /// Plays the actors in the order `schedule`, and checks after every step that the cache has what the table has.
    fn play(actors: &[Actor], schedule: &[usize]) {
        let caches = caches(8);
        let mut table: Option<u8> = Some(100);
        let mut actors = actors.to_vec();
        let mut changes: Vec<Vec<Change>> = actors.iter().map(|_| Vec::new()).collect();
        let mut next = vec![0; actors.len()];
        for &who in schedule {
            let actor = &mut actors[who];
            match actor.steps[next[who]] {
                Step::Ticket => actor.ticket = Some(caches.ticket()),
                Step::See => actor.seen = table,
                Step::Fill => {
                    if let (Some(ticket), Some(seen)) = (actor.ticket, actor.seen) {
                        caches.fill(ticket, TAGS, b"row", Bytes::copy_from_slice(&[seen]));
                    }
                }
                Step::Begin => changes[who].extend(caches.change(TAGS, b"row")),
                Step::Commit(value) => table = (value > 0).then_some(value),
                Step::End => changes[who].clear(),
            }
            next[who] += 1;
            let found = cached(&caches, b"row").map(|bytes| bytes[0]);
            assert!(found.is_none() || found == table, "{schedule:?}: {found:?} instead of {table:?}");
        }
    }

    /// Plays every order in which the actors can take their steps; returns how many there are.
    fn explore(actors: &[Actor]) -> usize {
        fn go(actors: &[Actor], taken: &mut Vec<usize>, schedule: &mut Vec<usize>, played: &mut usize) {
            let mut ended = true;
            for who in 0..actors.len() {
                if taken[who] < actors[who].steps.len() {
                    ended = false;
                    taken[who] += 1;
                    schedule.push(who);
                    go(actors, taken, schedule, played);
                    schedule.pop();
                    taken[who] -= 1;
                }
            }
            if ended {
                play(actors, schedule);
                *played += 1;
            }
        }
        let mut played = 0;
        go(actors, &mut vec![0; actors.len()], &mut Vec::new(), &mut played);
        played
    }

    fn actor(steps: &[Step]) -> Actor {
        Actor { steps: steps.to_vec(), ..Actor::default() }
    }

    #[test]
    fn whatever_the_order_of_reads_and_writes_the_cache_never_differs_from_the_table() {
        use Step::{Begin, Commit, End, Fill, See, Ticket};
        let read = actor(&[Ticket, See, Fill]);
        // There is one writer thread, whose transactions follow each other; a batch may touch a row twice.
        let writes = actor(&[Begin, Begin, Commit(1), End, Begin, Commit(0), End]);
        let played = explore(&[read.clone(), read, writes]);
        assert_eq!(played, 34_320, "13 steps of which 3, 3 and 7 are in order");
    }

    #[test]
    fn what_was_read_before_everything_was_forgotten_is_not_taken() {
        let caches = caches(8);
        let ticket = caches.ticket();
        caches.clear();
        caches.fill(ticket, TAGS, b"row", Bytes::from_static(b"old"));
        assert_eq!(cached(&caches, b"row"), None);
        caches.fill(caches.ticket(), TAGS, b"row", Bytes::from_static(b"new"));
        assert!(cached(&caches, b"row").is_some());
        caches.close();
        caches.fill(caches.ticket(), TAGS, b"row", Bytes::from_static(b"new"));
        assert_eq!(cached(&caches, b"row"), None);
    }

    #[test]
    fn rows_that_are_read_outlive_those_that_are_not() {
        let caches = caches(SHARDS * 4);
        let cache = caches.tables[TAGS as usize].as_ref().unwrap();
        let keys = (0..10_000_u16).map(u16::to_be_bytes);
        let in_one_shard = |key: &[u8; 2]| std::ptr::eq(cache.shard(key), cache.shard(&[0; 2]));
        let keys: Vec<_> = keys.filter(in_one_shard).take(100).collect();
        assert_eq!(keys.len(), 100);
        for key in &keys {
            caches.fill(caches.ticket(), TAGS, key, Bytes::copy_from_slice(key));
            assert!(cached(&caches, &keys[0]).is_some(), "lost after {key:?}");
        }
        assert_eq!(keys.iter().filter(|key| cached(&caches, *key).is_some()).count(), 4);
    }

    #[test]
    fn manifests_are_bounded_by_their_bytes() {
        let caches = caches(8);
        let room = 4096 / PAYLOAD_SHARDS;
        let put = |n: u8, len| {
            let value = Bytes::from(vec![n; len]);
            caches.fill(caches.ticket(), Table::ManifestPayloads, &[n], value);
            caches.get(Table::ManifestPayloads, &[n], |_| ()).is_some()
        };
        assert!(!put(0, room), "one that fills a shard is not taken");
        for n in 1..200 {
            assert!(put(n, room / 4));
        }
        let cache = caches.tables[Table::ManifestPayloads as usize].as_ref().unwrap();
        for n in 1..200 {
            let (weight, places) = cache.shard(&[n]).read().taken();
            assert!(weight <= room && places <= 4, "{weight}, {places}");
        }
    }

    proptest! {
        /// Against a plain map, with so little room that rows are dropped all the time.
        #[test]
        fn a_bounded_cache_agrees_with_a_map(
            steps in prop::collection::vec((0_u8..40, 0_u8..4, any::<u8>()), 1..400),
        ) {
            let caches = caches(SHARDS * 2);
            let mut table: HashMap<u8, u8> = HashMap::new();
            let mut open: Vec<Change> = Vec::new();
            for (row, action, value) in steps {
                let key = [row];
                match action {
                    0 => {
                        if let Some(&value) = table.get(&row) {
                            caches.fill(caches.ticket(), TAGS, &key, Bytes::copy_from_slice(&[value]));
                        }
                    }
                    1 => {
                        open.extend(caches.change(TAGS, &key));
                        table.insert(row, value);
                    }
                    2 => {
                        open.extend(caches.change(TAGS, &key));
                        table.remove(&row);
                    }
                    _ => open.clear(),
                }
                for row in 0..40 {
                    if let Some(found) = cached(&caches, &[row]) {
                        prop_assert_eq!(Some(&found[0]), table.get(&row));
                    }
                }
            }
        }
    }

    #[test]
    fn a_change_of_any_signature_takes_out_the_manifest_with_all_of_them() {
        let caches = caches(8);
        let (signed, other) = ([7; SIGNED_MANIFEST], [8; SIGNED_MANIFEST]);
        for manifest in [&signed, &other] {
            let (table, place) = Caches::place(Table::Signatures, manifest);
            caches.fill(caches.ticket(), table, place, Bytes::from_static(b"merged"));
        }
        let has = |manifest: &[u8]| {
            let (table, place) = Caches::place(Table::Signatures, manifest);
            caches.get(table, place, Bytes::clone).is_some()
        };
        let late = caches.ticket();
        let change = caches.change(Table::Signatures, &[&signed[..], b"key\0ES256"].concat());
        assert!(!has(&signed) && has(&other));
        drop(change);
        let (table, place) = Caches::place(Table::Signatures, &signed);
        caches.fill(late, table, place, Bytes::from_static(b"merged"));
        assert!(!has(&signed), "who began before the change can't bring it back");
    }

    #[test]
    fn what_was_made_of_rows_goes_with_any_of_them_and_comes_back_only_after_the_change() {
        let caches = caches(8);
        let rows = [(TAGS, b"row".to_vec()), (Table::Manifests, b"other".to_vec())];
        let keep = |ticket| caches.keep(ticket, b"made", &rows, Arc::new(7_u8), 0);
        let found = || caches.made(b"made").map(|made| *made.downcast::<u8>().unwrap());
        let late = caches.ticket();
        keep(late);
        assert_eq!(found(), Some(7));
        for (table, key) in &rows {
            let change = caches.change(*table, key);
            assert_eq!(found(), None, "{table:?} is being changed");
            keep(caches.ticket());
            assert_eq!(found(), None, "nobody knows yet what it will be");
            drop(change);
            assert_eq!(found(), None);
            keep(late);
            assert_eq!(found(), None, "who began before the change can't bring it back");
            keep(caches.ticket());
            assert_eq!(found(), Some(7));
        }
        caches.close();
        keep(caches.ticket());
        assert_eq!(found(), None);
    }

    #[test]
    fn what_was_made_outlives_changes_of_nearly_all_other_rows() {
        let caches = caches(8);
        let rows = [(TAGS, b"row".to_vec())];
        caches.keep(caches.ticket(), b"made", &rows, Arc::new(7_u8), 0);
        let mut gone = 0;
        for n in 0..1_000_u16 {
            drop(caches.change(TAGS, &n.to_be_bytes()));
            if caches.made(b"made").is_none() {
                gone += 1;
                caches.keep(caches.ticket(), b"made", &rows, Arc::new(7_u8), 0);
            }
        }
        assert!(gone < 10, "{gone} of 1,000 changes of other rows");
    }

    #[test]
    fn what_is_made_of_rows_that_nobody_watches_is_not_kept() {
        let caches = caches(8);
        caches.keep(caches.ticket(), b"made", &[(Table::Users, b"row".to_vec())], Arc::new(7_u8), 0);
        assert!(caches.made(b"made").is_none());
    }
}
