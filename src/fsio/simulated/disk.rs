//! The disk itself.

use super::file::SimulatedFile;
use super::image::{Image, Node};
use super::operation::Operation;
use super::replay::Replay;
use super::state::{Fault, State};
use crate::fsio::error::Context;
use crate::fsio::{Access, DirectoryLock, Disk, DiskFile, Entry, FileError};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A disk in memory for testing durability; clones are handles on the same disk.
///
/// Operations and syncs are numbered from 1, in the order in which they happened. Run a scenario on it, then walk its
/// [`replay`](SimulatedDisk::replay) and reboot at every step; or let the power fail, or the disk fill up, under the
/// running program.
#[derive(Clone)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
    locked: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Default for SimulatedDisk {
    fn default() -> SimulatedDisk {
        SimulatedDisk::holding(Image::empty())
    }
}

impl SimulatedDisk {
    /// An empty disk.
    pub fn new() -> SimulatedDisk {
        SimulatedDisk::default()
    }

    /// A disk that holds `image` durably.
    pub(super) fn holding(image: Image) -> SimulatedDisk {
        SimulatedDisk { state: Arc::new(Mutex::new(State::holding(image))), locked: Arc::default() }
    }

    /// The operations so far: all that change something, and all syncs.
    pub fn operations(&self) -> u64 {
        self.state().timeline.len() as u64
    }

    /// The syncs so far, of files and directories.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Says in a line what an operation did.
    pub fn describe(&self, number: u64) -> String {
        self.state().describe(number)
    }

    /// Says in a line what a sync was of.
    pub fn describe_sync(&self, number: u64) -> String {
        let state = self.state();
        state.describe(state.operation_of_sync(number))
    }

    /// The operations during which a cut can tell whether sync `number` happened: those behind it, up to the next sync of
    /// the same file or directory.
    pub fn sync_window(&self, number: u64) -> RangeInclusive<u64> {
        let state = self.state();
        let first = state.operation_of_sync(number);
        first + 1..=state.next_sync_of_the_same(first)
    }

    /// Lets the power fail while operation `number` is in flight: it and everything after it fails.
    pub fn cut_power_at(&self, number: u64) {
        self.state().cut_at = Some(number);
    }

    /// Turns sync `number` into a lie: it answers success and makes nothing durable.
    pub fn ignore_sync(&self, number: u64) {
        self.state().ignored_syncs.insert(number);
    }

    /// Lets operation `number` fail without doing anything.
    pub fn fail_at(&self, number: u64, fault: Fault) {
        self.state().faults.insert(number, fault);
    }

    /// Lets everything that takes room fail from operation `number` on; overwriting what was written takes none.
    pub fn fill_up_at(&self, number: u64) {
        self.state().full_from = Some(number);
    }

    /// Lets overwriting take room too, as on file systems that copy what they change.
    pub fn copy_on_write(&self) {
        self.state().copies_on_write = true;
    }

    /// Limits the bytes of all files together; `None` lifts every limit, [`fill_up_at`](SimulatedDisk::fill_up_at) too.
    pub fn set_capacity(&self, capacity: Option<u64>) {
        let mut state = self.state();
        state.capacity = capacity;
        if capacity.is_none() {
            state.full_from = None;
        }
    }

    /// Lets all reads of files fail, or succeed again.
    pub fn set_unreadable(&self, is_unreadable: bool) {
        self.state().has_unreadable_files = is_unreadable;
    }

    /// The timeline so far, to be walked along.
    pub fn replay(&self) -> Replay {
        let state = self.state();
        Replay::new(state.base.clone(), state.timeline.as_slice().into(), state.ignored_syncs.clone())
    }

