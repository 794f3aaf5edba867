//! What a registry holds, at a glance.

use std::sync::PoisonError;

use super::{Collected, Error, Inner, collection_plan, sessions};
use crate::clock::Timestamp;
use crate::metadata::sizes::{self, SizeRecord};
use crate::metadata::{self, ReadTx, Scan, Table, deletions, events};

/// What a registry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStatus {
    /// The repositories that have or had content.
    pub repositories: u64,
    /// The revisions of manifests, counted in each repository, without those of deletions.
    pub manifests: u64,
    /// The tags.
    pub tags: u64,
    /// The blobs, each once, damaged ones and those of deletions that can be undone included.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Those of them that are damaged, as far as was found.
    pub damaged: u64,
    /// What was deleted and can come back.
    pub deletions: u64,
    /// The manifests that neither a tag nor a manifest names.
    pub untagged: u64,
    /// What a collection of those would free, in bytes; at least, where there are more than a thousand.
    pub untagged_bytes: u64,
    /// What nothing names any more, or may not for long, and a collection will look at when its time has come.
    pub candidates: u64,
    /// When the last collection of this process ended, and what it removed.
    pub last_collected: Option<(Timestamp, Collected)>,
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

/// How many untagged manifests are measured.
const UNTAGGED_MEASURED: usize = 1_000;

/// The revisions and the tags of all repositories that have a name: all that there are, which a table knows without being
/// read, but for what deletions and deleted repositories have.
fn revisions_and_tags(tx: &ReadTx) -> Result<(u64, u64), metadata::Error> {
    let mut deleted = SizeRecord {
        manifests: deletions::count_rows(tx, Table::Manifests)?,
        tags: deletions::count_rows(tx, Table::Tags)?,
        ..SizeRecord::default()
    };
    deletions::each(tx, None, |id, _| {
        // Those that have a number of their own come last.
        if id.is_deletion() {
            return Ok(Scan::Stop);
        }
        let sizes = sizes::of(tx, id)?;
        deleted.manifests += sizes.manifests;
        deleted.tags += sizes.tags;
        Ok(Scan::Continue)
    })?;
    let (manifests, tags) = (tx.count(Table::Manifests)?, tx.count(Table::Tags)?);
    Ok((manifests.saturating_sub(deleted.manifests), tags.saturating_sub(deleted.tags)))
}

/// Looks. Blocks.
pub(super) fn status(inner: &Inner) -> Result<StoreStatus, Error> {
    let (manifests, tags) = inner.metadata.read(revisions_and_tags)?;
    let (sizes, damaged, repositories, deletions, untagged, candidates, events, listeners) =
        inner.metadata.read(|tx| {
            let last = events::last(tx)?;
            let cursors = events::cursors(tx)?.into_iter();
            Ok((
                sizes::of_store(tx)?,
                tx.count(Table::Damaged)?,
                tx.count(Table::RepositoriesByName)?,
                tx.count(Table::Deletions)?,
                tx.count(Table::Untagged)?,
                tx.count(Table::Candidates)?,
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
        deletions,
        untagged,
        untagged_bytes: collection_plan::untagged_bytes(inner, UNTAGGED_MEASURED)?,
        candidates,
        last_collected: *inner.last_collected.lock().unwrap_or_else(PoisonError::into_inner),
        metadata_bytes: inner.disk.len(&inner.data.join(metadata::FILE_NAME))?.unwrap_or_default(),
        uploads: sessions::count(inner)?,
        free_bytes: inner.blobs.free_bytes()?,
        free_floor_bytes: inner.policy.free_floor_bytes,
        events,
        listeners,
    })
}
