//! What a command is about: a repository, or a tag or a digest of one, as people write images.

use std::str::FromStr;

use crate::http::admin::Target;
use crate::oci::RepositoryName;

/// Reads `team/app`, `team/app:v1` or `team/app@sha256:…`.
pub(super) fn parse(text: &str) -> Result<Target, String> {
    let name = |name: &str| name.parse::<RepositoryName>().map_err(|error| error.to_string());
    if let Some((before, digest)) = text.split_once('@') {
        let digest = digest.parse().map_err(|_| format!("`{digest}` is no digest, like sha256:…"))?;
        return Ok(Target { repository: name(before)?, tag: None, digest: Some(digest) });
    }
    match text.rsplit_once(':') {
        Some((before, tag)) => {
            let tag = tag.parse().map_err(|error: crate::oci::TagError| error.to_string())?;
            Ok(Target { repository: name(before)?, tag: Some(tag), digest: None })
        }
        None => Ok(Target { repository: name(text)?, tag: None, digest: None }),
    }
}

/// A repository and a tag, `team/app:v1`.
#[derive(Debug, Clone)]
pub(super) struct Tagged {
    pub(super) repository: RepositoryName,
    pub(super) tag: crate::oci::Tag,
}

impl FromStr for Tagged {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match parse(text)? {
            Target { repository, tag: Some(tag), digest: None } => Ok(Self { repository, tag }),
            _ => Err("write a repository and a tag, for example team/app:v1".to_owned()),
        }
    }
}

/// The value of a parameter in a query.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.extend(['%', hex(byte >> 4), hex(byte & 15)]),
        }
    }
    escaped
}

fn hex(digit: u8) -> char {
    char::from_digit(digit.into(), 16).unwrap_or('0').to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_people_write_images() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let read =
            |text: &str| parse(text).map(|target| (target.repository.to_string(), target.tag.is_some()));
        assert_eq!(read("team/app"), Ok(("team/app".to_owned(), false)));
        assert_eq!(read("team/app:v1"), Ok(("team/app".to_owned(), true)));
        assert!(parse(&format!("team/app@{digest}")).unwrap().digest.is_some());
        for wrong in ["", "A", "app:", "app:-", "app@v1", "app@sha256:x", "localhost:5000/app"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!("app".parse::<Tagged>().is_err());
        assert_eq!(escaped("a/b&c=ü"), "a/b%26c%3D%C3%BC");
    }
}
