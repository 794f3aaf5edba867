//! A directory tree of somebody else's, which is read and never changed.
//!
//! No symbolic link below its root is followed, so that nothing outside of it can be read by one. Directories are read some
//! entries at a time, however many there are.

use super::FileError;
use super::error::Context;
use crate::clock::Timestamp;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, StatxFlags, openat, statat, statx};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The root of a tree.
#[derive(Debug)]
pub struct SourceTree {
    root: OwnedFd,
    path: PathBuf,
}

/// A file of a tree, open for reading.
#[derive(Debug)]
pub struct SourceFile {
    pub(super) file: File,
    path: PathBuf,
    len: u64,
    modified_at: Timestamp,
}

/// What an entry of a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A file of bytes.
    File,
    /// A symbolic link, which is not followed.
    SymbolicLink,
    /// A device, a pipe or a socket.
    Other,
}

impl EntryKind {
    fn of(kind: FileType) -> EntryKind {
        match kind {
            FileType::Directory => EntryKind::Directory,
            FileType::RegularFile => EntryKind::File,
            FileType::Symlink => EntryKind::SymbolicLink,
            _ => EntryKind::Other,
        }
    }
}

/// An entry of a directory of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceEntry {
    /// Its name, which may be no text.
    pub name: OsString,
    /// What it is.
    pub kind: EntryKind,
}

/// The entries of a directory in no particular order.
#[derive(Debug)]
pub struct SourceEntries {
    entries: Dir,
    path: PathBuf,
}

impl SourceTree {
    /// Opens a directory, to which symbolic links may lead; `None` if there is none.
    pub fn open(path: &Path) -> Result<Option<SourceTree>, FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        found(openat(CWD, path, flags, Mode::empty()))
            .map(|root| root.map(|root| SourceTree { root, path: path.to_owned() }))
            .context("open", path)
    }

    /// The tree below one of its directories, which is named with `/`; `None` if there is none.
    pub fn below(&self, below: &str) -> Result<Option<SourceTree>, FileError> {
        let path = self.path_of(below);
        let opened = self.descend(below, OFlags::RDONLY | OFlags::DIRECTORY);
        opened.map(|root| root.map(|root| SourceTree { root, path: path.clone() })).context("open", &path)
    }

    /// Where the root is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where something below it is.
    pub fn path_of(&self, below: &str) -> PathBuf {
        self.path.join(below)
    }

    /// Opens a file; `None` if there is none.
    pub fn file(&self, below: &str) -> Result<Option<SourceFile>, FileError> {
        let path = self.path_of(below);
        let opened = self.descend(below, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY);
        match opened.context("open", &path)? {
            Some(file) => SourceFile::of(File::from(file), path).map(Some),
            None => Ok(None),
        }
    }

    /// The length of a file; `None` if there is no file of that name.
    pub fn len(&self, below: &str) -> Result<Option<u64>, FileError> {
        let path = self.path_of(below);
        let Some(file) = self.descend(below, OFlags::PATH).context("stat", &path)? else { return Ok(None) };
        let found = statx(&file, c"", AtFlags::EMPTY_PATH, StatxFlags::SIZE | StatxFlags::TYPE);
        let found = found.map_err(io::Error::from).context("stat", &path)?;
        let is_file = FileType::from_raw_mode(u32::from(found.stx_mode)) == FileType::RegularFile;
        Ok(is_file.then_some(found.stx_size))
    }

    /// Whether there is a directory of that name.
    pub fn has_directory(&self, below: &str) -> Result<bool, FileError> {
        let path = self.path_of(below);
        match self.descend(below, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(found) => Ok(found.is_some()),
            Err(error) if error.raw_os_error() == Some(Errno::NOTDIR.raw_os_error()) => Ok(false),
            Err(error) => Err(FileError::new("open", &path, error)),
        }
    }

    /// The entries of a directory, that of the root where nothing is named; `None` if there is none.
    pub fn list(&self, below: &str) -> Result<Option<SourceEntries>, FileError> {
        let path = self.path_of(below);
        let opened = self.descend(below, OFlags::RDONLY | OFlags::DIRECTORY).context("list", &path)?;
        let Some(directory) = opened else { return Ok(None) };
        let entries = Dir::new(directory).map_err(io::Error::from).context("list", &path)?;
        Ok(Some(SourceEntries { entries, path }))
    }

    /// Opens what is below the root, one component after the other, none of which may be a symbolic link.
    fn descend(&self, below: &str, flags: OFlags) -> io::Result<Option<OwnedFd>> {
        let mut components = below.split('/').filter(|component| !component.is_empty()).peekable();
        let mut directory: Option<OwnedFd> = None;
        if components.peek().is_none() {
            return found(openat(&self.root, c".", flags | OFlags::CLOEXEC, Mode::empty()));
        }
        while let Some(component) = components.next() {
            if matches!(component, "." | "..") {
                return Err(io::Error::other("it leads out of its directory"));
            }
            let is_last = components.peek().is_none();
            let kind = if is_last { flags } else { OFlags::PATH | OFlags::DIRECTORY };
            let parent = directory.as_ref().unwrap_or(&self.root);
            let all = kind | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = openat(parent, component, all, Mode::empty());
            // A link can be opened as a path, without being followed.
            let is_refused = matches!(opened, Err(Errno::LOOP | Errno::NOTDIR));
            if is_refused || (is_last && kind.contains(OFlags::PATH)) {
                let found = statat(parent, component, AtFlags::SYMLINK_NOFOLLOW);
                if found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Symlink) {
                    return Err(io::Error::other("it is a symbolic link, and none is followed"));
                }
            }
            match found(opened)? {
                Some(opened) => directory = Some(opened),
                None => return Ok(None),
            }
        }
        Ok(directory)
    }
}

