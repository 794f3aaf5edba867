//! Orlop beside its peers: one entry that starts all of them on loopback with fresh data, gives each the same work in turn, and
//! says what came out as a table, as JSON and as a chart.
//!
//! `cargo bench --bench speed` measures everything, which takes most of an hour; names of parts choose some: see [`PARTS`]. It
//! needs Debian's `nginx-light`, `docker-registry` and `openssl`, and 20 GiB of free disk. Options:
//!
//! - `--peer NAME=URL`: another registry that is running already gets the same work (`http://` only; more than once);
//! - `--rounds N`: how often each thing is measured (7); `--quick` is two rounds of less, to see that all of it runs;
//! - `--stores DIR`: keeps large stores there, which take minutes to make, for the next time;
//! - `--out DIR`: where `speed.md`, `speed.json` and `speed.svg` go (`target/speed`);
//! - `--publish`: puts the table and the chart into the README and `docs` as well;
//! - `--redraw`: measures nothing, and makes the report again of what was measured before.
//!
//! Rounds of the things compared alternate, and so does which goes first, since machines change their speed from minute to minute;
//! a figure is the median of its rounds. `docs/performance.md` keeps a report, and says how to read it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the report is what this program is for")]

mod bare;
mod blob;
#[path = "../collection/case.rs"]
#[expect(dead_code, reason = "the other bench measures more")]
mod case;
mod chart;
mod comparison;
mod filling;
mod hashing;
mod images;
mod listing;
mod load;
mod machine;
mod manifests;
mod measured;
mod memory;
mod processors;
mod program;
mod pull;
mod push;
mod reach;
mod reclaim;
mod report;
mod setting;
mod sink;
mod slow_disk;
mod start;
#[path = "../collection/store.rs"]
#[expect(dead_code, reason = "the bench of collections needs more of it")]
mod store;
#[path = "../collection/unsynced.rs"]
mod unsynced;

use report::Report;
use setting::Setting;

/// A part of the bench: what the command line calls it, and what measures it.
type Part = (&'static str, fn(&Setting, &mut Report));

/// Everything that is measured, in the report's order.
const PARTS: &[Part] = &[
    ("hash", hashing::report),
    ("pull", pull::report),
    ("push", push::report),
    ("manifests", manifests::report),
    ("images", images::report),
    ("listing", listing::report),
    ("reclaim", reclaim::report),
    ("start", start::report),
    ("memory", memory::report),
    ("slow-disk", slow_disk::report),
];

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some(sink::ARGUMENT.as_ref()) {
        sink::serve();
    }
    if first.as_deref() == Some(bare::ARGUMENT.as_ref()) {
        return bare::serve(arguments.next().expect("it is told what to answer").as_ref());
    }
    let setting = Setting::from_arguments();
    for part in &setting.parts {
        assert!(PARTS.iter().any(|(name, _)| name == part), "there is no part {part:?}");
    }
    let mut report = Report::continued(&setting.out);
    println!("Machine: {}\n", machine::describe());
    for (name, measure) in PARTS {
        let is_wanted = setting.parts.is_empty() || setting.parts.iter().any(|part| part == name);
        if is_wanted && !setting.redraw {
            report.begin(name);
            measure(&setting, &mut report);
            report.keep(&setting);
        }
    }
    report.finish(&setting);
}
