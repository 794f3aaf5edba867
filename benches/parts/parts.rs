//! Every part.

use crate::case::Case;
use crate::{descriptor_cache, digest, group_commit, manifests, records, routes};

/// How the cases of a part are made.
type Cases = fn() -> Vec<Case>;

/// The parts by name, each with what makes its cases.
pub(crate) const PARTS: [(&str, Cases); 6] = [
    ("digest", digest::cases),
    ("routes", routes::cases),
    ("records", records::cases),
    ("manifests", manifests::cases),
    ("descriptor cache", descriptor_cache::cases),
    ("group commit", group_commit::cases),
];
