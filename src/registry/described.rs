//! What the manifests of a repository say of blobs that need not be here.

use super::{BlobService, Error};
use crate::metadata::manifests;
use crate::oci::{Digest, Manifest, MediaType};

/// How many manifests that name a blob are looked at.
const MANIFESTS: usize = 100;

impl BlobService {
    /// Whether some manifest of the repository names the blob as a part of an image whose blobs have `max_bytes` together at
    /// most; `None` where no manifest names it. Where more than a hundred name it, the rest isn't looked at.
    pub fn is_of_image_within(&self, digest: &Digest, max_bytes: u64) -> Result<Option<bool>, Error> {
        let found = self.scope().read(|tx, id| {
            let mut within = None;
            for parent in manifests::parents(tx, id, digest, MANIFESTS)? {
                let Some(record) = manifests::get(tx, id, &parent)? else { continue };
                let size = manifests::payload(tx, &parent, |bytes| image_size(&record.media_type, bytes))?;
                // What can't be read, or doesn't say, is of any size.
                let is_within = size.flatten().is_none_or(|size| size <= max_bytes);
                within = Some(is_within);
                if is_within {
                    break;
                }
            }
            Ok(within)
        })?;
        Ok(found.flatten())
    }
}

/// What the blobs of an image have together, each counted once; `None` where the manifest doesn't say it.
fn image_size(media_type: &MediaType, bytes: &[u8]) -> Option<u64> {
    let manifest = Manifest::parse(media_type, bytes).ok()?;
    let mut named: Vec<_> =
        manifest.children.iter().map(|child| (child.descriptor.digest, child.descriptor.size)).collect();
    named.sort_unstable();
    named.dedup_by_key(|(digest, _)| *digest);
    Some(named.iter().fold(0, |sum: u64, (_, size)| sum.saturating_add(*size)))
}
