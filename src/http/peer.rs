//! Who is at the other end of a connection.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::ConnectInfo;
use http::request::Parts;

/// The other end of a connection. The server puts it into each request's extensions, as axum's `ConnectInfo`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer {
    /// Its address; none on a Unix socket.
    pub address: Option<SocketAddr>,
    /// Whether the connection is encrypted.
    pub is_secure: bool,
    /// The name in the certificate that it has shown, and that a configured authority has signed.
    pub certificate: Option<Arc<str>>,
}

impl Peer {
    /// A peer without encryption.
    pub fn plain(address: SocketAddr) -> Peer {
        Peer { address: Some(address), ..Peer::default() }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => address.fmt(f),
            None => f.write_str("local"),
        }
    }
}

/// The other end of the connection that a request came by.
pub(super) fn peer(parts: &Parts) -> Option<&Peer> {
    parts.extensions.get::<ConnectInfo<Peer>>().map(|info| &info.0)
}

/// The address of whoever sends a request.
pub(super) fn address(parts: &Parts) -> Option<IpAddr> {
    peer(parts)?.address.map(|address| address.ip())
}
