//! What those who push wait for while a large backlog is collected, beside what they wait for without.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use futures_util::future::try_join_all;
use orlop::clock::monotonic;
use orlop::oci::Digest;
use orlop::registry::{Collected, Collection};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::clients::push_until;
use crate::figures::{median, quantile};
use crate::store::{self, Store};
use crate::wire::serve;

/// How many rounds there are of each kind.
const ROUNDS: u64 = 12;

/// How long clients push in a round.
const ROUND: Duration = Duration::from_secs(4);

/// How many clients push at once, each waiting for one answer after the other.
const CLIENTS: u64 = 8;

/// How many images are deleted before each round that collects.
const BACKLOG: u64 = 3_000;

/// How many repositories they are in.
const REPOSITORIES: u64 = 20;

/// What one round has measured: how long each push took, in milliseconds.
struct Round {
    pushes: Vec<f64>,
    gone: Collected,
    took: Duration,
}

/// Prints the comparison.
pub(crate) fn report(folder: &Path) -> Value {
    let data = folder.join("pushes");
    let _ = std::fs::remove_dir_all(&data);
    let runtime = Runtime::new().expect("it starts");
    let images = runtime.block_on(store::make_images(&data, REPOSITORIES, ROUNDS * BACKLOG));
    crate::output_of(&mut std::process::Command::new("sync"));
    let store = Store::open(&data, Collection::default());
    let address = runtime.block_on(serve(store.registry.clone()));
    println!(
        "## Pushes by {CLIENTS} clients, without and with a collection of {BACKLOG} images\n\n\
         | round | | pushes/s | p50 ms | p99 ms | p99.9 ms | images collected/s |\n\
         | --- | --- | --- | --- | --- | --- | --- |"
    );
    round(&runtime, &store, address, &[]);
    let mut rounds: [Vec<Round>; 2] = [Vec::new(), Vec::new()];
    for (number, backlog) in images.chunks(usize::try_from(BACKLOG).expect("it fits")).enumerate() {
        // Who goes first alternates.
        let kinds = if number % 2 == 0 { [0, 1] } else { [1, 0] };
        for kind in kinds {
            let backlog = if kind == 1 { backlog } else { &[] };
            let round = round(&runtime, &store, address, backlog);
            println!("| {} | {} | {}", number + 1, NAMES[kind], row(&round));
            rounds[kind].push(round);
        }
    }
    let figure = |kind: usize, share: f64| {
        let each: Vec<f64> = rounds[kind].iter().map(|round| quantile(&round.pushes, share)).collect();
        median(&each)
    };
    println!("\n| median of the rounds | without | with | × |\n| --- | --- | --- | --- |");
    let mut shares = Vec::new();
    for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        let [without, with] = [figure(0, share), figure(1, share)];
        println!("| {name} ms | {without:.2} | {with:.2} | {:.2} |", with / without);
        shares.push(
            json!({ "quantile": share, "without_ms": without, "with_ms": with, "ratio": with / without }),
        );
    }
    println!();
    runtime.block_on(store.registry.close());
    drop((store, runtime));
    let _ = std::fs::remove_dir_all(&data);
    json!({ "clients": CLIENTS, "backlog": BACKLOG, "rounds": ROUNDS, "figures": shares })
}

const NAMES: [&str; 2] = ["without", "with"];

#[expect(clippy::cast_precision_loss, reason = "three digits are read")]
fn row(round: &Round) -> String {
    let seconds = round.took.as_secs_f64();
    let rate = |number: f64| number / seconds;
    format!(
        "{:.0} | {:.2} | {:.2} | {:.2} | {:.0} |",
        rate(round.pushes.len() as f64),
        quantile(&round.pushes, 0.5),
        quantile(&round.pushes, 0.99),
        quantile(&round.pushes, 0.999),
        rate(round.gone.deletions as f64),
    )
}

/// Deletes the backlog, then lets clients push, while it is collected if there is one. The round ends with the collection
/// where that is done first.
fn round(runtime: &Runtime, store: &Store, address: SocketAddr, backlog: &[(u64, Digest)]) -> Round {
    runtime.block_on(async {
        for some in backlog.chunks(1_000) {
            let deleted = some.iter().map(|(number, digest)| {
                let manifests = store.repository(*number).manifests();
                async move { manifests.delete(digest).await }
            });
            let deleted = try_join_all(deleted).await.expect("they are deleted");
            assert!(deleted.iter().all(Option::is_some), "they were there");
        }
    });
    // Beyond undo and lease.
    store.clock.advance(Duration::from_secs(27 * 60 * 60));
    let stop = Arc::new(AtomicBool::new(false));
    let so_far = Arc::new(Mutex::new(Collected::default()));
    let collection = (!backlog.is_empty()).then(|| {
        let (registry, stop, so_far) = (store.registry.clone(), stop.clone(), so_far.clone());
        runtime.spawn(async move {
            let count = |gone: &Collected| *so_far.lock().expect("nobody panics") = *gone;
            registry.collect(count).await.expect("it collects");
            stop.store(true, Ordering::Relaxed);
        })
    });
    let began = monotonic();
    let pushes = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let stop = stop.clone();
                scope.spawn(move || push_until(address, client, &stop))
            })
            .collect();
        while began.elapsed() < ROUND && !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().expect("the client ends well")).collect()
    });
    let took = began.elapsed();
    let gone = *so_far.lock().expect("nobody panics");
    if let Some(collection) = collection {
        // What is left goes in the next round that collects; a step that has begun goes on to its end.
        collection.abort();
        let _ = runtime.block_on(collection);
        runtime.block_on(async { drop(store.registry.hold_collection().await) });
        assert!(gone.deletions > 0, "something was collected");
    }
    Round { pushes, gone, took }
}
