//! Imports: from the stores of other registries, from archives, and from other registries over HTTP.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::Password;
use super::call::{Answer, Call, invalid};
use super::job::{self, Progress, Reporter, Unit};
use crate::client::registry::{self as peer, Credentials, Retries, Timeouts, Upstream};
use crate::fsio::{FileError, Spool};
use crate::http::errors::{ApiError, ErrorCode};
use crate::http::incoming::Incoming;
use crate::registry::Registry;
use crate::transfer::{self, As, Error, Files, Options, Report, Skipped, Told, distribution, docker, layout};

/// The body of `POST import/distribution`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command")]
pub struct ImportDistribution {
    /// The directory with the tree, an absolute path where the registry runs.
    pub directory: PathBuf,
    /// Patterns of the repositories; all without any.
    #[serde(default)]
    pub repositories: Vec<String>,
    /// Take blobs by hard links where that can be done.
    #[serde(default)]
    pub link: bool,
    /// Hash also what is not copied.
    #[serde(default)]
    pub verify: bool,
    /// Take layers that no manifest names too.
    #[serde(default)]
    pub all_layers: bool,
    /// Change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What is taken of images, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImportSelection {
    /// What stands before each name here.
    #[serde(default)]
    pub below: Option<String>,
    /// Patterns of the repositories; all without any.
    #[serde(default)]
    pub repositories: Vec<String>,
    /// Patterns of the tags; all without any.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Move tags too that were not set by an import.
    #[serde(default)]
    pub move_tags: bool,
    /// Change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// The body of `POST import/oci` and `POST import/docker`. Where the archive itself is the body, this is the parameter
/// `request` of the query, and there is no path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImportArchive {
    /// The archive or its directory, an absolute path where the registry runs.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// The name that the images get: a repository, or one with a tag for one image.
    #[serde(default)]
    pub name: Option<As>,
    /// What is taken.
    #[serde(default)]
    pub take: ImportSelection,
}

/// The body of `POST import/registry`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImportRegistry {
    /// Where the other registry is.
    pub address: String,
    /// Who asks there.
    #[serde(default)]
    pub user: Option<String>,
    /// With which password.
    #[serde(default)]
    pub password: Option<Password>,
    /// A file of root certificates, an absolute path where the registry runs.
    #[serde(default)]
    pub root_certificates: Option<PathBuf>,
    /// What is taken.
    #[serde(default)]
    pub take: ImportSelection,
}

/// What came, or would come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportAnswer {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// What came.
    #[serde(flatten)]
    pub report: Report,
}

/// Imports the tree of a distribution registry; ends when nobody waits for the answer any more: what came until then stays.
pub(super) async fn import_distribution(mut call: Call) -> Answer {
    let asked: ImportDistribution = call.json().await?;
    require_absolute(&asked.directory)?;
    let options = distribution::Options {
        repositories: parsed(&asked.repositories)?,
        link: asked.link,
        verify: asked.verify,
        all_layers: asked.all_layers,
        dry_run: asked.dry_run,
        actor: call.actor(),
    };
    let registry = call.registry().clone();
    let runtime = Handle::current();
    Ok(job::answer(&call, move |reporter| {
        let tell = |told| hear(reporter.clone(), told).boxed();
        let importing = distribution::import(&registry, &asked.directory, &options, &tell);
        answer(runtime.block_on(importing), options.dry_run)
    }))
}

/// What an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Archive {
    /// An OCI image layout.
    Oci,
    /// What `docker save` writes.
    Docker,
}

/// Imports the images of an archive, which lies where the registry runs or is the body of the request.
pub(super) async fn import_archive(mut call: Call, archive: Archive) -> Answer {
    let beside = call.query().first("request").map(std::borrow::Cow::into_owned);
    let asked: ImportArchive = match &beside {
        Some(json) => serde_json::from_str(json)
            .map_err(|error| invalid(format!("the parameter request is wrong: {error}")))?,
        None => call.json().await?,
    };
    let body = match (&asked.path, beside) {
        (Some(path), None) => {
            require_absolute(path)?;
            None
        }
        (None, Some(_)) => call.take_body(),
        _ => {
            return Err(invalid(
                "name the archive, or send it as the body and the rest as the parameter request",
            ));
        }
    };
    let options = options(&asked.take, &call)?;
    let registry = call.registry().clone();
    let runtime = Handle::current();
    Ok(job::answer(&call, move |reporter| {
        let tell = |told| hear(reporter.clone(), told).boxed();
        let importing = async {
            let files = match (&asked.path, body) {
                (Some(path), _) => open(path)?,
                (None, Some(body)) => receive(&registry, body, reporter).await?,
                (None, None) => return Err(invalid("there is no archive in the request")),
            };
            let name = asked.name.as_ref();
            let imported = match archive {
                Archive::Oci => layout::import(&registry, &files, name, &options, &tell).await,
                Archive::Docker => docker::import(&registry, &files, name, &options, &tell).await,
            };
            answer(imported, options.dry_run)
        };
        runtime.block_on(importing)
    }))
}

