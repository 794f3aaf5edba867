//! Files and directories for people, which appear when they are whole and never before.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile, TempDir};

use super::FileError;
use super::disk::parent_of;
use super::error::Context;

/// A file that is being written under a temporary name beside its own. Dropping it leaves nothing.
#[derive(Debug)]
pub struct PendingFile {
    temporary: NamedTempFile,
    path: PathBuf,
    replaces: bool,
}

impl PendingFile {
    /// Begins a file, which others may read as the process's mask says. Fails where there is something already, unless it
    /// `replaces` that.
    pub fn create(path: &Path, replaces: bool) -> Result<PendingFile, FileError> {
        refuse_present(path, replaces)?;
        let dir = parent_of(path);
        let mut builder = Builder::new();
        let builder = builder.prefix(".orlop-").suffix(".partial").permissions(Permissions::from_mode(0o666));
        let temporary = builder.tempfile_in(dir).context("create a temporary file in", dir)?;
        Ok(PendingFile { temporary, path: path.to_owned(), replaces })
    }

    /// Makes it durable and gives it its name; one that somebody else has made meanwhile stays.
    pub fn finish(self) -> Result<(), FileError> {
        self.temporary.as_file().sync_all().context("sync", self.temporary.path())?;
        let named = if self.replaces {
            self.temporary.persist(&self.path).map_err(|error| error.error)
        } else {
            self.temporary.persist_noclobber(&self.path).map_err(|error| error.error)
        };
        named.context("name", &self.path)?;
        sync_dir(parent_of(&self.path))
    }
}

impl Write for PendingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temporary.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A directory that is being written under a temporary name beside its own. Dropping it leaves nothing.
#[derive(Debug)]
pub struct PendingDirectory {
    temporary: TempDir,
    path: PathBuf,
    replaces: bool,
    /// The directories in it, the outermost first.
    made: Vec<PathBuf>,
}

impl PendingDirectory {
    /// Begins a directory. Fails where there is something already, unless it `replaces` that.
    pub fn create(path: &Path, replaces: bool) -> Result<PendingDirectory, FileError> {
        refuse_present(path, replaces)?;
        let dir = parent_of(path);
        let mut builder = Builder::new();
        let builder = builder.prefix(".orlop-").suffix(".partial").permissions(Permissions::from_mode(0o777));
        let temporary = builder.tempdir_in(dir).context("create a temporary directory in", dir)?;
        let made = vec![temporary.path().to_owned()];
        Ok(PendingDirectory { temporary, path: path.to_owned(), replaces, made })
    }

    /// Makes a directory in it, whose parent is there.
    pub fn make_dir(&mut self, below: &Path) -> Result<(), FileError> {
        let path = self.temporary.path().join(below);
        fs::create_dir(&path).context("create", &path)?;
        self.made.push(path);
        Ok(())
    }

    /// Begins a file in it.
    pub fn create_file(&self, below: &Path) -> Result<PendingPart, FileError> {
        let path = self.temporary.path().join(below);
        let file = File::create_new(&path).context("create", &path)?;
        Ok(PendingPart { file, path })
    }

    /// Makes it durable and gives it its name.
    pub fn finish(self) -> Result<(), FileError> {
        for made in &self.made {
            sync_dir(made)?;
        }
        refuse_present(&self.path, self.replaces)?;
        let parent = parent_of(&self.path);
        // A directory with something in it can't be renamed over.
        let former = if fs::symlink_metadata(&self.path).is_ok() {
            let aside = Builder::new().prefix(".orlop-").suffix(".former").tempdir_in(parent);
            let aside = aside.context("create a temporary directory in", parent)?;
            fs::rename(&self.path, aside.path().join("former")).context("move aside", &self.path)?;
            Some(aside)
        } else {
            None
        };
        let whole = self.temporary.keep();
        if let Err(error) = fs::rename(&whole, &self.path) {
            if let Some(former) = former {
                // What was there stays, as far as it can.
                let _ = fs::rename(former.path().join("former"), &self.path);
            }
            let _ = fs::remove_dir_all(&whole);
            return Err(FileError::new("name", &self.path, error));
        }
        sync_dir(parent)
    }
}

/// A file of a directory that is being written.
#[derive(Debug)]
pub struct PendingPart {
    file: File,
    path: PathBuf,
}

impl PendingPart {
    /// Adds bytes at its end.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.file.write_all(bytes).context("write", &self.path)
    }

    /// Makes its bytes durable.
    pub fn finish(self) -> Result<(), FileError> {
        self.file.sync_all().context("sync", &self.path)
    }
}

fn refuse_present(path: &Path, replaces: bool) -> Result<(), FileError> {
    if !replaces && fs::symlink_metadata(path).is_ok() {
        let error = io::Error::new(io::ErrorKind::AlreadyExists, "it is there already");
        return Err(FileError::new("write", path, error));
    }
    Ok(())
}

fn sync_dir(dir: &Path) -> Result<(), FileError> {
    File::open(dir).and_then(|dir| dir.sync_all()).context("sync directory", dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_when_it_is_whole_and_takes_nobodys_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut file = PendingFile::create(&path, false).unwrap();
        file.write_all(b"some").unwrap();
        assert!(!path.exists());
        drop(file);
        assert_eq!(names(dir.path()), [""; 0], "one that is given up leaves nothing");
        let mut file = PendingFile::create(&path, false).unwrap();
        file.write_all(b"whole").unwrap();
        let late = PendingFile::create(&path, false).unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert!(PendingFile::create(&path, false).is_err());
        assert!(late.finish().is_err(), "it came while the other one was written");
        let mut file = PendingFile::create(&path, true).unwrap();
        file.write_all(b"new").unwrap();
        file.finish().unwrap();
        assert_eq!((fs::read(&path).unwrap(), names(dir.path())), (b"new".to_vec(), vec!["file".to_owned()]));
    }

    #[test]
    fn a_directory_appears_when_it_is_whole_and_takes_nobodys_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("layout");
        let begin = |replaces, bytes: &[u8]| {
            let mut pending = PendingDirectory::create(&path, replaces)?;
            pending.make_dir(Path::new("a"))?;
            let mut file = pending.create_file(Path::new("a/file"))?;
            file.write(bytes)?;
            file.finish().map(|()| pending)
        };
        drop(begin(false, b"one").unwrap());
        assert_eq!(names(dir.path()), [""; 0]);
        begin(false, b"one").unwrap().finish().unwrap();
        assert!(begin(false, b"two").is_err());
        assert_eq!(fs::read(path.join("a/file")).unwrap(), b"one");
        begin(true, b"three").unwrap().finish().unwrap();
        assert_eq!(fs::read(path.join("a/file")).unwrap(), b"three");
        assert_eq!(names(dir.path()), ["layout"]);
    }
}
