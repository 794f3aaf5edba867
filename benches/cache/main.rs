//! The pull-through cache: many clients that want the same thing at once, and what a pull takes, cold and warm.
//!
//! `cargo bench --bench cache` prints a report in Markdown; `docs/performance.md` keeps one, and says how to read it. It needs
//! Debian's `docker-registry`, which is the upstream, and in its proxy mode the other cache. An argument chooses one part:
//! `pulls`, `crowd` or `line`. Every round begins with new processes on empty folders, but for the upstream.

#![expect(clippy::print_stdout, reason = "the report is what this program is for")]

mod crowd;
#[path = "../speed/load/exchange.rs"]
#[expect(dead_code, reason = "what the other bench sends")]
mod exchange;
#[path = "../collection/figures.rs"]
mod figures;
mod image;
#[path = "../speed/machine.rs"]
#[expect(dead_code, reason = "what the other bench says of a machine")]
mod processor;
mod program;
mod pull;
mod pulls;
mod relay;

fn main() {
    // Cargo passes `--bench`.
    let part = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    println!("Machine: {}; {}\n", processor::describe(), load());
    if wanted("pulls") {
        pulls::report();
    }
    if wanted("crowd") {
        crowd::report();
    }
    if wanted("line") {
        crowd::report_line();
    }
    println!("At the end: {}", load());
}

/// How busy the machine is with whatever else it does.
fn load() -> String {
    let averages = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let last: Vec<_> = averages.split_whitespace().take(3).collect();
    format!("load {}", last.join(", "))
}
