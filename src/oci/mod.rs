//! The words of the OCI specifications as types: pure, without input or output.
//!
//! Every value here exists only by parsing, so that a function that takes one never checks it again. All parsing is
//! bounded: an input of `n` bytes costs `O(n)` time and memory, never panics, and an error quotes at most a short excerpt
//! of what it refuses. This is also the only place that hashes (`sha2` is named nowhere else).

mod descriptor;
mod digest;
mod hasher;
mod manifest;
mod media_type;
mod provisional_digest;
mod reference;
mod repository_name;
pub mod schema1;
mod tag;
pub mod tarsum;
mod text;

pub use descriptor::Descriptor;
pub use digest::{Digest, DigestAlgorithm, DigestError};
pub use hasher::{HashState, Hasher};
pub use manifest::{Child, ChildRole, Manifest, ManifestError, ManifestKind, detect_media_type};
pub use media_type::{MediaType, MediaTypeError};
pub use provisional_digest::ProvisionalDigest;
pub use reference::{Reference, ReferenceError};
pub use repository_name::{NameError, RepositoryName};
pub use tag::{Tag, TagError};
