//! Why a request got no answer.

use std::error::Error as _;
use std::path::PathBuf;

/// A request that failed, or a client that can't be made. The text holds no URL, since that may hold a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of root certificates can't be read.
    #[error("cannot read the root certificates in {}: {reason}", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The system's root certificates can't be used.
    #[error("cannot set up outbound TLS: {0}")]
    Setup(String),
    /// No answer came in time.
    #[error("no answer came within the time limit")]
    TimedOut,
    /// The connection failed, or the answer was not HTTP.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// A failed request, without its URL. A connection that didn't come about in time has failed: nothing was asked yet.
    pub(super) fn of_request(error: reqwest::Error) -> Error {
        if error.is_timeout() && !error.is_connect() {
            Error::TimedOut
        } else {
            Error::Failed(text_of(error))
        }
    }
}

/// The text of an error with its causes, without its URL.
pub(super) fn text_of(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
