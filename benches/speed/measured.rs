//! One round of one thing.

use std::time::Duration;

use hdrhistogram::Histogram;

/// What a round brought: how much was done, in which time, and what it took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    /// Requests, images, starts: whatever the comparison counts.
    pub(crate) operations: u64,
    /// Bytes of bodies; 0 where the comparison counts operations.
    pub(crate) bytes: u64,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// How long each operation took, in nanoseconds.
    pub(crate) latency: Option<Histogram<u64>>,
    /// Processor time of the server, where it runs on this machine.
    pub(crate) server_cpu: Option<Duration>,
    /// Processor time of the load generator.
    pub(crate) client_cpu: Duration,
    /// The most that was in the server's memory meanwhile, in bytes.
    pub(crate) peak_memory: Option<u64>,
    /// Whether the generator had no more processor time left, so that the server might have done more.
    pub(crate) is_load_the_limit: bool,
}

impl Measured {
    /// A single operation that took so long.
    pub(crate) fn one(elapsed: Duration) -> Measured {
        Measured { operations: 1, elapsed, ..Measured::default() }
    }

    /// Bytes per second, or operations where there are none.
    #[expect(clippy::cast_precision_loss, reason = "three digits are read")]
    pub(crate) fn rate(&self) -> f64 {
        self.amount() as f64 / self.elapsed.as_secs_f64()
    }

    /// Seconds of the server's processor time per byte, or per operation where there are none.
    #[expect(clippy::cast_precision_loss, reason = "three digits are read")]
    pub(crate) fn cpu(&self) -> Option<f64> {
        Some(self.server_cpu?.as_secs_f64() / self.amount() as f64)
    }

    /// The same with the generator's.
    #[expect(clippy::cast_precision_loss, reason = "three digits are read")]
    pub(crate) fn total_cpu(&self) -> Option<f64> {
        Some((self.server_cpu? + self.client_cpu).as_secs_f64() / self.amount() as f64)
    }

    /// Seconds within which this share of the operations was done.
    #[expect(clippy::cast_precision_loss, reason = "three digits are read")]
    pub(crate) fn latency(&self, share: f64) -> Option<f64> {
        self.latency.as_ref().map(|latency| latency.value_at_quantile(share) as f64 / 1e9)
    }

    fn amount(&self) -> u64 {
        if self.bytes > 0 { self.bytes } else { self.operations }
    }
}

/// An empty histogram: nanoseconds up to two minutes, three digits.
pub(crate) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 120_000_000_000, 3).expect("the bounds are in order")
}
