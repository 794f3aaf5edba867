//! One run of the retention policies.

use std::ops::ControlFlow;

use futures_util::future::try_join_all;

use super::retention::{
    Conditions, Decision, Retention, RetentionPolicy, Survey, TagFacts, UntaggedFacts, Verdicts,
};
use crate::clock::Timestamp;
use crate::oci::{Digest, RepositoryName, Tag};
use crate::registry::{Actor, Error, ExpiryService, Registry, TagState, UntaggedState};

/// Who deletes, as the list of deletions and events name it.
pub const ACTOR: &str = "retention";

/// How many tags or manifests one step reads.
const PAGE: usize = 1_000;

/// How many deletions are under way at once, which share their commits with whoever else writes.
const DELETIONS: usize = 16;

/// What to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// In this repository only.
    pub repository: Option<RepositoryName>,
    /// Change nothing.
    pub dry_run: bool,
}

/// What was decided about a tag, or about a manifest without tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag; none for a manifest without tags.
    pub tag: Option<Tag>,
    /// The manifest's canonical digest.
    pub digest: Digest,
    /// When the tag was set; since when the manifest has no tag.
    pub since: Timestamp,
    /// When it was last pulled, as far as that is known.
    pub pulled_at: Option<Timestamp>,
    /// Whether it goes.
    pub deletes: bool,
    /// The rule that decided.
    pub reason: String,
}

/// What a run did, or would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunReport {
    /// The repositories that a policy is about.
    pub repositories: u64,
    /// The tags that were kept.
    pub kept_tags: u64,
    /// The tags that were deleted.
    pub deleted_tags: u64,
    /// The manifests without tags that were kept, where a policy is about such.
    pub kept_manifests: u64,
    /// The manifests without tags that were deleted.
    pub deleted_manifests: u64,
    /// What was to be deleted and stayed, since it has changed after it was decided.
    pub changed: u64,
    /// Whether the run was ended before it had seen everything.
    pub ended_early: bool,
}

/// Runs the policies. `tell` hears of each decision, of a deletion when it is durable, and may take its time and end the run.
///
/// Reads a page at a time and deletes a few at a time, so that nobody waits long for either. What changes meanwhile is
/// left alone. In memory are a page and what the rules about the last N need.
pub async fn run<T, F>(
    registry: &Registry,
    retention: &Retention,
    options: &RunOptions,
    mut tell: T,
) -> Result<RunReport, Error>
where
    T: FnMut(Decided) -> F + Send,
    F: Future<Output = ControlFlow<()>> + Send,
{
    let mut report = RunReport::default();
    if let Some(name) = &options.repository {
        let pass = Pass::new(registry, name, options.dry_run)?;
        report.ended_early = pass.run(retention, &mut report, &mut tell).await?.is_break();
        return Ok(report);
    }
    let namespace = registry.namespace();
    let mut after: Option<RepositoryName> = None;
    loop {
        let page = namespace.repositories(after.as_ref().map(RepositoryName::as_str), PAGE)?;
        for name in &page.items {
            let pass = Pass::new(registry, name, options.dry_run)?;
            if pass.run(retention, &mut report, &mut tell).await?.is_break() {
                report.ended_early = true;
                return Ok(report);
            }
        }
        after = page.items.last().cloned();
        if !page.more {
            return Ok(report);
        }
    }
}

/// A run over one repository.
struct Pass<'a> {
    name: &'a RepositoryName,
    expiry: ExpiryService,
    dry_run: bool,
    actor: Actor,
    /// Whether it is a copy of an upstream's, which no policy is about.
    is_cached: bool,
}

/// What a decision is about.
enum Subject {
    Tag(TagState),
    Untagged(UntaggedState),
}

