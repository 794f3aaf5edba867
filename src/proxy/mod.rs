//! The pull-through cache: other registries' content, kept beside one's own.
//!
//! [`Cache::locate`] says whose a name is. What belongs to an upstream lies in the registry under `<host>/<path>`, whichever
//! way it was asked for, and a [`CachedRepository`] sees to it that what is asked for is there, by asking the upstream where
//! need be: once for all who wait, and never for what a digest names and the registry has.

mod absent;
mod blobs;
mod cache;
mod circuit;
mod error;
mod eviction;
mod fetching;
mod flights;
mod heads;
mod host;
mod image;
mod listings;
mod manifests;
mod place;
mod pull;
mod settings;
mod status;
mod streamed;
mod sync;
mod told;
mod transfer;
mod upstream;

pub use blobs::BlobSource;
pub use cache::Cache;
pub use error::Error;
pub use host::{HostError, folder, parse_host};
pub use image::{ImageSelection, ImageSelectionError, Platform, PlatformError, Platforms, Versions};
pub use manifests::Headed;
pub use place::{CachedRepository, Outcome, Place, Purpose, Source};
pub use pull::{BlobProgress, PulledImage};
pub use settings::{FetchLimits, ImagePattern, ImagePatternError, Settings, UpstreamSettings};
pub use status::{UpstreamState, UpstreamStatus};
pub use streamed::{StreamedBlob, StreamedReader};
pub use sync::{SyncSettings, sync_on_schedule};
