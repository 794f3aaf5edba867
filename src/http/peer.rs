//! Who is at the other end of a connection.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::ConnectInfo;
use http::request::Parts;

use super::forwarded::Forwarded;

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

/// The address of whoever sends a request: of the client, where a proxy that is trusted speaks for it.
pub(super) fn address(parts: &Parts) -> Option<IpAddr> {
    match parts.extensions.get::<Forwarded>() {
        Some(forwarded) => forwarded.address,
        None => Some(peer(parts)?.address?.ip()),
    }
}

/// Whoever sends a request, as logs and events tell of them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Remote {
    /// The other end of the connection.
    Peer(SocketAddr),
    /// Somebody behind a proxy.
    Client(IpAddr),
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(address) => address.fmt(f),
            Self::Client(address) => address.fmt(f),
        }
    }
}

/// Whoever sends a request; none where nobody knows an address.
pub(super) fn remote(parts: &Parts) -> Option<Remote> {
    let peer = peer(parts)?.address;
    match (address(parts), peer) {
        (Some(address), Some(peer)) if peer.ip() == address => Some(Remote::Peer(peer)),
        (Some(address), _) => Some(Remote::Client(address)),
        (None, _) => None,
    }
}
