//! `orlop cache status`.

use std::io;
use std::process::ExitCode;

use clap::Args;

use crate::http::admin::{CacheStatus, CachedUpstream};

use super::admin::{AdminArguments, AdminRequest};
use super::output::{Output, bytes};
use super::table;

pub(super) const EXAMPLES: &str = "\
Examples:
  orlop cache status
  orlop cache status --data /var/lib/orlop --json";

#[derive(Debug, Args)]
pub(super) struct CacheStatusArguments {
    #[command(flatten)]
    admin: AdminArguments,
}

pub(super) fn run(arguments: &CacheStatusArguments, output: &mut Output) -> anyhow::Result<ExitCode> {
    arguments.admin.ask(AdminRequest::get("cache"), output, print)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn print(status: &CacheStatus, output: &mut Output) -> io::Result<()> {
    if status.upstreams.is_empty() {
        return output.line(
            "Nothing is cached, and no upstream is configured: `orlop serve --cache docker.io` is a start.",
        );
    }
    let rows: Vec<_> = status.upstreams.iter().map(row).collect();
    let headings = [
        "upstream",
        "state",
        "hits",
        "misses",
        "ratio",
        "saved",
        "cached",
        "requests",
        "first byte",
        "limit",
    ];
    table::print(output, headings, &[2, 3, 4, 5, 6, 7, 8, 9], &rows)?;
    output.line(format!("{} are cached in all.", of(bytes(status.bytes), status.max_bytes.map(bytes))))?;
    for upstream in &status.upstreams {
        let left_alone = upstream.activity.as_ref().and_then(|activity| activity.left_alone.as_ref());
        if let Some(left_alone) = left_alone {
            output.line(format!(
                "{} is left alone for another {} s: {}",
                upstream.host, left_alone.seconds, left_alone.reason
            ))?;
        }
        if upstream.private {
            output.line(format!(
                "{} is private: what comes from it is for those whom a rule names, unless it is configured as `public`",
                upstream.host
            ))?;
        }
    }
    Ok(())
}

fn row(upstream: &CachedUpstream) -> [String; 10] {
    let cached = of(bytes(upstream.bytes), upstream.max_bytes.map(bytes));
    let activity = upstream.activity.as_ref();
    let shown = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let ratio = activity.and_then(|activity| percent(activity.hits, activity.hits + activity.misses));
    let limit = activity.and_then(|activity| {
        let remaining = activity.rate_limit_remaining?.to_string();
        Some(of(remaining, activity.rate_limit.map(|limit| limit.to_string())))
    });
    let first_byte = activity.and_then(|activity| activity.first_byte_ms).map(|time| format!("{time} ms"));
    [
        upstream.host.clone(),
        state(upstream).to_owned(),
        shown(activity.map(|activity| activity.hits.to_string())),
        shown(activity.map(|activity| activity.misses.to_string())),
        shown(ratio),
        shown(activity.map(|activity| bytes(activity.saved_bytes))),
        cached,
        shown(activity.map(|activity| activity.requests.to_string())),
        shown(first_byte),
        shown(limit),
    ]
}

fn state(upstream: &CachedUpstream) -> &'static str {
    match &upstream.activity {
        _ if !upstream.configured => "not configured",
        Some(activity) if activity.offline => "offline",
        Some(activity) if activity.left_alone.is_some() => "left alone",
        _ if upstream.private => "private",
        Some(_) => "ok",
        None => "not running",
    }
}

fn of(count: String, most: Option<String>) -> String {
    match most {
        Some(most) => format!("{count} of {most}"),
        None => count,
    }
}

fn percent(part: u64, whole: u64) -> Option<String> {
    let tenths = u128::from(part) * 1000 / u128::from(Some(whole).filter(|whole| *whole > 0)?);
    Some(format!("{}.{} %", tenths / 10, tenths % 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_shown_where_there_is_one() {
        for (part, whole, text) in
            [(0, 0, None), (0, 3, Some("0.0 %")), (2, 3, Some("66.6 %")), (3, 3, Some("100.0 %"))]
        {
            assert_eq!(percent(part, whole).as_deref(), text);
        }
    }
}
