//! What is known of backups that are taken by the clock, by target.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::clock::{Clock, SystemClock, Timestamp};

/// What is shown of one target.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BackupFigures {
    /// As of when the last snapshot is.
    pub last_success: Option<Timestamp>,
    /// From when on one is overdue, unless there is another.
    pub overdue_from: Option<Timestamp>,
    /// How long the last one took that this process has taken.
    pub took: Option<Duration>,
    /// What all of it has, in bytes.
    pub bytes: u64,
    /// What it had to copy.
    pub added_bytes: u64,
    /// How many were taken.
    pub successes: u64,
    /// How many attempts have failed.
    pub failures: u64,
    /// Whether one is being taken.
    pub is_running: bool,
}

type Targets = BTreeMap<String, BackupFigures>;

/// The metrics of all targets; clones share them. Ages are those at the time of the look.
#[derive(Debug, Clone, Default)]
pub struct BackupMetrics(Arc<Mutex<Targets>>);

impl BackupMetrics {
    /// Shows these figures of a target from now on. Targets come from the configuration only.
    pub fn show(&self, target: &str, figures: BackupFigures) {
        self.targets().insert(target.to_owned(), figures);
    }

    /// Shows nothing more of a target.
    pub fn forget(&self, target: &str) {
        self.targets().remove(target);
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }

    fn targets(&self) -> MutexGuard<'_, Targets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A gauge's name, what it says, and its value, where there is one.
type Shown = (&'static str, &'static str, fn(&BackupFigures, Timestamp) -> Option<f64>);

#[expect(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
const GAUGES: &[Shown] = &[
    (
        "backup_last_success_timestamp_seconds",
        "As of when a target's last snapshot is, in seconds since 1970",
        |figures, _| figures.last_success.map(|at| at.millis() as f64 / 1000.0),
    ),
    ("backup_age_seconds", "How long ago that was", |figures, now| {
        figures.last_success.map(|at| now.since(at).as_secs_f64())
    }),
    ("backup_overdue", "Whether a target's next snapshot should have been there long ago", |figures, now| {
        Some(f64::from(figures.overdue_from.is_some_and(|from| now > from)))
    }),
    ("backup_running", "Whether a snapshot is being taken", |figures, _| Some(f64::from(figures.is_running))),
    ("backup_last_duration_seconds", "How long a target's last snapshot took", |figures, _| {
        figures.took.map(|took| took.as_secs_f64())
    }),
    ("backup_last_size_bytes", "The content of a target's last snapshot", |figures, _| {
        figures.last_success.map(|_| figures.bytes as f64)
    }),
    ("backup_last_added_bytes", "What no snapshot before the last one had", |figures, _| {
        figures.last_success.map(|_| figures.added_bytes as f64)
    }),
];

/// A counter's name, what it says, and its value.
type Counted = (&'static str, &'static str, fn(&BackupFigures) -> u64);

const COUNTERS: &[Counted] = &[
    ("backup_successes", "Snapshots that were taken by the clock", |figures| figures.successes),
    ("backup_failures", "Attempts to take one that have failed", |figures| figures.failures),
];

impl Collector for BackupMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (targets, now) = (self.targets().clone(), SystemClock.now());
        for (name, help, value) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (target, figures) in &targets {
                if let Some(value) = value(figures, now) {
                    ConstGauge::new(value).encode(family.encode_family(&[("target", target.as_str())])?)?;
                }
            }
        }
        for (name, help, value) in COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (target, figures) in &targets {
                let counter = ConstCounter::new(value(figures));
                counter.encode(family.encode_family(&[("target", target.as_str())])?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Metrics, StorageMetrics};

    #[test]
    fn a_target_is_shown_until_it_is_forgotten() {
        let metrics = Metrics::new(&StorageMetrics::default());
        let figures = BackupFigures { failures: 2, is_running: true, ..BackupFigures::default() };
        metrics.backups().show("/mnt/a", figures);
        let text = metrics.render();
        for line in [
            "# TYPE orlop_backup_failures counter\n",
            "orlop_backup_failures_total{target=\"/mnt/a\"} 2\n",
            "orlop_backup_successes_total{target=\"/mnt/a\"} 0\n",
            "orlop_backup_running{target=\"/mnt/a\"} 1.0\n",
            "orlop_backup_overdue{target=\"/mnt/a\"} 0.0\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("orlop_backup_age_seconds{"), "nothing was taken yet: {text}");
        let past = Timestamp::from_millis(1_500);
        let figures = BackupFigures { last_success: Some(past), overdue_from: Some(past), ..figures };
        metrics.backups().show("/mnt/a", figures);
        let text = metrics.render();
        for line in [
            "orlop_backup_last_success_timestamp_seconds{target=\"/mnt/a\"} 1.5\n",
            "orlop_backup_overdue{target=\"/mnt/a\"} 1.0\n",
            "orlop_backup_age_seconds{target=\"/mnt/a\"} ",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        metrics.backups().forget("/mnt/a");
        assert!(!metrics.render().contains("/mnt/a"));
    }
}
