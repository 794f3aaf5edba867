//! Two passes over the tags of a repository: what has to be known of all of them, then what becomes of each.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::{Decision, DeleteTags, KeptBy, RetentionPolicy, Rule, Ruling};
use crate::clock::Timestamp;
use crate::oci::Tag;

/// What is known of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagFacts {
    /// The tag.
    pub tag: Tag,
    /// When it was last set.
    pub pushed_at: Timestamp,
    /// When it was last pulled, if it ever was.
    pub pulled_at: Option<Timestamp>,
    /// Whether the registry would not let it go.
    pub is_immutable: bool,
}

/// What is known of a manifest without tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UntaggedFacts {
    /// Since when no tag names it.
    pub since: Timestamp,
    /// When it was last pulled, if it ever was.
    pub pulled_at: Option<Timestamp>,
    /// Until when it stays in any case, since a push may be about to name it.
    pub held_until: Timestamp,
    /// Whether the history of a tag keeps it.
    pub is_in_history: bool,
}

/// What holds for a whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions {
    /// The time.
    pub now: Timestamp,
    /// Since when pulls are noted: what was pulled before then isn't known, so that everything counts as pulled then. `None`
    /// where they aren't noted at all, so that every tag counts as pulled now.
    pub pulls_noted_since: Option<Timestamp>,
}

/// The first pass: sees every tag, and remembers what the rules about the last N need.
#[derive(Debug)]
pub struct Survey<'a> {
    conditions: Conditions,
    counts: Vec<Counts<'a>>,
}

/// The last N of one policy.
#[derive(Debug)]
struct Counts<'a> {
    policy: &'a RetentionPolicy,
    pushed: Option<Last>,
    pulled: Option<Last>,
}

/// The second pass: decides about one tag after another.
#[derive(Debug)]
pub struct Verdicts<'a> {
    conditions: Conditions,
    policies: Vec<Bounds<'a>>,
}

/// From where on a policy keeps the last N.
#[derive(Debug)]
struct Bounds<'a> {
    policy: &'a RetentionPolicy,
    pushed: Option<Rank>,
    pulled: Option<Rank>,
}

impl<'a> Survey<'a> {
    /// A survey for the policies of one repository.
    pub fn new(policies: Vec<&'a RetentionPolicy>, conditions: Conditions) -> Survey<'a> {
        let counts = |policy: &'a RetentionPolicy| Counts {
            policy,
            pushed: policy.keep.last.map(Last::new),
            pulled: policy.keep.last_pulled.map(Last::new),
        };
        Survey { conditions, counts: policies.into_iter().map(counts).collect() }
    }

    /// Whether the first pass is of any use: no rule counts tags where it isn't.
    pub fn counts(&self) -> bool {
        self.counts.iter().any(|counts| counts.pushed.is_some() || counts.pulled.is_some())
    }

    /// Takes note of a tag.
    pub fn see(&mut self, facts: &TagFacts) {
        for counts in &mut self.counts {
            if !counts.policy.is_about(&facts.tag) {
                continue;
            }
            if let Some(last) = &mut counts.pushed {
                last.see(Rank::by_push(facts));
            }
            if let Some(last) = &mut counts.pulled {
                last.see(Rank::by_pull(facts));
            }
        }
    }

    /// Ends the first pass.
    pub fn finish(self) -> Verdicts<'a> {
        let bounds = |counts: Counts<'a>| Bounds {
            policy: counts.policy,
            pushed: counts.pushed.map(Last::bound),
            pulled: counts.pulled.map(Last::bound),
        };
        Verdicts { conditions: self.conditions, policies: self.counts.into_iter().map(bounds).collect() }
    }
}

