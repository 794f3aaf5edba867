//! Pulls of a blob of 1 GiB, beside nginx with sendfile serving the same file.

use std::net::SocketAddr;
use std::thread;

use orlop::clock::monotonic;
use tempfile::TempDir;

use crate::exchange::request;
use crate::program::{Program, cpu_of_this_thread};
use crate::push::Body;
use crate::sample::{HEAD, Sample, Samples};
use crate::{BLOB, ROUNDS};

/// Prints the comparison, with one client and with eight.
pub(crate) fn report() {
    let folder = TempDir::with_prefix("orlop-bench-").expect("a temporary folder can be made");
    let data = folder.path().join("data");
    let orlop = Program::orlop(&data);
    let body = Body::new(0, BLOB);
    body.push_to(orlop.address());
    let digest = body.digest().to_string();
    // The very file that the registry serves, so that both read the same pages.
    let nginx = Program::nginx(&data, folder.path());
    let hex = digest.trim_start_matches("sha256:");
    let file = format!("/blobs/sha256/{}/{hex}", &hex[..2]);
    let blob = format!("/v2/bench/blobs/{digest}");

    for clients in [1, 8] {
        let (mut ours, mut marks) = (Samples::default(), Samples::default());
        // The first round of each warms up and is not counted.
        for round in 0..=ROUNDS {
            // Who goes first alternates too.
            let mark_first = round % 2 == 0;
            if mark_first {
                let sample = pull(&nginx, &file, clients);
                if round > 0 {
                    marks.push(sample);
                }
            }
            let sample = pull(&orlop, &blob, clients);
            if round > 0 {
                ours.push(sample);
            }
            if !mark_first {
                marks.push(pull(&nginx, &file, clients));
            }
        }
        println!("## Pulls of 1 GiB, {clients} at once, by clients that read their data\n\n{HEAD}");
        println!("{}", marks.row("nginx, sendfile", &marks));
        println!("{}\n", ours.row("orlop", &marks));
    }
}

fn pull(server: &Program, target: &str, clients: usize) -> Sample {
    let before = server.cpu();
    let started = monotonic();
    let client_cpu = thread::scope(|scope| {
        let get = || {
            get(server.address(), target);
            cpu_of_this_thread()
        };
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(get)).collect();
        clients.into_iter().map(|client| client.join().expect("the client ends well")).sum()
    });
    let elapsed = started.elapsed();
    let cpu = server.cpu().saturating_sub(before);
    Sample::new(BLOB * clients as u64, elapsed, cpu).with_client(client_cpu)
}

/// Pulls and throws away; fails when it isn't all of it.
pub(crate) fn get(from: SocketAddr, target: &str) {
    let answer = request(from, "GET", target);
    assert_eq!(answer.status(), 200, "{target}");
    assert_eq!(answer.read(), BLOB, "{target}");
}
