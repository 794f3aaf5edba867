//! TLS of the server's own, by rustls.
//!
//! [`Tls`] holds what new connections are served with. It is replaced as a whole when a file of it changes, so that
//! connections that are open go on with what they began with.

mod acme;
mod client;
mod establish;
mod files;
mod hsts;
mod redirect;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::client::Client;
use crate::config::{self, ClientCertificates, TlsVersion};

use self::acme::Challenges;
pub(super) use self::hsts::Hsts;
pub(super) use self::redirect::Redirect;

const TLS_1_3: &[&SupportedProtocolVersion] = &[&version::TLS13];
const TLS_1_2: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

const HTTP_1: &[u8] = b"http/1.1";
const HTTP_2: &[u8] = b"h2";
/// What an authority speaks that wants to see whose a name is.
const ACME_PROTOCOL: &[u8] = b"acme-tls/1";

/// Why TLS can't be spoken. Nothing that was read is ever in it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{key}: cannot read {}: {source}", path.display())]
    File {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What should be in a file isn't.
    #[error("{key}: there is no {what} in {}; it has to be in PEM, as -----BEGIN {label}----- begins it", path.display())]
    Absent {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// How it begins.
        label: &'static str,
    },
    /// Certificate and key aren't each other's.
    #[error("the key in {} is not the one of the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's.
        key: PathBuf,
    },
    /// A file's content can't be used.
    #[error("{key}: cannot use {}: {reason}", path.display())]
    Unusable {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// TLS as it is at the moment. Clones share it.
#[derive(Debug, Clone)]
pub struct Tls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: config::Tls,
    challenges: Challenges,
    current: RwLock<Current>,
}

/// What new connections are served with.
#[derive(Debug, Clone, Default)]
struct Current {
    /// None as long as there is no certificate.
    config: Option<Arc<ServerConfig>>,
    /// The server's own certificate.
    leaf: Option<CertificateDer<'static>>,
    /// The certificates that were read: the server's, and those of the authorities of its clients. A key that belongs to the
    /// same certificate is the same one.
    content: [Vec<CertificateDer<'static>>; 2],
}

impl Tls {
    /// Reads the files, where TLS is to be spoken. Blocks.
    pub fn open(settings: &config::Tls, data: &Path) -> Result<Option<Tls>, TlsError> {
        if !settings.is_on() {
            return Ok(None);
        }
        let mut settings = settings.clone();
        if settings.acme {
            let file = acme::certificate_file(data);
            (settings.certificate, settings.key) = (Some(file.clone()), Some(file));
        }
        let current = RwLock::new(read(&settings)?);
        Ok(Some(Tls(Arc::new(Shared { settings, challenges: Challenges::default(), current }))))
    }

    fn settings(&self) -> &config::Tls {
        &self.0.settings
    }

    fn challenges(&self) -> &Challenges {
        &self.0.challenges
    }

    /// Has the certificate by ACME and renews it, for ever, where that is wanted.
    pub(super) async fn keep_certificate(self, client: Client, data: PathBuf) {
        if self.settings().acme {
            acme::keep_certificate(self, client, data).await;
        }
    }

    /// The files that were read.
    pub fn files(&self) -> Vec<PathBuf> {
        let settings = &self.0.settings;
        [&settings.certificate, &settings.key, &settings.client_ca].into_iter().flatten().cloned().collect()
    }

    /// Reads the files again; says whether that has changed anything. Where they can't be used, what was read before stays.
    /// Blocks.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let next = read(&self.0.settings)?;
        let mut current = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.content == next.content {
            return Ok(false);
        }
        *current = next;
        Ok(true)
    }

    fn current(&self) -> Current {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn read(settings: &config::Tls) -> Result<Current, TlsError> {
    let (Some(certificate), Some(key)) = (&settings.certificate, &settings.key) else {
        return Ok(Current::default());
    };
    if settings.acme && !certificate.exists() {
        return Ok(Current::default());
    }
    let chain = files::certificates("tls.certificate", certificate)?;
    let private = files::private_key("tls.key", key)?;
    let clients = match (&settings.client_ca, settings.client_certificates) {
        (None, _) | (_, ClientCertificates::Off) => Vec::new(),
        (Some(path), _) => files::certificates("tls.client_ca", path)?,
    };
    let content = [chain.clone(), clients.clone()];
    let leaf = chain.first().cloned();
    let config = server_config(settings, chain, private, clients).map_err(|error| match error {
        ConfigError::ClientCa(reason) => {
            let path = settings.client_ca.clone().unwrap_or_default();
            TlsError::Unusable { key: "tls.client_ca", path, reason }
        }
        ConfigError::Pair(rustls::Error::InconsistentKeys(_)) => {
            TlsError::Mismatch { certificate: certificate.clone(), key: key.clone() }
        }
        ConfigError::Pair(error) => TlsError::Unusable {
            key: "tls.certificate",
            path: certificate.clone(),
            reason: error.to_string(),
        },
    })?;
    Ok(Current { config: Some(Arc::new(config)), leaf, content })
}

enum ConfigError {
    ClientCa(String),
    Pair(rustls::Error),
}

fn server_config(
    settings: &config::Tls,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clients: Vec<CertificateDer<'static>>,
) -> Result<ServerConfig, ConfigError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = match settings.min_version {
        TlsVersion::Tls12 => TLS_1_2,
        TlsVersion::Tls13 => TLS_1_3,
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(versions).map_err(ConfigError::Pair)?;
    let builder = if clients.is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for certificate in clients {
            roots.add(certificate).map_err(|error| ConfigError::ClientCa(error.to_string()))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = match settings.client_certificates {
            ClientCertificates::Optional => verifier.allow_unauthenticated(),
            ClientCertificates::Off | ClientCertificates::Required => verifier,
        };
        let verifier = verifier.build().map_err(|error| ConfigError::ClientCa(error.to_string()))?;
        builder.with_client_cert_verifier(verifier)
    };
    let mut config = builder.with_single_cert(chain, key).map_err(ConfigError::Pair)?;
    if settings.http2 {
        config.alpn_protocols.push(HTTP_2.to_vec());
    }
    config.alpn_protocols.push(HTTP_1.to_vec());
    Ok(config)
}
