//! Tags by version.

use std::fmt;
use std::str::FromStr;

use semver::{Version, VersionReq};

use crate::oci::Tag;

/// The most alternatives in one range.
const MAX_ALTERNATIVES: usize = 32;

/// Ranges of semantic versions as Cargo and npm write them, `>=1.2, <2`, several of them joined by `||`. A version before
/// a release (`1.2.0-rc.1`) is in a range only where this names one of the same release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRange {
    alternatives: Vec<VersionReq>,
    text: String,
}

/// A text that is no range; says what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct VersionRangeError(String);

impl VersionRange {
    /// Whether the tag is a version in the range.
    pub fn contains(&self, tag: &Tag) -> bool {
        version(tag).is_some_and(|version| self.alternatives.iter().any(|range| range.matches(&version)))
    }
}

/// The version that a tag stands for: `1.2.3`, with or without a `v`, where `1.2` and `v1` mean `1.2.0` and `1.0.0`. A number
/// alone is none, since that is how builds and days are numbered. `_` stands for the `+` that tags can't have, as Helm
/// has it.
fn version(tag: &Tag) -> Option<Version> {
    let bare = tag.as_str().strip_prefix(['v', 'V']);
    let text = bare.unwrap_or(tag.as_str());
    let (numbers, rest) = text.split_at(text.find(['-', '_']).unwrap_or(text.len()));
    let zeros = match numbers.split('.').count() {
        1 if bare.is_some() => ".0.0",
        2 => ".0",
        3 => "",
        _ => return None,
    };
    Version::parse(&format!("{numbers}{zeros}{}", rest.replacen('_', "+", 1))).ok()
}

impl FromStr for VersionRange {
    type Err = VersionRangeError;

    fn from_str(text: &str) -> Result<VersionRange, VersionRangeError> {
        let parts: Vec<&str> = text.split("||").collect();
        if parts.len() > MAX_ALTERNATIVES {
            return Err(VersionRangeError(format!("a range has {MAX_ALTERNATIVES} alternatives at most")));
        }
        let alternatives: Result<Vec<_>, _> =
            parts.iter().map(|part| VersionReq::parse(part.trim())).collect();
        let alternatives = alternatives.map_err(|error| VersionRangeError(error.to_string()))?;
        Ok(VersionRange { alternatives, text: text.to_owned() })
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tags_are_read_as_versions_the_way_people_write_them() {
        for (tag, expected) in [
            ("1.2.3", Some("1.2.3")),
            ("v1.2.3", Some("1.2.3")),
            ("V1.2.3", Some("1.2.3")),
            ("1.2", Some("1.2.0")),
            ("v1", Some("1.0.0")),
            ("v1-rc.1", Some("1.0.0-rc.1")),
            ("1.2.3-alpine", Some("1.2.3-alpine")),
            ("1.2.3_build.5", Some("1.2.3+build.5")),
            ("1.2.3-rc.1_x", Some("1.2.3-rc.1+x")),
            ("1", None),
            ("20260115", None),
            ("2026.01.15", None),
            ("1.2.3.4", None),
            ("vv1.2.3", None),
            ("latest", None),
            ("v", None),
            ("1..2", None),
        ] {
            assert_eq!(
                version(&tag.parse().unwrap()).map(|version| version.to_string()).as_deref(),
                expected,
                "{tag}"
            );
        }
    }

    #[test]
    fn a_range_holds_what_lies_in_one_of_its_alternatives() {
        let range: VersionRange = ">=1.2, <2 || ^3.1".parse().unwrap();
        for (tag, is_in) in [
            ("v1.2.0", true),
            ("1.9", true),
            ("v2", false),
            ("3.1.4", true),
            ("3.0.9", false),
            ("1.5.0-rc.1", false),
            ("latest", false),
        ] {
            assert_eq!(range.contains(&tag.parse().unwrap()), is_in, "{tag}");
        }
        let candidates: VersionRange = ">=1.5.0-rc.1".parse().unwrap();
        assert!(candidates.contains(&"1.5.0-rc.2".parse().unwrap()));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "x.y", ">=", "1 2", "^1 ||", &["1"; 33].join("||")] {
            assert!(text.parse::<VersionRange>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_tag_is_a_version_or_none(tag in "[vV]?[0-9._-]{1,20}[a-z0-9._-]{0,9}") {
            if let Ok(tag) = tag.parse() {
                let _ = version(&tag);
            }
        }

        #[test]
        fn a_version_is_in_its_own_range(major: u64, minor: u64, patch: u64, v in "v?") {
            let range: VersionRange = format!("={major}.{minor}.{patch}").parse().unwrap();
            let tag = format!("{v}{major}.{minor}.{patch}").parse().unwrap();
            prop_assert!(range.contains(&tag));
        }
    }
}
