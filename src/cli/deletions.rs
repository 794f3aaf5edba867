//! `orlop deleted`, `orlop undelete` and `orlop purge`.

use std::process::ExitCode;

use clap::Args;

use crate::http::admin::{Deleted, Deletions, Purge, Purged, Target};
use crate::oci::RepositoryName;

use super::admin::{AdminArguments, AdminRequest};
use super::output::Output;
use super::table::Table;
use super::target;

pub(super) const LIST_EXAMPLES: &str = "\
Examples:
  orlop deleted                  everything that can come back
  orlop deleted team/app         what was deleted from a repository, the last first";

pub(super) const UNDELETE_EXAMPLES: &str = "\
Examples:
  orlop undelete team/app:v1
  orlop undelete team/app@sha256:…
  orlop undelete team/app";

pub(super) const PURGE_EXAMPLES: &str = "\
Examples:
  orlop purge team/app@sha256:…
  orlop purge --all              everything that can come back";

#[derive(Debug, Args)]
pub(super) struct DeletedArguments {
    /// The repository that it was deleted from, or that was deleted itself
    repository: Option<RepositoryName>,
    #[command(flatten)]
    admin: AdminArguments,
}

impl DeletedArguments {
    pub(super) fn run(&self, output: &mut Output) -> anyhow::Result<ExitCode> {
        let repository = self.repository.as_ref().map(|repository| format!("repository={repository}"));
        let request = |last: Option<&str>| {
            let last = last.map(|last| format!("last={last}"));
            let parameters: Vec<String> = repository.iter().cloned().chain(last).collect();
            AdminRequest::get(format!("deletions?{}", parameters.join("&")))
        };
        let mut table = Table::new(["kind", "name", "deleted", "comes back until", "by"], &[]);
        self.admin.ask_pages(request, |page: Deletions| {
            if self.admin.is_json() {
                output.json(&page)?;
                return Ok(page.next);
            }
            page.deletions.iter().try_for_each(|deleted| table.add(row(deleted), output))?;
            match page.next {
                None if table.is_empty() => output.line("Nothing was deleted that can come back.")?,
                None => table.print(output)?,
                Some(_) => {}
            }
            Ok(page.next)
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
pub(super) struct UndeleteArguments {
    /// What was deleted: team/app, team/app:tag or team/app@sha256:…
    #[arg(value_parser = target::parse)]
    name: Target,
    #[command(flatten)]
    admin: AdminArguments,
}

impl UndeleteArguments {
    pub(super) fn run(&self, output: &mut Output) -> anyhow::Result<ExitCode> {
        let request = AdminRequest::post("undelete", &self.name)?;
        self.admin.ask(request, output, |back: &Deleted, output| {
            output.line(format!("The {} {} is back.", back.kind, name_of(back)))
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
#[group(id = "purged", required = true, multiple = false, args = ["name", "all"])]
pub(super) struct PurgeArguments {
    /// What was deleted: team/app, team/app:tag or team/app@sha256:…
    #[arg(value_parser = target::parse)]
    name: Option<Target>,
    /// Everything that was deleted
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

impl PurgeArguments {
    pub(super) fn run(&self, output: &mut Output) -> anyhow::Result<ExitCode> {
        let purge = match &self.name {
            Some(target) => Purge::Target(target.clone()),
            None => Purge::All {},
        };
        self.admin.ask(AdminRequest::post("purge", &purge)?, output, |purged: &Purged, output| {
            output.line(format!("{} can't come back any more.", purged.purged))
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn row(deleted: &Deleted) -> [String; 5] {
    let by = match &deleted.reason {
        Some(reason) => format!("{} ({reason})", deleted.actor),
        None => deleted.actor.clone(),
    };
    [deleted.kind.clone(), name_of(deleted), deleted.deleted_at.clone(), deleted.expires_at.clone(), by]
}

/// How people write what was deleted.
pub(super) fn name_of(deleted: &Deleted) -> String {
    match (&deleted.tag, &deleted.digest) {
        (Some(tag), _) => format!("{}:{tag}", deleted.repository),
        (None, Some(digest)) => format!("{}@{digest}", deleted.repository),
        (None, None) => deleted.repository.clone(),
    }
}
