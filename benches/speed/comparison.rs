//! The same work, done by several in turn, at one size or at many.

use serde::{Deserialize, Serialize};

use crate::measured::Measured;

/// What is compared, and every round of it.
#[derive(Debug)]
pub(crate) struct Comparison {
    title: String,
    axis: String,
    amount: Amount,
    points: Vec<(f64, String, Vec<Rounds>)>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Amount {
    /// Bytes: GiB per second, and processor seconds per GiB.
    Bytes,
    /// Operations: so many a second, and processor microseconds for each.
    Operations,
    /// Single operations that are timed: the less the better.
    Times,
}

/// Who takes part, and what it does in the round with this number; round 0 warms up and is not counted.
pub(crate) struct Contender<'a> {
    name: String,
    run: Box<dyn FnMut(usize) -> Measured + 'a>,
}

#[derive(Debug)]
struct Rounds {
    name: String,
    rounds: Vec<Measured>,
}

impl<'a> Contender<'a> {
    /// The first one is the mark, that the others are multiples of.
    pub(crate) fn new(name: impl Into<String>, run: impl FnMut(usize) -> Measured + 'a) -> Contender<'a> {
        Contender { name: name.into(), run: Box::new(run) }
    }
}

impl Comparison {
    /// Nothing yet; `axis` says what its points differ in.
    pub(crate) fn new(title: impl Into<String>, axis: impl Into<String>, amount: Amount) -> Comparison {
        Comparison { title: title.into(), axis: axis.into(), amount, points: Vec::new() }
    }

    /// Lets all do the same in turn, so many rounds, and keeps what came out as the point at `x`, called `label`. Everything that a round
    /// left unwritten is written before the next.
    pub(crate) fn alternate(
        &mut self,
        rounds: usize,
        x: f64,
        label: impl Into<String>,
        contenders: Vec<Contender<'_>>,
    ) {
        self.grow(rounds, vec![((x, label.into()), contenders)]);
    }

    /// The same at many sizes in turn, each round at all of them, so that sizes can be compared with each other too.
    pub(crate) fn grow(&mut self, rounds: usize, mut sizes: Vec<((f64, String), Vec<Contender<'_>>)>) {
        let rounds_of =
            |contender: &Contender<'_>| Rounds { name: contender.name.clone(), rounds: Vec::new() };
        let mut all: Vec<Vec<Rounds>> =
            sizes.iter().map(|(_, contenders)| contenders.iter().map(rounds_of).collect()).collect();
        let number = sizes.len();
        for round in 0..=rounds {
            for size in (0..number).map(|turn| (turn + round) % number) {
                let contenders = &mut sizes[size].1;
                for turn in 0..contenders.len() {
                    let who = (turn + round) % contenders.len();
                    rustix::fs::sync();
                    let measured = (contenders[who].run)(round);
                    if round > 0 {
                        all[size][who].rounds.push(measured);
                    }
                }
            }
        }
        let first = self.points.len();
        let points = sizes.into_iter().zip(all).map(|(((x, label), _), rounds)| (x, label, rounds));
        self.points.extend(points);
        for point in &self.summary().points[first..] {
            for line in point.rows(self.amount) {
                eprintln!("{}: {line}", self.title);
            }
        }
    }

    /// Medians, quartiles and ratios.
    pub(crate) fn summary(&self) -> Summary {
        let points = self.points.iter().map(|(x, label, all)| {
            let mark = all.first().map(|mark| figures(mark, self.amount));
            let contenders = all.iter().map(|rounds| {
                let own = figures(rounds, self.amount);
                let against = mark.as_ref().unwrap_or(&own);
                Figures {
                    ratio: own.middle / against.middle,
                    cpu_ratio: ratio(own.cpu, against.cpu),
                    total_cpu_ratio: ratio(own.total_cpu, against.total_cpu),
                    ..own.clone()
                }
            });
            Point { x: *x, label: label.clone(), contenders: contenders.collect() }
        });
        Summary {
            title: self.title.clone(),
            axis: self.axis.clone(),
            amount: self.amount,
            points: points.collect(),
        }
    }
}

/// A comparison as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// What was compared.
    pub(crate) title: String,
    /// What its points differ in.
    pub(crate) axis: String,
    /// What was counted.
    pub(crate) amount: Amount,
    /// At each size, all who took part.
    pub(crate) points: Vec<Point>,
}

/// One size.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Point {
    /// Where it lies on the axis.
    pub(crate) x: f64,
    /// What it is called.
    pub(crate) label: String,
    /// All who took part; the first is the mark.
    pub(crate) contenders: Vec<Figures>,
}

/// The medians of somebody's rounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Who it is.
    pub(crate) name: String,
    /// Bytes or operations per second, or seconds where times are counted.
    pub(crate) middle: f64,
    /// A quarter of the rounds was below.
    pub(crate) lower: f64,
    /// A quarter of the rounds was above.
    pub(crate) upper: f64,
    /// `middle` as a multiple of the mark's.
    pub(crate) ratio: f64,
    /// Seconds within which half, 99 % and 99.9 % of the operations were done.
    pub(crate) p50: Option<f64>,
    /// See `p50`.
    pub(crate) p99: Option<f64>,
    /// See `p50`.
    pub(crate) p999: Option<f64>,
    /// The server's processor seconds per byte or operation.
    pub(crate) cpu: Option<f64>,
    /// The same as a multiple of the mark's.
    pub(crate) cpu_ratio: Option<f64>,
    /// Processor seconds of server and generator per byte or operation.
    pub(crate) total_cpu: Option<f64>,
    /// The same as a multiple of the mark's.
    pub(crate) total_cpu_ratio: Option<f64>,
    /// The most that was in the server's memory in any round, in bytes.
    pub(crate) peak_memory: Option<u64>,
    /// Whether the generator was the limit in most of the rounds.
    pub(crate) is_load_the_limit: bool,
}

