//! Large bodies, each over a connection and on a thread of its own.

use std::thread;
use std::time::Duration;

use orlop::clock::monotonic;

use crate::measured::{Measured, latencies};
use crate::processors::cpu_of_this_thread;
use crate::program::Program;

/// Lets so many clients do one thing each at once, which returns how many bytes it moved; says too what the server used meanwhile, of
/// threads too that have ended where `has_short_threads` says so, which is less exact.
pub(crate) fn streams(
    server: &Program,
    clients: u64,
    has_short_threads: bool,
    client: impl Fn(u64) -> u64 + Sync,
) -> Measured {
    let cpu = || if has_short_threads { server.cpu_of_all_threads() } else { server.cpu() };
    server.forget_peak();
    let before = cpu();
    let (began, client) = (monotonic(), &client);
    let ended: Vec<(u64, Duration, Duration)> = thread::scope(|scope| {
        let run = |number| {
            scope.spawn(move || {
                let started = monotonic();
                let bytes = client(number);
                (bytes, started.elapsed(), cpu_of_this_thread())
            })
        };
        let threads: Vec<_> = (0..clients).map(run).collect();
        threads.into_iter().map(|thread| thread.join().expect("the client ends well")).collect()
    });
    let elapsed = began.elapsed();
    let mut latency = latencies();
    for (_, took, _) in &ended {
        latency.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }
    Measured {
        operations: clients,
        bytes: ended.iter().map(|(bytes, ..)| bytes).sum(),
        elapsed,
        latency: Some(latency),
        server_cpu: cpu().zip(before).map(|(after, before)| after.saturating_sub(before)),
        client_cpu: ended.iter().map(|(.., cpu)| *cpu).sum(),
        peak_memory: server.peak_memory(),
        // The clients share all processors with the server, so that none of them is the limit before the server is.
        is_load_the_limit: false,
    }
}
