//! Files that only grow.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::FileError;
use super::error::Context;

/// Opens a file of this machine for adding to its end, and makes it, for its owner alone, where there is none.
pub fn append_to(path: &Path) -> Result<File, FileError> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).context("open", path)
}

/// The same for a file that is there already.
pub fn append_to_present(path: &Path) -> Result<File, FileError> {
    OpenOptions::new().append(true).open(path).context("open", path)
}
