//! What of a snapshot is wanted.

use std::fmt;
use std::str::FromStr;

use crate::oci::{RepositoryName, Tag};
use crate::registry::{NamePattern, TagPattern};

/// A pattern of tags in repositories: `team/**:v1.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaggedPattern {
    /// The repositories.
    pub repository: NamePattern,
    /// Their tags.
    pub tag: TagPattern,
}

/// A text that is no pattern of tags in repositories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write a pattern of repositories, a colon, and a pattern of tags: team/app:v1 or team/**:v1.*")]
pub struct TaggedPatternError;

impl FromStr for TaggedPattern {
    type Err = TaggedPatternError;

    fn from_str(text: &str) -> Result<TaggedPattern, TaggedPatternError> {
        let (repository, tag) = text.rsplit_once(':').ok_or(TaggedPatternError)?;
        let repository = repository.parse().map_err(|_| TaggedPatternError)?;
        Ok(TaggedPattern { repository, tag: tag.parse().map_err(|_| TaggedPatternError)? })
    }
}

impl fmt::Display for TaggedPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

/// The repositories and the tags that are wanted; what any pattern matches is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Whole repositories.
    pub repositories: Vec<NamePattern>,
    /// Some tags of repositories.
    pub tags: Vec<TaggedPattern>,
}

impl Selection {
    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.repositories.is_empty() && self.tags.is_empty()
    }

    /// Whether all of the repository is wanted, manifests without a tag too.
    pub(super) fn has_all_of(&self, name: &RepositoryName) -> bool {
        self.repositories.iter().any(|pattern| pattern.matches(name.as_str()))
    }

    /// Whether anything of the repository may be wanted.
    pub(super) fn has_any_of(&self, name: &RepositoryName) -> bool {
        self.has_all_of(name) || self.tags.iter().any(|pattern| pattern.repository.matches(name.as_str()))
    }

    /// Whether the tag is wanted.
    pub(super) fn contains(&self, name: &RepositoryName, tag: &Tag) -> bool {
        let is_tag =
            |pattern: &TaggedPattern| pattern.repository.matches(name.as_str()) && pattern.tag.matches(tag);
        self.has_all_of(name) || self.tags.iter().any(is_tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_wanted_with_its_repository_or_by_itself() {
        let selection = Selection {
            repositories: vec!["base".parse().unwrap()],
            tags: vec!["team/**:v1.*".parse().unwrap()],
        };
        let wants = |name: &str, tag: &str| selection.contains(&name.parse().unwrap(), &tag.parse().unwrap());
        assert!(wants("base", "anything") && wants("team/app", "v1.2"));
        assert!(!wants("team/app", "v2") && !wants("team", "v1.2") && !wants("other", "v1.2"));
        let has = |name: &str| selection.has_any_of(&name.parse().unwrap());
        assert!(has("base") && has("team/app") && !has("other"));
        assert!(!selection.has_all_of(&"team/app".parse().unwrap()));
        assert!(Selection::default().is_empty() && !selection.is_empty());
    }

    #[test]
    fn patterns_are_written_as_they_are_read() {
        for text in ["team/**:v*", "a:latest", "**:*"] {
            assert_eq!(text.parse::<TaggedPattern>().unwrap().to_string(), text);
        }
        for text in ["", "team/app", "team/app:", ":v1", "Team:v1", "a:b:c"] {
            assert_eq!(text.parse::<TaggedPattern>(), Err(TaggedPatternError), "{text}");
        }
    }
}
