//! Blobs that are handed through and not kept.

use std::collections::VecDeque;

use bytes::Bytes;

use super::transfer::Transfer;
use super::{CachedRepository, Error};
use crate::oci::{Digest, Hasher};

/// How much of the end is held back until all of the blob is known to be right.
const HELD_BACK: usize = 64 << 10;

/// A blob that is too large to be kept, or that there is no room for.
#[derive(Debug)]
pub struct StreamedBlob {
    repository: CachedRepository,
    digest: Digest,
    size: u64,
}

/// Hands the bytes through as fast as they are taken.
#[derive(Debug)]
pub struct StreamedReader {
    transfer: Transfer,
    digest: Digest,
    /// What is still to be handed out, behind what is held.
    remaining: u64,
    /// Of a whole blob.
    hasher: Option<Hasher>,
    held: VecDeque<Bytes>,
    held_bytes: usize,
}

impl StreamedBlob {
    pub(super) fn new(repository: &CachedRepository, digest: &Digest, size: u64) -> StreamedBlob {
        StreamedBlob { repository: repository.clone(), digest: *digest, size }
    }

    /// The length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Asks the upstream for the bytes from `start` up to `end`, which is not before it.
    ///
    /// The whole blob is compared with its digest, and its end held back until that is done: a reader of something else gets an
    /// error instead. Of a part only the length can be checked.
    pub async fn reader(&self, start: u64, end: u64) -> Result<StreamedReader, Error> {
        let (start, end) = (start.min(self.size), end.min(self.size));
        let mut transfer = Transfer::new(&self.repository, &self.digest, self.size, start, None);
        let remaining = end.saturating_sub(start);
        if remaining > 0 {
            transfer.begin().await?;
        }
        let hasher = (remaining == self.size).then(|| Hasher::new(self.digest.algorithm()));
        let (held, held_bytes) = (VecDeque::new(), 0);
        Ok(StreamedReader { transfer, digest: self.digest, remaining, hasher, held, held_bytes })
    }
}

impl StreamedReader {
    /// Returns the next bytes, and none at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while self.remaining > 0 {
            let Some(mut bytes) = self.transfer.next().await? else {
                return Err(Error::Invalid("a blob ended too soon".to_owned()));
            };
            bytes.truncate(usize::try_from(self.remaining).unwrap_or(usize::MAX));
            self.remaining -= bytes.len() as u64;
            let Some(hasher) = &mut self.hasher else { return Ok(Some(bytes)) };
            hasher.update(&bytes);
            self.held_bytes += bytes.len();
            self.held.push_back(bytes);
            if self.held_bytes > HELD_BACK
                && self.remaining > 0
                && let Some(first) = self.held.front_mut()
            {
                let part = first.split_to(first.len().min(self.held_bytes - HELD_BACK));
                if first.is_empty() {
                    self.held.pop_front();
                }
                self.held_bytes -= part.len();
                return Ok(Some(part));
            }
        }
        if let Some(hasher) = self.hasher.take()
            && hasher.finish() != self.digest
        {
            tracing::warn!(digest = %self.digest, "an upstream has sent something else");
            return Err(Error::Invalid(format!("the upstream has sent something else than {}", self.digest)));
        }
        Ok(self.held.pop_front())
    }
}