    /// The disk as it is found after the power failed, at the operation that was asked for or else now.
    ///
    /// See [`Replay::reboot`] for the seed. This disk stays as it was.
    #[must_use]
    pub fn reboot(&self, seed: u64) -> SimulatedDisk {
        let mut replay = self.replay();
        let completed = self.state().cut_at.map_or(u64::MAX, |cut| cut.saturating_sub(1));
        replay.advance_to(completed);
        replay.reboot(seed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, inode: u64, is_writable: bool) -> Box<dyn DiskFile> {
        Box::new(SimulatedFile { state: Arc::clone(&self.state), inode, is_writable })
    }
}

impl Disk for SimulatedDisk {
    fn make_dir(&self, dir: &Path) -> Result<bool, FileError> {
        let mut state = self.state();
        let mut make = || {
            state.check_power()?;
            if let Some(found) = state.find(dir) {
                return match state.live.entries(found) {
                    Some(_) => Ok(false),
                    None => Err(io::ErrorKind::AlreadyExists.into()),
                };
            }
            let place = state.place(dir)?;
            let made = state.new_inode();
            state.name(made, dir);
            state.perform(Operation::MakeDir { place, made }, 0)?;
            Ok(true)
        };
        make().context("create directory", dir)
    }

    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>, FileError> {
        let mut state = self.state();
        let mut create = || {
            state.check_power()?;
            let place = state.place(path)?;
            if state.live.lookup(&place).is_some() {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            let made = state.new_inode();
            state.name(made, path);
            state.perform(Operation::Create { place, made }, 0)?;
            Ok(made)
        };
        create().map(|made| self.handle(made, true)).context("create", path)
    }

    fn open(&self, path: &Path, access: Access) -> Result<Option<Box<dyn DiskFile>>, FileError> {
        let state = self.state();
        state.check_power().context("open", path)?;
        match state.find(path) {
            None => Ok(None),
            Some(inode) if state.live.bytes(inode).is_some() => {
                Ok(Some(self.handle(inode, access == Access::Write)))
            }
            Some(_) => Err(FileError::new("open", path, io::ErrorKind::IsADirectory.into())),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        let mut state = self.state();
        let mut rename = || {
            state.check_power()?;
            let (from, to_place) = (state.place(from)?, state.place(to)?);
            let moved = state.live.lookup(&from).ok_or(io::ErrorKind::NotFound)?;
            state.name(moved, to);
            state.perform(Operation::Rename { from, to: to_place, moved }, 0)
        };
        rename().context("rename", from)
    }

    fn remove(&self, path: &Path) -> Result<bool, FileError> {
        let mut state = self.state();
        let mut remove = || {
            state.check_power()?;
            let Some(removed) = state.find(path) else { return Ok(false) };
            if state.live.bytes(removed).is_none() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            let place = state.place(path)?;
            state.perform(Operation::Remove { place, removed }, 0)?;
            Ok(true)
        };
        remove().context("remove", path)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), FileError> {
        let mut state = self.state();
        let mut sync = || {
            state.check_power()?;
            let dir = state.find(dir).ok_or(io::ErrorKind::NotFound)?;
            state.perform(Operation::SyncDir { dir }, 0)
        };
        sync().context("sync directory", dir)
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>, FileError> {
        let state = self.state();
        state.check_power().context("list", dir)?;
        let entries = state.find(dir).and_then(|dir| state.live.entries(dir));
        let entry = |(name, inode): (&String, &u64)| match state.live.node(*inode) {
            Some(Node::File(bytes)) => Entry { name: name.clone(), is_dir: false, len: bytes.len() as u64 },
            Some(Node::Dir(_)) | None => Entry { name: name.clone(), is_dir: true, len: 0 },
        };
        Ok(entries.into_iter().flatten().map(entry).collect())
    }

    fn len(&self, path: &Path) -> Result<Option<u64>, FileError> {
        let state = self.state();
        state.check_power().context("stat", path)?;
        let bytes = state.find(path).and_then(|inode| state.live.bytes(inode));
        Ok(bytes.map(|bytes| bytes.len() as u64))
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64, FileError> {
        let state = self.state();
        state.check_power().context("stat file system of", dir)?;
        let is_full = state.full_from.is_some_and(|from| state.timeline.len() as u64 + 1 >= from);
        Ok(match state.capacity {
            _ if is_full => 0,
            Some(capacity) => capacity.saturating_sub(state.live.used_bytes()),
            None => u64::MAX / 2,
        })
    }

    fn lock(&self, dir: &Path) -> Result<Option<DirectoryLock>, FileError> {
        let mut locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        if !locked.insert(dir.to_owned()) {
            return Ok(None);
        }
        Ok(Some(DirectoryLock::holding(Unlock { dir: dir.to_owned(), locked: Arc::clone(&self.locked) })))
    }
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedDisk").field("operations", &self.operations()).finish_non_exhaustive()
    }
}

/// Gives a directory's lock back when dropped.
struct Unlock {
    dir: PathBuf,
    locked: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Drop for Unlock {
    fn drop(&mut self) {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.dir);
    }
}
