//! Snapshots: how long they take and what room they need beside `cp -a` and restic, and what they cost those who push meanwhile.
//!
//! `cargo bench --bench snapshots` prints a report in Markdown; `docs/performance.md` keeps one, and says how to read it. An
//! argument chooses one part: `images`, `pushes`. `--stores DIR` keeps the large store there for the next time, and
//! `--repositories N` makes it of so many, of a hundred manifests each.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the report is what this program is for")]

#[path = "../collection/clients.rs"]
mod clients;
#[path = "../collection/figures.rs"]
#[expect(dead_code, reason = "what other measurements say")]
mod figures;
mod images;
#[path = "../speed/machine.rs"]
#[expect(dead_code, reason = "what the other bench says of a machine")]
mod processor;
mod program;
mod pushes;
#[path = "../collection/store.rs"]
#[expect(dead_code, reason = "what other measurements ask of a store")]
mod store;
mod tools;
#[path = "../collection/unsynced.rs"]
mod unsynced;
#[path = "../collection/wire.rs"]
#[expect(dead_code, reason = "the server is a process of its own here")]
mod wire;

use std::path::PathBuf;

/// How many repositories the large store has, of a hundred manifests each.
const LARGE: u64 = 10_000;

fn main() {
    // Cargo passes `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let option = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1).cloned()
    };
    let part = arguments.first().filter(|argument| !argument.starts_with('-'));
    let wanted = |name: &str| part.is_none_or(|part| part == name);
    let kept = option("--stores").map(PathBuf::from);
    let temporary = tempfile::TempDir::with_prefix("orlop-bench-").expect("a temporary folder can be made");
    let folder = kept.as_deref().unwrap_or(temporary.path());
    let large = option("--repositories").map_or(LARGE, |number| number.parse().expect("a number"));

    println!("Machine: {}; {}\n", processor::describe(), tools::load());
    if wanted("images") {
        images::report(temporary.path());
    }
    if wanted("pushes") {
        pushes::report(folder, large);
    }
    println!("At the end: {}", tools::load());
}
