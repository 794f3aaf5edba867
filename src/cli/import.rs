//! `orlop import`.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::http::admin::{ImportAnswer, ImportDistribution, ImportSkipped};
use crate::registry::NamePattern;

use super::admin::{AdminArguments, AdminRequest};
use super::exit;
use super::output::{Output, bytes};

const DISTRIBUTION_EXAMPLES: &str = "\
Examples:
  orlop import distribution /var/lib/docker-registry --dry-run     what would come, and what is damaged
  orlop import distribution /var/lib/docker-registry
  orlop import distribution /var/lib/registry --repository 'team/**' --repository base
  orlop import distribution /srv/registry --link --verify          share the files of the blobs, and hash them";

#[derive(Debug, Subcommand)]
pub(super) enum ImportCommand {
    /// Import from the directory of a docker-registry or registry:2, which is stopped meanwhile.
    ///
    /// DIR is its root directory, which has docker/registry/v2 in it; it is read and never changed. Manifests keep their
    /// digests, tags their history, and schema 1 manifests their signatures. Where the file system has clones, blobs share
    /// their blocks with the files there; else they are copied, and hashed on the way. What is damaged is listed with its
    /// path and left out, and the exit code is 3 then. What is here already isn't taken again, so an import that was
    /// interrupted goes on when it is run again. A server that runs does it, and has to be able to read DIR.
    #[command(after_help = DISTRIBUTION_EXAMPLES)]
    Distribution(DistributionArguments),
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(super) struct DistributionArguments {
    /// The registry's root directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Only the repositories that match this pattern, such as team/**
    #[arg(long = "repository", value_name = "PATTERN")]
    repositories: Vec<NamePattern>,
    /// Take blobs by hard links where that can be done: the two registries share the files then
    #[arg(long)]
    link: bool,
    /// Hash blobs also where they are not copied
    #[arg(long)]
    verify: bool,
    /// Take layers that no manifest names too; the collector removes them when their lease ends
    #[arg(long)]
    all_layers: bool,
    /// Change nothing, and say what would come and what is damaged
    #[arg(long, short = 'n')]
    dry_run: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

impl ImportCommand {
    pub(super) fn run(self, output: &mut Output) -> anyhow::Result<ExitCode> {
        let Self::Distribution(arguments) = self;
        let DistributionArguments { directory, repositories, link, verify, all_layers, dry_run, admin } =
            arguments;
        // The server that is asked works in another directory.
        let directory = std::path::absolute(&directory)
            .with_context(|| format!("cannot find {}", directory.display()))?;
        let repositories = repositories.iter().map(ToString::to_string).collect();
        let asked = ImportDistribution { directory, repositories, link, verify, all_layers, dry_run };
        let request = AdminRequest::post("import/distribution", &asked)?;
        let skipped = |part: Option<ImportSkipped>, output: &mut Output| match part {
            Some(ImportSkipped { path, reason }) => output.line(format!("skipped: {path}: {reason}")),
            None => Ok(()),
        };
        let answer: ImportAnswer = admin.ask_in_parts(request, output, skipped, print)?;
        if answer.ended_early {
            return Ok(ExitCode::FAILURE);
        }
        Ok(exit::done(answer.skipped == 0))
    }
}

fn print(answer: &ImportAnswer, output: &mut Output) -> io::Result<()> {
    let came = if answer.dry_run { "would come" } else { "came" };
    let with_known = |new: u64, known: u64| format!("{new} {came}, {known} were here");
    let shared = answer.bytes - answer.copied_bytes.min(answer.bytes);
    let how = if answer.dry_run || answer.bytes == 0 {
        String::new()
    } else {
        format!(": {} copied, {} shared", bytes(answer.copied_bytes), bytes(shared))
    };
    let mut rows = vec![
        ("repositories", answer.repositories.to_string()),
        ("manifests", with_known(answer.manifests, answer.known_manifests)),
        ("tags", with_known(answer.tags, answer.known_tags)),
        ("blobs", format!("{} {came} ({}{how})", answer.blobs, bytes(answer.bytes))),
    ];
    if answer.signatures > 0 {
        rows.push(("signatures", format!("{} {came}", answer.signatures)));
    }
    if answer.sparse_indexes > 0 {
        rows.push(("sparse indexes", format!("{} name manifests that are not there", answer.sparse_indexes)));
    }
    if answer.unnamed_layers > 0 {
        let left = format!(
            "{} that no manifest names were left out ({})",
            answer.unnamed_layers,
            bytes(answer.unnamed_bytes)
        );
        rows.push(("layers", left));
    }
    rows.push(("skipped", answer.skipped.to_string()));
    if answer.ended_early {
        rows.push(("ended early", "it was stopped; the next import goes on".to_owned()));
    }
    output.facts(rows)
}
