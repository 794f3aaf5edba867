//! The parts take no more instructions than they did: counted by valgrind, compared with what is stored.
//!
//! A time says little on a machine that others use; the instructions that a part executes are the same on any day, for one
//! compiler and one target. `counts.toml` has them for the pinned compiler (`rust-toolchain.toml`). A part that differs by more
//! than 3 %, either way, fails; what is meant is accepted by
//!
//! ```text
//! UPDATE_COUNTS=1 cargo test --test instructions -- --ignored
//! ```
//!
//! Counted are the instructions of the program itself, with all Rust code in it, and how often it allocates. What the C library
//! does is left out: it differs from system to system, and chooses by the processor how it copies. The count itself is
//! ignored in a plain `cargo test`, which has to pass on a machine without valgrind; tests/all runs it.

mod callgrind;
mod comparison;
mod counts;
mod program;

use counts::{Compiler, Stored};
use program::Program;

#[test]
#[ignore = "needs valgrind; tests/all runs it"]
fn no_part_takes_more_instructions_than_it_did() {
    callgrind::require();
    let compiler = Compiler::present();
    let counted = Program::build().count();
    let mut stored = Stored::read();
    if std::env::var_os("UPDATE_COUNTS").is_some_and(|value| value == "1") {
        stored.replace(compiler, counted);
        stored.write();
        return;
    }
    let complaints = match stored.of(&compiler) {
        Some(expected) => comparison::differences(expected, &counted),
        None => vec![comparison::nothing_stored(&stored, &compiler)],
    };
    assert!(complaints.is_empty(), "\n{}\n{}\n", complaints.join("\n"), comparison::HOW_TO_ACCEPT);
}

#[test]
fn the_stored_counts_are_those_of_the_pinned_compiler() {
    let pin = include_str!("../../rust-toolchain.toml");
    let pin: toml::Table = pin.parse().expect("it is TOML");
    let channel = pin["toolchain"]["channel"].as_str().expect("a version");
    let stored = Stored::read();
    let expected = format!("rustc {channel} (");
    assert!(!stored.compilers().is_empty());
    for compiler in stored.compilers() {
        assert!(compiler.version.starts_with(&expected), "counted by {compiler}, and {channel} is pinned");
    }
}