/// Opens an archive where the registry runs.
fn open(path: &Path) -> Result<Files, ApiError> {
    Files::open(path).map_err(|error| match error {
        Error::Unreadable(FileError { source, path, .. })
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            invalid(format!(
                "{} can't be read by the user who runs the registry: pack it and send it by a pipe, as in \
                 `orlop import … - < FILE`, or let that user read it",
                path.display()
            ))
        }
        error => refusal(error),
    })
}

/// Puts the body aside in the data directory, since an archive has to be read in any order. The file has no name there, and
/// is gone with the import.
async fn receive(registry: &Registry, mut body: Incoming, reporter: &Reporter) -> Result<Files, ApiError> {
    let unwritten = |error: FileError| {
        if error.is_full() {
            return ApiError::from(crate::registry::Error::DiskFull);
        }
        invalid(format!("the archive can't be put aside: {error}"))
    };
    let mut spool = Spool::in_dir(registry.data()).map_err(unwritten)?;
    let mut received: u64 = 0;
    while let Some(piece) = body.next().await.map_err(|_| invalid("the archive ended before its time"))? {
        registry.make_space(piece.len() as u64).await?;
        spool.write(&piece).map_err(unwritten)?;
        received += piece.len() as u64;
        if hear(reporter.clone(), Told::Receiving(received)).await.is_break() {
            return Err(ApiError::new(ErrorCode::Unavailable, "it was stopped; nothing was imported"));
        }
    }
    Ok(Files::of_tar(spool.into_source("standard input").map_err(unwritten)?))
}

/// Imports what another registry has.
pub(super) async fn import_registry(mut call: Call) -> Answer {
    let asked: ImportRegistry = call.json().await?;
    let address = asked.address.parse().map_err(|error| invalid(format!("{}: {error}", asked.address)))?;
    let mut settings = peer::Options::new(address);
    settings.credentials = match (&asked.user, &asked.password) {
        (Some(user), Some(password)) => {
            Some(Credentials::new(user, password.reveal()).map_err(|error| invalid(error.to_string()))?)
        }
        (None, None) => None,
        _ => return Err(invalid("a user needs a password, and a password a user")),
    };
    if let Some(path) = &asked.root_certificates {
        require_absolute(path)?;
    }
    settings.root_certificates.clone_from(&asked.root_certificates);
    // Nobody waits for a page: a long import rather asks once more.
    settings.retries =
        Retries { attempts: 5, patience: std::time::Duration::from_secs(60), ..Retries::default() };
    settings.timeouts = Timeouts { small_answer: std::time::Duration::from_secs(120), ..Timeouts::default() };
    let options = options(&asked.take, &call)?;
    let registry = call.registry().clone();
    let runtime = Handle::current();
    Ok(job::answer(&call, move |reporter| {
        let tell = |told| hear(reporter.clone(), told).boxed();
        let upstream = Upstream::new(settings).map_err(|error| invalid(error.to_string()))?;
        let importing = transfer::peer::import(&registry, &upstream, &options, &tell);
        answer(runtime.block_on(importing), options.dry_run)
    }))
}

fn options(take: &ImportSelection, call: &Call) -> Result<Options, ApiError> {
    let below = take.below.as_deref().map(str::parse).transpose();
    Ok(Options {
        below: below.map_err(|error: crate::oci::NameError| invalid(error.to_string()))?,
        repositories: parsed(&take.repositories)?,
        tags: parsed(&take.tags)?,
        move_tags: take.move_tags,
        dry_run: take.dry_run,
        actor: call.actor(),
    })
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(texts: &[String]) -> Result<Vec<T>, ApiError> {
    texts.iter().map(|text| text.parse().map_err(|error| invalid(format!("{text}: {error}")))).collect()
}

fn require_absolute(path: &Path) -> Result<(), ApiError> {
    if path.is_absolute() { Ok(()) } else { Err(invalid("write the whole path, from / on")) }
}

async fn hear(reporter: Reporter, told: Told) -> ControlFlow<()> {
    let progress = |what: &str, done, total, unit| Progress { what: what.to_owned(), done, total, unit };
    match told {
        Told::Looking(repositories) => {
            reporter.tell(progress("looking at repositories", repositories, None, Unit::Items))
        }
        Told::Importing(done, total) => reporter.tell(progress("importing", done, Some(total), Unit::Bytes)),
        Told::Images(done, total) => reporter.tell(progress("images", done, Some(total), Unit::Items)),
        Told::Receiving(done) => reporter.tell(progress("receiving", done, None, Unit::Bytes)),
        Told::Waiting(seconds) => {
            let what = "waiting, as the other registry wants; seconds left";
            reporter.tell(progress(what, seconds, None, Unit::Items))
        }
        Told::Skipped(skipped) => reporter.send(skipped).await,
    }
}

fn answer(imported: Result<Report, Error>, dry_run: bool) -> Result<ImportAnswer, ApiError> {
    imported.map(|report| ImportAnswer { dry_run, report }).map_err(refusal)
}

/// How an import or an export that ended is told of.
pub(super) fn refusal(error: Error) -> ApiError {
    match error {
        Error::Unusable(_) | Error::Unreadable(_) => invalid(error.to_string()),
        Error::Registry(error) => error.into(),
    }
}

/// Something that could not be taken.
pub type ImportSkipped = Skipped;
