//! The running disk behind all handles.

use super::image::Image;
use super::operation::{Inode, Operation, Place, ROOT};
use crate::fsio::disk::parent_of;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Component, Path, PathBuf};

/// The unit in which a file takes room.
const BLOCK: u64 = 4096;

/// What an operation is made to fail with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The disk has no room left.
    Full,
    /// The disk can't read or write its medium.
    InputOutput,
}

impl Fault {
    /// The error as the operating system would report it.
    fn error(self) -> io::Error {
        match self {
            Fault::Full => rustix::io::Errno::NOSPC.into(),
            Fault::InputOutput => rustix::io::Errno::IO.into(),
        }
    }
}

/// Everything that a [`SimulatedDisk`](super::SimulatedDisk) is and has been.
#[derive(Debug)]
pub(super) struct State {
    /// What the disk held durably at the start.
    pub(super) base: Image,
    /// What programs see.
    pub(super) live: Image,
    /// All operations since the start.
    pub(super) timeline: Vec<Operation>,
    /// The syncs among them.
    pub(super) syncs: u64,
    pub(super) ignored_syncs: BTreeSet<u64>,
    /// The operation that was, or will be, in flight when the power fails.
    pub(super) cut_at: Option<u64>,
    pub(super) faults: BTreeMap<u64, Fault>,
    /// From this operation on, nothing that takes room succeeds.
    pub(super) full_from: Option<u64>,
    /// Whether overwriting takes room too.
    pub(super) copies_on_write: bool,
    /// The blocks that have been written, in files of these inodes.
    allocated: BTreeSet<(Inode, u64)>,
    pub(super) capacity: Option<u64>,
    pub(super) has_unreadable_files: bool,
    next_inode: Inode,
    /// The last name of each node, for descriptions.
    names: HashMap<Inode, PathBuf>,
}

impl State {
    /// A disk that holds `image` durably.
    pub(super) fn holding(image: Image) -> State {
        State {
            live: image.clone(),
            next_inode: image.next_inode(),
            timeline: Vec::new(),
            syncs: 0,
            ignored_syncs: BTreeSet::new(),
            cut_at: None,
            faults: BTreeMap::new(),
            full_from: None,
            copies_on_write: false,
            allocated: image.allocated_blocks(BLOCK),
            capacity: None,
            has_unreadable_files: false,
            names: HashMap::new(),
            base: image,
        }
    }

    /// Whether the power has failed.
    pub(super) fn is_off(&self) -> bool {
        self.cut_at.is_some_and(|cut| self.timeline.len() as u64 >= cut)
    }

