//! `orlop du`.

use std::io;
use std::process::ExitCode;

use clap::Args;

use crate::http::admin::{Size, SizesPage, Target};

use super::admin::{AdminArguments, AdminRequest};
use super::output::{Output, bytes};
use super::table;
use super::target::{self, escaped};

pub(super) const EXAMPLES: &str = "\
Examples:
  orlop du                       every repository
  orlop du team/app              every tag of one
  orlop du team/app:v1           one image
  orlop du --after team/app      the repositories behind this one";

#[derive(Debug, Args)]
pub(super) struct DuArguments {
    /// A repository, or one of its tags
    #[arg(value_parser = target::parse)]
    name: Option<Target>,
    /// Begin behind this repository, or this tag; a thousand are shown at a time
    #[arg(long, value_name = "NAME")]
    after: Option<String>,
    #[command(flatten)]
    admin: AdminArguments,
}

pub(super) fn run(arguments: &DuArguments, output: &mut Output) -> anyhow::Result<ExitCode> {
    let mut parameters = Vec::new();
    if let Some(target) = &arguments.name {
        parameters.push(format!("repository={}", target.repository));
        parameters.extend(target.tag.as_ref().map(|tag| format!("tag={tag}")));
    }
    parameters.extend(arguments.after.as_ref().map(|after| format!("last={}", escaped(after))));
    let path = format!("sizes?{}", parameters.join("&"));
    arguments.admin.ask(AdminRequest::get(path), output, print)?;
    Ok(ExitCode::SUCCESS)
}

fn print(page: &SizesPage, output: &mut Output) -> io::Result<()> {
    let row = |name: &str, size: &Size| {
        [
            name.to_owned(),
            bytes(size.bytes),
            bytes(size.unique),
            bytes(size.shared),
            size.blobs.to_string(),
            size.manifests.to_string(),
            size.tags.to_string(),
        ]
    };
    let mut rows: Vec<_> = page.parts.iter().map(|part| row(&part.name, &part.size)).collect();
    rows.push(row("total", &page.total));
    let headings = ["name", "size", "unique", "shared", "blobs", "manifests", "tags"];
    table::print(output, headings, &[1, 2, 3, 4, 5, 6], &rows)?;
    if let Some(next) = &page.next {
        output.line(format!("… and more: --after {next}"))?;
    }
    Ok(())
}
