//! The program that is counted: `benches/parts/counted.rs`, optimised.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::callgrind;
use crate::counts::Counts;

/// The built program.
pub(crate) struct Program(PathBuf);

/// How it is compiled, as it is for a release but in one piece, so that what is inlined where doesn't hang on how the compiler
/// divides it.
const OPTIMISED: [&str; 4] =
    ["-Copt-level=3", "-Ccodegen-units=1", "-Cdebug-assertions=off", "-Coverflow-checks=on"];

/// Settings in the environment that would make other code, or that Cargo has made for this test.
fn is_left_out(name: &str) -> bool {
    let prefixes = ["CARGO_PROFILE_", "CARGO_PKG_", "CARGO_MANIFEST_"];
    let names = ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS"];
    names.contains(&name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

impl Program {
    /// Builds it; what it depends on is there from `cargo test`.
    pub(crate) fn build() -> Program {
        let mut cargo = Command::new(env!("CARGO"));
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(is_left_out) {
                cargo.env_remove(name);
            }
        }
        cargo
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args([
                "rustc",
                "--quiet",
                "--example",
                "counted",
                "--message-format=json-render-diagnostics",
                "--",
            ])
            .args(OPTIMISED)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        let output = cargo.output().expect("cargo can be run");
        assert!(output.status.success(), "the counted program can't be built: {}", output.status);
        let messages = String::from_utf8(output.stdout).expect("cargo writes JSON");
        let executable = messages.lines().find_map(|line| {
            let message: Value = serde_json::from_str(line).ok()?;
            let is_it = message["target"]["name"] == "counted";
            message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
        });
        Program(executable.expect("cargo says where the program lies"))
    }

    /// Counts every case.
    pub(crate) fn count(&self) -> Counts {
        let list = Command::new(&self.0).output().expect("the program can be run");
        let list = String::from_utf8(list.stdout).expect("the names of cases are UTF-8");
        let case = |line: &str| {
            let (function, name) = line.split_once('\t').expect("a function, a tab and a name");
            (name.to_owned(), callgrind::count(&self.0, name, function))
        };
        list.lines().map(case).collect()
    }
}
