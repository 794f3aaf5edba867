//! A registry on the wire: the one page on which paths are given to handlers.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::{any, get};
use futures_util::future::Either;

use super::app::App;
use super::observe::{ObservedBody, Observer, observed};
use super::respond::Respond;
use super::service::Service;
use super::{health, remote_admin, v2};

/// What begins behind `/v2/` and is no repository's.
const OWN: &str = "_orlop/";

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
        let proxies = Arc::new(service.settings.proxies.clone());
        let app = Arc::new(App::new(service));
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
        let observer =
            Observer { metrics: app.metrics.clone(), proxies, guard: Some(Arc::clone(&app.guard)) };
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
