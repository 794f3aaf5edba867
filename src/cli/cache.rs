//! `orlop cache`.

use std::io;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::http::admin::{PullImages, PulledImages};

use super::admin::{AdminArguments, AdminRequest};
use super::cache_status::{self, CacheStatusArguments};
use super::output::{Output, bytes};
use super::table;

const PULL_EXAMPLES: &str = "\
Examples:
  orlop cache pull docker.io/library/busybox:1.36
  orlop cache pull busybox:1.36 alpine:3.20       the default upstream's
  orlop cache pull --platform linux/amd64,linux/arm64 ghcr.io/team/app:v2
  orlop cache pull --platform all 'quay.io/team/tool:^1.4'";

#[derive(Debug, Subcommand)]
pub(super) enum CacheCommand {
    /// Show how the upstreams do, and what is cached of them.
    ///
    /// Hits, misses and requests are counted since the server's start. Saved is what was sent to clients and didn't have to be
    /// fetched for that. Without a server there is only what is stored.
    #[command(after_help = cache_status::EXAMPLES)]
    Status(CacheStatusArguments),
    /// Fetch images of upstreams before anybody asks for them.
    ///
    /// An image is named with a tag, a digest, a pattern of tags (:1.*) or a range of versions (:^1.4). What is here already
    /// isn't fetched. A server that runs does it; without one this command does, with the configuration that it is given.
    #[command(after_help = PULL_EXAMPLES)]
    Pull(PullArguments),
}

#[derive(Debug, Args)]
pub(super) struct PullArguments {
    /// The images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// The platforms that are wanted, or all; this machine's own without it
    #[arg(long = "platform", value_name = "PLATFORM", value_delimiter = ',')]
    platforms: Vec<String>,
    #[command(flatten)]
    admin: AdminArguments,
}

impl CacheCommand {
    pub(super) fn run(self, output: &mut Output) -> anyhow::Result<ExitCode> {
        let PullArguments { images, platforms, admin } = match self {
            Self::Status(arguments) => return cache_status::run(&arguments, output),
            Self::Pull(arguments) => arguments,
        };
        let request = AdminRequest::post("cache/pull", &PullImages { images, platforms })?;
        admin.ask(request, output, print)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn print(pulled: &PulledImages, output: &mut Output) -> io::Result<()> {
    let rows: Vec<_> = pulled
        .images
        .iter()
        .map(|image| {
            [
                image.image.clone(),
                image.digest.to_string(),
                image.blobs.to_string(),
                bytes(image.bytes),
                bytes(image.fetched),
            ]
        })
        .collect();
    table::print(output, ["IMAGE", "DIGEST", "BLOBS", "SIZE", "FETCHED"], &[2, 3, 4], &rows)?;
    for image in pulled.images.iter().filter(|image| image.not_kept > 0) {
        output.line(format!(
            "{}: {} are too large to be kept; raise max_size of the cache or of the upstream",
            image.image,
            bytes(image.not_kept)
        ))?;
    }
    Ok(())
}
