//! Who has signed a manifest, by whichever means.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LINK};
use serde::Serialize;

use crate::oci::{Descriptor, Digest, DigestAlgorithm, MediaType, Reference, RepositoryName, Tag};
use crate::registry::{self, Repository, Verified};

use super::super::errors::ApiError;
use super::super::headers::APPLICATION_JSON;
use super::super::percent;
use super::{Answer, Call};

/// What cosign puts behind the digest of what it signs, in a tag of its own.
const COSIGN_TAGS: [&str; 3] = ["sig", "att", "sbom"];

/// The artifact types of referrers that are signatures: those of sigstore, in all their versions, and of notation.
const SIGNATURE_TYPES: [&str; 3] = [
    "application/vnd.dev.sigstore.bundle",
    "application/vnd.dev.cosign.",
    "application/vnd.cncf.notary.signature",
];

/// The parameter that leads to the next page; clients find it in `Link` only, and its value means nothing to them.
const CURSOR: &str = "after";

#[derive(Serialize)]
struct SignatureList<'a> {
    name: &'a RepositoryName,
    digest: &'a Digest,
    signatures: Vec<Entry>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    kind: &'static str,
    #[serde(rename = "type")]
    media_type: String,
    digest: Digest,
    at: String,
    verified: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    algorithm: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<Tag>,
}

/// Answers with everybody who has signed a manifest: the signatures of schema 1, then cosign's tags, then referrers. Each
/// page searches as many referrers as a page of these has, the first one after the other two.
pub(super) async fn list_signatures(call: &Call<'_>, name: &RepositoryName, digest: &Digest) -> Answer {
    let (repository, digest) = (call.repository(name), *digest);
    let after = call.query().first(CURSOR).map(Cow::into_owned);
    // To read a thousand signatures, and to verify as many chains, takes longer than an async thread may be held.
    let listing = tokio::task::spawn_blocking(move || signers(&repository, &digest, after.as_deref()));
    let (signatures, next) = listing.await.map_err(ApiError::failure)??;
    let list = SignatureList { name, digest: &digest, signatures };
    let body = serde_json::to_vec(&list).expect("strings can always be written as JSON");
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, APPLICATION_JSON);
    response.headers_mut().insert(CONTENT_LENGTH, length);
    if let Some(next) = next {
        let mut link = format!("/v2/_orlop/repositories/{name}/signatures/{digest}?{CURSOR}=");
        percent::encode_into(&mut link, &next);
        response.headers_mut().insert(LINK, call.app.next_link(&link));
    }
    Ok(response)
}

/// A page of those who have signed, and where the next one begins. Blocks.
fn signers(
    repository: &Repository,
    digest: &Digest,
    after: Option<&str>,
) -> Result<(Vec<Entry>, Option<String>), ApiError> {
    let Some(manifest) = repository.manifests().stat(&Reference::Digest(*digest))? else {
        let known = repository.exists()?;
        let unknown =
            if known { registry::Error::ManifestUnknown } else { registry::Error::RepositoryUnknown };
        return Err(unknown.into());
    };
    let mut signatures = Vec::new();
    if after.is_none() {
        signatures = of_schema1(repository, digest)?;
        signatures.extend(of_cosign(repository, digest, &manifest.canonical)?);
    }
    let page = repository.referrers().list(digest, None, after)?;
    signatures.extend(of_referrers(repository, &page.descriptors)?);
    Ok((signatures, page.next))
}

fn of_schema1(repository: &Repository, digest: &Digest) -> Result<Vec<Entry>, ApiError> {
    let signatures = repository.signatures().get(digest)?.unwrap_or_default();
    let entry = |found: registry::ManifestSignature| Entry {
        kind: "schema 1",
        media_type: MediaType::DOCKER_MANIFEST_SCHEMA1_SIGNED.to_string(),
        digest: Digest::of(DigestAlgorithm::CANONICAL, &found.signature.to_json()),
        at: found.created_at.to_rfc3339(),
        verified: found.verified.as_str(),
        key_id: Some(found.signature.key_id().to_string()),
        algorithm: Some(found.signature.algorithm().as_str()),
        signed_at: found.signature.signed_at().map(str::to_owned),
        tag: None,
    };
    Ok(signatures.into_iter().map(entry).collect())
}

fn of_cosign(repository: &Repository, named: &Digest, canonical: &Digest) -> Result<Vec<Entry>, ApiError> {
    let mut entries = Vec::new();
    let other = (named != canonical).then_some(named);
    for digest in [Some(canonical), other].into_iter().flatten() {
        for ending in COSIGN_TAGS {
            let text = format!("{}-{}.{ending}", digest.algorithm(), digest.hex());
            // The name of a longer digest is no tag.
            let Ok(tag) = text.parse::<Tag>() else { continue };
            let Some(manifest) = repository.tags().get(&tag)? else { continue };
            entries.push(Entry {
                kind: "cosign",
                media_type: manifest.media_type.to_string(),
                digest: manifest.digest,
                at: manifest.pushed_at.to_rfc3339(),
                verified: Verified::NotChecked.as_str(),
                key_id: None,
                algorithm: None,
                signed_at: None,
                tag: Some(tag),
            });
        }
    }
    Ok(entries)
}

fn of_referrers(repository: &Repository, descriptors: &[Vec<u8>]) -> Result<Vec<Entry>, ApiError> {
    let mut entries = Vec::new();
    for json in descriptors {
        let Ok(descriptor) = serde_json::from_slice::<Descriptor>(json) else { continue };
        let Some(artifact_type) = descriptor.artifact_type else { continue };
        if !SIGNATURE_TYPES.iter().any(|known| artifact_type.starts_with(known)) {
            continue;
        }
        let digest = descriptor.digest;
        let Some(manifest) = repository.manifests().stat(&Reference::Digest(digest))? else { continue };
        entries.push(Entry {
            kind: "referrer",
            media_type: artifact_type,
            digest,
            at: manifest.pushed_at.to_rfc3339(),
            verified: Verified::NotChecked.as_str(),
            key_id: None,
            algorithm: None,
            signed_at: None,
            tag: None,
        });
    }
    Ok(entries)
}
