//! What is known of the delivery of events.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabels {
    endpoint: String,
}

/// The metrics of all endpoints; clones share them.
#[derive(Debug, Clone, Default)]
pub struct NotificationMetrics {
    delivered: Family<EndpointLabels, Counter>,
    failed: Family<EndpointLabels, Counter>,
    dropped: Family<EndpointLabels, Counter>,
    pending: Family<EndpointLabels, Gauge>,
}

/// The metrics of one endpoint.
#[derive(Debug, Clone)]
pub struct EndpointMetrics {
    delivered: Counter,
    failed: Counter,
    dropped: Counter,
    pending: Gauge,
}

impl NotificationMetrics {
    /// Those of the endpoint called `name`, which stand at zero from now on. Names come from the configuration only.
    pub fn endpoint(&self, name: &str) -> EndpointMetrics {
        let labels = EndpointLabels { endpoint: name.to_owned() };
        EndpointMetrics {
            delivered: self.delivered.get_or_create(&labels).clone(),
            failed: self.failed.get_or_create(&labels).clone(),
            dropped: self.dropped.get_or_create(&labels).clone(),
            pending: self.pending.get_or_create(&labels).clone(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "notifications_delivered",
            "Events that an endpoint has accepted",
            self.delivered.clone(),
        );
        registry.register(
            "notifications_failed",
            "Attempts of a delivery that an endpoint didn't accept",
            self.failed.clone(),
        );
        registry.register(
            "notifications_dropped",
            "Events that became too many or too old before an endpoint got them",
            self.dropped.clone(),
        );
        registry.register(
            "notifications_pending",
            "Events in the log that an endpoint has not got yet, those that it ignores included",
            self.pending.clone(),
        );
    }
}

impl EndpointMetrics {
    /// Counts events that were accepted.
    pub fn delivered(&self, events: u64) {
        self.delivered.inc_by(events);
    }

    /// Counts an attempt that failed.
    pub fn failed(&self) {
        self.failed.inc();
    }

    /// Counts events that were dropped.
    pub fn dropped(&self, events: u64) {
        self.dropped.inc_by(events);
    }

    /// Records how many events wait.
    pub fn pending(&self, events: u64) {
        self.pending.set(i64::try_from(events).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use crate::telemetry::{Metrics, StorageMetrics};

    #[test]
    fn an_endpoint_is_shown_by_its_name() {
        let metrics = Metrics::new(&StorageMetrics::default());
        let hook = metrics.notifications().endpoint("hook");
        hook.delivered(3);
        hook.dropped(2);
        hook.pending(7);
        let text = metrics.render();
        for line in [
            "orlop_notifications_delivered_total{endpoint=\"hook\"} 3\n",
            "orlop_notifications_failed_total{endpoint=\"hook\"} 0\n",
            "orlop_notifications_dropped_total{endpoint=\"hook\"} 2\n",
            "orlop_notifications_pending{endpoint=\"hook\"} 7\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
