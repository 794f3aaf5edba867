//! Import from what `docker save` and `podman save` write.
//!
//! ```text
//! manifest.json                  [{"Config": "<file>", "RepoTags": ["<name>:<tag>"], "Layers": ["<file>", …]}, …]
//! ```
//!
//! Since version 25 Docker writes an OCI layout beside it, which is taken where it names the images: its manifests have digests
//! already. Otherwise there are only files, and the manifest is made here, the same one for the same files each time: a Docker
//! manifest of schema 2 whose layers are the files as they are, uncompressed mostly, so that the digest of a layer is the
//! one that the configuration has for it.

use std::collections::HashMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::copier::{Copier, Failure, Options, Source, SourceManifest};
use super::files::{Files, Part, PartPieces};
use super::image_name::As;
use super::layout::{self, Contents, Named, Place, Wanted};
use super::{Error, Report, Skipped, Tell};
use crate::oci::{Descriptor, Digest, DigestAlgorithm, MediaType};
use crate::registry::Registry;

/// The list of images.
const LIST: &str = "manifest.json";

/// The longest list of images, and the longest configuration, that is read.
const LIST_BYTES: usize = 4 << 20;
const CONFIG_BYTES: usize = 4 << 20;

/// An image in the list.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// What a configuration says of its layers.
#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

/// A manifest as it is made here. The order of the fields is the order in its bytes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made<'m> {
    schema_version: u8,
    media_type: &'m MediaType,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// The archive as a source: the manifests that were made, and which files the blobs are.
#[derive(Default)]
struct Archive {
    name: String,
    manifests: HashMap<Digest, Bytes>,
    parts: HashMap<Digest, Part>,
}

/// Imports the images of an archive; `name` stands for the names that they have. Blocks the calling thread where it reads
/// headers, and layers that are compressed.
pub async fn import(
    registry: &Registry,
    files: &Files,
    name: Option<&As>,
    options: &Options,
    tell: &Tell<'_>,
) -> Result<Report, Error> {
    if layout::is_named_layout(files) {
        return layout::import(registry, files, name, options, tell).await;
    }
    let unusable = |skipped: Skipped| Error::Unusable(format!("{}: {}", skipped.path, skipped.reason));
    let Some(list) = files.read(LIST, LIST_BYTES).map_err(unusable)? else {
        return Err(files.unusable("it is not what `docker save` writes: there is no manifest.json in it"));
    };
    let list: Vec<Listed> = serde_json::from_slice(&list)
        .map_err(|error| files.unusable(&format!("its manifest.json is damaged: {error}")))?;
    let tags = list.iter().map(|listed| listed.repo_tags.as_ref().map_or(0, Vec::len));
    let (named, all) = (tags.sum(), list.len());
    let of_as = Named::of(name, named, all).map_err(|reason| files.unusable(&reason))?;
    let mut archive = Archive { name: files.path(LIST), ..Archive::default() };
    let mut contents = Contents::default();
    for listed in &list {
        let tags = listed.repo_tags.iter().flatten().map(|tag| Some(tag.as_str()));
        let mut tags: Vec<Option<&str>> = tags.collect();
        if tags.is_empty() {
            tags.push(None);
        }
        let label = listed.repo_tags.iter().flatten().next().unwrap_or(&listed.config);
        let path = files.path(&format!("{LIST} ({label})"));
        let descriptor = match archive.add(files, listed) {
            Ok(descriptor) => descriptor,
            Err(skipped) => {
                contents.skipped.push(skipped);
                contents.skipped.push(Skipped::new(path, "one of its files can't be taken"));
                continue;
            }
        };
        for text in tags {
            match of_as.place(text, options) {
                Place::Here(name, tag) => {
                    let (path, descriptor) = (path.clone(), descriptor.clone());
                    contents.wanted.push(Wanted { path, descriptor, name, tag });
                }
                Place::Unwanted => {}
                Place::Unnamed => {
                    contents
                        .skipped
                        .push(Skipped::new(&path, "it has no name; give it one with --as NAME:TAG"));
                }
                Place::Unusable(reason) => contents.skipped.push(Skipped::new(&path, reason)),
            }
        }
    }
    let copier = Copier::new(registry, &archive, options, tell);
    for fault in files.faults() {
        copier.skip(fault.clone()).await;
    }
    layout::take(&copier, contents, |_| ()).await
}

