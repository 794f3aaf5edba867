//! Which files an archive will have.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Absent, File, Format, Image, Options, Plan, Planned};
use crate::oci::{
    ChildRole, Descriptor, Digest, Manifest, ManifestKind, MediaType, Reference, RepositoryName, Tag,
};
use crate::proxy::Platform;
use crate::registry::{ManifestDescriptor, Registry, Repository};
use crate::transfer::Error;
use crate::transfer::image_name::ImageName;
use crate::transfer::layout::{INDEX, LAYOUT, NAMES, file_of};

/// How deep indexes may name indexes.
const DEPTH: usize = 32;

/// The most images, and the most files, of one archive.
const MOST_IMAGES: usize = 100_000;
const MOST_FILES: usize = 1_000_000;

/// How many tags are listed at a time.
const TAGS: usize = 1_000;

/// An entry of an index, with its platform.
#[derive(Deserialize)]
struct Entry {
    #[serde(flatten)]
    descriptor: Descriptor,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Entry>,
}

/// An image as Docker lists it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Looks up everything that the images are made of. Blocks.
pub fn plan(registry: &Registry, images: &[Image], options: &Options) -> Result<Plan, Error> {
    let mut planning = Planning { registry, options, plan: Plan::empty(), referrers: Vec::new() };
    for image in images {
        planning.add(image)?;
    }
    planning.plan.images.sort_by(|one, other| {
        (&one.repository, &one.tag, &one.digest).cmp(&(&other.repository, &other.tag, &other.digest))
    });
    planning.plan.images.dedup();
    let heads = match options.format {
        Format::Oci => planning.layout()?,
        Format::Docker => planning.docker()?,
    };
    planning.plan.heads = heads;
    Ok(planning.plan)
}

impl Plan {
    fn empty() -> Plan {
        Plan {
            images: Vec::new(),
            absent: Vec::new(),
            manifests: 0,
            blobs: 0,
            files: BTreeMap::new(),
            heads: Vec::new(),
        }
    }
}

struct Planning<'p> {
    registry: &'p Registry,
    options: &'p Options,
    plan: Plan,
    /// Manifests that refer to those of the images.
    referrers: Vec<Descriptor>,
}

