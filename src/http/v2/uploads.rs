//! Uploads: sessions that bytes are sent to, until a digest names what came.

use axum::response::Response;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::auth::{Action, Identity};
use crate::blobs::UploadId;
use crate::oci::{Digest, DigestAlgorithm, DigestError, ProvisionalDigest, RepositoryName};
use crate::proxy::{Place, Purpose};
use crate::registry::BlobWriter;

use super::super::app::App;
use super::super::errors::{ApiError, ErrorCode, upload_unknown};
use super::super::headers::{CHUNK_MIN_LENGTH, CONTENT_DIGEST, UPLOAD_UUID, value};
use super::super::incoming::Incoming;
use super::{Answer, Call, empty};

/// Starts an upload, or makes one unnecessary: by a mount, or with the whole blob in this request's body.
pub(super) async fn create_upload(call: &Call<'_>, name: &RepositoryName, body: &mut Incoming) -> Answer {
    let query = call.query();
    let blobs = call.repository(name).blobs();

    if let Some(mount) = query.first("mount")
        && let Some(digest) = mountable(&mount)?
    {
        // A repository that can't exist has nothing to mount; like any other mount that fails, that starts an upload.
        let from = match query.first("from").map(|from| from.parse()) {
            Some(Ok(from)) => source(call, &from).map(Some),
            Some(Err(_)) => None,
            // Any repository that has it could be one that the client may not pull from.
            None => call.app.access.is_open().then_some(None),
        };
        if let Some(from) = from
            && blobs.mount(&digest, from.as_ref(), &call.actor()).await?.is_some()
        {
            return Ok(created(call.app, name, &digest));
        }
    }

    if let Some(digest) = query.first("digest") {
        let digest: ProvisionalDigest = digest.parse()?;
        let algorithm = digest.digest().map_or(DigestAlgorithm::CANONICAL, Digest::algorithm);
        call.app.registry.make_space(0).await?;
        let writer = blobs.create(algorithm, &call.actor())?;
        return put_whole(call, name, writer, &digest, body).await;
    }

    let algorithm = match query.first("digest-algorithm") {
        Some(algorithm) => algorithm.parse::<DigestAlgorithm>()?,
        None => DigestAlgorithm::CANONICAL,
    };
    call.app.registry.make_space(0).await?;
    let writer = blobs.create(algorithm, &call.actor())?;
    Ok(accepted(call.app, name, writer.id(), writer.size()))
}

/// Says how much of an upload has arrived.
pub(super) async fn get_upload(call: &Call<'_>, name: &RepositoryName, id: &UploadId) -> Answer {
    let writer = resume(call, name, id).await?;
    Ok(progress(call.app, StatusCode::NO_CONTENT, name, id, writer.size()))
}

/// Adds a chunk, at the place that `Content-Range` names or at the end.
pub(super) async fn write_upload(
    call: &Call<'_>,
    name: &RepositoryName,
    id: &UploadId,
    body: &mut Incoming,
) -> Answer {
    let mut writer = resume(call, name, id).await?;
    let chunk = Chunk::of(call.headers(), body)?;
    receive(call, name, &mut writer, chunk, None, body).await?;
    // A client that counts its chunks goes on from the last one that was acknowledged, after a crash too.
    let size = if chunk.is_some() { writer.checkpoint().await? } else { writer.flush().await? };
    Ok(accepted(call.app, name, id, size))
}

/// Adds the last chunk, if there is one, and makes the blob of all that came.
pub(super) async fn commit_upload(
    call: &Call<'_>,
    name: &RepositoryName,
    id: &UploadId,
    body: &mut Incoming,
) -> Answer {
    let Some(digest) = call.query().first("digest") else {
        let message = "the upload ends with the parameter digest, such as ?digest=sha256:<hex>";
        return Err(ApiError::new(ErrorCode::DigestInvalid, message));
    };
    let digest: ProvisionalDigest = digest.parse()?;
    let mut writer = resume(call, name, id).await?;
    if !body.is_empty() {
        let chunk = Chunk::of(call.headers(), body)?;
        receive(call, name, &mut writer, chunk, Some(&digest), body).await?;
    }
    writer.commit(&digest).await?;
    Ok(created(call.app, name, &digest))
}

