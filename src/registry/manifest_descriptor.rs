//! What is known of a manifest without its bytes.

use crate::clock::Timestamp;
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
