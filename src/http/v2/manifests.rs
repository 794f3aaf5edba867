//! Manifests: GET, HEAD, PUT and DELETE.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::oci::{Digest, MediaType, Reference, RepositoryName, Tag, detect_media_type};
use crate::proxy::{Headed, Outcome, Source};
use crate::registry::{self, ManifestPut, ManifestService, ServedManifest};

use super::super::errors::{ApiError, ErrorCode};
use super::super::headers::{CONTENT_DIGEST, SUBJECT, TAG, entity_tag, is_unchanged, shared_value, value};
use super::super::incoming::Incoming;
use super::{Answer, Call, empty};

/// The most tags that one push may create. The answer has a header for each, and many clients take 100 headers at most.
const MAX_TAGS: usize = 64;

/// Answers with a manifest, byte for byte as it was pushed and whatever the client accepts.
pub(super) async fn get_manifest(call: &Call<'_>, name: &RepositoryName, reference: &Reference) -> Answer {
    if let Some(cached) = &call.cached {
        call.note(Box::pin(cached.manifest(reference)).await?);
    }
    let manifests = call.repository(name).into_manifests();
    hold(&manifests, reference).await?;
    let Some(served) = manifests.served(reference)? else {
        return Err(unknown(call, name));
    };
    let described = described(call.headers(), &served, served.payload.clone());
    if described.status() == StatusCode::NOT_MODIFIED {
        // Nothing is pulled: it is as if by HEAD.
        manifests.note_ask(reference, &served);
    } else {
        manifests.note_pull(reference, &served);
    }
    Ok(described)
}

/// Sees to it that what is told of by its digest stays for a while. What has a tag does anyway.
async fn hold(manifests: &ManifestService, reference: &Reference) -> Result<(), ApiError> {
    match reference {
        Reference::Tag(_) => Ok(()),
        Reference::Digest(_) => Ok(Box::pin(manifests.hold(reference)).await?),
    }
}

/// Answers with what is known of a manifest, without its bytes.
pub(super) async fn head_manifest(call: &Call<'_>, name: &RepositoryName, reference: &Reference) -> Answer {
    if let Some(cached) = &call.cached {
        match Box::pin(cached.head_manifest(reference)).await? {
            Headed::Stored(outcome) => call.note(outcome),
            Headed::Upstream { media_type, digest, size } => {
                call.note(Outcome::of(Source::Miss));
                return Ok(headed(call.headers(), &media_type, &digest, size));
            }
        }
    }
    let manifests = call.repository(name).into_manifests();
    hold(&manifests, reference).await?;
    let Some(served) = manifests.served(reference)? else {
        return Err(unknown(call, name));
    };
    manifests.note_ask(reference, &served);
    Ok(described(call.headers(), &served, Bytes::new()))
}

/// Stores a manifest, and the tags that are to name it, at once.
pub(super) async fn put_manifest(
    call: &Call<'_>,
    name: &RepositoryName,
    reference: Reference,
    body: &mut Incoming,
) -> Answer {
    let tags = asked_tags(call)?;
    let payload = body.manifest(call.app.registry.policy().max_manifest_bytes).await?;
    let media_type = sent_media_type(call.headers(), &payload)?;
    let put = ManifestPut { payload, media_type, reference, tags: tags.clone(), actor: call.actor() };
    let pushed = call.repository(name).manifests().put(put).await?;

    let mut response = empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    headers.insert(LOCATION, call.app.url(&format!("/v2/{name}/manifests/{}", pushed.digest)));
    headers.insert(CONTENT_DIGEST.clone(), value(pushed.digest.to_string()));
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    if let Some(subject) = pushed.subject {
        headers.insert(SUBJECT.clone(), value(subject.to_string()));
    }
    for tag in tags {
        headers.append(TAG.clone(), value(tag.as_str()));
    }
    Ok(response)
}

/// Takes a tag from its manifest, or a manifest with all its tags from the repository; names the tags that went with it.
pub(super) async fn delete_manifest(call: &Call<'_>, name: &RepositoryName, reference: &Reference) -> Answer {
    let repository = call.repository(name);
    let gone = match reference {
        Reference::Tag(tag) => repository.tags().untag(tag).await?.then(Vec::new),
        Reference::Digest(digest) => repository.manifests().delete_with(digest, call.force()).await?,
    };
    let Some(tags) = gone else { return Err(unknown(call, name)) };
    let mut response = empty(StatusCode::ACCEPTED);
    for tag in tags.iter().take(MAX_TAGS) {
        response.headers_mut().append(TAG.clone(), value(tag.as_str()));
    }
    Ok(response)
}

/// Why a manifest was not found: its repository is missing, or only the manifest is.
fn unknown(call: &Call<'_>, name: &RepositoryName) -> ApiError {
    match call.repository(name).exists() {
        Ok(true) => registry::Error::ManifestUnknown.into(),
        Ok(false) => registry::Error::RepositoryUnknown.into(),
        Err(error) => error.into(),
    }
}

