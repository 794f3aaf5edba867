//! The metrics that `/metrics` shows.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::{BackupMetrics, CacheMetrics, NotificationMetrics, StorageMetrics};

/// The media type of [`Metrics::render`]'s text.
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One finished request, as [`Metrics::record`] counts it.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// The method; one outside of HTTP's own is counted as `OTHER`, so that a stranger can't add label values.
    pub method: &'static str,
    /// The name of the route, from a closed set; never the path.
    pub route: &'static str,
    /// The status of the answer.
    pub status: u16,
    /// The time from the request's head to the last byte of the answer.
    pub took: Duration,
    /// The bytes of the request's body that arrived.
    pub received_bytes: u64,
    /// The bytes of the answer's body that left.
    pub sent_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: &'static str,
}

/// How many kinds of requests are found without a search.
const KINDS: usize = 256;

/// The metrics of one kind of requests.
#[derive(Debug)]
struct CountedKind {
    labels: RequestLabels,
    requests: Counter,
    durations: Histogram,
}

/// The kinds of requests that were met, each at the place that its labels say or near it. To find the two metrics by their labels'
/// texts would cost more than to count.
#[derive(Debug)]
struct Counted([OnceLock<CountedKind>; KINDS]);

impl Default for Counted {
    fn default() -> Self {
        Counted([const { OnceLock::new() }; KINDS])
    }
}

impl Counted {
    /// How many places are looked at.
    const NEAR: usize = 4;

    /// The kind of these labels; none where others have all its places.
    fn of(&self, labels: &RequestLabels, make: impl Fn() -> CountedKind) -> Option<&CountedKind> {
        let RequestLabels { method, route, status } = labels;
        // Labels are constants: the same text is nearly always at the same address.
        let place = (route.as_ptr().addr() >> 2) ^ (method.as_ptr().addr() << 3) ^ usize::from(*status);
        let near = (0..Counted::NEAR).map(|step| &self.0[(place + step) % KINDS]);
        near.map(|kind| kind.get_or_init(&make)).find(|kind| kind.labels == *labels)
    }
}

/// All metrics of one registry process; clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    counted: Counted,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    received_bytes: Counter,
    sent_bytes: Counter,
    connections: Gauge,
    accepted: Counter,
    delayed: Counter,
    refused: Counter,
    notifications: NotificationMetrics,
    cache: CacheMetrics,
    backups: BackupMetrics,
}

fn request_durations() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 4.0, 10))
}

