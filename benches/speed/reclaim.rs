//! What it takes to give back the space of one deleted image, in ever larger stores.

use std::path::Path;

use crate::case;
use crate::comparison::{Amount, Comparison, Contender};
use crate::listing::point;
use crate::measured::{Measured, latencies};
use crate::reach::Wanted;
use crate::report::Report;
use crate::setting::Setting;
use crate::{filling, store};

/// Measures the end of an image: the delete, and the collection when its undo and its lease have passed.
pub(crate) fn report(setting: &Setting, report: &mut Report) {
    let sizes: Vec<u64> = setting.or_quick(vec![1_000, 10_000, 100_000, 1_000_000], vec![1_000, 10_000]);
    let stores: Vec<_> = sizes.iter().map(|size| filling::images(setting, *size)).collect();
    for (key, title) in [
        ("delete-undo", "Delete an image that can come back"),
        ("reclaim-undo", "Reclaim a deleted image when its undo and its lease have passed"),
        ("reclaim", "Reclaim a deleted image when its lease has passed, without undo"),
    ] {
        let mut comparison = Comparison::new(title, "manifests", Amount::Times);
        let points = sizes.iter().zip(&stores).map(|(size, data)| {
            (point(*size), vec![Contender::new("orlop", move |_| measure(key, data, *size))])
        });
        comparison.grow(setting.rounds, points.collect());
        let summary = report.add(&comparison);
        if key == "reclaim-undo" {
            let [small, large] = [sizes.first(), sizes.last()]
                .map(|size| summary.of(&point(*size.expect("there are some")).1, "orlop").middle);
            let (work, against) = ("reclaiming one deleted image among 1,000,000 manifests", "among 1,000");
            report.reach(work, against, Wanted::AtMost(1.5), large / small, "×");
        }
    }
    report.note(
        "Each is one image after the other, in repositories all over the store, with every commit synced.",
    );
}

fn measure(key: &str, data: &Path, manifests: u64) -> Measured {
    let runtime = tokio::runtime::Runtime::new().expect("it starts");
    let measured = runtime.block_on(case::measure(key, data, manifests / store::IMAGES));
    let mut latency = latencies();
    for micros in &measured.micros {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "nanoseconds, and some")]
        latency.saturating_record((micros * 1e3) as u64);
    }
    let elapsed = measured.micros.iter().sum::<f64>() / 1e6;
    Measured {
        operations: latency.len(),
        elapsed: std::time::Duration::from_secs_f64(elapsed),
        latency: Some(latency),
        ..Measured::default()
    }
}
