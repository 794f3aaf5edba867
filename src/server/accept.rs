//! The accept loop.

use std::convert::Infallible;
use std::fmt::Display;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::ConnectInfo;
use futures_util::FutureExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::Limits;
use crate::http::{Peer, Respond};
use crate::telemetry::Metrics;

use super::crowd::Crowd;
use super::stall::{TimedBody, TimedIo};
use super::streams::{Activity, StreamTasks};
use super::strict::StrictIo;

/// The memory that one connection may take for data on its way in or out.
const CONNECTION_BUFFER: usize = 256 * 1024;

/// How many headers hyper takes where nothing else is said.
const USUAL_HEADERS: usize = 100;

/// The most requests that a client may send at once over one connection by HTTP/2.
const MAX_STREAMS: u32 = 128;

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

/// The longest time that a connection may take until HTTP can be spoken on it.
const ESTABLISH_TIME: Duration = Duration::from_secs(10);

/// Where connections come from.
pub trait Listen: Send + 'static {
    /// A connection of which nothing was read.
    type Incoming: Send + 'static;
    /// A connection on which HTTP is spoken.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Who is at its other end; handlers find it in a request's extensions, as axum's `ConnectInfo`.
    type Peer: Display + Clone + Send + Sync + 'static;

    /// Whose connections are counted together; none where they aren't counted.
    fn address(peer: &Self::Peer) -> Option<IpAddr> {
        let _ = peer;
        None
    }

    /// Accepts the next connection, without waiting for anything that the other end sends.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Incoming, Self::Peer)>> + Send;

    /// What has to happen before HTTP can be spoken; in the connection's own task, and within a time limit.
    fn establish(
        &self,
        incoming: Self::Incoming,
        peer: Self::Peer,
    ) -> impl Future<Output = io::Result<Established<Self::Stream, Self::Peer>>> + Send + 'static;
}

/// A connection that is ready for requests.
#[derive(Debug)]
pub struct Established<S, P> {
    /// The connection.
    pub stream: S,
    /// Who is at its other end, as far as is known by now.
    pub peer: P,
    /// What is spoken on it.
    pub protocol: Protocol,
}

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 and 1.0.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Listen for TcpListener {
    type Incoming = TcpStream;
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

    fn establish(
        &self,
        stream: TcpStream,
        peer: Peer,
    ) -> impl Future<Output = io::Result<Established<TcpStream, Peer>>> + Send + 'static {
        std::future::ready(Ok(Established { stream, peer, protocol: Protocol::Http1 }))
    }
}

