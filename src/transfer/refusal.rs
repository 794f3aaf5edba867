//! How what a registry refuses of an import is told of.

use crate::registry;

/// What is told of a refusal.
pub(super) fn reason(error: &registry::Error) -> String {
    use registry::Error;
    match error {
        Error::DigestMismatch { computed, .. } => format!("its bytes have another digest: {computed}"),
        error => error.to_string(),
    }
}
