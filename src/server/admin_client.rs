//! The other end of the admin socket.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustix::process::geteuid;
use tokio::net::UnixStream;

use crate::fsio::connect_socket;

use super::ADMIN_SOCKET;

/// A connection to the server that works on a data directory.
#[derive(Debug)]
pub struct AdminClient {
    sender: http1::SendRequest<UnsyncBoxBody<Bytes, io::Error>>,
}

impl AdminClient {
    /// Connects to the server of the directory `data`. Without one the error is `NotFound` or `ConnectionRefused`.
    pub async fn connect(data: &Path) -> io::Result<Self> {
        let stream = connect_socket(data, ADMIN_SOCKET)?;
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        let (server, owner) = (stream.peer_cred()?.uid(), std::fs::metadata(data)?.uid());
        // In a directory that others can write to, anybody could have put a socket of that name.
        if ![owner, 0, geteuid().as_raw()].contains(&server) {
            return Err(io::Error::other(format!(
                "{ADMIN_SOCKET} is answered by user {server}, and the data directory belongs to user {owner}"
            )));
        }
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // Ends with the sender; what goes wrong is told to whoever waits for an answer.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Sends one request.
    pub async fn call(
        &mut self,
        mut request: Request<UnsyncBoxBody<Bytes, io::Error>>,
    ) -> io::Result<Response<Incoming>> {
        request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
        // The answer before may still be on its way out.
        self.sender.ready().await.map_err(io::Error::other)?;
        self.sender.send_request(request).await.map_err(io::Error::other)
    }
}
