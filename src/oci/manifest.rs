//! Manifests: what a registry needs to know of the documents that clients push.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::descriptor::Descriptor;
use super::media_type::MediaType;
use super::provisional_digest::ProvisionalDigest;
use super::schema1::{Schema1Manifest, SignedManifestError};
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
    /// The payload of a Docker manifest of schema 1, signed or not.
    Schema1,
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
        } else if [MediaType::DOCKER_MANIFEST_SCHEMA1, MediaType::DOCKER_MANIFEST_SCHEMA1_SIGNED]
            .contains(media_type)
        {
            ManifestKind::Schema1
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
    /// The document is no schema 1 manifest.
    #[error(transparent)]
    Schema1(#[from] SignedManifestError),
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
    fs_layers: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    signatures: Option<&'a RawValue>,
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
        if kind == ManifestKind::Schema1 {
            return Manifest::parse_schema1(bytes);
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
            ManifestKind::Schema1 | ManifestKind::Opaque => {}
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

    /// Reads the payload of a schema 1 manifest. A document that still has its signatures was kept as a whole by a version
    /// that didn't take it apart, and has no children.
    fn parse_schema1(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let mut children = Vec::new();
        if Fields::read(bytes)?.signatures.is_none() {
            for layer in Schema1Manifest::parse(bytes)?.layers {
                let ProvisionalDigest::Digest(digest) = layer else { continue };
                let descriptor = Descriptor {
                    media_type: MediaType::DOCKER_LAYER_GZIP,
                    digest,
                    size: 0,
                    artifact_type: None,
                    urls: Vec::new(),
                    annotations: BTreeMap::new(),
                };
                children.push(Child { role: ChildRole::Layer, descriptor });
            }
        }
        Ok(Manifest {
            kind: ManifestKind::Schema1,
            artifact_type: None,
            subject: None,
            children,
            annotations: BTreeMap::new(),
        })
    }

    /// Takes from a document of an unknown type what reads like the fields that every manifest may have.
    fn parse_opaque(media_type: &MediaType, bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let fields = Fields::read(bytes).unwrap_or_default();
        if optional::<String>("mediaType", fields.media_type).is_ok() {
            check_media_type(media_type, &fields)?;
        }
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
            (None, None, None) if fields.fs_layers.is_some() => Some(match fields.signatures {
                Some(_) => MediaType::DOCKER_MANIFEST_SCHEMA1_SIGNED,
                None => MediaType::DOCKER_MANIFEST_SCHEMA1,
            }),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    fn descriptor(media_type: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"{DIGEST}","size":2}}"#)
    }

    fn image(more: &str) -> String {
        let config = descriptor("application/vnd.oci.image.config.v1+json");
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip");
        format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]{more}}}"#)
    }

    fn parse(media_type: &MediaType, document: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(media_type, document.as_bytes())
    }

    #[test]
    fn an_image_has_a_config_and_layers() {
        for media_type in [MediaType::OCI_IMAGE_MANIFEST, MediaType::DOCKER_MANIFEST] {
            let manifest = parse(&media_type, &image("")).unwrap();
            assert_eq!(manifest.kind, ManifestKind::Image);
            let roles: Vec<_> = manifest.children.iter().map(|child| child.role).collect();
            assert_eq!(roles, [ChildRole::Config, ChildRole::Layer]);
            assert_eq!(manifest.artifact_type.as_deref(), Some("application/vnd.oci.image.config.v1+json"));
            assert_eq!(manifest.subject, None);
        }
    }

    #[test]
    fn an_artifact_type_of_its_own_goes_before_the_type_of_the_config() {
        let parse = |more| parse(&MediaType::OCI_IMAGE_MANIFEST, &image(more)).unwrap().artifact_type;
        assert_eq!(parse(r#","artifactType":"application/x.own""#).as_deref(), Some("application/x.own"));
        let of_config = Some("application/vnd.oci.image.config.v1+json");
        assert_eq!(parse(r#","artifactType":"""#).as_deref(), of_config);
        assert_eq!(parse(r#","artifactType":null"#).as_deref(), of_config);
    }

    #[test]
    fn subject_and_annotations_are_read() {
        let subject = descriptor("application/vnd.oci.image.manifest.v1+json");
        let manifest = parse(
            &MediaType::OCI_IMAGE_MANIFEST,
            &image(&format!(r#","subject":{subject},"annotations":{{"a":"b"}}"#)),
        )
        .unwrap();
        assert_eq!(manifest.subject.unwrap().digest.to_string(), DIGEST);
        assert_eq!(manifest.annotations["a"], "b");
    }

    #[test]
    fn an_index_has_manifests() {
        let child = descriptor("application/vnd.oci.image.manifest.v1+json");
        let document = format!(r#"{{"schemaVersion":2,"manifests":[{child},{child}],"artifactType":"a/b"}}"#);
        for media_type in [MediaType::OCI_IMAGE_INDEX, MediaType::DOCKER_MANIFEST_LIST] {
            let manifest = parse(&media_type, &document).unwrap();
            assert_eq!(manifest.kind, ManifestKind::Index);
            assert_eq!(manifest.children.len(), 2);
            assert!(manifest.children.iter().all(|child| child.role == ChildRole::Manifest));
            assert_eq!(manifest.artifact_type.as_deref(), Some("a/b"));
        }
        let plain = parse(&MediaType::OCI_IMAGE_INDEX, r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
        assert_eq!(plain.artifact_type, None, "an index has no config whose type could stand in");
    }

    #[test]
    fn null_lists_are_empty_lists() {
        let config = descriptor("application/vnd.oci.image.config.v1+json");
        let document = format!(
            r#"{{"schemaVersion":2,"config":{config},"layers":null,"annotations":null,"subject":null}}"#
        );
        assert_eq!(parse(&MediaType::OCI_IMAGE_MANIFEST, &document).unwrap().children.len(), 1);
        assert!(
            parse(&MediaType::OCI_IMAGE_INDEX, r#"{"schemaVersion":2,"manifests":null}"#)
                .unwrap()
                .children
                .is_empty()
        );
    }

    #[test]
    fn an_old_artifact_has_blobs_and_a_subject() {
        let blob = descriptor("application/spdx+json");
        let subject = descriptor("application/vnd.oci.image.manifest.v1+json");
        let document = format!(r#"{{"artifactType":"a/b","blobs":[{blob}],"subject":{subject}}}"#);
        let manifest = parse(&MediaType::OCI_ARTIFACT_MANIFEST, &document).unwrap();
        assert_eq!((manifest.kind, manifest.children.len()), (ManifestKind::Artifact, 1));
        assert!(manifest.subject.is_some());
    }

    #[test]
    fn a_document_of_an_unknown_type_is_taken_as_it_is() {
        let own: MediaType = "application/vnd.example+json".parse().unwrap();
        let subject = descriptor("a/b");
        let document =
            format!(r#"{{"artifactType":"c/d","subject":{subject},"annotations":{{"a":"b"}},"layers":5}}"#);
        let manifest = parse(&own, &document).unwrap();
        assert_eq!((manifest.kind, manifest.children.len()), (ManifestKind::Opaque, 0));
        assert_eq!(manifest.artifact_type.as_deref(), Some("c/d"));
        assert!(manifest.subject.is_some() && manifest.annotations.len() == 1);

        for document in
            ["", "not JSON", "[1]", r#"{"subject":5,"annotations":[],"artifactType":{},"mediaType":7}"#]
        {
            let manifest = parse(&own, document).unwrap();
            assert!(
                manifest.subject.is_none()
                    && manifest.annotations.is_empty()
                    && manifest.artifact_type.is_none()
            );
        }
    }

    #[test]
    fn header_and_body_must_name_the_same_type() {
        let with_type = |media_type: &str| image(&format!(r#","mediaType":"{media_type}""#));
        let oci = MediaType::OCI_IMAGE_MANIFEST;
        assert!(parse(&oci, &with_type(oci.as_str())).is_ok());
        assert!(parse(&oci, &with_type("")).is_ok());
        for other in [MediaType::DOCKER_MANIFEST.as_str(), "nonsense"] {
            assert!(
                matches!(parse(&oci, &with_type(other)), Err(ManifestError::MediaTypeMismatch { .. })),
                "{other}"
            );
        }
        let own: MediaType = "application/vnd.example+json".parse().unwrap();
        assert!(matches!(parse(&own, &with_type("a/b")), Err(ManifestError::MediaTypeMismatch { .. })));
    }

    #[test]
    fn a_document_that_reads_as_two_kinds_is_refused() {
        let image_and_index = image(r#","manifests":[]"#);
        for media_type in [MediaType::OCI_IMAGE_MANIFEST, MediaType::OCI_IMAGE_INDEX] {
            assert!(matches!(parse(&media_type, &image_and_index), Err(ManifestError::Unexpected { .. })));
        }
        let twice = image(r#","config":null"#);
        assert!(
            parse(&MediaType::OCI_IMAGE_MANIFEST, &twice).is_err(),
            "a key that comes twice has no one meaning"
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let config = descriptor("application/vnd.oci.image.config.v1+json");
        let oci = MediaType::OCI_IMAGE_MANIFEST;
        let missing = |media_type: &MediaType, document: &str| parse(media_type, document).unwrap_err();
        assert_eq!(missing(&oci, "{}"), ManifestError::Missing("schemaVersion"));
        assert_eq!(missing(&oci, r#"{"schemaVersion":2,"layers":[]}"#), ManifestError::Missing("config"));
        assert_eq!(
            missing(&oci, &format!(r#"{{"schemaVersion":2,"config":{config}}}"#)),
            ManifestError::Missing("layers")
        );
        assert_eq!(
            missing(&MediaType::OCI_IMAGE_INDEX, r#"{"schemaVersion":2}"#),
            ManifestError::Missing("manifests")
        );
        assert_eq!(missing(&oci, r#"{"schemaVersion":1}"#), ManifestError::SchemaVersion(1));
    }

    #[test]
    fn a_child_of_an_unsupported_algorithm_is_named() {
        let document = image("").replace(DIGEST, "md5:d41d8cd98f00b204e9800998ecf8427e");
        let message = parse(&MediaType::OCI_IMAGE_MANIFEST, &document).unwrap_err().to_string();
        assert!(message.contains("config") && message.contains("md5"), "{message}");
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        for size in ["-1", "1e3", "9223372036854775808"] {
            let document = image("").replace(r#""size":2"#, &format!(r#""size":{size}"#));
            assert!(matches!(
                parse(&MediaType::OCI_IMAGE_MANIFEST, &document),
                Err(ManifestError::Malformed { field: "config", .. })
            ));
        }
    }

    #[test]
    fn arrays_scalars_and_trailing_bytes_are_not_manifests() {
        for document in ["", "null", "5", "[2]", "\"x\"", &format!("{}x", image("")), "{", "\u{feff}{}"] {
            assert!(
                matches!(parse(&MediaType::OCI_IMAGE_MANIFEST, document), Err(ManifestError::NotJson(_))),
                "{document:?}"
            );
        }
    }

    #[test]
    fn nesting_of_any_depth_is_survived() {
        for opening in ["[", "{\"a\":"] {
            let deep = opening.repeat(1_000_000);
            for field in ["config", "unknown"] {
                let document = format!(r#"{{"schemaVersion":2,"{field}":{deep}"#);
                assert!(parse(&MediaType::OCI_IMAGE_MANIFEST, &document).is_err());
                assert!(parse(&"a/b".parse().unwrap(), &document).is_ok());
            }
        }
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        let mut document = image(&format!(r#","subject":{deep}"#));
        assert!(parse(&MediaType::OCI_IMAGE_MANIFEST, &document).is_err());
        document = image(&format!(r#","unknown":{deep}"#));
        assert!(parse(&MediaType::OCI_IMAGE_MANIFEST, &document).is_ok());
    }

    #[test]
    fn an_error_repeats_only_the_beginning_of_a_long_input() {
        let document = image("").replace(DIGEST, &"x".repeat(1_000_000));
        assert!(parse(&MediaType::OCI_IMAGE_MANIFEST, &document).unwrap_err().to_string().len() < 500);
    }

    #[test]
    fn a_missing_media_type_is_found_out() {
        let detect = |document: &str| detect_media_type(document.as_bytes());
        assert_eq!(detect(&image("")), Some(MediaType::OCI_IMAGE_MANIFEST));
        assert_eq!(detect(r#"{"manifests":[]}"#), Some(MediaType::OCI_IMAGE_INDEX));
        assert_eq!(detect(r#"{"mediaType":"a/b"}"#), "a/b".parse().ok());
        for document in ["", "{}", "[]", r#"{"config":{}}"#, &image(r#","manifests":[]"#)] {
            assert_eq!(detect(document), None, "{document}");
        }
    }

    /// Documents that come close to manifests.
    fn near_manifest() -> impl Strategy<Value = String> {
        let value = prop_oneof![
            Just("null".to_owned()),
            Just("2".to_owned()),
            Just("[]".to_owned()),
            Just("{}".to_owned()),
            Just(descriptor("application/vnd.oci.image.config.v1+json")),
            Just(format!("[{}]", descriptor("a/b"))),
            Just(r#"{"a":"b"}"#.to_owned()),
            Just("\"a/b\"".to_owned()),
            "[\\[\\]{}\",:0-9a-z]{0,8}",
        ];
        let field = prop_oneof![
            Just("schemaVersion"),
            Just("mediaType"),
            Just("artifactType"),
            Just("config"),
            Just("layers"),
            Just("manifests"),
            Just("blobs"),
            Just("subject"),
            Just("annotations"),
        ];
        proptest::collection::vec((field, value), 0..9).prop_map(|fields| {
            let fields: Vec<_> = fields.iter().map(|(field, value)| format!("\"{field}\":{value}")).collect();
            format!("{{{}}}", fields.join(","))
        })
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), near in near_manifest()) {
            for media_type in [
                MediaType::OCI_IMAGE_MANIFEST,
                MediaType::OCI_IMAGE_INDEX,
                MediaType::OCI_ARTIFACT_MANIFEST,
                MediaType::OCTET_STREAM,
            ] {
                let _ = Manifest::parse(&media_type, &bytes);
                let _ = Manifest::parse(&media_type, near.as_bytes());
            }
            let _ = detect_media_type(&bytes);
            let _ = detect_media_type(near.as_bytes());
        }
    }
}
