//! The signatures of schema 1 manifests, as distribution 2.0 to 2.2 kept them: each a blob of its own, beside the revision.

use super::repository::RepositoryImport;
use super::tree::{place, unreadable};
use crate::oci::Digest;
use crate::oci::schema1::Signature;
use crate::transfer::Error;
use crate::transfer::Skipped;

/// The longest signature that is read.
const SIGNATURE_BYTES: usize = 1 << 20;

impl RepositoryImport<'_> {
    /// Adds the signatures that a manifest has there to those that it has here.
    pub(super) async fn signatures(&self, manifest: &Digest) -> Result<(), Error> {
        let below = format!("{}/{}/signatures", self.revisions(), place(manifest));
        if self.signed.borrow().contains(manifest) {
            return Ok(());
        }
        for digest in self.import.tree.digests(&below) {
            self.signed.borrow_mut().insert(*manifest);
            let found = digest.and_then(|digest| {
                let below = format!("{below}/{}", place(&digest));
                Ok(self.signature(&below, &digest)?.map(|signature| (below, signature)))
            });
            match found {
                // One that isn't true doesn't keep the others out.
                Ok(Some((below, signature))) => self.sign(manifest, &below, signature).await?,
                Ok(None) => {}
                Err(skipped) => self.import.skip(skipped).await,
            }
        }
        Ok(())
    }

    async fn sign(&self, manifest: &Digest, below: &str, signature: Signature) -> Result<(), Error> {
        let options = &self.import.options;
        let came = if options.dry_run {
            1
        } else {
            match self.repository.signatures().put(manifest, vec![signature], &options.actor).await {
                Ok(merged) => merged.added.len() + merged.replaced.len(),
                Err(error) => return self.import.refused(below, error).await,
            }
        };
        self.import.report.borrow_mut().signatures += came as u64;
        Ok(())
    }

    fn signature(&self, below: &str, digest: &Digest) -> Result<Option<Signature>, Skipped> {
        let tree = self.import.tree;
        let Some(link) = tree.link(below)? else { return Ok(None) };
        let link_path = format!("{below}/link");
        if link.digest != *digest {
            return Err(tree.skip(&link_path, format!("it leads to another signature: {}", link.digest)));
        }
        let file = tree.data(digest)?;
        let file =
            file.ok_or_else(|| tree.skip(&link_path, format!("it leads to {digest}, which is not there")))?;
        let bytes = file.read_all(SIGNATURE_BYTES).map_err(unreadable)?;
        let computed = Digest::of(digest.algorithm(), &bytes);
        if computed != *digest {
            return Err(Skipped::new(file.path(), format!("its bytes have another digest: {computed}")));
        }
        Signature::from_json(&bytes).map(Some).map_err(|error| Skipped::new(file.path(), error.to_string()))
    }
}
