//! What those who push wait for while a snapshot of a large store is taken, beside what they wait for without.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::clients::push_until;
use crate::figures::{median, quantile};
use crate::program::Program;
use crate::store::{self, IMAGES};
use crate::tools::{orlop, remove, run};

/// What happens in turn, by its place in [`KINDS`]. Once: each snapshot leaves the store more fragmented than it was.
const TURNS: [usize; 5] = [0, 1, 0, 2, 0];

/// How long clients push without a snapshot each time.
const ALONE: Duration = Duration::from_secs(30);

/// Quantiles are taken of so many milliseconds at a time, and their median counts, since a disk changes its speed within minutes.
const WINDOW: f64 = 10_000.0;

/// How many clients push at once, each waiting for one answer after the other.
const CLIENTS: u64 = 8;

const KINDS: [&str; 3] = ["without", "a first snapshot", "a second snapshot"];

/// Prints the comparison with a store of so many repositories, which is kept in `folder`.
#[expect(clippy::cast_precision_loss, reason = "three digits are read")]
pub(crate) fn report(folder: &Path, repositories: u64) {
    let runtime = Runtime::new().expect("it starts");
    let data = folder.join(format!("store-{repositories}"));
    if !data.exists() {
        let making = folder.join("making");
        remove(&making);
        let took = runtime.block_on(store::make(&making, repositories));
        std::fs::rename(&making, &data).expect("it can be renamed");
        eprintln!("made {} manifests in {took:.0?}", repositories * IMAGES);
    }
    run(&mut Command::new("sync"));
    let server = Program::orlop(&data);
    println!(
        "## Pushes by {CLIENTS} clients, without and with a snapshot of {} manifests\n\n\
         | | s | pushes/s | p50 ms | p99 ms | p99.9 ms |\n| --- | --- | --- | --- | --- | --- |",
        repositories * IMAGES
    );
    let mut rounds: [Vec<[f64; 3]>; 3] = Default::default();
    let backup = folder.join("backup");
    round(server.address(), Duration::from_secs(3), || {});
    for kind in TURNS {
        let name = KINDS[kind];
        let (pushes, took) = match kind {
            0 => round(server.address(), ALONE, || {}),
            _ => round(server.address(), Duration::ZERO, || {
                run(orlop().args(["backup", "create"]).arg(&backup).arg("--data").arg(&data));
            }),
        };
        let of_all = |share| median(&pushes.iter().map(|window| quantile(window, share)).collect::<Vec<_>>());
        let figures = [0.5, 0.99, 0.999].map(of_all);
        let [p50, p99, p999] = figures;
        let seconds = took.as_secs_f64();
        let rate = pushes.iter().map(Vec::len).sum::<usize>() as f64 / seconds;
        println!("| {name} | {seconds:.1} | {rate:.0} | {p50:.2} | {p99:.2} | {p999:.2} |");
        rounds[kind].push(figures);
    }
    println!(
        "\n| medians | p50 ms | × | p99 ms | × | p99.9 ms | × |\n| --- | --- | --- | --- | --- | --- | --- |"
    );
    let figure =
        |kind: usize, at: usize| median(&rounds[kind].iter().map(|figures| figures[at]).collect::<Vec<_>>());
    for (kind, name) in KINDS.iter().enumerate() {
        let cells = [0, 1, 2].map(|at| {
            let value = figure(kind, at);
            format!("{value:.2} | {:.2}", value / figure(0, at))
        });
        println!("| {name} | {} |", cells.join(" | "));
    }
    println!();
    drop(server);
    remove(&backup);
}

/// Lets clients push while `work` runs, and for this long at least; returns how long the pushes of each window took, and all of it.
fn round(address: SocketAddr, at_least: Duration, work: impl FnOnce()) -> (Vec<Vec<f64>>, Duration) {
    let stop = AtomicBool::new(false);
    let began = orlop::clock::monotonic();
    let clients: Vec<Vec<f64>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn({
                    let stop = &stop;
                    move || push_until(address, client, stop)
                })
            })
            .collect();
        work();
        thread::sleep(at_least.saturating_sub(began.elapsed()));
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().expect("the client ends well")).collect()
    });
    (windows(&clients), began.elapsed())
}

/// The pushes of all clients by the time at which they began; each client pushes without a rest. What is left at the end counts with
/// the window before.
fn windows(clients: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut windows: Vec<Vec<f64>> = Vec::new();
    let whole = clients.iter().map(|pushes| pushes.iter().sum::<f64>()).fold(0.0, f64::max) / WINDOW;
    for pushes in clients {
        let mut at = 0.0;
        for took in pushes {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a list")]
            let place = (at / WINDOW).min((whole - 1.0).max(0.0)) as usize;
            if windows.len() <= place {
                windows.resize(place + 1, Vec::new());
            }
            windows[place].push(*took);
            at += took;
        }
    }
    windows
}
