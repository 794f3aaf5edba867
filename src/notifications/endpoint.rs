//! Whom to tell, and how.

use std::fmt;
use std::time::Duration;

use crate::client::{Header, Url};
use crate::registry::Listener;

/// Somebody who is told of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name, and what it doesn't want to hear of.
    pub listener: Listener,
    /// Where to send.
    pub url: Url,
    /// What to send along.
    pub headers: Vec<Header>,
    /// How long one delivery may take.
    pub timeout: Duration,
    /// After so many failures in a row there is a pause before each further attempt.
    pub threshold: u32,
    /// How long the pause is.
    pub backoff: Duration,
    /// In which version of the envelope.
    pub version: Version,
}

/// A version of the envelope. Their fields are the same; receivers know them by their media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// What distribution 2 sends.
    V1,
    /// What distribution 3 sends.
    V2,
}

impl Version {
    /// Every version.
    pub const ALL: [Version; 2] = [Version::V1, Version::V2];

    /// The media type of an envelope.
    pub const fn media_type(self) -> &'static str {
        match self {
            Version::V1 => "application/vnd.docker.distribution.events.v1+json",
            Version::V2 => "application/vnd.docker.distribution.events.v2+json",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Version::V1 => "v1",
            Version::V2 => "v2",
        })
    }
}
