//! What is known of the pull-through cache, by upstream.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// How many times of an upstream's first bytes the median is of.
const RECENT: usize = 255;

/// What upstreams are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheKind {
    /// Manifests.
    Manifest,
    /// Blobs.
    Blob,
    /// Lists of what refers to a manifest.
    Referrers,
    /// Lists of tags.
    Tags,
}

impl CacheKind {
    /// As metrics call it.
    pub fn as_str(self) -> &'static str {
        match self {
            CacheKind::Manifest => "manifest",
            CacheKind::Blob => "blob",
            CacheKind::Referrers => "referrers",
            CacheKind::Tags => "tags",
        }
    }
}

/// One finished answer with an upstream's content.
#[derive(Debug, Clone, Copy)]
pub struct CacheAnswer {
    /// What was asked for.
    pub kind: CacheKind,
    /// Where it came from, from a closed set.
    pub source: &'static str,
    /// Whether it was here.
    pub is_hit: bool,
    /// The bytes of the answer's body that left.
    pub sent_bytes: u64,
}

/// One question that an upstream was asked, retries and tokens included.
#[derive(Debug, Clone, Copy)]
pub struct UpstreamRequest {
    /// What was asked for.
    pub kind: CacheKind,
    /// `GET` or `HEAD`.
    pub method: &'static str,
    /// What came of it, from a closed set.
    pub result: &'static str,
    /// Until the answer had begun; of manifests and lists, until it was here.
    pub took: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabels {
    upstream: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    upstream: String,
    kind: &'static str,
    source: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SentLabels {
    upstream: String,
    source: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    upstream: String,
    kind: &'static str,
    method: &'static str,
    result: &'static str,
}

/// The metrics of all upstreams; clones share them.
#[derive(Debug, Clone)]
pub struct CacheMetrics {
    answers: Family<AnswerLabels, Counter>,
    sent_bytes: Family<SentLabels, Counter>,
    fetched_bytes: Family<UpstreamLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    seconds: Family<UpstreamLabels, Histogram, fn() -> Histogram>,
    left_alone: Family<UpstreamLabels, Gauge>,
    rate_limit: Family<UpstreamLabels, Gauge>,
    rate_limit_remaining: Family<UpstreamLabels, Gauge>,
    bytes: Family<UpstreamLabels, Gauge>,
}

fn first_byte_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 14))
}

impl Default for CacheMetrics {
    fn default() -> CacheMetrics {
        CacheMetrics {
            answers: Family::default(),
            sent_bytes: Family::default(),
            fetched_bytes: Family::default(),
            requests: Family::default(),
            seconds: Family::new_with_constructor(first_byte_seconds),
            left_alone: Family::default(),
            rate_limit: Family::default(),
            rate_limit_remaining: Family::default(),
            bytes: Family::default(),
        }
    }
}

impl CacheMetrics {
    /// Those of the upstream with this host. Hosts come from the configuration only.
    pub fn upstream(&self, host: &str) -> UpstreamMetrics {
        let labels = UpstreamLabels { upstream: host.to_owned() };
        UpstreamMetrics(Arc::new(Inner {
            fetched_bytes: self.fetched_bytes.get_or_create_owned(&labels),
            seconds: self.seconds.get_or_create_owned(&labels),
            left_alone: self.left_alone.get_or_create_owned(&labels),
            bytes: self.bytes.get_or_create_owned(&labels),
            labels,
            all: self.clone(),
            sums: Mutex::default(),
        }))
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "cache_answers",
            "Answers with an upstream's content, by kind and where it came from",
            self.answers.clone(),
        );
        registry.register(
            "cache_sent_bytes",
            "Bytes of the bodies of such answers, by where the content came from",
            self.sent_bytes.clone(),
        );
        registry.register(
            "cache_fetched_bytes",
            "Bytes of content that came from an upstream",
            self.fetched_bytes.clone(),
        );
        registry.register(
            "cache_upstream_requests",
            "Questions to an upstream, by kind, method and result",
            self.requests.clone(),
        );
        registry.register(
            "cache_upstream_first_byte_seconds",
            "Time until an upstream's answer had begun; of manifests and lists, until it was complete",
            self.seconds.clone(),
        );
        registry.register(
            "cache_upstream_left_alone",
            "Whether an upstream is left alone after a failure",
            self.left_alone.clone(),
        );
        registry.register(
            "cache_upstream_rate_limit",
            "How many pulls an upstream allows in its window, as it last said",
            self.rate_limit.clone(),
        );
        registry.register(
            "cache_upstream_rate_limit_remaining",
            "How many of these are left, as it last said",
            self.rate_limit_remaining.clone(),
        );
        registry.register("cache_bytes", "Bytes that are cached, each blob once", self.bytes.clone());
    }
}

