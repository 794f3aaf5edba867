//! The layers of a repository as a whole: how large they are, and those that no manifest names.

use super::repository::RepositoryImport;
use super::tree::{Tree, place};
use crate::oci::RepositoryName;
use crate::transfer::Error;

/// The bytes of all layers of a repository.
pub(super) fn bytes(tree: &Tree, name: &RepositoryName) -> u64 {
    let layers = format!("{}/_layers", super::tree::repository(name));
    let len = |digest| match tree.link(&format!("{layers}/{}", place(&digest))) {
        Ok(Some(link)) => tree.data_len(&link.digest),
        Ok(None) | Err(_) => 0,
    };
    tree.digests(&layers).flatten().map(len).fold(0, u64::saturating_add)
}

impl RepositoryImport<'_> {
    /// Counts the layers that no manifest names, or takes them where that is wanted.
    ///
    /// Such layers are what deleted images leave behind. A link to nothing is what the collection of a distribution registry
    /// leaves behind, and no damage.
    pub(super) async fn other_layers(&self) -> Result<(), Error> {
        let import = self.import;
        let mut total: u64 = 0;
        for digest in import.tree.digests(&self.layers()) {
            if import.is_over() {
                return Ok(());
            }
            let digest = match digest {
                Ok(digest) => digest,
                Err(skipped) => {
                    import.skip(skipped).await;
                    continue;
                }
            };
            let link = import.tree.link(&format!("{}/{}", self.layers(), place(&digest)));
            let len = match &link {
                Ok(Some(link)) => import.tree.data_len(&link.digest),
                Ok(None) | Err(_) => 0,
            };
            total = total.saturating_add(len);
            let is_named = self.named.borrow().contains(&digest);
            if is_named || self.has_failed(&digest) || self.repository.blobs().stat(digest)?.is_some() {
                continue;
            }
            let link = match link {
                Ok(Some(link)) => link,
                Ok(None) => continue,
                Err(skipped) => {
                    self.fail(&digest, skipped).await;
                    continue;
                }
            };
            if matches!(import.tree.data(&link.digest), Ok(None)) {
                continue;
            }
            if import.options.all_layers {
                self.layer(digest, None).await?;
            } else {
                let mut report = import.report.borrow_mut();
                report.unnamed_layers += 1;
                report.unnamed_bytes += len;
            }
        }
        // What was here before, or is left out, is done too.
        import.advance(total.saturating_sub(self.credited.get())).await;
        Ok(())
    }
}
