//! Plain HTTP, which leads to TLS.

use std::net::IpAddr;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{HOST, LOCATION};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use rustls_pki_types::{CertificateDer, ServerName};

use super::Tls;

/// The port of https that addresses don't name.
const HTTPS: u16 = 443;

/// What a client is told that asks for a host which this isn't.
const STRANGER: &str = "This registry has no such name. Come by a name that its certificate is for.\n";

/// Where plain HTTP leads to.
#[derive(Debug, Clone)]
pub(in crate::server) struct Redirect {
    /// The names that are this server's.
    pub(in crate::server) tls: Tls,
    /// The port at which it speaks TLS.
    pub(in crate::server) port: u16,
    /// Where clients reach it, if that was said.
    pub(in crate::server) external_url: Option<String>,
}

impl Redirect {
    /// Answers every request with the https address of the same thing.
    pub(in crate::server) fn router(self) -> Router {
        Router::new().fallback(redirect).with_state(self)
    }

    /// The https address of what was asked for; none where the host is none of this server's. A host is never taken as the
    /// client says it: the answer could be kept by a cache, for others.
    fn location(&self, headers: &HeaderMap, uri: &Uri) -> Option<HeaderValue> {
        let authority = match &self.external_url {
            Some(url) => url.parse::<Uri>().ok()?.authority()?.to_string(),
            None => self.own(headers, uri)?,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        HeaderValue::from_str(&format!("https://{authority}{path}")).ok()
    }

    /// The name and the port of this server, by the name that the client has for it.
    fn own(&self, headers: &HeaderMap, uri: &Uri) -> Option<String> {
        let asked: Authority = match headers.get(HOST) {
            Some(host) => host.to_str().ok()?.parse().ok()?,
            None => uri.authority()?.clone(),
        };
        let host = asked.host();
        if !self.tls.is_for(host.trim_start_matches('[').trim_end_matches(']')) {
            return None;
        }
        Some(if self.port == HTTPS { host.to_owned() } else { format!("{host}:{}", self.port) })
    }
}

async fn redirect(State(redirect): State<Redirect>, request: Request) -> Response {
    match redirect.location(request.headers(), request.uri()) {
        // Method and body stay what they are.
        Some(location) => (StatusCode::PERMANENT_REDIRECT, [(LOCATION, location)]).into_response(),
        None => (StatusCode::MISDIRECTED_REQUEST, STRANGER).into_response(),
    }
}

impl Tls {
    /// Whether a host, a name or an address without brackets, is this server: the certificate is for it, or is going to be.
    fn is_for(&self, host: &str) -> bool {
        if self.0.settings.domains.iter().any(|domain| domain.eq_ignore_ascii_case(host)) {
            return true;
        }
        let Some(leaf) = self.current().leaf else { return false };
        is_for(&leaf, host)
    }
}

/// Whether a certificate is for a name, or an address without brackets.
pub(super) fn is_for(certificate: &CertificateDer<'_>, host: &str) -> bool {
    let address = host.parse::<IpAddr>().map(|address| address.to_string());
    let Ok(name) = ServerName::try_from(address.as_deref().unwrap_or(host)) else { return false };
    let certificate = webpki::EndEntityCert::try_from(certificate);
    certificate.is_ok_and(|certificate| certificate.verify_is_valid_for_subject_name(&name).is_ok())
}