/// The metrics of one upstream; clones share them.
#[derive(Debug, Clone)]
pub struct UpstreamMetrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    labels: UpstreamLabels,
    all: CacheMetrics,
    fetched_bytes: Counter,
    seconds: Histogram,
    left_alone: Gauge,
    bytes: Gauge,
    sums: Mutex<Sums>,
}

/// What a summary needs.
#[derive(Debug, Default)]
struct Sums {
    hits: u64,
    misses: u64,
    sent_bytes: u64,
    requests: u64,
    limit: Option<u64>,
    remaining: Option<u64>,
    recent: VecDeque<Duration>,
}

/// What an upstream's metrics amount to, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UpstreamSummary {
    /// Answers with what was here.
    pub hits: u64,
    /// Other answers.
    pub misses: u64,
    /// Bytes of all of them.
    pub sent_bytes: u64,
    /// Bytes that came from the upstream.
    pub fetched_bytes: u64,
    /// Questions that the upstream was asked.
    pub requests: u64,
    /// The median of the times that the last questions took.
    pub median_first_byte: Option<Duration>,
    /// How many pulls it allows.
    pub rate_limit: Option<u64>,
    /// How many of them are left.
    pub rate_limit_remaining: Option<u64>,
}

impl UpstreamMetrics {
    /// The upstream's host.
    pub fn host(&self) -> &str {
        &self.0.labels.upstream
    }

    /// Counts an answer.
    pub fn answered(&self, answer: &CacheAnswer) {
        let CacheAnswer { kind, source, is_hit, sent_bytes } = *answer;
        let (inner, upstream) = (&self.0, || self.0.labels.upstream.clone());
        inner
            .all
            .answers
            .get_or_create(&AnswerLabels { upstream: upstream(), kind: kind.as_str(), source })
            .inc();
        inner.all.sent_bytes.get_or_create(&SentLabels { upstream: upstream(), source }).inc_by(sent_bytes);
        let mut sums = self.sums();
        *if is_hit { &mut sums.hits } else { &mut sums.misses } += 1;
        sums.sent_bytes += sent_bytes;
    }

    /// Counts a question.
    pub fn asked(&self, request: &UpstreamRequest) {
        let UpstreamRequest { kind, method, result, took } = *request;
        let upstream = self.0.labels.upstream.clone();
        let labels = RequestLabels { upstream, kind: kind.as_str(), method, result };
        self.0.all.requests.get_or_create(&labels).inc();
        self.0.seconds.observe(took.as_secs_f64());
        let mut sums = self.sums();
        sums.requests += 1;
        if sums.recent.len() == RECENT {
            sums.recent.pop_front();
        }
        sums.recent.push_back(took);
    }

    /// Counts bytes that came from the upstream.
    pub fn fetched(&self, bytes: u64) {
        self.0.fetched_bytes.inc_by(bytes);
    }

    /// Records whether the upstream is left alone.
    pub fn left_alone(&self, is_left_alone: bool) {
        self.0.left_alone.set(is_left_alone.into());
    }

