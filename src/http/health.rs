//! The end-points for those who watch over the registry.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;

use crate::telemetry::METRICS_CONTENT_TYPE;

use super::observe::RouteName;
use super::service::App;

fn named(name: &'static str, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    response.extensions_mut().insert(RouteName(name));
    response
}

/// Says that the process serves requests, whatever the state of its storage.
pub(super) async fn get_livez() -> Response {
    named("livez", "ok\n")
}

/// Says whether the registry can read and write.
pub(super) async fn get_readyz(State(app): State<Arc<App>>) -> Response {
    if app.registry.is_ready() {
        named("readyz", "ok\n")
    } else {
        named("readyz", (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"))
    }
}

/// Shows all metrics.
pub(super) async fn get_metrics(State(app): State<Arc<App>>) -> Response {
    named("metrics", ([(CONTENT_TYPE, METRICS_CONTENT_TYPE)], app.metrics.render()))
}
