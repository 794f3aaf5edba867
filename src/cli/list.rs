//! `orlop ls` and `orlop tags`.

use std::process::ExitCode;

use clap::Args;

use crate::http::admin::{RepositoriesPage, TagsPage};
use crate::oci::RepositoryName;
use crate::registry::{NamePattern, TagPattern};

use super::admin::{AdminArguments, AdminRequest};
use super::output::{Output, bytes};
use super::table::Table;
use super::target::escaped;

pub(super) const LS_EXAMPLES: &str = "\
Examples:
  orlop ls                       every repository
  orlop ls 'team/**'             those below team
  orlop ls --json | jq -r 'select(.bytes > 1e9) | .name'";

pub(super) const TAGS_EXAMPLES: &str = "\
Examples:
  orlop tags team/app
  orlop tags team/app 'v1.*'
  orlop tags team/app --json | jq -r .digest";

#[derive(Debug, Args)]
pub(super) struct LsArguments {
    /// Only the repositories that match: * stands for any part of a name's component, ** for one or more components
    #[arg(value_name = "PATTERN")]
    pattern: Option<NamePattern>,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
pub(super) struct TagsArguments {
    /// The repository
    repository: RepositoryName,
    /// Only the tags that match: * stands for any characters
    #[arg(value_name = "PATTERN")]
    pattern: Option<TagPattern>,
    #[command(flatten)]
    admin: AdminArguments,
}

/// The path of a list with its parameters, of which those without a value are left out.
fn path(list: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some(format!("{name}={}", escaped((*value)?))));
    format!("{list}?{}", given.collect::<Vec<_>>().join("&"))
}

pub(super) fn ls(arguments: &LsArguments, output: &mut Output) -> anyhow::Result<ExitCode> {
    let LsArguments { pattern, admin } = arguments;
    let pattern = pattern.as_ref().map(ToString::to_string);
    let request = |last: Option<&str>| {
        AdminRequest::get(path("repositories", &[("match", pattern.as_deref()), ("last", last)]))
    };
    let mut table = Table::new(["repository", "size", "tags", "manifests", "last push", ""], &[1, 2, 3]);
    admin.ask_pages(request, |page: RepositoriesPage| {
        for entry in page.repositories {
            if admin.is_json() {
                output.json(&entry)?;
                continue;
            }
            let pushed = entry.last_push.unwrap_or_else(|| "-".to_owned());
            let note = if entry.cached { "cached" } else { "" };
            let counts = [entry.tags.to_string(), entry.manifests.to_string()];
            let [tags, manifests] = counts;
            table.add([entry.name, bytes(entry.bytes), tags, manifests, pushed, note.to_owned()], output)?;
        }
        Ok(page.next)
    })?;
    if admin.is_json() {
        return Ok(ExitCode::SUCCESS);
    }
    if table.is_empty() {
        output.line(if pattern.is_some() {
            "No repository matches."
        } else {
            "There are no repositories."
        })?;
    } else {
        table.print(output)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn tags(arguments: &TagsArguments, output: &mut Output) -> anyhow::Result<ExitCode> {
    let TagsArguments { repository, pattern, admin } = arguments;
    let pattern = pattern.as_ref().map(ToString::to_string);
    let request = |last: Option<&str>| {
        let parameters =
            [("repository", Some(repository.as_str())), ("match", pattern.as_deref()), ("last", last)];
        AdminRequest::get(path("tags", &parameters))
    };
    let mut table = Table::new(["tag", "manifest", "pushed", "pulled", ""], &[]);
    admin.ask_pages(request, |page: TagsPage| {
        for entry in page.tags {
            if admin.is_json() {
                output.json(&entry)?;
                continue;
            }
            let pulled = entry.pulled_at.unwrap_or_else(|| "-".to_owned());
            let note = if entry.immutable { "immutable" } else { "" };
            table.add([entry.tag, entry.digest, entry.pushed_at, pulled, note.to_owned()], output)?;
        }
        Ok(page.next)
    })?;
    if admin.is_json() {
        return Ok(ExitCode::SUCCESS);
    }
    if table.is_empty() {
        output.line(if pattern.is_some() { "No tag matches." } else { "It has no tags." })?;
    } else {
        table.print(output)?;
    }
    Ok(ExitCode::SUCCESS)
}
