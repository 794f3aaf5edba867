//! How clients are asked to say who they are: `WWW-Authenticate`.
//!
//! The one challenge is Bearer, with the registry's own token endpoint. A second one, Basic, would keep Docker's daemon from
//! pulling without a login: it wants to answer both. Who sends Basic all the same is let in.

use http::HeaderValue;
use http::request::Parts;

use crate::auth::{Action, Tokens};
use crate::oci::RepositoryName;

use super::app::App;
use super::base_url::base_url;
use super::query::Query;
use super::routes::{Access, Operation, TOKEN_PATH};

/// How clients are asked for a user and a password (RFC 7617).
pub(super) const BASIC: HeaderValue = HeaderValue::from_static("Basic realm=\"orlop\", charset=\"UTF-8\"");

/// What a request is for, as far as a token has to be for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Nothing in particular where there is none.
    pub(super) action: Option<Action>,
    /// The repository by the name in the request's path.
    pub(super) requested: Option<&'a RepositoryName>,
    /// Whether it may take a blob from another repository, which it names.
    mounts: bool,
    /// Whether pushes begin so. There are clients that keep one token for all of a push (oras for Python), and need it for that.
    begins_push: bool,
}

/// Why a token isn't enough (RFC 6750, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    InvalidToken,
    InsufficientScope,
}

impl Flaw {
    const fn as_str(self) -> &'static str {
        match self {
            Flaw::InvalidToken => "invalid_token",
            Flaw::InsufficientScope => "insufficient_scope",
        }
    }
}

impl<'a> Wanted<'a> {
    /// What an operation needs.
    pub(super) fn of(operation: Operation, requested: Option<&'a RepositoryName>) -> Wanted<'a> {
        let action = match operation.row().access {
            Access::Any | Access::Credentials => None,
            Access::Pull => Some(Action::Pull),
            Access::Push => Some(Action::Push),
            Access::Delete => Some(Action::Delete),
            Access::List => Some(Action::List),
        };
        let (mounts, begins_push) = (operation == Operation::CreateUpload, operation == Operation::HeadBlob);
        Wanted { action, requested, mounts, begins_push }
    }

    /// What the admin API needs.
    pub(super) fn admin() -> Wanted<'static> {
        Wanted { action: Some(Action::Admin), requested: None, mounts: false, begins_push: false }
    }

    /// The scope that a token needs, in the words of Docker's token specification; empty where any token is enough.
    fn scope(&self, parts: &Parts) -> String {
        let Some(action) = self.action else { return String::new() };
        let actions = match action {
            Action::List => return "registry:catalog:*".to_owned(),
            Action::Admin => return "registry:admin:*".to_owned(),
            Action::Pull if self.begins_push => "pull,push",
            Action::Pull => "pull",
            Action::Push => "pull,push",
            Action::Delete => "delete",
        };
        let Some(name) = self.requested else { return String::new() };
        let mut scope = format!("repository:{name}:{actions}");
        if self.mounts
            && let Some(from) = Query::of(&parts.uri).first("from")
            && let Ok(from) = from.parse::<RepositoryName>()
        {
            scope.extend([" repository:", from.as_str(), ":pull"]);
        }
        scope
    }
}

/// Asks a client for a token that is for what it wants to do, and says what is wrong with the one that it has sent.
pub(super) fn challenge(app: &App, parts: &Parts, wanted: Wanted<'_>, flaw: Option<Flaw>) -> HeaderValue {
    if app.tokens.is_none() {
        return BASIC;
    }
    let base = base_url(app, parts);
    let mut text = match app.tokens.as_ref().and_then(Tokens::realm) {
        Some((realm, service)) => format!("Bearer realm=\"{realm}\",service=\"{service}\""),
        None => format!("Bearer realm=\"{base}{TOKEN_PATH}\",service=\"{}\"", service_of(&base)),
    };
    let scope = wanted.scope(parts);
    if !scope.is_empty() {
        text.extend([",scope=\"", &scope, "\""]);
    }
    if let Some(flaw) = flaw {
        text.extend([",error=\"", flaw.as_str(), "\""]);
    }
    // What a client has named as our host may be anything.
    if is_url(&base) { HeaderValue::try_from(text).unwrap_or(BASIC) } else { BASIC }
}

/// What the registry is called that clients reach by `base`: its host.
pub(super) fn service_of(base: &str) -> &str {
    let rest = base.split_once("://").map_or(base, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

/// Whether there is nothing in a URL that would end a quoted string, or do anything else in one.
fn is_url(base: &str) -> bool {
    base.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":/.-_~[]%".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_called_by_its_host() {
        for (base, service) in [
            ("https://reg.example", "reg.example"),
            ("http://[::1]:5000", "[::1]:5000"),
            ("https://reg.example:8443/below/it", "reg.example:8443"),
        ] {
            assert_eq!(service_of(base), service);
            assert!(is_url(base));
        }
        for base in
            ["http://a\"b", "http://a b", "http://a\\", "http://a,b", "http://\u{e4}", "http://a\r\nb"]
        {
            assert!(!is_url(base), "{base:?}");
        }
    }
}
