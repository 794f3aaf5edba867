//! The real program, killed in the middle of pushes, hundreds of times.
//!
//! Several clients push, tag and delete; the server is killed at a moment that their progress chooses: after so many
//! bytes, requests or answers. Then it starts again on the same data, and everything that was acknowledged has to be there,
//! byte for byte, and nothing else. Uploads go on from where an answer said they stood, without being read back.
//!
//! `CRASH_KILLS` and `CRASH_SEED` choose another number and other moments.
#![expect(clippy::unwrap_used, reason = "in a test, whatever is not as it should be is a failure")]

#[path = "crash/auditor.rs"]
mod auditor;
#[path = "crash/killer.rs"]
mod killer;
#[path = "crash/ledger.rs"]
mod ledger;
#[path = "crash/program.rs"]
mod program;
#[path = "crash/pusher.rs"]
mod pusher;
#[path = "crash/random.rs"]
mod random;
#[path = "crash/wire.rs"]
mod wire;

use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, thread};

use auditor::{Auditor, Seen, Since};
use killer::Killer;
use ledger::Ledger;
use program::{Program, verify};
use random::Random;
use wire::Connection;

/// Clients per server, each with a repository of its own.
const CLIENTS: usize = 4;
/// Servers beside each other, each with a directory of its own.
const SERVERS: u64 = 2;

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).ok().map_or(default, |value| value.parse().unwrap())
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_else_is_visible_however_often_the_server_is_killed() {
    let (kills, seed) = (setting("CRASH_KILLS", 240), setting("CRASH_SEED", 1));
    println!("CRASH_KILLS={kills} CRASH_SEED={seed}");
    let servers: Vec<_> = (0..SERVERS)
        .map(|server| thread::spawn(move || crash(kills / SERVERS, seed * 1000 + server)))
        .collect();
    let mut total = Seen::default();
    for server in servers {
        total.add(server.join().unwrap());
    }
    println!("{total:?}");
    assert!(
        total.resumed_uploads >= kills / 10,
        "too few uploads were interrupted to have tested anything: {total:?}"
    );
    assert!(
        total.doubts_kept > 0 && total.doubts_dropped > 0,
        "the kills all came at the same moment: {total:?}"
    );
}

/// Kills one server again and again.
fn crash(kills: u64, seed: u64) -> Seen {
    let directory = tempfile::tempdir().unwrap();
    let mut random = Random::new(seed);
    let mut clients: Vec<(Ledger, Random)> = (0..CLIENTS)
        .map(|client| (Ledger::new(format!("team-{client}/app")), Random::new(random.next())))
        .collect();
    let mut starts = Vec::<Duration>::new();
    let mut findings = Seen::default();

    for _ in 0..kills {
        let began = Instant::now();
        let program = Program::start(directory.path());
        starts.push(began.elapsed());
        findings.add(audit(&program, &mut clients, Since::LastAudit));

        let killer = Killer::new(program.pid(), &mut random);
        let address = program.address;
        thread::scope(|scope| {
            for (ledger, random) in &mut clients {
                let killer = &killer;
                scope.spawn(move || {
                    let Err(error) = Connection::open(address, killer)
                        .and_then(|mut connection| pusher::push(&mut connection, ledger, random));
                    assert!(killer.is_done(), "the connection broke before the server was killed: {error}");
                });
            }
        });
        program.reap();
    }

    let program = Program::start(directory.path());
    findings.add(audit(&program, &mut clients, Since::Ever));
    program.stop();
    expect_clean(directory.path(), &clients);
    starts.sort();
    // Far above what a start takes, and far below what reading everything back would take at any size worth having.
    assert!(starts[starts.len() / 2] < Duration::from_secs(1), "a start has to be immediate");
    findings
}

/// Compares every client's repository with its ledger, on a server that is not killed meanwhile.
fn audit(program: &Program, clients: &mut [(Ledger, Random)], since: Since) -> Seen {
    let nobody = Killer::none(program.pid());
    let mut seen = Seen::default();
    thread::scope(|scope| {
        let audits: Vec<_> = clients
            .iter_mut()
            .map(|(ledger, random)| {
                let nobody = &nobody;
                scope.spawn(move || {
                    let mut connection = Connection::open(program.address, nobody).unwrap();
                    let mut auditor = Auditor { connection: &mut connection, ledger, seen: Seen::default() };
                    auditor.audit(since, random);
                    auditor.seen
                })
            })
            .collect();
        for audit in audits {
            seen.add(audit.join().unwrap());
        }
    });

    let mut connection = Connection::open(program.address, &nobody).unwrap();
    let metrics = connection.get("/metrics").unwrap().expect(200).body;
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(
        metrics.contains("\norlop_upload_rehashed_bytes_total 0\n"),
        "uploads go on without reading back what they have:\n{metrics}"
    );
    let catalog = connection.get("/v2/_catalog").unwrap().expect(200).body;
    let catalog: serde_json::Value = serde_json::from_slice(&catalog).unwrap();
    for repository in catalog["repositories"].as_array().unwrap() {
        let name = repository.as_str().unwrap();
        assert!(clients.iter().any(|(ledger, _)| ledger.repository == name), "nobody pushed to {name}");
    }
    seen
}

/// The store verifies, every byte, and holds as much as was acknowledged.
fn expect_clean(directory: &Path, clients: &[(Ledger, Random)]) {
    let output = verify(directory);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("Everything is in order"), "{text}");
    let count = |of: fn(&Ledger) -> usize| clients.iter().map(|(ledger, _)| of(ledger)).sum::<usize>();
    for (name, expected) in [
        ("blobs", count(|ledger| ledger.blobs.len() + ledger.deleted_blobs)),
        ("manifests", count(|ledger| ledger.images.len())),
        ("tags", count(|ledger| ledger.tags.len())),
    ] {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        let shown: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert_eq!(shown, expected, "{name}:\n{text}");
    }
}
