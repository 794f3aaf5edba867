//! The tree below `docker/registry/v2`, and the files in it that lead to others.

use std::path::{Path, PathBuf};

use crate::clock::Timestamp;
use crate::fsio::{EntryKind, FileError, SourceEntries, SourceEntry, SourceFile, SourceTree};
use crate::oci::{Digest, DigestAlgorithm, RepositoryName};
use crate::transfer::Skipped;
pub(super) use crate::transfer::report::unreadable;

/// Where a registry keeps its tree below the directory that its configuration names.
const ROOT: &str = "docker/registry/v2";

/// The longest file that is read as a link.
const LINK_BYTES: usize = 1 << 10;

/// A tree.
#[derive(Debug)]
pub(super) struct Tree(SourceTree);

/// A file that leads to content by its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    /// The content.
    pub(super) digest: Digest,
    /// When it was written.
    pub(super) at: Timestamp,
}

/// The directory of a revision, a layer or a signature, named by a digest.
pub(super) fn place(digest: &Digest) -> String {
    format!("{}/{}", digest.algorithm(), digest.hex())
}

/// The directory of a repository.
pub(super) fn repository(name: &RepositoryName) -> String {
    format!("repositories/{name}")
}

impl Tree {
    /// The tree in `directory`, or the tree that it is; `None` if it has none.
    pub(super) fn open(directory: &Path) -> Result<Option<Tree>, FileError> {
        let Some(outer) = SourceTree::open(directory)? else { return Ok(None) };
        let tree = match outer.below(ROOT)? {
            Some(inner) => inner,
            None => outer,
        };
        Ok(if tree.has_directory("repositories")? { Some(Tree(tree)) } else { None })
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.0.path_of(below)
    }

    /// That something below the root can't be taken.
    pub(super) fn skip(&self, below: &str, reason: impl Into<String>) -> Skipped {
        Skipped::new(self.path(below), reason)
    }

    /// Whether there is a directory.
    pub(super) fn has_directory(&self, below: &str) -> Result<bool, Skipped> {
        self.0.has_directory(below).map_err(unreadable)
    }

    /// Reads the file `link` of a directory; `None` if there is none.
    pub(super) fn link(&self, directory: &str) -> Result<Option<Link>, Skipped> {
        let below = format!("{directory}/link");
        let Some(file) = self.0.file(&below).map_err(unreadable)? else { return Ok(None) };
        let bytes = file.read_all(LINK_BYTES).map_err(unreadable)?;
        let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
        if text.is_empty() {
            return Err(self.skip(&below, if bytes.is_empty() { "it is empty" } else { "it has no digest" }));
        }
        match text.parse() {
            Ok(digest) => Ok(Some(Link { digest, at: file.modified_at() })),
            Err(_) => Err(self.skip(&below, "what it has is no digest")),
        }
    }

    /// Opens the bytes of a digest; `None` if there are none.
    pub(super) fn data(&self, digest: &Digest) -> Result<Option<SourceFile>, Skipped> {
        self.0.file(&data(digest)).map_err(unreadable)
    }

    /// The length of the bytes of a digest; 0 if there are none, or they can't be read.
    pub(super) fn data_len(&self, digest: &Digest) -> u64 {
        self.0.len(&data(digest)).ok().flatten().unwrap_or_default()
    }

    /// The directories in a directory, and what else is wrong there; nothing if there is none.
    pub(super) fn directories(&self, below: &str) -> Directories<'_> {
        let (entries, failed) = match self.0.list(below) {
            Ok(entries) => (entries, None),
            Err(error) => (None, Some(unreadable(error))),
        };
        Directories { tree: self, below: below.to_owned(), entries, failed }
    }

    /// The digests that the directories `<algorithm>/<hex>` in a directory name.
    pub(super) fn digests(&self, below: &str) -> impl Iterator<Item = Result<Digest, Skipped>> + use<'_> {
        let below = below.to_owned();
        DigestAlgorithm::ALL.into_iter().flat_map(move |algorithm| {
            let below = format!("{below}/{algorithm}");
            self.directories(&below).map(move |name| {
                let name = name?;
                format!("{algorithm}:{name}")
                    .parse()
                    .map_err(|_| self.skip(&format!("{below}/{name}"), "its name is no digest"))
            })
        })
    }
}

fn data(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("blobs/{}/{}/{hex}/data", digest.algorithm(), &hex[..2])
}

/// The names of the directories in a directory. Files beside them are passed over.
#[derive(Debug)]
pub(super) struct Directories<'t> {
    tree: &'t Tree,
    below: String,
    entries: Option<SourceEntries>,
    failed: Option<Skipped>,
}

impl Iterator for Directories<'_> {
    type Item = Result<String, Skipped>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(failed) = self.failed.take() {
            return Some(Err(failed));
        }
        loop {
            let SourceEntry { name, kind } = match self.entries.as_mut()?.next()? {
                Ok(entry) => entry,
                Err(error) => {
                    // What follows a failure is not to be relied on.
                    self.entries = None;
                    return Some(Err(unreadable(error)));
                }
            };
            let path = || self.tree.path(&self.below).join(&name);
            match (kind, name.to_str()) {
                (EntryKind::File | EntryKind::Other, _) => {}
                (EntryKind::SymbolicLink, _) => {
                    return Some(Err(Skipped::new(path(), "it is a symbolic link, and none is followed")));
                }
                (EntryKind::Directory, Some(text)) => return Some(Ok(text.to_owned())),
                (EntryKind::Directory, None) => {
                    return Some(Err(Skipped::new(path(), "its name is no text")));
                }
            }
        }
    }
}
