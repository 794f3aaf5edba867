//! Retention: which tags of a repository stay, and which go.
//!
//! Everything here is pure: facts about tags come in, in any order, and a [`Decision`] about each comes out, with the rule
//! that decided. Two passes need memory for the last N alone, however many tags there are: a [`Survey`] sees all of
//! them, then its [`Verdicts`] decide about each.
//!
//! A tag that a keep rule of any policy keeps, stays. Of the others, the first policy that is about the tag and deletes
//! tags at all decides alone. So a mistake in the order of policies keeps too much, never too little, and a policy
//! without a delete rule deletes nothing.

mod decision;
mod policy;
mod survey;
mod tag_regex;

pub use decision::{Decision, KeptBy, Rule, Ruling};
pub use policy::{DeleteRules, DeleteTags, KeepRules, Retention, RetentionPolicy};
pub use survey::{Conditions, Survey, TagFacts, UntaggedFacts, Verdicts};
pub use tag_regex::{TagRegex, TagRegexError};
