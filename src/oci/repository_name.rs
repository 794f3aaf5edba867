//! Repository names.

use std::str::FromStr;
use std::sync::Arc;

use super::text::{excerpt, validated_text};

/// The name of a repository: lower-case path components of any number, at most 255 characters together.
///
/// The grammar is the distribution specification's. No component can begin with an underscore, so that the reserved
/// names (`_catalog`, `_oci`, `_orlop`) are never repositories.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(Arc<str>);

/// Why a text is not a repository name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text has more characters than clients can handle.
    #[error("the repository name has {0} characters; at most {max} are allowed", max = RepositoryName::MAX_LEN)]
    TooLong(usize),
    /// The text does not follow the grammar.
    #[error(
        "`{0}` is not a repository name; use components of lower-case letters and digits, separated by `/`, \
         with single `.`, `_`, `__` or any number of `-` inside"
    )]
    Malformed(String),
}

impl RepositoryName {
    /// The longest name, in characters.
    pub const MAX_LEN: usize = 255;

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the path components, of which there is at least one.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

validated_text!(RepositoryName);

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > Self::MAX_LEN {
            return Err(NameError::TooLong(text.chars().count()));
        }
        if text.split('/').all(|component| is_component(component.as_bytes())) {
            Ok(RepositoryName(Arc::from(text)))
        } else {
            Err(NameError::Malformed(excerpt(text)))
        }
    }
}

/// Whether `component` is runs of `[a-z0-9]`, separated by one of `.`, `_`, `__` or any number of `-`.
fn is_component(mut component: &[u8]) -> bool {
    loop {
        let run = component.iter().take_while(|b| b.is_ascii_lowercase() || b.is_ascii_digit()).count();
        if run == 0 {
            return false;
        }
        component = &component[run..];
        let separator = match component {
            [] => return true,
            [b'_', b'_', ..] => 2,
            [b'.' | b'_', ..] => 1,
            [b'-', ..] => component.iter().take_while(|b| **b == b'-').count(),
            _ => return false,
        };
        component = &component[separator..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_grammar_admits_what_the_specification_admits() {
        for name in [
            "a",
            "0",
            "library/busybox",
            "a.b/c_d/e__f/g---h",
            "docker.io/library/x",
            &["d"; 128].join("/"),
            &"a".repeat(255),
        ] {
            assert_eq!(name.parse::<RepositoryName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn the_grammar_refuses_everything_else() {
        for name in [
            "", "/", "a/", "/a", "a//b", "A", "a/B", "_catalog", "_oci/x", "x/_orlop", "a_", "a___b", "a..b",
            ".a", "a.", "-a", "a-", "a._b", "a b", "a:b", "a@b", "ä", "a\0", "../x", "a/..",
        ] {
            assert!(matches!(name.parse::<RepositoryName>(), Err(NameError::Malformed(_))), "{name:?}");
        }
        assert_eq!("a".repeat(256).parse::<RepositoryName>(), Err(NameError::TooLong(256)));
    }

    #[test]
    fn deserializing_validates() {
        assert!(serde_json::from_str::<RepositoryName>("\"a/b\"").is_ok());
        assert!(serde_json::from_str::<RepositoryName>("\"a//b\"").is_err());
    }

    proptest! {
        #[test]
        fn names_of_the_grammar_round_trip(
            name in "[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,3}(/[a-z0-9]{1,4}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,3}){0,4}"
        ) {
            let parsed: RepositoryName = name.parse().unwrap();
            prop_assert_eq!(parsed.to_string(), name.clone());
            prop_assert_eq!(parsed.components().collect::<Vec<_>>().join("/"), name.clone());
            let json = serde_json::to_string(&parsed).unwrap();
            prop_assert_eq!(serde_json::from_str::<RepositoryName>(&json).unwrap(), parsed);
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,300}") {
            if let Ok(name) = text.parse::<RepositoryName>() {
                prop_assert!(name.as_str().len() <= RepositoryName::MAX_LEN);
            }
        }
    }
}