impl Archive {
    /// Makes the manifest of an image.
    fn add(&mut self, files: &Files, listed: &Listed) -> Result<Descriptor, Skipped> {
        let part = |name: &str| {
            let found = files.part(name)?;
            found.ok_or_else(|| files.skip(LIST, format!("it names {name}, which is not there")))
        };
        let config = part(&listed.config)?;
        let bytes = config.read_all(CONFIG_BYTES)?;
        let digest = Digest::of(DigestAlgorithm::CANONICAL, &bytes);
        // Docker names the file by its digest, and podman too.
        let stem = listed.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
        if let Ok(said) = format!("sha256:{stem}").parse::<Digest>()
            && said != digest
        {
            return Err(Skipped::new(config.path(), format!("its bytes have another digest: {digest}")));
        }
        let parsed: Config = serde_json::from_slice(&bytes).map_err(|error| {
            Skipped::new(config.path(), format!("it is no configuration of an image: {error}"))
        })?;
        let diff_ids = parsed.rootfs.diff_ids.unwrap_or_default();
        let names = listed.layers.as_deref().unwrap_or_default();
        if diff_ids.len() != names.len() {
            let reason = format!("it has {} layers, and manifest.json names {}", diff_ids.len(), names.len());
            return Err(Skipped::new(config.path(), reason));
        }
        let config = self.blob(digest, config, MediaType::DOCKER_IMAGE_CONFIG);
        let mut layers = Vec::with_capacity(names.len());
        for (name, diff_id) in names.iter().zip(diff_ids) {
            let layer = part(name)?;
            let head = layer.head(4)?;
            let (digest, media_type) = match &head[..] {
                [0x1f, 0x8b, ..] => (layer.digest()?, MediaType::DOCKER_LAYER_GZIP),
                b"\x28\xb5\x2f\xfd" => (layer.digest()?, MediaType::OCI_LAYER_ZSTD),
                _ => (diff_id, MediaType::DOCKER_LAYER),
            };
            layers.push(self.blob(digest, layer, media_type));
        }
        let media_type = &MediaType::DOCKER_MANIFEST;
        let made = Made { schema_version: 2, media_type, config, layers };
        let bytes = serde_json::to_vec(&made).map_err(|error| files.skip(LIST, error.to_string()))?;
        let (digest, size) = (Digest::of(DigestAlgorithm::CANONICAL, &bytes), bytes.len() as u64);
        self.manifests.insert(digest, bytes.into());
        Ok(Descriptor { size, ..described(media_type.clone(), digest) })
    }

    fn blob(&mut self, digest: Digest, part: Part, media_type: MediaType) -> Descriptor {
        let size = part.len();
        self.parts.insert(digest, part);
        Descriptor { size, ..described(media_type, digest) }
    }
}

fn described(media_type: MediaType, digest: Digest) -> Descriptor {
    Descriptor { media_type, ..super::copier::named(digest) }
}

impl Source for Archive {
    type Place = ();
    type Pieces = PartPieces;

    async fn manifest(&self, (): &(), digest: &Digest, _: usize) -> Result<Option<SourceManifest>, Failure> {
        let media_type = Some(MediaType::DOCKER_MANIFEST);
        Ok(self.manifests.get(digest).map(|bytes| SourceManifest { bytes: bytes.clone(), media_type }))
    }

    async fn blob(&self, (): &(), digest: &Digest) -> Result<Option<PartPieces>, Failure> {
        Ok(self.parts.get(digest).map(|part| part.clone().pieces()))
    }

    async fn blob_len(&self, (): &(), named: &Descriptor) -> Result<Option<u64>, Failure> {
        Ok(self.parts.get(&named.digest).map(Part::len))
    }

    async fn referrers(&self, (): &(), _: &Digest) -> Result<Vec<Digest>, Failure> {
        Ok(Vec::new())
    }

    fn path(&self, (): &(), digest: &Digest) -> String {
        self.parts.get(digest).map_or_else(|| self.name.clone(), |part| part.path().to_owned())
    }
}
