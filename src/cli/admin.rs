//! How a command asks the admin API: of the server that runs, else in this very process.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::{Bytes, BytesMut};
use clap::Args;
use futures_util::StreamExt;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;

use crate::auth::{Access, TokenKeys};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Log};
use crate::fsio::{RealDisk, append_to_present};
use crate::http::Errors;
use crate::http::admin::{Admin, JSON_LINES, Line, PREFIX};
use crate::proxy::Cache;
use crate::registry::{OpenError, Registry};
use crate::server::{ADMIN_SOCKET, AdminClient, cache_settings, registry_options};
use crate::snapshots::BackupSchedule;
use crate::telemetry::{AuditLevel, BackupMetrics, start_logs};

use super::config::ConfigArguments;
use super::output::Output;
use super::progress::ProgressBars;

/// How long a server that has locked the directory may take to listen on its socket.
const START_PATIENCE: Duration = Duration::from_secs(2);
/// The pause between two looks for it.
const START_PAUSE: Duration = Duration::from_millis(50);

/// Standard input is read in pieces of this size.
const INPUT_PIECE: usize = 256 << 10;

const STRANGE: &str = "the answer can't be understood; is the server of another version?";

/// Starts the log of a command. Beside a server, that says who did what; without one, this process does, where the server has
/// left a file for it.
fn start_logs_of(config: &Config) {
    let Log { level, format, audit, audit_file } = &config.log;
    let file = audit_file.as_deref().and_then(|path| append_to_present(path).ok());
    let audit = if file.is_some() { *audit } else { AuditLevel::Off };
    start_logs(*level, *format, audit, file);
}

/// The flags of every command that asks the admin API.
#[derive(Debug, Args)]
pub(super) struct AdminArguments {
    /// Print the answer as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) config: ConfigArguments,
}

/// A request to the admin API.
#[derive(Debug)]
pub(super) struct AdminRequest {
    method: Method,
    /// Behind the prefix, with the query.
    path: String,
    body: Sent,
}

/// What a request has as its body.
#[derive(Debug)]
enum Sent {
    Bytes(Bytes),
    /// What comes by standard input.
    Input,
}

/// A body of either side, as it comes.
type Piecewise = UnsyncBoxBody<Bytes, io::Error>;

impl AdminRequest {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: Sent::Bytes(Bytes::new()) }
    }

    /// With standard input as the body.
    pub(super) fn post_input(path: impl Into<String>) -> Self {
        Self { method: Method::POST, path: path.into(), body: Sent::Input }
    }

    /// With a body of JSON.
    pub(super) fn post(path: impl Into<String>, body: &impl Serialize) -> anyhow::Result<Self> {
        let body = serde_json::to_vec(body).context("cannot write the request")?;
        Ok(Self { method: Method::POST, path: path.into(), body: Sent::Bytes(body.into()) })
    }

    fn into_http(self) -> anyhow::Result<Request<Piecewise>> {
        let request = Request::builder().method(self.method).uri(format!("{PREFIX}{}", self.path));
        let body = match self.body {
            Sent::Bytes(bytes) => Full::new(bytes).map_err(io::Error::other).boxed_unsync(),
            Sent::Input => input(),
        };
        request.body(body).context("cannot write the request")
    }
}

