//! What one client knows of its repository: what was acknowledged to it, and the one thing that was on its way.

use std::collections::{BTreeMap, BTreeSet};

use orlop::oci::{Digest, DigestAlgorithm};

use crate::random::Content;

/// The digest of `bytes` as text.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    Digest::of(DigestAlgorithm::Sha256, bytes).to_string()
}

/// A manifest and the blobs that it names.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) bytes: Vec<u8>,
    pub(crate) blobs: Vec<String>,
}

/// An upload in chunks that has not been finished.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    pub(crate) location: String,
    pub(crate) digest: String,
    pub(crate) content: Content,
    /// The end of the last chunk that was acknowledged.
    pub(crate) acknowledged: u64,
    /// The end of the chunk that was on its way.
    pub(crate) sent: u64,
    /// Whether the request that finishes the upload was on its way.
    pub(crate) is_finishing: bool,
}

/// A request whose answer may never have come.
#[derive(Debug, Clone)]
pub(crate) enum Doubt {
    Blob(String, Content),
    Image { digest: String, image: Image, tag: Option<String> },
    Untag(String),
    DeleteImage(String),
    DeleteBlob(String),
}

/// One repository, as its only client sees it.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) repository: String,
    pub(crate) blobs: BTreeMap<String, Content>,
    pub(crate) images: BTreeMap<String, Image>,
    /// The digest behind each tag.
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) uploads: Vec<Upload>,
    pub(crate) doubt: Option<Doubt>,
    /// What was acknowledged or deleted since the last check.
    pub(crate) fresh: BTreeSet<String>,
    /// What must not be there: deleted, or never finished.
    pub(crate) absent: BTreeSet<String>,
    /// How many blobs were deleted; they keep their rows and files, which nobody can reach.
    pub(crate) deleted_blobs: usize,
}

impl Ledger {
    pub(crate) fn new(repository: String) -> Self {
        Self { repository, ..Self::default() }
    }

    pub(crate) fn has_blob(&mut self, digest: String, content: Content) {
        self.absent.remove(&digest);
        self.fresh.insert(digest.clone());
        self.blobs.insert(digest, content);
    }

    pub(crate) fn has_image(&mut self, digest: String, image: Image) {
        self.absent.remove(&digest);
        self.fresh.insert(digest.clone());
        self.images.insert(digest, image);
    }

    pub(crate) fn lost_image(&mut self, digest: &str) {
        self.images.remove(digest);
        self.tags.retain(|_, named| named != digest);
        self.absent.insert(digest.to_owned());
    }

    pub(crate) fn lost_blob(&mut self, digest: &str) {
        self.blobs.remove(digest);
        self.deleted_blobs += 1;
        self.absent.insert(digest.to_owned());
    }

    /// The blobs that no image names.
    pub(crate) fn loose_blobs(&self) -> Vec<String> {
        let named: BTreeSet<&String> = self.images.values().flat_map(|image| &image.blobs).collect();
        self.blobs.keys().filter(|digest| !named.contains(digest)).cloned().collect()
    }
}
