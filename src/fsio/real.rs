//! The disk of the operating system.

use super::aligned::ALIGNMENT;
use super::error::Context;
use super::{Access, Adoption, DirectoryLock, Disk, DiskFile, Entry, FileError, ReadNow, SourceFile};
use rustix::fs::{Advice, AtFlags, CWD, OFlags, ioctl_ficlone, linkat};
use rustix::io::{Errno, ReadWriteFlags};
use std::collections::BinaryHeap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn make_dir(&self, dir: &Path) -> Result<bool, FileError> {
        match DirBuilder::new().mode(0o700).create(dir) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(false),
            Err(error) => Err(FileError::new("create directory", dir, error)),
        }
    }

    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>, FileError> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
        Ok(Box::new(RealFile::new(file.context("create", path)?, path)))
    }

    fn open(&self, path: &Path, access: Access) -> Result<Option<Box<dyn DiskFile>>, FileError> {
        match OpenOptions::new().read(true).write(access == Access::Write).open(path) {
            Ok(file) => Ok(Some(Box::new(RealFile::new(file, path)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FileError::new("open", path, error)),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        std::fs::rename(from, to).context("rename", from)
    }

    fn remove(&self, path: &Path) -> Result<bool, FileError> {
        match std::fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(FileError::new("remove", path, error)),
        }
    }

    fn adopt(&self, source: &SourceFile, to: &Path, how: Adoption) -> Result<bool, FileError> {
        let (operation, adopted) = match how {
            Adoption::Clone => {
                let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
                let copy = created.context("create", to)?;
                ("clone", ioctl_ficlone(&copy, &source.file))
            }
            Adoption::Link => {
                // The file that is open, whatever has its name by now.
                let open = format!("/proc/self/fd/{}", source.file.as_raw_fd());
                ("link", linkat(CWD, open, CWD, to, AtFlags::SYMLINK_FOLLOW))
            }
        };
        let Err(error) = adopted else { return Ok(true) };
        if how == Adoption::Clone {
            self.remove(to)?;
        }
        match error {
            // Another file system, one that can't, a file of somebody else's, or no /proc.
            Errno::XDEV
            | Errno::OPNOTSUPP
            | Errno::NOTTY
            | Errno::INVAL
            | Errno::NOSYS
            | Errno::PERM
            | Errno::ACCESS
            | Errno::MLINK
            | Errno::NOENT => Ok(false),
            error => Err(FileError::new(operation, to, error.into())),
        }
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), FileError> {
        File::open(dir).and_then(|dir| dir.sync_all()).context("sync directory", dir)
    }

    fn list(&self, dir: &Path) -> Result<Vec<Entry>, FileError> {
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(FileError::new("list", dir, error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.context("list", dir)?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Removed since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(FileError::new("stat", &entry.path(), error)),
            };
            let name = entry.file_name().to_string_lossy().into_owned();
            found.push(Entry { name, is_dir: metadata.is_dir(), len: metadata.len() });
        }
        Ok(found)
    }

    fn list_after(&self, dir: &Path, after: &str, limit: usize) -> Result<Vec<Entry>, FileError> {
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(FileError::new("list", dir, error)),
        };
        // The smallest names so far, the greatest of them at the top.
        let mut names = BinaryHeap::new();
        for entry in entries {
            let name = entry.context("list", dir)?.file_name().to_string_lossy().into_owned();
            if name.as_str() > after && (names.len() < limit || names.peek().is_some_and(|last| name < *last))
            {
                names.push(name);
                if names.len() > limit {
                    names.pop();
                }
            }
        }
        let mut found = Vec::with_capacity(names.len());
        for name in names.into_sorted_vec() {
            let path = dir.join(&name);
            match std::fs::symlink_metadata(&path) {
                Ok(metadata) => found.push(Entry { name, is_dir: metadata.is_dir(), len: metadata.len() }),
                // Removed since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(FileError::new("stat", &path, error)),
            }
        }
        Ok(found)
    }

    fn links(&self, path: &Path) -> Result<u64, FileError> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(metadata.nlink()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(1),
            Err(error) => Err(FileError::new("stat", path, error)),
        }
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<bool, FileError> {
        let Err(error) = std::fs::hard_link(from, to) else { return Ok(true) };
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            // Another file system, one that can't, a file of somebody else's, or one with as many names as it may have.
            Some(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM | Errno::MLINK) => Ok(false),
            _ => Err(FileError::new("link", to, error)),
        }
    }

    fn len(&self, path: &Path) -> Result<Option<u64>, FileError> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FileError::new("stat", path, error)),
        }
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64, FileError> {
        let stat = rustix::fs::statvfs(dir).map_err(io::Error::from).context("stat file system of", dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, dir: &Path) -> Result<Option<DirectoryLock>, FileError> {
        DirectoryLock::acquire(dir)
    }

    fn remove_dir(&self, dir: &Path) -> Result<bool, FileError> {
        std::fs::remove_dir(dir).context("remove directory", dir).map(|()| true)
    }

    fn sync_all(&self, dir: &Path) -> Result<(), FileError> {
        let synced = File::open(dir).and_then(|dir| Ok(rustix::fs::syncfs(&dir)?));
        synced.context("sync the file system of", dir)
    }

    fn clone_file(&self, from: &Path, to: &Path) -> Result<bool, FileError> {
        let source = File::open(from).context("open", from)?;
        let copy =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).context("create", to)?;
        if rustix::fs::ioctl_ficlone(&copy, &source).is_ok() {
            return Ok(true);
        }
        // Another file system, or one that shares no blocks; a disk that fails says so again when the file is read.
        self.remove(to)?;
        Ok(false)
    }

    fn symlink(&self, target: &str, path: &Path) -> Result<(), FileError> {
        std::os::unix::fs::symlink(target, path).context("link", path)
    }
}

