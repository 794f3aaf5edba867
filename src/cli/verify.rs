//! `orlop verify`.

use std::io;
use std::num::NonZeroU64;
use std::process::ExitCode;

use clap::Args;

use crate::config::parse_size;
use crate::http::admin::{Damaged, Verify, VerifyAnswer};

use super::admin::{AdminArguments, AdminRequest};
use super::exit;
use super::output::{Output, bytes};

pub(super) const EXAMPLES: &str = "\
Examples:
  orlop verify                                    everything in ./data, every byte
  orlop verify --quick --data /var/lib/orlop      files and their sizes only, without reading them
  orlop verify --rate 50MiB                       leave the rest of the disk's rate to others
  orlop verify --resume                           go on where the last one was interrupted
  orlop verify --dry-run                          leave damaged files where they are
  orlop verify --quick --repair                   mend indexes and counters, and remove left-over files";

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(super) struct VerifyArguments {
    /// Check that files are there and have the right size, without reading them
    #[arg(long, conflicts_with_all = ["rate", "resume"])]
    quick: bool,
    /// Read this much in a second at most, for example 50MiB
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    rate: Option<NonZeroU64>,
    /// Go on where the last check was interrupted, if one was
    #[arg(long)]
    resume: bool,
    /// Change nothing: leave damaged files where they are
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Mend what can be derived, and remove files that nothing names
    #[arg(long, conflicts_with = "dry_run")]
    repair: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

fn rate(text: &str) -> Result<NonZeroU64, String> {
    NonZeroU64::new(parse_size(text)?).ok_or_else(|| "write a size that is not zero".to_owned())
}

pub(super) fn run(arguments: &VerifyArguments, output: &mut Output) -> anyhow::Result<ExitCode> {
    let &VerifyArguments { quick, rate, resume, dry_run, repair, .. } = arguments;
    let request = AdminRequest::post("verify", &Verify { quick, rate, resume, dry_run, repair })?;
    let found = arguments.admin.ask(request, output, |found, output| print(found, quick, output))?;
    Ok(exit::done(found.clean))
}

fn print(found: &VerifyAnswer, quick: bool, output: &mut Output) -> io::Result<()> {
    for repaired in &found.repaired {
        output.line(format!("repaired: {repaired}"))?;
    }
    if found.unlisted_repaired > 0 {
        output.line(format!("repaired: … and {} more", found.unlisted_repaired))?;
    }
    for problem in &found.problems {
        output.line(format!("problem: {problem}"))?;
    }
    if found.unlisted_problems > 0 {
        output.line(format!("problem: … and {} more", found.unlisted_problems))?;
    }
    for damaged in &found.damaged {
        print_damaged(damaged, output)?;
    }
    if found.unlisted_damaged > 0 {
        output.line(format!("damaged: … and {} more blobs", found.unlisted_damaged))?;
    }
    for orphan in &found.orphans {
        output.line(format!("left over: {orphan}"))?;
    }
    if found.unlisted_orphans > 0 {
        output.line(format!("left over: … and {} more", found.unlisted_orphans))?;
    }
    let orphans = found.orphans.len() as u64 + found.unlisted_orphans;
    let problems = found.problems.len() as u64 + found.unlisted_problems;
    let rows = [
        ("blobs", format!("{} ({})", found.blobs, bytes(found.bytes))),
        ("manifests", found.manifests.to_string()),
        ("tags", found.tags.to_string()),
        ("left-over files", orphans.to_string()),
        ("problems", problems.to_string()),
    ];
    output.facts(rows)?;
    let how = match (quick, found.checksums) {
        (true, _) => "files were not read",
        (false, true) => "every byte was read and hashed",
        (false, false) => {
            "every byte was read and hashed; the metadata's own checksums need a stopped server"
        }
    };
    output.line(if found.clean {
        format!("Everything is in order ({how}).")
    } else {
        format!("Something is wrong; see the problems above ({how}).")
    })
}

/// Prints which images a damaged blob affects.
fn print_damaged(damaged: &Damaged, output: &mut Output) -> io::Result<()> {
    let Damaged { digest, size, found_at, .. } = damaged;
    output
        .line(format!("damaged: {digest} ({}), found {found_at}; push it again. It affects", bytes(*size)))?;
    for image in &damaged.images {
        let names = if image.tags.is_empty() {
            image.repository.clone()
        } else {
            let names = image.tags.iter().map(|tag| format!("{}:{tag}", image.repository));
            names.collect::<Vec<_>>().join(", ")
        };
        let manifest =
            image.manifest.map_or_else(|| "no manifest names it".to_owned(), |digest| digest.to_string());
        let deleted = if image.deleted { ", deleted" } else { "" };
        output.line(format!("  {names} ({manifest}{deleted})"))?;
    }
    match damaged.unlisted_images {
        0 => Ok(()),
        more => output.line(format!("  … and {more} more")),
    }
}
