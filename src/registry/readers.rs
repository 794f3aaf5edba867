//! Who reads what of cached repositories, so that eviction leaves it alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::metadata::repositories::RepositoryId;
use crate::oci::Digest;

/// A blob in a cached repository, by its canonical digest.
type Place = (RepositoryId, Digest);

/// The blobs that are being read, and by how many.
#[derive(Debug, Clone, Default)]
pub(super) struct Readers(Arc<Mutex<HashMap<Place, usize>>>);

/// A blob is being read until this is dropped.
#[derive(Debug)]
pub(super) struct Reading {
    readers: Readers,
    place: Place,
}

impl Readers {
    fn lock(&self) -> MutexGuard<'_, HashMap<Place, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a reader; nothing for a repository of one's own.
    pub(super) fn read(&self, repository: RepositoryId, digest: &Digest) -> Option<Reading> {
        if !repository.is_cached() {
            return None;
        }
        let place = (repository, *digest);
        *self.lock().entry(place).or_default() += 1;
        Some(Reading { readers: self.clone(), place })
    }

    /// Whether somebody reads the blob in the repository.
    pub(super) fn are_there(&self, repository: RepositoryId, digest: &Digest) -> bool {
        self.lock().contains_key(&(repository, *digest))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut readers = self.readers.lock();
        if let Some(count) = readers.get_mut(&self.place) {
            *count -= 1;
            if *count == 0 {
                readers.remove(&self.place);
            }
        }
    }
}
