//! Who a certificate says that a client is.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The longest name that is taken from a certificate.
const MAX_NAME: usize = 256;

/// The name in a certificate that a configured authority has signed: the common name of its subject, or else the first mail
/// address, DNS name or URI among its alternative names, in this order. None where there is no such name that can be printed.
pub(super) fn name(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let common = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let alternative = || {
        let names = &certificate.subject_alternative_name().ok()??.value.general_names;
        let first = |pick: fn(&GeneralName<'_>) -> bool| names.iter().find(|name| pick(name));
        let found = first(|name| matches!(name, GeneralName::RFC822Name(_)))
            .or_else(|| first(|name| matches!(name, GeneralName::DNSName(_))))
            .or_else(|| first(|name| matches!(name, GeneralName::URI(_))));
        match found {
            Some(GeneralName::RFC822Name(name) | GeneralName::DNSName(name) | GeneralName::URI(name)) => {
                Some(*name)
            }
            _ => None,
        }
    };
    let name = common.filter(|name| !name.is_empty()).or_else(alternative)?;
    let is_plain = |c: char| !c.is_control() && !c.is_whitespace();
    ((1..=MAX_NAME).contains(&name.len()) && name.chars().all(is_plain)).then(|| name.into())
}
