//! `orlop export`.

use std::cell::RefCell;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::{Args, Subcommand};

use crate::fsio::{FileError, PendingFile};
use crate::http::admin::{ExportImages, ExportPlan, Progress, Target, Unit};
use crate::proxy::Platform;
use crate::transfer::export::{Format, Unpacking};

use super::admin::{AdminArguments, AdminRequest};
use super::output::{Output, bytes};
use super::progress::ProgressBars;
use super::target;

const OCI_EXAMPLES: &str = "\
Examples:
  orlop export oci layout team/app:v1                              a directory
  orlop export oci images.tar team/app:v1 team/web                 a tar archive; of team/web every tag
  orlop export oci app.tar team/app:v1 --platform linux/arm64      one platform of several
  orlop export oci signed.tar team/app:v1 --referrers              with signatures and what else refers to it
  skopeo copy oci:layout:team/app:v1 docker://registry.example.org/team/app:v1";

const DOCKER_EXAMPLES: &str = "\
Examples:
  orlop export docker - team/app:v1 | docker load
  orlop export docker images.tar team/app:v1 team/web:v2 && podman load -i images.tar
  orlop export docker arm.tar team/app:v1 --platform linux/arm64";

#[derive(Debug, Subcommand)]
pub(super) enum ExportCommand {
    /// Write images as an OCI image layout: a directory, or a tar archive where TO ends with .tar or is -.
    ///
    /// Everything keeps its digest, and images for several platforms come whole. What an image names and the registry doesn't
    /// have, as in a sparse index, is listed and left out. Names are in the layout as REPOSITORY:TAG. Each blob is hashed on the
    /// way; TO appears when all of it is there, and nothing is replaced without --force. The same images always give the
    /// same bytes.
    #[command(after_help = OCI_EXAMPLES)]
    Oci(ExportArguments),
    /// Write images as an archive that docker load and podman load read; - writes to standard output.
    ///
    /// Of an image for several platforms it holds one: that of this machine, or the one of --platform. Layers stay compressed
    /// as they are. Everything else is as with `orlop export oci`.
    #[command(after_help = DOCKER_EXAMPLES)]
    Docker(ExportArguments),
}

