//! The bytes of a published blob.

use crate::fsio::{DiskFile, ReadNow};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// An open blob, which stays readable after its removal; clones share the open file.
#[derive(Debug, Clone)]
pub struct BlobFile {
    file: Arc<dyn DiskFile>,
    len: u64,
    /// Shared by the store: set once its file system has said that it can't read without waiting.
    waits_always: Arc<AtomicBool>,
}

impl BlobFile {
    /// The blob in `file`, which never changes.
    pub(super) fn new(file: Arc<dyn DiskFile>, waits_always: Arc<AtomicBool>) -> io::Result<BlobFile> {
        let len = file.len()?;
        Ok(BlobFile { file, len, waits_always })
    }

    /// The length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether this is the blob of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads up to `buf.len()` bytes; blocks while the disk is busy.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    /// Reads what is in memory and never waits; see [`ReadNow`].
    pub fn read_at_now(&self, buf: &mut [u8], offset: u64) -> io::Result<ReadNow> {
        if self.waits_always.load(Ordering::Relaxed) {
            return Ok(ReadNow::Unsupported);
        }
        let read = self.file.read_at_now(buf, offset)?;
        if read == ReadNow::Unsupported {
            self.waits_always.store(true, Ordering::Relaxed);
        }
        Ok(read)
    }
}
