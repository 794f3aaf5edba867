//! Export of images, as an OCI image layout or as an archive that `docker load` reads.
//!
//! First a [`Plan`] says which files there will be, and how long each is; then its bytes are one tar archive, which comes piece
//! by piece and is hashed on the way out. The same content always gives the same bytes: names are in order, and no file has a
//! time or an owner.

mod plan;
mod stream;
mod unpack;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::oci::{Digest, RepositoryName, Tag};
use crate::proxy::Platform;

pub use plan::plan;
pub use stream::ArchiveStream;
pub use unpack::Unpacking;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// An OCI image layout.
    Oci,
    /// What `docker load` reads.
    Docker,
}

/// An image to export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag that it is called by; with neither tag nor digest, every tag is meant.
    pub tag: Option<Tag>,
    /// The manifest, where it isn't the one that the tag points to.
    pub digest: Option<Digest>,
}

/// What is exported, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is written.
    pub format: Format,
    /// The one platform that is taken of images for several; all in a layout, and this machine's own for Docker, where none
    /// is named.
    pub platform: Option<Platform>,
    /// Whether what refers to the images comes too.
    pub referrers: bool,
}

/// An image of a plan, as it will be called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Option<Tag>,
    /// The manifest that the archive has for it.
    pub digest: Digest,
}

/// Content that is named and that the registry doesn't have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absent {
    /// The repository.
    pub repository: RepositoryName,
    /// The manifest that names it.
    pub manifest: Digest,
    /// What is named.
    pub digest: Digest,
}

/// What an archive will have.
#[derive(Debug)]
pub struct Plan {
    /// The images, in the order of their names.
    pub images: Vec<Planned>,
    /// Content that is left out, since it isn't here: manifests of sparse indexes, and layers that need not be.
    pub absent: Vec<Absent>,
    /// How many manifests there are, and how many blobs.
    pub manifests: u64,
    /// See `manifests`.
    pub blobs: u64,
    /// The files by their names, and the lists in front of them.
    files: BTreeMap<String, File>,
    heads: Vec<(&'static str, Vec<u8>)>,
}

/// Content that is one file of an archive.
#[derive(Debug, Clone)]
struct File {
    /// A repository that has it.
    repository: RepositoryName,
    digest: Digest,
    len: u64,
    is_manifest: bool,
}
