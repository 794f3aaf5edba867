//! `orlop du`.

use std::process::ExitCode;

use clap::Args;

use crate::http::admin::{Size, SizesPage, Target};

use super::admin::{AdminArguments, AdminRequest};
use super::output::{Output, bytes};
use super::table::Table;
use super::target::{self, escaped};

pub(super) const EXAMPLES: &str = "\
Examples:
  orlop du                       every repository
  orlop du team/app              every tag of one
  orlop du team/app:v1           one image
  orlop du --after team/app      the repositories behind this one";

const HEADINGS: [&str; 7] = ["name", "size", "unique", "shared", "blobs", "manifests", "tags"];

#[derive(Debug, Args)]
pub(super) struct DuArguments {
    /// A repository, or one of its tags
    #[arg(value_parser = target::parse)]
    name: Option<Target>,
    /// Begin behind this repository, or this tag
    #[arg(long, value_name = "NAME")]
    after: Option<String>,
    #[command(flatten)]
    admin: AdminArguments,
}

pub(super) fn run(arguments: &DuArguments, output: &mut Output) -> anyhow::Result<ExitCode> {
    let DuArguments { name, after, admin } = arguments;
    let request = |last: Option<&str>| {
        let mut parameters = Vec::new();
        if let Some(target) = name {
            parameters.push(format!("repository={}", target.repository));
            parameters.extend(target.tag.as_ref().map(|tag| format!("tag={tag}")));
        }
        parameters.extend(last.or(after.as_deref()).map(|after| format!("last={}", escaped(after))));
        AdminRequest::get(format!("sizes?{}", parameters.join("&")))
    };
    let mut table = Table::new(HEADINGS, &[1, 2, 3, 4, 5, 6]);
    let mut tags = 0;
    admin.ask_pages(request, |page: SizesPage| {
        if admin.is_json() {
            output.json(&page)?;
            return Ok(page.next);
        }
        page.parts.iter().try_for_each(|part| table.add(row(&part.name, &part.size), output))?;
        tags += page.parts.iter().map(|part| part.size.tags).sum::<u64>();
        if page.next.is_none() {
            // The store counts none: a tag is its repository's.
            let total = Size { tags: page.total.tags.max(tags), ..page.total };
            table.add(row("total", &total), output)?;
            table.print(output)?;
        }
        Ok(page.next)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn row(name: &str, size: &Size) -> [String; 7] {
    [
        name.to_owned(),
        bytes(size.bytes),
        bytes(size.unique),
        bytes(size.shared),
        size.blobs.to_string(),
        size.manifests.to_string(),
        size.tags.to_string(),
    ]
}
