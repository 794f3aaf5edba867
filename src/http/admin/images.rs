//! Images that are fetched into the cache before anybody asks for them.

use serde::{Deserialize, Serialize};

use super::call::{Answer, Call};
use super::job::{self, Progress, Unit};
use crate::http::errors::ApiError;
use crate::oci::Digest;
use crate::proxy::{BlobProgress, Error, ImageSelection, Platform, Platforms, PulledImage};

/// The body of `POST cache/pull`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PullImages {
    /// The images, as people write them: with a tag, a digest, a pattern of tags or a range of versions.
    pub images: Vec<String>,
    /// The platforms that are wanted, such as `linux/amd64`; `all` for all of them. Without one it is the server's own.
    #[serde(default)]
    pub platforms: Vec<String>,
}

/// The images that are here now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PulledImages {
    /// Each of them.
    pub images: Vec<Pulled>,
}

/// An image that is here now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pulled {
    /// Its name, with tag or digest.
    pub image: String,
    /// The digest of its manifest or index.
    pub digest: Digest,
    /// How many manifests it has, of the platforms that were wanted.
    pub manifests: usize,
    /// How many blobs these have.
    pub blobs: usize,
    /// The bytes of these blobs.
    pub bytes: u64,
    /// Those of them that were fetched just now.
    pub fetched: u64,
    /// Those of them that are too large to be kept.
    pub not_kept: u64,
}

impl From<PulledImage> for Pulled {
    fn from(image: PulledImage) -> Self {
        let PulledImage { image, digest, manifests, blobs, bytes, fetched, not_kept } = image;
        Self { image, digest, manifests, blobs, bytes, fetched, not_kept }
    }
}

/// Fetches images; what is on its way when nobody waits for the answer any more still comes.
pub(super) async fn pull_images(mut call: Call) -> Answer {
    let asked: PullImages = call.json().await?;
    let Some(cache) = call.cache().cloned() else {
        let message = "no upstream is configured; name one, for example `cache = [\"docker.io\"]`";
        return Err(super::call::invalid(message));
    };
    let images = asked.images.iter().map(|image| {
        image.parse::<ImageSelection>().map_err(|error| super::call::invalid(format!("{image}: {error}")))
    });
    let images: Vec<ImageSelection> = images.collect::<Result<_, _>>()?;
    let platforms = match &asked.platforms[..] {
        [] => Platforms::These(vec![Platform::own()]),
        some => some.join(",").parse().map_err(|error: crate::proxy::PlatformError| {
            super::call::invalid(format!("{}: {error}", some.join(",")))
        })?,
    };
    let runtime = tokio::runtime::Handle::current();
    Ok(job::answer(&call, move |reporter| {
        let tell = |BlobProgress { digest, received, size }: BlobProgress| {
            let what = format!("{:.19}", digest.to_string());
            // The pull ends where nobody waits for it, below.
            let _ = reporter.tell(Progress { what, done: received, total: Some(size), unit: Unit::Bytes });
        };
        runtime.block_on(async {
            let pull = async {
                let mut pulled = PulledImages { images: Vec::new() };
                for images in &images {
                    let came = cache.pull(images, &platforms, tell).await?;
                    pulled.images.extend(came.into_iter().map(Pulled::from));
                }
                Ok::<_, Error>(pulled)
            };
            tokio::select! {
                pulled = pull => pulled.map_err(ApiError::from),
                () = reporter.over() => Err(stopped()),
            }
        })
    }))
}

fn stopped() -> ApiError {
    let message = "the server stops, or nobody waits; what is on its way goes on with the next pull";
    ApiError::new(crate::http::errors::ErrorCode::Unavailable, message)
}
