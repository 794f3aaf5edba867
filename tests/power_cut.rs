//! Whole pushes on a disk that loses power at any moment, and keeps of what was not synced whatever it likes.
//!
//! Blob files and the database lie on one simulated disk, with one sequence of operations. The scenario runs once; the disk
//! as it would be after a cut is rebuilt for every operation of it.

#[path = "power_cut/ledger.rs"]
mod ledger;
#[path = "power_cut/scenario.rs"]
mod scenario;

use ledger::new_runtime;

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_every_operation() {
    let ledger = scenario::run();
    let runtime = new_runtime();
    let mut replay = ledger.disk.replay();
    loop {
        for seed in 0..8 {
            let violation = ledger.violation(&runtime, &replay, seed);
            assert_eq!(violation.map(|violation| ledger.report(&replay, seed, &violation)), None);
        }
        if !replay.advance() {
            break;
        }
    }
    eprintln!("{} operations, {} syncs", ledger.disk.operations(), ledger.disk.syncs());
}
