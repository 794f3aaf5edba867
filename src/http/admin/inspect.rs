//! One image, with all that is known of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::call::{Answer, Call, invalid, json};
use super::deletions::repository;
use super::repositories::TagEntry;
use crate::clock::Timestamp;
use crate::http::errors::ApiError;
use crate::http::routes::parse_name;
use crate::oci::{ChildRole, Descriptor, Digest, Manifest, Reference, Tag};
use crate::registry::{Error, Repository};

/// How many of each kind of companions are told.
const TOLD: usize = 100;

/// The longest configuration of an image that is read.
const CONFIG_BYTES: u64 = 4 << 20;

/// The answer to `GET image`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspected {
    /// The repository.
    pub repository: String,
    /// The canonical digest of the manifest.
    pub digest: String,
    /// What it was pushed as.
    pub media_type: String,
    /// The type of the artifact, of one.
    pub artifact_type: Option<String>,
    /// The manifest's own bytes.
    pub size: u64,
    /// When it was last pushed.
    pub pushed_at: String,
    /// When it was last pulled, as far as that is known.
    pub pulled_at: Option<String>,
    /// How often that was.
    pub pulls: u64,
    /// The manifest that it is about.
    pub subject: Option<String>,
    /// The platform, as its configuration says.
    pub platform: Option<String>,
    /// When it was built, as its configuration says.
    pub created: Option<String>,
    /// Its configuration.
    pub config: Option<Part>,
    /// Its layers, the lowest first.
    pub layers: Vec<Part>,
    /// The manifests of an index.
    pub manifests: Vec<Part>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// The tags that point to it, the first hundred.
    pub tags: Vec<String>,
    /// What is about it, the first hundred.
    pub referrers: Vec<Companion>,
    /// The keys that have signed it, where its format has signatures in it.
    pub signatures: Vec<Signed>,
    /// What the tag that was asked for has pointed to, the newest first, at most a hundred.
    pub history: Vec<TagEntry>,
}

/// A piece of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// Its digest, as the manifest names it.
    pub digest: String,
    /// Its media type.
    pub media_type: String,
    /// Its bytes; of a manifest in an index, its own.
    pub size: u64,
    /// The platform that an index has it for.
    pub platform: Option<String>,
    /// Whether it is here.
    pub present: bool,
}

/// What is about an image: a signature, a bill of materials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Companion {
    /// The digest of its manifest.
    pub digest: String,
    /// Its type.
    pub artifact_type: Option<String>,
    /// The tag that says what it is about, where it is one of the time before referrers.
    pub tag: Option<String>,
    /// The bytes of its manifest.
    pub size: u64,
}

/// Who has signed a schema 1 manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signed {
    /// The key's name.
    pub key: String,
    /// How it was verified.
    pub verified: String,
    /// When it came.
    pub at: String,
}

/// Tells of an image all that is known.
pub(super) async fn inspect(call: Call) -> Answer {
    let query = call.query();
    let name = query.first("repository").ok_or_else(|| invalid("name a repository"))?;
    let reference = match (query.first("tag"), query.first("digest")) {
        (Some(tag), None) => Reference::Tag(tag.parse().map_err(|_| invalid("that is no tag"))?),
        (None, Some(digest)) => Reference::Digest(digest.parse().map_err(|_| invalid("that is no digest"))?),
        _ => return Err(invalid("name a tag or a digest")),
    };
    let repository = repository(&call, &parse_name(&name)?);
    if !repository.exists()? {
        return Err(Error::RepositoryUnknown.into());
    }
    let (of, asked) = (repository.clone(), reference.clone());
    let look = move || look(&of, &asked);
    let (mut found, manifest) = tokio::task::spawn_blocking(look).await.map_err(|_| Error::Unavailable)??;
    if let Some(config) = manifest.iter().flat_map(configs).next() {
        (found.platform, found.created) = of_config(&repository, config).await?;
    }
    json(&found)
}

fn configs(manifest: &Manifest) -> impl Iterator<Item = &Descriptor> {
    let configs = manifest.children.iter().filter(|child| child.role == ChildRole::Config);
    configs.map(|child| &child.descriptor)
}

