//! Why an import or an export ends.

use crate::fsio::FileError;
use crate::registry;

/// Why an import or an export ended. What an import brought before is here, and the next one goes on behind it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was named can't be used; the text says why, and what to do.
    #[error("{0}")]
    Unusable(String),
    /// A file or a directory can't be read or written.
    #[error(transparent)]
    Unreadable(#[from] FileError),
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] registry::Error),
}
