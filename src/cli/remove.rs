//! `orlop rm`.

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use crate::http::admin::{Delete, DeleteAnswer, Target};

use super::admin::{AdminArguments, AdminRequest};
use super::output::{Output, bytes};
use super::target;

pub(super) const EXAMPLES: &str = "\
Examples:
  orlop rm team/app:v1                            a tag; its manifest stays until nothing needs it
  orlop rm team/app@sha256:…                      a manifest with all its tags
  orlop rm team/app --dry-run                     what a whole repository has
  orlop rm team/app --yes                         a whole repository
  orlop undelete team/app                         and back";

#[derive(Debug, Args)]
pub(super) struct RmArguments {
    /// What goes: team/app:tag, team/app@sha256:… or a whole repository, team/app
    #[arg(value_name = "IMAGE|REPOSITORY", value_parser = target::parse)]
    name: Target,
    /// Don't ask before a whole repository goes
    #[arg(long, short = 'y')]
    yes: bool,
    /// Also a manifest that an index names, which is left without it
    #[arg(long)]
    force: bool,
    /// Delete nothing, and say what would go
    #[arg(long, short = 'n')]
    dry_run: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

pub(super) fn run(arguments: &RmArguments, output: &mut Output) -> anyhow::Result<ExitCode> {
    let RmArguments { name, yes, force, dry_run, admin } = arguments;
    let Target { repository, tag, digest } = name;
    let is_repository = tag.is_none() && digest.is_none();
    if is_repository && !yes && !dry_run && !confirmed(repository.as_str())? {
        bail!("nothing was deleted");
    }
    let body = Delete {
        repository: repository.clone(),
        tag: tag.clone(),
        digest: *digest,
        force: *force,
        dry_run: *dry_run,
    };
    let called = match (tag, digest) {
        (Some(tag), _) => format!("{repository}:{tag}"),
        (None, Some(digest)) => format!("{repository}@{digest}"),
        (None, None) => repository.to_string(),
    };
    admin.ask(AdminRequest::post("delete", &body)?, output, |answer: &DeleteAnswer, output| {
        print(&called, answer, output)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Asks people; whoever can't be asked has to say so on the command line.
fn confirmed(repository: &str) -> anyhow::Result<bool> {
    let stdin = io::stdin();
    if !stdin.is_terminal() || !io::stderr().is_terminal() {
        bail!("{repository} is a whole repository: say --yes to delete it, or --dry-run to see what it has");
    }
    let mut stderr = io::stderr();
    write!(stderr, "Delete the whole repository {repository}? [y/N] ").context("cannot ask")?;
    stderr.flush().context("cannot ask")?;
    let mut line = String::new();
    stdin.lock().read_line(&mut line).context("cannot read the answer")?;
    Ok(matches!(line.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn print(called: &str, answer: &DeleteAnswer, output: &mut Output) -> io::Result<()> {
    let what = match answer.kind.as_str() {
        "tag" => "the tag alone".to_owned(),
        "manifest" => format!("the manifest and {} tags", answer.tags),
        _ => format!("{} tags and {} manifests ({})", answer.tags, answer.manifests, bytes(answer.bytes)),
    };
    if answer.dry_run {
        return output.line(format!("{called} would go: {what}."));
    }
    output.line(format!("{called} is deleted: {what}."))?;
    output.line(format!("orlop undelete {called} brings it back, for as long as delete.undo says."))
}