/// Looks at a manifest and at what is around it. Blocks.
fn look(repository: &Repository, reference: &Reference) -> Result<(Inspected, Option<Manifest>), ApiError> {
    let (described, bytes) = repository.manifests().read(reference)?.ok_or(Error::ManifestUnknown)?;
    // What nobody can read any more can be looked at all the same.
    let manifest = Manifest::parse(&described.media_type, &bytes).ok();
    let document: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let digest = described.canonical;
    let mut parts: [Vec<Part>; 3] = Default::default();
    for (at, child) in manifest.iter().flat_map(|manifest| manifest.children.iter()).enumerate() {
        let named = &child.descriptor;
        let (role, present) = match child.role {
            ChildRole::Config => (0, repository.blobs().stat(named.digest)?.is_some()),
            ChildRole::Layer => (1, repository.blobs().stat(named.digest)?.is_some()),
            ChildRole::Manifest => (2, repository.manifests().exists(&named.digest)?),
        };
        let platform = document["manifests"].get(at).and_then(|entry| platform(&entry["platform"]));
        parts[role].push(Part {
            digest: named.digest.to_string(),
            media_type: named.media_type.to_string(),
            size: named.size,
            platform,
            present,
        });
    }
    let [config, layers, manifests] = parts;
    let usage = repository.manifests().usage(reference)?;
    let found = Inspected {
        repository: repository.name().to_string(),
        digest: digest.to_string(),
        media_type: described.media_type.to_string(),
        artifact_type: manifest.as_ref().and_then(|manifest| manifest.artifact_type.clone()),
        size: described.size,
        pushed_at: described.pushed_at.to_rfc3339(),
        pulled_at: usage.as_ref().and_then(|usage| usage.pulled_at).map(Timestamp::to_rfc3339),
        pulls: usage.map_or(0, |usage| usage.pulls),
        subject: manifest.as_ref().and_then(|it| it.subject.as_ref()).map(|it| it.digest.to_string()),
        platform: None,
        created: None,
        config: config.into_iter().next(),
        layers,
        manifests,
        annotations: manifest.as_ref().map(|manifest| manifest.annotations.clone()).unwrap_or_default(),
        tags: repository.tags().lookup(&digest, None, TOLD)?.items.iter().map(Tag::to_string).collect(),
        referrers: companions(repository, &digest)?,
        signatures: signatures(repository, &digest)?,
        history: match reference {
            Reference::Tag(tag) => super::repositories::history(repository, tag, TOLD)?,
            Reference::Digest(_) => Vec::new(),
        },
    };
    Ok((found, manifest))
}

/// What is about a manifest: by referrers, and by the tags of the time before them.
fn companions(repository: &Repository, digest: &Digest) -> Result<Vec<Companion>, Error> {
    let mut companions = Vec::new();
    let page = repository.referrers().list(digest, None, None)?;
    for descriptor in page.descriptors.iter().take(TOLD) {
        if let Ok(descriptor) = serde_json::from_slice::<Descriptor>(descriptor) {
            companions.push(Companion {
                digest: descriptor.digest.to_string(),
                artifact_type: descriptor.artifact_type,
                tag: None,
                size: descriptor.size,
            });
        }
    }
    let base = digest.to_string().replace(':', "-");
    for suffix in [".sig", ".att", ".sbom"] {
        let Ok(tag) = format!("{base}{suffix}").parse::<Tag>() else { continue };
        if let Some(found) = repository.tags().get(&tag)? {
            let (digest, size) = (found.canonical.to_string(), found.size);
            companions.push(Companion { digest, artifact_type: None, tag: Some(tag.to_string()), size });
        }
    }
    Ok(companions)
}

fn signatures(repository: &Repository, digest: &Digest) -> Result<Vec<Signed>, Error> {
    let signatures = repository.signatures().get(digest)?.unwrap_or_default();
    let signed = signatures.into_iter().map(|signature| Signed {
        key: signature.signature.key_id().to_string(),
        verified: signature.verified.as_str().to_owned(),
        at: signature.created_at.to_rfc3339(),
    });
    Ok(signed.collect())
}

/// The platform and the time that the configuration of an image tells, if it is one.
async fn of_config(
    repository: &Repository,
    config: &Descriptor,
) -> Result<(Option<String>, Option<String>), ApiError> {
    if config.size > CONFIG_BYTES {
        return Ok((None, None));
    }
    let Some(bytes) = repository.blobs().get(config.digest).await? else { return Ok((None, None)) };
    let config: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    Ok((platform(&config), config["created"].as_str().map(str::to_owned)))
}

/// `linux/arm64/v8`.
fn platform(value: &Value) -> Option<String> {
    let part = |name: &str| value[name].as_str().filter(|text| !text.is_empty());
    let (os, architecture) = (part("os")?, part("architecture")?);
    let variant = part("variant").map(|variant| format!("/{variant}")).unwrap_or_default();
    Some(format!("{os}/{architecture}{variant}"))
}
