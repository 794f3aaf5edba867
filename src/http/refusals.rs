//! What the registry refuses, as the API answers it.

use http::HeaderValue;
use http::header::{ALLOW, RETRY_AFTER};
use serde_json::json;

use crate::oci::schema1::SignedManifestError;
use crate::registry::{self, CompactError};

use super::errors::{ApiError, ErrorCode, manifest_too_large, upload_unknown};

fn retry_after(error: ApiError) -> ApiError {
    error.with_header(RETRY_AFTER, HeaderValue::from_static("1"))
}

impl From<registry::Error> for ApiError {
    fn from(error: registry::Error) -> Self {
        use registry::Error;
        match error {
            Error::NameUnserved { .. } | Error::RepositoryRenamed { .. } => {
                Self::new(ErrorCode::NameUnknown, error.to_string())
            }
            Error::NameRefused { .. }
            | Error::NameCached(_)
            | Error::NotCached(_)
            | Error::QuotaExceeded { .. } => Self::new(ErrorCode::Denied, error.to_string()),
            Error::RepositoryUnknown => {
                Self::new(ErrorCode::NameUnknown, "there is no such repository; a push creates it")
            }
            Error::BlobUnknown(digest) => {
                Self::new(ErrorCode::BlobUnknown, format!("the repository has no blob {digest}"))
                    .with_detail(json!({ "digest": digest }))
            }
            Error::UploadUnknown => upload_unknown(),
            Error::UploadBusy => retry_after(Self::new(
                ErrorCode::TooManyRequests,
                "another request is writing to this upload; wait for its end, then ask for the upload's status",
            )),
            Error::UploadsExhausted => retry_after(Self::new(
                ErrorCode::TooManyRequests,
                "too many uploads are open; finish or cancel some, or try again later",
            )),
            Error::DigestMismatch { claimed, computed } => Self::new(
                ErrorCode::DigestInvalid,
                format!("the content's digest is {computed}, not {claimed}; upload it again"),
            )
            .with_detail(json!({ "claimed": claimed, "computed": computed })),
            Error::TarSum(reason) => Self::new(ErrorCode::DigestInvalid, reason.to_string()),
            Error::SizeMismatch { claimed, received } => Self::new(
                ErrorCode::SizeInvalid,
                format!("{received} bytes have come, not {claimed}; send the others, or name the right size"),
            ),
            Error::OffsetUnknown { offset, size } => Self::new(
                ErrorCode::RangeInvalid,
                format!("the upload has {size} bytes, so it can't go on at {offset}; go on from its end"),
            ),
            Error::ManifestUnknown => {
                Self::new(ErrorCode::ManifestUnknown, "the repository has no such manifest or tag")
            }
            Error::ManifestInvalid(reason) => Self::new(ErrorCode::ManifestInvalid, reason.to_string()),
            Error::SignedManifest(reason) => {
                let code = match reason {
                    SignedManifestError::Unverified(_) => ErrorCode::ManifestUnverified,
                    SignedManifestError::NameMismatch { .. } => ErrorCode::NameInvalid,
                    SignedManifestError::Invalid(_)
                    | SignedManifestError::TagMismatch { .. }
                    | SignedManifestError::OtherFormat
                    | SignedManifestError::TooManySignatures { .. }
                    | SignedManifestError::TooLarge { .. } => ErrorCode::ManifestInvalid,
                };
                Self::new(code, reason.to_string())
            }
            Error::ManifestReferencesUnknown(missing) => Self::new(
                ErrorCode::ManifestBlobUnknown,
                "the manifest names content that the repository doesn't hold; push that first",
            )
            .with_detail(json!({ "missing": missing })),
            Error::ManifestTooLarge { limit } => manifest_too_large(limit),
            Error::DeleteDisabled(what) => {
                Self::new(ErrorCode::Unsupported, format!("deleting {what} is switched off in this registry"))
                    .with_header(ALLOW, HeaderValue::from_static("GET, HEAD, PUT"))
            }
            Error::TagImmutable { tag, digest } => Self::new(
                ErrorCode::TagImmutable,
                format!(
                    "the tag {tag} is immutable in this registry and stays at {digest}; push another tag"
                ),
            )
            .with_detail(json!({ "tag": tag, "digest": digest })),
            Error::StillReferenced { digest, parents } => Self::new(
                ErrorCode::BlobReferenced,
                format!("manifests still need {digest}; delete those that `detail` lists first"),
            )
            .with_header(ALLOW, HeaderValue::from_static("GET, HEAD"))
            .with_detail(json!({ "digest": digest, "parents": parents })),
            Error::Compact(reason) => reason.into(),
            Error::VerifyRunning | Error::AccountsExhausted { .. } => {
                Self::new(ErrorCode::Conflict, error.to_string())
            }
            Error::VerifyStopped => Self::new(ErrorCode::Unavailable, error.to_string()),
            Error::NameTaken(_) => Self::new(ErrorCode::NameTaken, error.to_string()),
            Error::AccountUnknown { .. } => Self::new(ErrorCode::AccountUnknown, error.to_string()),
            Error::DeletionUnknown => Self::new(ErrorCode::DeletionUnknown, error.to_string()),
            Error::HistoryUnknown | Error::RevisionGone(_) => {
                Self::new(ErrorCode::ManifestUnknown, error.to_string())
            }
            Error::DiskFull => Self::storage_full(),
            Error::Disk(error) if error.is_full() => Self::storage_full(),
            Error::Unavailable => retry_after(Self::new(
                ErrorCode::Unavailable,
                "the registry's storage doesn't answer; try again in a moment",
            )),
            Error::Disk(error) => Self::failure(error),
            Error::Metadata(error) => Self::failure(error),
            Error::Io(error) => Self::failure(error),
        }
    }
}

impl From<CompactError> for ApiError {
    fn from(error: CompactError) -> Self {
        match error {
            CompactError::Busy => Self::new(ErrorCode::Conflict, error.to_string()),
            CompactError::NoRoom { .. } => Self::new(ErrorCode::StorageFull, error.to_string()),
            CompactError::Overtaken | CompactError::Reopened | CompactError::Stopped => {
                Self::new(ErrorCode::Unavailable, error.to_string())
            }
            CompactError::File(error) => registry::Error::from(error).into(),
            CompactError::Metadata(error) => registry::Error::from(error).into(),
            CompactError::Differs { .. } | CompactError::Open(_) => Self::failure(error),
        }
    }
}
