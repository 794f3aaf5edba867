//! Exports: what an archive of some images will have, and then the archive.

use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use serde::{Deserialize, Serialize};

use super::Target;
use super::call::{Answer, Call, invalid, json};
use super::imports::refusal;
use crate::http::errors::ApiError;
use crate::proxy::Platform;
use crate::registry::Registry;
use crate::transfer::export::{self, Absent, ArchiveStream, Format, Image, Plan, Planned};

/// How many absent pieces of content an answer names.
const ABSENT_NAMED: usize = 1_000;

/// The body of `POST export/plan` and `POST export/archive`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportImages {
    /// What is written.
    pub format: Format,
    /// The images; a repository alone means all its tags, and with a tag and a digest the one is the name of the other.
    pub images: Vec<Target>,
    /// The one platform that is taken.
    #[serde(default)]
    pub platform: Option<String>,
    /// With what refers to the images.
    #[serde(default)]
    pub referrers: bool,
}

/// What an archive will have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportPlan {
    /// The images.
    pub images: Vec<Planned>,
    /// How many manifests there are.
    pub manifests: u64,
    /// How many blobs.
    pub blobs: u64,
    /// How long the archive is, as a tar file.
    pub bytes: u64,
    /// What is left out, since it isn't here; the first thousand.
    pub absent: Vec<Absent>,
    /// How much that is in all.
    pub absent_count: u64,
}

/// Says what an archive will have.
pub(super) async fn plan_export(mut call: Call) -> Answer {
    let asked: ExportImages = call.json().await?;
    let (plan, stream) = planned(call.registry().clone(), asked).await?;
    json(&ExportPlan { bytes: stream.len(), ..plan })
}

/// Answers with an archive, as a tar file.
pub(super) async fn export_archive(mut call: Call) -> Answer {
    let asked: ExportImages = call.json().await?;
    let (_, stream) = planned(call.registry().clone(), asked).await?;
    let len = stream.len();
    let mut response = Response::new(Body::from_stream(stream.pieces()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
    Ok(response)
}

async fn planned(registry: Registry, asked: ExportImages) -> Result<(ExportPlan, ArchiveStream), ApiError> {
    let ExportImages { format, images, platform, referrers } = asked;
    if images.is_empty() {
        return Err(invalid("name an image"));
    }
    let platform = platform.as_deref().map(str::parse::<Platform>).transpose();
    let platform = platform.map_err(|error| invalid(error.to_string()))?;
    let options = export::Options { format, platform, referrers };
    let images: Vec<Image> = images
        .into_iter()
        .map(|Target { repository, tag, digest }| Image { repository, tag, digest })
        .collect();
    let hold = registry.hold_collection().await;
    let planning = tokio::task::spawn_blocking(move || {
        let plan = export::plan(&registry, &images, &options)?;
        let told = told(&plan);
        ArchiveStream::new(&registry, plan, hold).map(|stream| (told, stream))
    });
    planning.await.map_err(ApiError::failure)?.map_err(refusal)
}

fn told(plan: &Plan) -> ExportPlan {
    ExportPlan {
        images: plan.images.clone(),
        manifests: plan.manifests,
        blobs: plan.blobs,
        bytes: 0,
        absent: plan.absent.iter().take(ABSENT_NAMED).cloned().collect(),
        absent_count: plan.absent.len() as u64,
    }
}
