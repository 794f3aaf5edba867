//! What no other registry offers: tags without a push, their history, the revisions of a repository, and its deletion.

use http::header::{CONTENT_LENGTH, LOCATION};
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::oci::{Digest, Reference, RepositoryName, Tag};
use crate::registry::{self, Repository};

use super::super::errors::{ApiError, ErrorCode};
use super::super::headers::{CONTENT_DIGEST, TAG, value};
use super::super::incoming::Incoming;
use super::tags::Page;
use super::{Answer, Call, empty};

/// Where the end-points about a repository are.
const REPOSITORIES: &str = "/v2/_orlop/repositories";
/// The longest body of a request to set a tag, far longer than any digest.
const BODY_BYTES: usize = 4096;

#[derive(Deserialize)]
struct Target {
    digest: String,
}

/// Points a tag to a manifest that the repository has.
pub(super) async fn set_tag(
    call: &Call<'_>,
    name: &RepositoryName,
    tag: &Tag,
    body: &mut Incoming,
) -> Answer {
    let sent = body.manifest(BODY_BYTES).await?;
    let target: Target = serde_json::from_slice(&sent).map_err(|_| {
        let message = "the body has to name the manifest, like {\"digest\": \"sha256:...\"}";
        ApiError::new(ErrorCode::DigestInvalid, message)
    })?;
    let digest: Digest = target.digest.parse()?;
    call.repository(name).tags().tag(&digest, tag, &call.actor()).await?;

    let mut response = empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    headers.insert(LOCATION, call.app.url(&format!("/v2/{name}/manifests/{tag}")));
    headers.insert(CONTENT_DIGEST.clone(), value(digest.to_string()));
    headers.insert(TAG.clone(), value(tag.as_str()));
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    Ok(response)
}

/// Takes a repository away, with all that it has.
pub(super) async fn delete_repository(call: &Call<'_>, name: &RepositoryName) -> Answer {
    if call.repository(name).deletions().delete_repository().await? {
        Ok(empty(StatusCode::ACCEPTED))
    } else {
        Err(registry::Error::RepositoryUnknown.into())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct History<'a> {
    name: &'a RepositoryName,
    tag: &'a Tag,
    #[serde(skip_serializing_if = "Option::is_none")]
    pulls: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pulled_at: Option<String>,
    revisions: Vec<Revision>,
}

#[derive(Serialize)]
struct Revision {
    number: u64,
    digest: Digest,
    at: String,
    actor: String,
}

/// Answers with a page of what a tag has pointed to, the newest first, the tag's own end included.
pub(super) fn list_tag_history(call: &Call<'_>, name: &RepositoryName, tag: &Tag) -> Answer {
    let page = Page::asked(call)?;
    let before = page.after.as_deref().map(str::parse).transpose().map_err(|_| {
        let message = "the parameter last has to be the number of a revision";
        ApiError::new(ErrorCode::PaginationNumberInvalid, message)
    })?;
    let repository = known(call, name)?;
    let tags = repository.tags();
    let history = tags.history(tag, before, page.length)?;
    if history.items.is_empty() && tags.history(tag, None, 1)?.items.is_empty() {
        return Err(registry::Error::ManifestUnknown.into());
    }
    let next = history.items.last().filter(|_| history.more).map(|last| last.number.to_string());
    let revisions = history.items.into_iter().map(|revision| Revision {
        number: revision.number,
        digest: revision.digest,
        at: revision.at.to_rfc3339(),
        actor: revision.actor,
    });
    let usage = repository.manifests().usage(&Reference::Tag(tag.clone()))?;
    let list = History {
        name,
        tag,
        pulls: usage.map(|usage| usage.pulls),
        pulled_at: usage.and_then(|usage| usage.pulled_at).map(Timestamp::to_rfc3339),
        revisions: revisions.collect(),
    };
    page.answer(call, &format!("{REPOSITORIES}/{name}/tags/{tag}/history"), &list, next.as_deref())
}

#[derive(Serialize)]
struct ManifestList<'a> {
    name: &'a RepositoryName,
    manifests: Vec<ManifestEntry>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestEntry {
    media_type: crate::oci::MediaType,
    digest: Digest,
    size: u64,
    pushed_at: String,
    pulls: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pulled_at: Option<String>,
}

/// Answers with a page of the repository's revisions, tagged or not, in the order of their digests.
pub(super) fn list_manifests(call: &Call<'_>, name: &RepositoryName) -> Answer {
    let page = Page::asked(call)?;
    let after = page.after.as_deref().map(str::parse::<Digest>).transpose()?;
    let service = known(call, name)?.manifests();
    let manifests = service.all(after.as_ref(), page.length)?;
    let usages = service.usages(&manifests.items)?;
    let next = manifests.items.last().filter(|_| manifests.more).map(|last| last.canonical.to_string());
    let entries = manifests.items.into_iter().zip(usages).map(|(manifest, usage)| ManifestEntry {
        media_type: manifest.media_type,
        digest: manifest.canonical,
        size: manifest.size,
        pushed_at: manifest.pushed_at.to_rfc3339(),
        pulls: usage.pulls,
        pulled_at: usage.pulled_at.map(Timestamp::to_rfc3339),
    });
    let list = ManifestList { name, manifests: entries.collect() };
    page.answer(call, &format!("{REPOSITORIES}/{name}/manifests"), &list, next.as_deref())
}

#[derive(Serialize)]
struct ManifestTags<'a> {
    name: &'a RepositoryName,
    digest: &'a Digest,
    tags: &'a [Tag],
}

/// Answers with a page of the tags that point to a manifest, in lexical order.
pub(super) fn list_manifest_tags(call: &Call<'_>, name: &RepositoryName, digest: &Digest) -> Answer {
    let page = Page::asked(call)?;
    let repository = known(call, name)?;
    if !repository.manifests().exists(digest)? {
        return Err(registry::Error::ManifestUnknown.into());
    }
    let tags = repository.tags().lookup(digest, page.after.as_deref(), page.length)?;
    let next = tags.items.last().filter(|_| tags.more).map(Tag::as_str);
    let list = ManifestTags { name, digest, tags: &tags.items };
    page.answer(call, &format!("{REPOSITORIES}/{name}/manifests/{digest}/tags"), &list, next)
}

/// The repository, if it has ever had content.
fn known(call: &Call<'_>, name: &RepositoryName) -> Result<Repository, ApiError> {
    let repository = call.repository(name);
    if repository.exists()? { Ok(repository) } else { Err(registry::Error::RepositoryUnknown.into()) }
}
