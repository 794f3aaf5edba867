//! Images that are fetched by the clock.

use std::time::Duration;

use super::{Cache, ImageSelection, Platforms};

/// The time from the start to the first run, which leaves the first moments to those who wait.
const FIRST: Duration = Duration::from_secs(30);

/// Which images are fetched by themselves, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncSettings {
    /// The images.
    pub images: Vec<ImageSelection>,
    /// The platforms of them.
    pub platforms: Platforms,
    /// The time from the end of one run to the start of the next.
    pub every: Duration,
}

impl Default for SyncSettings {
    fn default() -> SyncSettings {
        let platforms = Platforms::These(vec![super::Platform::own()]);
        SyncSettings { images: Vec::new(), platforms, every: Duration::from_secs(6 * 60 * 60) }
    }
}

/// Fetches the images of the settings again and again; without any does nothing. Never ends; what is being fetched when this
/// is dropped goes on by itself.
pub async fn sync_on_schedule(cache: Cache) {
    let sync = &cache.settings().sync;
    if sync.images.is_empty() || sync.every.is_zero() {
        return std::future::pending().await;
    }
    let mut pause = sync.every.min(FIRST);
    loop {
        tokio::time::sleep(pause).await;
        pause = sync.every;
        for images in &sync.images {
            match cache.pull(images, &sync.platforms, |_| {}).await {
                Ok(pulled) => {
                    let fetched: u64 = pulled.iter().map(|image| image.fetched).sum();
                    tracing::info!(%images, images = pulled.len(), fetched_bytes = fetched, "images are up to date");
                }
                Err(error) => {
                    tracing::warn!(%images, %error, "images could not be fetched; the next run tries again");
                }
            }
        }
    }
}
