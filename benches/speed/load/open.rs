//! Requests that are due at their times, whether the ones before have been answered or not.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use orlop::clock::monotonic;
use tokio::runtime;

use super::{Connection, Turn, is_limit};
use crate::measured::{Measured, latencies};
use crate::processors::{Processors, cpu_of_this_thread};

/// Lets operations begin at times `every` apart until `stop`, in turn over so many connections; each has a thread of its own, since an
/// asynchronous timer knows whole milliseconds only. One that is due while its connection is still busy waits, and that counts.
pub(crate) fn open(
    to: SocketAddr,
    connections: u64,
    every: Duration,
    stop: &AtomicBool,
    on: &Processors,
    operation: impl AsyncFn(&mut Connection, Turn) + Sync,
) -> Measured {
    let (began, operation) = (monotonic(), &operation);
    let ended: Vec<_> = thread::scope(|scope| {
        let run = |client: u64| {
            scope.spawn(move || {
                on.take();
                let before = cpu_of_this_thread();
                let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("it starts");
                let mut connection = runtime.block_on(Connection::to(to));
                let mut latency = latencies();
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    let turn = u32::try_from(number * connections + client).expect("it ends before");
                    let due = every * turn;
                    thread::sleep(due.saturating_sub(began.elapsed()));
                    runtime.block_on(operation(&mut connection, Turn { client, number }));
                    let took = began.elapsed().saturating_sub(due);
                    latency.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
                    number += 1;
                }
                (latency, cpu_of_this_thread().saturating_sub(before))
            })
        };
        let threads: Vec<_> = (0..connections).map(run).collect();
        threads.into_iter().map(|thread| thread.join().expect("the client ends well")).collect()
    });
    let mut latency = latencies();
    for (part, _) in &ended {
        latency.add(part).expect("they have the same bounds");
    }
    let (elapsed, client_cpu) = (began.elapsed(), ended.iter().map(|(_, cpu)| *cpu).sum());
    Measured {
        operations: latency.len(),
        elapsed,
        latency: Some(latency),
        client_cpu,
        is_load_the_limit: is_limit(client_cpu, elapsed, on.len()),
        ..Measured::default()
    }
}
