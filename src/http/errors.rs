//! What the API answers when it can't do what was asked.

use std::borrow::Cow;
use std::fmt::Display;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::oci::DigestError;

use super::headers::APPLICATION_JSON;

/// Everything that an answer can say went wrong: the specification's codes, the ones that Docker added, and a few cases
/// that share such a code but not its usual status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The repository doesn't hold the blob.
    BlobUnknown,
    /// A blob that manifests still need can't be deleted.
    BlobReferenced,
    /// The blob is longer than the limit.
    BlobTooLarge,
    /// The upload can't go on with this request.
    BlobUploadInvalid,
    /// There is no such upload session.
    BlobUploadUnknown,
    /// A digest is malformed, of an unsupported algorithm, or not that of the content.
    DigestInvalid,
    /// A manifest names content that the repository doesn't hold.
    ManifestBlobUnknown,
    /// The manifest can't be understood.
    ManifestInvalid,
    /// The manifest is longer than the limit.
    ManifestTooLarge,
    /// The repository holds no such manifest.
    ManifestUnknown,
    /// A signature of the manifest doesn't verify.
    ManifestUnverified,
    /// The repository's name doesn't follow the grammar.
    NameInvalid,
    /// There is no such repository.
    NameUnknown,
    /// The `n` of a listing isn't a number.
    PaginationNumberInvalid,
    /// A chunk or a part of a blob is not where it was asked to be.
    RangeInvalid,
    /// A request asks for more parts of a blob than the limit.
    RangesTooMany,
    /// A length disagrees with what was sent.
    SizeInvalid,
    /// The disk is full, or as full as it may become.
    StorageFull,
    /// The tag may neither point elsewhere nor go.
    TagImmutable,
    /// A tag doesn't follow the grammar.
    TagInvalid,
    /// A push names more tags than the limit.
    TagsTooMany,
    /// The client has to log in.
    Unauthorized,
    /// The client may not do this.
    Denied,
    /// Something else has the name that something was to get.
    NameTaken,
    /// Nothing of this name was deleted that could come back.
    DeletionUnknown,
    /// There is no user, or no access token, of this name.
    AccountUnknown,
    /// The body or the query of a request to the admin API isn't what the end-point takes.
    RequestInvalid,
    /// What was asked for contradicts what is there.
    Conflict,
    /// The registry is busy with something that the request needs; it may be sent again.
    TooManyRequests,
    /// The path with its query is longer than the limit.
    UrlTooLong,
    /// The body of a request that pushes nothing is longer than the limit.
    BodyTooLarge,
    /// No end-point has this path.
    EndpointUnknown,
    /// The end-point doesn't do this, or it is switched off.
    Unsupported,
    /// The registry can't serve now; it may be asked again.
    Unavailable,
    /// What an upstream has answered can't be used.
    UpstreamInvalid,
    /// The registry failed.
    Unknown,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [ErrorCode; 36] = [
        ErrorCode::BlobUnknown,
        ErrorCode::BlobReferenced,
        ErrorCode::BlobTooLarge,
        ErrorCode::BlobUploadInvalid,
        ErrorCode::BlobUploadUnknown,
        ErrorCode::DigestInvalid,
        ErrorCode::ManifestBlobUnknown,
        ErrorCode::ManifestInvalid,
        ErrorCode::ManifestTooLarge,
        ErrorCode::ManifestUnknown,
        ErrorCode::ManifestUnverified,
        ErrorCode::NameInvalid,
        ErrorCode::NameUnknown,
        ErrorCode::PaginationNumberInvalid,
        ErrorCode::RangeInvalid,
        ErrorCode::RangesTooMany,
        ErrorCode::SizeInvalid,
        ErrorCode::StorageFull,
        ErrorCode::TagImmutable,
        ErrorCode::TagInvalid,
        ErrorCode::TagsTooMany,
        ErrorCode::Unauthorized,
        ErrorCode::Denied,
        ErrorCode::NameTaken,
        ErrorCode::DeletionUnknown,
        ErrorCode::AccountUnknown,
        ErrorCode::RequestInvalid,
        ErrorCode::Conflict,
        ErrorCode::TooManyRequests,
        ErrorCode::UrlTooLong,
        ErrorCode::BodyTooLarge,
        ErrorCode::EndpointUnknown,
        ErrorCode::Unsupported,
        ErrorCode::Unavailable,
        ErrorCode::UpstreamInvalid,
        ErrorCode::Unknown,
    ];

    /// The status of an answer with this code.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BlobUploadInvalid
            | Self::DigestInvalid
            | Self::ManifestInvalid
            | Self::ManifestUnverified
            | Self::NameInvalid
            | Self::PaginationNumberInvalid
            | Self::RangesTooMany
            | Self::RequestInvalid
            | Self::SizeInvalid
            | Self::TagInvalid => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Conflict | Self::NameTaken | Self::TagImmutable => StatusCode::CONFLICT,
            Self::BlobUnknown
            | Self::BlobUploadUnknown
            | Self::ManifestBlobUnknown
            | Self::ManifestUnknown
            | Self::NameUnknown
            | Self::DeletionUnknown
            | Self::AccountUnknown
            | Self::EndpointUnknown => StatusCode::NOT_FOUND,
            Self::BlobReferenced | Self::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Self::BlobTooLarge | Self::BodyTooLarge | Self::ManifestTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TagsTooMany | Self::UrlTooLong => StatusCode::URI_TOO_LONG,
            Self::RangeInvalid => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamInvalid => StatusCode::BAD_GATEWAY,
            Self::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        }
    }

    /// The code on the wire; clients know these words and no others.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::ManifestUnverified => "MANIFEST_UNVERIFIED",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown | Self::DeletionUnknown | Self::AccountUnknown => "NAME_UNKNOWN",
            Self::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Self::RangeInvalid | Self::RangesTooMany => "RANGE_INVALID",
            Self::BlobTooLarge | Self::BodyTooLarge | Self::ManifestTooLarge | Self::SizeInvalid => {
                "SIZE_INVALID"
            }
            Self::TagInvalid | Self::TagsTooMany => "TAG_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            // Docker gives up at once on DENIED and shows the message; on other codes it tries five times more.
            Self::Denied
            | Self::Conflict
            | Self::NameTaken
            | Self::BlobReferenced
            | Self::StorageFull
            | Self::TagImmutable => "DENIED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::RequestInvalid | Self::UrlTooLong | Self::EndpointUnknown | Self::Unsupported => {
                "UNSUPPORTED"
            }
            Self::Unavailable | Self::UpstreamInvalid => "UNAVAILABLE",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// An answer that says no, in the envelope of the specification.
