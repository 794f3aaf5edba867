//! The programs that are run, and what they leave on the disk.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use orlop::clock::monotonic;

/// How busy the machine is with whatever else it does.
pub(crate) fn load() -> String {
    let averages = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let last: Vec<_> = averages.split_whitespace().take(3).collect();
    format!("load {}", last.join(", "))
}

/// The program that is measured.
pub(crate) fn orlop() -> Command {
    Command::new(env!("CARGO_BIN_EXE_orlop"))
}

/// What a program prints, without the line's end.
pub(crate) fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Runs a command to its good end; says how long that took.
pub(crate) fn run(command: &mut Command) -> Duration {
    let began = monotonic();
    output_of(command.stdin(Stdio::null()));
    began.elapsed()
}

/// The bytes that a directory takes on the disk.
pub(crate) fn taken(dir: &Path) -> u64 {
    let output =
        Command::new("du").args(["--summarize", "--block-size=1"]).arg(dir).output().expect("du runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).expect("du says a number")
}

/// Makes everything durable and forgets what is in memory of files, so that whoever comes first has no advantage.
pub(crate) fn settle() {
    run(&mut Command::new("sync"));
    fs::write("/proc/sys/vm/drop_caches", "3").expect("run this as root: it empties the page cache");
}

/// Removes a directory, if it is there.
pub(crate) fn remove(dir: &Path) {
    if dir.exists() {
        fs::remove_dir_all(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    }
}
