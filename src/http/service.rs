//! What the handlers share, and the one page on which paths are given to them.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::{any, get};
use futures_util::future::Either;
use http::HeaderValue;

use crate::auth;
use crate::proxy::Cache;
use crate::registry::Registry;
use crate::telemetry::Metrics;

use super::admin::Admin;
use super::body::BlobBodies;
use super::buffers::BufferPool;
use super::forwarded::Proxies;
use super::limits::{Guard, RequestLimits};
use super::observe::{ObservedBody, Observer, observed};
use super::respond::Respond;
use super::{headers, health, remote_admin, v2};

/// What the wire needs to serve a registry.
#[derive(Debug, Clone)]
pub struct Service {
    /// The registry that is served.
    pub registry: Registry,
    /// Who may do what.
    pub access: auth::Access,
    /// What those are answered whom a rule lets `admin`.
    pub admin: Option<Admin>,
    /// Bearer tokens; without them users come with passwords only.
    pub tokens: Option<auth::Tokens>,
    /// Other registries' content that is served beside its own.
    pub cache: Option<Cache>,
    /// How it is served.
    pub settings: Settings,
    /// Where requests are counted, and what `/metrics` shows.
    pub metrics: Metrics,
}

impl Service {
    /// A registry that is open to everybody, without a cache, served by the defaults.
    pub fn new(registry: Registry, metrics: Metrics) -> Service {
        let (access, settings) = (auth::Access::default(), Settings::default());
        Service { registry, access, tokens: None, admin: None, cache: None, settings, metrics }
    }
}

/// How a registry is served.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The URL under which clients reach the registry, such as `https://registry.example`, in visible ASCII. With it, `Location` and `Link`
    /// are absolute; without, they are relative, which works behind any proxy.
    pub external_url: Option<String>,
    /// The least length of a chunk that isn't the last, as uploads are told; 0 tells them nothing. It is advice: shorter
    /// ones are taken too.
    pub chunk_min_length: u64,
    /// The memory that answers may take together, in bytes.
    pub buffer_bytes: usize,
    /// The proxies in front of it.
    pub proxies: Proxies,
    /// How much may be asked of it.
    pub limits: RequestLimits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            external_url: None,
            chunk_min_length: 0,
            buffer_bytes: 32 * 1024 * 1024,
            proxies: Proxies::default(),
            limits: RequestLimits::default(),
        }
    }
}

/// What begins behind `/v2/` and is no repository's.
const OWN: &str = "_orlop/";

/// What all handlers see.
#[derive(Debug)]
pub(super) struct App {
    pub(super) registry: Registry,
    pub(super) access: auth::Access,
    pub(super) admin: Option<Admin>,
    pub(super) tokens: Option<auth::Tokens>,
    pub(super) cache: Option<Cache>,
    pub(super) metrics: Metrics,
    pub(super) bodies: BlobBodies,
    /// The limits on what is asked.
    pub(super) guard: Arc<Guard>,
    /// The `OCI-Chunk-Min-Length` of upload answers.
    pub(super) chunk_min_length: Option<HeaderValue>,
    /// The external URL without its last slash, or nothing.
    origin: String,
}

impl App {
    /// The URL under which clients reach the registry, without its last slash; empty where it isn't configured.
    pub(super) fn external_url(&self) -> &str {
        &self.origin
    }

    /// The path of that URL; none where the registry lies at its host's root.
    fn path(&self) -> Option<&str> {
        let (_, rest) = self.origin.split_once("://")?;
        rest.find('/').map(|at| &rest[at..])
    }

    /// The URL of `path` as clients should use it.
    pub(super) fn url(&self, path: &str) -> HeaderValue {
        headers::value([&self.origin, path].concat())
    }

    /// The value of a `Link` header to the next page of a listing.
    pub(super) fn next_link(&self, path_and_query: &str) -> HeaderValue {
        headers::value(format!("<{}{path_and_query}>; rel=\"next\"", self.origin))
    }
}

/// One registry on the wire, for any number of connections. Clones are the same; each made anew has a buffer pool of its own, so
/// that one is enough for one process.
#[derive(Debug, Clone)]
pub struct Wire(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    observer: Observer,
    app: Arc<App>,
    /// Whether the API lies at its host's root only.
    is_at_root: bool,
    /// Every path there is.
    others: Router,
}

impl Wire {
    /// What answers for a registry.
    pub fn new(service: Service) -> Wire {
        let Service { registry, access, tokens, admin, cache, settings, metrics } = service;
        let guard = Arc::new(Guard::new(settings.limits));
        let app = Arc::new(App {
            registry,
            access,
            tokens,
            admin,
            cache,
            metrics: metrics.clone(),
            bodies: BlobBodies::new(BufferPool::new(settings.buffer_bytes)),
            guard: Arc::clone(&guard),
            chunk_min_length: (settings.chunk_min_length > 0)
                .then(|| HeaderValue::from(settings.chunk_min_length)),
            origin: settings.external_url.unwrap_or_default().trim_end_matches('/').to_owned(),
        });
        let others = Router::new()
            .route("/v2", any(v2::dispatch))
            .route("/v2/", any(v2::dispatch))
            .route("/v2/{*rest}", any(v2::dispatch))
            .route("/v2/_orlop/admin/{*rest}", any(remote_admin::dispatch))
            .route("/livez", get(health::get_livez))
            .route("/readyz", get(health::get_readyz))
            .route("/metrics", get(health::get_metrics))
            .fallback(v2::dispatch);
        let others = match app.path() {
            // A proxy in front may take the path off, or not.
            Some(path) => Router::new().nest(path, others.clone()).merge(others),
            None => others,
        };
        let observer = Observer { metrics, proxies: Arc::new(settings.proxies), guard: Some(guard) };
        let (is_at_root, others) = (app.path().is_none(), others.with_state(app.clone()));
        Wire(Arc::new(Inner { observer, app, is_at_root, others }))
    }
}

impl Respond for Wire {
    type Body = ObservedBody;

    async fn respond(self, request: Request) -> http::Response<ObservedBody> {
        observed(&self.0.observer, request, |request| self.0.answer(request)).await
    }
}

impl Inner {
    /// Answers what nearly every request is for without asking the router, which costs as much as a small answer does.
    fn answer(&self, request: Request) -> impl Future<Output = Response> + Send {
        let rest = request.uri().path().strip_prefix("/v2/");
        if self.is_at_root && rest.is_some_and(|rest| !rest.starts_with(OWN)) {
            return Either::Left(v2::answer(&self.app, request));
        }
        Either::Right(Box::pin(self.others.clone().respond(request)))
    }
}
