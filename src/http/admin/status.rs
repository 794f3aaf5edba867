//! What runs, and what it holds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cache::{self, CacheStatus};
use super::call::{Answer, Call, json};
use super::schedule::{self, BackupState};
use crate::clock::Timestamp;
use crate::registry::Error;

/// A certificate that ends within this time should have been renewed.
const RENEWAL: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The answer to `GET status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The server; none where no server runs.
    pub server: Option<Server>,
    /// The version of the program that answers.
    pub version: String,
    /// The repositories that have or had content.
    pub repositories: u64,
    /// The revisions of manifests, counted in each repository.
    pub manifests: u64,
    /// The tags.
    pub tags: u64,
    /// The blobs, each once, damaged ones and those of deletions that can be undone included.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Those of them that are damaged, as far as was found.
    pub damaged: u64,
    /// What was deleted and can come back.
    pub deletions: u64,
    /// The manifests that neither a tag nor a manifest names.
    pub untagged: u64,
    /// What their collection would free; at least, where there are more than a thousand.
    pub untagged_bytes: u64,
    /// The length of the metadata's file.
    pub metadata_bytes: u64,
    /// The open uploads.
    pub uploads: u64,
    /// The file system.
    pub disk: Disk,
    /// The events that wait for those who listen.
    pub events: Events,
    /// How collection does.
    pub collection: Collection,
    /// What is cached of other registries, and how they do.
    pub cache: CacheStatus,
    /// The targets of backups, in the order of the configuration.
    pub backups: Vec<BackupState>,
    /// What somebody should look at, in sentences.
    pub warnings: Vec<String>,
}

/// How collection does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Collection {
    /// What came of the last one; none where no server runs, or none has ended yet.
    pub last: Option<LastCollection>,
    /// What is looked at when its time has come, since nothing may name it any more.
    pub waiting: u64,
}

/// What a collection has removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastCollection {
    /// When it ended.
    pub at: String,
    /// The manifests that went.
    pub manifests: u64,
    /// The blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A server that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// The number of its process.
    pub pid: u32,
    /// Since when it runs.
    pub since: String,
    /// The address and port that it listens on.
    pub address: String,
    /// Until when its certificate is valid, where it has one.
    pub certificate_until: Option<String>,
}

/// The file system that holds the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// What may still be written.
    pub free_bytes: u64,
    /// Pushes are refused while less is free.
    pub floor_bytes: u64,
}

/// The log of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Events {
    /// How many events are kept.
    pub kept: u64,
    /// Those who listen.
    pub endpoints: Vec<Listener>,
}

/// Somebody who listens to events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The name in the configuration.
    pub name: String,
    /// How many events it has not taken yet.
    pub waiting: u64,
}

/// Says what runs and what it holds.
pub(super) async fn get_status(call: Call) -> Answer {
    let registry = call.registry().clone();
    let store = tokio::task::spawn_blocking(move || registry.status()).await;
    let store = store.map_err(|_| Error::Unavailable)??;
    let certificate_until =
        call.running().and_then(|running| running.certificate?.valid_until()).map(Timestamp::to_rfc3339);
    let server = call.running().map(|running| Server {
        pid: std::process::id(),
        since: running.since.to_rfc3339(),
        address: running.address,
        certificate_until,
    });
    let last = store.last_collected.map(|(at, gone)| LastCollection {
        at: at.to_rfc3339(),
        manifests: gone.manifests,
        blobs: gone.blobs,
        bytes: gone.bytes,
    });
    let mut status = Status {
        server,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        repositories: store.repositories,
        manifests: store.manifests,
        tags: store.tags,
        blobs: store.blobs,
        blob_bytes: store.blob_bytes,
        damaged: store.damaged,
        deletions: store.deletions,
        untagged: store.untagged,
        untagged_bytes: store.untagged_bytes,
        metadata_bytes: store.metadata_bytes,
        uploads: store.uploads,
        disk: Disk { free_bytes: store.free_bytes, floor_bytes: store.free_floor_bytes },
        events: Events {
            kept: store.events,
            endpoints: store
                .listeners
                .into_iter()
                .map(|(name, waiting)| Listener { name, waiting })
                .collect(),
        },
        collection: Collection { last, waiting: store.candidates },
        cache: cache::status(&call)?,
        backups: schedule::backups(&call),
        warnings: Vec::new(),
    };
    status.warnings = warnings(&status, &call);
    json(&status)
}

/// What somebody should look at.
fn warnings(status: &Status, call: &Call) -> Vec<String> {
    let mut warnings = Vec::new();
    let Disk { free_bytes, floor_bytes } = status.disk;
    let (free, floor) = (free_bytes >> 20, floor_bytes >> 20);
    if free_bytes < floor_bytes {
        warnings
            .push(format!("the disk is full: {free} MiB are free, and pushes are refused below {floor} MiB"));
    } else if free_bytes / 2 < floor_bytes {
        warnings.push(format!(
            "the disk is nearly full: {free} MiB are free, and pushes are refused below {floor} MiB"
        ));
    }
    if status.damaged > 0 {
        warnings.push(format!(
            "{} blobs are damaged: orlop verify names the images that need them; a push of the same heals them",
            status.damaged
        ));
    }
    for upstream in &status.cache.upstreams {
        if let Some(left_alone) = upstream.activity.as_ref().and_then(|activity| activity.left_alone.as_ref())
        {
            warnings.push(format!(
                "the upstream {} is left alone for another {} s: {}",
                upstream.host, left_alone.seconds, left_alone.reason
            ));
        }
    }
    for backup in &status.backups {
        warnings.extend(of_backup(backup));
    }
    let until = call.running().and_then(|running| running.certificate?.valid_until());
    if let Some(until) = until {
        let now = call.registry().now();
        if until <= now {
            warnings.push(format!("the certificate has expired, on {until}: clients refuse it"));
        } else if until <= now.saturating_add(RENEWAL) {
            warnings.push(format!("the certificate expires on {until}: renew it"));
        }
    }
    warnings
}

/// What is wrong with a target of backups.
fn of_backup(backup: &BackupState) -> Vec<String> {
    let BackupState { to, last, failure, due, .. } = backup;
    let mut warnings = Vec::new();
    if backup.overdue {
        let since = match last {
            Some(last) => format!("the last one is of {}", last.at),
            None => "there is none yet".to_owned(),
        };
        warnings.push(format!("the backup to {to} is overdue since {due}: {since}"));
    }
    if let Some(failure) = failure {
        warnings.push(format!("the backup to {to} failed at {}: {}", failure.at, failure.reason));
    }
    if let Some(last) = last.as_ref().filter(|last| last.lost > 0) {
        warnings.push(format!(
            "the backup {} in {to} lacks {} blobs that the registry had lost: orlop verify names the images",
            last.snapshot, last.lost
        ));
    }
    warnings
}
