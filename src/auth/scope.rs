//! What tokens are for.

use std::fmt;
use std::str::FromStr;

use super::rules::{Action, Actions};
use crate::oci::RepositoryName;
use crate::registry::{NamePattern, NameScope};

/// What an access token may be used for: `team/**:pull,push`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Where, by the names that the registry has.
    pub repositories: NameScope,
    /// For what.
    pub actions: Actions,
}

/// A text that is no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a scope as PATTERN:ACTION,…, for example team/**:pull,push; actions are pull, push, delete, list and admin"
)]
pub struct ScopeError;

impl Scope {
    /// Whether it covers what is done with a repository; with any where none is named.
    pub fn covers(&self, action: Action, repository: Option<&RepositoryName>) -> bool {
        self.actions.contain(action) && repository.is_none_or(|name| self.repositories.contains(name))
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Scope, ScopeError> {
        let (pattern, actions) = text.rsplit_once(':').ok_or(ScopeError)?;
        let pattern: NamePattern = pattern.parse().map_err(|_| ScopeError)?;
        let actions: Result<Vec<Action>, _> = actions.split(',').map(str::parse).collect();
        let actions = Actions::of(&actions.map_err(|_| ScopeError)?);
        Ok(Scope { repositories: NameScope::new(vec![pattern]), actions })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.actions.iter().map(Action::as_str).collect();
        write!(f, "{}:{}", self.repositories, words.join(","))
    }
}

/// What a Bearer token was asked for or grants: one entry of the claim `access` of Docker's token specification.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Grant {
    /// `repository` or `registry`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The repository's name, or `catalog`, or `admin`.
    pub name: String,
    /// `pull`, `push`, `delete`, or `*` for all of them.
    pub actions: Vec<String>,
}

impl Grant {
    /// Whether it covers what is done with a repository, by the name in the path of the request; with all of them where none
    /// is named.
    pub fn covers(&self, action: Action, requested: Option<&RepositoryName>) -> bool {
        let is_about = match requested {
            Some(name) => self.kind == "repository" && self.name == name.as_str(),
            // Whoever may see everything doesn't command everything.
            None if action == Action::Admin => self.kind == "registry" && self.name == "admin",
            None => self.kind == "registry" && self.name == "catalog",
        };
        is_about && self.actions.iter().any(|word| word == "*" || word == action.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_written_as_it_is_read() {
        for text in ["team/**:pull,push", "**:pull", "a:pull,push,delete,list,admin"] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        for text in ["", "team", "team:", "team/**:read", ":pull", "UPPER:pull", "a:pull,", "a:b:pull"] {
            assert_eq!(text.parse::<Scope>(), Err(ScopeError), "{text}");
        }
    }

    #[test]
    fn a_grant_covers_its_name_and_its_actions_only() {
        let grant = |kind: &str, name: &str, actions: &[&str]| Grant {
            kind: kind.to_owned(),
            name: name.to_owned(),
            actions: actions.iter().map(|&action| action.to_owned()).collect(),
        };
        let (a, b) = ("a/b".parse().unwrap(), "a/b/c".parse().unwrap());
        let pull = grant("repository", "a/b", &["pull"]);
        assert!(pull.covers(Action::Pull, Some(&a)) && !pull.covers(Action::Push, Some(&a)));
        assert!(!pull.covers(Action::Pull, Some(&b)) && !pull.covers(Action::List, None));
        assert!(grant("repository", "a/b", &["*"]).covers(Action::Delete, Some(&a)));
        assert!(grant("registry", "catalog", &["*"]).covers(Action::List, None));
        assert!(!grant("registry", "catalog", &["*"]).covers(Action::Pull, Some(&a)));
        assert!(!grant("registry", "catalog", &["*"]).covers(Action::Admin, None));
        assert!(grant("registry", "admin", &["*"]).covers(Action::Admin, None));
    }
}
