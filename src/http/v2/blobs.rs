//! Blobs: GET, HEAD and DELETE.

use axum::body::Body;
use axum::response::Response;
use futures_util::stream::try_unfold;
use http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::oci::{Digest, ProvisionalDigest, RepositoryName};
use crate::proxy::{BlobSource, CachedRepository, Outcome, Source, StreamedBlob};
use crate::registry::{self, BlobService};

use super::super::body::{BlobBodies, ReadBlob};
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
    let size = blob.size();
    Ok(with_bytes(&call.app.bodies, blob, size, selection, |status| described(status, digest, entity_tag)))
}

/// Answers with a blob of an upstream, or with parts of it, whether or not it is here yet.
pub(super) async fn get_cached_blob(
    call: &Call<'_>,
    cached: &CachedRepository,
    name: &RepositoryName,
    digest: &ProvisionalDigest,
) -> Answer {
    let blobs = call.repository(name).blobs();
    let bytes = cached_digest(digest)?;
    let entity_tag = entity_tag(&bytes);
    if is_unchanged(call.headers(), &entity_tag) {
        let (size, source) = cached.head_blob(&bytes).await?;
        call.note(Outcome::of(source));
        return Ok(not_modified(digest, entity_tag, size));
    }
    // On behalf of whoever asks.
    let (blob, source) = match blobs.open(bytes)? {
        Some(blob) => (BlobSource::Stored(blob), Source::Hit),
        None => cached.blob(&bytes).await?,
    };
    call.note(Outcome::of(source));
    let size = blob.size();
    let selection = selected(call.headers(), &entity_tag, size)?;
    let head = |status| described(status, digest, entity_tag);
    let bodies = &call.app.bodies;
    match blob {
        BlobSource::Stored(blob) => Ok(with_bytes(bodies, blob, size, selection, head)),
        BlobSource::Growing(blob) => {
            blobs.note_pull(&bytes, size);
            Ok(with_bytes(bodies, blob.reader(), size, selection, head))
        }
        BlobSource::Streamed(blob) => {
            blobs.note_pull(&bytes, size);
            with_stream(&blob, selection, head).await
        }
    }
}

/// Answers with what is known of a blob of an upstream, without its bytes, and fetches none.
pub(super) async fn head_cached_blob(
    call: &Call<'_>,
    cached: &CachedRepository,
    digest: &ProvisionalDigest,
) -> Answer {
    let bytes = cached_digest(digest)?;
    let (size, source) = cached.head_blob(&bytes).await?;
    call.note(Outcome::of(source));
    Ok(headed(call.headers(), digest, entity_tag(&bytes), size))
}

/// The digest that an upstream is asked for; it isn't asked for tarsums, which no upstream knows.
fn cached_digest(digest: &ProvisionalDigest) -> Result<Digest, ApiError> {
    digest.digest().copied().ok_or_else(|| unknown(digest))
}

/// Answers with what is known of a blob, without its bytes.
///
/// A client that hears that the blob is there doesn't push it, and may name it in a manifest for as long as the lease lasts.
pub(super) async fn head_blob(call: &Call<'_>, name: &RepositoryName, digest: &ProvisionalDigest) -> Answer {
    let blobs = call.repository(name).blobs();
    let bytes = digest_of_bytes(&blobs, digest)?;
    let entity_tag = entity_tag(&bytes);
    let Some(blob) = blobs.stat_held(bytes).await? else { return Err(unknown(digest)) };
    Ok(headed(call.headers(), digest, entity_tag, blob.size))
}

/// The answer to HEAD about a blob of `size` bytes.
fn headed(headers: &HeaderMap, digest: &ProvisionalDigest, entity_tag: HeaderValue, size: u64) -> Response {
    if is_unchanged(headers, &entity_tag) {
        return not_modified(digest, entity_tag, size);
    }
    let mut response = described(StatusCode::OK, digest, entity_tag);
    response.headers_mut().insert(CONTENT_TYPE, OCTET_STREAM);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(size));
    response
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
fn with_bytes<R: ReadBlob>(
    bodies: &BlobBodies,
    blob: R,
    size: u64,
    selection: Selection,
    head: impl FnOnce(StatusCode) -> Response,
) -> Response {
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

/// The answer that `head` begins, with bytes that an upstream sends as they are taken. Several parts are not put together:
/// the answer is the whole blob then, as HTTP allows.
async fn with_stream(
    blob: &StreamedBlob,
    selection: Selection,
    head: impl FnOnce(StatusCode) -> Response,
) -> Answer {
    let size = blob.size();
    let (part, status) = match selection {
        Selection::One(range) => (range, StatusCode::PARTIAL_CONTENT),
        Selection::Whole | Selection::Many(_) => (ByteRange { start: 0, end: size }, StatusCode::OK),
    };
    let reader = blob.reader(part.start, part.end).await?;
    let mut response = head(status);
    if status == StatusCode::PARTIAL_CONTENT {
        response.headers_mut().insert(CONTENT_RANGE, value(part.content_range(size)));
    }
    response.headers_mut().insert(CONTENT_TYPE, OCTET_STREAM);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(part.len()));
    let bytes = try_unfold(reader, |mut reader| async move {
        let next = reader.next().await.map_err(std::io::Error::other)?;
        Ok::<_, std::io::Error>(next.map(|bytes| (bytes, reader)))
    });
    Ok(response.map(|_| Body::from_stream(bytes)))
}
