//! The list of immutable tags.

use super::lists::{ListTable, TableError};
use super::value::{name_patterns, tag_patterns};
use super::{Config, Key};
use crate::registry::{ImmutableRule, NamePattern, NameScope, TagPattern, TagSelection};

/// A table `[[immutable]]` on its way to an [`ImmutableRule`].
#[derive(Debug)]
pub(super) struct ImmutableTable {
    repositories: Vec<NamePattern>,
    tags: Vec<TagPattern>,
    except: Vec<TagPattern>,
}

impl ListTable for ImmutableTable {
    const NAME: &'static str = "immutable";
    const KEYS: &'static [Key<ImmutableTable>] = &[
        Key::words(
            "immutable.repositories",
            "",
            |table, value| name_patterns(value).map(|patterns| table.repositories = patterns),
            "The repositories, as patterns like those of `scope`.",
        ),
        Key::words(
            "immutable.tags",
            "*",
            |table, value| tag_patterns(value).map(|patterns| table.tags = patterns),
            "The tags, as patterns: * stands for any characters. To push another manifest under such a tag, or to delete the \
             tag or its manifest, is answered with 409; to push the same again is fine. Tags of signatures and of lists of \
             referrers (sha256-…) are never immutable.",
        ),
        Key::words(
            "immutable.except",
            "",
            |table, value| tag_patterns(value).map(|patterns| table.except = patterns),
            "Patterns of tags that are mutable all the same, for example [\"latest\", \"*-dev\"].",
        ),
    ];

    fn blank() -> ImmutableTable {
        ImmutableTable { repositories: Vec::new(), tags: Vec::new(), except: Vec::new() }
    }

    fn finish(self, config: &mut Config) -> Result<(), TableError> {
        if self.repositories.is_empty() {
            return Err(TableError::Missing("repositories"));
        }
        let repositories = NameScope::new(self.repositories);
        let tags = TagSelection { patterns: self.tags, except: self.except };
        config.immutable.push(ImmutableRule { repositories, tags });
        Ok(())
    }

    fn example(name: &str) -> Option<&'static str> {
        (name == "repositories").then_some("[\"team/**\"]")
    }
}
