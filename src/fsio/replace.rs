//! Small files that are either old or new.

use super::disk::parent_of;
use super::error::Context;
use super::{Access, Disk, FileError};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
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

/// The same for a file that others read or have made: it keeps its mode and its owner, and a link stays one. A new file is for
/// its owner alone.
pub fn replace_shared(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let path = &match std::fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        found => found.context("find", path)?,
    };
    let dir = parent_of(path);
    let mut temporary = tempfile::NamedTempFile::new_in(dir).context("create a temporary file in", dir)?;
    temporary.write_all(bytes).context("write", temporary.path())?;
    if let Ok(former) = std::fs::metadata(path) {
        let file = temporary.as_file();
        let own = file.metadata().context("look at", temporary.path())?;
        if (own.uid(), own.gid()) != (former.uid(), former.gid()) {
            let owner = (Some(former.uid()), Some(former.gid()));
            std::os::unix::fs::fchown(file, owner.0, owner.1).context("keep the owner of", path)?;
        }
        file.set_permissions(former.permissions()).context("keep the mode of", path)?;
    }
    temporary.as_file().sync_all().context("sync", temporary.path())?;
    temporary.persist(path).map_err(|error| error.error).context("replace", path)?;
    File::open(dir).and_then(|dir| dir.sync_all()).context("sync directory", dir)
}

/// Replaces the content of a small file of `disk`, durably: after a crash it has the old bytes or the new ones. The
/// directory has one writer at a time.
pub fn replace_small(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let temporary = path.with_extension("new");
    // A crash may have left one.
    disk.remove(&temporary)?;
    let file = disk.create(&temporary)?;
    file.write_at(bytes, 0).context("write", &temporary)?;
    file.sync().context("sync", &temporary)?;
    drop(file);
    disk.rename(&temporary, path)?;
    disk.sync_dir(parent_of(path))
}

/// The content of a small file of `disk`; `None` if there is none. One of more than `limit` bytes is an error.
pub fn read_small(disk: &dyn Disk, path: &Path, limit: usize) -> Result<Option<Vec<u8>>, FileError> {
    let Some(file) = disk.open(path, Access::Read)? else { return Ok(None) };
    let mut bytes = vec![0; limit + 1];
    let mut filled = 0;
    loop {
        match file.read_at(&mut bytes[filled..], filled as u64).context("read", path)? {
            0 => break,
            read => filled += read,
        }
    }
    if filled > limit {
        let error = io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {limit} bytes"));
        return Err(FileError::new("read", path, error));
    }
    bytes.truncate(filled);
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::super::RealDisk;
    use super::*;

    #[test]
    fn a_small_file_is_replaced_and_read_up_to_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file.json");
        assert_eq!(read_small(&RealDisk, &path, 3).unwrap(), None);
        std::fs::write(dir.path().join("file.new"), b"left by a crash").unwrap();
        for bytes in [b"one", b"two"] {
            replace_small(&RealDisk, &path, bytes).unwrap();
            assert_eq!(read_small(&RealDisk, &path, 3).unwrap().unwrap(), bytes);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(read_small(&RealDisk, &path, 2).unwrap_err().to_string().contains("more than 2 bytes"));
    }

    #[test]
    fn a_shared_file_keeps_its_mode_and_a_link_stays_one() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("file"), dir.path().join("link"));
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        replace_shared(&path, b"one").unwrap();
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        replace_shared(&link, b"two").unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!((std::fs::read(&path).unwrap(), mode()), (b"two".to_vec(), 0o640));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

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
