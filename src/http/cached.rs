//! Requests about what an upstream has.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::header::{HOST, RETRY_AFTER, WARNING};
use http::request::Parts;
use http::{HeaderName, HeaderValue};

use crate::auth::Identity;
use crate::client::registry::Missing;
use crate::oci::RepositoryName;
use crate::proxy::{CachedRepository, Error, Outcome, Place, Purpose};
use crate::registry;
use crate::telemetry::CacheKind;

use super::app::App;
use super::authorization::{may_read_private, private};
use super::challenge::Wanted;
use super::errors::{ApiError, ErrorCode};
use super::headers::value;
use super::observe::{Cached, set_cache};
use super::query::Query;
use super::routes::{Access, Operation, Route};

/// The upstream whose content an answer is.
static NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");

/// The longest warning; clients bound all of them together to 4096 bytes.
const WARNING_BYTES: usize = 500;

/// Finds out whose the name in the route is. An upstream's gets the name that it has here.
pub(super) fn locate(
    app: &App,
    parts: &Parts,
    identity: &Identity,
    wanted: Wanted<'_>,
    route: &mut Route,
) -> Result<Option<CachedRepository>, ApiError> {
    let operation = route.operation();
    let purpose = match operation.row().access {
        Access::Any | Access::List | Access::Credentials => return Ok(None),
        Access::Pull => Purpose::Pull,
        Access::Push => Purpose::Push,
        Access::Delete => Purpose::Delete,
    };
    let Some(name) = route.name_mut() else { return Ok(None) };
    let Some(cache) = &app.cache else {
        require_readable(app, parts, identity, wanted, name, purpose)?;
        return Ok(None);
    };
    let namespace = Query::of(&parts.uri).first("ns");
    let namespace = namespace.as_deref().filter(|namespace| !is_own(app, parts, namespace));
    let is_reader = |name: &RepositoryName| may_read_private(app, identity, name);
    let place = cache.locate(name, namespace, purpose, &is_reader).map_err(|error| match error {
        Error::Private(message) => private(app, parts, identity, wanted, message),
        error => error.into(),
    })?;
    let Place::Cached(cached) = place else {
        require_readable(app, parts, identity, wanted, name, purpose)?;
        return Ok(None);
    };
    // Whoever asks for a blob by HEAD is about to push it, unless it is there. A name that may be one of one's own is taken
    // for that then.
    let is_clear = matches!(
        operation,
        Operation::GetBlob
            | Operation::GetManifest
            | Operation::HeadManifest
            | Operation::ListTags
            | Operation::ListReferrers
    );
    if cached.is_by_default() && !is_clear {
        return Ok(None);
    }
    name.clone_from(cached.name());
    Ok(Some(cached))
}

/// Refuses what came with the credentials of an upstream that isn't configured any more, but to those whom a rule names.
fn require_readable(
    app: &App,
    parts: &Parts,
    identity: &Identity,
    wanted: Wanted<'_>,
    name: &RepositoryName,
    purpose: Purpose,
) -> Result<(), ApiError> {
    if purpose != Purpose::Pull
        || !app.registry.namespace().repository(name).cached().is_private()?
        || may_read_private(app, identity, name)
    {
        return Ok(());
    }
    let message = format!(
        "what is cached of {name} came with credentials, and its upstream isn't configured any more; its operator can \
         write a rule that lets you pull it, configure the upstream again with `public = true` to let everybody, or delete \
         the repository"
    );
    Err(private(app, parts, identity, wanted, message))
}

/// Whether a namespace is this registry itself, as clients say that reach it by another host than images name.
fn is_own(app: &App, parts: &Parts, namespace: &str) -> bool {
    let external =
        app.external_url().split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or(rest));
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    [external, host].into_iter().flatten().any(|own| own.eq_ignore_ascii_case(namespace))
}

/// Says in an answer whose content it is, and what is to be known of it; in the log, too.
pub(super) fn describe(
    parts: &Parts,
    response: &mut Response,
    operation: Operation,
    cached: &CachedRepository,
    outcome: Option<&Outcome>,
) {
    let headers = response.headers_mut();
    headers.insert(NAMESPACE.clone(), value(cached.host()));
    if let Some(warning) = outcome.and_then(|outcome| outcome.warning.as_deref()) {
        headers.insert(WARNING, warning_value(warning));
    }
    let answered =
        kind(operation).zip(outcome).map(|(kind, outcome)| Cached { kind, source: outcome.source });
    set_cache(&parts.extensions, cached.metrics(), answered);
}

