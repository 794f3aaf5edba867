//! Certificates and keys in files.

use std::path::Path;

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

/// The certificates in a file, at least one.
pub(super) fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(key, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(absent(key, path, "certificate", "CERTIFICATE")),
        Err(error) => Err(unusable(key, path, &error)),
    }
}

/// The private key in a file, by itself or beside its certificate.
pub(super) fn private_key(key: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    match PrivateKeyDer::from_pem_slice(&read(key, path)?) {
        Ok(private) => Ok(private),
        Err(pem::Error::NoItemsFound) => Err(absent(key, path, "private key", "PRIVATE KEY")),
        Err(error) => Err(unusable(key, path, &error)),
    }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::File { key, path: path.to_owned(), source })
}

fn absent(key: &'static str, path: &Path, what: &'static str, label: &'static str) -> TlsError {
    TlsError::Absent { key, path: path.to_owned(), what, label }
}

/// The reason is told by its kind alone: lines of the file stand in some of the parser's own messages.
fn unusable(key: &'static str, path: &Path, error: &pem::Error) -> TlsError {
    let reason = match error {
        pem::Error::MissingSectionEnd { .. } => "an end is missing of what begins there",
        pem::Error::IllegalSectionStart { .. } => "a line that should begin something is malformed",
        pem::Error::Base64Decode(_) => "it isn't valid base64",
        _ => "it isn't valid PEM",
    };
    TlsError::Unusable { key, path: path.to_owned(), reason: reason.to_owned() }
}
