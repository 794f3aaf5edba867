//! `orlop compact`.

use std::io;
use std::process::ExitCode;

use clap::Args;

use crate::http::admin::{Compact, CompactAnswer};

use super::admin::{AdminArguments, AdminRequest};
use super::output::{Output, bytes};

pub(super) const EXAMPLES: &str = "\
Examples:
  orlop compact
  orlop compact --data /var/lib/orlop --json";

#[derive(Debug, Args)]
pub(super) struct CompactArguments {
    #[command(flatten)]
    admin: AdminArguments,
}

pub(super) fn run(arguments: &CompactArguments, output: &mut Output) -> anyhow::Result<ExitCode> {
    arguments.admin.ask(AdminRequest::post("compact", &Compact {})?, output, print)?;
    Ok(ExitCode::SUCCESS)
}

fn print(done: &CompactAnswer, output: &mut Output) -> io::Result<()> {
    let rows = [
        ("before", bytes(done.before_bytes)),
        ("after", bytes(done.after_bytes)),
        ("rows", done.rows.to_string()),
        ("copied again", format!("{} (changed meanwhile)", done.changed_rows)),
        ("took", format!("{} ms; writes waited for {} ms of them", done.took_ms, done.held_ms)),
    ];
    output.facts(rows)
}
