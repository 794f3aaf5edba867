//! Import from the file system of a distribution registry: what `docker-registry` and the image `registry:2` keep below
//! `docker/registry/v2`.
//!
//! ```text
//! blobs/<algorithm>/<first two hex>/<hex>/data
//! repositories/<name>/_layers/<algorithm>/<hex>/link
//! repositories/<name>/_manifests/revisions/<algorithm>/<hex>/link
//! repositories/<name>/_manifests/revisions/<algorithm>/<hex>/signatures/<algorithm>/<hex>/link
//! repositories/<name>/_manifests/tags/<tag>/current/link
//! repositories/<name>/_manifests/tags/<tag>/index/<algorithm>/<hex>/link
//! repositories/<name>/_uploads/…                                          left out
//! ```
//!
//! Everything goes through the registry's services, so that what is imported is kept by the same rules as what was pushed,
//! and an import that was interrupted goes on where it stood. What can't be taken is told of with its path, and the rest comes.
//!
//! Of the tree, memory holds a page of each directory on the way, a few manifests, and of each of the four repositories that
//! are under way at once the digests of its layers and of what couldn't be taken from it; in a dry run those of its manifests too.

mod blob;
mod import;
mod layers;
mod manifest;
mod repository;
mod signatures;
mod tag;
mod tree;
mod walk;

pub use import::{Options, import};
