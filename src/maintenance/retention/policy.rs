//! Retention policies, as the operator writes them.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::{Rule, TagRegex};
use crate::oci::{RepositoryName, Tag};
use crate::registry::{NameScope, TagPattern, TagSelection, VersionRange};

/// All the policies, in the operator's order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retention {
    /// The policies.
    pub policies: Vec<RetentionPolicy>,
}

/// What stays and what goes, in some repositories and of some tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// What people call it; unique.
    pub name: String,
    /// The repositories.
    pub repositories: NameScope,
    /// The tags that its rules are about; all others are nothing to it, and don't count among the last N.
    pub tags: TagSelection,
    /// What stays.
    pub keep: KeepRules,
    /// What goes, of what nothing keeps.
    pub delete: DeleteRules,
}

/// What a policy keeps; each rule keeps by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeepRules {
    /// Tags that match one of these.
    pub matching: Vec<TagPattern>,
    /// Tags in which this occurs.
    pub regex: Option<TagRegex>,
    /// Tags that are versions in this range.
    pub versions: Option<VersionRange>,
    /// The tags that were pushed last.
    pub last: Option<NonZeroUsize>,
    /// The tags that were pulled last; those that never were come after all others, the last pushed first.
    pub last_pulled: Option<NonZeroUsize>,
    /// Tags that were pushed no longer ago.
    pub pushed_within: Option<Duration>,
    /// Tags that were pulled or pushed no longer ago.
    pub pulled_within: Option<Duration>,
}

/// What a policy deletes, of what no rule of any policy keeps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeleteRules {
    /// Which tags.
    pub tags: DeleteTags,
    /// Manifests that no tag has named for longer, and that nobody has pulled for as long.
    pub untagged_after: Option<Duration>,
}

/// Which tags a policy deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeleteTags {
    /// None.
    #[default]
    None,
    /// Those that were pushed longer ago.
    OlderThan(Duration),
    /// All.
    Others,
}

impl Retention {
    /// Whether a policy takes manifests away that nothing names.
    pub fn deletes_untagged(&self) -> bool {
        self.policies.iter().any(|policy| policy.delete.untagged_after.is_some())
    }

    /// The policies that are about a repository, in their order.
    pub fn of_repository(&self, name: &RepositoryName) -> Vec<&RetentionPolicy> {
        self.policies.iter().filter(|policy| policy.repositories.contains(name)).collect()
    }
}

impl KeepRules {
    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        *self == KeepRules::default()
    }
}

impl RetentionPolicy {
    /// Whether the policy is about the tag.
    pub fn is_about(&self, tag: &Tag) -> bool {
        self.tags.contains(tag)
    }

    /// Every rule, as the configuration has it, in the order in which they are looked at.
    pub fn rules(&self) -> Vec<Rule<'_>> {
        let KeepRules { matching, regex, versions, last, last_pulled, pushed_within, pulled_within } =
            &self.keep;
        let mut rules: Vec<Rule<'_>> = matching.iter().map(Rule::KeepMatching).collect();
        rules.extend(regex.as_ref().map(Rule::KeepRegex));
        rules.extend(versions.as_ref().map(Rule::KeepSemver));
        rules.extend(last.map(|count| Rule::KeepLast(count.get())));
        rules.extend(last_pulled.map(|count| Rule::KeepLastPulled(count.get())));
        rules.extend(pushed_within.map(Rule::KeepPushedWithin));
        rules.extend(pulled_within.map(Rule::KeepPulledWithin));
        match self.delete.tags {
            DeleteTags::None => {}
            DeleteTags::OlderThan(age) => rules.push(Rule::DeleteOlderThan(age)),
            DeleteTags::Others => rules.push(Rule::DeleteOthers),
        }
        rules.extend(self.delete.untagged_after.map(Rule::DeleteUntaggedAfter));
        rules
    }

    /// Whether the policy can delete anything.
    pub fn deletes(&self) -> bool {
        self.delete != DeleteRules::default()
    }
}
