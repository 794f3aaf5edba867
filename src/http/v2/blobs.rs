//! Blobs: GET, HEAD and DELETE.

use axum::body::Body;
use axum::response::Response;
use http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::oci::{Digest, ProvisionalDigest, RepositoryName};
use crate::registry::{self, BlobReader, BlobService};

use super::super::body::BlobBodies;
use super::super::errors::{ApiError, ErrorCode};
use super::super::headers::{CONTENT_DIGEST, OCTET_STREAM, entity_tag, is_unchanged, may_be_partial, value};
use super::super::ranges::{ByteRange, MAX_RANGES, Multipart, RangeError, Selection, select};
use super::{Answer, Call, empty};

/// A blob never changes, and neither does the right to have had it.
const FOR_A_YEAR: HeaderValue = HeaderValue::from_static("max-age=31536000");
const BYTES: HeaderValue = HeaderValue::from_static("bytes");

/// Answers with a blob, or with the parts of it that are asked for.
pub(super) fn get_blob(call: &Call<'_>, name: &RepositoryName, digest: &ProvisionalDigest) -> Answer {
    let blobs = call.repository(name).blobs();
    let bytes = digest_of_bytes(&blobs, digest)?;
    let entity_tag = entity_tag(&bytes);
    if is_unchanged(call.headers(), &entity_tag) {
        let Some(blob) = blobs.stat(bytes)? else { return Err(unknown(digest)) };
        return Ok(not_modified(digest, entity_tag, blob.size));
    }
    let Some(blob) = blobs.open(bytes)? else { return Err(unknown(digest)) };
    let selection = selected(call.headers(), &entity_tag, blob.size())?;
    Ok(with_bytes(&call.app.bodies, blob, selection, |status| described(status, digest, entity_tag)))
}

/// Answers with what is known of a blob, without its bytes.
///
/// A client that hears that the blob is there doesn't push it, and may name it in a manifest for as long as the lease lasts.
pub(super) async fn head_blob(call: &Call<'_>, name: &RepositoryName, digest: &ProvisionalDigest) -> Answer {
    let blobs = call.repository(name).blobs();
    let bytes = digest_of_bytes(&blobs, digest)?;
    let entity_tag = entity_tag(&bytes);
    let Some(blob) = blobs.stat_held(bytes).await? else { return Err(unknown(digest)) };
    if is_unchanged(call.headers(), &entity_tag) {
        return Ok(not_modified(digest, entity_tag, blob.size));
    }
    let mut response = described(StatusCode::OK, digest, entity_tag);
    response.headers_mut().insert(CONTENT_TYPE, OCTET_STREAM);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(blob.size));
    Ok(response)
}

/// Takes a blob from the repository.
pub(super) async fn delete_blob(
    call: &Call<'_>,
    name: &RepositoryName,
    digest: &ProvisionalDigest,
) -> Answer {
    if call.repository(name).blobs().delete_with(digest, call.force()).await? {
        Ok(empty(StatusCode::ACCEPTED))
    } else {
        Err(unknown(digest))
    }
}

/// A digest that always stands for the same bytes: of a tarsum, which may lead to another archive tomorrow, the canonical one.
fn digest_of_bytes(blobs: &BlobService, digest: &ProvisionalDigest) -> Result<Digest, ApiError> {
    match digest {
        ProvisionalDigest::Digest(digest) => Ok(*digest),
        ProvisionalDigest::TarSum(_) => match blobs.stat(digest)? {
            Some(blob) => Ok(blob.digest),
            None => Err(unknown(digest)),
        },
    }
}

fn unknown(digest: &ProvisionalDigest) -> ApiError {
    registry::Error::BlobUnknown(*digest).into()
}

/// An answer with the headers that every answer about a blob has.
fn described(status: StatusCode, digest: &ProvisionalDigest, entity_tag: HeaderValue) -> Response {
    let mut response = empty(status);
    let headers = response.headers_mut();
    headers.insert(CONTENT_DIGEST.clone(), value(digest.to_string()));
    headers.insert(ETAG, entity_tag);
    if digest.digest().is_some() {
        headers.insert(CACHE_CONTROL, FOR_A_YEAR);
    }
    headers.insert(ACCEPT_RANGES, BYTES);
    response
}

/// The answer that the client has the blob already. Its length is the blob's, as HTTP wants it.
fn not_modified(digest: &ProvisionalDigest, entity_tag: HeaderValue, size: u64) -> Response {
    let mut response = described(StatusCode::NOT_MODIFIED, digest, entity_tag);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(size));
    response
}

/// What the request's `Range` selects of a blob of `size` bytes.
fn selected(headers: &HeaderMap, entity_tag: &HeaderValue, size: u64) -> Result<Selection, ApiError> {
    let Some(range) = headers.get(RANGE).filter(|_| may_be_partial(headers, entity_tag)) else {
        return Ok(Selection::Whole);
    };
    let Ok(range) = range.to_str() else { return Ok(Selection::Whole) };
    select(range, size).map_err(|error| match error {
        RangeError::Unsatisfiable => ApiError::range_not_satisfiable(size),
        RangeError::TooMany => ApiError::new(
            ErrorCode::RangesTooMany,
            format!("one request may ask for {MAX_RANGES} ranges at most; ask for the rest in another"),
        ),
    })
}

/// The answer that `head` begins, with the selected bytes of `blob`.
fn with_bytes(
    bodies: &BlobBodies,
    blob: BlobReader,
    selection: Selection,
    head: impl FnOnce(StatusCode) -> Response,
) -> Response {
    let size = blob.size();
    let (mut response, body, content_type) = match selection {
        Selection::Whole => {
            (head(StatusCode::OK), bodies.part(blob, ByteRange { start: 0, end: size }), OCTET_STREAM)
        }
        Selection::One(range) => {
            let mut response = head(StatusCode::PARTIAL_CONTENT);
            response.headers_mut().insert(CONTENT_RANGE, value(range.content_range(size)));
            (response, bodies.part(blob, range), OCTET_STREAM)
        }
        Selection::Many(ranges) => {
            let frame = Multipart::new(&ranges, size);
            let content_type = value(frame.content_type());
            (head(StatusCode::PARTIAL_CONTENT), bodies.multipart(blob, &ranges, frame), content_type)
        }
    };
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    response.map(|_| Body::new(body))
}
