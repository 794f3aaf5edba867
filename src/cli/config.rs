//! `orlop config`, and the flags that every command with a configuration has.

#![expect(clippy::doc_markdown, reason = "the doc comments of arguments are help texts, printed as they are")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::config::{Input, Loaded, Source, example};
use crate::server::cache_settings;

use super::output::Output;

/// The flags that set configuration keys; they win over the environment, and that over the file.
#[derive(Debug, Args)]
pub(super) struct ConfigArguments {
    /// Read this configuration file [default: orlop.toml, if there is one; environment: ORLOP_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen on this address and port [default: 127.0.0.1:5000]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Keep everything in this directory [default: ./data]
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<String>,
    /// Log this much: off, error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Log as text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Cache images of this registry, for example docker.io; can be repeated
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    cache: Vec<String>,
    /// Listen beyond this machine without users and rules: whoever reaches the port can push and delete
    #[arg(long)]
    insecure_open: bool,
    /// Set any other key, for example --set uploads.expire_after=1h; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl ConfigArguments {
    /// Reads the configuration from the flags, the process's environment and the file.
    pub(super) fn load(&self) -> anyhow::Result<Loaded> {
        self.input().load().context("the configuration is not valid").map_err(one_per_line)
    }

    /// What it is read from.
    pub(super) fn input(&self) -> Input {
        let cache = (!self.cache.is_empty()).then(|| self.cache.join(","));
        let open = self.insecure_open.then(|| "true".to_owned());
        let flags = [
            ("--listen", "listen", &self.listen),
            ("--data", "data", &self.data),
            ("--cache", "cache.upstreams", &cache),
            ("--insecure-open", "access.insecure_open", &open),
            ("--log-level", "log.level", &self.log_level),
            ("--log-format", "log.format", &self.log_format),
        ];
        Input {
            file: self.config.clone(),
            environment: std::env::vars_os().collect(),
            flags: flags
                .into_iter()
                .filter_map(|(flag, key, value)| value.clone().map(|value| (flag, key, value)))
                .collect(),
            assignments: self.set.clone(),
        }
    }
}

/// Puts each of several mistakes on a line of its own.
fn one_per_line(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<crate::config::ConfigErrors>() {
        Ok(errors) => {
            let mut text = "the configuration is not valid:".to_owned();
            for error in errors.iter() {
                text.push_str("\n  ");
                text.push_str(&error.to_string());
            }
            anyhow::anyhow!(text)
        }
        Err(error) => error,
    }
}

const CHECK_EXAMPLES: &str = "\
Examples:
  orlop config check
  orlop config check --config /etc/orlop.toml
  ORLOP_LOG_LEVEL=debug orlop config check";

const EXAMPLE_EXAMPLES: &str = "\
Examples:
  orlop config example > orlop.toml
  orlop config example | less";

#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArguments,
}

/// What a configuration amounts to.
#[derive(Debug, Serialize)]
struct Checked {
    /// The file that was read.
    file: Option<PathBuf>,
    /// Every key with its value, and where that comes from.
    keys: BTreeMap<&'static str, Value>,
    warnings: Vec<String>,
}

/// What a key is set to.
#[derive(Debug, Serialize)]
struct Value {
    value: String,
    from: String,
}

impl Checked {
    fn of(loaded: &Loaded) -> anyhow::Result<Checked> {
        cache_settings(&loaded.config)?;
        let keys = loaded.effective.iter().map(|effective| {
            let from = effective.origin.to_string();
            (effective.key.name, Value { value: effective.value.clone(), from })
        });
        Ok(Checked { file: loaded.file.clone(), keys: keys.collect(), warnings: loaded.warnings.clone() })
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Say whether the configuration is valid, and what it amounts to.
    ///
    /// Reads the file, the environment and the flags as `orlop serve` does, and prints every key's value and where it comes
    /// from. Mistakes are listed all at once, and the exit code is 1.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArguments),
    /// Print a commented configuration file with every key and its default.
    #[command(after_help = EXAMPLE_EXAMPLES)]
    Example,
}

impl ConfigCommand {
    pub(super) fn run(self, output: &mut Output) -> anyhow::Result<ExitCode> {
        match self {
            Self::Check(CheckArguments { json: true, config }) => {
                output.json(&Checked::of(&config.load()?)?)?;
            }
            Self::Check(CheckArguments { json: false, config }) => check(&config, output)?,
            Self::Example => output.text(&example())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn check(arguments: &ConfigArguments, output: &mut Output) -> anyhow::Result<()> {
    let loaded = arguments.load()?;
    let width = |column: fn(&(String, String)) -> usize, rows: &[(String, String)]| {
        rows.iter().map(column).max().unwrap_or_default()
    };
    let rows: Vec<(String, String)> = loaded
        .effective
        .iter()
        .map(|effective| {
            let value = if effective.value.is_empty() { "\"\"".to_owned() } else { effective.value.clone() };
            (effective.key.name.to_owned(), value)
        })
        .collect();
    let (names, values) = (width(|row| row.0.len(), &rows), width(|row| row.1.len(), &rows));
    for ((name, value), effective) in rows.iter().zip(&loaded.effective) {
        let origin = match &effective.origin {
            Source::Default => String::new(),
            origin => format!("   from {origin}"),
        };
        output.line(format!("{name:names$} = {value:values$}{origin}").trim_end())?;
    }
    for upstream in &loaded.config.upstreams {
        output.line(format!("[[upstream]] {} -> {}", upstream.host, upstream.address()))?;
    }
    cache_settings(&loaded.config)?;
    for endpoint in &loaded.config.notifications.endpoints {
        output.line(format!("[[notifications.endpoint]] {} -> {}", endpoint.listener.name, endpoint.url))?;
    }
    for policy in &loaded.config.retention.policies.policies {
        output.line(format!("[[retention.policy]] {} for {}", policy.name, policy.repositories))?;
    }
    for rule in loaded.config.immutable.rules() {
        output.line(format!("[[immutable]] in {}", rule.repositories))?;
    }
    for quota in &loaded.config.quotas {
        output.line(format!("[[quota]] {} bytes for {}", quota.max_bytes, quota.repositories))?;
    }
    for backup in &loaded.config.backups {
        output.line(format!("[[backup]] to {}", backup.name()))?;
    }
    output.line("")?;
    for warning in &loaded.warnings {
        output.line(format!("Warning: {warning}."))?;
    }
    match &loaded.file {
        Some(file) => output.line(format!("The configuration is valid ({} was read).", file.display()))?,
        None => output.line("The configuration is valid (no file was read).")?,
    }
    Ok(())
}
