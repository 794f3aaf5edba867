//! What systemd passes on to a service, and what it is told.

use std::env;
use std::io;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};

use listenfd::ListenFd;

/// The variable that names the socket on which systemd is told of a service's state.
const NOTIFY: &str = "NOTIFY_SOCKET";

/// A listening socket that was open before this process began.
#[derive(Debug)]
pub(super) enum Passed {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The sockets that this process was started with, as `LISTEN_FDS` says; none the second time.
pub(super) fn passed_sockets() -> io::Result<Vec<Passed>> {
    let mut passed = ListenFd::from_env();
    let mut sockets = Vec::with_capacity(passed.len());
    for at in 0..passed.len() {
        let tcp = passed.take_tcp_listener(at).ok().flatten().map(Passed::Tcp);
        let socket = match tcp {
            Some(socket) => Some(socket),
            None => passed.take_unix_listener(at)?.map(Passed::Unix),
        };
        sockets.extend(socket);
    }
    Ok(sockets)
}

/// Tells the service manager of this process' state, where it wants to know: `READY=1`, `STOPPING=1`.
pub fn notify(state: &str) {
    let Some(name) = env::var_os(NOTIFY) else { return };
    let told = (|| {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(&name)?,
        };
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)
    })();
    if let Err(error) = told {
        tracing::warn!(%error, state, "the service manager can't be told; it may take this server for one that doesn't start");
    }
}
