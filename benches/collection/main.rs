//! Deleting and collecting: whether it takes longer in a large store, and what it costs those who push meanwhile.
//!
//! `cargo bench --bench collection` prints a report in Markdown and writes the same as `collection.json` into the folder of
//! the stores; `docs/performance.md` keeps one, and says how to read it. An argument chooses one part: `scale`, `pushes`.
//! `--stores DIR` keeps the stores there for the next time, and `--repositories N` makes the large one of so many.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the report is what this program is for")]

mod case;
mod clients;
mod figures;
#[path = "../speed/machine.rs"]
#[expect(dead_code, reason = "what the other bench says of a machine")]
mod processor;
mod pushes;
mod scale;
mod store;
mod unsynced;
mod wire;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

/// How many repositories the small store has.
pub(crate) const SMALL: u64 = 10;

/// How many repositories the large store has, of a hundred manifests each.
const LARGE: u64 = 10_000;

fn main() {
    // Cargo passes `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [word, case, data, repositories] = &arguments[..]
        && word == "measure"
    {
        let repositories = repositories.parse().expect("a number of repositories");
        let runtime = tokio::runtime::Runtime::new().expect("it starts");
        let measured = runtime.block_on(case::measure(case, Path::new(data), repositories));
        println!("{}", serde_json::to_string(&measured).expect("it is JSON"));
        return;
    }
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

    println!("Machine: {}; {}\n", processor::describe(), load());
    let mut report = json!({ "machine": processor::describe(), "load": load() });
    if wanted("scale") {
        report["scale"] = scale::report(folder, large);
    }
    if wanted("pushes") {
        report["pushes"] = pushes::report(folder);
    }
    println!("At the end: {}", load());
    let text = serde_json::to_string_pretty(&report).expect("it is JSON");
    std::fs::write(folder.join("collection.json"), text).expect("it can be written");
}

/// How busy the machine is with whatever else it does.
fn load() -> String {
    let averages = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let last: Vec<_> = averages.split_whitespace().take(3).collect();
    format!("load {}", last.join(", "))
}

/// What a program prints, without the line's end.
pub(crate) fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}
