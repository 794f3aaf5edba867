//! Reading a blob.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use super::BlobDescriptor;
use super::readers::Reading;
use crate::blobs::BlobFile;
use crate::clock::Timestamp;
use crate::fsio::ReadNow;
use crate::oci::Digest;

/// An open blob: reads at any offset, from any number of clones at once. Stays readable when the blob is deleted.
///
/// For code that wants a stream it is [`Read`] and [`Seek`] too; each clone has a position of its own, the original's when
/// it was made. These block.
#[derive(Debug, Clone)]
pub struct BlobReader {
    file: Arc<BlobFile>,
    digest: Digest,
    size: u64,
    created_at: Timestamp,
    /// What keeps a cached blob from being evicted.
    _reading: Option<Arc<Reading>>,
    /// Where the next [`Read`] begins.
    position: u64,
}

impl BlobReader {
    pub(super) fn new(file: BlobFile, blob: &BlobDescriptor, reading: Option<Reading>) -> BlobReader {
        let BlobDescriptor { digest, size, created_at, .. } = *blob;
        let reading = reading.map(Arc::new);
        BlobReader { file: Arc::new(file), digest, size, created_at, _reading: reading, position: 0 }
    }

    /// The canonical digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// When the blob was published.
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// Reads what is in memory, without ever waiting for the disk.
    pub fn read_at_now(&self, buffer: &mut [u8], offset: u64) -> io::Result<ReadNow> {
        self.file.read_at_now(buffer, offset)
    }

    /// Reads, waiting for the disk where needed; 0 at the end. Blocks.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for BlobReader {
    /// A position behind the end is allowed, and reads nothing there.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(distance) => self.size.checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        let before_the_start = || io::Error::new(io::ErrorKind::InvalidInput, "before the blob's first byte");
        self.position = position.ok_or_else(before_the_start)?;
        Ok(self.position)
    }
}
