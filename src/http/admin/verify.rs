//! The check of everything that is stored.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::call::{Answer, Call};
use super::job::{self, Progress, Unit};
use crate::oci::{Digest, Tag};
use crate::registry::{AffectedImage, DamagedBlob, Depth, Treatment, VerifyOptions, VerifyProgress};

/// The body of `POST verify`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command")]
pub struct Verify {
    /// Look at files' sizes only.
    pub quick: bool,
    /// The most bytes of blobs that are read in a second.
    pub rate: Option<NonZeroU64>,
    /// Go on where the last full check was interrupted.
    pub resume: bool,
    /// Change nothing: leave damaged files where they are.
    pub dry_run: bool,
    /// Mend what can be derived, and remove files that nothing names.
    pub repair: bool,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyAnswer {
    /// Whether nothing is wrong. Left-over files are not wrong.
    pub clean: bool,
    /// What is wrong, each a sentence; the first thousand.
    pub problems: Vec<String>,
    /// How many problems there are beyond those.
    pub unlisted_problems: u64,
    /// Files that nothing names; the first thousand.
    pub orphans: Vec<String>,
    /// How many such files there are beyond those.
    pub unlisted_orphans: u64,
    /// The damaged blobs; the first thousand.
    pub damaged: Vec<Damaged>,
    /// How many damaged blobs there are beyond those.
    pub unlisted_damaged: u64,
    /// What was wrong and has been mended; the first thousand.
    pub repaired: Vec<String>,
    /// How much was mended beyond that.
    pub unlisted_repaired: u64,
    /// How many repositories there are.
    pub repositories: u64,
    /// How many blobs there are.
    pub blobs: u64,
    /// The bytes of all blobs.
    pub bytes: u64,
    /// How many revisions there are, counted in each repository.
    pub manifests: u64,
    /// How many tags there are.
    pub tags: u64,
    /// Whether the metadata were compared with their own checksums, which is not done beside a server.
    pub checksums: bool,
}

/// A damaged blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Damaged {
    /// Its canonical digest.
    pub digest: Digest,
    /// The length that it should have.
    pub size: u64,
    /// When that was found.
    pub found_at: String,
    /// What is wrong.
    pub reason: String,
    /// The images that need it; the first hundred.
    pub images: Vec<Image>,
    /// How many images need it beyond those.
    pub unlisted_images: u64,
}

/// A manifest that names a damaged blob, itself or by another manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The repository.
    pub repository: String,
    /// Whether it is deleted there, and could be undeleted.
    pub deleted: bool,
    /// The manifest; none where the repository has the blob and no manifest names it.
    pub manifest: Option<Digest>,
    /// The manifest's tags.
    pub tags: Vec<Tag>,
}

impl From<DamagedBlob> for Damaged {
    fn from(blob: DamagedBlob) -> Self {
        let image = |image: AffectedImage| Image {
            repository: image.repository,
            deleted: image.is_deleted,
            manifest: image.manifest,
            tags: image.tags,
        };
        Self {
            digest: blob.digest,
            size: blob.size,
            found_at: blob.found_at.to_rfc3339(),
            reason: blob.reason,
            images: blob.images.into_iter().map(image).collect(),
            unlisted_images: blob.unlisted_images,
        }
    }
}

/// Checks everything; ends when nobody waits for the answer any more.
pub(super) async fn verify(mut call: Call) -> Answer {
    let asked: Verify = call.json().await?;
    let depth = if asked.quick { Depth::Quick } else { Depth::Full };
    let is_alone = call.running().is_none();
    let treatment = match (asked.dry_run, asked.repair) {
        (true, _) => Treatment::Report,
        (false, false) => Treatment::Quarantine,
        (false, true) => Treatment::Repair,
    };
    let options = VerifyOptions { depth, rate: asked.rate, resume: asked.resume, treatment, is_alone };
    let registry = call.registry().clone();
    Ok(job::answer(&call, move |reporter| {
        let told = |progress: VerifyProgress| {
            reporter.tell(match depth {
                Depth::Quick => Progress {
                    what: "looking at files".to_owned(),
                    done: progress.blobs,
                    total: Some(progress.total_blobs),
                    unit: Unit::Items,
                },
                Depth::Full => Progress {
                    what: "hashing".to_owned(),
                    done: progress.bytes,
                    total: Some(progress.total_bytes),
                    unit: Unit::Bytes,
                },
            })
        };
        let report = registry.verify_with(&options, told)?;
        Ok(VerifyAnswer {
            clean: report.is_clean(),
            problems: report.problems,
            unlisted_problems: report.unlisted_problems,
            orphans: report.orphans,
            unlisted_orphans: report.unlisted_orphans,
            damaged: report.damaged.into_iter().map(Damaged::from).collect(),
            unlisted_damaged: report.unlisted_damaged,
            repaired: report.repaired,
            unlisted_repaired: report.unlisted_repaired,
            repositories: report.repositories,
            blobs: report.blobs,
            bytes: report.bytes,
            manifests: report.manifests,
            tags: report.tags,
            checksums: is_alone && depth == Depth::Full,
        })
    }))
}
