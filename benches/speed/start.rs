//! From the start of the program to its first answer: after a stop, and after a crash.

use std::path::Path;
use std::time::Duration;

use orlop::clock::monotonic;

use crate::comparison::{Amount, Comparison, Contender};
use crate::listing::point;
use crate::load::exchange::{request, send};
use crate::measured::Measured;
use crate::processors::Processors;
use crate::program::Program;
use crate::reach::Wanted;
use crate::report::Report;
use crate::setting::Setting;
use crate::{filling, store};

/// What ended the server before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Stop,
    Kill,
}

/// Measures starts.
pub(crate) fn report(setting: &Setting, report: &mut Report) {
    let sizes: Vec<u64> = setting.or_quick(vec![1_000, 10_000, 100_000, 1_000_000], vec![1_000, 10_000]);
    let stores: Vec<_> = sizes.iter().map(|size| filling::images(setting, *size)).collect();
    let mut slowest: f64 = 0.0;
    for (end, title) in
        [(End::Stop, "Start, to the first answer"), (End::Kill, "Start after kill -9, to the first answer")]
    {
        let mut comparison = Comparison::new(title, "manifests", Amount::Times);
        let points = sizes
            .iter()
            .zip(&stores)
            .map(|(size, data)| (point(*size), vec![Contender::new("orlop", move |_| start(data, end))]));
        comparison.grow(setting.rounds, points.collect());
        let summary = report.add(&comparison);
        for size in &sizes {
            slowest = slowest.max(summary.of(&point(*size).1, "orlop").upper);
        }
    }
    report.note("The peak is what was in memory when the first answer had come.");
    report.reach(
        "start, also after kill -9, with 1,000,000 manifests; the upper quartile",
        "",
        Wanted::AtMost(100.0),
        slowest * 1e3,
        "ms",
    );
}

/// Starts the server on what the last one left, and ends it.
fn start(data: &Path, end: End) -> Measured {
    let began = monotonic();
    let server = Program::orlop_at(data, &[], &Processors::all());
    let answer = request(server.address(), "GET", &manifest());
    let (status, _) = (answer.status(), answer.read());
    let elapsed = began.elapsed();
    assert_eq!(status, 200, "the image is there");
    let measured = Measured {
        server_cpu: server.cpu_of_all_threads(),
        peak_memory: server.memory(),
        ..Measured::one(elapsed)
    };
    match end {
        End::Stop => drop(server),
        End::Kill => {
            // Something is under way, so that the file is as a crash leaves it.
            let upload =
                send(server.address(), "POST", &uploads(), crate::load::exchange::BYTES, b"", b"", 0);
            assert_eq!(upload.status(), 202, "an upload begins");
            std::thread::sleep(Duration::from_millis(5));
            server.kill();
        }
    }
    measured
}

fn manifest() -> String {
    format!("/v2/{}/manifests/{}", store::name(0), store::tag(0))
}

fn uploads() -> String {
    format!("/v2/{}/blobs/uploads/", store::name(0))
}
