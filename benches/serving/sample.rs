//! Rounds, and what is said about them.

use std::time::Duration;

/// One round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    bytes: u64,
    elapsed: Duration,
    cpu: Duration,
    client_cpu: Duration,
}

impl Sample {
    /// So many bytes in this time, with so much of the processor.
    pub(crate) fn new(bytes: u64, elapsed: Duration, cpu: Duration) -> Sample {
        Sample { bytes, elapsed, cpu, client_cpu: Duration::ZERO }
    }

    /// The same, with what the client used of the processor.
    pub(crate) fn with_client(self, client_cpu: Duration) -> Sample {
        Sample { client_cpu, ..self }
    }

    #[expect(clippy::cast_precision_loss, reason = "three digits are read")]
    fn gibibytes(&self) -> f64 {
        self.bytes as f64 / (1_u64 << 30) as f64
    }
}

/// The rounds of one thing.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<Sample>);

impl Samples {
    /// Adds a round.
    pub(crate) fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    /// The median of GiB per second.
    pub(crate) fn throughput(&self) -> f64 {
        self.quantile(0.5, |sample| sample.gibibytes() / sample.elapsed.as_secs_f64())
    }

    /// The median of seconds of processor time per GiB.
    pub(crate) fn cpu(&self) -> f64 {
        self.quantile(0.5, |sample| sample.cpu.as_secs_f64() / sample.gibibytes())
    }

    /// A row: throughput and CPU with their quartiles, CPU of client and server together, each as a multiple of `mark`'s.
    pub(crate) fn row(&self, name: &str, mark: &Samples) -> String {
        let rate = |sample: &Sample| sample.gibibytes() / sample.elapsed.as_secs_f64();
        let cost = |sample: &Sample| sample.cpu.as_secs_f64() / sample.gibibytes();
        format!(
            "| {name} | {:.2} ({:.2} to {:.2}) | {:.2} | {:.3} ({:.3} to {:.3}) | {:.2} | {:.3} | {:.2} |",
            self.throughput(),
            self.quantile(0.25, rate),
            self.quantile(0.75, rate),
            self.throughput() / mark.throughput(),
            self.cpu(),
            self.quantile(0.25, cost),
            self.quantile(0.75, cost),
            self.cpu() / mark.cpu(),
            self.total_cpu(),
            self.total_cpu() / mark.total_cpu(),
        )
    }

    /// The median of seconds of processor time per GiB of server and client together.
    fn total_cpu(&self) -> f64 {
        self.quantile(0.5, |sample| (sample.cpu + sample.client_cpu).as_secs_f64() / sample.gibibytes())
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list of rounds"
    )]
    fn quantile(&self, share: f64, value: impl Fn(&Sample) -> f64) -> f64 {
        let mut values: Vec<f64> = self.0.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        let place = (share * (values.len() - 1) as f64).round() as usize;
        values[place]
    }
}

/// The head of a table of [`Samples::row`]s.
pub(crate) const HEAD: &str = "| | GiB/s (quartiles) | × | CPU s/GiB (quartiles) | × | with the client's | × |\n\
    | --- | --- | --- | --- | --- | --- | --- |";
