//! What becomes of tags: examples, and what holds for whatever policies and tags there are.

use std::num::NonZeroUsize;
use std::time::Duration;

use proptest::prelude::*;

use super::super::{DeleteRules, KeepRules};
use super::*;
use crate::registry::{NameScope, TagSelection};

const DAY: Duration = Duration::from_secs(86_400);
const NOW: Timestamp = Timestamp::from_millis(1_000 * 86_400_000);
const CONDITIONS: Conditions = Conditions { now: NOW, pulls_noted_since: Some(Timestamp::from_millis(0)) };

fn policy(name: &str, keep: KeepRules, tags: DeleteTags) -> RetentionPolicy {
    RetentionPolicy {
        name: name.to_owned(),
        repositories: NameScope::everything(),
        tags: TagSelection::everything(),
        keep,
        delete: DeleteRules { tags, untagged_after: None },
    }
}

fn about(policy: RetentionPolicy, patterns: &[&str], except: &[&str]) -> RetentionPolicy {
    let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    RetentionPolicy { tags: TagSelection { patterns: parse(patterns), except: parse(except) }, ..policy }
}

fn last(count: usize) -> KeepRules {
    KeepRules { last: NonZeroUsize::new(count), ..KeepRules::default() }
}

/// A tag that was pushed and pulled so many days ago.
fn tag(name: &str, pushed: u32, pulled: Option<u32>) -> TagFacts {
    TagFacts {
        tag: name.parse().unwrap(),
        pushed_at: NOW.saturating_sub(DAY * pushed),
        pulled_at: pulled.map(|days| NOW.saturating_sub(DAY * days)),
        is_immutable: false,
    }
}

fn verdicts<'a>(policies: &'a [RetentionPolicy], tags: &[TagFacts]) -> Verdicts<'a> {
    let mut survey = Survey::new(policies.iter().collect(), CONDITIONS);
    for facts in tags {
        survey.see(facts);
    }
    survey.finish()
}

/// Each tag with what becomes of it and why, as text.
fn decided(policies: &[RetentionPolicy], tags: &[TagFacts]) -> Vec<String> {
    let verdicts = verdicts(policies, tags);
    let line = |facts: &TagFacts| {
        let decision = verdicts.of_tag(facts);
        format!("{} {}, {}", facts.tag, decision.as_str(), decision.reason())
    };
    tags.iter().map(line).collect()
}

fn deleted(policies: &[RetentionPolicy], tags: &[TagFacts]) -> Vec<String> {
    let verdicts = verdicts(policies, tags);
    let mut gone: Vec<String> = tags
        .iter()
        .filter(|facts| verdicts.of_tag(facts).deletes())
        .map(|facts| facts.tag.to_string())
        .collect();
    gone.sort();
    gone
}

#[test]
fn each_tag_comes_with_the_rule_that_decided() {
    let keep = KeepRules {
        matching: vec!["latest".parse().unwrap()],
        regex: Some("-lts$".parse().unwrap()),
        versions: Some(">=2".parse().unwrap()),
        last: NonZeroUsize::new(1),
        last_pulled: NonZeroUsize::new(1),
        pushed_within: Some(DAY * 7),
        pulled_within: Some(DAY * 30),
    };
    let tags = [
        tag("latest", 100, None),
        tag("old-lts", 100, None),
        tag("v2.1", 100, None),
        tag("newest", 1, None),
        tag("often", 200, Some(0)),
        tag("young", 7, None),
        tag("used", 200, Some(30)),
        tag("unused", 200, Some(31)),
    ];
    assert_eq!(
        decided(&[policy("p", keep, DeleteTags::Others)], &tags),
        [
            "latest keep, p: keep_matching = \"latest\"",
            "old-lts keep, p: keep_regex = '-lts$'",
            "v2.1 keep, p: keep_semver = \">=2\"",
            "newest keep, p: keep_last = 1",
            "often keep, p: keep_last_pulled = 1",
            "young keep, p: keep_pushed_within = \"7d\"",
            "used keep, p: keep_pulled_within = \"30d\"",
            "unused delete, p: delete_others = true",
        ]
    );
}

