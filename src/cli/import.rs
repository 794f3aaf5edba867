//! `orlop import`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::http::admin::{
    ImportAnswer, ImportArchive, ImportDistribution, ImportRegistry, ImportSelection, ImportSkipped,
};
use crate::oci::RepositoryName;
use crate::registry::{NamePattern, TagPattern};
use crate::transfer::As;

use super::admin::{AdminArguments, AdminRequest};
use super::docker_config::{self, Login};
use super::exit;
use super::output::{Output, bytes};
use super::target::escaped;

const DISTRIBUTION_EXAMPLES: &str = "\
Examples:
  orlop import distribution /var/lib/docker-registry --dry-run     what would come, and what is damaged
  orlop import distribution /var/lib/docker-registry
  orlop import distribution /var/lib/registry --repository 'team/**' --repository base
  orlop import distribution /srv/registry --link --verify          share the files of the blobs, and hash them";

const OCI_EXAMPLES: &str = "\
Examples:
  orlop import oci /srv/layout                                     a directory
  orlop import oci images.tar --dry-run                            a tar archive: what would come, and what is damaged
  orlop import oci layout --as team/app:v1                         one image, whatever it is called there
  skopeo copy docker://alpine:3 oci-archive:alpine.tar:3 && orlop import oci alpine.tar --as alpine
  gunzip -c images.tar.gz | orlop import oci -";

const DOCKER_EXAMPLES: &str = "\
Examples:
  docker save team/app:v1 team/web:v2 | orlop import docker -
  orlop import docker images.tar --dry-run                         what would come, and what is damaged
  orlop import docker app.tar --as team/app:v1
  orlop import docker images.tar --below from/docker";

const REGISTRY_EXAMPLES: &str = "\
Examples:
  orlop import registry https://registry.example.org --dry-run     what would come
  orlop import registry https://registry.example.org --login ~/.docker/config.json
  orlop import registry http://10.0.0.5:5000                       without TLS, since the address says so
  orlop import registry https://quay.io --repository team/app --tag 'v1.*'
  orlop import registry https://registry.example.org --repository 'team/**' --below old";

