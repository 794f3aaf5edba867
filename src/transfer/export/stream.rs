//! The bytes of an archive, piece by piece.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use futures_util::Stream;

use super::{File, Plan};
use crate::oci::{Hasher, Reference};
use crate::registry::{BlobReader, CollectionHold, Registry};
use crate::transfer::Error;

/// The unit of an archive, and what it ends with.
const BLOCK: u64 = 512;
const END: [u8; 1024] = [0; 1024];

/// Blobs are read in pieces of this size.
const PIECE: usize = 256 << 10;

/// One thing in an archive.
enum Item {
    /// Bytes as they are.
    Bytes(Vec<u8>),
    /// A file's header, and then its content.
    File(Vec<u8>, File),
}

/// An archive on its way out. While it is, nothing of it is collected.
pub struct ArchiveStream {
    registry: Registry,
    items: VecDeque<Item>,
    len: u64,
    blob: Option<Reading>,
    _hold: CollectionHold,
}

/// A blob on its way out.
struct Reading {
    reader: BlobReader,
    file: File,
    hasher: Hasher,
    offset: u64,
}

impl ArchiveStream {
    /// The archive of a plan, which the hold has been there for since before.
    pub fn new(registry: &Registry, plan: Plan, hold: CollectionHold) -> Result<ArchiveStream, Error> {
        let mut items = VecDeque::new();
        let mut len = END.len() as u64;
        let mut push = |item: Item, content: u64| {
            let head = match &item {
                Item::Bytes(bytes) | Item::File(bytes, _) => bytes.len() as u64,
            };
            len += head + content.next_multiple_of(BLOCK);
            items.push_back(item);
        };
        for (name, bytes) in plan.heads {
            let mut whole = header(name, bytes.len() as u64, tar::EntryType::Regular)?;
            let padding = padding(bytes.len() as u64);
            whole.extend(bytes);
            whole.resize(whole.len() + padding, 0);
            push(Item::Bytes(whole), 0);
        }
        let mut made: Vec<String> = Vec::new();
        for (name, file) in plan.files {
            for (at, _) in name.match_indices('/') {
                let dir = &name[..=at];
                if !made.iter().any(|made| made == dir) {
                    push(Item::Bytes(header(dir, 0, tar::EntryType::Directory)?), 0);
                    made.push(dir.to_owned());
                }
            }
            let (head, content) = (header(&name, file.len, tar::EntryType::Regular)?, file.len);
            push(Item::File(head, file), content);
        }
        Ok(ArchiveStream { registry: registry.clone(), items, len, blob: None, _hold: hold })
    }

    /// How many bytes there are in all.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing in it, which can't be.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes; an error, which is logged, where one of the blobs isn't what it should be.
    pub fn pieces(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        futures_util::stream::unfold(Some(self), |archive| async {
            let mut archive = archive?;
            match archive.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some(archive))),
                Ok(None) => Some((Ok(Bytes::from_static(&END)), None)),
                Err(error) => {
                    tracing::error!(%error, "an export broke off");
                    Some((Err(error), None))
                }
            }
        })
    }

    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if let Some(reading) = self.blob.take() {
            let (piece, left) = reading.next().await?;
            self.blob = left;
            return Ok(Some(piece));
        }
        match self.items.pop_front() {
            None => Ok(None),
            Some(Item::Bytes(bytes)) => Ok(Some(bytes.into())),
            Some(Item::File(head, file)) if file.is_manifest => self.manifest(head, &file).map(Some),
            Some(Item::File(head, file)) => {
                let repository = self.registry.namespace().repository(&file.repository);
                let found = repository.blobs().open(file.digest).map_err(io::Error::other)?;
                let reader = found.filter(|reader| reader.size() == file.len).ok_or_else(|| gone(&file))?;
                if file.len > 0 {
                    let hasher = Hasher::new(file.digest.algorithm());
                    self.blob = Some(Reading { reader, file, hasher, offset: 0 });
                }
                Ok(Some(head.into()))
            }
        }
    }

    fn manifest(&self, mut head: Vec<u8>, file: &File) -> io::Result<Bytes> {
        let repository = self.registry.namespace().repository(&file.repository);
        let found = repository.manifests().get(&Reference::Digest(file.digest)).map_err(io::Error::other)?;
        let (_, bytes) =
            found.filter(|(_, bytes)| bytes.len() as u64 == file.len).ok_or_else(|| gone(file))?;
        let mut hasher = Hasher::new(file.digest.algorithm());
        hasher.update(&bytes);
        if hasher.finish() != file.digest {
            return Err(damaged(file));
        }
        head.extend_from_slice(&bytes);
        head.resize(head.len() + padding(file.len), 0);
        Ok(head.into())
    }
}

impl Reading {
    /// The next bytes, and what is left to read.
    async fn next(mut self) -> io::Result<(Bytes, Option<Reading>)> {
        let read = tokio::task::spawn_blocking(move || {
            let left = usize::try_from(self.file.len - self.offset).unwrap_or(usize::MAX);
            let mut piece = vec![0; left.min(PIECE)];
            let read = self.reader.read_at(&mut piece, self.offset)?;
            if read == 0 {
                return Err(gone(&self.file));
            }
            piece.truncate(read);
            self.hasher.update(&piece);
            self.offset += read as u64;
            if self.offset < self.file.len {
                return Ok((piece.into(), Some(self)));
            }
            if self.hasher.finish() != self.file.digest {
                return Err(damaged(&self.file));
            }
            piece.resize(piece.len() + padding(self.file.len), 0);
            Ok((piece.into(), None))
        });
        read.await.map_err(io::Error::other)?
    }
}

fn gone(file: &File) -> io::Error {
    io::Error::other(format!(
        "{} of {} was deleted meanwhile, or its file is damaged",
        file.digest, file.repository
    ))
}

fn damaged(file: &File) -> io::Error {
    let File { digest, repository, .. } = file;
    io::Error::other(format!("{digest} of {repository} is damaged on the disk; run `orlop verify`"))
}

/// How many zeros follow so many bytes.
fn padding(len: u64) -> usize {
    usize::try_from(len.next_multiple_of(BLOCK) - len).expect("it is less than a block")
}

/// A header without a time or an owner; a long name has one of its own.
fn header(name: &str, len: u64, kind: tar::EntryType) -> Result<Vec<u8>, Error> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(len);
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let mut builder = tar::Builder::new(Vec::new());
    let written = builder.append_data(&mut header, name, io::empty());
    written.map_err(|error| Error::Unusable(format!("{name} can't be in an archive: {error}")))?;
    Ok(builder.get_ref().clone())
}
