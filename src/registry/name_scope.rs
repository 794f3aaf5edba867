//! Which repositories a namespace serves.

use std::fmt;
use std::str::FromStr;

use crate::oci::RepositoryName;

/// The names that a namespace serves; all others are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameScope(Vec<NamePattern>);

impl NameScope {
    /// The scope of the names that match one of `patterns`; of none where there are none.
    pub fn new(patterns: Vec<NamePattern>) -> NameScope {
        NameScope(patterns)
    }

    /// The same scope, and every name in these folders.
    #[must_use]
    pub fn with_folders(mut self, folders: impl IntoIterator<Item = String>) -> NameScope {
        if !self.is_everything() {
            let folders = folders.into_iter().map(Component::One);
            self.0.extend(folders.map(|folder| NamePattern(vec![folder, Component::Many])));
        }
        self
    }

    /// Every name.
    pub fn everything() -> NameScope {
        NameScope(vec![NamePattern(vec![Component::Many])])
    }

    /// Whether the name is in the scope.
    pub fn contains(&self, name: &RepositoryName) -> bool {
        self.is_everything() || self.0.iter().any(|pattern| pattern.matches(name.as_str()))
    }

    /// Whether no name is outside.
    pub fn is_everything(&self) -> bool {
        self.0.iter().any(|pattern| pattern.0 == [Component::Many])
    }
}

impl fmt::Display for NameScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, pattern) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{pattern}")?;
        }
        Ok(())
    }
}

/// A pattern of repository names: the components of a name, where `*` stands for any part of one component, and `**`
/// for one or more whole components.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern(Vec<Component>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Component {
    /// `**`.
    Many,
    /// One component; may contain `*`.
    One(String),
}

/// A text that is no pattern of repository names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a pattern is the components of a name, `*` for any part of one, and `**` for one or more of them: team/**"
)]
pub struct NamePatternError;

impl NamePattern {
    /// Whether the whole name matches.
    pub fn matches(&self, name: &str) -> bool {
        let components: Vec<&str> = name.split('/').collect();
        matches(&self.0, &components)
    }
}

/// Whether the components match. Names have 128 components at most, and patterns are the operator's own.
fn matches(pattern: &[Component], name: &[&str]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((Component::Many, rest)) => (1..=name.len()).any(|taken| matches(rest, &name[taken..])),
        Some((Component::One(glob), rest)) => match name.split_first() {
            Some((first, others)) => matches_one(glob, first) && matches(rest, others),
            None => false,
        },
    }
}

/// Whether a text matches: what stands between the stars has to occur in its order.
pub(super) fn matches_one(glob: &str, mut text: &str) -> bool {
    let Some((head, mut glob)) = glob.split_once('*') else { return glob == text };
    match text.strip_prefix(head) {
        Some(rest) => text = rest,
        None => return false,
    }
    while let Some((part, rest)) = glob.split_once('*') {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
        glob = rest;
    }
    text.ends_with(glob)
}

impl FromStr for NamePattern {
    type Err = NamePatternError;

    fn from_str(text: &str) -> Result<NamePattern, NamePatternError> {
        let component = |part: &str| match part {
            "**" => Some(Component::Many),
            part => {
                let is_plain =
                    |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-*".contains(&byte);
                let is_valid = !part.is_empty() && !part.contains("**") && part.bytes().all(is_plain);
                is_valid.then(|| Component::One(part.to_owned()))
            }
        };
        let components: Option<Vec<Component>> = text.split('/').map(component).collect();
        components.map(NamePattern).ok_or(NamePatternError)
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, component) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "/" };
            match component {
                Component::Many => write!(f, "{separator}**")?,
                Component::One(glob) => write!(f, "{separator}{glob}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(patterns: &[&str], name: &str) -> bool {
        let patterns = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
        NameScope::new(patterns).contains(&name.parse().unwrap())
    }

    #[test]
    fn two_stars_stand_for_one_or_more_components() {
        assert!(contains(&["**"], "a"));
        assert!(contains(&["team/**"], "team/a"));
        assert!(contains(&["team/**"], "team/a/b/c"));
        assert!(contains(&["**/cache"], "a/b/cache"));
        assert!(contains(&["a/**/z"], "a/b/c/z"));
        for name in ["team", "teams/a", "other/team/a", "tea/m"] {
            assert!(!contains(&["team/**"], name), "{name}");
        }
        assert!(!contains(&["**/cache"], "cache"));
        assert!(!contains(&["a/**/z"], "a/z"));
    }

    #[test]
    fn one_star_stays_in_its_component() {
        assert!(contains(&["*"], "a"));
        assert!(!contains(&["*"], "a/b"));
        assert!(contains(&["team-*/app"], "team-x/app"));
        assert!(contains(&["team-*/app"], "team-x-y/app"));
        assert!(!contains(&["team-*/app"], "team/app"));
        assert!(contains(&["*-dev-*"], "a-dev-b"));
        assert!(!contains(&["*-dev-*"], "a-devb"));
        assert!(!contains(&["aa*aa"], "aaa"));
    }

    #[test]
    fn one_of_several_patterns_is_enough_and_none_admits_nothing() {
        assert!(contains(&["a", "b"], "b"));
        assert!(!contains(&["a", "b"], "c"));
        assert!(!contains(&[], "a"));
        assert!(NameScope::everything().is_everything());
        assert!(!NameScope::new(vec!["team/**".parse().unwrap()]).is_everything());
    }

    #[test]
    fn folders_are_added_where_not_every_name_is_in_the_scope() {
        let team = NameScope::new(vec!["team/**".parse().unwrap()]);
        let scope = team.with_folders(["docker.io".to_owned(), "a.b_5000".to_owned()]);
        assert_eq!(scope.to_string(), "team/**, docker.io/**, a.b_5000/**");
        assert!(scope.contains(&"docker.io/library/busybox".parse().unwrap()));
        assert!(!scope.contains(&"quay.io/a".parse().unwrap()));
        let everything = NameScope::everything().with_folders(["docker.io".to_owned()]);
        assert_eq!(everything, NameScope::everything());
    }

    #[test]
    fn patterns_are_written_as_they_are_read() {
        for text in ["**", "*", "team/**", "a-*/b.c_d/**"] {
            assert_eq!(text.parse::<NamePattern>().unwrap().to_string(), text);
        }
        for text in ["", "/", "a//b", "A", "a/", "a**", "***", "a b", "../a/%"] {
            assert_eq!(text.parse::<NamePattern>(), Err(NamePatternError), "{text}");
        }
    }
}
