//! Manifests: what a registry needs to know of the documents that clients push.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::descriptor::Descriptor;
use super::media_type::MediaType;
use super::text::excerpt;

/// What a manifest is, as far as its children are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestKind {
    /// An OCI image manifest or a Docker manifest of schema 2.
    Image,
    /// An OCI image index or a Docker manifest list.
    Index,
    /// An artifact manifest of the time before OCI 1.1.
    Artifact,
    /// A document of any other media type, whose children nobody knows.
    Opaque,
}

impl ManifestKind {
    /// Returns the kind of manifest that a media type stands for.
    pub fn of(media_type: &MediaType) -> ManifestKind {
        if [MediaType::OCI_IMAGE_MANIFEST, MediaType::DOCKER_MANIFEST].contains(media_type) {
            ManifestKind::Image
        } else if [MediaType::OCI_IMAGE_INDEX, MediaType::DOCKER_MANIFEST_LIST].contains(media_type) {
            ManifestKind::Index
        } else if *media_type == MediaType::OCI_ARTIFACT_MANIFEST {
            ManifestKind::Artifact
        } else {
            ManifestKind::Opaque
        }
    }
}

/// In what capacity a manifest names a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildRole {
    /// The configuration of an image.
    Config,
    /// A layer of an image, or a blob of an artifact.
    Layer,
    /// An entry of an index; by convention a manifest, in a `BuildKit` cache a blob.
    Manifest,
}

/// A piece of content that a manifest needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// What the manifest needs it for.
    pub role: ChildRole,
    /// How the manifest names it.
    pub descriptor: Descriptor,
}

impl Child {
    /// Whether a registry that holds the manifest is meant to hold this child too.
    pub fn is_distributable(&self) -> bool {
        self.descriptor.media_type.is_distributable()
    }
}

/// What a registry needs to know of a manifest; the bytes themselves are kept verbatim elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What the manifest is.
    pub kind: ManifestKind,
    /// The artifact type that a list of referrers shows: the manifest's own, else the media type of an image's config.
    pub artifact_type: Option<String>,
    /// The manifest that this one is about.
    pub subject: Option<Descriptor>,
    /// What the manifest needs, in the order of the document; a digest may come more than once.
    pub children: Vec<Child>,
    /// The annotations of the manifest itself.
    pub annotations: BTreeMap<String, String>,
}

/// Why a document is not the manifest that its media type says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The document is not one JSON object.
    #[error("the manifest is not a JSON object: {0}")]
    NotJson(String),
    /// A field has a value that it can't have.
    #[error("the manifest's `{field}` is malformed: {reason}")]
    Malformed {
        /// The field of the document.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A field is required and absent.
    #[error("the manifest has no `{0}`")]
    Missing(&'static str),
    /// A field belongs to another kind of manifest, so that two clients could read two different things.
    #[error("a manifest of type {media_type} can't have `{field}`")]
    Unexpected {
        /// The media type that the document was sent with.
        media_type: MediaType,
        /// The field of the document.
        field: &'static str,
    },
    /// The schema version is not 2.
    #[error("the manifest's `schemaVersion` is {0}; only 2 is supported for its type")]
    SchemaVersion(i64),
    /// The document says that it is something else than it was sent as.
    #[error("the manifest was sent as {sent}, but its `mediaType` says {stated}")]
    MediaTypeMismatch {
        /// The media type that the document was sent with.
        sent: MediaType,
        /// The beginning of what the document says.
        stated: String,
    },
}

/// The top level of a manifest, each field still unread; `Some` also for `null`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    schema_version: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    media_type: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    artifact_type: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    config: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    layers: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    manifests: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    blobs: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    subject: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    annotations: Option<&'a RawValue>,
}

fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl<'a> Fields<'a> {
    fn read(bytes: &'a [u8]) -> Result<Fields<'a>, ManifestError> {
        // A derived reader would take an array for an object, field by field.
        if bytes.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
            return Err(ManifestError::NotJson("it does not begin with `{`".to_owned()));
        }
        serde_json::from_slice(bytes).map_err(|error| ManifestError::NotJson(excerpt(&error.to_string())))
    }
}

/// Reads a field that may be absent or `null`.
fn optional<'a, T: Deserialize<'a>>(
    field: &'static str,
    raw: Option<&'a RawValue>,
) -> Result<Option<T>, ManifestError> {
    match raw {
        None => Ok(None),
        Some(raw) => serde_json::from_str(raw.get())
            .map_err(|error| ManifestError::Malformed { field, reason: excerpt(&error.to_string()) }),
    }
}

/// Reads a list that has to be there; `null` is how Go writes an empty one.
fn required_list(field: &'static str, raw: Option<&RawValue>) -> Result<Vec<Descriptor>, ManifestError> {
    if raw.is_none() {
        return Err(ManifestError::Missing(field));
    }
    Ok(optional(field, raw)?.unwrap_or_default())
}

