//! What is known of a manifest without its bytes.

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::metadata::repositories::RepositoryId;
use crate::oci::{Digest, MediaType};

/// A manifest without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestDescriptor {
    /// The digest in the domain that was asked for: the one named, or for a tag the one that the tag was set with.
    pub digest: Digest,
    /// The canonical digest.
    pub canonical: Digest,
    /// The media type that it was pushed with.
    pub media_type: MediaType,
    /// The length in bytes of what is served: of a signed manifest with all its signatures.
    pub size: u64,
    /// When it was last pushed.
    pub pushed_at: Timestamp,
    /// The digest of the set of signatures that a signed schema 1 manifest is served with.
    pub signatures: Option<Digest>,
}

impl ManifestDescriptor {
    /// What changes whenever other bytes are served: the digest, and of a signed manifest, whose digest is that of the
    /// payload whoever signs, also the digest of the set of signatures.
    pub fn etag(&self) -> String {
        match &self.signatures {
            Some(signatures) => format!("{}+{signatures}", self.digest),
            None => self.digest.to_string(),
        }
    }
}

/// A manifest as it is served, with what every answer says of it put into words once.
#[derive(Debug)]
pub struct ServedManifest {
    /// What is known of it.
    pub manifest: ManifestDescriptor,
    /// Its bytes; of a signed schema 1 manifest with all its signatures.
    pub payload: Bytes,
    /// Its digest, as text.
    pub digest: Bytes,
    /// Its [`etag`](ManifestDescriptor::etag) in quotes, as HTTP wants it.
    pub entity_tag: Bytes,
    pub(super) repository: RepositoryId,
}

impl ServedManifest {
    pub(super) fn new(
        repository: RepositoryId,
        manifest: ManifestDescriptor,
        payload: Bytes,
    ) -> ServedManifest {
        let entity_tag = Bytes::from(format!("\"{}\"", manifest.etag()));
        let digest = match manifest.signatures {
            // The two are the same text.
            None => entity_tag.slice(1..entity_tag.len() - 1),
            Some(_) => Bytes::from(manifest.digest.to_string()),
        };
        ServedManifest { manifest, payload, digest, entity_tag, repository }
    }

    /// What it takes in memory, about.
    pub(super) fn weight(&self) -> usize {
        size_of::<ServedManifest>() + self.payload.len() + self.entity_tag.len() + self.digest.len()
    }
}
