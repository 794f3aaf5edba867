//! Content that comes from elsewhere than a push, and goes elsewhere than to a pull.
//!
//! [`distribution`] reads the store of another registry, in place; [`layout`] and [`docker`] read archives, and [`peer`] asks
//! another registry over HTTP. Each of these three is a source that says which images it has and hands out their bytes; one
//! copier takes them: children before what names them, blobs side by side, tags last, everything through the services
//! of the registry, so that quotas, immutable tags, events and leases hold as for pushes. [`export`] writes archives.
//!
//! What can't be taken is told of by its path or name, and the rest comes. What is here already isn't read again.

mod children;
mod copier;
pub mod distribution;
pub mod docker;
mod error;
pub mod export;
mod files;
mod image_name;
pub mod layout;
pub mod peer;
mod refusal;
mod report;
mod tar_file;
mod turns;

use std::ops::ControlFlow;

use futures_util::future::BoxFuture;

pub use copier::Options;
pub use error::Error;
pub use files::Files;
pub use image_name::{As, AsError};
pub use report::{Report, Skipped, Told};

/// Hears of each step, and says whether the work goes on.
pub type Tell<'t> = dyn Fn(Told) -> BoxFuture<'static, ControlFlow<()>> + 't;
