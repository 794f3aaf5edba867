//! Bytes that come in one go and are needed in another order.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::error::Context;
use super::{FileError, SourceFile};

/// A file without a name: it is gone when it is closed, also when that is by a crash.
#[derive(Debug)]
pub struct Spool {
    file: File,
    dir: PathBuf,
}

impl Spool {
    /// Makes one on the file system of a directory.
    pub fn in_dir(dir: &Path) -> Result<Spool, FileError> {
        let file = tempfile::tempfile_in(dir).context("create a temporary file in", dir)?;
        Ok(Spool { file, dir: dir.to_owned() })
    }

    /// Adds bytes at its end.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.file.write_all(bytes).context("write a temporary file in", &self.dir)
    }

    /// What was written, to be read in any order, under a name for messages.
    pub fn into_source(self, name: &str) -> Result<SourceFile, FileError> {
        SourceFile::of(self.file, PathBuf::from(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::in_dir(dir.path()).unwrap();
        spool.write(b"one").unwrap();
        spool.write(b"two").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let file = spool.into_source("standard input").unwrap();
        assert_eq!((file.len(), file.read_all(6).unwrap()), (6, b"onetwo".to_vec()));
        assert_eq!(file.path(), Path::new("standard input"));
    }
}
