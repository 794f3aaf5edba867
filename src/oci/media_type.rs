//! Media types.

use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use super::text::{excerpt, validated_text};

/// A media type `type/subtype` in lower case, without parameters, of at most 255 characters.
#[derive(Clone)]
pub struct MediaType(Repr);

/// Known types are constants, so that parsing and cloning them allocates nothing.
#[derive(Clone)]
enum Repr {
    Known(&'static str),
    Other(Arc<str>),
}

/// A text that is not a media type; holds the beginning of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a media type; expected `type/subtype` of at most {max} characters", max = MediaType::MAX_LEN)]
pub struct MediaTypeError(String);

macro_rules! known {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        impl MediaType {
            $($(#[$doc])* pub const $name: MediaType = MediaType(Repr::Known($text));)*

            /// Every type that has a constant.
            const KNOWN: &[&'static str] = &[$($text),*];
        }
    };
}

known! {
    /// An OCI image manifest.
    OCI_IMAGE_MANIFEST = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index.
    OCI_IMAGE_INDEX = "application/vnd.oci.image.index.v1+json";
    /// The artifact manifest that OCI 1.1 had before its release.
    OCI_ARTIFACT_MANIFEST = "application/vnd.oci.artifact.manifest.v1+json";
    /// The configuration of an OCI image.
    OCI_IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json";
    /// The empty JSON object, which stands where an artifact has no configuration.
    OCI_EMPTY = "application/vnd.oci.empty.v1+json";
    /// A layer as an uncompressed archive.
    OCI_LAYER = "application/vnd.oci.image.layer.v1.tar";
    /// A layer compressed by gzip.
    OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A layer compressed by zstd.
    OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// An OCI layer that a registry need not hold.
    OCI_LAYER_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    /// An OCI layer compressed by gzip that a registry need not hold.
    OCI_LAYER_NONDISTRIBUTABLE_GZIP = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    /// An OCI layer compressed by zstd that a registry need not hold.
    OCI_LAYER_NONDISTRIBUTABLE_ZSTD = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";
    /// A Docker image manifest of schema 2.
    DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    DOCKER_MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// A Docker image manifest of schema 1 without signatures.
    DOCKER_MANIFEST_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json";
    /// A Docker image manifest of schema 1 with its signatures.
    DOCKER_MANIFEST_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    /// The configuration of a Docker image.
    DOCKER_IMAGE_CONFIG = "application/vnd.docker.container.image.v1+json";
    /// A Docker layer.
    DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar";
    /// A Docker layer compressed by gzip.
    DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// A Docker layer that lies elsewhere.
    DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar";
    /// A Docker layer compressed by gzip that lies elsewhere.
    DOCKER_FOREIGN_LAYER_GZIP = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    /// Bytes of which nothing more is known.
    OCTET_STREAM = "application/octet-stream";
    /// JSON of which nothing more is known.
    JSON = "application/json";
}

impl MediaType {
    /// The longest media type, in characters.
    pub const MAX_LEN: usize = 255;

    /// What a registry is asked for when its manifests are to come as they are, whatever they are: a tag of many platforms as its index.
    pub const MANIFESTS: [MediaType; 7] = [
        MediaType::OCI_IMAGE_INDEX,
        MediaType::DOCKER_MANIFEST_LIST,
        MediaType::OCI_IMAGE_MANIFEST,
        MediaType::DOCKER_MANIFEST,
        MediaType::OCI_ARTIFACT_MANIFEST,
        MediaType::DOCKER_MANIFEST_SCHEMA1_SIGNED,
        MediaType::DOCKER_MANIFEST_SCHEMA1,
    ];

    /// Returns the type as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Known(text) => text,
            Repr::Other(text) => text,
        }
    }

    /// Returns the text of a type that has a constant, which lives for ever.
    pub fn as_static(&self) -> Option<&'static str> {
        match self.0 {
            Repr::Known(text) => Some(text),
            Repr::Other(_) => None,
        }
    }

    /// Whether a registry is meant to hold layers of this type.
    ///
    /// The non-distributable OCI layers and Docker's foreign ones may be absent, compressed in whatever way.
    pub fn is_distributable(&self) -> bool {
        let text = self.as_str();
        let uncompressed = text
            .strip_suffix("+gzip")
            .or_else(|| text.strip_suffix("+zstd"))
            .or_else(|| text.strip_suffix(".gzip"))
            .or_else(|| text.strip_suffix(".zstd"))
            .unwrap_or(text);
        uncompressed != MediaType::OCI_LAYER_NONDISTRIBUTABLE.as_str()
            && uncompressed != MediaType::DOCKER_FOREIGN_LAYER.as_str()
    }
}

validated_text!(MediaType);

impl FromStr for MediaType {
    type Err = MediaTypeError;

    fn from_str(text: &str) -> Result<Self, MediaTypeError> {
        let essence = text.split(';').next().unwrap_or_default().trim_matches([' ', '\t']);
        if let Some(known) = MediaType::KNOWN.iter().find(|known| known.eq_ignore_ascii_case(essence)) {
            return Ok(MediaType(Repr::Known(known)));
        }
        let is_valid = essence.len() <= MediaType::MAX_LEN
            && essence.split_once('/').is_some_and(|(major, minor)| is_token(major) && is_token(minor));
        if is_valid {
            Ok(MediaType(Repr::Other(Arc::from(essence.to_ascii_lowercase()))))
        } else {
            Err(MediaTypeError(excerpt(text)))
        }
    }
}

/// Whether `text` is a token of RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

impl PartialEq for MediaType {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for MediaType {}

impl PartialOrd for MediaType {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for MediaType {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for MediaType {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters_and_case_are_dropped() {
        let parsed: MediaType =
            " Application/VND.oci.image.manifest.v1+json ; charset=utf-8".parse().unwrap();
        assert_eq!(parsed, MediaType::OCI_IMAGE_MANIFEST);
        assert!(matches!(parsed.0, Repr::Known(_)));
        assert_eq!("Text/X-Own;a=b".parse::<MediaType>().unwrap().as_str(), "text/x-own");
    }

    #[test]
    fn only_type_and_subtype_are_a_media_type() {
        for text in ["", "/", "a", "a/", "/b", "a/b/c", "a b/c", "a/b\r\nx: y", "ä/b", ";a/b"] {
            assert!(text.parse::<MediaType>().is_err(), "{text:?}");
        }
        assert!(format!("a/{}", "b".repeat(253)).parse::<MediaType>().is_ok());
        assert!(format!("a/{}", "b".repeat(254)).parse::<MediaType>().is_err());
    }

    #[test]
    fn every_known_type_parses_to_itself() {
        for known in MediaType::KNOWN {
            assert_eq!(known.parse::<MediaType>().unwrap().as_str(), *known);
        }
    }

    #[test]
    fn foreign_layers_need_not_be_distributed() {
        for text in [
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.foreign.diff.tar",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.docker.image.rootfs.foreign.diff.tar+zstd",
        ] {
            assert!(!text.parse::<MediaType>().unwrap().is_distributable(), "{text}");
        }
        assert!(MediaType::OCI_LAYER_GZIP.is_distributable());
        assert!(MediaType::DOCKER_LAYER_GZIP.is_distributable());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics_and_what_parses_is_stable(text in ".{0,40}/.{0,40}") {
            if let Ok(parsed) = text.parse::<MediaType>() {
                prop_assert_eq!(parsed.as_str().parse::<MediaType>().unwrap(), parsed);
            }
        }
    }
}
