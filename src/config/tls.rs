//! TLS of the server's own.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Key;
use super::value::{Choice, address, choice, duration, switch, url, words};

/// Where certificates are had from by default.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// `tls.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// `tls.certificate`: a PEM file with the server's certificate and those that lead to its authority.
    pub certificate: Option<PathBuf>,
    /// `tls.key`: a PEM file with its private key.
    pub key: Option<PathBuf>,
    /// `tls.min_version`: what is spoken at least.
    pub min_version: TlsVersion,
    /// `tls.http2`: whether HTTP/2 is offered.
    pub http2: bool,
    /// `tls.client_ca`: a PEM file with the authorities of clients' certificates.
    pub client_ca: Option<PathBuf>,
    /// `tls.client_certificates`: whether clients have to have one.
    pub client_certificates: ClientCertificates,
    /// `tls.redirect_from`: where plain HTTP is answered with the address of this server.
    pub redirect_from: Option<SocketAddr>,
    /// `tls.hsts`: for how long browsers are to insist on TLS.
    pub hsts: Duration,
    /// `tls.acme`: whether the certificate is had by ACME.
    pub acme: bool,
    /// `tls.domains`: for these names.
    pub domains: Vec<String>,
    /// `tls.acme_contact`: addresses that the authority writes to.
    pub acme_contact: Vec<String>,
    /// `tls.acme_directory`: the authority.
    pub acme_directory: String,
    /// `tls.acme_root`: a PEM file with the roots of the authority's own certificate.
    pub acme_root: Option<PathBuf>,
}

impl Tls {
    /// Whether the server speaks TLS.
    pub fn is_on(&self) -> bool {
        self.acme || self.certificate.is_some()
    }

    /// Whether clients are known by their certificates.
    pub fn knows_clients(&self) -> bool {
        self.client_ca.is_some() && self.client_certificates != ClientCertificates::Off
    }

    /// What its keys say together and can't mean: the key, and what to write.
    pub(super) fn contradiction(&self) -> Option<(&'static str, &'static str)> {
        let off = !self.is_on();
        if self.certificate.is_some() != self.key.is_some() {
            let missing = if self.key.is_some() { "tls.certificate" } else { "tls.key" };
            return Some((missing, "write the file of the certificate and that of its key"));
        }
        if self.acme && self.certificate.is_some() {
            return Some(("tls.acme", "write either tls.acme, or tls.certificate and tls.key"));
        }
        if self.acme && self.domains.is_empty() {
            return Some((
                "tls.domains",
                "write the names that the certificate is to be for, for example [\"registry.example.org\"]",
            ));
        }
        if off && self.client_ca.is_some() {
            return Some((
                "tls.client_ca",
                "write tls.certificate and tls.key too, or tls.acme; clients show nothing without TLS",
            ));
        }
        if off && self.redirect_from.is_some() {
            return Some((
                "tls.redirect_from",
                "write tls.certificate and tls.key too, or tls.acme; there is nothing to lead to",
            ));
        }
        if self.client_certificates == ClientCertificates::Required && self.client_ca.is_none() {
            return Some((
                "tls.client_certificates",
                "write tls.client_ca too, the file of the authorities that are believed",
            ));
        }
        None
    }
}

/// Nothing set, as it waits for its keys.
impl Default for Tls {
    fn default() -> Tls {
        Tls {
            certificate: None,
            key: None,
            min_version: TlsVersion::Tls12,
            http2: false,
            client_ca: None,
            client_certificates: ClientCertificates::Off,
            redirect_from: None,
            hsts: Duration::ZERO,
            acme: false,
            domains: Vec::new(),
            acme_contact: Vec::new(),
            acme_directory: String::new(),
            acme_root: None,
        }
    }
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2.
    Tls12,
    /// 1.3.
    Tls13,
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        })
    }
}

impl Choice for TlsVersion {
    const ALL: &'static [Self] = &[Self::Tls12, Self::Tls13];
}

/// Whether clients show certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They aren't asked.
    Off,
    /// They may.
    Optional,
    /// They have to.
    Required,
}

impl fmt::Display for ClientCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Optional => "optional",
            Self::Required => "required",
        })
    }
}

impl Choice for ClientCertificates {
    const ALL: &'static [Self] = &[Self::Off, Self::Optional, Self::Required];
}

fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// Names that a certificate can be for, without wildcards, which need another proof than the one that is given here.
fn domains(text: &str) -> Result<Vec<String>, String> {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() < 64
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let mut found: Vec<String> = Vec::new();
    for word in words(text).map(str::to_ascii_lowercase) {
        if word.len() > 253 || !word.split('.').all(is_label) {
            return Err("write names of this machine, for example [\"registry.example.org\"]".to_owned());
        }
        if !found.contains(&word) {
            found.push(word);
        }
    }
    Ok(found)
}

fn contacts(text: &str) -> Result<Vec<String>, String> {
    let contact = |word: &str| {
        let address = word.strip_prefix("mailto:").unwrap_or(word);
        let is_address =
            address.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
        is_address
            .then(|| format!("mailto:{address}"))
            .ok_or("write mail addresses, for example [\"admin@example.org\"]")
    };
    Ok(words(text).map(contact).collect::<Result<_, _>>()?)
}

