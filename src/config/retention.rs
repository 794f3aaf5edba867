//! The list of retention policies.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::lists::{ListTable, TableError};
use super::value::{at_most, duration, label, name_patterns, number, switch, tag_patterns};
use super::{Config, Key};
use crate::maintenance::retention::{DeleteRules, DeleteTags, KeepRules, RetentionPolicy, TagRegexError};
use crate::registry::{NamePattern, NameScope, TagPattern, TagSelection, VersionRangeError};

/// The largest number of tags that are kept by number; those of one repository are held in memory while a policy runs.
const MAX_LAST: usize = 100_000;

/// A table `[[retention.policy]]` on its way to a [`RetentionPolicy`].
#[derive(Debug)]
pub(super) struct RetentionTable {
    name: String,
    repositories: Vec<NamePattern>,
    tags: Vec<TagPattern>,
    except: Vec<TagPattern>,
    keep: KeepRules,
    delete_older_than: Option<Duration>,
    delete_others: bool,
    delete_untagged_after: Option<Duration>,
}

impl ListTable for RetentionTable {
    const NAME: &'static str = "retention.policy";
    const KEYS: &'static [Key<RetentionTable>] = &[
        Key::text(
            "retention.policy.name",
            "",
            |table, value| label(value).map(|name| table.name = name),
            "The policy's name, as it stands beside what the policy keeps and deletes; unique.",
        ),
        Key::words(
            "retention.policy.repositories",
            "",
            |table, value| name_patterns(value).map(|patterns| table.repositories = patterns),
            "The repositories that the policy is about, as patterns like those of `scope`.",
        ),
        Key::words(
            "retention.policy.tags",
            "*",
            |table, value| tag_patterns(value).map(|patterns| table.tags = patterns),
            "The tags that the policy is about, as patterns: * stands for any characters. Others don't count among the last \
             N. Tags of signatures and of lists of referrers (sha256-…) are no tags to policies; they follow their image.",
        ),
        Key::words(
            "retention.policy.except",
            "",
            |table, value| tag_patterns(value).map(|patterns| table.except = patterns),
            "Patterns of tags that the policy is not about all the same.",
        ),
        Key::words(
            "retention.policy.keep_matching",
            "",
            |table, value| tag_patterns(value).map(|patterns| table.keep.matching = patterns),
            "Keeps tags that match one of these patterns, for example [\"latest\", \"release-*\"].",
        ),
        Key::text(
            "retention.policy.keep_regex",
            "",
            |table, value| {
                table.keep.regex = if value.is_empty() {
                    None
                } else {
                    Some(value.parse().map_err(|error| regex_advice(&error))?)
                };
                Ok(())
            },
            "Keeps tags in which this regular expression occurs; ^ and $ stand for the ends of a tag.",
        ),
        Key::text(
            "retention.policy.keep_semver",
            "",
            |table, value| {
                table.keep.versions = if value.is_empty() {
                    None
                } else {
                    Some(value.parse().map_err(|error| range_advice(&error))?)
                };
                Ok(())
            },
            "Keeps tags that are semantic versions in this range, for example \">=1.2, <2 || ^3\". v1.2.3, 1.2.3, 1.2 (for \
             1.2.0) and v1 are versions, 1 is none. A pre-release such as 1.2.0-rc.1 or 1.2.0-alpine is in a range only where \
             the range names one of the same version.",
        ),
        Key::bare(
            "retention.policy.keep_last",
            "0",
            |table, value| last(value).map(|count| table.keep.last = count),
            "Keeps so many tags, those that were pushed last. 0: no such rule.",
        ),
        Key::bare(
            "retention.policy.keep_last_pulled",
            "0",
            |table, value| last(value).map(|count| table.keep.last_pulled = count),
            "Keeps so many tags, those that were pulled last; tags that were never pulled come after those that were. 0: no \
             such rule.",
        ),
        Key::text(
            "retention.policy.keep_pushed_within",
            "0s",
            |table, value| rule_duration(value).map(|time| table.keep.pushed_within = time),
            "Keeps tags that were pushed no longer ago than this, for example \"7d\". 0s: no such rule.",
        ),
        Key::text(
            "retention.policy.keep_pulled_within",
            "0s",
            |table, value| rule_duration(value).map(|time| table.keep.pulled_within = time),
            "Keeps tags that were pulled or pushed no longer ago than this. 0s: no such rule.",
        ),
        Key::text(
            "retention.policy.delete_older_than",
            "0s",
            |table, value| rule_duration(value).map(|time| table.delete_older_than = time),
            "Deletes tags that were pushed longer ago than this and that nothing keeps. 0s: no such rule.",
        ),
        Key::bare(
            "retention.policy.delete_others",
            "false",
            |table, value| switch(value).map(|on| table.delete_others = on),
            "Deletes all tags that nothing keeps. It needs a keep rule in the same policy.",
        ),
        Key::text(
            "retention.policy.delete_untagged_after",
            "0s",
            |table, value| rule_duration(value).map(|time| table.delete_untagged_after = time),
            "Deletes manifests that no tag has named, and nobody has pulled, for longer than this; those that an index names, \
             and what is about another image, stay with that. Which tags the policy is about doesn't matter. 0s: no such \
             rule.",
        ),
    ];

    fn blank() -> RetentionTable {
        RetentionTable {
            name: String::new(),
            repositories: Vec::new(),
            tags: Vec::new(),
            except: Vec::new(),
            keep: KeepRules::default(),
            delete_older_than: None,
            delete_others: false,
            delete_untagged_after: None,
        }
    }

    fn finish(self, config: &mut Config) -> Result<(), TableError> {
        if self.name.is_empty() {
            return Err(TableError::Missing("name"));
        }
        if self.repositories.is_empty() {
            return Err(TableError::Missing("repositories"));
        }
        let policies = &mut config.retention.policies.policies;
        if policies.iter().any(|other| other.name == self.name) {
            let advice = "write another name; there is a policy of this name already".to_owned();
            return Err(TableError::Value { key: "name", value: self.name, advice });
        }
        let wrong = |key: &'static str, value: &str, advice: &str| TableError::Value {
            key,
            value: value.to_owned(),
            advice: advice.to_owned(),
        };
        let tags = match (self.delete_others, self.delete_older_than) {
            (true, Some(_)) => {
                let advice = "write either this or delete_older_than; this deletes the young ones too";
                return Err(wrong("delete_others", "true", advice));
            }
            (true, None) if self.keep.is_empty() => {
                let advice = "write a keep rule too, such as keep_last = 10; alone it would delete every tag";
                return Err(wrong("delete_others", "true", advice));
            }
            (true, None) => DeleteTags::Others,
            (false, Some(age)) => DeleteTags::OlderThan(age),
            (false, None) => DeleteTags::None,
        };
        let policy = RetentionPolicy {
            name: self.name,
            repositories: NameScope::new(self.repositories),
            tags: TagSelection { patterns: self.tags, except: self.except },
            keep: self.keep,
            delete: DeleteRules { tags, untagged_after: self.delete_untagged_after },
        };
        if policy.keep.is_empty() && !policy.deletes() {
            let advice = "write at least one rule, keep_… or delete_…; without one the policy does nothing";
            return Err(wrong("name", &policy.name, advice));
        }
        policies.push(policy);
        Ok(())
    }

    fn example(name: &str) -> Option<&'static str> {
        match name {
            "name" => Some("\"builds\""),
            "repositories" => Some("[\"team/**\"]"),
            "keep_last" => Some("10"),
            "delete_others" => Some("true"),
            _ => None,
        }
    }
}

/// A number of tags to keep; zero for no rule.
fn last(text: &str) -> Result<Option<NonZeroUsize>, String> {
    number(text).and_then(|count| at_most(count, MAX_LAST)).map(NonZeroUsize::new)
}

/// A duration in a rule; zero for no rule.
fn rule_duration(text: &str) -> Result<Option<Duration>, String> {
    duration(text).map(|time| (!time.is_zero()).then_some(time))
}

fn regex_advice(error: &TagRegexError) -> String {
    format!("write a regular expression, for example '^v[0-9]+$' ({error})")
}

fn range_advice(error: &VersionRangeError) -> String {
    format!("write a range of versions, for example \">=1.2, <2\" ({error})")
}
