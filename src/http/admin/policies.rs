//! The retention policies: what they are, and a run of them.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::call::{Answer, Call, json};
use super::job;
use crate::clock::Timestamp;
use crate::maintenance::{self, Decided, RunOptions};
use crate::oci::{Digest, RepositoryName, Tag};

/// The answer to `GET policies`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    /// The policies, in their order.
    pub policies: Vec<Policy>,
}

/// A retention policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// The patterns of the repositories that it is about.
    pub repositories: String,
    /// The patterns of its tags.
    pub tags: Vec<String>,
    /// The patterns of the tags that it is not about.
    pub except: Vec<String>,
    /// The rules, as the configuration has them.
    pub rules: Vec<String>,
}

/// The body of `POST policies/run`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyRun {
    /// In this repository only.
    pub repository: Option<RepositoryName>,
    /// Change nothing.
    pub dry_run: bool,
}

/// What a run decided about a tag, or about a manifest without tags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyDecision {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag; none for a manifest without tags.
    pub tag: Option<Tag>,
    /// The manifest.
    pub digest: Digest,
    /// When the tag was pushed; since when the manifest has no tag.
    pub pushed_at: String,
    /// When it was last pulled, as far as that is known.
    pub pulled_at: Option<String>,
    /// `keep` or `delete`.
    pub decision: String,
    /// The rule that decided.
    pub rule: String,
}

/// What a run did, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRunAnswer {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// The repositories that a policy is about.
    pub repositories: u64,
    /// The tags that were kept.
    pub kept_tags: u64,
    /// The tags that were deleted, or would be.
    pub deleted_tags: u64,
    /// The manifests without tags that were kept, where a policy is about such.
    pub kept_manifests: u64,
    /// The manifests without tags that were deleted, or would be.
    pub deleted_manifests: u64,
    /// What was to be deleted and stayed, since it has changed meanwhile.
    pub changed: u64,
    /// Whether the server stopped before everything was looked at.
    pub ended_early: bool,
}

/// Shows the policies.
pub(super) fn list_policies(call: &Call) -> Answer {
    let texts = |patterns: &[crate::registry::TagPattern]| patterns.iter().map(ToString::to_string).collect();
    let policies = call.retention().policies.iter().map(|policy| Policy {
        name: policy.name.clone(),
        repositories: policy.repositories.to_string(),
        tags: texts(&policy.tags.patterns),
        except: texts(&policy.tags.except),
        rules: policy.rules().iter().map(ToString::to_string).collect(),
    });
    json(&Policies { policies: policies.collect() })
}

/// Runs the policies; a dry run tells of each tag, another of what it deletes. Ends when nobody waits for the answer any
/// more: what was deleted until then stays deleted.
pub(super) async fn run_policies(mut call: Call) -> Answer {
    let asked: PolicyRun = call.json().await?;
    let options = RunOptions { repository: asked.repository, dry_run: asked.dry_run };
    let (registry, retention) = (call.registry().clone(), call.retention().clone());
    let runtime = Handle::current();
    Ok(job::answer(&call, move |reporter| {
        let tell = |decided: Decided| {
            let (reporter, is_told) = (reporter.clone(), decided.deletes || options.dry_run);
            async move {
                if is_told {
                    reporter.send(row(decided)).await
                } else if reporter.is_over() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            }
        };
        let report = runtime.block_on(maintenance::run(&registry, &retention, &options, tell))?;
        Ok(PolicyRunAnswer {
            dry_run: options.dry_run,
            repositories: report.repositories,
            kept_tags: report.kept_tags,
            deleted_tags: report.deleted_tags,
            kept_manifests: report.kept_manifests,
            deleted_manifests: report.deleted_manifests,
            changed: report.changed,
            ended_early: report.ended_early,
        })
    }))
}

fn row(decided: Decided) -> PolicyDecision {
    PolicyDecision {
        repository: decided.repository,
        tag: decided.tag,
        digest: decided.digest,
        pushed_at: decided.since.to_rfc3339(),
        pulled_at: decided.pulled_at.map(Timestamp::to_rfc3339),
        decision: if decided.deletes { "delete" } else { "keep" }.to_owned(),
        rule: decided.reason,
    }
}
