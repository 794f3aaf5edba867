//! Large blobs, side by side with the programs that set the mark: pulls with nginx's sendfile, pushes with the hash alone.
//!
//! `cargo bench --bench serving` prints a report in Markdown; `docs/performance.md` keeps one, and says how to read it.
//! It needs `nginx` and `openssl` on the machine, and 4 GiB of free disk. An argument chooses one part: `hash`, `pull`,
//! `push`, `memory`.
//!
//! Rounds of the things compared alternate, since machines change their speed from minute to minute; a figure is the
//! median of its rounds. CPU time is the server's, from `/proc/PID/task/*/schedstat`, which counts nanoseconds; with pushes,
//! whose threads come and go, from `/proc/PID/stat`.

#![expect(clippy::print_stdout, reason = "the report is what this program is for")]

#[path = "../speed/load/exchange.rs"]
mod exchange;
mod hashing;
#[path = "../speed/machine.rs"]
#[expect(dead_code, reason = "what the other bench says of a machine")]
mod processor;
mod program;
mod pull;
mod push;
mod sample;

use std::process::Command;

/// The size of the blob: 1 GiB.
pub(crate) const BLOB: u64 = 1 << 30;

/// How often each thing is measured.
pub(crate) const ROUNDS: usize = 9;

fn main() {
    // Cargo passes `--bench`.
    let part = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    println!("Machine: {}\n", processor::describe());
    if wanted("hash") {
        hashing::report();
    }
    if wanted("pull") {
        pull::report();
    }
    if wanted("push") {
        push::report();
    }
    if wanted("memory") {
        push::report_memory();
    }
}

/// What a program prints, without the line's end.
pub(crate) fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}
