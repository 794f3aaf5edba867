//! The files of an archive, in a directory or in a tar file.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::copier::{Failure, Pieces};
use super::report::unreadable;
use super::tar_file::TarFile;
use super::{Error, Skipped};
use crate::fsio::{SourceFile, SourceTree};
use crate::oci::{Digest, DigestAlgorithm, Hasher};
use crate::registry;

/// Bytes are read in pieces of this size.
const PIECE: usize = 256 << 10;

/// An archive.
#[derive(Debug)]
pub struct Files(Kind);

#[derive(Debug)]
enum Kind {
    Tree(SourceTree),
    Tar(TarFile),
}

/// One file of an archive.
#[derive(Debug, Clone)]
pub(super) struct Part {
    file: Arc<SourceFile>,
    begin: u64,
    len: u64,
    path: Arc<str>,
}

impl Files {
    /// Opens a directory, or a tar archive. Blocks.
    pub fn open(path: &Path) -> Result<Files, Error> {
        if path.is_dir() {
            let tree = SourceTree::open(path)?;
            return tree.map(|tree| Files(Kind::Tree(tree))).ok_or_else(|| absent(path));
        }
        let file = SourceFile::open(path)?.ok_or_else(|| absent(path))?;
        Ok(Files::of_tar(file))
    }

    /// A tar archive that is open. Blocks.
    pub fn of_tar(file: SourceFile) -> Files {
        Files(Kind::Tar(TarFile::open(Arc::new(file))))
    }

    /// What is wrong with it as a whole.
    pub(super) fn faults(&self) -> &[Skipped] {
        match &self.0 {
            Kind::Tree(_) => &[],
            Kind::Tar(tar) => &tar.faults,
        }
    }

    /// That it isn't what it should be, with what is wrong with it as a whole.
    pub(super) fn unusable(&self, reason: &str) -> Error {
        let whole = match &self.0 {
            Kind::Tree(tree) => tree.path().display().to_string(),
            Kind::Tar(tar) => tar.file.path().display().to_string(),
        };
        let faults = self.faults().iter().map(|fault| fault.reason.as_str());
        let reasons: Vec<&str> = std::iter::once(reason).chain(faults).collect();
        Error::Unusable(format!("{whole}: {}", reasons.join("; ")))
    }

    /// How messages name a file in it.
    pub(super) fn path(&self, name: &str) -> String {
        match &self.0 {
            Kind::Tree(tree) => tree.path_of(name).display().to_string(),
            Kind::Tar(tar) => tar.path(name),
        }
    }

    /// That a file in it can't be taken.
    pub(super) fn skip(&self, name: &str, reason: impl Into<String>) -> Skipped {
        Skipped::new(self.path(name), reason)
    }

    /// A file; `None` if there is none of that name.
    pub(super) fn part(&self, name: &str) -> Result<Option<Part>, Skipped> {
        let path = self.path(name).into();
        match &self.0 {
            Kind::Tree(tree) => {
                let file = tree.file(name).map_err(unreadable)?;
                Ok(file.map(|file| Part { begin: 0, len: file.len(), file: Arc::new(file), path }))
            }
            Kind::Tar(tar) => {
                Ok(tar.find(name).map(|(begin, len)| Part { file: tar.file.clone(), begin, len, path }))
            }
        }
    }

    /// All bytes of a small file; `None` if there is none of that name.
    pub(super) fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, Skipped> {
        self.part(name)?.map(|part| part.read_all(limit)).transpose()
    }
}

fn absent(path: &Path) -> Error {
    Error::Unusable(format!("there is no {}", path.display()))
}

impl Part {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    fn read_at(&self, piece: &mut [u8], offset: u64) -> Result<usize, Skipped> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX).min(piece.len());
        let read = self.file.read_at(&mut piece[..left], self.begin + offset).map_err(unreadable)?;
        if read == 0 && left > 0 {
            return Err(Skipped::new(&*self.path, "it is shorter than it was"));
        }
        Ok(read)
    }

    /// All of its bytes, at most `limit`.
    pub(super) fn read_all(&self, limit: usize) -> Result<Vec<u8>, Skipped> {
        let len = usize::try_from(self.len).ok().filter(|len| *len <= limit);
        let len = len.ok_or_else(|| Skipped::new(&*self.path, format!("it has more than {limit} bytes")))?;
        let mut bytes = vec![0; len];
        let mut filled = 0;
        while filled < len {
            filled += self.read_at(&mut bytes[filled..], filled as u64)?;
        }
        Ok(bytes)
    }

    /// Its first bytes.
    pub(super) fn head(&self, len: usize) -> Result<Vec<u8>, Skipped> {
        let head = Part { len: self.len.min(len as u64), ..self.clone() };
        head.read_all(len)
    }

    /// The digest of its bytes. Blocks for as long as it takes to read them.
    pub(super) fn digest(&self) -> Result<Digest, Skipped> {
        let mut hasher = Hasher::new(DigestAlgorithm::CANONICAL);
        let (mut offset, mut piece) = (0, vec![0; PIECE]);
        while offset < self.len {
            let read = self.read_at(&mut piece, offset)?;
            hasher.update(&piece[..read]);
            offset += read as u64;
        }
        Ok(hasher.finish())
    }

    /// Its bytes, one piece after the other.
    pub(super) fn pieces(self) -> PartPieces {
        PartPieces { part: self, offset: 0 }
    }
}

/// The bytes of a file of an archive.
pub(super) struct PartPieces {
    part: Part,
    offset: u64,
}

impl Pieces for PartPieces {
    fn size(&self) -> Option<u64> {
        Some(self.part.len)
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        if self.offset >= self.part.len {
            return Ok(None);
        }
        let (part, offset) = (self.part.clone(), self.offset);
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; PIECE];
            let read = part.read_at(&mut piece, offset)?;
            piece.truncate(read);
            Ok(Bytes::from(piece))
        });
        match read.await {
            Ok(Ok(piece)) => {
                self.offset += piece.len() as u64;
                Ok(Some(piece))
            }
            Ok(Err(skipped)) => Err(Failure::Skipped(skipped)),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Failure::Ended(registry::Error::Unavailable.into())),
        }
    }
}
