//! `orlop repository`.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::http::admin::{DeleteRepository, Done, Rename};
use crate::oci::RepositoryName;

use super::admin::{AdminArguments, AdminRequest};
use super::output::Output;

#[derive(Debug, Subcommand)]
pub(super) enum RepositoryCommand {
    /// Give a repository another name; nothing is copied. Pushes under way to the old name are refused and told the new one.
    Rename(RenameArguments),
    /// Delete a repository with all that it has. It can come back by orlop undelete.
    Delete(DeleteArguments),
}

#[derive(Debug, Args)]
pub(super) struct RenameArguments {
    /// The present name
    from: RepositoryName,
    /// The new one, which no repository has
    to: RepositoryName,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
pub(super) struct DeleteArguments {
    /// The repository
    repository: RepositoryName,
    #[command(flatten)]
    admin: AdminArguments,
}

impl RepositoryCommand {
    pub(super) fn run(&self, output: &mut Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Rename(RenameArguments { from, to, admin }) => {
                let body = Rename { from: from.clone(), to: to.clone() };
                let request = AdminRequest::post("repositories/rename", &body)?;
                admin.ask(request, output, |_: &Done, output| {
                    output.line(format!("{from} is called {to} now."))
                })?;
            }
            Self::Delete(DeleteArguments { repository, admin }) => {
                let body = DeleteRepository { repository: repository.clone() };
                let request = AdminRequest::post("repositories/delete", &body)?;
                admin.ask(request, output, |_: &Done, output| {
                    output
                        .line(format!("{repository} is deleted; orlop undelete {repository} brings it back."))
                })?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
