//! redb's storage on our file layer, so that one disk, real or simulated, holds blobs and metadata alike.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{Error, ErrorKind};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend as _;

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

/// The bytes that an [`Overlay`] keeps together.
const PAGE: usize = 4096;

/// A file that stays as it is: what redb writes is kept in memory and forgotten with the handle.
///
/// redb writes a little when it opens a file, which a full disk may refuse. What was committed can still be read this way.
#[derive(Debug)]
pub(super) struct Overlay {
    file: FileBackend,
    written: Mutex<Written>,
}

/// What differs from the file.
#[derive(Debug)]
struct Written {
    len: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl Overlay {
    /// Lays a new overlay over a file.
    pub(super) fn new(file: Box<dyn DiskFile>) -> Result<Overlay, Error> {
        let written = Mutex::new(Written { len: file.len()?, pages: BTreeMap::new() });
        Ok(Overlay { file: FileBackend(file), written })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of a page in the file, with zeros behind its end.
    fn page_of_file(&self, page: u64) -> Result<Box<[u8; PAGE]>, Error> {
        let mut bytes = Box::new([0; PAGE]);
        let start = page * PAGE as u64;
        let held = self.file.len()?.saturating_sub(start);
        let held = usize::try_from(held).unwrap_or(PAGE).min(PAGE);
        self.file.read(start, &mut bytes[..held])?;
        Ok(bytes)
    }
}

/// The pieces of a range that lie within one page: the page, where in it, and where in the range.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let start = usize::try_from(at % PAGE as u64).expect("less than a page");
        let size = (PAGE - start).min(len - done);
        done += size;
        (size > 0).then_some((at / PAGE as u64, start..start + size, done - size..done))
    })
}

impl redb::StorageBackend for Overlay {
    fn len(&self) -> Result<u64, Error> {
        Ok(self.written().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let written = self.written();
        if offset + out.len() as u64 > written.len {
            return Err(Error::from(ErrorKind::UnexpectedEof));
        }
        for (page, place, part) in pieces(offset, out.len()) {
            match written.pages.get(&page) {
                Some(bytes) => out[part].copy_from_slice(&bytes[place]),
                None => out[part].copy_from_slice(&self.page_of_file(page)?[place]),
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), Error> {
        let mut written = self.written();
        let (from, to) = (written.len.min(len), written.len.max(len));
        written.len = len;
        drop(written);
        // What is cut off, or grows back, reads as zeros.
        let zeros = [0; PAGE];
        for (page, place, _) in pieces(from, usize::try_from(to - from).unwrap_or(usize::MAX)) {
            self.write(page * PAGE as u64 + place.start as u64, &zeros[place])?;
        }
        self.written().len = len;
        Ok(())
    }

    fn sync_data(&self) -> Result<(), Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let mut written = self.written();
        for (page, place, part) in pieces(offset, data.len()) {
            let bytes = match written.pages.entry(page) {
                Entry::Occupied(held) => held.into_mut(),
                Entry::Vacant(free) => free.insert(self.page_of_file(page)?),
            };
            bytes[place].copy_from_slice(&data[part]);
        }
        written.len = written.len.max(offset + data.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsio::{Disk, SimulatedDisk};
    use redb::StorageBackend;
    use std::path::Path;

    #[test]
    fn an_overlay_shows_what_was_written_and_leaves_the_file_alone() {
        let disk = SimulatedDisk::new();
        let file = disk.create(Path::new("/f")).unwrap();
        file.write_at(&[1; 10_000], 0).unwrap();
        let operations = disk.operations();
        let overlay = Overlay::new(file).unwrap();
        overlay.write(4000, &[2; 200]).unwrap();
        overlay.set_len(4100).unwrap();
        overlay.set_len(12_000).unwrap();
        overlay.write(11_999, &[3]).unwrap();
        overlay.sync_data().unwrap();
        let mut expected = [[1; 4000].as_slice(), &[2; 100], &[0; 7900]].concat();
        expected[11_999] = 3;
        let mut read = vec![9; 12_000];
        overlay.read(0, &mut read).unwrap();
        assert!(read == expected);
        assert!(overlay.read(1, &mut read).is_err());
        assert_eq!(disk.operations(), operations);
    }
}
