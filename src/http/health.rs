//! The end-points for those who watch over the registry.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;

use crate::proxy::Cache;
use crate::telemetry::METRICS_CONTENT_TYPE;

use super::app::App;
use super::observe::set_route;

/// Says that the process serves requests, whatever the state of its storage.
pub(super) async fn get_livez(request: Request) -> &'static str {
    set_route(request.extensions(), "livez");
    "ok\n"
}

/// Says whether the registry can read and write.
pub(super) async fn get_readyz(State(app): State<Arc<App>>, request: Request) -> Response {
    set_route(request.extensions(), "readyz");
    if app.registry.is_ready() {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}

/// Shows all metrics.
pub(super) async fn get_metrics(State(app): State<Arc<App>>, request: Request) -> Response {
    set_route(request.extensions(), "metrics");
    if let Some(Err(error)) = app.cache.as_ref().map(Cache::measure) {
        tracing::warn!(%error, "what is cached can't be counted");
    }
    ([(CONTENT_TYPE, METRICS_CONTENT_TYPE)], app.metrics.render()).into_response()
}
