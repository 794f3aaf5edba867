//! Small files that are either old or new.

use super::FileError;
use super::disk::parent_of;
use super::error::Context;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Replaces the content of a small file of this machine, durably: after a crash it has the old bytes or the new ones.
pub fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let dir = parent_of(path);
    let mut temporary = tempfile::NamedTempFile::new_in(dir).context("create a temporary file in", dir)?;
    temporary.write_all(bytes).context("write", temporary.path())?;
    temporary.as_file().sync_all().context("sync", temporary.path())?;
    temporary.persist(path).map_err(|error| error.error).context("replace", path)?;
    File::open(dir).and_then(|dir| dir.sync_all()).context("sync directory", dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_has_the_new_bytes_and_no_leftovers_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace_file(&path, b"one").unwrap();
        replace_file(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