impl Metrics {
    /// Metrics that show `storage` beside their own.
    pub fn new(storage: &StorageMetrics) -> Self {
        let mut registry = Registry::with_prefix("orlop");
        let requests = Family::default();
        let durations: Family<RouteLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(request_durations);
        let (in_flight, connections) = (Gauge::default(), Gauge::default());
        let (received_bytes, sent_bytes) = (Counter::default(), Counter::default());
        let (accepted, delayed, refused) = (Counter::default(), Counter::default(), Counter::default());

        registry.register(
            "build",
            "The version of the program",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register(
            "http_requests",
            "Requests answered, by method, route and status",
            Family::clone(&requests),
        );
        registry.register(
            "http_request_seconds",
            "Time from the request's head to the answer's last byte, by method and route",
            durations.clone(),
        );
        registry.register("http_requests_in_flight", "Requests being answered", in_flight.clone());
        registry.register("http_received_bytes", "Bytes of request bodies", received_bytes.clone());
        registry.register("http_sent_bytes", "Bytes of answer bodies", sent_bytes.clone());
        registry.register("connections", "Open connections", connections.clone());
        registry.register("connections_accepted", "Connections accepted", accepted.clone());
        registry.register(
            "connections_delayed",
            "Times that the limit of open connections made new ones wait",
            delayed.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections closed since their address had too many",
            refused.clone(),
        );
        storage.register(&mut registry);
        let notifications = NotificationMetrics::default();
        notifications.register(&mut registry);
        let cache = CacheMetrics::default();
        cache.register(&mut registry);
        let backups = BackupMetrics::default();
        backups.register(&mut registry);

        Self {
            inner: Arc::new(Inner {
                registry,
                counted: Counted::default(),
                requests,
                durations,
                in_flight,
                received_bytes,
                sent_bytes,
                connections,
                accepted,
                delayed,
                refused,
                notifications,
                cache,
                backups,
            }),
        }
    }

    /// Those of the delivery of events.
    pub fn notifications(&self) -> &NotificationMetrics {
        &self.inner.notifications
    }

    /// Those of the pull-through cache.
    pub fn cache(&self) -> &CacheMetrics {
        &self.inner.cache
    }

    /// Those of backups by the clock.
    pub fn backups(&self) -> &BackupMetrics {
        &self.inner.backups
    }

    /// Counts a finished request.
    pub fn record(&self, request: &Request) {
        let Request { method, route, status, took, received_bytes, sent_bytes } = *request;
        let labels = RequestLabels { method, route, status };
        let count = |kind: &CountedKind| {
            kind.requests.inc();
            kind.durations.observe(took.as_secs_f64());
        };
        let make = || CountedKind {
            labels: labels.clone(),
            requests: self.inner.requests.get_or_create_owned(&labels),
            durations: self.inner.durations.get_or_create_owned(&RouteLabels { method, route }),
        };
        match self.inner.counted.of(&labels, make) {
            Some(kind) => count(kind),
            None => count(&make()),
        }
        self.inner.received_bytes.inc_by(received_bytes);
        self.inner.sent_bytes.inc_by(sent_bytes);
    }

    /// Counts a request as in flight until the guard is dropped.
    pub fn request_started(&self) -> GaugeGuard {
        GaugeGuard::enter(&self.inner.in_flight)
    }

    /// Counts an accepted connection, as open until the guard is dropped.
    pub fn connection_opened(&self) -> GaugeGuard {
        self.inner.accepted.inc();
        GaugeGuard::enter(&self.inner.connections)
    }

    /// Counts that new connections have to wait until an open one ends.
    pub fn connection_limit_reached(&self) {
        self.inner.delayed.inc();
    }

    /// Counts a connection that is closed since its address has too many.
    pub fn connection_refused(&self) {
        self.inner.refused.inc();
    }

    /// The text of all metrics, of the type [`METRICS_CONTENT_TYPE`].
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        encode(&mut text, &self.inner.registry).expect("writing to a String does not fail");
        text
    }
}

/// Keeps a gauge one higher for as long as it lives.
#[derive(Debug)]
#[must_use = "the gauge falls again as soon as the guard is dropped"]
pub struct GaugeGuard(Gauge);

impl GaugeGuard {
    fn enter(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_request_is_shown_with_its_method_route_and_status() {
        let metrics = Metrics::new(&StorageMetrics::default());
        metrics.record(&Request {
            method: "GET",
            route: "blob",
            status: 206,
            took: Duration::from_millis(3),
            received_bytes: 0,
            sent_bytes: 512,
        });
        let text = metrics.render();
        let line = r#"orlop_http_requests_total{method="GET",route="blob",status="206"} 1"#;
        assert!(text.contains(line), "{text}");
        assert!(text.contains("orlop_http_sent_bytes_total 512"), "{text}");
        assert!(text.contains(r#"orlop_http_request_seconds_count{method="GET",route="blob"} 1"#), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_gauge_falls_when_its_guard_is_dropped() {
        let metrics = Metrics::new(&StorageMetrics::default());
        let guard = metrics.connection_opened();
        assert!(metrics.render().contains("orlop_connections 1\n"));
        drop(guard);
        assert!(metrics.render().contains("orlop_connections 0\n"));
    }

    #[test]
    fn what_the_storage_records_is_shown() {
        let storage = StorageMetrics::default();
        let metrics = Metrics::new(&storage);
        storage.commit(4, Duration::from_millis(1));
        assert!(metrics.render().contains("orlop_metadata_commits_total 1\n"));
    }
}
