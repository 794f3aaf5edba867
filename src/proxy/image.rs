//! Images as people write them, and the platforms that are meant.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::oci::{Reference, RepositoryName, Tag};
use crate::registry::{TagPattern, VersionRange};

/// Which versions of an image are meant: `docker.io/library/busybox:1.36`, `…@sha256:…`, `…:1.*`, `…:^1.36`. Without any of
/// them it is the tag `latest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSelection {
    /// The name, a host with a port written as the first component of its names here is.
    pub name: RepositoryName,
    /// Which of its versions.
    pub versions: Versions,
}

/// Versions of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Versions {
    /// One tag or digest.
    One(Reference),
    /// The tags that match, `*` standing for any characters.
    Matching(TagPattern),
    /// The tags that are versions in a range.
    InRange(VersionRange),
}

/// A text that means no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "write an image such as docker.io/library/busybox:1.36, with a digest (@sha256:…), a pattern of tags (:1.*) or a range of \
     versions (:^1.36)"
)]
pub struct ImageSelectionError;

impl FromStr for ImageSelection {
    type Err = ImageSelectionError;

    fn from_str(text: &str) -> Result<ImageSelection, ImageSelectionError> {
        let (image, digest) = match text.split_once('@') {
            Some((image, digest)) => (image, Some(digest.parse().map_err(|_| ImageSelectionError)?)),
            None => (text, None),
        };
        // A colon before the last slash is a port's.
        let name_begin = image.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match image[name_begin..].split_once(':') {
            Some((last, tag)) => (&image[..name_begin + last.len()], Some(tag)),
            None => (image, None),
        };
        let name = name.to_lowercase().replacen(':', "_", 1).parse().map_err(|_| ImageSelectionError)?;
        let versions = match (digest, tag) {
            (Some(digest), _) => Versions::One(Reference::Digest(digest)),
            (None, None) => Versions::One(Reference::Tag("latest".parse().map_err(|_| ImageSelectionError)?)),
            (None, Some(tag)) => versions(tag)?,
        };
        Ok(ImageSelection { name, versions })
    }
}

fn versions(text: &str) -> Result<Versions, ImageSelectionError> {
    if text.starts_with(['^', '~', '<', '>', '=']) {
        return text.parse().map(Versions::InRange).map_err(|_| ImageSelectionError);
    }
    match text.parse::<Tag>() {
        Ok(tag) => Ok(Versions::One(Reference::Tag(tag))),
        Err(_) => text.parse().map(Versions::Matching).map_err(|_| ImageSelectionError),
    }
}

impl fmt::Display for ImageSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.versions {
            Versions::One(Reference::Digest(digest)) => write!(f, "{name}@{digest}"),
            Versions::One(Reference::Tag(tag)) => write!(f, "{name}:{tag}"),
            Versions::Matching(pattern) => write!(f, "{name}:{pattern}"),
            Versions::InRange(range) => write!(f, "{name}:{range}"),
        }
    }
}

/// A platform, as Docker writes it: `linux/amd64`, `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Platform {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

/// A text that is no platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write a platform such as linux/amd64 or linux/arm/v7, or all")]
pub struct PlatformError;

/// The platforms of an image that are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Platforms {
    /// Every one that there is.
    All,
    /// These, of those that there are.
    These(Vec<Platform>),
}

impl Platform {
    /// The one that this program runs on.
    pub fn own() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            other => other,
        };
        Platform { os: std::env::consts::OS.to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    /// Whether an image for `other` is one for this; every variant is, where none is named.
    pub fn is_met_by(&self, other: &Platform) -> bool {
        self.os == other.os
            && self.architecture == other.architecture
            && (self.variant.is_none() || self.variant == other.variant)
    }
}

impl Platforms {
    /// Whether an entry of an index is wanted. One that names no platform always is.
    pub(super) fn contain(&self, platform: Option<&Platform>) -> bool {
        match (self, platform) {
            (Platforms::All, _) | (Platforms::These(_), None) => true,
            (Platforms::These(wanted), Some(platform)) => {
                wanted.iter().any(|wanted| wanted.is_met_by(platform))
            }
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Platform, PlatformError> {
        let is_word = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(is_word) {
            return Err(PlatformError);
        }
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant.to_owned())),
            _ => return Err(PlatformError),
        };
        Ok(Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant })
    }
}

impl FromStr for Platforms {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Platforms, PlatformError> {
        match text {
            "all" => Ok(Platforms::All),
            text => text.split(',').map(str::parse).collect::<Result<_, _>>().map(Platforms::These),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_read_as_people_write_them() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, name, shown) in [
            ("busybox", "busybox", "busybox:latest"),
            ("busybox:1.36", "busybox", "busybox:1.36"),
            ("docker.io/library/busybox:1.*", "docker.io/library/busybox", "docker.io/library/busybox:1.*"),
            ("ghcr.io/a/b:^1.2", "ghcr.io/a/b", "ghcr.io/a/b:^1.2"),
            ("ghcr.io/a/b:>=1.2, <2", "ghcr.io/a/b", "ghcr.io/a/b:>=1.2, <2"),
            ("hub.lan:5000/a/b:1", "hub.lan_5000/a/b", "hub.lan_5000/a/b:1"),
            ("hub.lan:5000/a", "hub.lan_5000/a", "hub.lan_5000/a:latest"),
            (&format!("a/b:1@{digest}"), "a/b", &format!("a/b@{digest}")),
        ] {
            let image: ImageSelection = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((image.name.as_str(), image.to_string().as_str()), (name, shown), "{text}");
        }
        for text in ["", ":1", "a:", "a@sha256:1", "a b", "a:x y", "a:^", "https://a/b"] {
            assert_eq!(text.parse::<ImageSelection>(), Err(ImageSelectionError), "{text}");
        }
    }

    #[test]
    fn a_platform_without_a_variant_means_all_of_them() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        let wanted: Platforms = "linux/arm64,linux/arm/v7".parse().unwrap();
        for (text, is_wanted) in [
            ("linux/arm64", true),
            ("linux/arm64/v8", true),
            ("linux/arm/v7", true),
            ("linux/arm/v6", false),
            ("linux/arm", false),
            ("windows/arm64", false),
        ] {
            assert_eq!(wanted.contain(Some(&platform(text))), is_wanted, "{text}");
            assert!(Platforms::All.contain(Some(&platform(text))));
        }
        assert!(wanted.contain(None));
        for text in ["", "linux", "linux/", "linux/a/b/c", "linux/amd64,", "li nux/amd64"] {
            assert!(text.parse::<Platforms>().is_err(), "{text}");
        }
        assert_eq!("all".parse(), Ok(Platforms::All));
        assert_eq!(platform("linux/arm/v7").to_string(), "linux/arm/v7");
    }
}
