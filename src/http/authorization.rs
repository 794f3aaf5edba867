//! Who sends a request, and whether they may.

use http::HeaderValue;
use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;

use crate::auth::{Action, AuthenticationError, Identity, TokenError};
use crate::oci::RepositoryName;

use super::app::App;
use super::audit::{note_identity, note_unidentified};
use super::base_url::base_url;
use super::challenge::{Flaw, Wanted, challenge, service_of};
use super::errors::{ApiError, ErrorCode};
use super::forwarded::Forwarded;
use super::peer::{address, peer};

/// Tells who sends a request.
pub(super) async fn identify(app: &App, parts: &Parts, wanted: Wanted<'_>) -> Result<Identity, ApiError> {
    let identified = match parts.headers.get(AUTHORIZATION) {
        Some(authorization) => Box::pin(identified(app, parts, authorization, wanted)).await,
        None => certified(app, parts),
    };
    match &identified {
        Ok(identity) => note_identity(&parts.extensions, identity),
        Err(_) => note_unidentified(&parts.extensions),
    }
    identified
}

async fn identified(
    app: &App,
    parts: &Parts,
    authorization: &HeaderValue,
    wanted: Wanted<'_>,
) -> Result<Identity, ApiError> {
    let refused = |error| refused(error, challenge(app, parts, wanted, None));
    let authorization = authorization.to_str().map_err(|_| refused(AuthenticationError::Malformed))?;
    let identity = if let Some((tokens, token)) = app.tokens.as_ref().zip(signed_token(authorization))
        && !app.access.is_open()
    {
        let base = base_url(app, parts);
        match tokens.identify(token, service_of(&base)).await {
            Ok(bearer) => bearer.identity,
            Err(error) => {
                return Err(bad_token(error, challenge(app, parts, wanted, Some(Flaw::InvalidToken))));
            }
        }
    } else {
        let identity = app.access.identify(Some(authorization), address(parts)).await.map_err(refused)?;
        // Some clients send an empty user and an empty password where they have none.
        if identity == Identity::anonymous() {
            return certified(app, parts);
        }
        identity
    };
    identity.principal().map_or(Ok(()), |principal| app.guard.count(principal))?;
    Ok(identity)
}

/// Who the certificate of the connection says that it is. A proxy's own says nothing of those whom it speaks for.
fn certified(app: &App, parts: &Parts) -> Result<Identity, ApiError> {
    let name = peer(parts).and_then(|peer| peer.certificate.as_deref());
    let name = name.filter(|_| parts.extensions.get::<Forwarded>().is_none());
    let identity = name.map_or_else(Identity::anonymous, |name| app.access.by_certificate(name));
    identity.principal().map_or(Ok(()), |principal| app.guard.count(principal))?;
    Ok(identity)
}

/// The token that somebody has signed of `Bearer …`. Access tokens, which begin with `orlop_`, are none.
pub(super) fn signed_token(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.starts_with("orlop_")).then_some(token)
}

/// Refuses what somebody may not do; who hasn't said who they are is asked to.
pub(super) fn authorize(
    app: &App,
    parts: &Parts,
    identity: &Identity,
    wanted: Wanted<'_>,
    canonical: Option<&RepositoryName>,
) -> Result<(), ApiError> {
    if app.access.is_open() && wanted.action != Some(Action::Admin) {
        return Ok(());
    }
    let asked_who = |flaw| asked_who(challenge(app, parts, wanted, flaw));
    let Some(action) = wanted.action else {
        // The question whether this is a registry is how clients find out that they have to say who they are; a token of
        // nobody in particular says it, too.
        let has_said = !identity.is_anonymous() || identity.is_restricted();
        return if has_said { Ok(()) } else { Err(asked_who(None)) };
    };
    let is_within = identity.is_within_restriction(action, wanted.requested);
    match (app.access.rules().decide(identity, action, canonical).is_allowed(), is_within) {
        (true, true) => Ok(()),
        (true, false) => Err(asked_who(Some(Flaw::InsufficientScope))),
        (false, _) if identity.is_anonymous() => {
            Err(asked_who(identity.is_restricted().then_some(Flaw::InsufficientScope)))
        }
        (false, _) => Err(denied(action, canonical)),
    }
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
pub(super) fn private(
    app: &App,
    parts: &Parts,
    identity: &Identity,
    wanted: Wanted<'_>,
    message: String,
) -> ApiError {
    if identity.is_anonymous() && !app.access.is_open() {
        let flaw = identity.is_restricted().then_some(Flaw::InsufficientScope);
        return asked_who(challenge(app, parts, wanted, flaw));
    }
    ApiError::new(ErrorCode::Denied, message)
}

fn denied(action: Action, name: Option<&RepositoryName>) -> ApiError {
    let place = name.map_or_else(|| "in this registry".to_owned(), |name| format!("in {name}"));
    let message = format!("no rule lets you {action} {place}; ask the registry's operator for one");
    ApiError::new(ErrorCode::Denied, message)
}

fn asked_who(challenge: HeaderValue) -> ApiError {
    let message = "log in to do this, for example with docker login";
    ApiError::new(ErrorCode::Unauthorized, message).with_header(WWW_AUTHENTICATE, challenge)
}

/// The answer to a token that isn't taken.
fn bad_token(error: TokenError, challenge: HeaderValue) -> ApiError {
    ApiError::new(ErrorCode::Unauthorized, error.to_string()).with_header(WWW_AUTHENTICATE, challenge)
}

/// The answer to who can't be let in by what they have sent.
pub(super) fn refused(error: AuthenticationError, challenge: HeaderValue) -> ApiError {
    let message = error.to_string();
    let code = match error {
        AuthenticationError::Malformed | AuthenticationError::Wrong | AuthenticationError::Expired => {
            ErrorCode::Unauthorized
        }
        AuthenticationError::TooMany(_) | AuthenticationError::Busy => ErrorCode::TooManyRequests,
    };
    let answer = ApiError::new(code, message);
    match error {
        AuthenticationError::Malformed | AuthenticationError::Wrong | AuthenticationError::Expired => {
            answer.with_header(WWW_AUTHENTICATE, challenge)
        }
        AuthenticationError::TooMany(pause) => {
            answer.with_header(RETRY_AFTER, HeaderValue::from(pause.as_secs().max(1)))
        }
        AuthenticationError::Busy => answer.with_header(RETRY_AFTER, HeaderValue::from(1_u64)),
    }
}
