//! Header names and values of the API, and the conditions that requests put in headers.

use bytes::Bytes;
use http::header::{IF_NONE_MATCH, IF_RANGE};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The version of Docker's API that every answer under `/v2/` names.
pub(super) static API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
/// The value of [`API_VERSION`].
pub(super) const REGISTRY_2: HeaderValue = HeaderValue::from_static("registry/2.0");
/// The digest of the content that an answer is about.
pub(super) static CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// The id of the upload that an answer is about.
pub(super) static UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
/// The least length of a chunk that isn't the last.
pub(super) static CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");
/// The subject of the manifest that was pushed.
pub(super) static SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// A tag that a push created.
pub(super) static TAG: HeaderName = HeaderName::from_static("oci-tag");
/// The filters that were applied to a list of referrers.
pub(super) static FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
/// The name of one request in logs.
pub(super) static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The media type of bytes that mean nothing to the registry.
pub(super) const OCTET_STREAM: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// The media type of lists and errors.
pub(super) const APPLICATION_JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A header value of `text`, which comes from a type that admits only visible ASCII.
pub(super) fn value(text: impl Into<String>) -> HeaderValue {
    HeaderValue::try_from(text.into()).expect("validated words are visible ASCII")
}

/// The same of bytes that are kept elsewhere too.
pub(super) fn shared_value(text: &Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(text.clone()).expect("validated words are visible ASCII")
}

/// The entity tag of content with this digest.
pub(super) fn entity_tag(digest: &impl std::fmt::Display) -> HeaderValue {
    value(format!("\"{digest}\""))
}

/// Whether `If-None-Match` says that the client has the content already (RFC 9110, section 13.1.2).
pub(super) fn is_unchanged(headers: &HeaderMap, entity_tag: &HeaderValue) -> bool {
    headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|list| {
        list.split(',').map(str::trim).any(|candidate| {
            candidate == "*"
                || candidate.strip_prefix("W/").unwrap_or(candidate).as_bytes() == entity_tag.as_bytes()
        })
    })
}

/// Whether `If-Range`, if any, lets a range be served (RFC 9110, section 13.1.5). Only the very entity tag does: no
/// date is ever sent with a blob.
pub(super) fn may_be_partial(headers: &HeaderMap, entity_tag: &HeaderValue) -> bool {
    headers.get(IF_RANGE).is_none_or(|condition| condition == entity_tag)
}

#[cfg(test)]
mod tests {
    use crate::oci::{Digest, DigestAlgorithm};

    use super::*;

    fn headers(name: HeaderName, text: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(text).expect("a header value"))])
    }

    #[test]
    fn if_none_match_finds_the_tag_in_lists_and_compares_weakly() {
        let tag = entity_tag(&Digest::of(DigestAlgorithm::Sha256, b""));
        let text = tag.to_str().expect("ASCII").to_owned();
        for list in [text.clone(), format!("W/{text}"), format!("\"x\", {text}"), "*".to_owned()] {
            assert!(is_unchanged(&headers(IF_NONE_MATCH, &list), &tag), "{list}");
        }
        for list in ["\"x\"", "", text.trim_matches('"')] {
            assert!(!is_unchanged(&headers(IF_NONE_MATCH, list), &tag), "{list}");
        }
        assert!(!is_unchanged(&HeaderMap::new(), &tag));
    }

    #[test]
    fn if_range_compares_strongly_and_refuses_dates() {
        let tag = entity_tag(&Digest::of(DigestAlgorithm::Sha256, b""));
        let text = tag.to_str().expect("ASCII").to_owned();
        assert!(may_be_partial(&HeaderMap::new(), &tag));
        assert!(may_be_partial(&headers(IF_RANGE, &text), &tag));
        assert!(!may_be_partial(&headers(IF_RANGE, &format!("W/{text}")), &tag));
        assert!(!may_be_partial(&headers(IF_RANGE, "Sat, 29 Oct 1994 19:43:31 GMT"), &tag));
    }
}
