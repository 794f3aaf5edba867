//! A store of a million manifests beside one of a thousand.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::case::{CASES, Case, Measured};
use crate::figures::{median, quantile, spoken};
use crate::store::{self, IMAGES};
use crate::{SMALL, output_of};

/// How many processes measure each case on each store.
const ROUNDS: usize = 5;

/// What was measured on one of the stores.
#[derive(Default)]
struct Figures {
    micros: Vec<f64>,
    peak_kib: u64,
}

/// Prints the comparison of a store of `large` repositories with a small one, both kept in `folder`.
pub(crate) fn report(folder: &Path, large: u64) -> Value {
    let stores = [SMALL, large].map(|repositories| (made(folder, repositories), repositories));
    println!(
        "## {} manifests in {large} repositories beside {} in {SMALL}\n\n\
         | | {} | {} | × | MiB | MiB |\n| --- | --- | --- | --- | --- | --- |",
        large * IMAGES,
        SMALL * IMAGES,
        SMALL * IMAGES,
        large * IMAGES,
    );
    let mut rows = Vec::new();
    for case in CASES {
        let mut figures = [Figures::default(), Figures::default()];
        for round in 0..ROUNDS {
            // Who goes first alternates.
            let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            for which in order {
                let (data, repositories) = &stores[which];
                let measured = measure(&case, data, *repositories);
                figures[which].micros.extend(measured.micros);
                figures[which].peak_kib = figures[which].peak_kib.max(measured.peak_kib);
            }
        }
        rows.push(row(&case, &figures));
    }
    println!();
    let bytes = stores
        .each_ref()
        .map(|(data, _)| std::fs::metadata(data.join("metadata.redb")).expect("it is there").len());
    json!({ "manifests": [SMALL * IMAGES, large * IMAGES], "metadata_bytes": bytes, "cases": rows })
}

/// Prints a row of the table, and says the same as JSON.
fn row(case: &Case, [small, large]: &[Figures; 2]) -> Value {
    let times = |figures: &Figures| {
        let micros = &figures.micros;
        let quartiles = [quantile(micros, 0.25), quantile(micros, 0.75)].map(spoken);
        format!("{} ({} to {})", spoken(median(micros)), quartiles[0], quartiles[1])
    };
    let ratio = median(&large.micros) / median(&small.micros);
    println!(
        "| {} | {} | {} | {ratio:.2} | {} | {} |",
        case.title,
        times(small),
        times(large),
        small.peak_kib >> 10,
        large.peak_kib >> 10,
    );
    json!({
        "case": case.key,
        "micros": [median(&small.micros), median(&large.micros)],
        "ratio": ratio,
        "peak_kib": [small.peak_kib, large.peak_kib],
        "is_about_everything": case.is_about_everything,
    })
}

/// The store of so many repositories, made where it isn't there.
fn made(folder: &Path, repositories: u64) -> PathBuf {
    let data = folder.join(format!("of-{repositories}"));
    if !data.join("metadata.redb").exists() {
        // At another name, so that one half made is never taken for a whole one.
        let making = folder.join(format!("making-{repositories}"));
        std::fs::create_dir_all(&making).expect("a folder can be made");
        let runtime = tokio::runtime::Runtime::new().expect("it starts");
        let took = runtime.block_on(store::make(&making, repositories));
        output_of(&mut Command::new("sync"));
        std::fs::rename(&making, &data).expect("it can be renamed");
        println!("Made {} manifests in {took:.0?}.\n", repositories * IMAGES);
    }
    data
}

/// Measures in a process of its own.
fn measure(case: &Case, data: &Path, repositories: u64) -> Measured {
    let program = std::env::current_exe().expect("it runs");
    let mut command = Command::new(program);
    command.args(["measure", case.key]).arg(data).arg(repositories.to_string());
    serde_json::from_str(&output_of(&mut command)).expect("it says what it has measured")
}