#[derive(Debug, Subcommand)]
pub(super) enum ImportCommand {
    /// Import from the directory of a docker-registry or registry:2, which is stopped meanwhile.
    ///
    /// DIR is its root directory, which has docker/registry/v2 in it; it is read and never changed. Manifests keep their
    /// digests, tags their history, and schema 1 manifests their signatures. Where the file system has clones, blobs share
    /// their blocks with the files there; else they are copied, and hashed on the way. What is damaged is listed with its
    /// path and left out, and the exit code is 3 then. What is here already isn't taken again, so an import that was
    /// interrupted goes on when it is run again. A server that runs does it, and has to be able to read DIR.
    #[command(after_help = DISTRIBUTION_EXAMPLES)]
    Distribution(DistributionArguments),
    /// Import images from an OCI image layout: a directory, or a tar archive.
    ///
    /// Manifests keep their digests. The names come from the annotations in its index.json, io.containerd.image.name or
    /// org.opencontainers.image.ref.name, without the host in front; where these only have a tag, --as says the repository.
    /// Manifests without a name come with the image that they refer to, such as signatures. What is damaged is listed with
    /// its path and left out, and the exit code is 3 then. What is here already isn't read again. A server that runs does
    /// it, and has to be able to read PATH; with - the archive comes by standard input.
    #[command(after_help = OCI_EXAMPLES)]
    Oci(ArchiveArguments),
    /// Import images from an archive that `docker save` or `podman save` has written.
    ///
    /// The names are those in the archive, without the host in front. Layers come as they are in it, uncompressed in most
    /// archives, so that the same image always gets the same digest; where Docker 25 or later has put the manifests into the
    /// archive, images keep their digests. Everything else is as with `orlop import oci`.
    #[command(after_help = DOCKER_EXAMPLES)]
    Docker(ArchiveArguments),
    /// Import another registry over HTTP: all of it, or some repositories and tags.
    ///
    /// Every tag is asked for, and what it points to comes with all platforms and all that refers to it, with its digest. What
    /// is here already isn't fetched, so an import can be repeated: it goes on where it was interrupted, and takes what is
    /// new. Blobs are hashed on the way. Where the other registry says to come back later, it is left alone that long. A
    /// registry that doesn't list its repositories is imported by their names.
    #[command(after_help = REGISTRY_EXAMPLES)]
    Registry(RegistryArguments),
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(super) struct DistributionArguments {
    /// The registry's root directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Only the repositories that match this pattern, such as team/**
    #[arg(long = "repository", value_name = "PATTERN")]
    repositories: Vec<NamePattern>,
    /// Take blobs by hard links where that can be done: the two registries share the files then
    #[arg(long)]
    link: bool,
    /// Hash blobs also where they are not copied
    #[arg(long)]
    verify: bool,
    /// Take layers that no manifest names too; the collector removes them when their lease ends
    #[arg(long)]
    all_layers: bool,
    /// Change nothing, and say what would come and what is damaged
    #[arg(long, short = 'n')]
    dry_run: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
pub(super) struct ArchiveArguments {
    /// The archive, or - for standard input
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// The name that the images get: a repository, with a tag if it is one image
    #[arg(long = "as", value_name = "NAME[:TAG]")]
    name: Option<As>,
    #[command(flatten)]
    take: TakeArguments,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
pub(super) struct RegistryArguments {
    /// Its address, https://HOST[:PORT]; http:// for one without TLS
    #[arg(value_name = "URL")]
    address: String,
    /// A file with who asks there: USER:PASSWORD in one line, or a config.json of Docker that has a login for the host
    #[arg(long, value_name = "FILE")]
    login: Option<PathBuf>,
    /// A PEM file of root certificates that are trusted beside the system's
    #[arg(long = "ca", value_name = "FILE")]
    root_certificates: Option<PathBuf>,
    #[command(flatten)]
    take: TakeArguments,
    #[command(flatten)]
    admin: AdminArguments,
}

/// What is taken of images, and how.
#[derive(Debug, Args)]
struct TakeArguments {
    /// Put everything below this name: team/app comes as NAME/team/app
    #[arg(long, value_name = "NAME")]
    below: Option<RepositoryName>,
    /// Only the repositories that match this pattern, such as team/**
    #[arg(long = "repository", value_name = "PATTERN")]
    repositories: Vec<NamePattern>,
    /// Only the tags that match this pattern, such as v1.*
    #[arg(long = "tag", value_name = "PATTERN")]
    tags: Vec<TagPattern>,
    /// Move tags too that are here and were not set by an import
    #[arg(long)]
    move_tags: bool,
    /// Change nothing, and say what would come
    #[arg(long, short = 'n')]
    dry_run: bool,
}

impl TakeArguments {
    fn selection(&self) -> ImportSelection {
        ImportSelection {
            below: self.below.as_ref().map(ToString::to_string),
            repositories: self.repositories.iter().map(ToString::to_string).collect(),
            tags: self.tags.iter().map(ToString::to_string).collect(),
            move_tags: self.move_tags,
            dry_run: self.dry_run,
        }
    }
}

impl ImportCommand {
    pub(super) fn run(self, output: &mut Output) -> anyhow::Result<ExitCode> {
        let (request, admin) = match self {
            Self::Distribution(arguments) => arguments.request()?,
            Self::Oci(arguments) => arguments.request("import/oci")?,
            Self::Docker(arguments) => arguments.request("import/docker")?,
            Self::Registry(arguments) => arguments.request()?,
        };
        let skipped = |part: Option<ImportSkipped>, output: &mut Output| match part {
            Some(ImportSkipped { path, reason }) => output.line(format!("skipped: {path}: {reason}")),
            None => Ok(()),
        };
        let answer: ImportAnswer = admin.ask_in_parts(request, output, skipped, print)?;
        if answer.report.ended_early {
            return Ok(ExitCode::FAILURE);
        }
        Ok(exit::done(answer.report.skipped == 0))
    }
}

impl DistributionArguments {
    fn request(self) -> anyhow::Result<(AdminRequest, AdminArguments)> {
        let DistributionArguments { directory, repositories, link, verify, all_layers, dry_run, admin } =
            self;
        let directory = absolute(&directory)?;
        let repositories = repositories.iter().map(ToString::to_string).collect();
        let asked = ImportDistribution { directory, repositories, link, verify, all_layers, dry_run };
        Ok((AdminRequest::post("import/distribution", &asked)?, admin))
    }
}

impl ArchiveArguments {
    fn request(self, endpoint: &str) -> anyhow::Result<(AdminRequest, AdminArguments)> {
        let ArchiveArguments { path, name, take, admin } = self;
        let is_input = path.as_os_str() == "-";
        let path = if is_input { None } else { Some(absolute(&path)?) };
        let asked = ImportArchive { path, name, take: take.selection() };
        let request = if is_input {
            let json = serde_json::to_string(&asked).context("cannot write the request")?;
            AdminRequest::post_input(format!("{endpoint}?request={}", escaped(&json)))
        } else {
            AdminRequest::post(endpoint, &asked)?
        };
        Ok((request, admin))
    }
}

impl RegistryArguments {
    fn request(self) -> anyhow::Result<(AdminRequest, AdminArguments)> {
        let RegistryArguments { address, login, root_certificates, take, admin } = self;
        let login = match login {
            Some(path) => Some(docker_config::read(&path, &address)?),
            None => None,
        };
        let (user, password) = login.map(|Login { user, password }| (user, password)).unzip();
        let root_certificates = root_certificates.as_deref().map(absolute).transpose()?;
        let take = take.selection();
        let asked = ImportRegistry { address, user, password, root_certificates, take };
        Ok((AdminRequest::post("import/registry", &asked)?, admin))
    }
}

/// The server that is asked works in another directory.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))
}

fn print(answer: &ImportAnswer, output: &mut Output) -> io::Result<()> {
    let ImportAnswer { dry_run, report } = answer;
    let came = if *dry_run { "would come" } else { "came" };
    let with_known = |new: u64, known: u64| format!("{new} {came}, {known} were here");
    let shared = report.bytes - report.copied_bytes.min(report.bytes);
    let how = if *dry_run || shared == 0 {
        String::new()
    } else {
        format!(": {} copied, {} shared", bytes(report.copied_bytes), bytes(shared))
    };
    let mut rows = vec![
        ("repositories", report.repositories.to_string()),
        ("manifests", with_known(report.manifests, report.known_manifests)),
        ("tags", with_known(report.tags, report.known_tags)),
        ("blobs", format!("{} {came} ({}{how})", report.blobs, bytes(report.bytes))),
    ];
    if report.signatures > 0 {
        rows.push(("signatures", format!("{} {came}", report.signatures)));
    }
    if report.sparse_indexes > 0 {
        rows.push(("sparse indexes", format!("{} name manifests that are not there", report.sparse_indexes)));
    }
    if report.unnamed_layers > 0 {
        let left = format!(
            "{} that no manifest names were left out ({})",
            report.unnamed_layers,
            bytes(report.unnamed_bytes)
        );
        rows.push(("layers", left));
    }
    rows.push(("skipped", report.skipped.to_string()));
    if report.ended_early {
        rows.push(("ended early", "it was stopped; the next import goes on".to_owned()));
    }
    output.facts(rows)
}
