//! What an import tells: how far it is, what it passes over, and what came of it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::fsio::FileError;

/// Something that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Where it lies: a path, or the name of an image.
    pub path: String,
    /// Why.
    pub reason: String,
}

impl Skipped {
    pub(super) fn new(path: impl AsRef<Path>, reason: impl Into<String>) -> Skipped {
        Skipped { path: path.as_ref().to_string_lossy().into_owned(), reason: reason.into() }
    }
}

/// What an import tells on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// How many repositories have been looked at, before anything is taken.
    Looking(u64),
    /// How many bytes of layers are done, of how many that are known of; a layer counts in each repository that has it.
    Importing(u64, u64),
    /// How many images are done, of how many.
    Images(u64, u64),
    /// How many bytes of an archive have come.
    Receiving(u64),
    /// That another registry wants to be left alone for so many seconds.
    Waiting(u64),
    /// That something could not be taken.
    Skipped(Skipped),
}

/// What came of an import; in a dry run, what would.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The repositories that were looked at.
    pub repositories: u64,
    /// The manifests that came.
    pub manifests: u64,
    /// Those of them that are indexes which name manifests that aren't there.
    pub sparse_indexes: u64,
    /// The manifests that were here before.
    pub known_manifests: u64,
    /// The tags that were set.
    pub tags: u64,
    /// The tags that were here before, and point where they did there.
    pub known_tags: u64,
    /// The signatures of schema 1 manifests that came.
    pub signatures: u64,
    /// The blobs whose bytes came, and how many bytes that is.
    pub blobs: u64,
    /// See `blobs`.
    pub bytes: u64,
    /// Those of the bytes that were copied; the others are shared with the tree that they come from, by clones or hard links.
    pub copied_bytes: u64,
    /// The blobs that another repository had already, and that were only linked.
    pub linked_blobs: u64,
    /// The layers that no manifest names and that were left out, and their bytes.
    pub unnamed_layers: u64,
    /// See `unnamed_layers`.
    pub unnamed_bytes: u64,
    /// How many things were told of that could not be taken.
    pub skipped: u64,
    /// Whether it ended before everything was looked at.
    pub ended_early: bool,
}

/// That a file can't be read.
pub(super) fn unreadable(error: FileError) -> Skipped {
    let reason = match error.operation {
        "open" | "read" | "list" | "stat" if error.source.get_ref().is_some() => error.source.to_string(),
        operation => format!("can't {operation} it: {}", error.source),
    };
    Skipped::new(error.path, reason)
}
