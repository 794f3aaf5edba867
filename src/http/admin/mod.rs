//! The admin API, under `/v2/_orlop/admin/`: what commands ask of a registry, JSON in and JSON out.
//!
//! The server answers it on the socket in the data directory, and on its port those whom a rule lets `admin`. A command that
//! finds no server opens the data directory and asks [`Admin::call`] in its own process. [`endpoints`] is its one page of routes,
//! with a handler in a file per noun. A handler that takes long answers with lines of JSON; see [`job`].

mod access;
mod access_tokens;
mod backup;
mod cache;
mod call;
mod collection;
mod compact;
mod deletions;
mod endpoints;
mod exports;
mod images;
mod imports;
mod inspect;
mod job;
mod listings;
mod policies;
mod repositories;
mod schedule;
mod signing_key;
mod status;
mod users;
mod verify;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use http::request::Parts;
use tokio::sync::watch;

pub use access::{Explain, Explained};
pub use access_tokens::{
    AccessTokenEntry, AccessTokens, CreateToken, CreatedToken, RevokeToken, RevokedToken,
};
pub use backup::{CreateBackup, RestoreBackup, told};
pub use cache::{Activity, CacheStatus, CachedUpstream, LeftAlone};
pub use collection::{Gc, GcAnswer, Kept, KeptBy};
pub use compact::{Compact, CompactAnswer};
pub use deletions::{Delete, DeleteAnswer, Deleted, Deletions, Purge, Purged, Target};
pub use endpoints::{Row, rows};
pub use exports::{ExportImages, ExportPlan};
pub use images::{PullImages, Pulled, PulledImages};
pub use imports::{
    ImportAnswer, ImportArchive, ImportDistribution, ImportRegistry, ImportSelection, ImportSkipped,
};
pub use inspect::{Companion, Inspected, Part, Signed};
pub use job::{Line, Progress, Unit};
pub use listings::{RepositoriesPage, RepositoryEntry, TagListed, TagsPage};
pub use policies::{Policies, Policy, PolicyDecision, PolicyRun, PolicyRunAnswer};
pub use repositories::{
    DeleteRepository, Done, Rename, Rollback, Size, Sized, SizesPage, TagEntry, TagHistory,
};
pub use schedule::{BackupState, FailedBackup, LastBackup};
pub use signing_key::{RotateKey, RotatedKey};
pub use status::{Collection, Disk, Events, LastCollection, Listener, Server, Status};
pub use users::{AddUser, Password, RemoveUser, RemovedUser, SetUser, UserEntry, Users};
pub use verify::{Damaged, Image, Verify, VerifyAnswer};

use crate::auth::{Access, TokenKeys};
use crate::clock::Timestamp;
use crate::maintenance::retention::Retention;
use crate::proxy::Cache;
use crate::registry::{Actor, Registry};
use crate::snapshots::BackupSchedule;
use crate::telemetry::Metrics;

use super::audit::{Ended, is_job, note_command};
use super::errors::ApiError;
use super::observe::{self, Observer, observe, set_route};
use super::percent;
use call::Call;

/// Where the admin API begins.
pub const PREFIX: &str = "/v2/_orlop/admin/";

/// The media type of an answer that comes line by line.
pub const JSON_LINES: &str = "application/jsonl";

/// The admin API of one registry. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Admin(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    registry: Registry,
    /// Who may do what.
    access: Access,
    /// Other registries' content that is served beside its own.
    cache: Option<Cache>,
    /// What is kept of what was pushed.
    retention: Retention,
    /// The keys that sign Bearer tokens, where whoever has made this has any.
    token_keys: OnceLock<TokenKeys>,
    /// Snapshots by the clock, where whoever has made this has a schedule.
    backups: OnceLock<BackupSchedule>,
    /// The server that it belongs to; none in the process of a command.
    running: Option<Running>,
    /// Whether long operations should end.
    stopping: watch::Sender<bool>,
}

