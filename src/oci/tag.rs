//! Tags.

use std::str::FromStr;
use std::sync::Arc;

use super::text::{excerpt, validated_text};

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

    /// Returns the tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
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

    proptest! {
        #[test]
        fn tags_of_the_grammar_round_trip(tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}") {
            let parsed: Tag = tag.parse().unwrap();
            prop_assert_eq!(parsed.to_string(), tag);
        }
    }
}