/// Serves `wire` on `listener` until `stop` is ready, then drains.
///
/// No connection is left when this returns: those that haven't ended in `limits.drain_timeout` are cut.
pub async fn serve<L: Listen>(
    listener: L,
    wire: impl Respond,
    limits: &Limits,
    metrics: &Metrics,
    stop: impl Future<Output = ()>,
) -> Drained {
    let mut places = Places::new(limits.connections);
    let http = Http::new(limits);
    let crowd = Crowd::new(limits.connections_per_address, limits.proxies.clone());
    let graceful = GracefulShutdown::new();
    // Dropped when the server stops.
    let (going_on, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);

    loop {
        let next = async {
            let permit = places.take(metrics).await;
            (permit, accept(&listener).await)
        };
        let (permit, (incoming, peer)) = tokio::select! {
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
        let establishing = listener.establish(incoming, peer.clone());
        let task = (http.clone(), wire.clone(), graceful.watcher(), stopping.clone());
        let open = metrics.connection_opened();
        connections.spawn(async move {
            let (http, wire, watcher, mut stopping) = task;
            let established = tokio::select! {
                biased;
                established = http.in_time(establishing) => established,
                _ = stopping.changed() => return,
            };
            let result = match established {
                Ok(established) => http.serve(established, wire, watcher, stopping).await,
                Err(error) => Err(error.to_string()),
            };
            drop((permit, open, place));
            if let Err(error) = result {
                // Ends that are the client's own doing: a hang-up, a time-out, something that isn't HTTP or TLS.
                tracing::debug!(%peer, error, "connection ended early");
            }
        });
    }

    drop((listener, going_on));
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
    http.streams.shutdown().await;
    if drained.is_ok() { Drained::Completely } else { Drained::Cut(cut) }
}

/// How HTTP is spoken on each connection.
#[derive(Debug, Clone)]
struct Http {
    http1: http1::Builder,
    http2: http2::Builder<StreamTasks>,
    /// What answers the requests that come by HTTP/2.
    streams: StreamTasks,
    establish_time: Duration,
    header_timeout: Duration,
    first_byte_timeout: Duration,
    idle_timeout: Duration,
}

impl Http {
    fn new(limits: &Limits) -> Http {
        let mut http1 = http1::Builder::new();
        http1.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout);
        http1.max_buf_size(CONNECTION_BUFFER).max_header_size(limits.header_size);
        if limits.header_count != USUAL_HEADERS {
            // Any other number costs hyper an allocation for each request.
            http1.max_headers(limits.header_count);
        }
        let streams = StreamTasks::default();
        let mut http2 = http2::Builder::new(streams.clone());
        http2.timer(TokioTimer::new()).keep_alive_interval(limits.idle_timeout);
        http2
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(limits.header_size.try_into().unwrap_or(u32::MAX));
        http2.max_send_buf_size(CONNECTION_BUFFER);
        Http {
            http1,
            http2,
            streams,
            establish_time: limits.header_timeout.min(ESTABLISH_TIME),
            header_timeout: limits.header_timeout,
            first_byte_timeout: limits.first_byte_timeout,
            idle_timeout: limits.idle_timeout,
        }
    }

    async fn in_time<T>(&self, establishing: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let in_time = tokio::time::timeout(self.establish_time, establishing).await;
        in_time.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was agreed in time")))
    }

    /// Answers the requests of a connection until it ends; an error says why it ended early.
    async fn serve<S, P>(
        self,
        established: Established<S, P>,
        wire: impl Respond,
        watcher: Watcher,
        mut stopping: watch::Receiver<()>,
    ) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        P: Clone + Send + Sync + 'static,
    {
        let Established { stream, peer, protocol } = established;
        let (first_byte_timeout, idle_timeout) = (self.first_byte_timeout, self.idle_timeout);
        let io = TokioIo::new(TimedIo::new(StrictIo::new(stream), idle_timeout));
        let respond = move |request: Request<Incoming>| {
            let mut request = request.map(|body| {
                if body.is_end_stream() {
                    Body::empty()
                } else {
                    Body::new(TimedBody::new(body, first_byte_timeout, idle_timeout))
                }
            });
            request.extensions_mut().insert(ConnectInfo(peer.clone()));
            wire.clone().respond(request).map(Ok::<_, Infallible>)
        };
        match protocol {
            Protocol::Http1 => {
                let served = watcher.watch(self.http1.serve_connection(io, service_fn(respond))).await;
                served.map_err(|error| with_cause(&error))
            }
            Protocol::Http2 => {
                let activity = Activity::default();
                let begun = activity.clone();
                let service = service_fn(move |request| {
                    let answering = begun.begin();
                    respond(request)
                        .map(|answer| answer.map(|answer| answer.map(|body| answering.until_taken(body))))
                });
                let mut connection = pin!(self.http2.serve_connection(io, service));
                let stuck = || format!("the client took nothing for {} s", idle_timeout.as_secs_f64());
                let (mut is_ending, mut is_idle) = (false, false);
                let served = loop {
                    tokio::select! {
                        served = connection.as_mut() => break served,
                        _ = stopping.changed(), if !is_ending => {}
                        () = activity.ended(self.header_timeout), if !is_ending => is_idle = true,
                        () = activity.stuck(idle_timeout) => return Err(stuck()),
                        // What was given to the connection and not taken from it.
                        () = tokio::time::sleep(idle_timeout), if is_idle => return Err(stuck()),
                    }
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                };
                // The drain waits for it.
                drop(watcher);
                served.map_err(|error| with_cause(&error))
            }
        }
    }
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
async fn accept<L: Listen>(listener: &L) -> (L::Incoming, L::Peer) {
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
pub(super) fn report(ended: Result<(), tokio::task::JoinError>) {
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
