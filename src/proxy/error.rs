//! Why the cache couldn't answer.

use std::sync::Arc;
use std::time::Duration;

use crate::client::registry as upstream;
use crate::registry;

/// Why a request to the cache gave nothing. The texts say what to do, and hold no secrets.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The name is of no upstream that is configured.
    #[error("{host} isn't cached here; add it to `cache` in the configuration, or check the name")]
    HostUnknown {
        /// The host that was named.
        host: String,
    },
    /// The name here would be no valid name.
    #[error("the name can't be cached: with {host} before it, it is longer than a name may be")]
    NameTooLong {
        /// The upstream.
        host: String,
    },
    /// The upstream hasn't got it, or can't be asked on purpose.
    #[error("{reason}")]
    NotFound {
        /// What is missing.
        what: upstream::Missing,
        /// In words.
        reason: String,
    },
    /// The configuration is against it.
    #[error("{0}")]
    Denied(String),
    /// It is for those whom a rule names.
    #[error("{0}")]
    Private(String),
    /// The upstream is against it.
    #[error("{0}")]
    Refused(String),
    /// The upstream wants to be left alone.
    #[error("{reason}")]
    RateLimited {
        /// In words.
        reason: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// The upstream doesn't answer.
    #[error("{reason}")]
    Unavailable {
        /// In words.
        reason: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// What the upstream answers can't be used.
    #[error("{0}")]
    Invalid(String),
    /// The store.
    #[error(transparent)]
    Registry(Arc<registry::Error>),
}

impl From<registry::Error> for Error {
    fn from(error: registry::Error) -> Error {
        Error::Registry(Arc::new(error))
    }
}

/// When to ask again for what has failed just now.
const SOON: Duration = Duration::from_secs(10);

impl From<upstream::Error> for Error {
    fn from(error: upstream::Error) -> Error {
        let reason = error.to_string();
        match error {
            upstream::Error::NotFound { what, .. } => Error::NotFound { what, reason },
            upstream::Error::Denied { .. } => Error::Refused(reason),
            upstream::Error::RateLimited { retry_after, .. } => {
                Error::RateLimited { reason, retry_after: retry_after.unwrap_or(SOON) }
            }
            upstream::Error::Unavailable { retry_after, .. } => {
                Error::Unavailable { reason, retry_after: retry_after.unwrap_or(SOON) }
            }
            upstream::Error::Invalid { .. } => Error::Invalid(reason),
        }
    }
}
