//! The admin API on the registry's own port, for those whom a rule lets `admin`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};

use super::app::App;
use super::audit::note_command;
use super::authorization::{authorize, identify};
use super::challenge::Wanted;
use super::errors::ApiError;
use super::limits::BodyLimit;
use super::own_routes::admin_is_local;

/// Answers a request to the admin API, if whoever sends it may.
pub(super) async fn dispatch(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(&app, request).await.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(app: &App, request: Request) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let Some(admin) = app.admin.as_ref().filter(|_| !app.access.is_open()) else {
        return Err(admin_is_local());
    };
    let admitted = match identify(app, &parts, Wanted::admin()).await {
        Ok(identity) => authorize(app, &parts, &identity, Wanted::admin(), None).map(|()| identity),
        Err(error) => Err(error),
    };
    if admitted.is_err() {
        note_command(&parts.extensions, "admin", &parts.method);
    }
    let identity = admitted?;
    parts.extensions.insert(BodyLimit(app.guard.body_bytes()));
    Ok(admin.answer(parts, body, identity.actor()).await)
}
