//! What the services refuse, and what can fail below them.

use std::io;

use super::NameScope;
use crate::fsio::FileError;
use crate::metadata::{self, CompactError};
use crate::oci::schema1::SignedManifestError;
use crate::oci::tarsum::TarSumError;
use crate::oci::{Digest, ManifestError, ProvisionalDigest, RepositoryName, Tag};

/// Why a service did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is outside of the namespace's scope, and was to be read from.
    #[error("this registry serves only {scope}, and {name} is not among that")]
    NameUnserved {
        /// The name.
        name: RepositoryName,
        /// What is served.
        scope: NameScope,
    },
    /// The name is outside of the namespace's scope, and was to be changed.
    #[error("this registry takes only {scope}, and {name} is not among that")]
    NameRefused {
        /// The name.
        name: RepositoryName,
        /// What is served.
        scope: NameScope,
    },
    /// The repository has never had any content.
    #[error("there is no such repository; push to it first")]
    RepositoryUnknown,
    /// The repository has no such blob.
    #[error("the repository has no blob {0}")]
    BlobUnknown(ProvisionalDigest),
    /// The upload never was, is finished, cancelled or expired, belongs to another repository, or was lost in a crash
    /// before its first checkpoint.
    #[error("there is no such upload in this repository; begin a new one")]
    UploadUnknown,
    /// Another request is sending to the upload.
    #[error("another request is still sending to this upload; wait for it to end, or cancel the upload")]
    UploadBusy,
    /// As many uploads are open as the configuration allows.
    #[error("too many uploads are open; finish or cancel some, or try again later")]
    UploadsExhausted,
    /// The bytes are not those of the digest that the client named.
    #[error("the content has the digest {computed}, and {claimed} was named")]
    DigestMismatch {
        /// What the client named.
        claimed: ProvisionalDigest,
        /// What the bytes are.
        computed: ProvisionalDigest,
    },
    /// The client named a tarsum, and the bytes have none.
    #[error(transparent)]
    TarSum(#[from] TarSumError),
    /// The length of the bytes is not the one that the client named; the upload stays as it is.
    #[error("{received} bytes have come, and the blob is to have {claimed}")]
    SizeMismatch {
        /// What the client named.
        claimed: u64,
        /// What has come.
        received: u64,
    },
    /// An upload can't go on behind its end.
    #[error("the upload has {size} bytes, so it can't go on at {offset}")]
    OffsetUnknown {
        /// Where it was to go on.
        offset: u64,
        /// What it has.
        size: u64,
    },
    /// The repository has no such manifest or tag.
    #[error("the repository has no such manifest")]
    ManifestUnknown,
    /// The bytes are no manifest of the media type that they were pushed as.
    #[error(transparent)]
    ManifestInvalid(#[from] ManifestError),
    /// The manifest is no valid schema 1 manifest, isn't signed by the keys that it names, is about something else than it
    /// was pushed as, or can't be merged with the signatures that are there.
    #[error(transparent)]
    SignedManifest(#[from] SignedManifestError),
    /// The manifest names content that the repository doesn't have.
    #[error("the manifest names content that the repository doesn't have; push that first")]
    ManifestReferencesUnknown(Vec<Digest>),
    /// The manifest is larger than the configuration allows.
    #[error("the manifest is larger than {limit} bytes")]
    ManifestTooLarge {
        /// The largest size that is taken, in bytes.
        limit: usize,
    },
    /// The configuration switches deletions of this kind off.
    #[error("deletion of {0} is switched off on this registry")]
    DeleteDisabled(&'static str),
    /// The tag was to point elsewhere or to go, and the configuration says that it stays.
    #[error("the tag {tag} is immutable here and stays at {digest}")]
    TagImmutable {
        /// The tag.
        tag: Tag,
        /// The canonical digest of the manifest that it points to.
        digest: Digest,
    },
    /// Something live still names the content.
    #[error("{digest} is still named by a manifest; delete that first")]
    StillReferenced {
        /// What was to be deleted.
        digest: Digest,
        /// Some of those that name it.
        parents: Vec<Digest>,
    },
    /// The metadata could not be compacted, and is as it was.
    #[error(transparent)]
    Compact(#[from] CompactError),
    /// Another check of the store is under way.
    #[error("another check of the store is under way; wait for its end, or stop it")]
    VerifyRunning,
    /// Whoever wanted to know doesn't any more, or the server stops.
    #[error("the check was stopped before its end; a full one can be resumed")]
    VerifyStopped,
    /// Something else has the name that a deleted thing, or a repository, was to get.
    #[error("the name {0} is taken; delete or rename what has it first")]
    NameTaken(String),
    /// There is no user, or no access token, of this name.
    #[error("there is no {what} {name}")]
    AccountUnknown {
        /// `user` or `access token`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// There are as many users, or access tokens, as there may be.
    #[error("there are {most} {what}s, and there may be no more; remove some")]
    AccountsExhausted {
        /// `user` or `access token`.
        what: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// The name is for what is cached of an upstream.
    #[error(
        "{0} is a name for what is cached of an upstream, which can be neither renamed nor pushed to; choose another name"
    )]
    NameCached(RepositoryName),
    /// The repository is no copy of an upstream's.
    #[error(
        "{0} is a repository of this registry and no copy of an upstream's; delete or rename it to cache that"
    )]
    NotCached(RepositoryName),
    /// Nothing of that name was deleted lately enough to come back.
    #[error(
        "nothing of that name can come back: it was never deleted, or its time to be undeleted has passed"
    )]
    DeletionUnknown,
    /// The repository was renamed while the push was under way.
    #[error("the repository {from} is called {to} now; push there")]
    RepositoryRenamed {
        /// The name that was pushed to.
        from: RepositoryName,
        /// What it is called now.
        to: RepositoryName,
    },
    /// A tag has no entry of this number in its history, or nothing that it could go back to.
    #[error("the history of the tag has no such entry; `orlop tag history` lists what it has")]
    HistoryUnknown,
    /// What a tag was to go back to is in the repository no more.
    #[error("{0} was deleted or collected; undelete it first, or go back to another revision")]
    RevisionGone(Digest),
    /// The repository, or the store, would hold more than it may.
    #[error("{of} may hold {quota} bytes and has {used}; delete something, or have the quota raised")]
    QuotaExceeded {
        /// The repository, or the registry.
        of: String,
        /// What it may hold, in bytes.
        quota: u64,
        /// What it holds.
        used: u64,
        /// What was to come.
        more: u64,
    },
    /// The disk has no room.
    #[error("the registry's disk is full; what was sent is not kept")]
    DiskFull,
    /// The registry can't answer at the moment.
    #[error("the registry is not available at the moment; try again later")]
    Unavailable,
    /// A file operation failed.
    #[error(transparent)]
    Disk(FileError),
    /// The metadata failed.
    #[error(transparent)]
    Metadata(metadata::Error),
    /// Bytes of an open file could not be read or written.
    #[error(transparent)]
    Io(io::Error),
}

