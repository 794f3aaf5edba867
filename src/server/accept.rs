//! The accept loop.

use std::fmt::Display;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::Limits;
use crate::http::Peer;
use crate::telemetry::Metrics;

use super::crowd::Crowd;
use super::stall::{TimedBody, TimedIo};

/// The memory that one connection may take for data on its way in or out.
const CONNECTION_BUFFER: usize = 256 * 1024;

/// How many headers hyper takes where nothing else is said.
const USUAL_HEADERS: usize = 100;

/// The pause after a failed accept, which is nearly always a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The pause between two warnings that the limit of connections is reached.
const WARNING_PAUSE: Duration = Duration::from_secs(60);

/// How the accept loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every running request was answered.
    Completely,
    /// This many connections were still open when the drain's time was over, and were cut.
    Cut(usize),
}

/// Where connections come from.
pub trait Listen: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Who is at its other end; handlers find it in a request's extensions, as axum's `ConnectInfo`.
    type Peer: Display + Clone + Send + Sync + 'static;

    /// Whose connections are counted together; none where they aren't counted.
    fn address(peer: &Self::Peer) -> Option<IpAddr> {
        let _ = peer;
        None
    }

    /// Accepts the next connection.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Self::Peer)>> + Send;
}

impl Listen for TcpListener {
    type Stream = TcpStream;
    type Peer = Peer;

    fn address(peer: &Peer) -> Option<IpAddr> {
        peer.address.map(|address| address.ip())
    }

    async fn accept(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        // Only latency suffers where this can't be set.
        let _ = stream.set_nodelay(true);
        Ok((stream, Peer::plain(peer)))
    }
}

/// Serves `router` on `listener` until `stop` is ready, then drains.
///
/// No connection is left when this returns: those that haven't ended in `limits.drain_timeout` are cut.
pub async fn serve<L: Listen>(
    listener: L,
    router: Router,
    limits: &Limits,
    metrics: &Metrics,
    stop: impl Future<Output = ()>,
) -> Drained {
    let mut places = Places::new(limits.connections);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout).max_buf_size(CONNECTION_BUFFER);
    http.max_header_size(limits.header_size);
    if limits.header_count != USUAL_HEADERS {
        // Any other number costs hyper an allocation for each request.
        http.max_headers(limits.header_count);
    }
    let crowd = Crowd::new(limits.connections_per_address, limits.proxies.clone());
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);

    loop {
        let next = async {
            let permit = places.take(metrics).await;
            (permit, accept(&listener).await)
        };
        let (permit, (stream, peer)) = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = next => accepted,
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
        };
        let Some(place) = crowd.enter(L::address(&peer)) else {
            metrics.connection_refused();
            continue;
        };
        let service = {
            let router = TowerToHyperService::new(router.clone());
            let (first, idle) = (limits.first_byte_timeout, limits.idle_timeout);
            let peer = peer.clone();
            service_fn(move |request: Request<Incoming>| {
                let mut request = request.map(|body| TimedBody::new(body, first, idle));
                request.extensions_mut().insert(ConnectInfo(peer.clone()));
                router.call(request)
            })
        };
        let io = TokioIo::new(TimedIo::new(stream, limits.idle_timeout));
        let connection = graceful.watch(http.serve_connection(io, service));
        let open = metrics.connection_opened();
        connections.spawn(async move {
            let result = connection.await;
            drop((permit, open, place));
            if let Err(error) = result {
                // Ends that are the client's own doing: a hang-up, a time-out, something that isn't HTTP.
                tracing::debug!(%peer, error = %with_cause(&error), "connection ended early");
            }
        });
    }

    drop(listener);
    while let Some(ended) = connections.try_join_next() {
        report(ended);
    }
    if !connections.is_empty() {
        tracing::info!(connections = connections.len(), "waiting for open connections to end");
    }
    let drained = tokio::time::timeout(limits.drain_timeout, graceful.shutdown()).await;
    while let Some(ended) = connections.try_join_next() {
        report(ended);
    }
    let cut = connections.len();
    connections.shutdown().await;
    if drained.is_ok() { Drained::Completely } else { Drained::Cut(cut) }
}

/// The places for open connections.
struct Places {
    permits: Arc<Semaphore>,
    limit: usize,
    warned: Option<Instant>,
}

impl Places {
    fn new(limit: usize) -> Self {
        let permits = Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
        Self { permits, limit, warned: None }
    }

    /// Waits until one more connection may be open.
    async fn take(&mut self, metrics: &Metrics) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return permit;
        }
        metrics.connection_limit_reached();
        if self.warned.is_none_or(|at| at.elapsed() > WARNING_PAUSE) {
            self.warned = Some(Instant::now());
            tracing::warn!(
                connections = self.limit,
                "as many connections are open as limits.connections allows; new ones wait"
            );
        }
        Arc::clone(&self.permits).acquire_owned().await.expect("nobody closes the semaphore")
    }
}

/// Accepts the next connection, however often that fails.
async fn accept<L: Listen>(listener: &L) -> (L::Stream, L::Peer) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Logs the panic of a connection's task; its client has lost that connection, and nobody else anything.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}

fn with_cause(error: &hyper::Error) -> String {
    use std::error::Error;
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}