#[test]
fn a_keep_rule_of_any_policy_wins_and_the_first_policy_that_deletes_decides() {
    let policies = [
        about(policy("pr", KeepRules::default(), DeleteTags::OlderThan(DAY * 7)), &["pr-*"], &[]),
        about(policy("all", last(1), DeleteTags::OlderThan(DAY * 365)), &["*"], &["pr-*"]),
        policy(
            "pins",
            KeepRules { matching: vec!["*-pin".parse().unwrap()], ..KeepRules::default() },
            DeleteTags::None,
        ),
    ];
    let tags = [
        tag("pr-1", 7, None),
        tag("pr-2", 8, None),
        tag("pr-3-pin", 400, None),
        tag("v1", 400, None),
        tag("v2", 300, None),
        tag("v3", 200, None),
    ];
    assert_eq!(
        decided(&policies, &tags),
        [
            "pr-1 keep, not yet: pr: delete_older_than = \"7d\"",
            "pr-2 delete, pr: delete_older_than = \"7d\"",
            "pr-3-pin keep, pins: keep_matching = \"*-pin\"",
            "v1 delete, all: delete_older_than = \"365d\"",
            "v2 keep, not yet: all: delete_older_than = \"365d\"",
            "v3 keep, all: keep_last = 1",
        ]
    );
}

#[test]
fn a_general_policy_behind_a_particular_one_deletes_nothing_of_it() {
    let policies = [
        about(policy("prod", KeepRules::default(), DeleteTags::OlderThan(DAY * 365)), &["prod-*"], &[]),
        policy("all", KeepRules::default(), DeleteTags::OlderThan(DAY)),
    ];
    assert_eq!(deleted(&policies, &[tag("prod-1", 100, None), tag("x", 100, None)]), ["x"]);
}

#[test]
fn what_follows_an_image_is_no_tag_and_an_immutable_one_stays() {
    let follower = format!("sha256-{}.sig", "0".repeat(64));
    let tags = [
        tag(&follower, 0, None),
        tag("v1", 1, None),
        TagFacts { is_immutable: true, ..tag("v0", 9, None) },
        tag("v-1", 9, None),
    ];
    let found = decided(&[policy("p", last(1), DeleteTags::Others)], &tags);
    assert!(found[0].ends_with("keep, follows the image that it accompanies"), "{}", found[0]);
    assert_eq!(
        found[1..],
        ["v1 keep, p: keep_last = 1", "v0 keep, the tag is immutable", "v-1 delete, p: delete_others = true"]
    );
}

#[test]
fn what_was_pulled_before_pulls_were_noted_counts_as_pulled_then() {
    let keep = KeepRules { pulled_within: Some(DAY * 30), ..KeepRules::default() };
    let policies = [policy("p", keep, DeleteTags::Others)];
    let tags = [tag("old", 500, None)];
    let ago = |days| Some(NOW.saturating_sub(DAY * days));
    for (pulls_noted_since, goes) in [(ago(10), false), (ago(31), true), (None, false)] {
        let conditions = Conditions { now: NOW, pulls_noted_since };
        let mut survey = Survey::new(policies.iter().collect(), conditions);
        for facts in &tags {
            survey.see(facts);
        }
        assert_eq!(survey.finish().of_tag(&tags[0]).deletes(), goes, "{pulls_noted_since:?}");
    }
}

#[test]
fn manifests_without_tags_go_after_the_grace_of_the_first_policy_that_has_one() {
    let with = |name: &str, days| {
        let delete = DeleteRules { tags: DeleteTags::None, untagged_after: Some(DAY * days) };
        RetentionPolicy { delete, ..policy(name, KeepRules::default(), DeleteTags::None) }
    };
    let policies = [policy("tags", last(1), DeleteTags::Others), with("prod", 30), with("all", 1)];
    let verdicts = verdicts(&policies, &[]);
    assert!(verdicts.deletes_untagged());
    let untagged = |since: u32, pulled: Option<u32>| UntaggedFacts {
        since: NOW.saturating_sub(DAY * since),
        pulled_at: pulled.map(|days| NOW.saturating_sub(DAY * days)),
        held_until: NOW,
        is_in_history: false,
    };
    for (facts, goes) in [
        (untagged(31, None), true),
        (untagged(30, None), false),
        (untagged(31, Some(40)), true),
        (untagged(31, Some(29)), false),
    ] {
        let decision = verdicts.of_untagged(facts);
        assert_eq!(decision.deletes(), goes, "{facts:?}");
        assert!(
            decision.reason().ends_with("prod: delete_untagged_after = \"30d\""),
            "{}",
            decision.reason()
        );
    }
    let held = UntaggedFacts { held_until: NOW.saturating_add(DAY), ..untagged(900, None) };
    assert_eq!(verdicts.of_untagged(held), Decision::Keep(KeptBy::Lease));
    let held = UntaggedFacts { is_in_history: true, ..untagged(900, None) };
    assert_eq!(verdicts.of_untagged(held), Decision::Keep(KeptBy::History));
    let none = [policy("tags", last(1), DeleteTags::Others)];
    let verdicts = self::verdicts(&none, &[]);
    assert!(!verdicts.deletes_untagged());
    assert_eq!(verdicts.of_untagged(untagged(900, None)), Decision::Keep(KeptBy::NoRule));
}

