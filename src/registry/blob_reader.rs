//! Reading a blob.

use std::io;
use std::sync::Arc;

use crate::blobs::BlobFile;
use crate::clock::Timestamp;
use crate::fsio::ReadNow;
use crate::oci::Digest;

/// An open blob: reads at any offset, from any number of clones at once. Stays readable when the blob is deleted.
#[derive(Debug, Clone)]
pub struct BlobReader {
    file: Arc<BlobFile>,
    digest: Digest,
    size: u64,
    created_at: Timestamp,
}

impl BlobReader {
    pub(super) fn new(file: BlobFile, digest: Digest, size: u64, created_at: Timestamp) -> BlobReader {
        BlobReader { file: Arc::new(file), digest, size, created_at }
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