impl Manifest {
    /// Reads a manifest that was sent with `media_type`.
    ///
    /// The cost is linear in the length of `bytes`. A type that is not known makes an [`Opaque`](ManifestKind::Opaque)
    /// manifest, whatever its bytes.
    pub fn parse(media_type: &MediaType, bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let kind = ManifestKind::of(media_type);
        if kind == ManifestKind::Opaque {
            return Manifest::parse_opaque(media_type, bytes);
        }
        let fields = Fields::read(bytes)?;
        check_media_type(media_type, &fields)?;
        let unexpected = |field, raw: Option<&RawValue>| match raw {
            Some(_) => Err(ManifestError::Unexpected { media_type: media_type.clone(), field }),
            None => Ok(()),
        };

        let mut children = Vec::new();
        let mut config_type = None;
        match kind {
            ManifestKind::Image => {
                check_schema_version(&fields)?;
                unexpected("manifests", fields.manifests)?;
                let config: Descriptor =
                    optional("config", fields.config)?.ok_or(ManifestError::Missing("config"))?;
                config_type = Some(config.media_type.to_string());
                children.push(Child { role: ChildRole::Config, descriptor: config });
                extend(&mut children, ChildRole::Layer, required_list("layers", fields.layers)?);
            }
            ManifestKind::Index => {
                check_schema_version(&fields)?;
                unexpected("config", fields.config)?;
                unexpected("layers", fields.layers)?;
                extend(&mut children, ChildRole::Manifest, required_list("manifests", fields.manifests)?);
            }
            ManifestKind::Artifact => {
                let blobs: Option<Vec<Descriptor>> = optional("blobs", fields.blobs)?;
                extend(&mut children, ChildRole::Layer, blobs.unwrap_or_default());
            }
            ManifestKind::Opaque => {}
        }

        let own_type: Option<String> = optional("artifactType", fields.artifact_type)?;
        Ok(Manifest {
            kind,
            artifact_type: own_type.filter(|own| !own.is_empty()).or(config_type),
            subject: optional("subject", fields.subject)?,
            children,
            annotations: optional("annotations", fields.annotations)?.unwrap_or_default(),
        })
    }

    /// Takes from a document of an unknown type what reads like the fields that every manifest may have.
    fn parse_opaque(media_type: &MediaType, bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let fields = Fields::read(bytes).unwrap_or_default();
        check_media_type(media_type, &fields)?;
        let own_type: Option<String> = optional("artifactType", fields.artifact_type).unwrap_or_default();
        Ok(Manifest {
            kind: ManifestKind::Opaque,
            artifact_type: own_type.filter(|own| !own.is_empty()),
            subject: optional("subject", fields.subject).unwrap_or_default(),
            children: Vec::new(),
            annotations: optional("annotations", fields.annotations).unwrap_or_default().unwrap_or_default(),
        })
    }
}

fn extend(children: &mut Vec<Child>, role: ChildRole, descriptors: Vec<Descriptor>) {
    children.extend(descriptors.into_iter().map(|descriptor| Child { role, descriptor }));
}

fn check_schema_version(fields: &Fields<'_>) -> Result<(), ManifestError> {
    match optional("schemaVersion", fields.schema_version)? {
        Some(2) => Ok(()),
        Some(version) => Err(ManifestError::SchemaVersion(version)),
        None => Err(ManifestError::Missing("schemaVersion")),
    }
}

/// Refuses a document that two clients could take for two different things, one by the header and one by the body.
fn check_media_type(sent: &MediaType, fields: &Fields<'_>) -> Result<(), ManifestError> {
    let stated: Option<String> = optional("mediaType", fields.media_type)?;
    match stated {
        Some(stated) if !stated.is_empty() && stated.parse().as_ref() != Ok(sent) => {
            Err(ManifestError::MediaTypeMismatch { sent: sent.clone(), stated: excerpt(&stated) })
        }
        Some(_) | None => Ok(()),
    }
}

/// Returns what a manifest that came without a media type is: what it says, else what its fields show.
pub fn detect_media_type(bytes: &[u8]) -> Option<MediaType> {
    let fields = Fields::read(bytes).ok()?;
    match optional::<String>("mediaType", fields.media_type).ok()? {
        Some(stated) if !stated.is_empty() => stated.parse().ok(),
        Some(_) | None => match (fields.config, fields.layers, fields.manifests) {
            (None, None, Some(_)) => Some(MediaType::OCI_IMAGE_INDEX),
            (Some(_), Some(_), None) => Some(MediaType::OCI_IMAGE_MANIFEST),
            _ => None,
        },
    }
}
