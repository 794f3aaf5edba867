//! An open file of the simulated disk.

use super::image::to_index;
use super::operation::{Inode, Operation};
use super::state::State;
use crate::fsio::{DiskFile, ReadNow};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A handle on a file, which works on after the file has lost its name.
pub(super) struct SimulatedFile {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) inode: Inode,
    pub(super) is_writable: bool,
}

impl SimulatedFile {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, operation: Operation, end: u64) -> io::Result<()> {
        if !self.is_writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut state = self.state();
        let held = state.live.bytes(self.inode).map_or(0, |bytes| bytes.len() as u64);
        state.perform(operation, end.saturating_sub(held))
    }
}

impl DiskFile for SimulatedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        self.change(Operation::Write { file: self.inode, offset, bytes: bytes.into() }, end)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.state();
        state.check_power()?;
        if state.has_unreadable_files {
            return Err(rustix::io::Errno::IO.into());
        }
        let bytes = state.live.bytes(self.inode).expect("a file's node is never taken away");
        let tail = bytes.get(to_index(offset)..).unwrap_or_default();
        let read = tail.len().min(buf.len());
        buf[..read].copy_from_slice(&tail[..read]);
        Ok(read)
    }

    fn read_at_now(&self, buf: &mut [u8], offset: u64) -> io::Result<ReadNow> {
        self.read_at(buf, offset).map(ReadNow::Read)
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.state();
        state.check_power()?;
        Ok(state.live.bytes(self.inode).map_or(0, |bytes| bytes.len() as u64))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Operation::SetLen { file: self.inode, len }, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.state().perform(Operation::SyncFile { file: self.inode }, 0)
    }

    fn start_writeback(&self, _offset: u64, _len: u64) {}
}

impl fmt::Debug for SimulatedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedFile").field("inode", &self.inode).finish_non_exhaustive()
    }
}