/// Ends an upload without a blob.
pub(super) async fn cancel_upload(call: &Call<'_>, name: &RepositoryName, id: &UploadId) -> Answer {
    resume(call, name, id).await?.cancel().await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// The repository that a mount takes from, by its name here; `None` where the one who asks may not pull from it.
fn source(call: &Call<'_>, from: &RepositoryName) -> Option<RepositoryName> {
    // What is private is mounted for nobody, whoever may read it.
    let is_reader = |_: &RepositoryName| false;
    let cache = call.app.cache.as_ref();
    let name = match cache.map(|cache| cache.locate(from, None, Purpose::Pull, &is_reader)) {
        None | Some(Ok(Place::Local)) => from.clone(),
        Some(Ok(Place::Cached(cached))) => cached.name().clone(),
        Some(Err(_)) => return None,
    };
    call.may_pull_as(from, &name).then_some(name)
}

/// The digest of a mount; `None` for an algorithm of which nothing can be here.
fn mountable(digest: &str) -> Result<Option<ProvisionalDigest>, ApiError> {
    match digest.parse::<ProvisionalDigest>() {
        Ok(digest) => Ok(Some(digest)),
        Err(DigestError::Unsupported(_)) => Ok(None),
        Err(error @ DigestError::Malformed(_)) => Err(error.into()),
    }
}

/// Takes up an upload that whoever asks has begun. To others there is none, but what nobody in particular has begun is everybody's where
/// they may push without saying who they are.
async fn resume(call: &Call<'_>, name: &RepositoryName, id: &UploadId) -> Result<BlobWriter, ApiError> {
    let blobs = call.repository(name).blobs();
    if let Some(own) = blobs.resume_own(id, &call.actor()).await? {
        return Ok(own);
    }
    let anybody = Identity::anonymous();
    let rules = call.app.access.rules();
    let is_everybodys = rules.decide(&anybody, Action::Push, Some(name)).is_allowed();
    if !call.identity.is_anonymous()
        && is_everybodys
        && let Some(writer) = blobs.resume_own(id, &anybody.actor()).await?
    {
        return Ok(writer);
    }
    Err(upload_unknown())
}

/// Takes a whole blob from one request. When that fails the session goes too, since no client has heard of it.
async fn put_whole(
    call: &Call<'_>,
    name: &RepositoryName,
    mut writer: BlobWriter,
    digest: &ProvisionalDigest,
    body: &mut Incoming,
) -> Answer {
    match receive(call, name, &mut writer, None, Some(digest), body).await {
        Ok(()) => {
            writer.commit(digest).await?;
            Ok(created(call.app, name, digest))
        }
        Err(error) => {
            // What the client has to know is why its bytes were not taken; a file that stays is swept like any other.
            let _ = writer.cancel().await;
            Err(error)
        }
    }
}

/// The place of a chunk in its upload, by `Content-Range: <first>-<last>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chunk {
    start: u64,
    len: u64,
}

impl Chunk {
    /// The chunk that a request says it sends; `None` when it doesn't say, which means whatever comes next.
    fn of(headers: &HeaderMap, body: &Incoming) -> Result<Option<Self>, ApiError> {
        let Some(range) = headers.get(CONTENT_RANGE) else { return Ok(None) };
        let chunk = range.to_str().ok().and_then(Self::parse).ok_or_else(|| {
            let message =
                "Content-Range has to be <first>-<last>, both counted from 0, the last one included";
            ApiError::new(ErrorCode::BlobUploadInvalid, message)
        })?;
        match body.declared() {
            Some(declared) if declared != chunk.len => {
                let message = format!(
                    "Content-Range says {} bytes and Content-Length {declared}; they have to agree",
                    chunk.len
                );
                Err(ApiError::new(ErrorCode::SizeInvalid, message))
            }
            Some(_) | None => Ok(Some(chunk)),
        }
    }

    /// Reads `<first>-<last>`, and leniently HTTP's own `bytes <first>-<last>/<length>`.
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("bytes").unwrap_or(text).trim_matches([' ', '=']);
        let (range, _) = text.split_once('/').unwrap_or((text, ""));
        let (first, last) = range.split_once('-')?;
        let number = |digits: &str| {
            (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| digits.parse::<u64>().ok())?
        };
        let (first, last) = (number(first)?, number(last)?);
        let len = last.checked_sub(first)?.checked_add(1)?;
        Some(Self { start: first, len })
    }
}

