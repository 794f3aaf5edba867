//! `orlop policy`.

use std::io;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::http::admin::{Policies, PolicyDecision, PolicyRun, PolicyRunAnswer};
use crate::oci::RepositoryName;

use super::admin::{AdminArguments, AdminRequest};
use super::output::Output;
use super::table::Table;

const RUN_EXAMPLES: &str = "\
Examples:
  orlop policy run --dry-run                      what would go, and the rule that decides about each tag
  orlop policy run --dry-run --repository team/app
  orlop policy run                                delete it now; orlop undelete brings it back";

const SHOW_EXAMPLES: &str = "\
Examples:
  orlop policy show
  orlop policy show --data /var/lib/orlop         those of the server that works on this directory";

const HEADINGS: [&str; 6] = ["repository", "tag", "pushed", "pulled", "decision", "rule"];

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Run the retention policies now.
    ///
    /// With --dry-run nothing is changed, and each tag is shown with the rule that decides. Without it what is deleted is
    /// shown, and can be brought back for as long as delete.undo says. A server that runs is asked, with the policies of its
    /// configuration; without one the policies are those that this command is given.
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArguments),
    /// Show the retention policies.
    #[command(after_help = SHOW_EXAMPLES)]
    Show(ShowArguments),
}

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// Change nothing, and show what would become of each tag
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Look at this repository only
    #[arg(long, value_name = "NAME")]
    repository: Option<RepositoryName>,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
pub(super) struct ShowArguments {
    #[command(flatten)]
    admin: AdminArguments,
}

impl PolicyCommand {
    pub(super) fn run(self, output: &mut Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Run(arguments) => return run(&arguments, output),
            Self::Show(arguments) => arguments.admin.ask(AdminRequest::get("policies"), output, show)?,
        };
        Ok(ExitCode::SUCCESS)
    }
}

fn run(arguments: &RunArguments, output: &mut Output) -> anyhow::Result<ExitCode> {
    let &RunArguments { dry_run, ref repository, ref admin } = arguments;
    let request = AdminRequest::post("policies/run", &PolicyRun { repository: repository.clone(), dry_run })?;
    let mut table = Table::new(HEADINGS, &[]);
    let answer: PolicyRunAnswer = admin.ask_in_parts(
        request,
        output,
        |part: Option<PolicyDecision>, output| match part {
            Some(decision) => table.add(row(decision), output),
            None if table.is_empty() => Ok(()),
            None => table.print(output),
        },
        print,
    )?;
    Ok(if answer.ended_early { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn row(row: PolicyDecision) -> [String; 6] {
    let tag = row.tag.map_or_else(|| row.digest.to_string(), |tag| tag.to_string());
    let pulled = row.pulled_at.unwrap_or_else(|| "-".to_owned());
    [row.repository.to_string(), tag, row.pushed_at, pulled, row.decision, row.rule]
}

fn show(answer: &Policies, output: &mut Output) -> io::Result<()> {
    if answer.policies.is_empty() {
        return output.line("There are no retention policies: nothing is deleted by itself.");
    }
    for policy in &answer.policies {
        output.line(format!("{} for {}", policy.name, policy.repositories))?;
        let except = match &policy.except[..] {
            [] => String::new(),
            except => format!(", except {}", except.join(", ")),
        };
        output.line(format!("  tags {}{except}", policy.tags.join(", ")))?;
        for rule in &policy.rules {
            output.line(format!("  {rule}"))?;
        }
    }
    Ok(())
}

fn print(answer: &PolicyRunAnswer, output: &mut Output) -> io::Result<()> {
    if answer.repositories == 0 {
        output.line("No retention policy is about any repository here.")?;
    }
    let (went, head) = if answer.dry_run { ("would go", "to be deleted") } else { ("went", "deleted") };
    let mut rows = vec![
        ("repositories", answer.repositories.to_string()),
        ("tags", format!("{} stay, {} {went}", answer.kept_tags, answer.deleted_tags)),
        ("untagged", format!("{} stay, {} {went}", answer.kept_manifests, answer.deleted_manifests)),
    ];
    if answer.changed > 0 {
        rows.push(("changed", format!("{} were {head} and stay: they changed meanwhile", answer.changed)));
    }
    if answer.ended_early {
        rows.push(("ended early", "the server stopped; the next run goes on".to_owned()));
    }
    output.facts(rows)
}