    /// Records what the upstream has said of its limit.
    pub fn limited(&self, limit: Option<u64>, remaining: Option<u64>) {
        let (inner, mut sums) = (&self.0, self.sums());
        if let Some(limit) = limit {
            inner.all.rate_limit.get_or_create(&inner.labels).set(gauge(limit));
            sums.limit = Some(limit);
        }
        if let Some(remaining) = remaining {
            inner.all.rate_limit_remaining.get_or_create(&inner.labels).set(gauge(remaining));
            sums.remaining = Some(remaining);
        }
    }

    /// Records how much is cached.
    pub fn cached(&self, bytes: u64) {
        self.0.bytes.set(gauge(bytes));
    }

    /// What they amount to.
    pub fn summary(&self) -> UpstreamSummary {
        let sums = self.sums();
        let mut recent: Vec<Duration> = sums.recent.iter().copied().collect();
        recent.sort_unstable();
        UpstreamSummary {
            hits: sums.hits,
            misses: sums.misses,
            sent_bytes: sums.sent_bytes,
            fetched_bytes: self.0.fetched_bytes.get(),
            requests: sums.requests,
            median_first_byte: recent.get(recent.len() / 2).copied(),
            rate_limit: sums.limit,
            rate_limit_remaining: sums.remaining,
        }
    }

    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.0.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Metrics, StorageMetrics};

    #[test]
    fn what_an_upstream_does_is_shown_by_its_host() {
        let metrics = Metrics::new(&StorageMetrics::default());
        let hub = metrics.cache().upstream("docker.io");
        for (source, is_hit, sent_bytes) in [("hit", true, 100), ("miss", false, 40)] {
            hub.answered(&CacheAnswer { kind: CacheKind::Blob, source, is_hit, sent_bytes });
        }
        for millis in [10, 30, 20] {
            let took = Duration::from_millis(millis);
            hub.asked(&UpstreamRequest { kind: CacheKind::Manifest, method: "HEAD", result: "ok", took });
        }
        hub.fetched(40);
        hub.limited(Some(100), Some(7));
        hub.limited(None, Some(6));
        hub.left_alone(true);
        hub.cached(9);
        let text = metrics.render();
        for line in [
            "orlop_cache_answers_total{upstream=\"docker.io\",kind=\"blob\",source=\"hit\"} 1\n",
            "orlop_cache_sent_bytes_total{upstream=\"docker.io\",source=\"miss\"} 40\n",
            "orlop_cache_fetched_bytes_total{upstream=\"docker.io\"} 40\n",
            "orlop_cache_upstream_requests_total{upstream=\"docker.io\",kind=\"manifest\",method=\"HEAD\",result=\"ok\"} 3\n",
            "orlop_cache_upstream_first_byte_seconds_count{upstream=\"docker.io\"} 3\n",
            "orlop_cache_upstream_rate_limit{upstream=\"docker.io\"} 100\n",
            "orlop_cache_upstream_rate_limit_remaining{upstream=\"docker.io\"} 6\n",
            "orlop_cache_upstream_left_alone{upstream=\"docker.io\"} 1\n",
            "orlop_cache_bytes{upstream=\"docker.io\"} 9\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let expected = UpstreamSummary {
            hits: 1,
            misses: 1,
            sent_bytes: 140,
            fetched_bytes: 40,
            requests: 3,
            median_first_byte: Some(Duration::from_millis(20)),
            rate_limit: Some(100),
            rate_limit_remaining: Some(6),
        };
        assert_eq!(hub.summary(), expected);
    }

    #[test]
    fn the_times_of_the_last_questions_are_kept_and_no_more() {
        let hub = CacheMetrics::default().upstream("docker.io");
        for millis in 0..1_000 {
            let took = Duration::from_millis(millis);
            hub.asked(&UpstreamRequest { kind: CacheKind::Blob, method: "GET", result: "ok", took });
        }
        assert_eq!(hub.sums().recent.len(), RECENT);
        assert_eq!(hub.summary().median_first_byte, Some(Duration::from_millis(1_000 - 128)));
    }
}
