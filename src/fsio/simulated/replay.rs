//! What a power cut leaves.

use super::SimulatedDisk;
use super::image::{Image, to_index};
use super::operation::{Inode, Operation, Place};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// The unit that a disk writes whole or not at all.
const SECTOR: u64 = 512;

/// The unit in which an operating system writes its memory back.
const PAGE: u64 = 4096;

/// A walk along the timeline of a [`SimulatedDisk`], which can cut the power at each step.
///
/// The program that wrote the timeline ran undisturbed; what the disk would have held had the power failed while
/// operation `n` was in flight follows from the operations alone, with and without any of the syncs. So one run of a
/// scenario is enough for all cuts of it.
#[derive(Debug, Clone)]
pub struct Replay {
    timeline: Arc<[Operation]>,
    ignored_syncs: BTreeSet<u64>,
    /// The operations that returned before the cut.
    completed: usize,
    syncs: u64,
    durable: Image,
    pending: Vec<Pending>,
}

/// A change that no sync has made durable.
#[derive(Debug, Clone)]
struct Pending {
    change: Change,
    /// Whether a failed sync has given it up: it may be on the disk, but no later sync puts it there.
    is_abandoned: bool,
}

#[derive(Debug, Clone)]
enum Change {
    Made(Operation),
    /// What remains of a rename whose target directory has been synced: the old name may come back.
    Unlink(Place, Inode),
}

/// How much of what is pending reaches the disk.
#[derive(Debug, Clone, Copy)]
enum Survival {
    Nothing,
    Everything,
    /// Names and lengths, as a disk does that journals these: files of zeros.
    NamesOnly,
    BytesOnly,
    /// Each sector and each name by chance: so many of eight.
    Some(u64),
}

impl Replay {
    /// Starts before the first operation, on a disk that holds `durable`.
    pub(super) fn new(durable: Image, timeline: Arc<[Operation]>, ignored_syncs: BTreeSet<u64>) -> Replay {
        Replay { timeline, ignored_syncs, completed: 0, syncs: 0, durable, pending: Vec::new() }
    }

    /// Leaves out the sync with this number, as if the program had forgotten it; to be called before the start.
    #[must_use]
    pub fn ignoring_sync(mut self, number: u64) -> Replay {
        self.ignored_syncs.insert(number);
        self
    }

    /// The operations that have been completed; the next one is in flight.
    pub fn completed(&self) -> u64 {
        self.completed as u64
    }

    /// Completes the operation in flight; `false` at the end of the timeline.
    pub fn advance(&mut self) -> bool {
        let timeline = Arc::clone(&self.timeline);
        let Some(operation) = timeline.get(self.completed) else { return false };
        self.completed += 1;
        self.durable.make_node(operation);
        if operation.is_sync() {
            self.syncs += 1;
            if self.ignored_syncs.contains(&self.syncs) {
                return true;
            }
        }
        match operation {
            Operation::SyncFile { file } => self.sync_file(*file),
            Operation::SyncDir { dir } => self.sync_dir(*dir),
            Operation::FailedSync { file } => self.abandon(*file),
            Operation::Failed => {}
            Operation::MakeDir { .. }
            | Operation::Create { .. }
            | Operation::Rename { .. }
            | Operation::Remove { .. }
            | Operation::Write { .. }
            | Operation::SetLen { .. } => self.pending.push(Pending::new(Change::Made(operation.clone()))),
        }
        true
    }

    /// Goes on until `completed` operations have returned, or to the end.
    pub fn advance_to(&mut self, completed: u64) {
        while self.completed() < completed && self.advance() {}
    }

    /// The disk as it is found after the power failed while the next operation was in flight.
    ///
    /// The seed decides which of the unsynced changes survive: of each eight seeds the first four keep nothing,
    /// everything, only names and lengths, only bytes; the others choose sector by sector and name by name.
    #[must_use]
    pub fn reboot(&self, seed: u64) -> SimulatedDisk {
        let mut dice = Chance(seed);
        let survival = match seed % 8 {
            0 => Survival::Nothing,
            1 => Survival::Everything,
            2 => Survival::NamesOnly,
            3 => Survival::BytesOnly,
            4 => Survival::Some(1),
            5 => Survival::Some(7),
            _ => Survival::Some(4),
        };
        let mut image = self.durable.clone();
        for pending in &self.pending {
            persist(&mut image, &pending.change, survival, &mut dice);
        }
        if let Some(operation) = self.timeline.get(self.completed) {
            image.make_node(operation);
            persist(&mut image, &Change::Made(operation.clone()), survival, &mut dice);
        }
        SimulatedDisk::holding(image)
    }

