//! Rows in memory, in shards of which each has its lock; where there is no room, those go that weren't read since the last time round.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use foldhash::{HashMap, HashMapExt};

/// Into how many parts the rows of a table are divided for those who want to know whether something has changed.
const PARTS: usize = 1024;

/// One of these parts.
pub(super) type Part = u16;

/// A number that all bytes of a key decide: names, tags and digests of one kind begin, or end, alike.
fn mixed(key: &[u8]) -> usize {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mixed = key.chunks(8).fold(0_u64, |mixed, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (mixed.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR)
    });
    usize::try_from(mixed >> 32).expect("32 bits fit")
}

/// In which part a key is.
pub(super) fn part_of(key: &[u8]) -> Part {
    Part::try_from(mixed(key) % PARTS).expect("there are fewer parts")
}

/// What is cached of one table, or under other keys.
#[derive(Debug)]
pub(super) struct CachedRows<V> {
    shards: Box<[Shard<V>]>,
    /// For each part, the number of the last change in it: many more than shards, so that a change ends little of what was made of
    /// other rows.
    parts: Box<[AtomicU64]>,
    /// The most that the rows of one shard may weigh.
    room: usize,
    weigh: fn(&V) -> usize,
}

#[derive(Debug)]
pub(super) struct Shard<V>(RwLock<Rows<V>>);

/// The rows of one shard, and who is changing which.
#[derive(Debug)]
pub(super) struct Rows<V> {
    places: HashMap<Arc<[u8]>, usize>,
    slots: Vec<Option<Slot<V>>>,
    free: Vec<usize>,
    /// Where the search for a row to drop goes on.
    hand: usize,
    weight: usize,
    /// How many changes of a row are under way.
    pub(super) changing: HashMap<Arc<[u8]>, usize>,
    /// The number of the last change in this shard.
    changed: u64,
}

#[derive(Debug)]
struct Slot<V> {
    key: Arc<[u8]>,
    value: V,
    weight: usize,
    /// Whether it was read since the hand passed; such a row is spared once.
    used: AtomicBool,
}

impl<V> CachedRows<V> {
    /// Into so many shards, each with its own lock, which together have room for so much.
    pub(super) fn new(shards: usize, room: usize, weigh: fn(&V) -> usize) -> CachedRows<V> {
        CachedRows {
            shards: std::iter::repeat_with(|| Shard(RwLock::default())).take(shards).collect(),
            parts: std::iter::repeat_with(AtomicU64::default).take(PARTS).collect(),
            room: (room / shards).max(1),
            weigh,
        }
    }

    /// The most that the rows of one shard may weigh.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    pub(super) fn shard(&self, key: &[u8]) -> &Shard<V> {
        &self.shards[mixed(key) % self.shards.len()]
    }

    /// The number of the last change in a part.
    pub(super) fn changed(&self, part: Part) -> u64 {
        self.parts[usize::from(part)].load(Ordering::SeqCst)
    }

    /// Notes the number of a change of a row, before it happens and after it has; `rows` are those of its shard.
    pub(super) fn note_change(&self, rows: &mut Rows<V>, key: &[u8], number: u64) {
        rows.changed = number;
        self.parts[usize::from(part_of(key))].store(number, Ordering::SeqCst);
    }

    /// Forgets everything, and what is being read too; who is changing what goes on.
    pub(super) fn clear(&self, next: impl Fn() -> u64) {
        for shard in &self.shards {
            let mut rows = shard.write();
            let changing = std::mem::take(&mut rows.changing);
            *rows = Rows { changing, changed: next(), ..Rows::default() };
        }
        for part in &self.parts {
            part.store(next(), Ordering::SeqCst);
        }
    }

    /// Takes what somebody has read who began at that number, unless it may have changed since.
    pub(super) fn fill(&self, began: u64, key: &[u8], value: V) {
        let mut rows = self.shard(key).write();
        if rows.changed > began || rows.changing.contains_key(key) || rows.places.contains_key(key) {
            return;
        }
        let weight = (self.weigh)(&value);
        rows.put(key, value, weight, self.room);
    }
}

impl<V> Shard<V> {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Rows<V>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Rows<V>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Default for Rows<V> {
    fn default() -> Rows<V> {
        Rows {
            places: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            hand: 0,
            weight: 0,
            changing: HashMap::new(),
            changed: 0,
        }
    }
}

impl<V> Rows<V> {
    pub(super) fn get(&self, key: &[u8]) -> Option<&V> {
        let slot = self.slots[*self.places.get(key)?].as_ref()?;
        if !slot.used.load(Ordering::Relaxed) {
            slot.used.store(true, Ordering::Relaxed);
        }
        Some(&slot.value)
    }

    /// Puts a row into a place that nobody has, for which others go where there is no room.
    pub(super) fn put(&mut self, key: &[u8], value: V, weight: usize, room: usize) {
        // One row must not empty half a shard.
        if room > 1 && weight > room / 2 {
            return;
        }
        while self.weight + weight > room && self.drop_one() {}
        let key: Arc<[u8]> = key.into();
        self.weight += weight;
        let slot = Some(Slot { key: key.clone(), value, weight, used: AtomicBool::new(false) });
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[place] = slot;
        self.places.insert(key, place);
    }

    pub(super) fn take(&mut self, key: &[u8]) {
        if let Some(place) = self.places.remove(key) {
            self.vacate(place);
        }
    }

    /// What the rows weigh, and how many places they have had at once.
    #[cfg(test)]
    pub(super) fn taken(&self) -> (usize, usize) {
        (self.weight, self.slots.len())
    }

    fn vacate(&mut self, place: usize) {
        if let Some(slot) = self.slots[place].take() {
            self.weight -= slot.weight;
            self.free.push(place);
        }
    }

    /// Drops the next row that was not read since the hand last passed; says whether there was a row at all.
    fn drop_one(&mut self) -> bool {
        if self.places.is_empty() {
            return false;
        }
        loop {
            let place = self.hand % self.slots.len();
            self.hand = place + 1;
            let Some(slot) = &self.slots[place] else { continue };
            if slot.used.swap(false, Ordering::Relaxed) {
                continue;
            }
            let key = slot.key.clone();
            self.take(&key);
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_end_alike_spread_over_all_shards() {
        let mut count = [0; 16];
        for n in 0..1_600 {
            let key = format!("team/app-{n}\0release-2026-11");
            count[usize::from(part_of(key.as_bytes()) % 16)] += 1;
        }
        assert!(count.iter().all(|&count| (50..200).contains(&count)), "{count:?}");
    }
}