impl<'a> Pass<'a> {
    fn new(registry: &Registry, name: &'a RepositoryName, dry_run: bool) -> Result<Pass<'a>, Error> {
        let repository = registry.namespace().repository(name);
        let (expiry, is_cached) = (repository.expiry(), repository.is_cached()?);
        Ok(Pass { name, expiry, dry_run, actor: Actor::new(ACTOR), is_cached })
    }

    async fn run<T, F>(
        &self,
        retention: &Retention,
        report: &mut RunReport,
        tell: &mut T,
    ) -> Result<ControlFlow<()>, Error>
    where
        T: FnMut(Decided) -> F + Send,
        F: Future<Output = ControlFlow<()>> + Send,
    {
        let policies = retention.of_repository(self.name);
        if policies.is_empty() || self.is_cached {
            return Ok(ControlFlow::Continue(()));
        }
        report.repositories += 1;
        let verdicts = self.survey(policies).await?;
        let mut last_tag: Option<Tag> = None;
        loop {
            let page = self.expiry.tags(last_tag.as_ref(), PAGE)?;
            last_tag = page.items.last().map(|state| state.tag.clone());
            let subjects = page.items.into_iter().map(Subject::Tag).collect();
            if self.decide(&verdicts, subjects, report, tell).await?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if !page.more {
                break;
            }
        }
        let mut last_digest: Option<Digest> = None;
        while verdicts.deletes_untagged() {
            let page = self.expiry.untagged(last_digest.as_ref(), PAGE)?;
            last_digest = page.items.last().map(|state| state.digest);
            let subjects = page.items.into_iter().map(Subject::Untagged).collect();
            if self.decide(&verdicts, subjects, report, tell).await?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if !page.more {
                break;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Looks at all tags, where a rule counts them.
    async fn survey<'r>(&self, policies: Vec<&'r RetentionPolicy>) -> Result<Verdicts<'r>, Error> {
        let conditions =
            Conditions { now: self.expiry.now(), pulls_noted_since: self.expiry.pulls_noted_since()? };
        let mut survey = Survey::new(policies, conditions);
        let mut last: Option<Tag> = None;
        while survey.counts() {
            let page = self.expiry.tags(last.as_ref(), PAGE)?;
            for state in &page.items {
                survey.see(&facts(state));
            }
            last = page.items.last().map(|state| state.tag.clone());
            if !page.more {
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok(survey.finish())
    }

    /// Decides about a page, and deletes what goes.
    async fn decide<T, F>(
        &self,
        verdicts: &Verdicts<'_>,
        subjects: Vec<Subject>,
        report: &mut RunReport,
        tell: &mut T,
    ) -> Result<ControlFlow<()>, Error>
    where
        T: FnMut(Decided) -> F + Send,
        F: Future<Output = ControlFlow<()>> + Send,
    {
        tokio::task::yield_now().await;
        for subjects in subjects.chunks(DELETIONS) {
            let decided = subjects.iter().map(|subject| self.decide_one(verdicts, subject));
            for (subject, decided) in subjects.iter().zip(try_join_all(decided).await?) {
                let Some(decided) = decided else {
                    report.changed += 1;
                    continue;
                };
                let count = match (subject, decided.deletes) {
                    (Subject::Tag(_), false) => &mut report.kept_tags,
                    (Subject::Tag(_), true) => &mut report.deleted_tags,
                    (Subject::Untagged(_), false) => &mut report.kept_manifests,
                    (Subject::Untagged(_), true) => &mut report.deleted_manifests,
                };
                *count += 1;
                if tell(decided).await.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Decides about one, and deletes it if it goes; `None` where it was to go and has changed.
    async fn decide_one(&self, verdicts: &Verdicts<'_>, subject: &Subject) -> Result<Option<Decided>, Error> {
        let (decision, reason) = match subject {
            Subject::Tag(state) => spoken(verdicts.of_tag(&facts(state))),
            Subject::Untagged(state) => spoken(verdicts.of_untagged(UntaggedFacts {
                since: state.since,
                pulled_at: state.pulled_at,
                held_until: state.held_until,
                is_in_history: state.is_in_history,
            })),
        };
        if decision && !self.dry_run {
            let is_gone = match subject {
                Subject::Tag(state) => self.expiry.expire_tag(state, &self.actor, &reason).await?,
                Subject::Untagged(state) => self.expiry.expire_untagged(state, &self.actor, &reason).await?,
            };
            if !is_gone {
                return Ok(None);
            }
        }
        let (tag, digest, since, pulled_at) = match subject {
            Subject::Tag(state) => (Some(state.tag.clone()), state.digest, state.pushed_at, state.pulled_at),
            Subject::Untagged(state) => (None, state.digest, state.since, state.pulled_at),
        };
        let repository = self.name.clone();
        Ok(Some(Decided { repository, tag, digest, since, pulled_at, deletes: decision, reason }))
    }
}

fn spoken(decision: Decision<'_>) -> (bool, String) {
    (decision.deletes(), decision.reason())
}

fn facts(state: &TagState) -> TagFacts {
    TagFacts {
        tag: state.tag.clone(),
        pushed_at: state.pushed_at,
        pulled_at: state.pulled_at,
        is_immutable: state.is_immutable,
    }
}
