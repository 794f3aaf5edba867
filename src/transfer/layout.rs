//! Import from an OCI image layout, in a directory or a tar archive.
//!
//! ```text
//! oci-layout                     {"imageLayoutVersion":"1.0.0"}
//! index.json                     the images, with their names as annotations
//! blobs/<algorithm>/<hex>        manifests and blobs
//! ```
//!
//! A manifest without a name comes with the image that it refers to, as signatures do.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::copier::{Copier, Failure, Options, RepositoryCopy, Source, SourceManifest};
use super::files::{Files, PartPieces};
use super::image_name::{As, ImageName};
use super::{Error, Report, Skipped, Tell};
use crate::oci::{Descriptor, Digest, RepositoryName, Tag};
use crate::registry::Registry;

/// The longest list of images that is read.
const INDEX_BYTES: usize = 32 << 20;

/// Where a layout says what it is, and what it has.
pub(super) const LAYOUT: &str = "oci-layout";
pub(super) const INDEX: &str = "index.json";

/// The annotations that name an image, the better one first: containerd's and Docker's is a whole name.
pub(super) const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// A list of images, each of which is still unread.
#[derive(Deserialize)]
struct Index<'a> {
    #[serde(borrow, default)]
    manifests: Vec<&'a RawValue>,
}

/// The version of a layout.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    image_layout_version: String,
}

/// An image of an archive, and where it is to come.
pub(super) struct Wanted {
    /// How messages name it.
    pub(super) path: String,
    pub(super) descriptor: Descriptor,
    pub(super) name: RepositoryName,
    pub(super) tag: Option<Tag>,
}

/// What an archive has: images with a name, and manifests without one.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) wanted: Vec<Wanted>,
    pub(super) unnamed: Vec<Descriptor>,
    pub(super) skipped: Vec<Skipped>,
}

/// A layout as a source.
struct Layout<'f> {
    files: &'f Files,
}

/// Imports the images of an archive; `name` stands for the names that they have. Blocks the calling thread where it reads
/// directories and headers.
pub async fn import(
    registry: &Registry,
    files: &Files,
    name: Option<&As>,
    options: &Options,
    tell: &Tell<'_>,
) -> Result<Report, Error> {
    let contents = read(files, name, options)?;
    let layout = Layout { files };
    let copier = Copier::new(registry, &layout, options, tell);
    for fault in files.faults() {
        copier.skip(fault.clone()).await;
    }
    take(&copier, contents, |_| ()).await
}

/// Whether an archive is a layout that names its images itself.
pub(super) fn is_named_layout(files: &Files) -> bool {
    let Ok(Some(bytes)) = files.read(INDEX, INDEX_BYTES) else { return false };
    let Ok(index) = serde_json::from_slice::<Index<'_>>(&bytes) else { return false };
    let entries =
        index.manifests.iter().filter_map(|entry| serde_json::from_str::<Descriptor>(entry.get()).ok());
    let mut names = entries.filter(|entry| entry.annotations.contains_key(NAMES[0]));
    names.next().is_some()
}

