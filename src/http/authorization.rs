//! Who sends a request, and whether they may.

use http::HeaderValue;
use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;

use crate::auth::{Action, AuthenticationError, Identity};
use crate::oci::RepositoryName;

use super::errors::{ApiError, ErrorCode};
use super::peer::address;
use super::routes::{Access, Operation};
use super::service::App;

/// How clients are asked to say who they are (RFC 7617).
const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"orlop\", charset=\"UTF-8\"");

/// Tells who sends a request.
pub(super) async fn identify(app: &App, parts: &Parts) -> Result<Identity, ApiError> {
    let Some(authorization) = parts.headers.get(AUTHORIZATION) else { return Ok(Identity::anonymous()) };
    let authorization = authorization.to_str().map_err(|_| refused(AuthenticationError::Malformed))?;
    app.access.identify(Some(authorization), address(parts)).await.map_err(refused)
}

/// A repository as a request names it, and as the registry does.
///
/// Bearer tokens are for what is requested; rules are about what it means here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) requested: &'a RepositoryName,
    pub(super) canonical: &'a RepositoryName,
}

/// Refuses what somebody may not do; who hasn't said who they are is asked to.
pub(super) fn authorize(
    app: &App,
    identity: &Identity,
    operation: Operation,
    name: Option<Named<'_>>,
) -> Result<(), ApiError> {
    if app.access.is_open() {
        return Ok(());
    }
    let action = match operation.row().access {
        // The question whether this is a registry is how clients find out that they have to say who they are.
        Access::Any if identity.is_anonymous() => return Err(asked_who()),
        Access::Any => return Ok(()),
        Access::Pull => Action::Pull,
        Access::Push => Action::Push,
        Access::Delete => Action::Delete,
        Access::List => Action::List,
    };
    require(app, identity, action, name)
}

/// Refuses an action that somebody may not do.
pub(super) fn require(
    app: &App,
    identity: &Identity,
    action: Action,
    name: Option<Named<'_>>,
) -> Result<(), ApiError> {
    let canonical = name.map(|name| name.canonical);
    let is_within = identity.is_within_restriction(action, name.map(|name| name.requested));
    if is_within && app.access.rules().decide(identity, action, canonical).is_allowed() {
        return Ok(());
    }
    Err(denied(identity, action, canonical))
}

/// Whether somebody may pull from a repository, whatever their Bearer token is for.
pub(super) fn may_pull(app: &App, identity: &Identity, name: &RepositoryName) -> bool {
    app.access.rules().decide(identity, Action::Pull, Some(name)).is_allowed()
}

/// Whether somebody may read what came to a repository with the registry's own credentials.
pub(super) fn may_read_private(app: &App, identity: &Identity, name: &RepositoryName) -> bool {
    app.access.rules().decide_private(identity, name).is_allowed()
}

/// Refuses what is private; who could be somebody that may read it is asked who they are.
pub(super) fn private(app: &App, identity: &Identity, message: String) -> ApiError {
    if identity.is_anonymous() && !app.access.is_open() {
        return asked_who();
    }
    ApiError::new(ErrorCode::Denied, message)
}

fn denied(identity: &Identity, action: Action, name: Option<&RepositoryName>) -> ApiError {
    if identity.is_anonymous() {
        return asked_who();
    }
    let place = name.map_or_else(|| "in this registry".to_owned(), |name| format!("in {name}"));
    let message = format!("no rule lets you {action} {place}; ask the registry's operator for one");
    ApiError::new(ErrorCode::Denied, message)
}

fn asked_who() -> ApiError {
    let message = "log in to do this, for example with docker login";
    ApiError::new(ErrorCode::Unauthorized, message).with_header(WWW_AUTHENTICATE, BASIC)
}

fn refused(error: AuthenticationError) -> ApiError {
    let message = error.to_string();
    let code = match error {
        AuthenticationError::Malformed | AuthenticationError::Wrong => ErrorCode::Unauthorized,
        AuthenticationError::TooMany(_) | AuthenticationError::Busy => ErrorCode::TooManyRequests,
    };
    let answer = ApiError::new(code, message);
    match error {
        AuthenticationError::Malformed | AuthenticationError::Wrong => {
            answer.with_header(WWW_AUTHENTICATE, BASIC)
        }
        AuthenticationError::TooMany(pause) => {
            answer.with_header(RETRY_AFTER, HeaderValue::from(pause.as_secs().max(1)))
        }
        AuthenticationError::Busy => answer.with_header(RETRY_AFTER, HeaderValue::from(1_u64)),
    }
}
