//! Valgrind's callgrind: running a program under it, and what its report says.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::counts::Count;

/// The functions by which Rust's standard library asks the C library for memory.
const ALLOCATORS: [&str; 5] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"];

/// The function that a program is in from the first round to the last.
const BEGIN: &str = "*counted_rounds*";

/// Fails where valgrind isn't there.
pub(crate) fn require() {
    let status = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("`valgrind` is missing: install Debian's package `valgrind`, or run tests/all, which does")
        }
        other => panic!("`valgrind --version` doesn't work: {other:?}"),
    }
}

/// Runs `program argument` and counts what happens between the begin and the end of each call of `function`, a pattern.
pub(crate) fn count(program: &Path, argument: &str, function: &str) -> Count {
    let folder = TempDir::with_prefix("orlop-instructions-").expect("a temporary folder can be made");
    let report = folder.path().join("report");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--toggle-collect={function}"))
        // What the first round takes once, with the commits that come before it, is no part of it.
        .arg(format!("--zero-before={BEGIN}"))
        .arg(format!("--callgrind-out-file={}", report.display()))
        .arg(program)
        .arg(argument)
        // What lies on the stack first shifts all behind it, and some code does more where something isn't aligned.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .output()
        .expect("valgrind can be run");
    assert!(
        output.status.success(),
        "{argument}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let report = std::fs::read_to_string(&report).expect("valgrind has written its report");
    let count = read(&report, &program.display().to_string());
    assert!(
        count.instructions > 0,
        "{argument}: no function is called {function}, so that nothing was counted"
    );
    count
}

/// What a report says of the code that lies in `program` itself.
///
/// A report is a list of functions, each behind the object that it lies in (`ob=`), where that changes. Lines that begin with a
/// number are a place and what was executed there. A call is the function that is called (`cfn=`), how often (`calls=`), and a
/// line of what it took, which counts for itself elsewhere.
fn read(report: &str, program: &str) -> Count {
    let mut count = Count { instructions: 0, allocations: 0 };
    let (mut is_in_program, mut is_of_call, mut called) = (false, false, "");
    for line in report.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            is_in_program = object == program;
        } else if let Some(function) = line.strip_prefix("cfn=") {
            called = function;
        } else if let Some(calls) = line.strip_prefix("calls=") {
            is_of_call = true;
            if is_in_program && ALLOCATORS.contains(&called) {
                count.allocations += number(calls.split(' ').next());
            }
        } else if line.starts_with(|first: char| first.is_ascii_digit()) {
            if is_in_program && !is_of_call {
                count.instructions += number(line.split(' ').nth(1));
            }
            is_of_call = false;
        }
    }
    count
}

fn number(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).expect("the report is of the format that it was asked for")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_programs_own_instructions_count_and_its_own_allocations() {
        let report = "\
# callgrind format
version: 1
positions: line
events: Ir
summary: 9999

ob=/lib/libc.so.6
fl=malloc.c
fn=malloc
0 700
cfn=malloc
calls=5 0
0 40

ob=/a/program
fl=main.rs
fn=counted
0 100
cob=/lib/libc.so.6
cfi=malloc.c
cfn=malloc
calls=2 0
0 700
cfn=program::inner
calls=30 7
0 24
fn=program::inner
7 24
cob=/lib/libc.so.6
cfn=memcpy
calls=9 0
0 90
cob=/lib/libc.so.6
cfn=realloc
calls=1 0
0 90
";
        assert_eq!(read(report, "/a/program"), Count { instructions: 124, allocations: 3 });
        assert_eq!(read(report, "/another"), Count { instructions: 0, allocations: 0 });
    }
}
