//! Manifests of an upstream.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};

use super::exchange::{Question, Reply};
use super::{Error, Missing, Outage, RateLimit, Upstream};
use crate::oci::{Digest, MediaType, Reference, RepositoryName, detect_media_type};

/// What an upstream says of a manifest without sending it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestHead {
    /// Its media type, without parameters.
    pub media_type: Option<MediaType>,
    /// Its digest (`Docker-Content-Digest`).
    pub digest: Option<Digest>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// How much may still be asked.
    pub rate_limit: RateLimit,
}

/// A manifest as an upstream has sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its media type, without parameters; what its content says where the upstream says nothing.
    pub media_type: MediaType,
    /// Its digest as the upstream gave it, or as it was asked for.
    pub digest: Option<Digest>,
    /// It, verbatim.
    pub bytes: Bytes,
    /// How much may still be asked.
    pub rate_limit: RateLimit,
}

impl Upstream {
    /// Asks what a manifest is, which Docker Hub doesn't count as a pull. `accept` are the media types that may come.
    pub async fn head_manifest(
        &self,
        name: &RepositoryName,
        reference: &Reference,
        accept: &[MediaType],
    ) -> Result<ManifestHead, Error> {
        let question = question(Method::HEAD, name, reference, accept);
        let Reply { host, answer } = self.0.ask(&question).await?;
        let headers = answer.headers();
        let size = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let (media_type, digest) = (media_type(headers), digest(&host, headers)?);
        if let (Reference::Digest(asked), Some(given)) = (reference, &digest)
            && asked.algorithm() == given.algorithm()
            && asked != given
        {
            return Err(Error::invalid(&host, format!("asked for {asked} it answers {given}")));
        }
        Ok(ManifestHead { media_type, digest, size, rate_limit: RateLimit::of(headers) })
    }

    /// Fetches a manifest of at most `limit` bytes. Bytes that have neither the digest that was asked for nor the one that the
    /// upstream gives with them are refused; of a signed schema 1 manifest, whose digest is its payload's, this is left to
    /// whoever takes it.
    pub async fn get_manifest(
        &self,
        name: &RepositoryName,
        reference: &Reference,
        accept: &[MediaType],
        limit: usize,
    ) -> Result<Manifest, Error> {
        let question = question(Method::GET, name, reference, accept);
        let Reply { host, mut answer } = self.0.ask(&question).await?;
        let (given, rate_limit) = (digest(&host, answer.headers())?, RateLimit::of(answer.headers()));
        let media_type = media_type(answer.headers());
        let body = answer.read(limit, self.0.timeouts.small_answer).await;
        let bytes = body.map_err(|error| Error::of_client(&host, &error, Outage::Interrupted))?;
        let bytes =
            bytes.ok_or_else(|| Error::invalid(&host, format!("a manifest is larger than {limit} bytes")))?;
        let media_type = media_type.or_else(|| detect_media_type(&bytes));
        let media_type = media_type.ok_or_else(|| Error::invalid(&host, "a manifest has no media type"))?;
        let asked = match reference {
            Reference::Digest(digest) => Some(*digest),
            Reference::Tag(_) => None,
        };
        if media_type != MediaType::DOCKER_MANIFEST_SCHEMA1_SIGNED {
            for digest in [asked, given].into_iter().flatten() {
                if Digest::of(digest.algorithm(), &bytes) != digest {
                    return Err(Error::invalid(
                        &host,
                        format!("a manifest doesn't have its digest {digest}"),
                    ));
                }
            }
        }
        Ok(Manifest { media_type, digest: asked.or(given), bytes, rate_limit })
    }
}

fn question<'a>(
    method: Method,
    name: &'a RepositoryName,
    reference: &Reference,
    accept: &[MediaType],
) -> Question<'a> {
    let rest = format!("manifests/{reference}");
    let mut headers = HeaderMap::new();
    let accept: Vec<&str> = accept.iter().map(MediaType::as_str).collect();
    if let Ok(value) = HeaderValue::try_from(accept.join(", "))
        && !accept.is_empty()
    {
        headers.insert(ACCEPT, value);
    }
    Question { method, name: Some(name), rest, query: None, headers, missing: Missing::Manifest }
}

/// The media type in the headers, where it says something: what is any JSON, bytes or page at all does not.
fn media_type(headers: &HeaderMap) -> Option<MediaType> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let text = text.split(';').next().unwrap_or_default().trim();
    let is_vague = matches!(
        text,
        "application/json" | "application/octet-stream" | "binary/octet-stream" | "text/plain" | "text/html"
    );
    if is_vague { None } else { text.parse().ok() }
}

fn digest(host: &str, headers: &HeaderMap) -> Result<Option<Digest>, Error> {
    let Some(value) = headers.get("docker-content-digest") else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|text| text.parse().ok());
    parsed.map(Some).ok_or_else(|| Error::invalid(host, "Docker-Content-Digest is no digest"))
}
