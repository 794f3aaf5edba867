//! How the backups do that are taken by the clock.

use serde::{Deserialize, Serialize};

use super::call::Call;
use crate::clock::Timestamp;
use crate::snapshots::{BackupSchedule, BackupStatus};

/// A target of backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupState {
    /// Where to.
    pub to: String,
    /// How often, in seconds.
    pub every_seconds: u64,
    /// Its last snapshot.
    pub last: Option<LastBackup>,
    /// Since when one is being taken.
    pub running_since: Option<String>,
    /// What has failed since the last success.
    pub failure: Option<FailedBackup>,
    /// When the next one is due.
    pub due: String,
    /// Whether it should have been there long ago.
    pub overdue: bool,
}

/// The last snapshot of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastBackup {
    /// Its name.
    pub snapshot: String,
    /// As of when it is.
    pub at: String,
    /// How long ago that was.
    pub age_seconds: u64,
    /// How long it took, where the server that runs has taken it.
    pub took_ms: Option<u64>,
    /// The bytes of all that is in it.
    pub bytes: u64,
    /// Those of them that no snapshot before had.
    pub added_bytes: u64,
    /// How much the registry should have had and had lost.
    pub lost: u64,
}

/// Why there is no newer snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedBackup {
    /// When the last attempt failed.
    pub at: String,
    /// Why.
    pub reason: String,
    /// How many have failed without a success between.
    pub in_a_row: u64,
}

/// How each target does. Blocks where no server runs.
pub(super) fn backups(call: &Call) -> Vec<BackupState> {
    let now = call.registry().now();
    let status = call.backups().map(BackupSchedule::status).unwrap_or_default();
    status.into_iter().map(|status| state(status, now)).collect()
}

fn state(status: BackupStatus, now: Timestamp) -> BackupState {
    let BackupStatus { target, last, took, running_since, failure, due, is_overdue } = status;
    let took_ms = took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    BackupState {
        to: target.name(),
        every_seconds: target.every.as_secs(),
        last: last.map(|last| LastBackup {
            age_seconds: now.since(Timestamp::from_millis(last.taken_at_millis)).as_secs(),
            snapshot: last.name.to_string(),
            at: last.taken_at,
            took_ms,
            bytes: last.bytes,
            added_bytes: last.added_bytes,
            lost: last.lost.len() as u64,
        }),
        running_since: running_since.map(Timestamp::to_rfc3339),
        failure: failure.map(|failure| FailedBackup {
            at: failure.at.to_rfc3339(),
            reason: failure.reason,
            in_a_row: failure.in_a_row,
        }),
        due: due.to_rfc3339(),
        overdue: is_overdue,
    }
}