impl Error {
    /// Whether a failure is about what was to come, so that something else may come all the same.
    pub fn is_about_content(&self) -> bool {
        match self {
            Error::NameUnserved { .. }
            | Error::NameRefused { .. }
            | Error::NameCached(_)
            | Error::NameTaken(_)
            | Error::RepositoryRenamed { .. }
            | Error::RepositoryUnknown
            | Error::NotCached(_)
            | Error::BlobUnknown(_)
            | Error::DigestMismatch { .. }
            | Error::TarSum(_)
            | Error::SizeMismatch { .. }
            | Error::ManifestUnknown
            | Error::ManifestInvalid(_)
            | Error::SignedManifest(_)
            | Error::ManifestReferencesUnknown(_)
            | Error::ManifestTooLarge { .. }
            | Error::TagImmutable { .. }
            | Error::QuotaExceeded { .. } => true,
            Error::UploadUnknown
            | Error::UploadBusy
            | Error::UploadsExhausted
            | Error::OffsetUnknown { .. }
            | Error::DeleteDisabled(_)
            | Error::StillReferenced { .. }
            | Error::Compact(_)
            | Error::VerifyRunning
            | Error::VerifyStopped
            | Error::DeletionUnknown
            | Error::HistoryUnknown
            | Error::RevisionGone(_)
            | Error::AccountUnknown { .. }
            | Error::AccountsExhausted { .. }
            | Error::DiskFull
            | Error::Unavailable
            | Error::Disk(_)
            | Error::Metadata(_)
            | Error::Io(_) => false,
        }
    }
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Error {
        if error.is_full() { Error::DiskFull } else { Error::Disk(error) }
    }
}

impl From<metadata::Error> for Error {
    fn from(error: metadata::Error) -> Error {
        match error {
            metadata::Error::Full => Error::DiskFull,
            metadata::Error::Closed => Error::Unavailable,
            error @ (metadata::Error::Storage(_)
            | metadata::Error::Damaged { .. }
            | metadata::Error::NotCached(_)
            | metadata::Error::Panicked) => Error::Metadata(error),
        }
    }
}

/// Why a registry could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the data directory.
    #[error(
        "another process uses the data directory {0}; stop it first, or choose another directory with --data"
    )]
    Locked(std::path::PathBuf),
    /// There are blobs, and nothing that says what they are: a new database would make them look like nothing.
    #[error(
        "the data directory {0} has blobs, but its metadata.redb is missing or empty. Put metadata.redb back from a backup; to begin anew, move the directory blobs away"
    )]
    MetadataMissing(std::path::PathBuf),
    /// A restore of the directory was interrupted, or is under way.
    #[error(
        "the data directory {0} is being restored, and not all of it is there. Run the same orlop backup restore again, which goes on; or name another directory with --data"
    )]
    Unfinished(std::path::PathBuf),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The metadata could not be opened.
    #[error(transparent)]
    Metadata(#[from] metadata::OpenError),
}
