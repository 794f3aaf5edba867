//! `orlop status`.

use std::io;
use std::process::ExitCode;

use clap::Args;

use crate::http::admin::Status;

use super::admin::{AdminArguments, AdminRequest};
use super::output::{Output, bytes};

pub(super) const EXAMPLES: &str = "\
Examples:
  orlop status
  orlop status --data /var/lib/orlop --json";

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
    let server = match &status.server {
        Some(server) => {
            format!("running: process {}, version {}, since {}", server.pid, status.version, server.since)
        }
        None => "not running".to_owned(),
    };
    let mut rows = vec![("server", server)];
    if let Some(server) = &status.server {
        rows.push(("address", format!("http://{}", server.address)));
    }
    let disk = &status.disk;
    let is_full = if disk.free_bytes < disk.floor_bytes { "; pushes are refused" } else { "" };
    rows.extend([
        ("repositories", status.repositories.to_string()),
        ("manifests", status.manifests.to_string()),
        ("tags", status.tags.to_string()),
        ("blobs", format!("{} ({})", status.blobs, bytes(status.blob_bytes))),
        ("damaged blobs", status.damaged.to_string()),
        ("deleted", format!("{} can come back", status.deletions)),
        ("untagged", format!("{} manifests ({} to be freed)", status.untagged, bytes(status.untagged_bytes))),
        ("metadata", bytes(status.metadata_bytes)),
        ("open uploads", status.uploads.to_string()),
        (
            "free space",
            format!("{} (pushes need {}{is_full})", bytes(disk.free_bytes), bytes(disk.floor_bytes)),
        ),
        ("events", format!("{} kept", status.events.kept)),
    ]);
    for (name, value) in rows {
        output.line(format!("{name:16} {value}"))?;
    }
    for endpoint in &status.events.endpoints {
        output.line(format!("  {:14} {} waiting", endpoint.name, endpoint.waiting))?;
    }
    Ok(())
}