#[derive(Debug, Args)]
pub(super) struct ExportArguments {
    /// The file or directory to write, or - for standard output
    #[arg(value_name = "TO")]
    to: PathBuf,
    /// Images such as team/app:v1 or team/app@sha256:…; a repository alone means all its tags
    #[arg(value_name = "IMAGE", required = true, value_parser = target::parse)]
    images: Vec<Target>,
    /// Only this platform of images for several, such as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// With what refers to the images, such as signatures
    #[arg(long)]
    referrers: bool,
    /// Replace what is at TO
    #[arg(long)]
    force: bool,
    /// Write nothing, and say what would be written
    #[arg(long, short = 'n')]
    dry_run: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

/// Where an archive goes.
enum Writing {
    Output(io::Stdout),
    File(PendingFile),
    Directory(Unpacking),
}

impl ExportCommand {
    pub(super) fn run(self, output: &mut Output) -> anyhow::Result<ExitCode> {
        let (format, arguments) = match self {
            Self::Oci(arguments) => (Format::Oci, arguments),
            Self::Docker(arguments) => (Format::Docker, arguments),
        };
        let ExportArguments { to, images, platform, referrers, force, dry_run, admin } = arguments;
        let is_output = to.as_os_str() == "-";
        if is_output && admin.is_json() && !dry_run {
            bail!("standard output can't have both the archive and --json; write the archive into a file");
        }
        let platform = platform.as_ref().map(ToString::to_string);
        let mut asked = ExportImages { format, images, platform, referrers };
        let first = AdminRequest::post("export/plan", &asked)?;
        // It begins between the two requests: where there is no such image, nothing is to be replaced.
        let writing = RefCell::new(None);
        let second = |plan: &ExportPlan| {
            if dry_run {
                return Ok(None);
            }
            // Whatever happens to the tags meanwhile.
            let pinned = plan.images.iter().map(|image| Target {
                repository: image.repository.clone(),
                tag: image.tag.clone(),
                digest: Some(image.digest),
            });
            asked.images = pinned.collect();
            *writing.borrow_mut() = Some(Writing::begin(&to, format, force)?);
            AdminRequest::post("export/archive", &asked).map(Some)
        };
        let mut bars = ProgressBars::default();
        let mut done: u64 = 0;
        let plan = admin.fetch_bytes(first, second, |plan: &ExportPlan, piece| {
            done += piece.len() as u64;
            let what = "exporting".to_owned();
            bars.show(&Progress { what, done, total: Some(plan.bytes.max(done)), unit: Unit::Bytes });
            writing.borrow_mut().as_mut().map_or(Ok(()), |writing: &mut Writing| writing.take(&piece))
        })?;
        drop(bars);
        if let Some(writing) = writing.into_inner() {
            writing.finish().with_context(|| advice(&to))?;
        }
        if admin.is_json() {
            let json = serde_json::to_string(&plan).context("cannot write the answer")?;
            output.line(json)?;
        } else if is_output && !dry_run {
            complain_of_absent(&plan);
        } else {
            print(&plan, dry_run, output)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn advice(to: &Path) -> String {
    format!("cannot write {}", to.display())
}

impl Writing {
    fn begin(to: &Path, format: Format, force: bool) -> anyhow::Result<Writing> {
        if to.as_os_str() == "-" {
            let output = io::stdout();
            if output.is_terminal() {
                bail!(
                    "an archive is nothing for a terminal: name a file, or pipe it, as in `orlop export docker - IMAGE | docker load`"
                );
            }
            return Ok(Writing::Output(output));
        }
        let is_tar = format == Format::Docker || to.extension().is_some_and(|extension| extension == "tar");
        if is_tar && to.is_dir() {
            bail!("{} is a directory; name the file to write", to.display());
        }
        let is_other =
            to.is_dir() && !to.join("oci-layout").exists() && std::fs::read_dir(to)?.next().is_some();
        if !is_tar && force && is_other {
            bail!("{} is no OCI image layout, and is not replaced; name another directory", to.display());
        }
        let begun = if is_tar {
            PendingFile::create(to, force).map(Writing::File)
        } else {
            Unpacking::create(to, force).map(Writing::Directory)
        };
        begun.map_err(|error| match error {
            FileError { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                anyhow::anyhow!("{} is there already; --force replaces it", to.display())
            }
            error => anyhow::Error::from(error).context(advice(to)),
        })
    }

    fn take(&mut self, piece: &Bytes) -> anyhow::Result<()> {
        match self {
            Writing::Output(output) => Ok(output.write_all(piece)?),
            Writing::File(file) => file.write_all(piece).context("cannot write the archive"),
            Writing::Directory(unpacking) => Ok(unpacking.take(piece)?),
        }
    }

    fn finish(self) -> anyhow::Result<()> {
        match self {
            Writing::Output(mut output) => Ok(output.flush()?),
            Writing::File(file) => Ok(file.finish()?),
            Writing::Directory(unpacking) => Ok(unpacking.finish()?),
        }
    }
}

/// What isn't in an archive has to be told beside it.
fn complain_of_absent(plan: &ExportPlan) {
    if plan.absent_count > 0 {
        // Nobody is left to tell when standard error is closed.
        let text = format!(
            "left out, since the registry doesn't have it: {} of what the images name",
            plan.absent_count
        );
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

fn print(plan: &ExportPlan, dry_run: bool, output: &mut Output) -> io::Result<()> {
    for absent in &plan.absent {
        let (repository, manifest, digest) = (&absent.repository, &absent.manifest, &absent.digest);
        output.line(format!(
            "absent: {repository}@{manifest} names {digest}, which the registry doesn't have"
        ))?;
    }
    let written = if dry_run { "would be written" } else { "written" };
    for (name, value) in [
        ("images", plan.images.len().to_string()),
        ("manifests", plan.manifests.to_string()),
        ("blobs", plan.blobs.to_string()),
        ("absent", plan.absent_count.to_string()),
        ("size", format!("{} {written}", bytes(plan.bytes))),
    ] {
        output.line(format!("{name:16} {value}"))?;
    }
    Ok(())
}
