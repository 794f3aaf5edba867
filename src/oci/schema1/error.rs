//! Why a schema 1 manifest is refused.

use crate::oci::text::excerpt;

/// Why a schema 1 manifest, its signatures or a set of them is refused.
///
/// Messages quote at most a short excerpt of what they refuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignedManifestError {
    /// The document is well-formed, but isn't signed by the keys that it names (`MANIFEST_UNVERIFIED`).
    #[error("the manifest is not verified: {0}")]
    Unverified(String),
    /// The document can't be read as what it claims to be (`MANIFEST_INVALID`).
    #[error("the manifest is not a valid schema 1 manifest: {0}")]
    Invalid(String),
    /// The manifest is about another repository (`NAME_INVALID`).
    #[error("the manifest says that its name is `{}`, but it was pushed to `{pushed}`", excerpt(.stated))]
    NameMismatch {
        /// What the manifest says.
        stated: String,
        /// The repository that it was pushed to.
        pushed: String,
    },
    /// The manifest is about another tag (`MANIFEST_INVALID`).
    #[error("the manifest says that its tag is `{}`, but it was pushed as `{pushed}`", excerpt(.stated))]
    TagMismatch {
        /// What the manifest says.
        stated: String,
        /// The tag that it was pushed as.
        pushed: String,
    },
    /// The signatures take the payload apart at another place than those that are kept (`MANIFEST_INVALID`).
    #[error(
        "the signatures have another formatLength or formatTail than those that the registry has for this manifest, so that \
         they can't be served together"
    )]
    OtherFormat,
    /// There would be more signatures of one manifest than are kept (`MANIFEST_INVALID`).
    #[error("the manifest would have more than {limit} signatures")]
    TooManySignatures {
        /// The most signatures that are kept.
        limit: usize,
    },
    /// The manifest with all its signatures would be larger than a manifest may be (`MANIFEST_INVALID`).
    #[error("the manifest with all its signatures would have {size} bytes; at most {limit} are allowed")]
    TooLarge {
        /// The size of the merged manifest in bytes.
        size: usize,
        /// The largest size of a manifest in bytes.
        limit: usize,
    },
}
