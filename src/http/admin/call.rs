//! One request to the admin API, as its handler sees it.

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use bytes::BytesMut;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Admin, LocalPeer, Running};
use crate::auth::{Access, TokenKeys};
use crate::http::audit::{note_body, note_local};
use crate::http::errors::{ApiError, ErrorCode};
use crate::http::headers::APPLICATION_JSON;
use crate::http::incoming::Incoming;
use crate::http::limits::BodyLimit;
use crate::http::query::Query;
use crate::maintenance::retention::Retention;
use crate::proxy::Cache;
use crate::registry::{Actor, Registry};
use crate::snapshots::BackupSchedule;

/// The longest body of a request by the local socket.
const BODY_BYTES: usize = 1 << 20;

/// What a handler answers.
pub(super) type Answer = Result<Response, ApiError>;

/// One request.
pub(super) struct Call {
    admin: Admin,
    parts: Parts,
    body: Option<Incoming>,
}

impl Call {
    pub(super) fn new(admin: Admin, parts: Parts, body: Body) -> Self {
        let body = Some(Incoming::new(&parts.headers, body));
        Self { admin, parts, body }
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.admin.0.registry
    }

    /// Who may do what.
    pub(super) fn access(&self) -> &Access {
        &self.admin.0.access
    }

    /// The cache, if there is one.
    pub(super) fn cache(&self) -> Option<&Cache> {
        self.admin.0.cache.as_ref()
    }

    /// The keys that sign Bearer tokens.
    pub(super) fn token_keys(&self) -> Result<TokenKeys, ApiError> {
        self.admin.0.token_keys.get().cloned().ok_or_else(|| ApiError::failure("nobody has opened the keys"))
    }

    /// Snapshots by the clock, if there is a schedule.
    pub(super) fn backups(&self) -> Option<&BackupSchedule> {
        self.admin.0.backups.get()
    }

    /// The retention policies.
    pub(super) fn retention(&self) -> &Retention {
        &self.admin.0.retention
    }

    /// The server that answers; none in the process of a command.
    pub(super) fn running(&self) -> Option<Running> {
        self.admin.0.running.clone()
    }

    /// Says whether the server is about to end.
    pub(super) fn stopping(&self) -> tokio::sync::watch::Receiver<bool> {
        self.admin.0.stopping.subscribe()
    }

    pub(super) fn query(&self) -> Query<'_> {
        Query::of(&self.parts.uri)
    }

    /// Whoever asks, as it is recorded beside what they change.
    pub(super) fn actor(&self) -> Actor {
        let extensions = &self.parts.extensions;
        match (extensions.get::<Actor>(), extensions.get::<ConnectInfo<LocalPeer>>()) {
            (Some(actor), _) => actor.clone(),
            (None, Some(ConnectInfo(peer))) => Actor::new(peer.to_string()),
            (None, None) => Actor::new("local command"),
        }
    }

    /// Notes for the audit who asks, unless that is known from how they came.
    pub(super) fn note_actor(&self) {
        note_local(&self.parts.extensions, self.actor());
    }

    /// The request's body as it comes.
    pub(super) fn take_body(&mut self) -> Option<Incoming> {
        self.body.take()
    }

    /// The request's body; none at all is as good as `{}`.
    pub(super) async fn json<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        let mut bytes = BytesMut::new();
        let most = self.parts.extensions.get::<BodyLimit>().map_or(BODY_BYTES, |limit| limit.0);
        if let Some(mut body) = self.body.take() {
            while let Some(piece) = body.next().await? {
                if bytes.len() + piece.len() > most {
                    body.discard();
                    let message = format!("the body of a request may have {most} bytes at most");
                    return Err(ApiError::new(ErrorCode::BodyTooLarge, message));
                }
                bytes.extend_from_slice(&piece);
            }
        }
        let json: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        note_body(&self.parts.extensions, json);
        serde_json::from_slice(json)
            .map_err(|error| invalid(format!("the body of the request is wrong: {error}")))
    }
}

/// That a request isn't what the end-point takes.
pub(super) fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::RequestInvalid, message.into())
}

/// The answer that is `value`, as JSON.
pub(super) fn json(value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(value).map_err(ApiError::failure)?;
    let len = body.len();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(CONTENT_TYPE, APPLICATION_JSON);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(len));
    Ok(response)
}
