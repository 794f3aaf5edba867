//! `orlop gc`.

use std::io;
use std::process::ExitCode;

use clap::Args;

use crate::http::admin::{Gc, GcAnswer, KeptBy};

use super::admin::{AdminArguments, AdminRequest};
use super::deletions::name_of;
use super::output::{Output, bytes};

pub(super) const EXAMPLES: &str = "\
Examples:
  orlop gc --dry-run      what would go now, and what keeps the rest
  orlop gc                remove what is due";

/// How many reasons are printed of each kind.
const PRINTED: usize = 10;

#[derive(Debug, Args)]
pub(super) struct GcArguments {
    /// Remove nothing; show what would go, and what keeps the rest
    #[arg(long, short = 'n')]
    dry_run: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

pub(super) fn run(arguments: &GcArguments, output: &mut Output) -> anyhow::Result<ExitCode> {
    let request = AdminRequest::post("gc", &Gc { dry_run: arguments.dry_run })?;
    arguments.admin.ask(request, output, print)?;
    Ok(ExitCode::SUCCESS)
}

fn print(answer: &GcAnswer, output: &mut Output) -> io::Result<()> {
    let verb = if answer.dry_run { "would go" } else { "gone" };
    let rows = [
        (verb, format!("{} of {} blobs", bytes(answer.bytes), answer.blobs)),
        ("", format!("{} unneeded links of blobs", answer.links)),
        ("", format!("{} manifests, {} tags", answer.manifests, answer.tags)),
        ("", format!("{} deletions past their window", answer.deletions)),
        ("kept", format!("{} deletions that can be undone", answer.kept.deletions)),
        (
            "",
            format!(
                "{} blobs that a push may name ({})",
                answer.kept.leased,
                bytes(answer.kept.leased_bytes)
            ),
        ),
        ("", format!("{} untagged manifests ({})", answer.kept.untagged, bytes(answer.kept.untagged_bytes))),
    ];
    for (name, value) in rows {
        output.line(format!("{name:9} {value}"))?;
    }
    let mut printed = [0; 3];
    for root in &answer.kept.roots {
        let (kind, line) = match root {
            KeptBy::Deletion(deleted) => {
                (0, format!("undo until {}: {} {}", deleted.expires_at, deleted.kind, name_of(deleted)))
            }
            KeptBy::Lease { repository, digest, size, until } => {
                (1, format!("lease until {until}: blob {repository}@{digest} ({})", bytes(*size)))
            }
            KeptBy::Untagged { repository, digest, since, until, history_of } => {
                let until = match (history_of, until) {
                    (Some(tag), _) => format!("by the history of {tag}"),
                    (None, Some(until)) => format!("until {until}"),
                    (None, None) => "for ever, as collection.untagged_grace says".to_owned(),
                };
                (2, format!("untagged since {since}, kept {until}: manifest {repository}@{digest}"))
            }
        };
        printed[kind] += 1;
        if printed[kind] <= PRINTED {
            output.line(format!("  {line}"))?;
        }
    }
    if printed.iter().any(|count| *count > PRINTED) {
        output.line("  …; --json lists a thousand of each kind")?;
    }
    Ok(())
}
