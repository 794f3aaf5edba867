//! An archive of [`ArchiveStream`](super::ArchiveStream) that becomes a directory as it comes.

use std::io;
use std::path::Path;

use crate::fsio::{FileError, PendingDirectory, PendingPart};

/// The unit of an archive.
const BLOCK: usize = 512;

/// The longest name.
const NAME_BYTES: usize = 4 << 10;

/// A directory that is being written.
#[derive(Debug)]
pub struct Unpacking {
    directory: PendingDirectory,
    /// What has come of a header.
    head: Vec<u8>,
    at: At,
    /// The long name that a header of its own has said.
    name: Option<String>,
}

/// What comes next.
#[derive(Debug)]
enum At {
    Header,
    /// So many bytes of a file, and how many zeros after them.
    File(PendingPart, u64, u64),
    /// So many bytes of a long name, and how many zeros after them.
    Name(Vec<u8>, usize, u64),
    Padding(u64),
    End,
}

impl Unpacking {
    /// Begins a directory. Fails where there is something already, unless it `replaces` that.
    pub fn create(path: &Path, replaces: bool) -> Result<Unpacking, FileError> {
        let directory = PendingDirectory::create(path, replaces)?;
        Ok(Unpacking { directory, head: Vec::new(), at: At::Header, name: None })
    }

    /// Takes the next bytes of the archive.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<(), FileError> {
        while !bytes.is_empty() {
            bytes = match std::mem::replace(&mut self.at, At::End) {
                At::Header => {
                    let (mine, rest) = bytes.split_at(bytes.len().min(BLOCK - self.head.len()));
                    self.head.extend_from_slice(mine);
                    self.at = At::Header;
                    if self.head.len() == BLOCK {
                        let head = std::mem::take(&mut self.head);
                        self.at = self.begin(&head)?;
                    }
                    rest
                }
                At::File(mut file, left, padding) => {
                    let mine = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let (mine, rest) = bytes.split_at(mine);
                    file.write(mine)?;
                    let left = left - mine.len() as u64;
                    self.at = if left > 0 {
                        At::File(file, left, padding)
                    } else {
                        file.finish()?;
                        padded(padding)
                    };
                    rest
                }
                At::Name(mut name, left, padding) => {
                    let (mine, rest) = bytes.split_at(bytes.len().min(left));
                    name.extend_from_slice(mine);
                    let left = left - mine.len();
                    self.at = if left > 0 {
                        At::Name(name, left, padding)
                    } else {
                        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
                        self.name = Some(String::from_utf8(name[..end].to_vec()).map_err(|_| strange())?);
                        padded(padding)
                    };
                    rest
                }
                At::Padding(left) => {
                    let passed = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    self.at = padded(left - passed as u64);
                    &bytes[passed..]
                }
                At::End => &[],
            };
        }
        Ok(())
    }

    /// Makes it durable and gives it its name; fails where the archive hasn't come to its end.
    pub fn finish(self) -> Result<(), FileError> {
        match self.at {
            At::End => self.directory.finish(),
            _ => Err(strange()),
        }
    }

    fn begin(&mut self, head: &[u8]) -> Result<At, FileError> {
        if head.iter().all(|byte| *byte == 0) {
            return Ok(At::End);
        }
        let header = tar::Header::from_byte_slice(head);
        let len = header.entry_size().map_err(|_| strange())?;
        let padding = len.next_multiple_of(BLOCK as u64) - len;
        let kind = header.entry_type();
        if kind.is_gnu_longname() {
            let len = usize::try_from(len).ok().filter(|len| *len <= NAME_BYTES).ok_or_else(strange)?;
            return Ok(At::Name(Vec::new(), len, padding));
        }
        let own = || String::from_utf8(header.path_bytes().into_owned()).map_err(|_| strange());
        let name = match self.name.take() {
            Some(name) => name,
            None => own()?,
        };
        let name = name.trim_end_matches('/');
        let is_plain = |part: &str| !matches!(part, "" | "." | "..");
        if !name.split('/').all(is_plain) {
            return Err(strange());
        }
        if kind.is_dir() {
            self.directory.make_dir(Path::new(name))?;
            return Ok(padded(padding));
        }
        let file = self.directory.create_file(Path::new(name))?;
        if len > 0 {
            return Ok(At::File(file, len, padding));
        }
        file.finish()?;
        Ok(At::Header)
    }
}

fn padded(left: u64) -> At {
    if left > 0 { At::Padding(left) } else { At::Header }
}

fn strange() -> FileError {
    let error =
        io::Error::new(io::ErrorKind::InvalidData, "it is not what an export writes, or not all of it");
    FileError::new("unpack", Path::new("the archive"), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in [
            ("oci-layout", &b"{}"[..]),
            (&format!("blobs/{}", "a".repeat(130)), &[7; 1500][..]),
            ("empty", b""),
            ("whole", &[8; 512]),
        ] {
            if name.starts_with("blobs") {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                builder.append_data(&mut header, "blobs/", io::empty()).unwrap();
            }
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn an_archive_becomes_a_directory_in_pieces_of_any_length() {
        let (dir, archive) = (tempfile::tempdir().unwrap(), archive());
        for size in [1, 511, 512, 700, 1 << 20] {
            let path = dir.path().join(size.to_string());
            let mut unpacking = Unpacking::create(&path, false).unwrap();
            archive.chunks(size).for_each(|piece| unpacking.take(piece).unwrap());
            unpacking.finish().unwrap();
            let read = |name: &str| std::fs::read(path.join(name)).unwrap();
            assert_eq!(
                (read("oci-layout"), read("empty"), read("whole")),
                (b"{}".to_vec(), vec![], vec![8; 512])
            );
            assert_eq!(read(&format!("blobs/{}", "a".repeat(130))), vec![7; 1500]);
        }
    }

    #[test]
    fn half_an_archive_becomes_nothing() {
        let (dir, archive) = (tempfile::tempdir().unwrap(), archive());
        for end in [0, 100, 600, 1024, 2000] {
            let mut unpacking = Unpacking::create(&dir.path().join("x"), false).unwrap();
            unpacking.take(&archive[..end]).unwrap();
            assert!(unpacking.finish().is_err(), "{end}");
        }
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.as_old_mut().name[..6].copy_from_slice(b"../out");
        header.set_cksum();
        builder.append(&header, io::empty()).unwrap();
        let mut unpacking = Unpacking::create(&dir.path().join("x"), false).unwrap();
        assert!(unpacking.take(&builder.into_inner().unwrap()).is_err());
        drop(unpacking);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
