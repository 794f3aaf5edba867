//! `orlop verify`.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use crate::registry::{Depth, Registry, VerifyReport};
use crate::server::registry_options;
use crate::telemetry::start_logs;

use super::config::ConfigArguments;
use super::output::{Output, bytes};

pub(super) const EXAMPLES: &str = "\
Examples:
  orlop verify                                    everything in ./data, every byte
  orlop verify --quick --data /var/lib/orlop      files and their sizes only, without reading them";

#[derive(Debug, Args)]
pub(super) struct VerifyArguments {
    /// Check that files are there and have the right size, without reading them
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    config: ConfigArguments,
}

pub(super) fn run(arguments: &VerifyArguments, output: &mut Output) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load()?.config;
    start_logs(config.log.level, config.log.format);
    let data = std::path::absolute(&config.data).unwrap_or_else(|_| config.data.clone());
    if !data.is_dir() {
        bail!("there is no data directory {}: name the one that the server uses with --data", data.display());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the threads of the registry")?;
    let _entered = runtime.enter();
    let registry = Registry::open(registry_options(&config))?;
    let depth = if arguments.quick { Depth::Quick } else { Depth::Full };
    let report = registry.verify(depth).context("the check could not be finished");
    runtime.block_on(registry.close());
    let report = report?;
    print(&report, arguments.quick, output)?;
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(report: &VerifyReport, quick: bool, output: &mut Output) -> anyhow::Result<()> {
    for problem in &report.problems {
        output.line(format!("problem: {problem}"))?;
    }
    for orphan in &report.orphans {
        output.line(format!("left over: {orphan}"))?;
    }
    let rows = [
        ("blobs", format!("{} ({})", report.blobs, bytes(report.bytes))),
        ("manifests", report.manifests.to_string()),
        ("tags", report.tags.to_string()),
        ("left-over files", report.orphans.len().to_string()),
        ("problems", report.problems.len().to_string()),
    ];
    for (name, value) in rows {
        output.line(format!("{name:16} {value}"))?;
    }
    let how = if quick { "files were not read" } else { "every byte was read and hashed" };
    output.line(if report.is_clean() {
        format!("Everything is in order ({how}).")
    } else {
        format!("Something is wrong; see the problems above ({how}).")
    })?;
    Ok(())
}
