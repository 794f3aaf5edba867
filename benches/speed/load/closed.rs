//! Clients that wait for an answer before they ask again.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use hdrhistogram::Histogram;
use orlop::clock::monotonic;
use tokio::runtime;

use super::{Connection, Turn, Until, is_limit};
use crate::measured::{Measured, latencies};
use crate::processors::{Processors, cpu_of_this_thread};

/// Lets so many clients, each with a connection of its own, do one operation after the other on these processors, with a thread
/// for each of those. An operation that fails panics.
pub(crate) fn closed(
    to: SocketAddr,
    clients: u64,
    until: Until,
    on: &Processors,
    operation: impl AsyncFn(&mut Connection, Turn) + Sync,
) -> Measured {
    let threads = (on.len() as u64).min(clients);
    let all_connected = Barrier::new(usize::try_from(threads).expect("there are few"));
    let (all_connected, operation) = (&all_connected, &operation);
    let ended: Vec<Part> = thread::scope(|scope| {
        let run = |thread: u64| {
            scope.spawn(move || {
                on.take();
                let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("it starts");
                let own = (0..clients).filter(|client| client % threads == thread);
                runtime.block_on(part(to, own.collect(), until, all_connected, operation))
            })
        };
        let threads: Vec<_> = (0..threads).map(run).collect();
        threads.into_iter().map(|thread| thread.join().expect("the clients end well")).collect()
    });
    let mut latency = latencies();
    for part in &ended {
        latency.add(&part.latency).expect("they have the same bounds");
    }
    let elapsed = ended.iter().map(|part| part.elapsed).max().unwrap_or_default();
    let client_cpu = ended.iter().map(|part| part.cpu).sum();
    Measured {
        operations: latency.len(),
        elapsed,
        latency: Some(latency),
        client_cpu,
        is_load_the_limit: is_limit(client_cpu, elapsed, ended.len()),
        ..Measured::default()
    }
}

/// What the clients of one thread did.
struct Part {
    latency: Histogram<u64>,
    elapsed: Duration,
    cpu: Duration,
}

async fn part(
    to: SocketAddr,
    clients: Vec<u64>,
    until: Until,
    all_connected: &Barrier,
    operation: &impl AsyncFn(&mut Connection, Turn),
) -> Part {
    let connections = join_all(clients.iter().map(|_| Connection::to(to))).await;
    all_connected.wait();
    let (began, before) = (monotonic(), cpu_of_this_thread());
    let latency = RefCell::new(latencies());
    let run = async |client: u64, mut connection: Connection| {
        let mut number = 0;
        loop {
            let is_over = match until {
                Until::Each(operations) => number >= operations,
                Until::Elapsed(time) => began.elapsed() >= time,
            };
            if is_over {
                break;
            }
            let started = monotonic();
            operation(&mut connection, Turn { client, number }).await;
            let took = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            latency.borrow_mut().saturating_record(took);
            number += 1;
        }
    };
    join_all(clients.iter().zip(connections).map(|(client, connection)| run(*client, connection))).await;
    let (elapsed, cpu) = (began.elapsed(), cpu_of_this_thread().saturating_sub(before));
    Part { latency: latency.into_inner(), elapsed, cpu }
}
