//! The sockets that connections come by.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config;
use crate::fsio::{FileError, PublicSocket};
use crate::http::Peer;

use super::accept::{Established, Listen, Protocol};
use super::connection::Connection;
use super::systemd::{Passed, passed_sockets};
use super::tls::Tls;

/// Why connections can't be accepted; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address can't be listened on.
    #[error("cannot listen on {address}: {}", advice_about_address(source, *address))]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The Unix socket can't be made.
    #[error("{source}. Choose another path with --listen unix:PATH, in a directory that orlop may write to")]
    Unix {
        /// Why.
        #[from]
        source: FileError,
    },
    /// What systemd passes on can't be used.
    #[error(
        "cannot use the sockets that systemd passes on: {0}. Correct the .socket unit: it has to listen by ListenStream"
    )]
    Passed(io::Error),
    /// Systemd passes nothing on.
    #[error(
        "`listen` says systemd, which has passed no socket on. Start orlop by a .socket unit, or listen on an address with \
         --listen 127.0.0.1:5000"
    )]
    NonePassed,
}

fn advice_about_address(error: &io::Error, address: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another program uses port {}. Stop it, or choose another port with --listen {}:{}",
            address.port(),
            if address.is_ipv6() { format!("[{}]", address.ip()) } else { address.ip().to_string() },
            if address.port() == u16::MAX { 5000 } else { address.port() + 1 },
        ),
        io::ErrorKind::PermissionDenied => format!(
            "port {} is reserved for the administrator. Choose one above 1023 with --listen, for example port 5000",
            address.port()
        ),
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address. Use 127.0.0.1, 0.0.0.0 (all addresses) or one of its own"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An address, with the port that was taken where port 0 was asked for.
    Address(SocketAddr),
    /// A Unix socket; systemd's may have no path.
    Unix(PathBuf),
}

impl Place {
    /// The address, unless it is a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// Whether only programs of this machine reach it.
    pub fn is_this_machine(&self) -> bool {
        self.address().is_none_or(|address| address.ip().to_canonical().is_loopback())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Every socket that a server listens on. With TLS it is spoken on all but Unix sockets, which proxies connect to.
#[derive(Debug)]
pub(super) struct Sockets {
    all: Vec<Socket>,
    tls: Option<Tls>,
    /// The one that is looked at first, so that none waits for another that is never idle.
    first: AtomicUsize,
}

#[derive(Debug)]
struct Socket {
    place: Place,
    listener: Listener,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
    /// One of our own, which goes with it.
    OwnUnix(
        UnixListener,
        #[expect(dead_code, reason = "removes the socket when it is dropped")] PublicSocket,
    ),
}

impl Sockets {
    /// Listens at all these places, or at none.
    pub(super) async fn bind(
        listen: &[config::Listen],
        mode: u32,
        tls: Option<Tls>,
    ) -> Result<Sockets, ListenError> {
        let mut sockets = Vec::new();
        for place in listen {
            match place {
                config::Listen::Address(address) => sockets.push(Socket::bind(*address).await?),
                config::Listen::Unix(path) => sockets.push(Socket::bind_unix(path, mode)?),
                config::Listen::Systemd => {
                    let passed = passed_sockets().map_err(ListenError::Passed)?;
                    if passed.is_empty() {
                        return Err(ListenError::NonePassed);
                    }
                    for socket in passed {
                        sockets.push(Socket::passed(socket).map_err(ListenError::Passed)?);
                    }
                }
            }
        }
        Ok(Sockets { all: sockets, tls, first: AtomicUsize::new(0) })
    }

    /// Where they are.
    pub(super) fn places(&self) -> Vec<Place> {
        self.all.iter().map(|socket| socket.place.clone()).collect()
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Incoming, Peer)>> {
        let first = self.first.fetch_add(1, Ordering::Relaxed);
        for at in 0..self.all.len() {
            let socket = &self.all[first.wrapping_add(at) % self.all.len()];
            if let Poll::Ready(accepted) = socket.poll_accept(cx) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }
}

impl Socket {
    async fn bind(address: SocketAddr) -> Result<Socket, ListenError> {
        let failed = |source| ListenError::Address { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let place = Place::Address(listener.local_addr().map_err(failed)?);
        Ok(Socket { place, listener: Listener::Tcp(listener) })
    }

    fn bind_unix(path: &Path, mode: u32) -> Result<Socket, ListenError> {
        let failed = |source| ListenError::Unix { source: FileError::new("listen on", path, source) };
        let (listener, socket) = PublicSocket::bind(path, mode)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        Ok(Socket { place: Place::Unix(path.to_owned()), listener: Listener::OwnUnix(listener, socket) })
    }

    fn passed(passed: Passed) -> io::Result<Socket> {
        Ok(match passed {
            Passed::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                let place = Place::Address(listener.local_addr()?);
                Socket { place, listener: Listener::Tcp(TcpListener::from_std(listener)?) }
            }
            Passed::Unix(listener) => {
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                let path = address.as_pathname().map_or_else(|| PathBuf::from("systemd"), Path::to_owned);
                Socket {
                    place: Place::Unix(path),
                    listener: Listener::Unix(UnixListener::from_std(listener)?),
                }
            }
        })
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Incoming, Peer)>> {
        match &self.listener {
            Listener::Tcp(listener) => listener.poll_accept(cx).map_ok(|(stream, address)| {
                // Only latency suffers where this can't be set.
                let _ = stream.set_nodelay(true);
                (Incoming::Tcp(stream), Peer::plain(address))
            }),
            Listener::Unix(listener) | Listener::OwnUnix(listener, _) => {
                listener.poll_accept(cx).map_ok(|(stream, _)| (Incoming::Unix(stream), Peer::default()))
            }
        }
    }
}

/// A connection of which nothing was read.
#[derive(Debug)]
pub(super) enum Incoming {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl Listen for Sockets {
    type Incoming = Incoming;
    type Stream = Connection;
    type Peer = Peer;

    fn address(peer: &Peer) -> Option<IpAddr> {
        peer.address.map(|address| address.ip())
    }

    async fn accept(&self) -> io::Result<(Incoming, Peer)> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn establish(
        &self,
        incoming: Incoming,
        peer: Peer,
    ) -> impl Future<Output = io::Result<Established<Connection, Peer>>> + Send + 'static {
        let tls = self.tls.clone();
        async move {
            let plain = |stream, peer| Established { stream, peer, protocol: Protocol::Http1 };
            match (incoming, tls) {
                (Incoming::Unix(stream), _) => Ok(plain(Connection::Unix(stream), peer)),
                (Incoming::Tcp(stream), None) => Ok(plain(Connection::Tcp(stream), peer)),
                (Incoming::Tcp(stream), Some(tls)) => tls.establish(stream, peer).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_occupied_port_comes_with_the_flag_for_another() {
        let address = SocketAddr::from(([127, 0, 0, 1], 5000));
        let error = ListenError::Address { address, source: io::ErrorKind::AddrInUse.into() };
        assert!(error.to_string().ends_with("--listen 127.0.0.1:5001"), "{error}");
    }

    #[test]
    fn only_other_machines_are_elsewhere() {
        for (text, is_here) in [
            ("127.3.2.1:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.0.2.1:1", false),
        ] {
            assert_eq!(Place::Address(text.parse().unwrap()).is_this_machine(), is_here, "{text}");
        }
        assert!(Place::Unix(PathBuf::from("/run/x")).is_this_machine());
    }
}
