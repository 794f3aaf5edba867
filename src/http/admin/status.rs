//! What runs, and what it holds.

use serde::{Deserialize, Serialize};

use super::call::{Answer, Call, json};
use crate::registry::Error;

/// The answer to `GET status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    let server = call.running().map(|running| Server {
        pid: std::process::id(),
        since: running.since.to_rfc3339(),
        address: running.address,
    });
    json(&Status {
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
    })
}
