//! Imports from the stores of other registries.

use std::ops::ControlFlow;
use std::path::PathBuf;

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::call::{Answer, Call, invalid};
use super::job::{self, Progress, Reporter, Unit};
use crate::http::errors::ApiError;
use crate::transfer::distribution::{self, Error, Options, Report, Told};

/// The body of `POST import/distribution`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command")]
pub struct ImportDistribution {
    /// The directory with the tree, an absolute path where the registry runs.
    pub directory: PathBuf,
    /// Patterns of the repositories; all without any.
    #[serde(default)]
    pub repositories: Vec<String>,
    /// Take blobs by hard links where that can be done.
    #[serde(default)]
    pub link: bool,
    /// Hash also what is not copied.
    #[serde(default)]
    pub verify: bool,
    /// Take layers that no manifest names too.
    #[serde(default)]
    pub all_layers: bool,
    /// Change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// Something that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportSkipped {
    /// Where it lies.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// What came, or would come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportAnswer {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// The repositories that were looked at.
    pub repositories: u64,
    /// The manifests that came.
    pub manifests: u64,
    /// Those of them that are indexes which name manifests that aren't there.
    pub sparse_indexes: u64,
    /// The manifests that were here before.
    pub known_manifests: u64,
    /// The tags that were set.
    pub tags: u64,
    /// The tags that were here before and point to the same.
    pub known_tags: u64,
    /// The signatures of schema 1 manifests that came.
    pub signatures: u64,
    /// The blobs whose bytes came.
    pub blobs: u64,
    /// These bytes.
    pub bytes: u64,
    /// Those of them that were copied, and not cloned or linked.
    pub copied_bytes: u64,
    /// The blobs that another repository had.
    pub linked_blobs: u64,
    /// The layers that no manifest names and that were left out.
    pub unnamed_layers: u64,
    /// The bytes of these.
    pub unnamed_bytes: u64,
    /// How many things could not be taken, each of which was told of.
    pub skipped: u64,
    /// Whether it ended before everything was looked at.
    pub ended_early: bool,
}

/// Imports the tree of a distribution registry; ends when nobody waits for the answer any more: what came until then stays.
pub(super) async fn import_distribution(mut call: Call) -> Answer {
    let asked: ImportDistribution = call.json().await?;
    if !asked.directory.is_absolute() {
        return Err(invalid("name the directory by its absolute path"));
    }
    let patterns = asked.repositories.iter();
    let patterns =
        patterns.map(|pattern| pattern.parse().map_err(|error| invalid(format!("{pattern}: {error}"))));
    let options = Options {
        repositories: patterns.collect::<Result<_, _>>()?,
        link: asked.link,
        verify: asked.verify,
        all_layers: asked.all_layers,
        dry_run: asked.dry_run,
        actor: call.actor(),
    };
    let registry = call.registry().clone();
    let runtime = Handle::current();
    Ok(job::answer(&call, move |reporter| {
        let tell = |told| hear(reporter.clone(), told).boxed();
        let importing = distribution::import(&registry, &asked.directory, &options, &tell);
        let report = runtime.block_on(importing).map_err(refusal)?;
        Ok(answer(report, options.dry_run))
    }))
}

async fn hear(reporter: Reporter, told: Told) -> ControlFlow<()> {
    let progress = |what: &str, done, total, unit| Progress { what: what.to_owned(), done, total, unit };
    match told {
        Told::Looking(repositories) => {
            reporter.tell(progress("looking at repositories", repositories, None, Unit::Items))
        }
        Told::Importing(done, total) => reporter.tell(progress("importing", done, Some(total), Unit::Bytes)),
        Told::Skipped(skipped) => {
            let path = skipped.path.to_string_lossy().into_owned();
            reporter.send(ImportSkipped { path, reason: skipped.reason }).await
        }
    }
}

fn refusal(error: Error) -> ApiError {
    match error {
        Error::NoStore(_) | Error::Unreadable(_) => invalid(error.to_string()),
        Error::Registry(error) => error.into(),
    }
}

fn answer(report: Report, dry_run: bool) -> ImportAnswer {
    ImportAnswer {
        dry_run,
        repositories: report.repositories,
        manifests: report.manifests,
        sparse_indexes: report.sparse_indexes,
        known_manifests: report.known_manifests,
        tags: report.tags,
        known_tags: report.known_tags,
        signatures: report.signatures,
        blobs: report.blobs,
        bytes: report.bytes,
        copied_bytes: report.copied_bytes,
        linked_blobs: report.linked_blobs,
        unnamed_layers: report.unnamed_layers,
        unnamed_bytes: report.unnamed_bytes,
        skipped: report.skipped,
        ended_early: report.ended_early,
    }
}
