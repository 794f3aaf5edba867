//! The `orlop` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    orlop::cli::run(std::env::args_os())
}
