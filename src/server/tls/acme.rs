//! Certificates by ACME (RFC 8555).
//!
//! The authority is shown that a name is this server's by the connections that it opens itself (TLS-ALPN-01, RFC 8737).
//! What it gives is kept below the data directory, readable for this user only, and served like any other certificate.

mod order;
mod transport;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::client::Client;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::fsio::{Disk, FileError, RealDisk};
use crate::http::admin::Certificate;

use super::Tls;

/// Where everything is kept, in the data directory.
const DIRECTORY: &str = "acme";
/// The private key, and after it the certificate with those that lead to its authority.
const CERTIFICATE: &str = "certificate.pem";
/// The account with the authority.
const ACCOUNT: &str = "account.json";

/// The time between two looks whether the certificate has to be renewed.
const INTERVAL: Duration = Duration::from_secs(3600);
/// The pause after the first failure; it doubles with each further one, up to the interval.
const PAUSE: Duration = Duration::from_secs(30);

/// The file that the certificate and its key are kept in.
pub(super) fn certificate_file(data: &Path) -> PathBuf {
    data.join(DIRECTORY).join(CERTIFICATE)
}

/// What the authority is shown, by name.
#[derive(Debug, Default)]
pub(super) struct Challenges(Mutex<HashMap<String, Arc<ServerConfig>>>);

impl Challenges {
    pub(super) fn of(&self, name: &str) -> Option<Arc<ServerConfig>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&name.to_ascii_lowercase()).cloned()
    }

    fn set(&self, name: String, config: ServerConfig) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::new(config));
    }

    fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
enum AcmeError {
    /// The authority refuses, or can't be reached.
    #[error("{0}")]
    Protocol(#[from] instant_acme::Error),
    /// It doesn't offer the proof that this server gives.
    #[error("the authority offers no TLS-ALPN-01 for {0}")]
    NoChallenge(String),
    /// It isn't convinced.
    #[error("the authority was not convinced that {0} is this server; it connects to port 443 of that name")]
    NotProved(String),
    /// A key or a request can't be made.
    #[error("cannot make a key or a request: {0}")]
    Request(#[from] rcgen::Error),
    /// Its own answers to the authority can't be served.
    #[error("cannot speak TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// What was had can't be kept.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is kept can't be understood.
    #[error("cannot read {}: {reason}", path.display())]
    Account {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Has the certificate renewed, for ever.
pub(in crate::server) async fn keep_certificate(tls: Tls, client: Client, data: PathBuf) {
    let dir = data.join(DIRECTORY);
    let mut pause = PAUSE;
    loop {
        if !tls.has_to_renew() {
            pause = PAUSE;
            tokio::time::sleep(INTERVAL).await;
            continue;
        }
        let had = order::certificate(&tls, &client, &dir).await;
        tls.challenges().clear();
        let read = match had {
            Ok(()) => tls.reload().map(|_| ()).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let domains = tls.settings().domains.join(", ");
        match read {
            Ok(()) => {
                tracing::info!(domains, "there is a new certificate");
                pause = PAUSE;
            }
            Err(error) => {
                tracing::error!(
                    error,
                    domains,
                    wait_s = pause.as_secs(),
                    "cannot have a certificate; trying again"
                );
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(INTERVAL);
            }
        }
    }
}

impl Tls {
    /// Whether two thirds of the certificate's time have passed, or it isn't for all the names.
    fn has_to_renew(&self) -> bool {
        let now = i64::try_from(SystemClock.now().millis() / 1000).unwrap_or(i64::MAX);
        let Some(leaf) = self.current().leaf else { return true };
        let Some((begin, end)) = validity(&leaf) else { return true };
        now >= begin + (end - begin) / 3 * 2
            || !self.settings().domains.iter().all(|domain| super::redirect::is_for(&leaf, domain))
    }
}

impl Certificate for Tls {
    fn valid_until(&self) -> Option<Timestamp> {
        let (_, end) = validity(&self.current().leaf?)?;
        Some(Timestamp::from_millis(u64::try_from(end).unwrap_or_default().saturating_mul(1_000)))
    }
}

/// Since when and until when a certificate is valid, in seconds since 1970.
fn validity(certificate: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let validity = certificate.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

fn create_directory(dir: &Path) -> Result<(), FileError> {
    RealDisk.create_dir(dir)
}
