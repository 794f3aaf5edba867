//! A copy that is whole or absent.

use super::disk::parent_of;
use super::error::Context;
use super::{Access, Disk, FileError};
use std::io;
use std::path::Path;

/// The bytes that are copied at a time.
const PIECE: usize = 1 << 20;

/// Copies a file to a new name, durably: after a crash at any moment `to` is the whole copy or what it was before.
pub fn copy_durable(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), FileError> {
    let Some(source) = disk.open(from, Access::Read)? else {
        return Err(FileError::new("open", from, io::ErrorKind::NotFound.into()));
    };
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    disk.remove(partial)?;
    let copy = disk.create(partial)?;
    let mut piece = vec![0; PIECE];
    let mut offset = 0;
    loop {
        let read = source.read_at(&mut piece, offset).context("read", from)?;
        if read == 0 {
            break;
        }
        copy.write_at(&piece[..read], offset).context("write", partial)?;
        offset += read as u64;
    }
    copy.sync().context("sync", partial)?;
    disk.rename(partial, to)?;
    disk.sync_dir(parent_of(to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsio::RealDisk;

    #[test]
    fn a_copy_has_the_same_bytes_and_replaces_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
        RealDisk.create(&from).unwrap().write_at(&bytes, 0).unwrap();
        RealDisk.create(&to).unwrap().write_at(b"old", 0).unwrap();
        copy_durable(&RealDisk, &from, &to).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), bytes);
        assert_eq!(RealDisk.list(dir.path()).unwrap().len(), 2);
        let absent = copy_durable(&RealDisk, &dir.path().join("absent"), &to).unwrap_err();
        assert_eq!((absent.operation, absent.source.kind()), ("open", io::ErrorKind::NotFound));
    }
}
