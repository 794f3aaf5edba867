//! Whole images, fetched before anybody asks for them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;

use crate::client::registry::Missing;
use crate::oci::{ChildRole, Digest, Manifest, ManifestKind, MediaType, Reference, Tag};
use crate::registry::GrowingBlob;

use super::image::Platform;
use super::{
    BlobSource, Cache, CachedRepository, Error, ImageSelection, Place, Platforms, Purpose, Source, Versions,
};

/// How many blobs of an image are fetched at once.
const AT_ONCE: usize = 4;

/// The most images that one selection may mean, and the most tags that are looked through for them.
const MOST_IMAGES: usize = 100;
const MOST_TAGS: usize = 100_000;

/// The most manifests of one image.
const MOST_MANIFESTS: usize = 1_000;

/// The pause between two looks at how far a blob has come.
const LOOK: Duration = Duration::from_millis(100);

/// How often a blob is asked for again that broke off.
const TRIES: u32 = 3;

/// How far a blob of an image has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobProgress {
    /// The blob.
    pub digest: Digest,
    /// The bytes that are here.
    pub received: u64,
    /// The bytes that it has.
    pub size: u64,
}

/// An image that is here now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledImage {
    /// Its name here, with the tag or digest that it was asked for by.
    pub image: String,
    /// The digest of its manifest or index.
    pub digest: Digest,
    /// How many manifests it has, of the platforms that were wanted.
    pub manifests: usize,
    /// How many blobs these have.
    pub blobs: usize,
    /// The bytes of these blobs.
    pub bytes: u64,
    /// Those of them that came from the upstream just now.
    pub fetched: u64,
    /// Those of them that are too large to be kept.
    pub not_kept: u64,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    digest: Digest,
    platform: Option<Platform>,
}

/// What has come of one blob.
enum Kept {
    Here,
    Fetched(u64),
    TooLarge(u64),
}

impl Cache {
    /// Fetches images with everything that they are made of, and tells `progress` of each blob. Blobs that are here already
    /// aren't fetched. It is as if somebody had pulled them, so that they count as used.
    pub async fn pull(
        &self,
        images: &ImageSelection,
        platforms: &Platforms,
        progress: impl Fn(BlobProgress) + Sync,
    ) -> Result<Vec<PulledImage>, Error> {
        let Place::Cached(repository) = self.locate(&images.name, None, Purpose::Keep, &|_| false)? else {
            let reason = format!(
                "{} is nobody's: begin with the host of an upstream that is configured, such as docker.io/library/{}",
                images.name, images.name
            );
            return Err(Error::NotFound { what: Missing::Repository, reason });
        };
        let mut pulled = Vec::new();
        for reference in repository.references(&images.versions).await? {
            pulled.push(repository.pull(&reference, platforms, &progress).await?);
        }
        Ok(pulled)
    }
}

impl CachedRepository {
    /// The references that are meant, of the tags that the upstream has now.
    async fn references(&self, versions: &Versions) -> Result<Vec<Reference>, Error> {
        let is_meant = |tag: &Tag| match versions {
            Versions::One(_) => false,
            Versions::Matching(pattern) => pattern.matches(tag) && !tag.follows_a_subject(),
            Versions::InRange(range) => range.contains(tag),
        };
        if let Versions::One(reference) = versions {
            return Ok(vec![reference.clone()]);
        }
        let (tags, _) = self.tags(None, MOST_TAGS).await?;
        let meant: Vec<Reference> = tags.items.into_iter().filter(is_meant).map(Reference::Tag).collect();
        match meant.len() {
            0 => {
                let reason =
                    format!("{} has no tag that is meant; write another pattern or range", self.name);
                Err(Error::NotFound { what: Missing::Manifest, reason })
            }
            count if count > MOST_IMAGES => Err(Error::Denied(format!(
                "{count} tags of {} are meant, and {MOST_IMAGES} are fetched at most; write a narrower pattern or range",
                self.name
            ))),
            _ => Ok(meant),
        }
    }

    async fn pull(
        &self,
        reference: &Reference,
        platforms: &Platforms,
        progress: &(impl Fn(BlobProgress) + Sync),
    ) -> Result<PulledImage, Error> {
        let (digest, manifests, blobs) = self.pull_manifests(reference, platforms).await?;
        let all: Vec<(Digest, u64)> = blobs.iter().map(|(digest, size)| (*digest, *size)).collect();
        let kept: Vec<Kept> = stream::iter(all)
            .map(|(digest, size)| self.keep_blob(digest, size, progress))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let separator = if matches!(reference, Reference::Tag(_)) { ':' } else { '@' };
        let image = format!("{}{separator}{reference}", self.name);
        let mut pulled = PulledImage {
            image,
            digest,
            manifests,
            blobs: blobs.len(),
            bytes: blobs.values().fold(0, |sum: u64, size| sum.saturating_add(*size)),
            fetched: 0,
            not_kept: 0,
        };
        for kept in kept {
            match kept {
                Kept::Here => {}
                Kept::Fetched(bytes) => pulled.fetched += bytes,
                Kept::TooLarge(bytes) => pulled.not_kept += bytes,
            }
        }
        Ok(pulled)
    }

