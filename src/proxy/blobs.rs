//! Blobs of an upstream's repository.

use std::time::Duration;

use super::fetching::Stage;
use super::manifests::panicked;
use super::{CachedRepository, Error, Source, StreamedBlob};
use crate::oci::Digest;
use crate::registry::{BlobReader, GrowingBlob};

/// How often a blob that is there and gone the next moment is asked for again.
const TRIES: usize = 3;

/// A blob, wherever its bytes are.
#[derive(Debug)]
pub enum BlobSource {
    /// In the registry.
    Stored(BlobReader),
    /// On their way into it.
    Growing(GrowingBlob),
    /// With the upstream, and not kept.
    Streamed(StreamedBlob),
}

impl BlobSource {
    /// The length in bytes.
    pub fn size(&self) -> u64 {
        match self {
            BlobSource::Stored(blob) => blob.size(),
            BlobSource::Growing(blob) => blob.size(),
            BlobSource::Streamed(blob) => blob.size(),
        }
    }
}

impl CachedRepository {
    /// The blob: from the registry, or from the upstream, of which it is fetched once for all who ask meanwhile.
    pub async fn blob(&self, digest: &Digest) -> Result<(BlobSource, Source), Error> {
        let blobs = self.stored().blobs();
        if let Some(blob) = blobs.open(digest)? {
            return Ok((BlobSource::Stored(blob), Source::Hit));
        }
        for _ in 0..TRIES {
            match self.fetched(digest).await {
                Stage::Growing(blob) => return Ok((BlobSource::Growing(blob), Source::Miss)),
                Stage::Stored(source) => {
                    if let Some(blob) = blobs.open(digest)? {
                        return Ok((BlobSource::Stored(blob), source));
                    }
                }
                Stage::NotKept(size) => {
                    let size = match size {
                        Some(size) => size,
                        None => self.ask_size_once(digest).await?,
                    };
                    return Ok((
                        BlobSource::Streamed(StreamedBlob::new(self, digest, size)),
                        Source::Streamed,
                    ));
                }
                Stage::Failed(error) => return Err(error),
                Stage::Asking => {}
            }
        }
        let reason =
            format!("{digest} goes as soon as it comes, since there is too little room; try again later");
        Err(Error::Unavailable { reason, retry_after: Duration::from_secs(10) })
    }

    /// The blob's size, without fetching it.
    pub async fn head_blob(&self, digest: &Digest) -> Result<(u64, Source), Error> {
        if let Some(blob) = self.stored().blobs().stat(digest)? {
            return Ok((blob.size, Source::Hit));
        }
        let size = match self.growing_size(digest) {
            Some(size) => size,
            None => self.ask_size_once(digest).await?,
        };
        Ok((size, Source::Miss))
    }

    /// Asks for the size, once for all who wait.
    async fn ask_size_once(&self, digest: &Digest) -> Result<u64, Error> {
        let (own, of) = (self.clone(), *digest);
        let asked = self
            .cache
            .flights()
            .blob_sizes
            .join((self.name.clone(), of), || async move { own.ask_size(&of).await });
        asked.await.unwrap_or_else(|| Err(panicked()))
    }
}
