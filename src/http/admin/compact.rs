//! Giving the free space of the metadata back.

use serde::{Deserialize, Serialize};

use super::call::{Answer, Call};
use super::job::{self, Progress, Unit};

/// The body of `POST compact`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compact {}

/// What a compaction did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompactAnswer {
    /// The rows of all tables.
    pub rows: u64,
    /// The rows that were changed meanwhile and copied again.
    pub changed_rows: u64,
    /// The length of `metadata.redb` before.
    pub before_bytes: u64,
    /// And after.
    pub after_bytes: u64,
    /// How long it took.
    pub took_ms: u64,
    /// For how long of that writes had to wait.
    pub held_ms: u64,
}

/// Compacts the metadata; ends, and changes nothing, when nobody waits for the answer any more.
pub(super) async fn compact(mut call: Call) -> Answer {
    let Compact {} = call.json().await?;
    let registry = call.registry().clone();
    Ok(job::answer(&call, move |reporter| {
        let report = registry.compact(|progress| {
            reporter.tell(Progress {
                what: "copying".to_owned(),
                done: progress.rows,
                total: Some(progress.total_rows),
                unit: Unit::Items,
            })
        })?;
        let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Ok(CompactAnswer {
            rows: report.rows,
            changed_rows: report.changed_rows,
            before_bytes: report.before_bytes,
            after_bytes: report.after_bytes,
            took_ms: millis(report.took),
            held_ms: millis(report.held),
        })
    }))
}
