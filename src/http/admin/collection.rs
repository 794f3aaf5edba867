//! Collection: what goes, and what stays why.

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::call::{Answer, Call};
use super::deletions::Deleted;
use super::job::{self, Progress, Unit};
use crate::clock::Timestamp;
use crate::registry::{Collected, CollectionPlan, Root};

/// The body of `POST gc`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Gc {
    /// Remove nothing, and say what would go.
    pub dry_run: bool,
}

/// What went, or would go, and what is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GcAnswer {
    /// Whether nothing was removed.
    pub dry_run: bool,
    /// Deletions that can't be undone any more.
    pub deletions: u64,
    /// Blobs of single repositories that none of their manifests needed.
    pub links: u64,
    /// Manifests that nothing named, and those that followed one that is gone.
    pub manifests: u64,
    /// Tags that followed a manifest that is gone.
    pub tags: u64,
    /// Blobs that no repository has.
    pub blobs: u64,
    /// The bytes of what goes.
    pub bytes: u64,
    /// What still has blobs and manifests that nothing live names.
    pub kept: Kept,
}

/// What is kept although nothing live names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// Deletions that can be undone.
    pub deletions: u64,
    /// Blobs that a push may still name.
    pub leased: u64,
    /// Their bytes.
    pub leased_bytes: u64,
    /// Manifests that neither a tag nor a manifest names.
    pub untagged: u64,
    /// Their bytes, and those of the blobs that only they name.
    pub untagged_bytes: u64,
    /// What keeps what, the first thousand of each kind.
    pub roots: Vec<KeptBy>,
}

/// Something that is kept, and by what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "by")]
pub enum KeptBy {
    /// It can be undeleted.
    Deletion(Deleted),
    /// A push may still name it.
    #[serde(rename_all = "camelCase")]
    Lease {
        /// The repository.
        repository: String,
        /// The blob.
        digest: String,
        /// Its bytes.
        size: u64,
        /// Until when at least.
        until: String,
    },
    /// People may use it by its digest.
    #[serde(rename_all = "camelCase")]
    Untagged {
        /// The repository.
        repository: String,
        /// The manifest.
        digest: String,
        /// Since when nothing names it.
        since: String,
        /// When its grace is over, where there is one.
        until: Option<String>,
        /// The tag whose history holds it, whatever its grace is.
        history_of: Option<String>,
    },
}

/// Removes what is due, or says what would go.
pub(super) async fn gc(mut call: Call) -> Answer {
    let asked: Gc = call.json().await?;
    let registry = call.registry().clone();
    let runtime = Handle::current();
    Ok(job::answer(&call, move |reporter| {
        if asked.dry_run {
            let plan = registry.collection_plan()?;
            return Ok(answer(true, plan.due, plan));
        }
        // It goes on by itself whoever listens, since what is due is due.
        let gone = runtime.block_on(registry.collect(|gone| {
            let _ = reporter.tell(Progress {
                what: "collecting".to_owned(),
                done: gone.bytes,
                total: None,
                unit: Unit::Bytes,
            });
        }))?;
        Ok(answer(false, gone, registry.collection_plan()?))
    }))
}

fn answer(dry_run: bool, gone: Collected, plan: CollectionPlan) -> GcAnswer {
    GcAnswer {
        dry_run,
        deletions: gone.deletions,
        links: gone.links,
        manifests: gone.manifests,
        tags: gone.tags,
        blobs: gone.blobs,
        bytes: gone.bytes,
        kept: Kept {
            deletions: plan.deletions,
            leased: plan.leased.0,
            leased_bytes: plan.leased.1,
            untagged: plan.untagged.0,
            untagged_bytes: plan.untagged.1,
            roots: plan.kept.into_iter().map(KeptBy::from).collect(),
        },
    }
}

impl From<Root> for KeptBy {
    fn from(root: Root) -> KeptBy {
        match root {
            Root::Deletion(deletion) => KeptBy::Deletion(deletion.into()),
            Root::Lease { repository, digest, size, until } => KeptBy::Lease {
                repository: repository.to_string(),
                digest: digest.to_string(),
                size,
                until: until.to_rfc3339(),
            },
            Root::Untagged { repository, digest, since, until, history_of } => KeptBy::Untagged {
                repository: repository.to_string(),
                digest: digest.to_string(),
                since: since.to_rfc3339(),
                until: until.map(Timestamp::to_rfc3339),
                history_of: history_of.map(|tag| tag.to_string()),
            },
        }
    }
}