#[test]
fn a_clock_that_was_set_back_deletes_nothing_young() {
    let policies = [policy("p", KeepRules::default(), DeleteTags::OlderThan(DAY))];
    let ahead = TagFacts { pushed_at: NOW.saturating_add(DAY * 3), ..tag("ahead", 0, None) };
    assert!(deleted(&policies, &[ahead]).is_empty());
}

#[test]
fn the_last_of_a_million_take_no_more_room_than_the_number_that_is_kept() {
    let mut last = Last::new(NonZeroUsize::new(100).unwrap());
    for at in 0..1_000_000_u64 {
        // Multiplication by an odd number permutes the times.
        let pushed_at = Timestamp::from_millis(at.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let facts = TagFacts { pushed_at, ..tag("t", 0, None) };
        last.see(Rank::by_push(&facts));
    }
    assert_eq!(last.greatest.len(), 100);
    assert!(last.greatest.capacity() < 256);
}

fn tags() -> impl Strategy<Value = Vec<TagFacts>> {
    let name = prop_oneof!["(v|rel-|pr-)?[0-9](\\.[0-9]){0,2}", "[a-d]{1,3}", "sha256-[0]{64}(\\.sig)?",];
    let facts = (name, 0..20_u32, proptest::option::of(0..20_u32), proptest::bool::weighted(0.1)).prop_map(
        |(name, pushed, pulled, is_immutable)| TagFacts { is_immutable, ..tag(&name, pushed, pulled) },
    );
    proptest::collection::vec(facts, 0..40).prop_map(|mut tags| {
        tags.sort_by(|one, other| one.tag.cmp(&other.tag));
        tags.dedup_by(|one, other| one.tag == other.tag);
        tags
    })
}

fn patterns() -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(vec!["v*", "rel-*", "pr-*", "a*", "*1", "*"], 0..3)
}

fn keep_rules() -> impl Strategy<Value = KeepRules> {
    let days = || proptest::option::of((1..20_u32).prop_map(|days| DAY * days));
    let count = || proptest::option::of((1..20_usize).prop_map(|count| NonZeroUsize::new(count).unwrap()));
    let regex = proptest::option::of(proptest::sample::select(vec!["^v[0-9]+$", "a", "[1-3]"]));
    let range = proptest::option::of(proptest::sample::select(vec![">=1", "<2.5", "^3 || ^5"]));
    (patterns(), regex, range, count(), count(), days(), days()).prop_map(
        |(matching, regex, range, last, last_pulled, pushed_within, pulled_within)| KeepRules {
            matching: matching.into_iter().map(|pattern| pattern.parse().unwrap()).collect(),
            regex: regex.map(|regex| regex.parse().unwrap()),
            versions: range.map(|range| range.parse().unwrap()),
            last,
            last_pulled,
            pushed_within,
            pulled_within,
        },
    )
}

fn policies() -> impl Strategy<Value = Vec<RetentionPolicy>> {
    let delete = prop_oneof![
        Just(DeleteTags::None),
        Just(DeleteTags::Others),
        (1..20_u32).prop_map(|days| DeleteTags::OlderThan(DAY * days)),
    ];
    let one = (keep_rules(), delete, patterns(), patterns()).prop_map(|(keep, delete, mut tags, except)| {
        if tags.is_empty() {
            tags.push("*");
        }
        about(policy("p", keep, delete), &tags, &except)
    });
    proptest::collection::vec(one, 0..4)
}

