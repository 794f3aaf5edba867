//! The beginning of a connection with TLS.

use std::io;

use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;

use crate::http::Peer;
use crate::server::accept::{Established, Protocol};
use crate::server::connection::Connection;

use super::{ACME_PROTOCOL, HTTP_2, Tls, client};

/// What a client is told that speaks HTTP without TLS.
const PLAIN: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
    This port speaks TLS: come by https://\n";

/// The most bytes of a misguided request that are read, so that its client gets to read the answer.
const PLAIN_BYTES: u64 = 64 * 1024;

impl Tls {
    /// Agrees with the client on what is spoken. Takes as long as the client does.
    pub(in crate::server) async fn establish(
        self,
        stream: TcpStream,
        peer: Peer,
    ) -> io::Result<Established<Connection, Peer>> {
        let mut first = [0];
        stream.peek(&mut first).await?;
        if first[0].is_ascii_uppercase() {
            // No record of TLS begins with a letter, and every request of HTTP does.
            answer_plain(stream).await?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it speaks HTTP without TLS"));
        }
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let is_authority = |hello: &rustls::server::ClientHello<'_>| {
            hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == ACME_PROTOCOL))
        };
        let proof = Some(start.client_hello())
            .filter(is_authority)
            .and_then(|hello| self.challenges().of(hello.server_name()?));
        if let Some(proof) = proof {
            start.into_stream(proof).await?.shutdown().await?;
            return Err(io::Error::other("an authority has seen whose the name is"));
        }
        let none = || io::Error::other("there is no certificate yet");
        let config = self.current().config.ok_or_else(none)?;
        let stream = start.into_stream(config).await?;
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(|chain| chain.first()).and_then(client::name);
        let protocol =
            if session.alpn_protocol() == Some(HTTP_2) { Protocol::Http2 } else { Protocol::Http1 };
        let peer = Peer { is_secure: true, certificate, ..peer };
        Ok(Established { stream: Connection::Tls(Box::new(stream)), peer, protocol })
    }
}

/// Tells a client that hasn't begun with TLS that it has to.
async fn answer_plain(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(PLAIN.as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(PLAIN_BYTES), &mut tokio::io::sink()).await?;
    Ok(())
}
