//! `orlop tag`.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::http::admin::{Rollback, TagEntry, TagHistory};

use super::admin::{AdminArguments, AdminRequest};
use super::output::Output;
use super::table;
use super::target::Tagged;

#[derive(Debug, Subcommand)]
pub(super) enum TagCommand {
    /// List what a tag has pointed to, the newest first, at most a hundred manifests.
    History(HistoryArguments),
    /// Point a tag back to what it pointed to before.
    Rollback(RollbackArguments),
}

#[derive(Debug, Args)]
pub(super) struct HistoryArguments {
    /// The repository and the tag: team/app:v1
    tag: Tagged,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
pub(super) struct RollbackArguments {
    /// The repository and the tag: team/app:v1
    tag: Tagged,
    /// The number of an entry of the history; without it, the one before the last change
    #[arg(long, value_name = "NUMBER")]
    to: Option<u64>,
    #[command(flatten)]
    admin: AdminArguments,
}

impl TagCommand {
    pub(super) fn run(&self, output: &mut Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::History(HistoryArguments { tag: Tagged { repository, tag }, admin }) => {
                let path = format!("tags/history?repository={repository}&tag={tag}");
                admin.ask(AdminRequest::get(path), output, |answer: &TagHistory, output| {
                    let rows: Vec<[String; 5]> = answer.history.iter().map(row).collect();
                    table::print(output, ["number", "manifest", "set", "by", ""], &[0], &rows)
                })?;
            }
            Self::Rollback(RollbackArguments { tag: Tagged { repository, tag }, to, admin }) => {
                let body = Rollback { repository: repository.clone(), tag: tag.clone(), number: *to };
                let request = AdminRequest::post("tags/rollback", &body)?;
                admin.ask(request, output, |entry: &TagEntry, output| {
                    output.line(format!("{repository}:{tag} points to {} again.", entry.digest))
                })?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn row(entry: &TagEntry) -> [String; 5] {
    let note = if entry.exists { "" } else { "gone" };
    [entry.number.to_string(), entry.digest.clone(), entry.at.clone(), entry.actor.clone(), note.to_owned()]
}
