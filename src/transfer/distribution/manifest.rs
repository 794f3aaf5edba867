//! A manifest with all that it names.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::repository::RepositoryImport;
use super::tree::{place, unreadable};
use crate::oci::{Child, ChildRole, Digest, Manifest, ManifestKind, MediaType, Reference, detect_media_type};
use crate::registry::ManifestPut;
use crate::transfer::children::{Children, Took};
use crate::transfer::{Error, Skipped};

/// How deep indexes may name indexes.
const DEPTH: usize = 32;

/// A manifest as the tree has it.
struct Found {
    put: ManifestPut,
    parsed: Manifest,
}

impl RepositoryImport<'_> {
    /// Takes a manifest, with what it names before it. With `is_list` it is a list of referrers, as its tag says.
    pub(super) fn manifest(
        &self,
        digest: Digest,
        depth: usize,
        is_list: bool,
    ) -> LocalBoxFuture<'_, Result<Took, Error>> {
        async move {
            // Another tag or index may be about to take it too.
            let _turn = self.manifests.of(&digest).await;
            if self.has_failed(&digest) {
                return Ok(Took::Skipped);
            }
            let took = self.take_manifest(digest, depth, is_list).await?;
            if took == Took::Here {
                self.signatures(&digest).await?;
            }
            Ok(took)
        }
        .boxed_local()
    }

    async fn take_manifest(&self, digest: Digest, depth: usize, is_list: bool) -> Result<Took, Error> {
        let below = format!("{}/{}", self.revisions(), place(&digest));
        match self.import.tree.link(&below) {
            Ok(Some(link)) if link.digest == digest => {}
            Ok(Some(link)) => {
                let reason = format!("it leads to another manifest: {}", link.digest);
                return Ok(self.fail(&digest, self.import.tree.skip(&format!("{below}/link"), reason)).await);
            }
            // A deleted manifest leaves its directory behind.
            Ok(None) => return Ok(Took::Absent),
            Err(skipped) => return Ok(self.fail(&digest, skipped).await),
        }
        if self.pretended.borrow().contains(&digest) || self.repository.manifests().exists(&digest)? {
            return Ok(Took::Here);
        }
        let Found { put, parsed } = match self.read(&digest, &format!("{below}/link")) {
            Ok(found) => found,
            Err(skipped) => return Ok(self.fail(&digest, skipped).await),
        };
        if depth >= DEPTH {
            let reason = format!("it is named by an index in an index, {DEPTH} of them in all");
            return Ok(self.fail(&digest, self.import.tree.skip(&below, reason)).await);
        }
        let Children { missing, is_sparse } = self.children(&parsed, depth).await?;
        if self.import.is_over() {
            return Ok(Took::Skipped);
        }
        if let Some(missing) = missing {
            let reason = format!("it names {missing}, which can't be had");
            return Ok(self.fail(&digest, self.import.tree.skip(&below, reason)).await);
        }
        if self.import.options.dry_run {
            self.pretended.borrow_mut().insert(digest);
        } else if let Err(error) = self.repository.manifests().put_as_found(put, is_list).await {
            self.failed.borrow_mut().insert(digest);
            self.import.refused(&below, error).await?;
            return Ok(Took::Skipped);
        }
        self.came.set(self.came.get() + 1);
        let mut report = self.import.report.borrow_mut();
        report.manifests += 1;
        report.sparse_indexes += u64::from(is_sparse);
        Ok(Took::Here)
    }

    /// Reads the manifest that a link leads to.
    fn read(&self, digest: &Digest, link: &str) -> Result<Found, Skipped> {
        let tree = self.import.tree;
        let file = tree.data(digest)?;
        let file =
            file.ok_or_else(|| tree.skip(link, format!("it leads to {digest}, which is not there")))?;
        let path = file.path().to_owned();
        let limit = self.import.registry.policy().max_manifest_bytes;
        let bytes = file.read_all(limit).map_err(unreadable)?;
        let computed = Digest::of(digest.algorithm(), &bytes);
        if computed != *digest {
            return Err(Skipped::new(path, format!("its bytes have another digest: {computed}")));
        }
        let media_type = detect(&bytes)
            .ok_or_else(|| Skipped::new(&path, "it is no manifest of a kind that is known here"))?;
        let parsed =
            Manifest::parse(&media_type, &bytes).map_err(|error| Skipped::new(&path, error.to_string()))?;
        let put = ManifestPut {
            payload: bytes.into(),
            media_type,
            reference: Reference::Digest(*digest),
            tags: Vec::new(),
            actor: self.import.options.actor.clone(),
        };
        Ok(Found { put, parsed })
    }

    /// Takes what a manifest names.
    async fn children(&self, manifest: &Manifest, depth: usize) -> Result<Children, Error> {
        let has_sizes = manifest.kind != ManifestKind::Schema1;
        let take = |child: &'_ Child| {
            let (named, role) = (child.descriptor.clone(), child.role);
            async move {
                match role {
                    ChildRole::Manifest => match self.manifest(named.digest, depth + 1, false).await? {
                        // BuildKit's cache indexes name blobs where others name manifests.
                        Took::Absent => self.blob(&named, true).await,
                        took => Ok(took),
                    },
                    ChildRole::Config | ChildRole::Layer => self.blob(&named, has_sizes).await,
                }
            }
        };
        Children::of(manifest, || self.import.is_over(), take).await
    }
}

/// The media type of a manifest, as the registry that kept it would have said: what it says itself, else by what is in it.
fn detect(bytes: &[u8]) -> Option<MediaType> {
    let media_type = detect_media_type(bytes)?;
    let signed = MediaType::DOCKER_MANIFEST_SCHEMA1_SIGNED;
    // Signatures lie beside the payload. One with its signatures inside has another digest than its payload.
    Some(if media_type == signed { MediaType::DOCKER_MANIFEST_SCHEMA1 } else { media_type })
}
