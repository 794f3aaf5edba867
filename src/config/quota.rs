//! The list of quotas.

use super::lists::{ListTable, TableError};
use super::value::{name_patterns, size};
use super::{Config, Key};
use crate::registry::{NamePattern, NameScope, Quota};

/// A table `[[quota]]` on its way to a [`Quota`].
#[derive(Debug)]
pub(super) struct QuotaTable {
    repositories: Vec<NamePattern>,
    max_bytes: Option<u64>,
}

impl ListTable for QuotaTable {
    const NAME: &'static str = "quota";
    const KEYS: &'static [Key<QuotaTable>] = &[
        Key::words(
            "quota.repositories",
            "",
            |table, value| name_patterns(value).map(|patterns| table.repositories = patterns),
            "The repositories, as patterns like those of `scope`.",
        ),
        Key::text(
            "quota.max_size",
            "",
            |table, value| size(value).map(|bytes| table.max_bytes = Some(bytes)),
            "What each of them may hold, for example \"10 GiB\". Blobs that it shares with other repositories count in full, \
             what is deleted and can still be restored doesn't count.",
        ),
    ];

    fn blank() -> QuotaTable {
        QuotaTable { repositories: Vec::new(), max_bytes: None }
    }

    fn finish(self, config: &mut Config) -> Result<(), TableError> {
        if self.repositories.is_empty() {
            return Err(TableError::Missing("repositories"));
        }
        let max_bytes = self.max_bytes.ok_or(TableError::Missing("max_size"))?;
        config.quotas.push(Quota { repositories: NameScope::new(self.repositories), max_bytes });
        Ok(())
    }

    fn example(name: &str) -> Option<&'static str> {
        match name {
            "repositories" => Some("[\"team/**\"]"),
            "max_size" => Some("\"10 GiB\""),
            _ => None,
        }
    }
}