proptest! {
    #[test]
    fn one_more_keep_rule_never_deletes_more(
        tags in tags(), policies in policies(), at in any::<proptest::sample::Index>(), more in keep_rules(), which in 0..7,
    ) {
        let before = deleted(&policies, &tags);
        prop_assume!(!policies.is_empty());
        let mut changed = policies.clone();
        let keep = &mut changed[at.index(policies.len())].keep;
        match which {
            0 => keep.matching.extend(more.matching),
            1 if keep.regex.is_none() => keep.regex = more.regex,
            2 if keep.versions.is_none() => keep.versions = more.versions,
            3 => keep.last = keep.last.max(more.last),
            4 => keep.last_pulled = keep.last_pulled.max(more.last_pulled),
            5 => keep.pushed_within = keep.pushed_within.max(more.pushed_within),
            _ => keep.pulled_within = keep.pulled_within.max(more.pulled_within),
        }
        let after = deleted(&changed, &tags);
        prop_assert!(after.iter().all(|tag| before.contains(tag)), "{before:?} {after:?}");
        let mut longer = policies;
        longer.push(policy("keep", KeepRules { last: more.last, ..KeepRules::default() }, DeleteTags::None));
        let after = deleted(&longer, &tags);
        prop_assert!(after.iter().all(|tag| before.contains(tag)), "{before:?} {after:?}");
    }

    #[test]
    fn the_last_n_are_exactly_n_or_all(tags in tags(), count in 1..30_usize, by_pull: bool) {
        let keep = KeepRules {
            last: NonZeroUsize::new(count).filter(|_| !by_pull),
            last_pulled: NonZeroUsize::new(count).filter(|_| by_pull),
            ..KeepRules::default()
        };
        let tags: Vec<TagFacts> = tags.into_iter().map(|facts| TagFacts { is_immutable: false, ..facts }).collect();
        let counted: Vec<&TagFacts> = tags.iter().filter(|facts| !facts.tag.follows_a_subject()).collect();
        let policies = [policy("p", keep, DeleteTags::Others)];
        let gone = deleted(&policies, &tags);
        prop_assert_eq!(counted.len() - gone.len(), count.min(counted.len()));
        // None that goes is younger than one that stays.
        let time = |facts: &TagFacts| (facts.pulled_at.filter(|_| by_pull), facts.pushed_at);
        let (goes, stays): (Vec<&TagFacts>, Vec<&TagFacts>) =
            counted.into_iter().partition(|facts| gone.contains(&facts.tag.to_string()));
        let youngest = goes.into_iter().map(time).max();
        prop_assert!(stays.into_iter().all(|facts| Some(time(facts)) >= youngest));
    }

    #[test]
    fn the_order_of_the_tags_does_not_matter(tags in tags(), policies in policies(), seed: u64) {
        let mut shuffled = tags.clone();
        shuffled.sort_by_key(|facts| {
            use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
            BuildHasherDefault::<DefaultHasher>::default().hash_one((seed, &facts.tag))
        });
        let (one, other) = (verdicts(&policies, &tags), verdicts(&policies, &shuffled));
        for facts in &tags {
            prop_assert_eq!(one.of_tag(facts), other.of_tag(facts));
        }
    }

    #[test]
    fn nothing_goes_that_no_policy_is_about_or_that_is_not_to_go(tags in tags(), policies in policies()) {
        let verdicts = verdicts(&policies, &tags);
        for facts in &tags {
            if !verdicts.of_tag(facts).deletes() {
                continue;
            }
            prop_assert!(!facts.is_immutable && !facts.tag.follows_a_subject());
            let first = policies
                .iter()
                .find(|policy| policy.is_about(&facts.tag) && policy.delete.tags != DeleteTags::None)
                .expect("a policy deletes it");
            if let DeleteTags::OlderThan(age) = first.delete.tags {
                prop_assert!(NOW.since(facts.pushed_at) > age);
            }
        }
        let keeping: Vec<RetentionPolicy> =
            policies.iter().map(|own| RetentionPolicy { delete: DeleteRules::default(), ..own.clone() }).collect();
        prop_assert!(deleted(&keeping, &tags).is_empty());
    }
}