fn read(files: &Files, name: Option<&As>, options: &Options) -> Result<Contents, Error> {
    let unusable = |skipped: Skipped| Error::Unusable(format!("{}: {}", skipped.path, skipped.reason));
    let Some(version) = files.read(LAYOUT, 64 << 10).map_err(unusable)? else {
        return Err(files.unusable(
            "it is no OCI image layout: there is no oci-layout in it. What `docker save` wrote is taken by `orlop import docker`",
        ));
    };
    let version: Option<Version> = serde_json::from_slice(&version).ok();
    if version.is_none_or(|version| !version.image_layout_version.starts_with("1.")) {
        return Err(files.unusable("its oci-layout is damaged, or of a version that is not known here"));
    }
    let Some(index) = files.read(INDEX, INDEX_BYTES).map_err(unusable)? else {
        return Err(files.unusable("there is no index.json in it"));
    };
    let index: Index<'_> = serde_json::from_slice(&index)
        .map_err(|error| files.unusable(&format!("its index.json is damaged: {error}")))?;
    let mut contents = Contents::default();
    let mut named = Vec::new();
    for (at, entry) in index.manifests.iter().enumerate() {
        let descriptor: Descriptor = match serde_json::from_str(entry.get()) {
            Ok(descriptor) => descriptor,
            Err(error) => {
                let reason = format!("its entry {} is no descriptor: {error}", at + 1);
                contents.skipped.push(files.skip(INDEX, reason));
                continue;
            }
        };
        let text = NAMES.iter().find_map(|key| descriptor.annotations.get(*key)).cloned();
        named.push((text, descriptor));
    }
    let of_as = Named::of(name, named.iter().filter(|(text, _)| text.is_some()).count(), named.len())
        .map_err(|reason| files.unusable(&reason))?;
    for (text, descriptor) in named {
        let path = match &text {
            Some(text) => files.path(&format!("{INDEX} ({text})")),
            None => files.path(&format!("{INDEX} ({})", descriptor.digest)),
        };
        match of_as.place(text.as_deref(), options) {
            Place::Here(name, tag) => contents.wanted.push(Wanted { path, descriptor, name, tag }),
            Place::Unnamed => contents.unnamed.push(descriptor),
            Place::Unwanted => {}
            Place::Unusable(reason) => contents.skipped.push(Skipped::new(path, reason)),
        }
    }
    Ok(contents)
}

/// How the images of an archive are named here.
pub(super) enum Named<'n> {
    /// As they are there.
    Own,
    /// All by one repository, with their tags.
    Repository(&'n RepositoryName),
    /// The only one by this name.
    One(&'n RepositoryName, &'n Tag),
}

/// Where an image is to come.
pub(super) enum Place {
    /// To a repository, under a tag if it has one.
    Here(RepositoryName, Option<Tag>),
    /// Wherever what it refers to is.
    Unnamed,
    /// Nowhere, since a pattern leaves it out.
    Unwanted,
    /// Nowhere, since it has no name that can be one here.
    Unusable(String),
}

