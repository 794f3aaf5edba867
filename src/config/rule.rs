//! The list of rules.

use super::lists::{ListTable, TableError};
use super::value::{actions, name_patterns, who};
use super::{Config, Key};
use crate::auth::{Actions, Rule, Who};
use crate::registry::{NamePattern, NameScope};

/// A table `[[rule]]` on its way to a [`Rule`].
#[derive(Debug)]
pub(super) struct RuleTable {
    repositories: Vec<NamePattern>,
    who: Vec<Who>,
    actions: Actions,
}

impl ListTable for RuleTable {
    const NAME: &'static str = "rule";
    const KEYS: &'static [Key<RuleTable>] = &[
        Key::reloaded_words(
            "rule.repositories",
            "",
            |table, value| name_patterns(value).map(|patterns| table.repositories = patterns),
            "The repositories, as patterns like those of `scope`. What is cached of an upstream lies under its host.",
        ),
        Key::reloaded_words(
            "rule.who",
            "",
            |table, value| who(value).map(|who| table.who = who),
            "Whom the rule is about: anonymous (everybody), authenticated (everybody who has logged in), user:NAME, group:NAME, token:NAME or claim:NAME=VALUE.",
        ),
        Key::reloaded_words(
            "rule.actions",
            "",
            |table, value| actions(value).map(|actions| table.actions = actions),
            "What they may do: pull, push, delete, list (see which repositories there are, of those that they may pull from), or admin (use the admin API).",
        ),
    ];

    fn blank() -> RuleTable {
        RuleTable { repositories: Vec::new(), who: Vec::new(), actions: Actions::default() }
    }

    fn finish(self, config: &mut Config) -> Result<(), TableError> {
        let RuleTable { repositories, who, actions } = self;
        for (is_missing, key) in [
            (repositories.is_empty(), "repositories"),
            (who.is_empty(), "who"),
            (actions.is_empty(), "actions"),
        ] {
            if is_missing {
                return Err(TableError::Missing(key));
            }
        }
        config.access.rules.push(Rule { repositories: NameScope::new(repositories), who, actions });
        Ok(())
    }

    fn example(name: &str) -> Option<&'static str> {
        match name {
            "repositories" => Some("[\"team/**\"]"),
            "who" => Some("[\"user:anna\", \"user:ci\"]"),
            "actions" => Some("[\"pull\", \"push\"]"),
            _ => None,
        }
    }
}
