//! What a registry holds, at a glance.

use super::{Error, Inner, sessions};
use crate::metadata::{self, Table, events, sizes};

/// What a registry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStatus {
    /// The repositories that have or had content.
    pub repositories: u64,
    /// The revisions of manifests, counted in each repository.
    pub manifests: u64,
    /// The tags.
    pub tags: u64,
    /// The blobs, each once, damaged ones and those of deletions that can be undone included.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Those of them that are damaged, as far as was found.
    pub damaged: u64,
    /// The length of the metadata's file.
    pub metadata_bytes: u64,
    /// The open uploads.
    pub uploads: u64,
    /// What may still be written on the file system.
    pub free_bytes: u64,
    /// Pushes are refused while less is free.
    pub free_floor_bytes: u64,
    /// The events that are kept.
    pub events: u64,
    /// Those who listen, and how many events each has not taken yet.
    pub listeners: Vec<(String, u64)>,
}

/// Looks. Blocks.
pub(super) fn status(inner: &Inner) -> Result<StoreStatus, Error> {
    let (sizes, damaged, repositories, manifests, tags, events, listeners) = inner.metadata.read(|tx| {
        let last = events::last(tx)?;
        let cursors = events::cursors(tx)?.into_iter();
        Ok((
            sizes::of_store(tx)?,
            tx.count(Table::Damaged)?,
            tx.count(Table::RepositoriesByName)?,
            tx.count(Table::Manifests)?,
            tx.count(Table::Tags)?,
            tx.count(Table::Events)?,
            cursors.map(|(name, taken)| (name, last.saturating_sub(taken))).collect(),
        ))
    })?;
    Ok(StoreStatus {
        repositories,
        manifests,
        tags,
        blobs: sizes.blobs,
        blob_bytes: sizes.blob_bytes,
        damaged,
        metadata_bytes: inner.disk.len(&inner.data.join(metadata::FILE_NAME))?.unwrap_or_default(),
        uploads: sessions::count(inner)?,
        free_bytes: inner.blobs.free_bytes()?,
        free_floor_bytes: inner.policy.free_floor_bytes,
        events,
        listeners,
    })
}