impl AdminArguments {
    /// Sends `request`, shows how far it comes while it takes, and prints the answer: as it came with --json, else as
    /// `print` does.
    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        request: AdminRequest,
        output: &mut Output,
        print: impl FnOnce(&T, &mut Output) -> io::Result<()>,
    ) -> anyhow::Result<T> {
        self.ask_in_parts(request, output, |_: Option<IgnoredAny>, _| Ok(()), print)
    }

    /// The same for an answer in parts: `part` prints each as it comes, and hears of none after the last.
    pub(super) fn ask_in_parts<P: DeserializeOwned, T: DeserializeOwned>(
        &self,
        request: AdminRequest,
        output: &mut Output,
        mut part: impl FnMut(Option<P>, &mut Output) -> io::Result<()>,
        print: impl FnOnce(&T, &mut Output) -> io::Result<()>,
    ) -> anyhow::Result<T> {
        let mut on_part = |raw: &RawValue| {
            if self.json {
                return Ok(output.line(raw.get())?);
            }
            let value = serde_json::from_str(raw.get()).context(STRANGE)?;
            Ok(part(Some(value), output)?)
        };
        let mut session = self.session(&request.path)?;
        let raw = session.call(request, &mut on_part);
        session.end();
        let raw = raw?;
        let answer = serde_json::from_str(raw.get()).context(STRANGE)?;
        if self.json {
            output.line(raw.get())?;
        } else {
            part(None, output)?;
            print(&answer, output)?;
        }
        Ok(answer)
    }

    /// Asks for a list page by page: `request` makes the request for the page behind a name, and `print` shows a page and says behind
    /// what the next one begins.
    pub(super) fn ask_pages<T: DeserializeOwned>(
        &self,
        mut request: impl FnMut(Option<&str>) -> AdminRequest,
        mut print: impl FnMut(T) -> anyhow::Result<Option<String>>,
    ) -> anyhow::Result<()> {
        let mut session = self.session(&request(None).path)?;
        let mut last: Option<String> = None;
        let result = loop {
            let page = session.call(request(last.as_deref()), &mut |_| Ok(()));
            let page = page.and_then(|raw| serde_json::from_str(raw.get()).context(STRANGE));
            match page.and_then(&mut print) {
                Ok(Some(next)) => last = Some(next),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        session.end();
        result
    }

    /// Sends two requests, of which the second one depends on what the first one was answered; the bytes of the second answer go to
    /// `take` as they come, with the first one.
    pub(super) fn fetch_bytes<T: DeserializeOwned>(
        &self,
        first: AdminRequest,
        second: impl FnOnce(&T) -> anyhow::Result<Option<AdminRequest>>,
        mut take: impl FnMut(&T, Bytes) -> anyhow::Result<()>,
    ) -> anyhow::Result<T> {
        let mut session = self.session(&first.path)?;
        let work = || {
            let raw = session.call(first, &mut |_| Ok(()))?;
            let answer: T = serde_json::from_str(raw.get()).context(STRANGE)?;
            if let Some(second) = second(&answer)? {
                session.receive(second, |bytes| take(&answer, bytes))?;
            }
            Ok(answer)
        };
        let result = work();
        session.end();
        result
    }

    /// Whether answers are printed as JSON.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Finds who answers, for requests like the one with this path.
    fn session(&self, path: &str) -> anyhow::Result<Session> {
        let config = self.config.load()?.config;
        start_logs_of(&config);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the threads of the registry")?;
        let answering = runtime.block_on(async {
            Ok::<_, anyhow::Error>(match find(&config).await? {
                Found::Server(server) => Answering::Server(server),
                Found::Directory(registry) => {
                    Answering::Here(Box::new(Here::open(&config, registry, path).await?))
                }
            })
        })?;
        Ok(Session { runtime, answering })
    }
}

/// Some requests to the same registry.
struct Session {
    runtime: tokio::runtime::Runtime,
    answering: Answering,
}

enum Answering {
    /// The server that works on the directory.
    Server(AdminClient),
    /// This process, which has the directory now.
    Here(Box<Here>),
}

impl Answering {
    async fn answer(&mut self, request: AdminRequest) -> anyhow::Result<Response<Piecewise>> {
        let request = request.into_http()?;
        Ok(match self {
            Answering::Server(server) => {
                let answer = server
                    .call(request)
                    .await
                    .context("the server went away before it answered; its log says why")?;
                answer.map(|body| body.map_err(io::Error::other).boxed_unsync())
            }
            Answering::Here(here) => {
                let answer = here.admin.call(request).await;
                answer.map(|body| body.map_err(io::Error::other).boxed_unsync())
            }
        })
    }
}

/// A data directory that no server works on.
struct Here {
    registry: Registry,
    cache: Option<Cache>,
    admin: Admin,
}

impl Here {
    async fn open(config: &Config, registry: Registry, path: &str) -> anyhow::Result<Here> {
        let cache = cache(config, &registry, path)?;
        let access = Access::open(config.access.clone())?;
        access.attach(registry.accounts())?;
        let policies = config.retention.policies.clone();
        let mut admin = Admin::new(registry.clone(), access, cache.clone(), policies, None);
        if path == "status" {
            admin = admin.with_backups(backups(config, &registry).await?);
        }
        if path == "access/rotate-key" {
            admin = admin.with_token_keys(TokenKeys::open(&config.data, SystemClock.now())?);
        }
        Ok(Here { registry, cache, admin })
    }
}

impl Session {
    /// Sends a request, shows how far it comes while it takes, and returns the last part of the answer; `on_part` gets the others.
    fn call(
        &mut self,
        request: AdminRequest,
        on_part: &mut impl FnMut(&RawValue) -> anyhow::Result<()>,
    ) -> anyhow::Result<Box<RawValue>> {
        let Session { runtime, answering } = self;
        runtime.block_on(async { read(answering.answer(request).await?, on_part).await })
    }

    /// Sends a request, and hands the bytes of its answer to `take` as they come.
    fn receive(
        &mut self,
        request: AdminRequest,
        mut take: impl FnMut(Bytes) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let Session { runtime, answering } = self;
        runtime.block_on(async {
            let (parts, mut body) = answering.answer(request).await?.into_parts();
            if !parts.status.is_success() {
                return Err(refused(parts.status, body).await);
            }
            while let Some(frame) = body.frame().await {
                let frame = frame.context("it broke off; the log of whoever runs the registry says why")?;
                if let Ok(bytes) = frame.into_data() {
                    take(bytes)?;
                }
            }
            Ok(())
        })
    }

    fn end(self) {
        let Session { runtime, answering } = self;
        if let Answering::Here(here) = answering {
            runtime.block_on(async {
                if let Some(cache) = here.cache {
                    cache.close().await;
                }
                here.registry.close().await;
            });
        }
        // A job that has told its result may still be on its way out.
        runtime.shutdown_background();
    }
}

/// Standard input, read on a thread of its own: it may stand still for as long as it likes.
fn input() -> Piecewise {
    let (sender, mut pieces) = tokio::sync::mpsc::channel::<io::Result<Bytes>>(4);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        loop {
            let mut piece = vec![0; INPUT_PIECE];
            let read = match input.read(&mut piece) {
                Ok(0) => return,
                Ok(read) => {
                    piece.truncate(read);
                    Ok(Bytes::from(piece))
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let is_over = read.is_err();
            if sender.blocking_send(read).is_err() || is_over {
                return;
            }
        }
    });
    let pieces = futures_util::stream::poll_fn(move |cx| pieces.poll_recv(cx));
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

/// Who answers.
enum Found {
    /// The server that works on the directory.
    Server(AdminClient),
    /// This process, which has the directory now.
    Directory(Registry),
}

/// Connects to the server of the data directory, or opens that.
async fn find(config: &Config) -> anyhow::Result<Found> {
    let data = std::path::absolute(&config.data).unwrap_or_else(|_| config.data.clone());
    match std::fs::metadata(&data) {
        Ok(metadata) if metadata.is_dir() => {}
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(denied(&data, error)),
        Ok(_) | Err(_) => {
            bail!(
                "there is no data directory {}: name the one that the server uses with --data",
                data.display()
            )
        }
    }
    let began = crate::clock::monotonic();
    loop {
        let mut refused = None;
        match AdminClient::connect(&data).await {
            Ok(server) => return Ok(Found::Server(server)),
            // It may have been left behind by a server of another user; then the directory can be opened.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                refused = Some(denied(&data.join(ADMIN_SOCKET), error));
            }
            // No socket, or one that a server has left behind.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {}
            Err(error) => {
                let socket = data.join(ADMIN_SOCKET);
                return Err(error).with_context(|| format!("cannot connect to {}", socket.display()));
            }
        }
        let options = registry_options(config);
        let opened = tokio::task::spawn_blocking(|| Registry::open(options)).await?;
        match (opened, refused) {
            (Ok(registry), _) => return Ok(Found::Directory(registry)),
            (Err(_), Some(refused)) => return Err(refused),
            // A server locks the directory before it listens.
            (Err(OpenError::Locked(_)), None) if began.elapsed() < START_PATIENCE => {
                tokio::time::sleep(START_PAUSE).await;
            }
            (Err(OpenError::Locked(_)), None) => return Err(unreachable_server(&data)),
            (Err(error), None) => return Err(error.into()),
        }
    }
}

/// The backups of a directory that no server works on: nobody takes any, but how old they are can be seen.
async fn backups(config: &Config, registry: &Registry) -> anyhow::Result<BackupSchedule> {
    let backups = BackupSchedule::new(registry.clone(), Arc::new(RealDisk), BackupMetrics::default());
    backups.set_targets(&config.backups);
    let looking = backups.clone();
    tokio::task::spawn_blocking(move || looking.look()).await.context("cannot look for backups")?;
    Ok(backups)
}

/// The cache of a directory that no server works on. Only who asks about the cache needs its passwords.
fn cache(config: &Config, registry: &Registry, path: &str) -> anyhow::Result<Option<Cache>> {
    if !path.starts_with("cache/") {
        return Ok(None);
    }
    let settings = cache_settings(config)?;
    Ok(settings.map(|settings| Cache::open(settings, registry.clone())).transpose()?)
}

fn denied(path: &Path, error: io::Error) -> anyhow::Error {
    let owner = std::fs::symlink_metadata(path).map(|metadata| metadata.uid());
    let who = owner.map_or_else(
        |_| "the user who runs the server".to_owned(),
        |uid| format!("user {uid}, who runs the server"),
    );
    anyhow!(error).context(format!("{} is not open to you: run this as root, or as {who}", path.display()))
}

fn unreachable_server(data: &Path) -> anyhow::Error {
    let socket: PathBuf = data.join(ADMIN_SOCKET);
    anyhow!(
        "another process uses the data directory {}, and there is no {}: it is a server of an older version, or one whose \
         file system has no sockets (its log says so), or another command. Stop it first, or wait for its end",
        data.display(),
        socket.display()
    )
}

const WENT_AWAY: &str = "the server went away before it had answered; ask again";

/// Reads an answer that is no success.
async fn refused(status: StatusCode, body: Piecewise) -> anyhow::Error {
    let read = async {
        let bytes = body.collect().await.context(WENT_AWAY)?.to_bytes();
        serde_json::from_slice::<Errors>(&bytes).with_context(|| format!("the server answered {status}"))
    };
    match read.await {
        Ok(errors) => refusal(errors),
        Err(error) => error,
    }
}

/// Reads an answer to its end, and shows how far a long operation has come.
async fn read(
    answer: Response<Piecewise>,
    on_part: &mut impl FnMut(&RawValue) -> anyhow::Result<()>,
) -> anyhow::Result<Box<RawValue>> {
    let (parts, mut body) = answer.into_parts();
    if !parts.status.is_success() {
        return Err(refused(parts.status, body).await);
    }
    if parts.headers.get(CONTENT_TYPE).is_none_or(|kind| kind != JSON_LINES) {
        let bytes = body.collect().await.context(WENT_AWAY)?.to_bytes();
        return serde_json::from_slice(&bytes).context("the answer is no JSON");
    }
    let mut progress = ProgressBars::default();
    let mut waiting = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.context(WENT_AWAY)?.into_data() else { continue };
        // What was there before has no end of line.
        let mut searched = waiting.len();
        waiting.extend_from_slice(&piece);
        while let Some(end) = waiting[searched..].iter().position(|byte| *byte == b'\n') {
            let line = waiting.split_to(searched + end + 1);
            searched = 0;
            match serde_json::from_slice::<Line<Box<RawValue>>>(&line)
                .context("a line of the answer is no JSON")?
            {
                Line::Item(item) => on_part(&item)?,
                Line::Progress(told) => progress.show(&told),
                Line::Result(result) => return Ok(result),
                Line::Errors(errors) => return Err(refusal(Errors { errors })),
            }
        }
    }
    bail!(WENT_AWAY)
}

fn refusal(errors: Errors) -> anyhow::Error {
    let messages: Vec<String> = errors.errors.into_iter().map(|error| error.message).collect();
    anyhow!(messages.join("; "))
}