/// An open file of [`RealDisk`].
#[derive(Debug)]
struct RealFile {
    file: File,
    /// Where it was when it was opened; files are written before they are renamed.
    path: PathBuf,
    /// The same file for writes that leave the page cache alone, opened by the first of them; `None` where the file
    /// system knows no such writes.
    direct: OnceLock<Option<File>>,
}

impl RealFile {
    fn new(file: File, path: &Path) -> RealFile {
        RealFile { file, path: path.to_owned(), direct: OnceLock::new() }
    }

    /// Writes as much as can be written directly, and returns how much that was: nothing unless memory and offset are
    /// aligned, and no more than whole pages.
    ///
    /// The pages of a large upload would be copied, written back and thrown out again; that costs more than the hash.
    fn write_directly(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let is_aligned =
            bytes.as_ptr().align_offset(ALIGNMENT) == 0 && offset.is_multiple_of(ALIGNMENT as u64);
        let bytes = &bytes[..bytes.len() - bytes.len() % ALIGNMENT];
        if !is_aligned || bytes.is_empty() {
            return Ok(0);
        }
        let open = || {
            let flags = OFlags::DIRECT.bits().cast_signed();
            OpenOptions::new().write(true).custom_flags(flags).open(&self.path).ok()
        };
        let Some(direct) = self.direct.get_or_init(open) else { return Ok(0) };
        let mut written = 0;
        while written < bytes.len() && written.is_multiple_of(ALIGNMENT) {
            match direct.write_at(&bytes[written..], offset + written as u64) {
                Ok(0) => break,
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A disk with larger sectors, or a file system that opens such files and can't write them.
                Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }
}

impl DiskFile for RealFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let written = self.write_directly(bytes, offset)?;
        self.file.write_all_at(&bytes[written..], offset + written as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.file.read_at(buf, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    fn read_at_now(&self, buf: &mut [u8], offset: u64) -> io::Result<ReadNow> {
        loop {
            let read =
                rustix::io::preadv2(&self.file, &mut [IoSliceMut::new(buf)], offset, ReadWriteFlags::NOWAIT);
            return match read {
                Ok(read) => Ok(ReadNow::Read(read)),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Ok(ReadNow::NotInMemory),
                // tmpfs and overlayfs; a kernel before 4.14; a sandbox that knows no such call.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(ReadNow::Unsupported),
                Err(error) => Err(error.into()),
            };
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        // `sync_file_range` has no safe wrapper. On Linux this advice starts the write-back of the range's dirty pages
        // without waiting for it, and drops only those pages that are clean already; a failure costs time only.
        let _ = rustix::fs::fadvise(&self.file, offset, NonZeroU64::new(len), Advice::DontNeed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::AlignedBuffer;
    use super::*;

    #[test]
    fn a_file_of_another_tree_is_linked_or_cloned_or_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("source"), b"some bytes").unwrap();
        let source =
            super::super::SourceTree::open(dir.path()).unwrap().unwrap().file("source").unwrap().unwrap();
        let linked = dir.path().join("linked");
        assert!(RealDisk.adopt(&source, &linked, Adoption::Link).unwrap());
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
        assert_eq!(inode(&linked), inode(source.path()));
        let taken = RealDisk.adopt(&source, &linked, Adoption::Link).unwrap_err();
        assert_eq!(taken.source.kind(), io::ErrorKind::AlreadyExists);
        // Whether there are clones is the file system's to say.
        let cloned = dir.path().join("cloned");
        if RealDisk.adopt(&source, &cloned, Adoption::Clone).unwrap() {
            assert_eq!(std::fs::read(&cloned).unwrap(), b"some bytes");
            assert_ne!(inode(&cloned), inode(source.path()));
        } else {
            assert!(!cloned.exists());
        }
        let elsewhere = Path::new("/proc/self/linked");
        assert!(!RealDisk.adopt(&source, elsewhere, Adoption::Link).unwrap());
    }

    #[test]
    fn a_directory_is_listed_page_by_page_and_a_second_name_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let names = |after: &str, limit| {
            let entries = RealDisk.list_after(dir.path(), after, limit).unwrap();
            entries.into_iter().map(|entry| format!("{} {}", entry.name, entry.len)).collect::<Vec<_>>()
        };
        for name in ["d", "b", "e", "a", "c"] {
            RealDisk.create(&dir.path().join(name)).unwrap().write_at(name.as_bytes(), 0).unwrap();
        }
        assert_eq!(names("", 2), ["a 1", "b 1"]);
        assert_eq!(names("b", 2), ["c 1", "d 1"]);
        assert_eq!(names("d", 2), ["e 1"]);
        assert_eq!(names("e", 2), [""; 0]);
        assert_eq!(RealDisk.list_after(&dir.path().join("nowhere"), "", 2).unwrap(), []);
        let (a, f) = (dir.path().join("a"), dir.path().join("f"));
        assert_eq!(RealDisk.links(&a).unwrap(), 1);
        assert!(RealDisk.hard_link(&a, &f).unwrap());
        assert_eq!(
            (RealDisk.links(&a).unwrap(), RealDisk.links(&dir.path().join("nowhere")).unwrap()),
            (2, 1)
        );
        assert!(RealDisk.hard_link(&a, &f).is_err(), "it is there");
    }

    #[test]
    fn a_file_is_written_read_renamed_listed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("a/b");
        RealDisk.create_dir(&sub).unwrap();
        RealDisk.create_dir(&sub).unwrap();
        let path = sub.join("file");
        assert!(RealDisk.open(&path, Access::Read).unwrap().is_none());
        let file = RealDisk.create(&path).unwrap();
        assert_eq!(RealDisk.create(&path).unwrap_err().source.kind(), io::ErrorKind::AlreadyExists);
        file.write_at(b"hello world", 0).unwrap();
        file.start_writeback(0, 11);
        file.sync().unwrap();
        let mut buf = [0; 32];
        assert_eq!(file.read_at(&mut buf, 6).unwrap(), 5);
        assert_eq!(&buf[..5], b"world");
        file.set_len(5).unwrap();
        assert_eq!((file.len().unwrap(), RealDisk.len(&path).unwrap()), (5, Some(5)));

        let moved = sub.join("moved");
        RealDisk.rename(&path, &moved).unwrap();
        RealDisk.sync_dir(&sub).unwrap();
        let entries = RealDisk.list(&sub).unwrap();
        assert_eq!(entries, [Entry { name: "moved".into(), is_dir: false, len: 5 }]);
        assert!(RealDisk.remove(&moved).unwrap());
        assert!(!RealDisk.remove(&moved).unwrap());
        assert!(RealDisk.list(&dir.path().join("absent")).unwrap().is_empty());
        assert!(RealDisk.free_bytes(dir.path()).unwrap() > 0);
    }

    #[test]
    fn direct_writes_and_others_make_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.create(&dir.path().join("file")).unwrap();
        let bytes: Vec<u8> =
            (0..40_000_u32).map(|number| number.to_le_bytes()[0] ^ number.to_le_bytes()[1]).collect();
        let mut buffer = AlignedBuffer::new(16 << 10);
        let mut offset = 0;
        // Two pieces that may be written directly, between some that can't be.
        for limit in [4096, 8192, 100, 3996, 16 << 10, 1, 40_000] {
            buffer.append(&bytes[offset..], limit);
            file.write_at(buffer.as_slice(), offset as u64).unwrap();
            offset += buffer.as_slice().len();
            buffer.clear();
        }
        file.write_at(&bytes[offset..], offset as u64).unwrap();
        file.sync().unwrap();
        let mut read = vec![0; 40_000];
        assert_eq!(file.read_at(&mut read, 0).unwrap(), 40_000);
        assert!(read == bytes);
        assert_eq!(file.len().unwrap(), 40_000);
    }

    #[test]
    fn an_immediate_read_answers_what_is_in_memory_or_why_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.create(&dir.path().join("file")).unwrap();
        file.write_at(&[7; 1000], 0).unwrap();
        let mut buf = [0; 4096];
        match file.read_at_now(&mut buf, 100).unwrap() {
            ReadNow::Read(read) => assert_eq!((read, buf[899], buf[900]), (900, 7, 0)),
            ReadNow::NotInMemory | ReadNow::Unsupported => {}
        }
    }

    #[test]
    fn a_failure_names_the_operation_and_the_path() {
        let error = RealDisk.rename(Path::new("/nowhere/a"), Path::new("/nowhere/b")).unwrap_err();
        assert!(error.to_string().starts_with("can't rename /nowhere/a: "), "{error}");
        assert!(!error.is_full());
        assert!(FileError::new("write", Path::new("x"), io::Error::from(Errno::NOSPC)).is_full());
        assert!(FileError::new("write", Path::new("x"), io::Error::from(Errno::DQUOT)).is_full());
    }

    #[test]
    fn files_and_directories_are_their_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        RealDisk.create_dir(&dir.path().join("d")).unwrap();
        RealDisk.create(&dir.path().join("d/f")).unwrap();
        let mode =
            |path: &str| std::fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("d"), mode("d/f")), (0o700, 0o600));
    }
}