#[derive(Debug)]
pub(super) struct ApiError(Box<Parts>);

#[derive(Debug)]
struct Parts {
    code: ErrorCode,
    message: Cow<'static, str>,
    detail: Value,
    headers: HeaderMap,
    failure: Option<Failure>,
}

/// What really happened when an answer only says that the registry failed. It travels with the answer to the log line
/// of the request, and to no client.
#[derive(Debug, Clone)]
pub(super) struct Failure(pub(super) String);

impl ApiError {
    /// An error whose `message` says what to do.
    pub(super) fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        let (message, headers) = (message.into(), HeaderMap::new());
        Self(Box::new(Parts { code, message, detail: Value::Null, headers, failure: None }))
    }

    /// A failure of the registry itself, of which the client learns nothing but that it happened.
    pub(super) fn failure(failure: impl Display) -> Self {
        let mut error = Self::new(
            ErrorCode::Unknown,
            "the registry failed to do this; try again, and ask its operator to look for the request's id in the log",
        );
        error.0.failure = Some(Failure(failure.to_string()));
        error
    }

    /// The same error for somebody who may know what went wrong inside.
    pub(super) fn disclosed(mut self) -> Self {
        if let Some(Failure(failure)) = &self.0.failure {
            self.0.message = Cow::Owned(failure.clone());
        }
        self
    }

    /// What went wrong inside.
    pub(super) fn inner_failure(&self) -> Option<&str> {
        self.0.failure.as_ref().map(|failure| failure.0.as_str())
    }

    /// The error as it stands in the envelope.
    pub(super) fn entry(self) -> ErrorEntry {
        let Parts { code, message, detail, .. } = *self.0;
        ErrorEntry { code: code.as_str().to_owned(), message: message.into_owned(), detail }
    }

    /// The same error with a machine-readable `detail`.
    pub(super) fn with_detail(mut self, detail: Value) -> Self {
        self.0.detail = detail;
        self
    }

    /// The same error with one more header.
    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// The end-point exists, but only for the methods in `allow`.
    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        Self::new(ErrorCode::Unsupported, format!("this end-point answers {allow} only"))
            .with_header(ALLOW, HeaderValue::from_static(allow))
    }

    /// No part that a request asks for lies inside the `size` bytes.
    pub(super) fn range_not_satisfiable(size: u64) -> Self {
        let error = Self::new(
            ErrorCode::RangeInvalid,
            format!("ask for bytes between 0 and the blob's length, {size}"),
        );
        match HeaderValue::try_from(format!("bytes */{size}")) {
            Ok(value) => error.with_header(CONTENT_RANGE, value),
            Err(_) => error,
        }
    }

    /// The disk has no room for what is being pushed.
    pub(super) fn storage_full() -> Self {
        Self::new(
            ErrorCode::StorageFull,
            "the registry's disk is full; pulls go on, pushes work again as soon as its operator has made room",
        )
    }

    pub(super) fn code(&self) -> ErrorCode {
        self.0.code
    }
}