impl Summary {
    /// The figures of somebody at a point.
    ///
    /// # Panics
    /// If there are none.
    pub(crate) fn of(&self, label: &str, name: &str) -> &Figures {
        let point = self.points.iter().find(|point| point.label == label);
        let figures = point.and_then(|point| point.contenders.iter().find(|figures| figures.name == name));
        figures.unwrap_or_else(|| panic!("{}: nothing of {name} at {label}", self.title))
    }
}

impl Point {
    /// The lines of a table, one for each who took part.
    pub(crate) fn rows(&self, amount: Amount) -> Vec<String> {
        self.contenders.iter().map(|figures| figures.row(&self.label, amount)).collect()
    }
}

impl Figures {
    fn row(&self, label: &str, amount: Amount) -> String {
        let [middle, lower, upper] = [self.middle, self.lower, self.upper].map(|value| amount.rate(value));
        let limit = if self.is_load_the_limit { " (the generator's limit)" } else { "" };
        let [p50, p99, p999] =
            [self.p50, self.p99, self.p999].map(|latency| latency.map_or(String::new(), time));
        let cpu = self.cpu.map_or(String::new(), |cpu| amount.cpu(cpu));
        let total = self.total_cpu.map_or(String::new(), |cpu| amount.cpu(cpu));
        let [cpu_ratio, total_ratio] = [self.cpu_ratio, self.total_cpu_ratio]
            .map(|ratio| ratio.map_or(String::new(), |ratio| format!("{ratio:.2}")));
        let peak = self.peak_memory.map_or(String::new(), |bytes| format!("{} MiB", bytes >> 20));
        format!(
            "| {label} | {} | {middle} ({lower} to {upper}){limit} | {:.2} | {p50} | {p99} | {p999} | {cpu} | {cpu_ratio} | {total} | \
             {total_ratio} | {peak} |",
            self.name, self.ratio
        )
    }
}

impl Amount {
    /// The head of a table of [`Point::rows`].
    pub(crate) fn head(self, axis: &str) -> String {
        let (rate, cpu) = match self {
            Amount::Bytes => ("GiB/s (quartiles)", "CPU s/GiB"),
            Amount::Operations => ("per second (quartiles)", "CPU µs"),
            Amount::Times => ("time (quartiles)", "CPU µs"),
        };
        format!(
            "| {axis} | | {rate} | × | p50 | p99 | p99.9 | {cpu} | × | with the client's | × | peak |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
        )
    }

    /// What [`Figures::middle`] is in the unit that people read.
    fn rate(self, value: f64) -> String {
        match self {
            Amount::Bytes => format!("{:.2}", value / GIB),
            Amount::Operations if value < 100.0 => format!("{value:.1}"),
            Amount::Operations => format!("{value:.0}"),
            Amount::Times => time(value),
        }
    }

    fn cpu(self, value: f64) -> String {
        match self {
            Amount::Bytes => format!("{:.3}", value * GIB),
            Amount::Operations | Amount::Times => format!("{:.1}", value * 1e6),
        }
    }
}

const GIB: f64 = 1_073_741_824.0;

/// Seconds, as people read them.
pub(crate) fn time(seconds: f64) -> String {
    match seconds {
        ..1e-3 => format!("{:.0} µs", seconds * 1e6),
        ..1.0 => format!("{:.2} ms", seconds * 1e3),
        _ => format!("{seconds:.2} s"),
    }
}

fn figures(rounds: &Rounds, amount: Amount) -> Figures {
    let value = |measured: &Measured| match amount {
        Amount::Times => measured.latency(0.5).unwrap_or(measured.elapsed.as_secs_f64()),
        Amount::Bytes | Amount::Operations => measured.rate(),
    };
    let all = || rounds.rounds.iter();
    let values: Vec<f64> = all().map(value).collect();
    let middle_of = |value: &dyn Fn(&Measured) -> Option<f64>| {
        let values: Vec<f64> = all().filter_map(value).collect();
        (!values.is_empty()).then(|| quantile(&values, 0.5))
    };
    Figures {
        name: rounds.name.clone(),
        middle: quantile(&values, 0.5),
        lower: quantile(&values, 0.25),
        upper: quantile(&values, 0.75),
        ratio: 1.0,
        p50: middle_of(&|measured| measured.latency(0.5)),
        p99: middle_of(&|measured| measured.latency(0.99)),
        p999: middle_of(&|measured| measured.latency(0.999)),
        cpu: middle_of(&Measured::cpu),
        cpu_ratio: None,
        total_cpu: middle_of(&Measured::total_cpu),
        total_cpu_ratio: None,
        peak_memory: all().filter_map(|measured| measured.peak_memory).max(),
        is_load_the_limit: all().filter(|measured| measured.is_load_the_limit).count() * 2 > values.len(),
    }
}

fn ratio(own: Option<f64>, mark: Option<f64>) -> Option<f64> {
    Some(own? / mark?)
}

/// The value below which `share` of them lie.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in a list of rounds"
)]
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (share * (sorted.len().max(1) - 1) as f64).round() as usize;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}