    /// Fetches the manifests of an image; returns the digest of the first, how many they are, and their blobs with the sizes.
    async fn pull_manifests(
        &self,
        reference: &Reference,
        platforms: &Platforms,
    ) -> Result<(Digest, usize, BTreeMap<Digest, u64>), Error> {
        let (mut first, mut seen, mut blobs) = (None, BTreeSet::new(), BTreeMap::new());
        let mut waiting = VecDeque::from([reference.clone()]);
        while let Some(reference) = waiting.pop_front() {
            self.manifest(&reference).await?;
            let Some((found, bytes)) = self.stored().manifests().get(&reference)? else {
                let reason = format!("{reference} went as soon as it came, since there is too little room");
                return Err(Error::NotFound { what: Missing::Manifest, reason });
            };
            first.get_or_insert(found.digest);
            if !seen.insert(found.canonical) {
                continue;
            }
            if seen.len() > MOST_MANIFESTS {
                let reason = format!("{} has more than {MOST_MANIFESTS} manifests", self.name);
                return Err(Error::Invalid(reason));
            }
            let manifest = Manifest::parse(&found.media_type, &bytes)
                .map_err(|error| Error::Registry(std::sync::Arc::new(error.into())))?;
            let wanted = match manifest.kind {
                ManifestKind::Index => Some(self.wanted(&bytes, platforms)?),
                _ => None,
            };
            for child in manifest.children {
                let digest = child.descriptor.digest;
                let is_manifest =
                    child.role == ChildRole::Manifest && is_manifest(&child.descriptor.media_type);
                if is_manifest {
                    if wanted.as_ref().is_none_or(|wanted| wanted.contains(&digest)) {
                        waiting.push_back(Reference::Digest(digest));
                    }
                } else if child.is_distributable() {
                    blobs.insert(digest, child.descriptor.size);
                }
            }
        }
        let first = first.expect("there was one to begin with");
        Ok((first, seen.len(), blobs))
    }

    /// The manifests of an index for the platforms that are wanted.
    fn wanted(&self, index: &[u8], platforms: &Platforms) -> Result<BTreeSet<Digest>, Error> {
        let index: Index = serde_json::from_slice(index)
            .map_err(|error| Error::Invalid(format!("an index of {} can't be read: {error}", self.name)))?;
        let is_empty = index.manifests.is_empty();
        let offered = index.manifests.iter().filter_map(|entry| entry.platform.as_ref());
        let offered: Vec<String> = offered.map(ToString::to_string).collect();
        let wanted = index.manifests.into_iter().filter(|entry| platforms.contain(entry.platform.as_ref()));
        let wanted: BTreeSet<Digest> = wanted.map(|entry| entry.digest).collect();
        if wanted.is_empty() && !is_empty {
            let reason = format!(
                "{} has none of the platforms that are wanted; it has {}",
                self.name,
                offered.join(", ")
            );
            return Err(Error::NotFound { what: Missing::Manifest, reason });
        }
        Ok(wanted)
    }

    async fn keep_blob(
        &self,
        digest: Digest,
        size: u64,
        progress: &(impl Fn(BlobProgress) + Sync),
    ) -> Result<Kept, Error> {
        progress(BlobProgress { digest, received: 0, size });
        let mut tries = 0;
        let kept = loop {
            let mut growing = match self.blob(&digest).await? {
                (BlobSource::Stored(_), Source::Hit | Source::Revalidated) => break Kept::Here,
                (BlobSource::Stored(blob), _) => break Kept::Fetched(blob.size()),
                (BlobSource::Streamed(blob), _) => break Kept::TooLarge(blob.size()),
                (BlobSource::Growing(growing), _) => growing,
            };
            match follow(&mut growing, progress).await {
                Ok(()) => break Kept::Fetched(growing.size()),
                Err(error) if tries == TRIES => {
                    let reason = format!("{digest} of {}: {error}", self.name);
                    return Err(Error::Unavailable { reason, retry_after: Duration::from_secs(10) });
                }
                Err(_) => tries += 1,
            }
        };
        progress(BlobProgress { digest, received: size, size });
        Ok(kept)
    }
}

/// Waits for a blob's end, and tells how far it has come.
async fn follow(growing: &mut GrowingBlob, progress: &(impl Fn(BlobProgress) + Sync)) -> std::io::Result<()> {
    let (digest, size, watched) = (*growing.digest(), growing.size(), growing.clone());
    let whole = growing.whole();
    tokio::pin!(whole);
    loop {
        tokio::select! {
            ended = &mut whole => return ended,
            () = tokio::time::sleep(LOOK) => {
                progress(BlobProgress { digest, received: watched.received(), size });
            }
        }
    }
}

/// Whether an entry of an index is a manifest; `BuildKit`'s caches have blobs there.
fn is_manifest(media_type: &MediaType) -> bool {
    ManifestKind::of(media_type) != ManifestKind::Opaque
}
