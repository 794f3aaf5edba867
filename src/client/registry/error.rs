//! Why an upstream has given nothing.

use std::fmt;
use std::time::Duration;

use super::RateLimit;
use crate::client;

/// What an upstream hasn't got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The manifest (`MANIFEST_UNKNOWN`).
    Manifest,
    /// The repository (`NAME_UNKNOWN`).
    Repository,
    /// The blob (`BLOB_UNKNOWN`).
    Blob,
    /// An API of referrers; they may be listed under a tag.
    Referrers,
    /// A list of its repositories.
    Catalog,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Missing::Manifest => "manifest",
            Missing::Repository => "repository",
            Missing::Blob => "blob",
            Missing::Referrers => "API of referrers",
            Missing::Catalog => "list of repositories",
        })
    }
}

/// How an upstream is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// No connection came about, or it broke before an answer.
    Unreachable,
    /// Nothing came in time.
    TimedOut,
    /// An answer broke off.
    Interrupted,
    /// It has answered with this status, 408 or 5xx.
    Status(u16),
}

/// A request to an upstream that gave nothing. The text names the host and holds no credentials, tokens or queries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not there.
    #[error("{host} has no such {what}; check the name{}", said(reason))]
    NotFound {
        /// Who was asked.
        host: String,
        /// What is missing.
        what: Missing,
        /// What the upstream says of it, which may be nothing.
        reason: String,
    },
    /// It is not for whoever asks: 401 after one attempt with a new token, or 403.
    #[error("{host} refuses access: {advice}{}", said(reason))]
    Denied {
        /// Who was asked.
        host: String,
        /// What to do about it.
        advice: &'static str,
        /// What the upstream says of it, which may be nothing.
        reason: String,
    },
    /// Too much has been asked.
    #[error("{host} limits how much is asked; {}", come_back(*retry_after))]
    RateLimited {
        /// Who was asked.
        host: String,
        /// When to come back, where that was said.
        retry_after: Option<Duration>,
        /// What was said of the limit.
        limit: RateLimit,
    },
    /// It can't be reached, is too slow, or fails.
    #[error(
        "{host} is not available: {reason}; check the network and the upstream's state, or try again later"
    )]
    Unavailable {
        /// Who was asked.
        host: String,
        /// How it is away.
        outage: Outage,
        /// In words.
        reason: String,
        /// When to come back, where that was said.
        retry_after: Option<Duration>,
    },
    /// What it has answered can't be used.
    #[error(
        "{host} has given an answer that can't be used: {reason}; check that its address is a registry's"
    )]
    Invalid {
        /// Who was asked.
        host: String,
        /// Why not.
        reason: String,
    },
}

impl Error {
    pub(super) fn invalid(host: &str, reason: impl Into<String>) -> Error {
        Error::Invalid { host: host.to_owned(), reason: reason.into() }
    }

    /// A request that got no answer, or whose answer broke off.
    pub(super) fn of_client(host: &str, error: &client::Error, broken: Outage) -> Error {
        let outage = match error {
            client::Error::TimedOut => Outage::TimedOut,
            client::Error::Failed(_) | client::Error::Roots { .. } | client::Error::Setup(_) => broken,
        };
        let reason = error.to_string();
        Error::Unavailable { host: host.to_owned(), outage, reason, retry_after: None }
    }
}

fn said(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" (it says: {reason})") }
}

fn come_back(retry_after: Option<Duration>) -> String {
    match retry_after {
        Some(time) => format!("try again in {} s", time.as_secs()),
        None => "try again later, or configure credentials that may ask for more".to_owned(),
    }
}