/// What of an upstream's content an operation asks for.
fn kind(operation: Operation) -> Option<CacheKind> {
    match operation {
        Operation::GetManifest | Operation::HeadManifest => Some(CacheKind::Manifest),
        Operation::GetBlob | Operation::HeadBlob => Some(CacheKind::Blob),
        Operation::ListReferrers => Some(CacheKind::Referrers),
        Operation::ListTags => Some(CacheKind::Tags),
        Operation::GetBase
        | Operation::GetToken
        | Operation::CreateToken
        | Operation::ListRepositories
        | Operation::DeleteBlob
        | Operation::CreateUpload
        | Operation::GetUpload
        | Operation::WriteUpload
        | Operation::CommitUpload
        | Operation::CancelUpload
        | Operation::PutManifest
        | Operation::DeleteManifest
        | Operation::DeleteRepository
        | Operation::SetTag
        | Operation::ListTagHistory
        | Operation::ListManifests
        | Operation::ListManifestTags
        | Operation::ListSignatures => None,
    }
}

/// A warning as HTTP writes it: printable ASCII, with what would end the quotes left out.
fn warning_value(text: &str) -> HeaderValue {
    let plain = text.chars().filter(|c| (*c == ' ' || c.is_ascii_graphic()) && !matches!(c, '"' | '\\'));
    value(format!("299 - \"{}\"", plain.take(WARNING_BYTES).collect::<String>()))
}

impl From<Error> for ApiError {
    fn from(error: Error) -> ApiError {
        let message = error.to_string();
        match error {
            Error::HostUnknown { .. } => ApiError::new(ErrorCode::NameUnknown, message),
            Error::NameTooLong { .. } => ApiError::new(ErrorCode::NameInvalid, message),
            Error::NotFound { what, .. } => {
                let code = match what {
                    Missing::Manifest => ErrorCode::ManifestUnknown,
                    Missing::Blob => ErrorCode::BlobUnknown,
                    Missing::Repository | Missing::Referrers | Missing::Catalog => ErrorCode::NameUnknown,
                };
                ApiError::new(code, message)
            }
            Error::Denied(_) | Error::Private(_) | Error::Refused(_) => {
                ApiError::new(ErrorCode::Denied, message)
            }
            Error::RateLimited { retry_after, .. } => {
                come_back(ApiError::new(ErrorCode::TooManyRequests, message), retry_after)
            }
            Error::Unavailable { retry_after, .. } => {
                come_back(ApiError::new(ErrorCode::Unavailable, message), retry_after)
            }
            Error::Invalid(_) => ApiError::new(ErrorCode::UpstreamInvalid, message),
            Error::Registry(error) => match *error {
                registry::Error::DiskFull | registry::Error::QuotaExceeded { .. } => {
                    ApiError::new(ErrorCode::StorageFull, message)
                }
                _ => match Arc::try_unwrap(error) {
                    Ok(error) => error.into(),
                    Err(shared) => ApiError::failure(shared),
                },
            },
        }
    }
}

fn come_back(error: ApiError, after: Duration) -> ApiError {
    error.with_header(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_one_quoted_text_whatever_it_says() {
        let long = "x".repeat(5_000);
        for (text, shown) in [
            ("docker.io is away", "299 - \"docker.io is away\""),
            ("it says: \"no\\\"\r\nSet-Cookie: a", "299 - \"it says: noSet-Cookie: a\""),
            (&long, &format!("299 - \"{}\"", "x".repeat(WARNING_BYTES))),
        ] {
            assert_eq!(warning_value(text), shown);
        }
    }

    #[test]
    fn want_of_room_is_told_to_everybody_who_waited() {
        let (of, quota) = ("the registry".to_owned(), 10);
        let full = registry::Error::QuotaExceeded { of, quota, used: 10, more: 1 };
        for error in [full, registry::Error::DiskFull] {
            let error = Error::from(error);
            for error in [error.clone(), error] {
                assert_eq!(ApiError::from(error).code(), ErrorCode::StorageFull);
            }
        }
    }
}
