//! The retention policies by the clock.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use super::retention::Retention;
use super::run::{RunOptions, run};
use crate::registry::Registry;

/// The time from the start to the first run, unless the schedule is tighter. A configuration that is wrong can still be
/// mended before it does anything.
const FIRST: Duration = Duration::from_secs(60 * 60);

/// Runs the policies again and again, `every` so often from the end of one run to the start of the next. Without
/// policies, or without a time, does nothing. Never ends;
/// what is deleted when this is dropped, is deleted whole.
pub async fn run_on_schedule(registry: Registry, retention: Arc<Retention>, every: Duration) {
    if every.is_zero() || retention.policies.is_empty() {
        return std::future::pending().await;
    }
    let mut pause = every.min(FIRST);
    loop {
        tokio::time::sleep(pause).await;
        pause = every;
        let tell = |_| std::future::ready(ControlFlow::Continue(()));
        match run(&registry, &retention, &RunOptions::default(), tell).await {
            Ok(report) => tracing::info!(
                repositories = report.repositories,
                tags = report.deleted_tags,
                manifests = report.deleted_manifests,
                "the retention policies have run"
            ),
            Err(error) => {
                tracing::warn!(%error, "the retention policies were interrupted; the next run goes on");
            }
        }
    }
}