    /// Fails when the power has.
    pub(super) fn check_power(&self) -> io::Result<()> {
        if self.is_off() { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }

    /// Gives the next number to an operation and does it, unless a fault is due.
    pub(super) fn perform(&mut self, operation: Operation, grows_by: u64) -> io::Result<()> {
        self.check_power()?;
        let number = self.timeline.len() as u64 + 1;
        let is_beyond_capacity = grows_by > 0
            && self
                .capacity
                .is_some_and(|capacity| self.live.used_bytes().saturating_add(grows_by) > capacity);
        let is_full = is_beyond_capacity
            || self.full_from.is_some_and(|from| number >= from) && self.takes_room(&operation);
        let fault = self.faults.remove(&number).or(is_full.then_some(Fault::Full));
        if operation.is_sync() {
            self.syncs += 1;
        }
        if let Some(fault) = fault {
            self.timeline.push(match operation {
                Operation::SyncFile { file } => Operation::FailedSync { file },
                _ => Operation::Failed,
            });
            return Err(fault.error());
        }
        if self.cut_at != Some(number) {
            self.live.apply(&operation);
            self.allocated.extend(blocks(&operation));
        }
        self.timeline.push(operation);
        self.check_power()
    }

    /// A number for a new file or directory.
    pub(super) fn new_inode(&mut self) -> Inode {
        self.next_inode += 1;
        self.next_inode - 1
    }

    /// The node at a path.
    pub(super) fn find(&self, path: &Path) -> Option<Inode> {
        path.components().try_fold(ROOT, |dir, component| match component {
            Component::RootDir | Component::CurDir => Some(dir),
            Component::Normal(name) => {
                self.live.entries(dir)?.get(name.to_str().expect("tests use UTF-8 names")).copied()
            }
            Component::Prefix(_) | Component::ParentDir => panic!("a simulated path has no `..`"),
        })
    }

    /// The place that a path names, in a directory that exists.
    pub(super) fn place(&self, path: &Path) -> io::Result<Place> {
        let not_found = || io::Error::from(io::ErrorKind::NotFound);
        let name = path.file_name().ok_or_else(not_found)?;
        let dir = self.find(parent_of(path)).ok_or_else(not_found)?;
        self.live.entries(dir).ok_or_else(|| io::Error::from(io::ErrorKind::NotADirectory))?;
        Ok(Place { dir, name: name.to_str().expect("tests use UTF-8 names").to_owned() })
    }

    /// Remembers what a node is called.
    pub(super) fn name(&mut self, inode: Inode, path: &Path) {
        self.names.insert(inode, path.to_owned());
    }

    /// Says in a line what an operation did.
    pub(super) fn describe(&self, number: u64) -> String {
        let name =
            |inode: &Inode| self.names.get(inode).map_or("/".into(), |path| path.display().to_string());
        let place = |place: &Place| format!("{}/{}", name(&place.dir), place.name);
        let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        let what = match index.and_then(|index| self.timeline.get(index)) {
            Some(Operation::MakeDir { place: made, .. }) => format!("make directory {}", place(made)),
            Some(Operation::Create { place: made, .. }) => format!("create {}", place(made)),
            Some(Operation::Rename { from, to, .. }) => format!("rename {} to {}", place(from), place(to)),
            Some(Operation::Remove { place: removed, .. }) => format!("remove {}", place(removed)),
            Some(Operation::Write { file, offset, bytes }) => {
                format!("write {} bytes at {offset} of {}", bytes.len(), name(file))
            }
            Some(Operation::SetLen { file, len }) => format!("set the length of {} to {len}", name(file)),
            Some(Operation::SyncFile { file }) => format!("sync {}", name(file)),
            Some(Operation::SyncDir { dir }) => format!("sync directory {}", name(dir)),
            Some(Operation::FailedSync { file }) => format!("sync {}, which fails", name(file)),
            Some(Operation::Failed) => "something that fails".to_owned(),
            None => "nothing".to_owned(),
        };
        format!("{number}: {what}")
    }

    /// The operation that was sync `number`; 0 if there was no such sync.
    pub(super) fn operation_of_sync(&self, number: u64) -> u64 {
        let mut syncs = (1..).zip(&self.timeline).filter(|(_, operation)| operation.is_sync());
        let nth = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        nth.and_then(|nth| syncs.nth(nth)).map_or(0, |(operation, _)| operation)
    }

    /// The next operation that syncs what operation `number` synced, or the one that would come next.
    pub(super) fn next_sync_of_the_same(&self, number: u64) -> u64 {
        let synced = |operation: &Operation| match operation {
            Operation::SyncFile { file } => Some(*file),
            Operation::SyncDir { dir } => Some(*dir),
            _ => None,
        };
        let mut later = (1..).zip(&self.timeline).skip_while(|(at, _)| *at < number);
        let what = later.next().and_then(|(_, operation)| synced(operation));
        let next = later.find(|(_, operation)| what.is_some() && synced(operation) == what);
        next.map_or(self.timeline.len() as u64 + 1, |(at, _)| at)
    }

    fn takes_room(&self, operation: &Operation) -> bool {
        match operation {
            Operation::MakeDir { .. } | Operation::Create { .. } => true,
            Operation::SetLen { file, len } => {
                self.live.bytes(*file).is_some_and(|bytes| (bytes.len() as u64) < *len)
            }
            Operation::Write { .. } => {
                self.copies_on_write || blocks(operation).any(|block| !self.allocated.contains(&block))
            }
            Operation::Rename { .. }
            | Operation::Remove { .. }
            | Operation::SyncFile { .. }
            | Operation::SyncDir { .. }
            | Operation::FailedSync { .. }
            | Operation::Failed => false,
        }
    }
}

/// The blocks that an operation writes to.
fn blocks(operation: &Operation) -> impl Iterator<Item = (Inode, u64)> + use<> {
    let (file, range) = match operation {
        Operation::Write { file, offset, bytes } => {
            (*file, offset / BLOCK..(offset + bytes.len() as u64).div_ceil(BLOCK))
        }
        _ => (ROOT, 0..0),
    };
    range.map(move |block| (file, block))
}
