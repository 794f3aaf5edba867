//! Which tags a rule is about.

use std::fmt;
use std::str::FromStr;

use super::name_scope::matches_one;
use crate::oci::Tag;

/// A pattern of tags: `*` stands for any characters, also none, and everything else for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagPattern(String);

/// A text that is no pattern of tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pattern is what tags are made of, with `*` for any characters: v1.*")]
pub struct TagPatternError;

impl TagPattern {
    /// Whether the whole tag matches.
    pub fn matches(&self, tag: &Tag) -> bool {
        matches_one(&self.0, tag.as_str())
    }
}

impl FromStr for TagPattern {
    type Err = TagPatternError;

    fn from_str(text: &str) -> Result<TagPattern, TagPatternError> {
        // A pattern that no tag can match is a mistake, and a mistake in what is to be kept costs content.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-*".contains(&byte);
        let plain = text.bytes().filter(|&byte| byte != b'*').count();
        let begins = !text.starts_with(['.', '-']);
        let is_valid = !text.is_empty() && plain <= Tag::MAX_LEN && begins && text.bytes().all(is_plain);
        if is_valid { Ok(TagPattern(text.to_owned())) } else { Err(TagPatternError) }
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The tags that match one of some patterns, but for those that match an exception.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagSelection {
    /// The patterns.
    pub patterns: Vec<TagPattern>,
    /// The exceptions.
    pub except: Vec<TagPattern>,
}

impl TagSelection {
    /// Every tag.
    pub fn everything() -> TagSelection {
        TagSelection { patterns: vec![TagPattern("*".to_owned())], except: Vec::new() }
    }

    /// Whether the tag is among them. What only accompanies an image, as [`Tag::follows_a_subject`] says, never is.
    pub fn contains(&self, tag: &Tag) -> bool {
        let any = |patterns: &[TagPattern]| patterns.iter().any(|pattern| pattern.matches(tag));
        any(&self.patterns) && !any(&self.except) && !tag.follows_a_subject()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(patterns: &[&str], except: &[&str]) -> TagSelection {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        TagSelection { patterns: parse(patterns), except: parse(except) }
    }

    #[test]
    fn a_pattern_is_about_the_whole_tag() {
        for (pattern, tag, is_match) in [
            ("*", "latest", true),
            ("v*", "v1.2.3", true),
            ("v*", "rv1", false),
            ("*-dev", "1-dev", true),
            ("*-dev", "1-dev-2", false),
            ("v*.*.*", "v1.2.3", true),
            ("v*.*.*", "v1.2", false),
            ("v1", "v1", true),
            ("v1", "v10", false),
            ("V*", "v1", false),
        ] {
            let pattern: TagPattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches(&tag.parse().unwrap()), is_match, "{pattern} {tag}");
        }
    }

    #[test]
    fn a_pattern_that_no_tag_matches_is_refused() {
        for text in ["", "a/b", "a b", "a+b", "v?", "[a]", "-a*", ".*", "ä", &"a".repeat(129)] {
            assert_eq!(text.parse::<TagPattern>(), Err(TagPatternError), "{text}");
        }
        assert!(format!("*{}*", "a".repeat(128)).parse::<TagPattern>().is_ok());
    }

    #[test]
    fn exceptions_win_and_what_follows_a_subject_is_no_tag_of_anybody() {
        let versions = selection(&["v*", "release"], &["*-rc*"]);
        let follower = format!("sha256-{}.sig", "a".repeat(64));
        for (tag, is_in) in [("v1", true), ("release", true), ("v1-rc2", false), ("latest", false)] {
            assert_eq!(versions.contains(&tag.parse().unwrap()), is_in, "{tag}");
        }
        assert!(TagSelection::everything().contains(&"latest".parse().unwrap()));
        assert!(!TagSelection::everything().contains(&follower.parse().unwrap()));
        assert!(!selection(&[], &[]).contains(&"latest".parse().unwrap()));
    }
}