    fn sync_file(&mut self, synced: Inode) {
        let (of_file, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|pending| pending.change.file() == Some(synced));
        self.pending = others;
        // Memory is written back by pages: a new write takes along what a failed sync gave up on the same page.
        let written_back: BTreeSet<u64> = of_file
            .iter()
            .filter(|pending| !pending.is_abandoned)
            .flat_map(|pending| pending.change.pages())
            .collect();
        for pending in of_file {
            match &pending.change {
                Change::Made(_)
                    if pending.is_abandoned
                        && pending.change.pages().all(|page| !written_back.contains(&page)) =>
                {
                    self.pending.push(pending);
                }
                Change::Made(operation) => self.durable.apply(operation),
                Change::Unlink(..) => {}
            }
        }
    }

    fn abandon(&mut self, synced: Inode) {
        for pending in std::mem::take(&mut self.pending) {
            match &pending.change {
                Change::Made(Operation::Write { file, offset, bytes }) if *file == synced => {
                    for (offset, bytes) in pieces(*offset, bytes, PAGE) {
                        let write = Operation::Write { file: *file, offset, bytes: bytes.into() };
                        self.pending.push(Pending { change: Change::Made(write), is_abandoned: true });
                    }
                }
                Change::Made(_) | Change::Unlink(..) => self.pending.push(pending),
            }
        }
    }

    fn sync_dir(&mut self, synced: Inode) {
        for pending in std::mem::take(&mut self.pending) {
            match &pending.change {
                Change::Made(
                    operation @ (Operation::MakeDir { place, .. }
                    | Operation::Create { place, .. }
                    | Operation::Remove { place, .. }),
                ) if place.dir == synced => self.durable.apply(operation),
                Change::Made(operation @ Operation::Rename { from, .. }) if from.dir == synced => {
                    self.durable.apply(operation);
                }
                Change::Made(Operation::Rename { from, to, moved }) if to.dir == synced => {
                    self.durable.link(to, *moved);
                    self.pending.push(Pending::new(Change::Unlink(from.clone(), *moved)));
                }
                Change::Unlink(place, moved) if place.dir == synced => self.durable.unlink(place, *moved),
                Change::Made(_) | Change::Unlink(..) => self.pending.push(pending),
            }
        }
    }
}

impl Pending {
    fn new(change: Change) -> Pending {
        Pending { change, is_abandoned: false }
    }
}

impl Change {
    /// The pages of memory that the change touches.
    fn pages(&self) -> Range<u64> {
        match self {
            Change::Made(Operation::Write { offset, bytes, .. }) => {
                offset / PAGE..(offset + bytes.len() as u64).div_ceil(PAGE)
            }
            Change::Made(_) | Change::Unlink(..) => 0..0,
        }
    }

    /// The file whose sync makes this change durable.
    fn file(&self) -> Option<Inode> {
        match self {
            Change::Made(Operation::Write { file, .. } | Operation::SetLen { file, .. }) => Some(*file),
            Change::Made(_) | Change::Unlink(..) => None,
        }
    }
}

/// Lets as much of a change reach the disk as chance will have it.
fn persist(image: &mut Image, change: &Change, survival: Survival, dice: &mut Chance) {
    match change {
        Change::Made(Operation::Write { file, offset, bytes }) => {
            if survival.of_names(dice) {
                let end = offset + bytes.len() as u64;
                if image.bytes(*file).is_some_and(|held| (held.len() as u64) < end) {
                    image.set_len(*file, end);
                }
            }
            for (offset, sector) in pieces(*offset, bytes, SECTOR) {
                if survival.of_bytes(dice) {
                    image.write(*file, offset, sector);
                }
            }
        }
        Change::Made(operation) => {
            if survival.of_names(dice) {
                image.apply(operation);
            }
        }
        Change::Unlink(place, moved) => {
            if survival.of_names(dice) {
                image.unlink(place, *moved);
            }
        }
    }
}

/// Cuts a write at the multiples of `unit`.
fn pieces(mut offset: u64, mut bytes: &[u8], unit: u64) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        let room = to_index(unit - offset % unit);
        let (piece, rest) = bytes.split_at(room.min(bytes.len()));
        let start = offset;
        offset += piece.len() as u64;
        bytes = rest;
        (!piece.is_empty()).then_some((start, piece))
    })
}

impl Survival {
    fn of_names(self, dice: &mut Chance) -> bool {
        match self {
            Survival::Nothing | Survival::BytesOnly => false,
            Survival::Everything | Survival::NamesOnly => true,
            Survival::Some(eighths) => dice.next() % 8 < eighths,
        }
    }

    fn of_bytes(self, dice: &mut Chance) -> bool {
        match self {
            Survival::Nothing | Survival::NamesOnly => false,
            Survival::Everything | Survival::BytesOnly => true,
            Survival::Some(eighths) => dice.next() % 8 < eighths,
        }
    }
}

/// Repeatable chance (`SplitMix64`).
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