impl From<DigestError> for ApiError {
    fn from(error: DigestError) -> Self {
        Self::new(ErrorCode::DigestInvalid, error.to_string())
    }
}

/// The answer for an upload that never was, is over, or was lost in a crash.
pub(super) fn upload_unknown() -> ApiError {
    ApiError::new(
        ErrorCode::BlobUploadUnknown,
        "there is no such upload in this repository, or it has ended; start a new one",
    )
}

/// The answer for a manifest of more than `limit` bytes.
pub(super) fn manifest_too_large(limit: usize) -> ApiError {
    ApiError::new(
        ErrorCode::ManifestTooLarge,
        format!("a manifest may have {limit} bytes at most in this registry"),
    )
    .with_detail(json!({ "limit": limit }))
}

/// The envelope of the specification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Errors {
    /// One error, or several.
    pub errors: Vec<ErrorEntry>,
}

/// An error in the envelope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorEntry {
    /// One of [`ErrorCode`]'s words.
    pub code: String,
    /// What to do.
    pub message: String,
    /// What a program may want to know.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub detail: Value,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Parts { code, message, detail, headers, failure } = *self.0;
        let entry = ErrorEntry { code: code.as_str().to_owned(), message: message.into_owned(), detail };
        let body = serde_json::to_vec(&Errors { errors: vec![entry] })
            .expect("strings and JSON values can always be written as JSON");
        let len = body.len();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = code.status();
        *response.headers_mut() = headers;
        response.headers_mut().insert(CONTENT_TYPE, APPLICATION_JSON);
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(len));
        response.extensions_mut().insert(code);
        if let Some(failure) = failure {
            response.extensions_mut().insert(failure);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use http::header::RETRY_AFTER;
    use http_body_util::BodyExt;

    use super::*;
    use crate::registry;

    fn body_of(response: Response) -> Value {
        let bytes = futures_util::FutureExt::now_or_never(response.into_body().collect())
            .expect("a body in memory")
            .expect("no error")
            .to_bytes();
        serde_json::from_slice(&bytes).expect("JSON")
    }

    #[test]
    fn an_error_is_the_envelope_of_the_specification() {
        let error = ApiError::new(ErrorCode::TagInvalid, "say what to do").with_detail(json!({ "tag": "?" }));
        let response = error.into_response();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(
            body_of(response),
            json!({"errors": [{"code": "TAG_INVALID", "message": "say what to do", "detail": {"tag": "?"}}]})
        );
    }

    #[test]
    fn a_failure_is_kept_for_the_log_and_not_shown() {
        let io = std::io::Error::other("/secret/path: input/output error");
        let response = ApiError::from(registry::Error::Io(io)).into_response();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(
            response.extensions().get::<Failure>().is_some_and(|failure| failure.0.contains("/secret/path"))
        );
        assert!(!body_of(response).to_string().contains("secret"));
    }

    #[test]
    fn a_full_disk_is_507_and_busy_answers_say_when_to_come_back() {
        let full = ApiError::from(registry::Error::DiskFull).into_response();
        assert_eq!(full.status(), StatusCode::INSUFFICIENT_STORAGE);
        for busy in
            [registry::Error::UploadBusy, registry::Error::UploadsExhausted, registry::Error::Unavailable]
        {
            let response = ApiError::from(busy).into_response();
            assert_eq!(response.headers()[RETRY_AFTER], "1");
        }
    }

    #[test]
    fn a_method_that_is_not_allowed_names_those_that_are() {
        let response = ApiError::method_not_allowed("GET, HEAD").into_response();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()[ALLOW], "GET, HEAD");
    }

    #[test]
    fn all_lists_every_code_once() {
        let codes: std::collections::HashSet<_> = ErrorCode::ALL.into_iter().collect();
        assert_eq!(codes.len(), ErrorCode::ALL.len());
    }
}
