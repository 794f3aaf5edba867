//! The measurements of the storage layers.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// What the layers below the registry record; clones share one set of numbers, and recording takes no lock
/// that is held for longer than an addition.
#[derive(Debug, Clone)]
pub struct StorageMetrics {
    commits: Counter,
    batch_size: Histogram,
    commit_seconds: Histogram,
    file_sync_seconds: Histogram,
    rehashed_bytes: Counter,
    expired_uploads: Counter,
    evicted_images: Counter,
    evicted_bytes: Counter,
    database_reopens: Counter,
    descriptor_hits: Counter,
    descriptor_misses: Counter,
    manifest_hits: Counter,
    manifest_misses: Counter,
    pull_events_lost: Counter,
}

impl Default for StorageMetrics {
    fn default() -> Self {
        Self {
            commits: Counter::default(),
            batch_size: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            commit_seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 15)),
            file_sync_seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 15)),
            rehashed_bytes: Counter::default(),
            expired_uploads: Counter::default(),
            evicted_images: Counter::default(),
            evicted_bytes: Counter::default(),
            database_reopens: Counter::default(),
            descriptor_hits: Counter::default(),
            descriptor_misses: Counter::default(),
            manifest_hits: Counter::default(),
            manifest_misses: Counter::default(),
            pull_events_lost: Counter::default(),
        }
    }
}

impl StorageMetrics {
    /// Records one durable metadata commit that answered `batch` writers and took `took`.
    pub fn commit(&self, batch: usize, took: Duration) {
        self.commits.inc();
        #[expect(clippy::cast_precision_loss, reason = "a batch is far smaller than 2^52 writers")]
        self.batch_size.observe(batch as f64);
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// Records one sync of a file or a directory.
    pub fn sync(&self, took: Duration) {
        self.file_sync_seconds.observe(took.as_secs_f64());
    }

    /// Records that `bytes` of a stored upload were read back to hash them again.
    pub fn rehashed(&self, bytes: u64) {
        self.rehashed_bytes.inc_by(bytes);
    }

    /// Records that `count` abandoned uploads were removed.
    pub fn uploads_expired(&self, count: u64) {
        self.expired_uploads.inc_by(count);
    }

    /// Records that cached images were evicted, and the bytes that this has freed.
    pub fn evicted(&self, images: u64, bytes: u64) {
        self.evicted_images.inc_by(images);
        self.evicted_bytes.inc_by(bytes);
    }

    /// Records that the database handle was dropped and opened again after an I/O error.
    pub fn database_reopened(&self) {
        self.database_reopens.inc();
    }

    /// Records that a look-up was answered from the descriptor cache.
    pub fn descriptors_cached(&self) {
        self.descriptor_hits.inc();
    }

    /// Records that a manifest's bytes were found in memory.
    pub fn manifest_cached(&self) {
        self.manifest_hits.inc();
    }

    /// Records that a look-up had to read the database: for a manifest's bytes alone, or for a descriptor.
    pub fn cache_missed(&self, manifest: bool) {
        if manifest {
            self.descriptor_hits.inc();
            self.manifest_misses.inc();
        } else {
            self.descriptor_misses.inc();
        }
    }

    /// The look-ups that the descriptor cache has answered so far, and those that it couldn't.
    pub fn descriptor_cache(&self) -> (u64, u64) {
        (self.descriptor_hits.get(), self.descriptor_misses.get())
    }

    /// The same of manifests' bytes.
    pub fn manifest_cache(&self) -> (u64, u64) {
        (self.manifest_hits.get(), self.manifest_misses.get())
    }

    /// Records that `count` events of pulls were lost before they were written.
    pub fn pull_events_lost(&self, count: u64) {
        self.pull_events_lost.inc_by(count);
    }

    /// The number of events of pulls that were lost so far.
    pub fn lost_pull_events(&self) -> u64 {
        self.pull_events_lost.get()
    }

    /// The number of durable metadata commits so far.
    pub fn commits(&self) -> u64 {
        self.commits.get()
    }

    /// The number of bytes that were read back to hash them again so far.
    pub fn rehashed_bytes(&self) -> u64 {
        self.rehashed_bytes.get()
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("metadata_commits", "Durable commits of the metadata", self.commits.clone());
        registry.register(
            "metadata_commit_batch_size",
            "Writes that one metadata commit answered together",
            self.batch_size.clone(),
        );
        registry.register(
            "metadata_commit_seconds",
            "Time of one metadata commit, its syncs included",
            self.commit_seconds.clone(),
        );
        registry.register(
            "metadata_reopens",
            "Times that the metadata was closed and opened again after a disk error",
            self.database_reopens.clone(),
        );
        registry.register(
            "descriptor_cache_hits",
            "Look-ups that the descriptor cache answered",
            self.descriptor_hits.clone(),
        );
        registry.register(
            "descriptor_cache_misses",
            "Look-ups that had to read the database",
            self.descriptor_misses.clone(),
        );
        registry.register(
            "manifest_cache_hits",
            "Manifests that were served from memory",
            self.manifest_hits.clone(),
        );
        registry.register(
            "manifest_cache_misses",
            "Manifests of known descriptors that had to be read from the database",
            self.manifest_misses.clone(),
        );
        registry.register(
            "file_sync_seconds",
            "Time of one sync of a blob file or a directory",
            self.file_sync_seconds.clone(),
        );
        registry.register(
            "upload_rehashed_bytes",
            "Bytes of uploads that were read back from disk to hash them again",
            self.rehashed_bytes.clone(),
        );
        registry.register(
            "pull_events_lost",
            "Events of pulls that were lost before they were written: too many at once, or a disk that refused them",
            self.pull_events_lost.clone(),
        );
        registry.register(
            "uploads_expired",
            "Abandoned uploads that were removed",
            self.expired_uploads.clone(),
        );
        registry.register(
            "cache_evicted_images",
            "Images of other registries that were evicted",
            self.evicted_images.clone(),
        );
        registry.register(
            "cache_evicted_bytes",
            "Bytes of blobs and their files that evictions have freed",
            self.evicted_bytes.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_their_numbers() {
        let metrics = StorageMetrics::default();
        let clone = metrics.clone();
        clone.commit(3, Duration::from_millis(2));
        clone.rehashed(7);
        assert_eq!((metrics.commits(), metrics.rehashed_bytes()), (1, 7));
    }
}
