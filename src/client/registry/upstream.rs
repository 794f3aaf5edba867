//! The client of one upstream.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use super::challenge::Challenge;
use super::tokens::Tokens;
use super::{Address, Credentials, Retries};
use crate::client::{self, Client};
use crate::clock::{Clock, SystemClock};

/// How long an upstream may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until there is a connection.
    pub connect: Duration,
    /// Until the head of the answer is here, connecting included.
    pub first_byte: Duration,
    /// Between two reads of a blob.
    pub idle: Duration,
    /// For the whole body of a manifest, a list or a token, so that a slow drip of a small answer ends.
    pub small_answer: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            small_answer: Duration::from_secs(60),
        }
    }
}

/// How an upstream is asked.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it is. Plain HTTP is spoken only where this begins with `http://`.
    pub address: Address,
    /// Who asks; nobody in particular where there are none.
    pub credentials: Option<Credentials>,
    /// A PEM file of root certificates that are trusted beside the system's.
    pub root_certificates: Option<PathBuf>,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// What is tried again.
    pub retries: Retries,
    /// Tells when tokens end.
    pub clock: Arc<dyn Clock>,
}

impl Options {
    /// Asks anonymously, with the usual time-outs.
    pub fn new(address: Address) -> Options {
        Options {
            address,
            credentials: None,
            root_certificates: None,
            timeouts: Timeouts::default(),
            retries: Retries::default(),
            clock: Arc::new(SystemClock),
        }
    }
}

/// Another registry, asked through the proxies that the environment names; clones share connections and tokens.
#[derive(Debug, Clone)]
pub struct Upstream(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) address: Address,
    /// Replaced when the operator writes others.
    credentials: RwLock<Option<Arc<Credentials>>>,
    pub(super) client: Client,
    pub(super) tokens: Tokens,
    /// What the upstream last wanted, which the next request brings without being asked.
    pub(super) challenge: Mutex<Option<Challenge>>,
    pub(super) timeouts: Timeouts,
    pub(super) retries: Retries,
    pub(super) clock: Arc<dyn Clock>,
}

impl Upstream {
    /// Reads the root certificates. Blocks; asks nobody yet.
    pub fn new(options: Options) -> Result<Upstream, client::Error> {
        let Options { address, credentials, root_certificates, timeouts, retries, clock } = options;
        let connect_timeout = Some(timeouts.connect);
        let client = Client::new(&client::Options { root_certificates, connect_timeout })?;
        let (tokens, challenge) = (Tokens::default(), Mutex::new(None));
        let credentials = RwLock::new(credentials.map(Arc::new));
        Ok(Upstream(Arc::new(Inner {
            address,
            credentials,
            client,
            tokens,
            challenge,
            timeouts,
            retries,
            clock,
        })))
    }

    /// Asks with these credentials from now on, and with no token that others have opened; says whether they are others.
    pub fn set_credentials(&self, credentials: Credentials) -> bool {
        let mut present = self.0.credentials.write().unwrap_or_else(PoisonError::into_inner);
        if present.as_deref() == Some(&credentials) {
            return false;
        }
        *present = Some(Arc::new(credentials));
        self.0.tokens.forget();
        true
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.0.address
    }
}

impl Inner {
    /// Who asks.
    pub(super) fn credentials(&self) -> Option<Arc<Credentials>> {
        self.credentials.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