/// The server that serves a registry.
#[derive(Debug, Clone)]
pub struct Running {
    /// Where it listens.
    pub address: String,
    /// Since when.
    pub since: Timestamp,
    /// Its certificate, where it speaks TLS.
    pub certificate: Option<Arc<dyn Certificate>>,
}

/// A server's certificate, which may be replaced while it runs.
pub trait Certificate: Send + Sync + std::fmt::Debug {
    /// Until when the present one is valid; none where there is none yet.
    fn valid_until(&self) -> Option<Timestamp>;
}

/// Who is at the other end of a local connection, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalPeer {
    /// The user's number.
    pub uid: u32,
}

impl std::fmt::Display for LocalPeer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "local user {}", self.uid)
    }
}

impl Admin {
    /// The admin API of `registry` with its cache, its rules and its policies, which `running` serves, or nobody.
    pub fn new(
        registry: Registry,
        access: Access,
        cache: Option<Cache>,
        retention: Retention,
        running: Option<Running>,
    ) -> Self {
        let stopping = watch::Sender::new(false);
        Self(Arc::new(Shared {
            registry,
            access,
            cache,
            retention,
            token_keys: OnceLock::new(),
            backups: OnceLock::new(),
            running,
            stopping,
        }))
    }

    /// The same, which also commands the keys that sign Bearer tokens.
    #[must_use]
    pub fn with_token_keys(self, keys: TokenKeys) -> Self {
        // They are the same ones each time.
        let _ = self.0.token_keys.set(keys);
        self
    }

    /// The same, which also tells how backups do.
    #[must_use]
    pub fn with_backups(self, backups: BackupSchedule) -> Self {
        // It is the same one each time.
        let _ = self.0.backups.set(backups);
        self
    }

    /// The service for connections of the local socket.
    ///
    /// The server puts the [`LocalPeer`] into a request's extensions as `axum::extract::ConnectInfo`.
    pub fn router(&self, metrics: Metrics) -> Router {
        Router::new()
            .fallback(any(dispatch))
            .layer(from_fn_with_state(Observer { metrics, proxies: Arc::default(), guard: None }, observe))
            .with_state(self.clone())
    }

    /// Answers a request of this very process.
    pub async fn call<B>(&self, mut request: http::Request<B>) -> http::Response<Body>
    where
        B: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
    {
        let progress = Arc::new(observe::Progress::default());
        request.extensions_mut().insert(Arc::clone(&progress));
        let response = dispatch(State(self.clone()), request.map(Body::new)).await;
        progress.notes.tell(&Ended {
            status: Some(response.status().as_u16()),
            is_job: is_job(response.headers()),
            ..Ended::default()
        });
        response
    }

    /// Answers a request that came by the registry's own port, from somebody who may do everything.
    pub(super) async fn answer(&self, mut parts: Parts, body: Body, actor: Actor) -> Response {
        parts.extensions.insert(actor);
        dispatch(State(self.clone()), Request::from_parts(parts, body)).await
    }

    /// Asks long operations to end, since the server is about to.
    pub fn stop(&self) {
        self.0.stopping.send_replace(true);
    }
}

async fn dispatch(State(admin): State<Admin>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = percent::decode(parts.uri.path());
    let found = path
        .as_deref()
        .and_then(|path| path.strip_prefix(PREFIX))
        .ok_or_else(endpoints::no_endpoint)
        .and_then(|path| endpoints::find(&parts.method, path));
    let answer = match found {
        Ok(endpoint) => {
            set_route(&parts.extensions, endpoint.row.name);
            note_command(&parts.extensions, endpoint.row.name, &parts.method);
            let call = Call::new(admin, parts, body);
            call.note_actor();
            (endpoint.answer)(call).await
        }
        Err(error) => Err(error),
    };
    // Whoever asks here may know what went wrong inside.
    answer.map_err(ApiError::disclosed).unwrap_or_else(IntoResponse::into_response)
}