impl<'a> Verdicts<'a> {
    /// What becomes of a tag, one of those that the survey has seen.
    pub fn of_tag(&self, facts: &TagFacts) -> Decision<'a> {
        if facts.tag.follows_a_subject() {
            return Decision::Keep(KeptBy::Subject);
        }
        if facts.is_immutable {
            return Decision::Keep(KeptBy::Immutable);
        }
        let about = || self.policies.iter().filter(|bounds| bounds.policy.is_about(&facts.tag));
        let ruling = |policy: &'a RetentionPolicy, rule| Ruling { policy: &policy.name, rule };
        if let Some(kept) = about().find_map(|bounds| Some(ruling(bounds.policy, self.keeps(bounds, facts)?)))
        {
            return Decision::Keep(KeptBy::Rule(kept));
        }
        let decided = about().find_map(|bounds| match bounds.policy.delete.tags {
            DeleteTags::None => None,
            DeleteTags::Others => Some(Decision::Delete(ruling(bounds.policy, Rule::DeleteOthers))),
            DeleteTags::OlderThan(age) => {
                let ruling = ruling(bounds.policy, Rule::DeleteOlderThan(age));
                Some(self.after(age, facts.pushed_at, ruling))
            }
        });
        decided.unwrap_or(Decision::Keep(KeptBy::NoRule))
    }

    /// What becomes of a manifest that no tag names and that is neither a child of an index nor about a subject. The
    /// first policy that deletes such manifests decides.
    pub fn of_untagged(&self, facts: UntaggedFacts) -> Decision<'a> {
        let decided = self.policies.iter().find_map(|bounds| {
            let grace = bounds.policy.delete.untagged_after?;
            let ruling = Ruling { policy: &bounds.policy.name, rule: Rule::DeleteUntaggedAfter(grace) };
            let known_since = self.conditions.pulls_noted_since.unwrap_or_default();
            let from = facts.since.max(facts.pulled_at.unwrap_or_default()).max(known_since);
            Some(self.after(grace, from, ruling))
        });
        match decided {
            Some(Decision::Delete(_)) if facts.is_in_history => return Decision::Keep(KeptBy::History),
            Some(Decision::Delete(_)) if facts.held_until > self.conditions.now => {
                return Decision::Keep(KeptBy::Lease);
            }
            _ => {}
        }
        decided.unwrap_or(Decision::Keep(KeptBy::NoRule))
    }

    /// Whether manifests without tags go at some time.
    pub fn deletes_untagged(&self) -> bool {
        self.policies.iter().any(|bounds| bounds.policy.delete.untagged_after.is_some())
    }

    /// The policy's first rule that keeps the tag.
    fn keeps(&self, bounds: &Bounds<'a>, facts: &TagFacts) -> Option<Rule<'a>> {
        let keep = &bounds.policy.keep;
        let now = self.conditions.now;
        if let Some(pattern) = keep.matching.iter().find(|pattern| pattern.matches(&facts.tag)) {
            return Some(Rule::KeepMatching(pattern));
        }
        if let Some(regex) = keep.regex.as_ref().filter(|regex| regex.matches(&facts.tag)) {
            return Some(Rule::KeepRegex(regex));
        }
        if let Some(range) = keep.versions.as_ref().filter(|range| range.contains(&facts.tag)) {
            return Some(Rule::KeepSemver(range));
        }
        if let (Some(count), Some(bound)) = (keep.last, &bounds.pushed)
            && Rank::by_push(facts) >= *bound
        {
            return Some(Rule::KeepLast(count.get()));
        }
        if let (Some(count), Some(bound)) = (keep.last_pulled, &bounds.pulled)
            && Rank::by_pull(facts) >= *bound
        {
            return Some(Rule::KeepLastPulled(count.get()));
        }
        if let Some(time) = keep.pushed_within.filter(|time| now.since(facts.pushed_at) <= *time) {
            return Some(Rule::KeepPushedWithin(time));
        }
        let known_since = self.conditions.pulls_noted_since.unwrap_or(now);
        let used = facts.pushed_at.max(facts.pulled_at.unwrap_or_default()).max(known_since);
        keep.pulled_within.filter(|time| now.since(used) <= *time).map(Rule::KeepPulledWithin)
    }

    /// Deletes what is older than `age` at the time of the run.
    fn after(&self, age: Duration, from: Timestamp, ruling: Ruling<'a>) -> Decision<'a> {
        if self.conditions.now.since(from) > age {
            Decision::Delete(ruling)
        } else {
            Decision::Keep(KeptBy::NotYet(ruling))
        }
    }
}

/// A tag's place in the order of pushes or pulls, the last the greatest. No two tags have the same one, so that the last N
/// are always N.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Rank {
    pulled_at: Option<Timestamp>,
    pushed_at: Timestamp,
    tag: Option<Tag>,
}

impl Rank {
    fn by_push(facts: &TagFacts) -> Rank {
        Rank { pulled_at: None, pushed_at: facts.pushed_at, tag: Some(facts.tag.clone()) }
    }

    fn by_pull(facts: &TagFacts) -> Rank {
        Rank { pulled_at: facts.pulled_at, ..Rank::by_push(facts) }
    }
}

/// The greatest so many ranks.
#[derive(Debug)]
struct Last {
    count: NonZeroUsize,
    greatest: BinaryHeap<Reverse<Rank>>,
}

impl Last {
    fn new(count: NonZeroUsize) -> Last {
        Last { count, greatest: BinaryHeap::new() }
    }

    fn see(&mut self, rank: Rank) {
        if self.greatest.len() < self.count.get() {
            self.greatest.push(Reverse(rank));
        } else if let Some(mut least) = self.greatest.peek_mut()
            && rank > least.0
        {
            least.0 = rank;
        }
    }

    /// The rank from which on tags are among the last; the lowest there is where there are fewer.
    fn bound(mut self) -> Rank {
        let is_full = self.greatest.len() == self.count.get();
        self.greatest.pop().filter(|_| is_full).map(|least| least.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
