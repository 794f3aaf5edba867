//! Answers that are no success, as errors.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use super::rate_limit::{RateLimit, retry_after};
use super::{Credentials, Error, Missing, Outage};
use crate::client::Answer;
use crate::clock::Clock;

/// How much of an error's body is read, and for how long.
const MAX_BODY: usize = 16 << 10;
const BODY_TIME: Duration = Duration::from_secs(5);

/// How much of what an upstream says is repeated, in characters.
const MAX_QUOTE: usize = 200;

/// The body of an error, of which a token service's differs.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    errors: Vec<Entry>,
    details: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    code: String,
    message: String,
}

/// Makes an error of an answer that is no success, and reads its body as far as it can help. `missing` is what a 404 without a
/// code means.
pub(super) async fn refusal(
    host: &str,
    mut answer: Answer,
    missing: Missing,
    credentials: Option<&Credentials>,
    clock: &dyn Clock,
) -> Error {
    let host = host.to_owned();
    let status = answer.status();
    let retry_after = retry_after(answer.headers(), clock);
    let limit = RateLimit::of(answer.headers());
    let body = answer.read(MAX_BODY, BODY_TIME).await.ok().flatten().unwrap_or_default();
    let body: Body = serde_json::from_slice(&body).unwrap_or_default();
    let reason = quote(&body, credentials);
    match status {
        StatusCode::NOT_FOUND => Error::NotFound { host, what: what(&body).unwrap_or(missing), reason },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let advice = match credentials {
                Some(_) => "check the credentials that are configured for it, and what they may pull",
                None => "what is asked for may not exist or be private; configure credentials for it",
            };
            Error::Denied { host, advice, reason }
        }
        StatusCode::TOO_MANY_REQUESTS => Error::RateLimited { host, retry_after, limit },
        status if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
            let reason = format!("it answers {status}");
            Error::Unavailable { host, outage: Outage::Status(status.as_u16()), reason, retry_after }
        }
        status => Error::Invalid { host, reason: format!("the status is {status}") },
    }
}

/// What the codes in a body say is missing.
fn what(body: &Body) -> Option<Missing> {
    body.errors.iter().find_map(|entry| match entry.code.as_str() {
        "MANIFEST_UNKNOWN" => Some(Missing::Manifest),
        "NAME_UNKNOWN" => Some(Missing::Repository),
        "BLOB_UNKNOWN" => Some(Missing::Blob),
        _ => None,
    })
}

/// The first thing that a body says, on one short line; nothing where that holds the credentials.
fn quote(body: &Body, credentials: Option<&Credentials>) -> String {
    let text = match body.errors.first() {
        Some(entry) if entry.message.is_empty() => &entry.code,
        Some(entry) => &entry.message,
        None => &body.details,
    };
    if credentials.is_some_and(|credentials| credentials.are_in(text)) {
        return String::new();
    }
    text.chars().filter(|character| !character.is_control()).take(MAX_QUOTE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(json: &str) -> Body {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_an_upstream_says_is_quoted_in_short() {
        let long = format!(r#"{{"errors":[{{"code":"X","message":"a\nb{}"}}]}}"#, "c".repeat(1000));
        assert_eq!(quote(&body(&long), None), format!("ab{}", "c".repeat(198)));
        assert_eq!(quote(&body(r#"{"errors":[{"code":"DENIED"}]}"#), None), "DENIED");
        assert_eq!(quote(&body(r#"{"details":"incorrect username or password"}"#), None).len(), 30);
        assert_eq!(quote(&body("{}"), None), "");
    }

    #[test]
    fn credentials_are_not_quoted() {
        let credentials = Credentials::new("anna", "sesame").unwrap();
        for said in ["no password sesame", "Basic YW5uYTpzZXNhbWU="] {
            let json = format!(r#"{{"errors":[{{"code":"UNAUTHORIZED","message":"{said}"}}]}}"#);
            assert_eq!(quote(&body(&json), Some(&credentials)), "");
            assert_eq!(quote(&body(&json), None), said);
        }
    }
}
