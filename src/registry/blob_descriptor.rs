//! What is known of a blob, by the registry and by whoever pushes it.

use crate::clock::Timestamp;
use crate::oci::{Descriptor, Digest, MediaType, ProvisionalDigest};

/// A blob as one repository has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobDescriptor {
    /// The canonical digest.
    pub digest: Digest,
    /// The length in bytes.
    pub size: u64,
    /// The media type under which the repository serves it.
    pub media_type: MediaType,
    /// When its bytes were published.
    pub created_at: Timestamp,
}

/// What a client says of a blob before the registry has looked at it. A digest alone makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvisionalDescriptor {
    /// The digest, of any supported algorithm, or the tarsum of a tar archive.
    pub digest: ProvisionalDigest,
    /// The length in bytes, checked where it is given.
    pub size: Option<u64>,
    /// The media type under which the repository is to serve the blob; `application/octet-stream` where none is given.
    pub media_type: Option<MediaType>,
}

impl<D: Into<ProvisionalDigest>> From<D> for ProvisionalDescriptor {
    fn from(digest: D) -> ProvisionalDescriptor {
        ProvisionalDescriptor { digest: digest.into(), size: None, media_type: None }
    }
}

impl From<&Descriptor> for ProvisionalDescriptor {
    fn from(descriptor: &Descriptor) -> ProvisionalDescriptor {
        ProvisionalDescriptor {
            digest: descriptor.digest.into(),
            size: Some(descriptor.size),
            media_type: Some(descriptor.media_type.clone()),
        }
    }
}