/// Adds the request's body to an upload. When it breaks off, what came stays, and the upload can go on from there.
async fn receive(
    call: &Call<'_>,
    name: &RepositoryName,
    writer: &mut BlobWriter,
    chunk: Option<Chunk>,
    digest: Option<&ProvisionalDigest>,
    body: &mut Incoming,
) -> Result<(), ApiError> {
    let start = writer.size();
    if let Some(chunk) = chunk
        && chunk.start != start
    {
        return Err(out_of_order(call.app, name, writer.id(), start, chunk.start));
    }
    if let Some(declared) = body.declared() {
        call.app.guard.require_blob_size(start.saturating_add(declared))?;
        writer.require_room(declared, digest).await?;
    }
    let mut received = 0;
    while let Some(bytes) = body.next().await? {
        received += bytes.len() as u64;
        if chunk.is_some_and(|chunk| received > chunk.len) {
            let message =
                "the body is longer than its Content-Range; ask for the upload's status and go on from there";
            return Err(ApiError::new(ErrorCode::SizeInvalid, message));
        }
        call.app.guard.require_blob_size(start.saturating_add(received))?;
        writer.write(bytes).await?;
    }
    if chunk.is_some_and(|chunk| received < chunk.len) {
        let message =
            "the body is shorter than its Content-Range; ask for the upload's status and go on from there";
        return Err(ApiError::new(ErrorCode::SizeInvalid, message));
    }
    Ok(())
}

fn upload_path(name: &RepositoryName, id: &UploadId) -> String {
    format!("/v2/{name}/blobs/uploads/{id}")
}

/// How far an upload of `size` bytes is, as clients read it; of an empty one Docker wants to see `0-0`.
fn extent(size: u64) -> HeaderValue {
    value(format!("0-{}", size.saturating_sub(1)))
}

/// An answer about an upload that goes on.
fn progress(app: &App, status: StatusCode, name: &RepositoryName, id: &UploadId, size: u64) -> Response {
    let mut response = empty(status);
    let headers = response.headers_mut();
    headers.insert(LOCATION, app.url(&upload_path(name, id)));
    headers.insert(RANGE, extent(size));
    headers.insert(UPLOAD_UUID.clone(), value(id.to_string()));
    if let Some(length) = &app.chunk_min_length {
        headers.insert(CHUNK_MIN_LENGTH.clone(), length.clone());
    }
    response
}

/// The answer that more may be sent.
fn accepted(app: &App, name: &RepositoryName, id: &UploadId, size: u64) -> Response {
    let mut response = progress(app, StatusCode::ACCEPTED, name, id, size);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}

/// The answer that a blob is there, durably.
fn created(app: &App, name: &RepositoryName, digest: &ProvisionalDigest) -> Response {
    let mut response = empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    headers.insert(LOCATION, app.url(&format!("/v2/{name}/blobs/{digest}")));
    headers.insert(CONTENT_DIGEST.clone(), value(digest.to_string()));
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}

/// The answer to a chunk that doesn't begin where the upload ends: where it does end, and that it is still there.
fn out_of_order(app: &App, name: &RepositoryName, id: &UploadId, size: u64, sent: u64) -> ApiError {
    let message =
        format!("the upload has {size} bytes, and the chunk begins at {sent}; go on from the upload's end");
    ApiError::new(ErrorCode::RangeInvalid, message)
        .with_header(LOCATION, app.url(&upload_path(name, id)))
        .with_header(RANGE, extent(size))
        .with_header(UPLOAD_UUID.clone(), value(id.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_read_from_content_range_as_the_specification_writes_it() {
        assert_eq!(Chunk::parse("0-1023"), Some(Chunk { start: 0, len: 1024 }));
        assert_eq!(Chunk::parse("1024-1024"), Some(Chunk { start: 1024, len: 1 }));
        assert_eq!(Chunk::parse("bytes 5-9/100"), Some(Chunk { start: 5, len: 5 }));
        for bad in ["", "-", "0-", "-5", "5-4", "a-b", "0x0-1", "0-18446744073709551615", "+1-2", "0-1-2"] {
            assert_eq!(Chunk::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_extent_of_an_empty_upload_is_what_docker_can_parse() {
        assert_eq!(extent(0), "0-0");
        assert_eq!(extent(1), "0-0");
        assert_eq!(extent(1024), "0-1023");
    }
}
