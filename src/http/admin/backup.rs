//! Snapshots of the registry.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::call::{Answer, Call, invalid};
use super::job::{self, Progress, Unit};
use crate::fsio::RealDisk;
use crate::http::errors::{ApiError, ErrorCode};
use crate::snapshots::{self, Backup, CreateOptions, Error, Snapshot, Step};

/// The body of `POST backup/create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateBackup {
    /// The backup directory, absolute; it is made where it isn't there.
    pub to: PathBuf,
    /// With what is cached of upstreams.
    #[serde(default)]
    pub include_cache: bool,
}

/// Takes a snapshot; ends without one where nobody waits for the answer any more.
pub(super) async fn create_backup(mut call: Call) -> Answer {
    let CreateBackup { to, include_cache } = call.json().await?;
    if !to.is_absolute() {
        return Err(invalid("write the whole path of the backup directory, from / on"));
    }
    let registry = call.registry().clone();
    let runtime = tokio::runtime::Handle::current();
    Ok(job::answer(&call, move |reporter| -> Result<Snapshot, ApiError> {
        let backup = Backup::create(Arc::new(RealDisk), &to)?;
        let hold = runtime.block_on(registry.hold_collection());
        let options = CreateOptions { with_cached: include_cache };
        let mut tell = |progress| reporter.tell(told(progress));
        Ok(snapshots::create(&registry, hold, &backup, options, &mut tell)?)
    }))
}

/// How far the work has come, as clients are told.
pub fn told(progress: snapshots::Progress) -> Progress {
    let (what, unit) = match progress.step {
        Step::Waiting => ("waiting for another process", Unit::Items),
        Step::Metadata => ("metadata", Unit::Items),
        Step::Copying => ("copying", Unit::Bytes),
        Step::Hashing => ("hashing", Unit::Bytes),
        Step::Removing => ("removing", Unit::Bytes),
    };
    Progress { what: what.to_owned(), done: progress.done, total: progress.total, unit }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> ApiError {
        let code = match &error {
            Error::Registry(_) | Error::Metadata(_) => return ApiError::failure(error),
            Error::Stopped => ErrorCode::Unavailable,
            Error::Locked(_) => ErrorCode::Conflict,
            _ => ErrorCode::RequestInvalid,
        };
        ApiError::new(code, error.to_string())
    }
}