/// The answer with a manifest, or that the client has it already.
fn described(asked: &HeaderMap, served: &ServedManifest, payload: Bytes) -> Response {
    let about = About {
        media_type: &served.manifest.media_type,
        size: served.manifest.size,
        digest: shared_value(&served.digest),
        entity_tag: shared_value(&served.entity_tag),
    };
    with_headers(asked, Body::from(payload), about)
}

/// The answer with what an upstream has said of a manifest.
fn headed(asked: &HeaderMap, media_type: &MediaType, digest: &Digest, size: u64) -> Response {
    let (entity_tag, digest) = (entity_tag(digest), value(digest.to_string()));
    with_headers(asked, Body::empty(), About { media_type, size, digest, entity_tag })
}

/// What the headers say of a manifest.
struct About<'a> {
    media_type: &'a MediaType,
    size: u64,
    digest: HeaderValue,
    entity_tag: HeaderValue,
}

fn with_headers(asked: &HeaderMap, body: Body, about: About<'_>) -> Response {
    let About { media_type, size, digest, entity_tag } = about;
    // Room for these, and for what every answer has.
    let mut headers = HeaderMap::with_capacity(8);
    let is_unchanged = is_unchanged(asked, &entity_tag);
    if !is_unchanged {
        let value = media_type.as_static().map(HeaderValue::from_static);
        headers.insert(CONTENT_TYPE, value.unwrap_or_else(|| self::value(media_type.as_str())));
    }
    // Also where there is no body: HTTP wants the length that the manifest has.
    headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
    headers.insert(CONTENT_DIGEST.clone(), digest);
    headers.insert(ETAG, entity_tag);
    let mut response = Response::new(if is_unchanged { Body::empty() } else { body });
    if is_unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    *response.headers_mut() = headers;
    response
}

/// The tags of the parameters `tag`, each once, in their order.
fn asked_tags(call: &Call<'_>) -> Result<Vec<Tag>, ApiError> {
    let mut tags: Vec<Tag> = Vec::new();
    for text in call.query().all("tag") {
        let tag =
            text.parse::<Tag>().map_err(|error| ApiError::new(ErrorCode::TagInvalid, error.to_string()))?;
        if tags.contains(&tag) {
            continue;
        }
        if tags.len() == MAX_TAGS {
            let message = format!("one push may create {MAX_TAGS} tags at most; push again for the others");
            return Err(ApiError::new(ErrorCode::TagsTooMany, message));
        }
        tags.push(tag);
    }
    Ok(tags)
}

/// What tools send that were told no media type; taken at its word, an image would be kept without what it needs.
const GENERIC_TYPES: [&str; 4] =
    ["application/json", "application/octet-stream", "application/x-www-form-urlencoded", "text/plain"];

/// The media type that a manifest was sent as, or else the one that it says or shows itself.
fn sent_media_type(headers: &HeaderMap, payload: &[u8]) -> Result<MediaType, ApiError> {
    let Some(sent) = headers.get(CONTENT_TYPE) else {
        return detect_media_type(payload).ok_or_else(|| {
            let message =
                "send the manifest's media type as Content-Type; it can't be told from the manifest";
            ApiError::new(ErrorCode::ManifestInvalid, message)
        });
    };
    let sent: MediaType = sent
        .to_str()
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| ApiError::new(ErrorCode::ManifestInvalid, "the Content-Type is no media type"))?;
    if GENERIC_TYPES.contains(&sent.as_str()) {
        return Ok(detect_media_type(payload).unwrap_or(sent));
    }
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(content_type: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))])
    }

    #[test]
    fn the_media_type_is_the_one_that_was_sent_without_its_parameters() {
        let sent = typed("application/vnd.oci.image.manifest.v1+json; charset=utf-8");
        let media_type = sent_media_type(&sent, b"{}").expect("a media type");
        assert_eq!(media_type.as_str(), "application/vnd.oci.image.manifest.v1+json");
        assert!(sent_media_type(&typed("nonsense"), b"{}").is_err());
    }

    #[test]
    fn a_generic_type_gives_way_to_what_the_manifest_shows() {
        let payload = br#"{"schemaVersion":2,"config":{},"layers":[]}"#;
        for generic in GENERIC_TYPES {
            let shown = sent_media_type(&typed(generic), payload).expect("a media type");
            assert_eq!(shown, MediaType::OCI_IMAGE_MANIFEST);
            let own = sent_media_type(&typed(generic), b"anything").expect("a media type");
            assert_eq!(own.as_str(), generic);
        }
    }

    #[test]
    fn without_content_type_the_manifest_says_what_it_is() {
        let payload =
            br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        let media_type = sent_media_type(&HeaderMap::new(), payload).expect("a media type");
        assert_eq!(media_type.as_str(), "application/vnd.oci.image.index.v1+json");
        assert!(sent_media_type(&HeaderMap::new(), b"garbage").is_err());
    }
}
