//! Whole pushes on a disk that loses power at any moment, and keeps of what was not synced whatever it likes.
//!
//! Blob files and the database lie on one simulated disk, with one sequence of operations. The scenario runs once; the disk
//! as it would be after a cut is rebuilt for every operation of it.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has to fail")]

#[path = "power_cut/collection.rs"]
mod collection;
#[path = "power_cut/ledger.rs"]
mod ledger;
#[path = "power_cut/scenario.rs"]
mod scenario;
#[path = "power_cut/store.rs"]
mod store;

use std::cell::Cell;
use std::ops::RangeInclusive;
use std::sync::Once;

use ledger::Ledger;
use orlop::fsio::Replay;
use store::{new_runtime, options, options_without_quick_repair};
use tokio::runtime::Runtime;

/// Cuts the power at every operation, with each kind of loss; those by chance differ from one operation to the next.
fn cut_everywhere(ledger: &Ledger, kinds: &[u64]) {
    cut_from(ledger, 0, kinds);
}

/// The same behind the first operations.
fn cut_from(ledger: &Ledger, first: u64, kinds: &[u64]) {
    let runtime = new_runtime();
    let mut replay = ledger.disk.replay();
    replay.advance_to(first);
    loop {
        for kind in kinds {
            let seed = kind + 8 * replay.completed();
            let violation = ledger.violation(&runtime, &replay, seed);
            assert_eq!(violation.map(|violation| ledger.report(&replay, seed, &violation)), None);
        }
        if !replay.advance() {
            break;
        }
    }
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_every_operation() {
    cut_everywhere(&scenario::run(options), &[0, 1, 2, 3, 4, 6]);
}

#[test]
fn it_survives_without_quick_repair_too() {
    cut_everywhere(&scenario::run(options_without_quick_repair), &[0, 2, 6]);
}

#[test]
fn deleting_undeleting_and_collecting_survive_a_power_cut_at_every_operation() {
    let ledger = collection::run();
    let pushed = ledger.steps.iter().find(|step| step.name.starts_with("delete"));
    cut_from(&ledger, pushed.unwrap().from, &[0, 4]);
}

thread_local! {
    /// Whether panics of this thread are part of the experiment.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Keeps the panics of a database that was damaged on purpose out of the output.
fn without_panic_messages<T>(run: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let former = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !IS_QUIET.get() {
                former(panic);
            }
        }));
    });
    IS_QUIET.set(true);
    let result = run();
    IS_QUIET.set(false);
    result
}

/// A violation at one of these cuts, if there is any; the seeds that lose most come first.
fn find_violation(
    ledger: &Ledger,
    runtime: &Runtime,
    mut replay: Replay,
    cuts: RangeInclusive<u64>,
) -> Option<String> {
    replay.advance_to(cuts.start() - 1);
    for seed in [0, 2, 6, 4, 3, 5, 7, 14, 12, 15, 13] {
        let mut replay = replay.clone();
        for cut in cuts.clone() {
            replay.advance_to(cut - 1);
            let violation = without_panic_messages(|| ledger.violation(runtime, &replay, seed));
            if let Some(violation) = violation {
                return Some(ledger.report(&replay, seed, &violation));
            }
        }
    }
    None
}

/// The commits of a push are redb's: two syncs each. The others are those of the blob's bytes, of its directory, and of
/// the directory above where that one is new.
#[test]
fn leaving_out_any_one_sync_of_a_request_loses_something_that_was_acknowledged() {
    let ledger = scenario::run(options);
    let runtime = new_runtime();
    let mut needed = 0;
    let mut harmless = Vec::new();
    for sync in 1..=ledger.disk.syncs() {
        let cuts = ledger.disk.sync_window(sync);
        let operation = cuts.start() - 1;
        let of_request = |step: &&ledger::Step| (step.from + 1..=step.until).contains(&operation);
        let Some(step) = ledger.steps.iter().find(of_request) else { continue };
        if ["open", "restart", "push blobs at once"].contains(&step.name) {
            continue;
        }
        let replay = ledger.disk.replay().ignoring_sync(sync);
        match find_violation(&ledger, &runtime, replay, cuts) {
            Some(_) => needed += 1,
            None => harmless.push(format!("{} in `{}`", ledger.disk.describe_sync(sync), step.name)),
        }
    }
    // A file of no bytes has none to lose.
    harmless
        .retain(|sync| !sync.contains("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 in"));
    assert_eq!(harmless, [] as [String; 0]);
    assert!(needed > 50, "only {needed} syncs were left out");
}

/// While the first start makes the database, each sync is followed by another one before anything is promised.
#[test]
fn leaving_out_all_syncs_of_the_first_start_loses_something_that_was_acknowledged() {
    let ledger = scenario::run(options);
    let runtime = new_runtime();
    let opened = ledger.steps.first().unwrap().until;
    let mut replay = ledger.disk.replay();
    for sync in (1..).take_while(|sync| *ledger.disk.sync_window(*sync).start() <= opened + 1) {
        replay = replay.ignoring_sync(sync);
    }
    let until = ledger.steps[1].until;
    assert!(find_violation(&ledger, &runtime, replay, 1..=until + 1).is_some());
}