impl<'n> Named<'n> {
    /// Reads what was asked for; an error where a tag is given to several.
    pub(super) fn of(name: Option<&'n As>, named: usize, all: usize) -> Result<Named<'n>, String> {
        match name {
            None => Ok(Named::Own),
            Some(As { name, tag: None }) => Ok(Named::Repository(name)),
            Some(As { name, tag: Some(tag) }) if named == 1 || (named == 0 && all == 1) => {
                Ok(Named::One(name, tag))
            }
            Some(As { tag: Some(_), .. }) => {
                Err(format!("there are {all} images in it, so give --as a repository without a tag"))
            }
        }
    }

    pub(super) fn place(&self, text: Option<&str>, options: &Options) -> Place {
        let parsed = match text.map(|text| (text, ImageName::parse(text))) {
            Some((text, None)) => {
                return Place::Unusable(format!("{text:?} is no name here; name it with --as NAME:TAG"));
            }
            Some((_, Some(parsed))) => Some(parsed),
            None => None,
        };
        let (own, tag) = match parsed {
            Some(ImageName::Image(name, tag)) => (Some(name), tag),
            Some(ImageName::Tag(tag)) => (None, Some(tag)),
            None => (None, None),
        };
        let has_name = text.is_some();
        let (name, tag) = match self {
            Named::Own if !has_name => return Place::Unnamed,
            Named::Own => match own {
                Some(name) => (name, tag),
                None => {
                    return Place::Unusable(
                        "there is no repository in its name; give it one with --as NAME".to_owned(),
                    );
                }
            },
            Named::Repository(name) => ((*name).clone(), tag),
            Named::One(name, tag) => ((*name).clone(), Some((*tag).clone())),
        };
        let is_wanted =
            options.wants_repository(name.as_str()) && tag.as_ref().is_none_or(|tag| options.wants_tag(tag));
        if is_wanted { Place::Here(name, tag) } else { Place::Unwanted }
    }
}

/// Takes what an archive has. `place_of` says where the source keeps the content of a repository.
pub(super) async fn take<S: Source>(
    copier: &Copier<'_, S>,
    contents: Contents,
    place_of: impl Fn(&RepositoryName) -> S::Place,
) -> Result<Report, Error> {
    for skipped in contents.skipped {
        copier.skip(skipped).await;
    }
    copier.expect_images(contents.wanted.len() as u64);
    let mut of_names: BTreeMap<RepositoryName, Vec<Wanted>> = BTreeMap::new();
    for wanted in contents.wanted {
        of_names.entry(wanted.name.clone()).or_default().push(wanted);
    }
    let mut unnamed = contents.unnamed;
    let mut came = Vec::new();
    for (name, images) in of_names {
        let Some(first) = images.first() else { continue };
        let Some(repository) = copier.repository(&name, place_of(&name), &first.path).await? else {
            continue;
        };
        for image in &images {
            if copier.is_over() {
                return Ok(copier.report());
            }
            repository.image(&image.path, &image.descriptor, image.tag.as_ref()).await?;
            copier.image_done().await;
        }
        came.push(repository);
    }
    // What refers to one that has come may itself be referred to.
    loop {
        let before = unnamed.len();
        let mut left = Vec::new();
        for descriptor in unnamed {
            if !follow(copier, &came, &descriptor).await? {
                left.push(descriptor);
            }
        }
        unnamed = left;
        if unnamed.len() == before || copier.is_over() {
            break;
        }
    }
    for descriptor in unnamed {
        if copier.is_over() || came.iter().any(|repository| repository.has(&descriptor.digest)) {
            continue;
        }
        let reason = "it has no name, and refers to nothing that has one; give it one with --as NAME";
        copier.skip(Skipped::new(copier.path(&place_of_any(&place_of), &descriptor.digest), reason)).await;
    }
    Ok(copier.report())
}

/// A place for messages about what belongs to no repository.
fn place_of_any<P>(place_of: &impl Fn(&RepositoryName) -> P) -> P {
    let any = "unnamed".parse().expect("it is a name");
    place_of(&any)
}

/// Takes a manifest without a name to wherever its subject has come; says whether there is such a place.
async fn follow<S: Source>(
    copier: &Copier<'_, S>,
    came: &[RepositoryCopy<'_, S>],
    descriptor: &Descriptor,
) -> Result<bool, Error> {
    let mut is_taken = false;
    for repository in came {
        let Some(subject) = repository.subject(descriptor).await else { continue };
        if repository.has(&subject) {
            is_taken = true;
            repository.image(&copier.path(&repository.place, &descriptor.digest), descriptor, None).await?;
        }
    }
    Ok(is_taken)
}

impl Source for Layout<'_> {
    type Place = ();
    type Pieces = PartPieces;

    async fn manifest(
        &self,
        (): &(),
        digest: &Digest,
        limit: usize,
    ) -> Result<Option<SourceManifest>, Failure> {
        let bytes = self.files.read(&file_of(digest), limit)?;
        Ok(bytes.map(|bytes| SourceManifest { bytes: Bytes::from(bytes), media_type: None }))
    }

    async fn blob(&self, (): &(), digest: &Digest) -> Result<Option<PartPieces>, Failure> {
        Ok(self.files.part(&file_of(digest))?.map(super::files::Part::pieces))
    }

    async fn blob_len(&self, (): &(), named: &Descriptor) -> Result<Option<u64>, Failure> {
        Ok(self.files.part(&file_of(&named.digest))?.map(|part| part.len()))
    }

    async fn referrers(&self, (): &(), _: &Digest) -> Result<Vec<Digest>, Failure> {
        // They are in the list of images, without names.
        Ok(Vec::new())
    }

    fn path(&self, (): &(), digest: &Digest) -> String {
        self.files.path(&file_of(digest))
    }
}

/// Where a layout has the bytes of a digest.
pub(super) fn file_of(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}
