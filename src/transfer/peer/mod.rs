//! Import from another registry, over HTTP: all of it, or what some patterns say.
//!
//! Each tag is asked for by HEAD, and what it points to is fetched where it isn't here: manifests with what they name, and what
//! refers to them, by the API of referrers or by the lists under tags. An import that is repeated therefore fetches what is
//! new. What has no tag, and neither an index nor a subject that has one, can't be listed over HTTP, and doesn't come.
//!
//! Memory holds the names of the repositories, one page of the tags of each of a few of them, and a few manifests.

mod source;
mod walk;

use crate::client::registry::Upstream;

pub use walk::import;

/// The other registry.
struct Peer<'p> {
    upstream: &'p Upstream,
    tell: &'p super::Tell<'p>,
    /// Whether it has said that it has no API of referrers.
    lacks_referrers: std::cell::Cell<bool>,
    /// How many requests in a row have found nobody.
    failures: std::cell::Cell<u32>,
}
