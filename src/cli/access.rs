//! `orlop access`.

use std::io;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::auth::Action;
use crate::http::admin::{Explained, RotateKey, RotatedKey};
use crate::oci::RepositoryName;

use super::admin::{AdminArguments, AdminRequest};
use super::exit;
use super::output::Output;
use super::target::escaped;

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  orlop access explain anna push team/app
  orlop access explain anonymous pull docker.io/library/busybox
  orlop access explain token:ci delete team/app
  orlop access explain claim:sub=repo:team/app:ref:refs/heads/main push team/app
  orlop access explain anna admin";

const ROTATE_EXAMPLES: &str = "\
Examples:
  orlop access rotate-key
  orlop access rotate-key --forget        the former key has leaked";

#[derive(Debug, Subcommand)]
pub(super) enum AccessCommand {
    /// Say whether somebody may do something, and which rule decides.
    ///
    /// Asks the server that runs, which knows its rules, or else goes by the configuration that this command is given. The exit
    /// code is 0 where they may and 3 where they may not.
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArguments),
    /// Sign Bearer tokens with a fresh key from now on.
    ///
    /// Tokens last some minutes, and clients fetch them by themselves; nobody has to log in again. Those that the former key has
    /// signed hold until they expire, unless --forget is given.
    #[command(after_help = ROTATE_EXAMPLES)]
    RotateKey(RotateKeyArguments),
}

#[derive(Debug, Args)]
pub(super) struct RotateKeyArguments {
    /// Refuse all tokens that were signed before, as after a key has leaked
    #[arg(long)]
    forget: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArguments {
    /// A user, or as rules name them: anonymous, user:NAME, token:NAME, group:NAME, claim:NAME=VALUE, joined by commas
    who: String,
    /// pull, push, delete, list or admin
    action: Action,
    /// The repository, as clients name it; none for list and admin
    repository: Option<RepositoryName>,
    #[command(flatten)]
    admin: AdminArguments,
}

impl AccessCommand {
    pub(super) fn run(&self, output: &mut Output) -> anyhow::Result<ExitCode> {
        let ExplainArguments { who, action, repository, admin } = match self {
            Self::Explain(arguments) => arguments,
            Self::RotateKey(RotateKeyArguments { forget, admin }) => {
                let request = AdminRequest::post("access/rotate-key", &RotateKey { forget: *forget })?;
                admin.ask(request, output, |answer: &RotatedKey, output| {
                    output.line(format!("Tokens are signed by the key {} from now on.", answer.key))
                })?;
                return Ok(ExitCode::SUCCESS);
            }
        };
        let mut path = format!("access/explain?who={}&action={action}", escaped(who));
        if let Some(repository) = repository {
            path = format!("{path}&repository={}", escaped(repository.as_str()));
        }
        let answer = admin.ask(AdminRequest::get(path), output, print)?;
        Ok(exit::done(answer.allowed))
    }
}

fn print(answer: &Explained, output: &mut Output) -> io::Result<()> {
    let Explained { who, groups, is_known, action, repository, allowed, reason, .. } = answer;
    let verb = if *allowed { "may" } else { "may not" };
    let place = repository.as_ref().map(|name| format!(" in {name}")).unwrap_or_default();
    output.line(format!("{who} {verb} {action}{place}: {reason}"))?;
    if !groups.is_empty() {
        output.line(format!("groups: {}", groups.join(", ")))?;
    }
    if !is_known {
        output.line("Nobody is called so; this is what would hold for them.")?;
    }
    Ok(())
}
