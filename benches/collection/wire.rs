//! A registry on a port, and a client that pushes to it over one connection.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use orlop::http::{Respond, Service, Wire};
use orlop::registry::Registry;
use orlop::telemetry::{Metrics, StorageMetrics};
use tokio::net::TcpListener;

/// Serves the registry on a port of the loopback interface until the runtime ends.
pub(crate) async fn serve(registry: Registry) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let metrics = Metrics::new(&StorageMetrics::default());
    let wire = Wire::new(Service::new(registry, metrics));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a client connects");
            stream.set_nodelay(true).expect("an option can be set");
            let wire = wire.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = wire.clone().respond(request.map(Body::new));
                async move { Ok::<_, Infallible>(answer.await) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// A connection to the registry.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(to: SocketAddr) -> Client {
        let stream = TcpStream::connect(to).expect("the server accepts");
        stream.set_nodelay(true).expect("an option can be set");
        Client { stream: BufReader::new(stream) }
    }

    /// Sends a request and reads its answer, which must be 201.
    pub(crate) fn create(&mut self, method: &str, target: &str, media_type: &str, body: &[u8]) {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: registry\r\nContent-Type: {media_type}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        let request = [head.as_bytes(), body].concat();
        self.stream.get_mut().write_all(&request).expect("the server reads");
        let mut line = String::new();
        let (mut status, mut length) = (String::new(), 0);
        loop {
            line.clear();
            assert!(self.stream.read_line(&mut line).expect("the server writes") > 0, "it has hung up");
            let text = line.trim_end();
            if text.is_empty() {
                break;
            }
            if status.is_empty() {
                text.clone_into(&mut status);
            }
            if let Some((name, value)) = text.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        std::io::Read::read_exact(&mut self.stream, &mut body).expect("the server writes");
        assert!(status.starts_with("HTTP/1.1 201"), "{status}: {}", String::from_utf8_lossy(&body));
    }
}
