//! What becomes of a tag, and why.

use std::fmt;
use std::time::Duration;

use super::TagRegex;
use crate::registry::{TagPattern, VersionRange};

/// What becomes of a tag, or of a manifest without tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    /// It stays.
    Keep(KeptBy<'a>),
    /// It goes.
    Delete(Ruling<'a>),
}

/// Why something stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptBy<'a> {
    /// A rule keeps it.
    Rule(Ruling<'a>),
    /// The tag is immutable.
    Immutable,
    /// The tag stays and goes with the image that it accompanies.
    Subject,
    /// It is among the last that a tag pointed to, as many as `history.keep` says.
    History,
    /// A push may be about to name it, or somebody has just been told that it is there.
    Lease,
    /// A policy that could delete it doesn't yet.
    NotYet(Ruling<'a>),
    /// No rule deletes it.
    NoRule,
}

/// A rule of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ruling<'a> {
    /// The policy's name.
    pub policy: &'a str,
    /// The rule.
    pub rule: Rule<'a>,
}

/// A rule; reads as it is written in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the rules are those of `KeepRules` and `DeleteRules`")]
pub enum Rule<'a> {
    KeepMatching(&'a TagPattern),
    KeepRegex(&'a TagRegex),
    KeepSemver(&'a VersionRange),
    KeepLast(usize),
    KeepLastPulled(usize),
    KeepPushedWithin(Duration),
    KeepPulledWithin(Duration),
    DeleteOlderThan(Duration),
    DeleteOthers,
    DeleteUntaggedAfter(Duration),
}

impl Decision<'_> {
    /// Whether it goes.
    pub fn deletes(&self) -> bool {
        match self {
            Decision::Keep(_) => false,
            Decision::Delete(_) => true,
        }
    }

    /// `keep` or `delete`.
    pub fn as_str(&self) -> &'static str {
        if self.deletes() { "delete" } else { "keep" }
    }

    /// What decided, in words: the rule as the configuration has it, or why there is none.
    pub fn reason(&self) -> String {
        match self {
            Decision::Keep(KeptBy::Rule(ruling)) | Decision::Delete(ruling) => ruling.to_string(),
            Decision::Keep(KeptBy::Immutable) => "the tag is immutable".to_owned(),
            Decision::Keep(KeptBy::Subject) => "follows the image that it accompanies".to_owned(),
            Decision::Keep(KeptBy::History) => "the history of a tag keeps it".to_owned(),
            Decision::Keep(KeptBy::Lease) => "a push may be about to name it".to_owned(),
            Decision::Keep(KeptBy::NotYet(ruling)) => format!("not yet: {ruling}"),
            Decision::Keep(KeptBy::NoRule) => "no rule deletes it".to_owned(),
        }
    }
}

impl fmt::Display for Ruling<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.policy, self.rule)
    }
}

impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::KeepMatching(pattern) => write!(f, "keep_matching = \"{pattern}\""),
            Rule::KeepRegex(regex) => write!(f, "keep_regex = '{regex}'"),
            Rule::KeepSemver(range) => write!(f, "keep_semver = \"{range}\""),
            Rule::KeepLast(count) => write!(f, "keep_last = {count}"),
            Rule::KeepLastPulled(count) => write!(f, "keep_last_pulled = {count}"),
            Rule::KeepPushedWithin(time) => write!(f, "keep_pushed_within = \"{}\"", Written(*time)),
            Rule::KeepPulledWithin(time) => write!(f, "keep_pulled_within = \"{}\"", Written(*time)),
            Rule::DeleteOlderThan(time) => write!(f, "delete_older_than = \"{}\"", Written(*time)),
            Rule::DeleteOthers => f.write_str("delete_others = true"),
            Rule::DeleteUntaggedAfter(time) => write!(f, "delete_untagged_after = \"{}\"", Written(*time)),
        }
    }
}

/// A duration as the configuration takes it: `7d`, `1h30m`.
struct Written(Duration);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u128); 5] =
            [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, millis) in UNITS {
            if rest >= millis {
                write!(f, "{}{unit}", rest / millis)?;
                rest %= millis;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_reads_as_it_is_written() {
        for (millis, text) in
            [(0, "0s"), (250, "250ms"), (5_400_000, "1h30m"), (604_800_000, "7d"), (90_001, "1m30s1ms")]
        {
            let rule = Rule::DeleteOlderThan(Duration::from_millis(millis));
            assert_eq!(rule.to_string(), format!("delete_older_than = \"{text}\""));
        }
        let ruling = Ruling { policy: "builds", rule: Rule::KeepLast(10) };
        assert_eq!(Decision::Keep(KeptBy::Rule(ruling)).reason(), "builds: keep_last = 10");
        assert_eq!(Decision::Keep(KeptBy::NotYet(ruling)).reason(), "not yet: builds: keep_last = 10");
    }
}
