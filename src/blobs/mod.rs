//! The content-addressed directory of blob bytes.
//!
//! ```text
//! blobs/<algorithm>/<first two hex digits>/<hex digits>   published, immutable
//! uploads/<id>                                             being written
//! quarantine/<algorithm>-<hex digits>                      damaged, for a human to look at
//! ```
//!
//! A published file is complete and durable, always: [`BlobStore::publish`] syncs the bytes, renames, and syncs the
//! directory before it returns. Which published files *exist* for anybody is the database's to say. Everything here
//! blocks, except waiting for a digest's lock.

mod layout;
mod locks;
mod reader;
mod staged;
mod store;
mod upload_id;

#[cfg(test)]
mod power_cut;

pub use locks::DigestGuard;
pub use reader::BlobFile;
pub use staged::{Checkpoint, StagedBlob, StagedSync};
pub use store::BlobStore;
pub use upload_id::{UploadId, UploadIdError};