/// The keys, in the order of the example.
pub(super) const KEYS: &[Key] = &[
    Key::text(
        "tls.certificate",
        "",
        |config, value| {
            config.tls.certificate = path(value);
            Ok(())
        },
        "A PEM file with the server's certificate, and after it those that lead to its authority. With it the server speaks TLS, and \
         nothing else, on every address in `listen`; on Unix sockets it speaks plain HTTP. It is read again when it changes.",
    ),
    Key::text(
        "tls.key",
        "",
        |config, value| {
            config.tls.key = path(value);
            Ok(())
        },
        "A PEM file with the private key of that certificate. It is read again when it changes; while the two don't belong \
         together, the ones before stay in use.",
    ),
    Key::text(
        "tls.min_version",
        "1.2",
        |config, value| choice(value).map(|version| config.tls.min_version = version),
        "The lowest version of TLS that is spoken: 1.2 or 1.3.",
    ),
    Key::bare(
        "tls.http2",
        "false",
        |config, value| switch(value).map(|on| config.tls.http2 = on),
        "Whether HTTP/2 is offered to clients over TLS. It costs 1.4 times the processor for large blobs, and clients then send all \
         layers over one connection.",
    ),
    Key::text(
        "tls.client_ca",
        "",
        |config, value| {
            config.tls.client_ca = path(value);
            Ok(())
        },
        "A PEM file with the certificates of authorities. Who shows a certificate of theirs is the user whose name stands in it: its common \
         name, or else its first mail address, DNS name or URI. It is read again when it changes.",
    ),
    Key::text(
        "tls.client_certificates",
        "optional",
        |config, value| choice(value).map(|which| config.tls.client_certificates = which),
        "Where tls.client_ca is set: whether clients are asked for a certificate and may do without (optional), are turned away \
         without one (required), or aren't asked (off).",
    ),
    Key::text(
        "tls.redirect_from",
        "",
        |config, value| {
            config.tls.redirect_from = if value.is_empty() { None } else { Some(address(value)?) };
            Ok(())
        },
        "An address and a port, for example \"0.0.0.0:80\", at which plain HTTP is answered with 308 and the https address of the same \
         thing. Empty: none.",
    ),
    Key::text(
        "tls.hsts",
        "0",
        |config, value| {
            let time = if value == "0" { Duration::ZERO } else { duration(value)? };
            config.tls.hsts = time;
            Ok(())
        },
        "The time for which browsers are told to come by https only (Strict-Transport-Security), for example \"365d\". 0 tells nothing.",
    ),
    Key::bare(
        "tls.acme",
        "false",
        |config, value| switch(value).map(|on| config.tls.acme = on),
        "Whether the certificate for tls.domains is had, and renewed, by ACME, from Let's Encrypt unless `tls.acme_directory` names \
         another. The authority has to reach this server at port 443 of each name. To set this is to agree to its terms of service.",
    ),
    Key::words(
        "tls.domains",
        "",
        |config, value| domains(value).map(|domains| config.tls.domains = domains),
        "The names that a certificate by ACME is for, for example [\"registry.example.org\"].",
    ),
    Key::words(
        "tls.acme_contact",
        "",
        |config, value| contacts(value).map(|contacts| config.tls.acme_contact = contacts),
        "Mail addresses at which the authority reaches whoever runs this server.",
    ),
    Key::text(
        "tls.acme_directory",
        "",
        |config, value| {
            let directory = url(value)?;
            config.tls.acme_directory = directory.unwrap_or_else(|| LETS_ENCRYPT.to_owned());
            Ok(())
        },
        "Where the authority is spoken to by ACME. Empty: Let's Encrypt.",
    ),
    Key::text(
        "tls.acme_root",
        "",
        |config, value| {
            config.tls.acme_root = path(value);
            Ok(())
        },
        "A PEM file of root certificates that are trusted beside the system's when the authority is spoken to.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_certificates_are_hosts_without_wildcards() {
        assert_eq!(
            domains("Registry.example.org, a"),
            Ok(vec!["registry.example.org".to_owned(), "a".to_owned()])
        );
        for text in ["*.example.org", "a..b", "-a", "a b", "https://a", "a:443"] {
            assert!(domains(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_together_is_said() {
        let path = Some(PathBuf::from("x"));
        let pair = Tls { certificate: path.clone(), key: path.clone(), ..Tls::default() };
        assert_eq!(pair.contradiction(), None);
        for (tls, key) in [
            (Tls { key: None, ..pair.clone() }, "tls.key"),
            (Tls { certificate: None, ..pair.clone() }, "tls.certificate"),
            (Tls { acme: true, domains: vec!["a".to_owned()], ..pair.clone() }, "tls.acme"),
            (Tls { acme: true, ..Tls::default() }, "tls.domains"),
            (Tls { client_ca: path.clone(), ..Tls::default() }, "tls.client_ca"),
            (Tls { redirect_from: address("127.0.0.1:80").ok(), ..Tls::default() }, "tls.redirect_from"),
            (
                Tls { client_certificates: ClientCertificates::Required, ..pair.clone() },
                "tls.client_certificates",
            ),
        ] {
            assert_eq!(tls.contradiction().map(|(key, _)| key), Some(key));
        }
    }
}
