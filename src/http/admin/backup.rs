//! Snapshots of the registry.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};

use super::call::{Answer, Call, invalid};
use super::job::{self, Progress, Unit};
use crate::fsio::RealDisk;
use crate::http::errors::{ApiError, ErrorCode};
use crate::snapshots::{
    self, Backup, BackupOptions, CreateOptions, Error, Location, PartsOptions, PartsTell, RestoredItem,
    RestoredParts, S3Options, Selection, Snapshot, Step,
};

/// The body of `POST backup/create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateBackup {
    /// Where to: a directory by its whole path, or `s3://bucket/prefix`; a backup is made where there is none.
    pub to: Location,
    /// With what is cached of upstreams.
    #[serde(default)]
    pub include_cache: bool,
    /// Take blobs by hard links where that can be done, so that the registry and the backup share the files.
    #[serde(default)]
    pub link: bool,
    /// How a store that speaks S3 is reached. Its keys are those of this process, or in a file that it can read.
    #[serde(default)]
    pub s3: S3Options,
    /// The age recipients that it is encrypted to.
    #[serde(default)]
    pub encrypt_to: Vec<String>,
}

/// Takes a snapshot; ends without one where nobody waits for the answer any more.
pub(super) async fn create_backup(mut call: Call) -> Answer {
    let CreateBackup { to, include_cache, link, s3, encrypt_to } = call.json().await?;
    if !to.is_absolute() {
        return Err(invalid("write the whole path of the backup directory, from / on"));
    }
    let registry = call.registry().clone();
    let runtime = tokio::runtime::Handle::current();
    Ok(job::answer(&call, move |reporter| -> Result<Snapshot, ApiError> {
        let place = BackupOptions { s3, encrypt_to, ..BackupOptions::default() };
        let backup = Backup::create_at(Arc::new(RealDisk), &to, &place)?;
        let hold = runtime.block_on(registry.hold_collection());
        let options = CreateOptions { with_cached: include_cache, link };
        let mut tell = |progress| reporter.tell(told(progress));
        Ok(snapshots::create(&registry, hold, &backup, options, &mut tell)?)
    }))
}

/// The body of `POST backup/restore`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoreBackup {
    /// Where the backup is: a directory by its whole path, or `s3://bucket/prefix`.
    pub from: Location,
    /// How a store that speaks S3 is reached. Its keys are those of this process, or in a file that it can read.
    #[serde(default)]
    pub s3: S3Options,
    /// The files with the age identities that open it, absolute; this process has to be able to read them.
    #[serde(default)]
    pub identities: Vec<PathBuf>,
    /// The snapshot: its name, its number, or `latest`.
    pub snapshot: String,
    /// Patterns of repositories.
    #[serde(default)]
    pub repositories: Vec<String>,
    /// Patterns of tags of repositories, `team/app:v*`.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Move tags that point elsewhere.
    #[serde(default)]
    pub force: bool,
    /// Change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// Restores some repositories and tags; ends when nobody waits for the answer any more: what came until then stays.
pub(super) async fn restore_backup(mut call: Call) -> Answer {
    let asked: RestoreBackup = call.json().await?;
    if !asked.from.is_absolute() {
        return Err(invalid("write the whole path of the backup directory, from / on"));
    }
    let wanted = Selection { repositories: parsed(&asked.repositories)?, tags: parsed(&asked.tags)? };
    if wanted.is_empty() {
        return Err(invalid("say which repositories or tags; `**` is every repository"));
    }
    let options = PartsOptions { wanted, force: asked.force, dry_run: asked.dry_run, actor: call.actor() };
    let registry = call.registry().clone();
    let runtime = tokio::runtime::Handle::current();
    Ok(job::answer(&call, move |reporter| -> Result<RestoredParts, ApiError> {
        let place = BackupOptions { s3: asked.s3, identities: asked.identities, ..BackupOptions::default() };
        let backup = Backup::open_at(Arc::new(RealDisk), &asked.from, &place)?;
        let name = backup.find(&asked.snapshot)?;
        let teller = reporter.clone();
        let tell: PartsTell = Arc::new(move |progress| teller.tell(told(progress)));
        let hear = |item: RestoredItem| {
            let reporter = reporter.clone();
            // Whether it should end, the progress says.
            async move {
                let _ = reporter.send(item).await;
            }
            .boxed()
        };
        Ok(runtime.block_on(snapshots::restore_parts(&registry, &backup, &name, &options, tell, &hear))?)
    }))
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(patterns: &[String]) -> Result<Vec<T>, ApiError> {
    let parse = |pattern: &String| pattern.parse().map_err(|error| invalid(format!("{pattern}: {error}")));
    patterns.iter().map(parse).collect()
}

/// How far the work has come, as clients are told.
pub fn told(progress: snapshots::Progress) -> Progress {
    let (what, unit) = match progress.step {
        Step::Waiting => ("waiting for another process", Unit::Items),
        Step::Metadata => ("metadata", Unit::Items),
        Step::Copying => ("copying", Unit::Bytes),
        Step::Hashing => ("hashing", Unit::Bytes),
        Step::Removing => ("removing", Unit::Bytes),
        Step::Images => ("images", Unit::Items),
    };
    Progress { what: what.to_owned(), done: progress.done, total: progress.total, unit }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> ApiError {
        let code = match &error {
            Error::Registry(_) | Error::Metadata(_) => return ApiError::failure(error),
            Error::Stopped | Error::Remote { .. } => ErrorCode::Unavailable,
            Error::Locked(_) | Error::LostLock(_) => ErrorCode::Conflict,
            _ => ErrorCode::RequestInvalid,
        };
        ApiError::new(code, error.to_string())
    }
}
