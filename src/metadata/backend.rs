//! redb's storage on our file layer, so that one disk, real or simulated, holds blobs and metadata alike.

use std::io::{Error, ErrorKind};

use crate::fsio::DiskFile;

/// One open file as redb's storage. No other process has it open: the data directory's lock sees to that.
#[derive(Debug)]
pub(super) struct FileBackend(pub(super) Box<dyn DiskFile>);

impl redb::StorageBackend for FileBackend {
    fn len(&self) -> Result<u64, Error> {
        self.0.len()
    }

    fn read(&self, mut offset: u64, mut out: &mut [u8]) -> Result<(), Error> {
        while !out.is_empty() {
            let read = self.0.read_at(out, offset)?;
            if read == 0 {
                return Err(Error::from(ErrorKind::UnexpectedEof));
            }
            offset += read as u64;
            out = &mut out[read..];
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> Result<(), Error> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.0.write_at(data, offset)
    }
}
