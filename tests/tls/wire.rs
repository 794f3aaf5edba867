//! Connections with TLS, one by one.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use super::authority::{Authority, Signed};

/// How a client connects.
pub(crate) struct Client<'a> {
    pub(crate) authority: &'a Authority,
    pub(crate) certificate: Option<&'a Signed>,
    pub(crate) versions: &'a [&'static SupportedProtocolVersion],
    pub(crate) protocols: &'a [&'a str],
}

/// A connection that was agreed on.
pub(crate) struct Wire(StreamOwned<ClientConnection, TcpStream>);

/// An answer: its status, its head in lower case, and its body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    #[allow(dead_code, reason = "shown where a test fails")]
    pub(crate) body: Vec<u8>,
}

impl<'a> Client<'a> {
    pub(crate) fn of(authority: &'a Authority) -> Client<'a> {
        Client { authority, certificate: None, versions: rustls::ALL_VERSIONS, protocols: &[] }
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(self.versions);
        let builder = builder.unwrap().with_root_certificates(roots);
        let mut config = match self.certificate {
            Some(signed) => {
                builder.with_client_auth_cert(vec![signed.certificate.clone()], signed.key()).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// Connects; with TLS 1.3 a server's refusal of a client's certificate shows with the first answer only.
    pub(crate) fn connect(&self, address: SocketAddr) -> io::Result<Wire> {
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(self.config(), name).unwrap();
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut wire = Wire(StreamOwned::new(connection, stream));
        while wire.0.conn.is_handshaking() {
            wire.0.conn.complete_io(&mut wire.0.sock)?;
        }
        Ok(wire)
    }

    /// Connects and asks for something.
    pub(crate) fn get(&self, address: SocketAddr, path: &str, headers: &str) -> io::Result<Answer> {
        self.connect(address)?.get(path, headers)
    }
}

impl Wire {
    /// The certificate that the server has shown.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.0.conn.peer_certificates().unwrap()[0].clone()
    }

    pub(crate) fn protocol(&self) -> Option<String> {
        self.0.conn.alpn_protocol().map(|name| String::from_utf8(name.to_vec()).unwrap())
    }

    /// Asks for something and leaves the connection open.
    pub(crate) fn get(&mut self, path: &str, headers: &str) -> io::Result<Answer> {
        write!(self.0, "GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte)?;
            head.extend(byte);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.0.read_exact(&mut body)?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Ok(Answer { status, head, body })
    }
}