impl Planning<'_> {
    fn add(&mut self, image: &Image) -> Result<(), Error> {
        let repository = self.registry.namespace().repository(&image.repository);
        match (&image.tag, image.digest) {
            (tag, Some(digest)) => self.image(&repository, &Reference::Digest(digest), tag.clone()),
            (Some(tag), None) => self.image(&repository, &Reference::Tag(tag.clone()), Some(tag.clone())),
            (None, None) => {
                let mut last: Option<Tag> = None;
                loop {
                    let page = repository.tags().list(last.as_ref().map(Tag::as_str), TAGS);
                    let page = page.map_err(|error| match error {
                        crate::registry::Error::RepositoryUnknown => absent(&image.repository, None),
                        error => error.into(),
                    })?;
                    for tag in page.items.iter().filter(|tag| !tag.follows_a_subject()) {
                        self.image(&repository, &Reference::Tag(tag.clone()), Some(tag.clone()))?;
                    }
                    last = page.items.last().cloned();
                    if !page.more || last.is_none() {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn image(
        &mut self,
        repository: &Repository,
        reference: &Reference,
        tag: Option<Tag>,
    ) -> Result<(), Error> {
        let found = repository.manifests().stat(reference)?;
        let found = found.ok_or_else(|| absent(repository.name(), Some(reference)))?;
        let found = self.of_platform(repository, reference, found)?;
        self.collect(repository, &found.digest, 0)?;
        self.plan.images.push(Planned { repository: repository.name().clone(), tag, digest: found.digest });
        if self.plan.images.len() > MOST_IMAGES {
            return Err(Error::Unusable(format!(
                "there are more than {MOST_IMAGES} images; export some at a time"
            )));
        }
        Ok(())
    }

    /// The manifest for the platform that is wanted, of one for several.
    fn of_platform(
        &self,
        repository: &Repository,
        reference: &Reference,
        found: ManifestDescriptor,
    ) -> Result<ManifestDescriptor, Error> {
        let wanted = match (&self.options.platform, self.options.format) {
            (Some(platform), _) => platform.clone(),
            (None, Format::Docker) => Platform::own(),
            (None, Format::Oci) => return Ok(found),
        };
        if ManifestKind::of(&found.media_type) != ManifestKind::Index {
            return Ok(found);
        }
        let name = label(repository.name(), Some(reference));
        let Some((_, bytes)) = repository.manifests().read(&Reference::Digest(found.digest))? else {
            return Err(absent(repository.name(), Some(reference)));
        };
        let index: Index = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Unusable(format!("the index of {name} can't be read: {error}")))?;
        let entry = index
            .manifests
            .iter()
            .find(|entry| entry.platform.as_ref().is_some_and(|platform| wanted.is_met_by(platform)));
        let Some(entry) = entry else {
            let platforms: Vec<String> = index
                .manifests
                .iter()
                .filter_map(|entry| entry.platform.as_ref().map(ToString::to_string))
                .collect();
            return Err(Error::Unusable(format!(
                "{name} is not for {wanted}: choose one of its platforms by --platform: {}",
                platforms.join(", ")
            )));
        };
        let digest = entry.descriptor.digest;
        let found = repository.manifests().stat(&Reference::Digest(digest))?;
        found.ok_or_else(|| {
            Error::Unusable(format!(
                "{name} has an image for {wanted}, {digest}, and it is not in the registry"
            ))
        })
    }

    /// Notes a manifest and all that it names.
    fn collect(&mut self, repository: &Repository, digest: &Digest, depth: usize) -> Result<(), Error> {
        let name = file_of(digest);
        if self.plan.files.contains_key(&name) {
            return Ok(());
        }
        let Some((found, bytes)) = repository.manifests().read(&Reference::Digest(*digest))? else {
            return Err(absent(repository.name(), Some(&Reference::Digest(*digest))));
        };
        let parsed = Manifest::parse(&found.media_type, &bytes).map_err(|error| {
            Error::Unusable(format!(
                "{}: {error}",
                label(repository.name(), Some(&Reference::Digest(*digest)))
            ))
        })?;
        if parsed.kind == ManifestKind::Schema1 {
            return Err(Error::Unusable(format!(
                "{} is a manifest of schema 1, which neither archive can hold; push the image again with a Docker of today",
                label(repository.name(), Some(&Reference::Digest(*digest)))
            )));
        }
        if depth >= DEPTH {
            return Err(Error::Unusable(format!(
                "{digest} is named by an index in an index, {DEPTH} of them in all"
            )));
        }
        self.note(name, repository.name(), *digest, bytes.len() as u64, true)?;
        for child in &parsed.children {
            let named = child.descriptor.digest;
            let is_manifest = child.role == ChildRole::Manifest && repository.manifests().exists(&named)?;
            if is_manifest {
                self.collect(repository, &named, depth + 1)?;
                continue;
            }
            if let Some(blob) = repository.blobs().stat(named)? {
                self.note(file_of(&named), repository.name(), named, blob.size, false)?;
            } else {
                let repository = repository.name().clone();
                self.plan.absent.push(Absent { repository, manifest: *digest, digest: named });
            }
        }
        if self.options.referrers && self.options.format == Format::Oci {
            self.collect_referrers(repository, digest, depth)?;
        }
        Ok(())
    }

    fn collect_referrers(
        &mut self,
        repository: &Repository,
        subject: &Digest,
        depth: usize,
    ) -> Result<(), Error> {
        let mut after: Option<String> = None;
        loop {
            let page = repository.referrers().list(subject, None, after.as_deref())?;
            for descriptor in &page.descriptors {
                let Ok(descriptor) = serde_json::from_slice::<Descriptor>(descriptor) else { continue };
                let is_new = !self.plan.files.contains_key(&file_of(&descriptor.digest));
                self.collect(repository, &descriptor.digest, depth + 1)?;
                if is_new {
                    self.referrers.push(descriptor);
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    fn note(
        &mut self,
        name: String,
        repository: &RepositoryName,
        digest: Digest,
        len: u64,
        is_manifest: bool,
    ) -> Result<(), Error> {
        if self.plan.files.len() >= MOST_FILES {
            return Err(Error::Unusable(format!(
                "there are more than {MOST_FILES} files; export some images at a time"
            )));
        }
        let file = File { repository: repository.clone(), digest, len, is_manifest };
        if self.plan.files.insert(name, file).is_none() {
            let count = if is_manifest { &mut self.plan.manifests } else { &mut self.plan.blobs };
            *count += 1;
        }
        Ok(())
    }

    /// The lists of a layout. Every name is there in both ways, so that containerd, podman and skopeo find it.
    fn layout(&self) -> Result<Vec<(&'static str, Vec<u8>)>, Error> {
        let mut entries = Vec::new();
        for image in &self.plan.images {
            let repository = self.registry.namespace().repository(&image.repository);
            let reference = Reference::Digest(image.digest);
            let found = repository.manifests().stat(&reference)?;
            let found = found.ok_or_else(|| absent(&image.repository, Some(&reference)))?;
            let mut annotations = BTreeMap::new();
            match &image.tag {
                Some(tag) => {
                    annotations.insert(NAMES[0], ImageName::for_docker(&image.repository, tag));
                    annotations.insert(NAMES[1], format!("{}:{tag}", image.repository));
                }
                None => drop(annotations.insert(NAMES[1], format!("{}@{}", image.repository, image.digest))),
            }
            entries.push(json!({
                "mediaType": found.media_type,
                "digest": image.digest,
                "size": found.size,
                "annotations": annotations,
            }));
        }
        let mut referrers: Vec<&Descriptor> = self.referrers.iter().collect();
        referrers.sort_by_key(|descriptor| descriptor.digest);
        for referrer in referrers {
            entries.push(serde_json::to_value(referrer).map_err(unwritten)?);
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": MediaType::OCI_IMAGE_INDEX,
            "manifests": entries,
        });
        let index = serde_json::to_vec(&index).map_err(unwritten)?;
        Ok(vec![(LAYOUT, br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()), (INDEX, index)])
    }

    /// The list of an archive for Docker. The layers stay as they are, so that nothing but this list is made here.
    fn docker(&self) -> Result<Vec<(&'static str, Vec<u8>)>, Error> {
        if let Some(absent) = self.plan.absent.first() {
            return Err(Error::Unusable(format!(
                "{} needs {}, which is not in the registry, so Docker can't load it",
                absent.manifest, absent.digest
            )));
        }
        let mut of_digests: BTreeMap<(&RepositoryName, Digest), BTreeSet<String>> = BTreeMap::new();
        for image in &self.plan.images {
            let names = of_digests.entry((&image.repository, image.digest)).or_default();
            names.extend(image.tag.as_ref().map(|tag| format!("{}:{tag}", image.repository)));
        }
        let mut listed = Vec::new();
        for ((name, digest), repo_tags) in of_digests {
            let reference = Reference::Digest(digest);
            let found = self.registry.namespace().repository(name).manifests().read(&reference)?;
            let (found, bytes) = found.ok_or_else(|| absent(name, Some(&reference)))?;
            let parsed = Manifest::parse(&found.media_type, &bytes).map_err(unwritten)?;
            let config = parsed.children.iter().find(|child| child.role == ChildRole::Config);
            let is_image = |kind: &MediaType| {
                [MediaType::DOCKER_IMAGE_CONFIG, MediaType::OCI_IMAGE_CONFIG].contains(kind)
            };
            let config =
                config.filter(|config| is_image(&config.descriptor.media_type)).ok_or_else(|| {
                    Error::Unusable(format!(
                        "{} is no image that Docker can load; `orlop export oci` writes it",
                        label(name, Some(&reference))
                    ))
                })?;
            let layers = parsed.children.iter().filter(|child| child.role == ChildRole::Layer);
            listed.push(Listed {
                config: file_of(&config.descriptor.digest),
                repo_tags: repo_tags.into_iter().collect(),
                layers: layers.map(|layer| file_of(&layer.descriptor.digest)).collect(),
            });
        }
        Ok(vec![("manifest.json", serde_json::to_vec(&listed).map_err(unwritten)?)])
    }
}

fn label(name: &RepositoryName, reference: Option<&Reference>) -> String {
    match reference {
        Some(Reference::Tag(tag)) => format!("{name}:{tag}"),
        Some(Reference::Digest(digest)) => format!("{name}@{digest}"),
        None => name.to_string(),
    }
}

fn absent(name: &RepositoryName, reference: Option<&Reference>) -> Error {
    Error::Unusable(format!("there is no {} in the registry", label(name, reference)))
}

fn unwritten(error: impl std::fmt::Display) -> Error {
    Error::Unusable(format!("the list of images can't be written: {error}"))
}
