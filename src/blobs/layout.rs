//! Which path a digest or an upload has.

use super::UploadId;
use crate::oci::{Digest, DigestAlgorithm};
use std::path::{Path, PathBuf};

/// The paths below one root.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout of the store in `root`.
    pub(super) fn new(root: PathBuf) -> Layout {
        Layout { root }
    }

    /// The directory that holds everything.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// `blobs`
    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// `blobs/<algorithm>`
    pub(super) fn algorithm(&self, algorithm: DigestAlgorithm) -> PathBuf {
        self.blobs().join(algorithm.as_str())
    }

    /// `blobs/<algorithm>/<xx>`, which holds the 256th part of the blobs.
    pub(super) fn prefix(&self, digest: &Digest) -> PathBuf {
        self.algorithm(digest.algorithm()).join(&digest.hex()[..2])
    }

    /// `blobs/<algorithm>/<xx>/<hex>`
    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.algorithm(digest.algorithm()).join(&hex[..2]).join(hex)
    }

    /// `uploads`
    pub(super) fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    /// `uploads/<id>`
    pub(super) fn upload(&self, id: UploadId) -> PathBuf {
        self.uploads().join(id.to_string())
    }

    /// `quarantine`
    pub(super) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// `quarantine/<algorithm>-<hex>`
    pub(super) fn quarantined(&self, digest: &Digest) -> PathBuf {
        self.quarantine().join(format!("{}-{}", digest.algorithm(), digest.hex()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_the_documented_ones() {
        let layout = Layout::new(PathBuf::from("/data"));
        let empty: Digest =
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".parse().unwrap();
        assert_eq!(layout.prefix(&empty), Path::new("/data/blobs/sha256/e3"));
        assert_eq!(
            layout.blob(&empty),
            Path::new(
                "/data/blobs/sha256/e3/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
            )
        );
        let id: UploadId = "0190a6b0-7c3e-7d2f-8a4b-0123456789ab".parse().unwrap();
        assert_eq!(layout.upload(id), Path::new("/data/uploads/0190a6b0-7c3e-7d2f-8a4b-0123456789ab"));
    }
}
