//! What a registry refuses of an import, told apart from its own failures.

use crate::registry;

/// Whether a failure is about what was to come, so that something else may come all the same.
pub(super) fn is_about_content(error: &registry::Error) -> bool {
    use registry::Error;
    match error {
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

/// What is told of a refusal.
pub(super) fn reason(error: &registry::Error) -> String {
    use registry::Error;
    match error {
        Error::DigestMismatch { computed, .. } => format!("its bytes have another digest: {computed}"),
        error => error.to_string(),
    }
}
