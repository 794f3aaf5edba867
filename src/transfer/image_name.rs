//! The names of images in archives, as Docker, containerd, podman and skopeo write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::oci::{RepositoryName, Tag};

/// What an archive calls an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ImageName {
    /// A repository, and a tag unless it is named by its digest.
    Image(RepositoryName, Option<Tag>),
    /// A tag only; of what, the archive doesn't say.
    Tag(Tag),
}

impl ImageName {
    /// Reads `registry.example.org/team/app:v1`, and leaves the host out, which is where the image came from. What Docker
    /// adds to names without a host, `docker.io/library/`, is left out too. A single word is a tag.
    pub(super) fn parse(text: &str) -> Option<ImageName> {
        let (name, is_by_digest) = match text.split_once('@') {
            Some((name, _)) => (name, true),
            None => (text, false),
        };
        if !is_by_digest && !name.contains(['/', ':']) {
            return name.parse().ok().map(ImageName::Tag);
        }
        let is_host = |first: &str| {
            let is_one = first.contains(['.', ':']) || first == "localhost";
            is_one && first.starts_with(|character: char| character.is_ascii_alphanumeric())
        };
        let (host, path) = match name.split_once('/') {
            Some((first, rest)) if is_host(first) => (first, rest),
            _ => ("", name),
        };
        let path = match host {
            "docker.io" | "index.docker.io" => path.strip_prefix("library/").unwrap_or(path),
            _ => path,
        };
        let (path, tag) = match path.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag.parse().ok()?)),
            None => (path, None),
        };
        Some(ImageName::Image(path.parse().ok()?, tag.filter(|_| !is_by_digest)))
    }

    /// How Docker and containerd name an image of this registry.
    pub(super) fn for_docker(repository: &RepositoryName, tag: &Tag) -> String {
        let name = repository.as_str();
        let first = name.split('/').next().unwrap_or_default();
        let has_host = name.contains('/') && (first.contains('.') || first == "localhost");
        match (has_host, name.contains('/')) {
            (true, _) => format!("{name}:{tag}"),
            (false, true) => format!("docker.io/{name}:{tag}"),
            (false, false) => format!("docker.io/library/{name}:{tag}"),
        }
    }
}

/// The name that an image gets instead of its own: a repository, and a tag where it is about one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct As {
    /// The repository.
    pub name: RepositoryName,
    /// The tag; the image's own where there is none.
    pub tag: Option<Tag>,
}

/// A text that is no name for an image here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write a repository such as team/app, or one with a tag such as team/app:v1: {0}")]
pub struct AsError(String);

impl FromStr for As {
    type Err = AsError;

    fn from_str(text: &str) -> Result<As, AsError> {
        let (name, tag) = match text.rsplit_once(':') {
            Some((name, tag)) => (name, Some(tag)),
            None => (text, None),
        };
        let tag = tag.map(str::parse::<Tag>).transpose().map_err(|error| AsError(error.to_string()))?;
        let name = name.parse::<RepositoryName>().map_err(|error| AsError(error.to_string()))?;
        Ok(As { name, tag })
    }
}

impl TryFrom<String> for As {
    type Error = AsError;

    fn try_from(text: String) -> Result<As, AsError> {
        text.parse()
    }
}

impl From<As> for String {
    fn from(name: As) -> String {
        name.to_string()
    }
}

impl fmt::Display for As {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tag {
            Some(tag) => write!(f, "{}:{tag}", self.name),
            None => self.name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_other_programs_are_read() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let image = |name: &str, tag: Option<&str>| {
            Some(ImageName::Image(name.parse().unwrap(), tag.map(|tag| tag.parse().unwrap())))
        };
        for (text, read) in [
            ("team/app:v1", image("team/app", Some("v1"))),
            ("box:1", image("box", Some("1"))),
            ("docker.io/library/box:1", image("box", Some("1"))),
            ("docker.io/team/box:1", image("team/box", Some("1"))),
            ("quay.io/library/box:1", image("library/box", Some("1"))),
            ("127.0.0.1:5050/team/app:v1", image("team/app", Some("v1"))),
            ("localhost/app:latest", image("app", Some("latest"))),
            ("registry.example.org/a/b/c", image("a/b/c", None)),
            (&format!("team/app@{digest}"), image("team/app", None)),
            (&format!("team/app:v1@{digest}"), image("team/app", None)),
            ("v1.0", Some(ImageName::Tag("v1.0".parse().unwrap()))),
            ("Team/App:v1", None),
            ("", None),
            ("../x:1", None),
            ("a/b:-", None),
        ] {
            assert_eq!(ImageName::parse(text), read, "{text}");
        }
    }

    #[test]
    fn docker_gets_the_name_that_it_would_give() {
        let named = |name: &str| ImageName::for_docker(&name.parse().unwrap(), &"1".parse().unwrap());
        assert_eq!(named("box"), "docker.io/library/box:1");
        assert_eq!(named("team/box"), "docker.io/team/box:1");
        assert_eq!(named("quay.io/team/box"), "quay.io/team/box:1");
    }

    #[test]
    fn a_name_of_ones_own_is_read_and_written() {
        for text in ["app", "team/app:v1"] {
            assert_eq!(text.parse::<As>().unwrap().to_string(), text);
        }
        for text in ["", "Team", "app:", "localhost:5000/app", "app@sha256:x"] {
            assert!(text.parse::<As>().is_err(), "{text}");
        }
    }
}