/// What was opened; `None` if there is nothing of that name.
fn found<T>(opened: rustix::io::Result<T>) -> io::Result<Option<T>> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl SourceFile {
    /// Opens a file by itself, to which symbolic links may lead; `None` if there is none.
    pub fn open(path: &Path) -> Result<Option<SourceFile>, FileError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match found(openat(CWD, path, flags, Mode::empty())).context("open", path)? {
            Some(file) => SourceFile::of(File::from(file), path.to_owned()).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn of(file: File, path: PathBuf) -> Result<SourceFile, FileError> {
        let metadata = file.metadata().context("stat", &path)?;
        if !metadata.is_file() {
            return Err(FileError::new("open", &path, io::Error::other("it is no file")));
        }
        let modified = metadata.modified().context("stat", &path)?;
        let since_epoch = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let modified_at = Timestamp::from_millis(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX));
        Ok(SourceFile { file, path, len: metadata.len(), modified_at })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length when it was opened, in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it had no bytes when it was opened.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// When its bytes were changed last.
    pub fn modified_at(&self) -> Timestamp {
        self.modified_at
    }

    /// Reads up to `buf.len()` bytes; none only at the end of the file.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, FileError> {
        loop {
            match self.file.read_at(buf, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read.context("read", &self.path),
            }
        }
    }

    /// Reads all of it; one of more than `limit` bytes is an error.
    pub fn read_all(&self, limit: usize) -> Result<Vec<u8>, FileError> {
        let too_long = || {
            let error = io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {limit} bytes"));
            FileError::new("read", &self.path, error)
        };
        let len = usize::try_from(self.len).ok().filter(|len| *len <= limit).ok_or_else(too_long)?;
        let mut bytes = vec![0; len + 1];
        let mut filled = 0;
        loop {
            match self.read_at(&mut bytes[filled..], filled as u64)? {
                0 => break,
                read => filled += read,
            }
            if filled > len {
                // It has grown meanwhile.
                return Err(too_long());
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

impl Iterator for SourceEntries {
    type Item = Result<SourceEntry, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = match self.entries.read()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(FileError::new("list", &self.path, error.into()))),
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let mut kind = entry.file_type();
            if kind == FileType::Unknown {
                // A file system that doesn't keep the kind in the directory.
                let looked = self.entries.fd().and_then(|fd| statat(fd, name, AtFlags::SYMLINK_NOFOLLOW));
                kind = match looked {
                    Ok(found) => FileType::from_raw_mode(found.st_mode),
                    Err(Errno::NOENT) => continue,
                    Err(error) => return Some(Err(FileError::new("stat", &self.path, error.into()))),
                };
            }
            let name = OsString::from_vec(name.to_bytes().to_vec());
            return Some(Ok(SourceEntry { name, kind: EntryKind::of(kind) }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn message<T>(result: Result<T, FileError>) -> String {
        result.err().map_or_else(|| "no error".to_owned(), |error| error.to_string())
    }

    #[test]
    fn a_tree_is_listed_and_its_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/file"), b"some bytes").unwrap();
        let tree = SourceTree::open(dir.path()).unwrap().unwrap();
        let file = tree.file("a/b/file").unwrap().unwrap();
        assert_eq!((file.len(), file.read_all(10).unwrap()), (10, b"some bytes".to_vec()));
        assert!(message(file.read_all(9)).contains("more than 9 bytes"));
        assert!(file.modified_at().millis() > 1_600_000_000_000);
        assert_eq!(tree.len("a/b/file").unwrap(), Some(10));
        assert_eq!(tree.len("a/b").unwrap(), None);
        let entries: Vec<_> = tree.list("a").unwrap().unwrap().map(Result::unwrap).collect();
        assert_eq!(entries, [SourceEntry { name: "b".into(), kind: EntryKind::Directory }]);
        assert_eq!(tree.list("").unwrap().unwrap().count(), 1);
        assert!(tree.below("a").unwrap().unwrap().file("b/file").unwrap().is_some());
        assert!(tree.has_directory("a/b").unwrap() && !tree.has_directory("a/b/file").unwrap());
        for absent in ["c", "a/c/d"] {
            assert!(tree.file(absent).unwrap().is_none() && tree.list(absent).unwrap().is_none());
            assert!(tree.len(absent).unwrap().is_none() && !tree.has_directory(absent).unwrap());
        }
        assert!(SourceTree::open(&dir.path().join("c")).unwrap().is_none());
        assert!(message(tree.file("a/b")).contains("it is no file"));
        assert!(message(tree.file("a/../a/b/file")).contains("leads out"));
    }

    #[test]
    fn no_symbolic_link_below_the_root_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("real/sub")).unwrap();
        fs::write(dir.path().join("real/sub/file"), b"bytes").unwrap();
        symlink("real", dir.path().join("root")).unwrap();
        symlink("sub", dir.path().join("real/directory")).unwrap();
        symlink("sub/file", dir.path().join("real/link")).unwrap();
        let tree = SourceTree::open(&dir.path().join("root")).unwrap().unwrap();
        assert!(tree.file("sub/file").unwrap().is_some(), "the root itself may be one");
        for result in [
            message(tree.file("link")),
            message(tree.file("directory/file")),
            message(tree.len("link")),
            message(tree.list("directory")),
            message(tree.below("directory")),
        ] {
            assert!(result.contains("symbolic link"), "{result}");
        }
        let mut kinds: Vec<_> = tree.list("").unwrap().unwrap().map(|entry| entry.unwrap().kind).collect();
        kinds.sort_by_key(|kind| *kind == EntryKind::SymbolicLink);
        assert_eq!(kinds, [EntryKind::Directory, EntryKind::SymbolicLink, EntryKind::SymbolicLink]);
    }

    #[test]
    fn a_pipe_is_no_file_and_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
        let tree = SourceTree::open(dir.path()).unwrap().unwrap();
        assert!(message(tree.file("pipe")).contains("it is no file"));
    }
}
