//! Why an archive has no `TarSum`.

/// Why an archive has no [`TarSum`](super::TarSum).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TarSumError {
    /// The bytes are not a tar archive.
    #[error("the content is not a tar archive: {0}")]
    NotTar(&'static str),
    /// The archive ends in the middle of an entry.
    #[error("the tar archive is cut short")]
    Truncated,
    /// The archive has something that implementations of `TarSum` don't agree about.
    #[error("the tar archive has no agreed tarsum: it has {0}")]
    Unsupported(&'static str),
    /// The archive has a longer name, link or set of attributes than is read.
    #[error("the tar archive has an extended header of {size} bytes; at most {limit} are allowed")]
    HeaderTooLarge {
        /// The size of the extended header in bytes.
        size: u64,
        /// The largest size that is read.
        limit: u64,
    },
    /// The archive has more files than are summed.
    #[error("the tar archive has more than {limit} entries")]
    TooManyEntries {
        /// The most entries of an archive.
        limit: usize,
    },
}
