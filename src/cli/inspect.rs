//! `orlop inspect`.

use std::io;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use crate::http::admin::{Inspected, Part, Target};

use super::admin::{AdminArguments, AdminRequest};
use super::output::{Output, bytes};
use super::table;
use super::target::{self, escaped};

pub(super) const EXAMPLES: &str = "\
Examples:
  orlop inspect team/app:v1
  orlop inspect team/app@sha256:…
  orlop inspect team/app:v1 --json | jq -r '.layers[].digest'";

/// How much of a tag's history is printed.
const HISTORY: usize = 10;

#[derive(Debug, Args)]
pub(super) struct InspectArguments {
    /// The image: team/app:tag or team/app@sha256:…
    #[arg(value_name = "IMAGE", value_parser = target::parse)]
    image: Target,
    #[command(flatten)]
    admin: AdminArguments,
}

pub(super) fn run(arguments: &InspectArguments, output: &mut Output) -> anyhow::Result<ExitCode> {
    let InspectArguments { image: Target { repository, tag, digest }, admin } = arguments;
    let which = match (tag, digest) {
        (Some(tag), _) => format!("tag={tag}"),
        (None, Some(digest)) => format!("digest={}", escaped(&digest.to_string())),
        (None, None) => bail!("name a tag or a digest of it; orlop tags {repository} lists the tags"),
    };
    let request = AdminRequest::get(format!("image?repository={repository}&{which}"));
    admin.ask(request, output, print)?;
    Ok(ExitCode::SUCCESS)
}

fn print(image: &Inspected, output: &mut Output) -> io::Result<()> {
    output.facts(facts(image))?;
    let parts = |heading: &'static str, parts: Vec<&Part>, output: &mut Output| {
        let row = |part: &Part| {
            let platform = part.platform.clone().unwrap_or_default();
            let note = if part.present { "" } else { "not here" };
            [part.digest.clone(), bytes(part.size), part.media_type.clone(), platform, note.to_owned()]
        };
        let rows: Vec<_> = parts.into_iter().map(row).collect();
        if rows.is_empty() {
            return Ok(());
        }
        output.line("")?;
        table::print(output, [heading, "size", "type", "platform", ""], &[1], &rows)
    };
    parts("config", image.config.iter().collect(), output)?;
    parts("layer", image.layers.iter().collect(), output)?;
    parts("manifest", image.manifests.iter().collect(), output)?;
    if !image.referrers.is_empty() {
        output.line("")?;
        let rows: Vec<_> = image
            .referrers
            .iter()
            .map(|referrer| {
                let kind = referrer.artifact_type.clone().or_else(|| referrer.tag.clone());
                [referrer.digest.clone(), bytes(referrer.size), kind.unwrap_or_default()]
            })
            .collect();
        table::print(output, ["referrer", "size", "type"], &[1], &rows)?;
    }
    if !image.signatures.is_empty() {
        output.line("")?;
        let rows: Vec<_> = image
            .signatures
            .iter()
            .map(|signed| [signed.key.clone(), signed.verified.clone(), signed.at.clone()])
            .collect();
        table::print(output, ["signed by", "verified", "came"], &[], &rows)?;
    }
    if !image.history.is_empty() {
        output.line("")?;
        let rows: Vec<_> = image
            .history
            .iter()
            .take(HISTORY)
            .map(|entry| [entry.digest.clone(), entry.at.clone(), entry.actor.clone()])
            .collect();
        table::print(output, ["the tag's history", "set", "by"], &[], &rows)?;
        if image.history.len() > HISTORY {
            output.line("… and more: orlop tag history shows a hundred")?;
        }
    }
    Ok(())
}

fn facts(image: &Inspected) -> Vec<(&str, String)> {
    let total: u64 = image.layers.iter().chain(&image.config).map(|part| part.size).sum::<u64>() + image.size;
    let mut facts = vec![
        ("repository", image.repository.clone()),
        ("digest", image.digest.clone()),
        ("type", image.media_type.clone()),
    ];
    let optional = [
        ("artifact", image.artifact_type.clone().filter(|_| image.manifests.is_empty())),
        ("platform", image.platform.clone()),
        ("created", image.created.clone()),
        ("about", image.subject.clone()),
    ];
    facts.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
    let pulled = match &image.pulled_at {
        Some(at) => format!("{} ×, last at {at}", image.pulls),
        None => "-".to_owned(),
    };
    facts.extend([("size", bytes(total)), ("pushed", image.pushed_at.clone()), ("pulled", pulled)]);
    facts.push(("tags", if image.tags.is_empty() { "-".to_owned() } else { image.tags.join(", ") }));
    facts.extend(image.annotations.iter().map(|(name, value)| ("annotation", format!("{name} = {value}"))));
    facts
}
