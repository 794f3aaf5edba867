//! `orlop status`.

use std::io;
use std::process::ExitCode;

use clap::Args;

use crate::http::admin::{BackupState, Status};

use super::admin::{AdminArguments, AdminRequest};
use super::cache_status;
use super::output::{Output, ago, bytes};
use super::table;

pub(super) const EXAMPLES: &str = "\
Examples:
  orlop status
  orlop status --data /var/lib/orlop --json
  orlop status --json | jq -r '.warnings[]'       what somebody should look at";

#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    #[command(flatten)]
    admin: AdminArguments,
}

pub(super) fn run(arguments: &StatusArguments, output: &mut Output) -> anyhow::Result<ExitCode> {
    arguments.admin.ask(AdminRequest::get("status"), output, print)?;
    Ok(ExitCode::SUCCESS)
}

fn print(status: &Status, output: &mut Output) -> io::Result<()> {
    output.facts(facts(status))?;
    for endpoint in &status.events.endpoints {
        output.line(format!("  {:14} {} waiting", endpoint.name, endpoint.waiting))?;
    }
    if !status.cache.upstreams.is_empty() {
        output.line("")?;
        cache_status::print(&status.cache, output)?;
    }
    if !status.backups.is_empty() {
        output.line("")?;
        let rows: Vec<_> = status.backups.iter().map(backup).collect();
        let headings = ["backup", "state", "last", "age", "size", "added", "took", "next"];
        table::print(output, headings, &[3, 4, 5, 6], &rows)?;
    }
    output.line("")?;
    if status.warnings.is_empty() {
        return output.line("No warnings.");
    }
    status.warnings.iter().try_for_each(|warning| output.line(format!("WARNING: {warning}")))
}

fn facts(status: &Status) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    match &status.server {
        Some(server) => {
            let since = format!("process {}, version {}, since {}", server.pid, status.version, server.since);
            facts.extend([("server", format!("running: {since}")), ("address", server.address.clone())]);
            if let Some(until) = &server.certificate_until {
                facts.push(("certificate", format!("until {until}")));
            }
        }
        None => facts.push(("server", "not running".to_owned())),
    }
    let disk = &status.disk;
    let is_full = if disk.free_bytes < disk.floor_bytes { "; pushes are refused" } else { "" };
    let collection = match &status.collection.last {
        Some(last) => format!("{} removed at {}, ", bytes(last.bytes), last.at),
        None => String::new(),
    };
    facts.extend([
        ("repositories", status.repositories.to_string()),
        ("manifests", status.manifests.to_string()),
        ("tags", status.tags.to_string()),
        ("blobs", format!("{} ({})", status.blobs, bytes(status.blob_bytes))),
        ("damaged blobs", status.damaged.to_string()),
        ("deleted", format!("{} can come back", status.deletions)),
        ("untagged", format!("{} manifests ({} to be freed)", status.untagged, bytes(status.untagged_bytes))),
        ("collection", format!("{collection}{} waiting", status.collection.waiting)),
        ("metadata", bytes(status.metadata_bytes)),
        ("open uploads", status.uploads.to_string()),
        (
            "free space",
            format!("{} (pushes need {}{is_full})", bytes(disk.free_bytes), bytes(disk.floor_bytes)),
        ),
        ("events", format!("{} kept", status.events.kept)),
    ]);
    facts
}

fn backup(backup: &BackupState) -> [String; 8] {
    let state = match backup {
        BackupState { running_since: Some(_), .. } => "running",
        BackupState { failure: Some(_), .. } => "failing",
        BackupState { overdue: true, .. } => "overdue",
        _ => "ok",
    };
    let dash = || "-".to_owned();
    let of_last =
        |show: fn(&crate::http::admin::LastBackup) -> String| backup.last.as_ref().map_or_else(dash, show);
    [
        backup.to.clone(),
        state.to_owned(),
        of_last(|last| last.snapshot.clone()),
        of_last(|last| ago(last.age_seconds)),
        of_last(|last| bytes(last.bytes)),
        of_last(|last| bytes(last.added_bytes)),
        of_last(|last| last.took_ms.map_or_else(|| "-".to_owned(), |took| format!("{took} ms"))),
        backup.due.clone(),
    ]
}
