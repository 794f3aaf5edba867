//! The machine that a report is about.

use std::fs;
use std::process::Command;

/// One line for the head of a report.
pub(crate) fn describe() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("an unknown processor");
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    let uname = Command::new("uname").args(["-s", "-r"]).output().expect("uname is on every machine");
    let kernel = String::from_utf8_lossy(&uname.stdout).trim_end().to_owned();
    format!(
        "{} ({cores} processors, SHA instructions: {}), {kernel}",
        model.trim_start_matches(['\t', ' ', ':']),
        if has_sha_instructions() { "yes" } else { "no" },
    )
}

/// Whether the processor has instructions for SHA-256.
pub(crate) fn has_sha_instructions() -> bool {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = info.lines().find(|line| line.starts_with("flags") || line.starts_with("Features"));
    flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "sha_ni" || flag == "sha2"))
}

/// How busy the machine is with whatever else it does.
pub(crate) fn load() -> String {
    let averages = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let last: Vec<_> = averages.split_whitespace().take(3).collect();
    format!("load {}", last.join(", "))
}
