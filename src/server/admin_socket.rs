//! The socket in the data directory, on which the admin API is served.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::geteuid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::fsio::{FileError, bind_socket, remove_socket};
use crate::http::admin::LocalPeer;

use super::accept::{Established, Listen, Protocol};

/// The socket's name in the data directory.
pub const ADMIN_SOCKET: &str = "admin.sock";

/// What a connection of somebody else's is answered.
const REFUSAL: &str = "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n\
    {\"errors\":[{\"code\":\"DENIED\",\"message\":\"run this as root, or as the user who runs the server\"}]}";

/// The time that such a connection is kept.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// A listening socket in a data directory that this process has locked.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    data: PathBuf,
}

impl AdminSocket {
    /// Listens in the directory `data`, replacing a socket that another server has left there.
    pub fn bind(data: &Path) -> Result<Self, FileError> {
        let failed = |source| FileError { operation: "listen on", path: data.join(ADMIN_SOCKET), source };
        let listener = bind_socket(data, ADMIN_SOCKET)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        Ok(Self { listener, data: data.to_owned() })
    }
}

impl Listen for AdminSocket {
    type Incoming = UnixStream;
    type Stream = UnixStream;
    type Peer = LocalPeer;

    /// Accepts the next connection of root or of this process' own user. The socket's mode keeps others away already;
    /// this holds where somebody has changed it.
    async fn accept(&self) -> io::Result<(UnixStream, LocalPeer)> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let peer = LocalPeer { uid: stream.peer_cred()?.uid() };
            if may_administrate(peer) {
                return Ok((stream, peer));
            }
            tracing::warn!(%peer, "refused a connection to the admin socket");
            tokio::spawn(tokio::time::timeout(REFUSAL_TIME, refuse(stream)));
        }
    }

    fn establish(
        &self,
        stream: UnixStream,
        peer: LocalPeer,
    ) -> impl Future<Output = io::Result<Established<UnixStream, LocalPeer>>> + Send + 'static {
        std::future::ready(Ok(Established { stream, peer, protocol: Protocol::Http1 }))
    }
}

/// Waits for a request, says why it is refused, and waits for the client to hang up: closing a connection before its
/// request was read breaks the answer off.
async fn refuse(mut stream: UnixStream) -> io::Result<()> {
    stream.read_u8().await?;
    stream.write_all(REFUSAL.as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(())
}

fn may_administrate(peer: LocalPeer) -> bool {
    peer.uid == 0 || peer.uid == geteuid().as_raw()
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // The directory is still locked, so that this is no other server's.
        if let Err(error) = remove_socket(&self.data, ADMIN_SOCKET) {
            tracing::warn!(%error, "the admin socket is left behind; the next start replaces it");
        }
    }
}
