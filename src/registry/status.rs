//! What a registry holds, at a glance.

use super::{Error, Inner, scrub, sessions};
use crate::metadata::{self, Table, events};

/// What a registry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStatus {
    /// The repositories that have or had content.
    pub repositories: u64,
    /// The revisions of manifests, counted in each repository.
    pub manifests: u64,
    /// The tags.
    pub tags: u64,
    /// The blobs, each once.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
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
    let (blobs, blob_bytes) = scrub::totals(inner)?;
    let (repositories, manifests, tags, events, listeners) = inner.metadata.read(|tx| {
        let last = events::last(tx)?;
        let cursors = events::cursors(tx)?.into_iter();
        Ok((
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
        blobs,
        blob_bytes,
        metadata_bytes: inner.disk.len(&inner.data.join(metadata::FILE_NAME))?.unwrap_or_default(),
        uploads: sessions::count(inner)?,
        free_bytes: inner.blobs.free_bytes()?,
        free_floor_bytes: inner.policy.free_floor_bytes,
        events,
        listeners,
    })
}
