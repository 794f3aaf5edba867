//! Tags.

use std::str::FromStr;
use std::sync::Arc;

use super::digest::{Digest, DigestAlgorithm};
use super::text::{excerpt, validated_text};

/// How much of a digest a tag for referrers holds, in hexadecimal digits.
const FALLBACK_HEX: usize = 64;

/// What cosign adds to the tag for a subject's signatures, attestations and bills of materials.
const FOLLOWERS: [&str; 3] = [".sig", ".att", ".sbom"];

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<str>);

/// A text that is not a tag; holds the beginning of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a tag; use up to {max} letters, digits, `_`, `.` and `-`, the first of which is neither `.` nor `-`",
    max = Tag::MAX_LEN
)]
pub struct TagError(String);

impl Tag {
    /// The longest tag, in characters.
    pub const MAX_LEN: usize = 128;

    /// Returns the tag under which clients of the time before the referrers API list what refers to `subject`: the
    /// algorithm, cut to 32 characters, `-`, and the hexadecimal digest, cut to 64.
    pub fn referrers_of(subject: &Digest) -> Tag {
        let mut hex = subject.hex();
        hex.truncate(FALLBACK_HEX);
        let text = format!("{}-{hex}", subject.algorithm());
        text.parse().expect("an algorithm, a dash and hexadecimal digits are a tag")
    }

    /// Returns the tags under which cosign keeps signatures, attestations and bills of materials of `subject`: the
    /// algorithm, `-`, the hexadecimal digest, and a suffix.
    pub fn signatures_of(subject: &Digest) -> [Tag; 3] {
        let named = |suffix| format!("{}-{}.{suffix}", subject.algorithm(), subject.hex()).parse::<Tag>();
        ["sig", "att", "sbom"].map(|suffix| match named(suffix) {
            Ok(tag) => tag,
            // A digest of 64 bytes is too long for such a tag, so that none can be there.
            Err(_) => Tag::referrers_of(subject),
        })
    }

    /// Whether the tag has the form of [`referrers_of`](Tag::referrers_of) some digest.
    pub fn lists_referrers(&self) -> bool {
        lists_referrers(&self.0)
    }

    /// Whether the tag only accompanies the image whose digest it holds: the lists of
    /// [`referrers_of`](Tag::referrers_of), and cosign's `sha256-<hex>.sig`, `.att` and `.sbom`.
    pub fn follows_a_subject(&self) -> bool {
        let suffix = FOLLOWERS.iter().find_map(|suffix| self.0.strip_suffix(suffix));
        lists_referrers(suffix.unwrap_or(&self.0))
    }

    /// Returns the tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn lists_referrers(tag: &str) -> bool {
    let Some((algorithm, hex)) = tag.split_once('-') else { return false };
    algorithm.parse::<DigestAlgorithm>().is_ok()
        && hex.len() == FALLBACK_HEX
        && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

validated_text!(Tag);

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, TagError> {
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let valid = match text.as_bytes() {
            [first, rest @ ..] => {
                is_word(*first)
                    && rest.len() < Self::MAX_LEN
                    && rest.iter().all(|&b| is_word(b) || b == b'.' || b == b'-')
            }
            [] => false,
        };
        if valid { Ok(Tag(Arc::from(text))) } else { Err(TagError(excerpt(text))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_tag_has_one_to_128_characters() {
        assert!("a".repeat(128).parse::<Tag>().is_ok());
        assert!("a".repeat(129).parse::<Tag>().is_err());
        assert!("".parse::<Tag>().is_err());
    }

    #[test]
    fn a_tag_begins_with_a_word_character() {
        for tag in ["_", "0", "Z", "v1.2-rc_3", "sha256-0123.sig"] {
            assert!(tag.parse::<Tag>().is_ok(), "{tag}");
        }
        for tag in [".a", "-a", "a:b", "a/b", "a b", "a+b", "ä", "a\n"] {
            assert!(tag.parse::<Tag>().is_err(), "{tag}");
        }
    }

    #[test]
    fn the_tags_of_referrers_are_those_of_the_distribution_specification() {
        let sha256 = Digest::of(DigestAlgorithm::Sha256, b"");
        let tag = Tag::referrers_of(&sha256);
        assert_eq!(tag.as_str(), format!("sha256-{}", sha256.hex()));
        let sha512 = Tag::referrers_of(&Digest::of(DigestAlgorithm::Sha512, b""));
        assert_eq!(sha512.as_str().len(), "sha512-".len() + 64);
        assert!(tag.lists_referrers() && sha512.lists_referrers());
        for other in [format!("{tag}.sig"), format!("{tag}0"), "latest".into(), tag.as_str().to_uppercase()] {
            assert!(!other.parse::<Tag>().unwrap().lists_referrers(), "{other}");
        }
    }

    #[test]
    fn what_accompanies_an_image_is_told_by_its_tag() {
        let tag = Tag::referrers_of(&Digest::of(DigestAlgorithm::Sha256, b""));
        for follower in ["", ".sig", ".att", ".sbom"].map(|suffix| format!("{tag}{suffix}")) {
            assert!(follower.parse::<Tag>().unwrap().follows_a_subject(), "{follower}");
        }
        for other in ["v1".to_owned(), "v1.sig".to_owned(), format!("{tag}.zip"), format!("{tag}.sig.sig")] {
            assert!(!other.parse::<Tag>().unwrap().follows_a_subject(), "{other}");
        }
    }

    proptest! {
        #[test]
        fn tags_of_the_grammar_round_trip(tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}") {
            let parsed: Tag = tag.parse().unwrap();
            prop_assert_eq!(parsed.to_string(), tag);
        }
    }
}
