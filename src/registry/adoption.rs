//! Blobs that are taken from the files of another registry's store, without a copy of their bytes.

use std::sync::Arc;

use super::{Actor, BlobDescriptor, BlobService, Error, eviction};
use crate::fsio::{Adoption, SourceFile};
use crate::oci::{Digest, DigestAlgorithm};

impl BlobService {
    /// Makes a file of another tree a blob of this repository, without copying its bytes; `None` where the file system can't,
    /// and for a digest that isn't canonical, whose bytes have to be copied.
    ///
    /// With `is_hashed` the bytes have to be those of the digest, as in a push. Without it the caller vouches for them: only
    /// their number is known.
    pub async fn adopt(
        &self,
        source: Arc<SourceFile>,
        digest: &Digest,
        how: Adoption,
        is_hashed: bool,
        actor: &Actor,
    ) -> Result<Option<BlobDescriptor>, Error> {
        if digest.algorithm() != DigestAlgorithm::CANONICAL {
            return Ok(None);
        }
        eviction::make_space(&self.scope().inner, 0).await?;
        let mut writer = self.create(DigestAlgorithm::CANONICAL, actor)?;
        match writer.adopt(source, how).await {
            Ok(true) if is_hashed => writer.commit(digest).await.map(Some),
            Ok(true) => writer.commit_vouched(*digest).await.map(Some),
            Ok(false) => writer.cancel().await.map(|()| None),
            Err(error) => {
                writer.cancel().await?;
                Err(error)
            }
        }
    }
}
