//! The accept loop, seen from raw connections: limits, time-outs and the drain.
#![expect(clippy::unwrap_used, reason = "in a test, whatever is not as it should be is a failure")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::{get, post};
use orlop::config::{Config, Limits};
use orlop::server::{Drained, serve};
use orlop::telemetry::{Metrics, StorageMetrics};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

/// Long enough that no test reaches it.
const NEVER: Duration = Duration::from_secs(600);
/// Short enough to wait for.
const SOON: Duration = Duration::from_millis(50);

struct Running {
    address: SocketAddr,
    metrics: Metrics,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Drained>,
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Waits until the metrics contain `line`.
    async fn shows(&self, line: &str) {
        while !self.metrics.render().contains(line) {
            tokio::task::yield_now().await;
        }
    }

    async fn stop(self) -> Drained {
        self.stop.send(()).unwrap();
        self.ended.await.unwrap()
    }
}

fn limits() -> Limits {
    Limits {
        connections: 16,
        header_timeout: NEVER,
        idle_timeout: NEVER,
        drain_timeout: NEVER,
        ..Config::default().limits
    }
}

async fn start(router: Router, limits: Limits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Metrics::new(&StorageMetrics::default());
    let (stop, stopped) = oneshot::channel::<()>();
    let loop_metrics = metrics.clone();
    let ended = tokio::spawn(async move {
        serve(listener, router, &limits, &loop_metrics, async {
            let _ = stopped.await;
        })
        .await
    });
    Running { address, metrics, stop, ended }
}

fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello" })).route("/count", post(count))
}

async fn count(body: Result<Bytes, axum::extract::rejection::BytesRejection>) -> (StatusCode, String) {
    match body {
        Ok(bytes) => (StatusCode::OK, bytes.len().to_string()),
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "cut".to_owned()),
    }
}

/// A route that answers when it is told to.
fn gated() -> (Router, Arc<Notify>, Arc<Notify>) {
    let (begun, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&begun), Arc::clone(&gate));
    let handler = move || async move {
        tell.notify_one();
        wait.notified().await;
        "done"
    };
    (hello().route("/slow", get(handler)), begun, gate)
}

async fn send(stream: &mut TcpStream, request: &str) {
    stream.write_all(request.as_bytes()).await.unwrap();
}

/// Reads up to the end of `marker`.
async fn read_until(stream: &mut TcpStream, marker: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(marker) {
        text.push(char::from(stream.read_u8().await.expect("the answer is complete")));
    }
    text
}

/// Everything until the server closes the connection.
async fn read_to_close(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is a close too.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a_connection_serves_several_requests() {
    let server = start(hello(), limits()).await;
    let mut stream = server.connect().await;
    for _ in 0..3 {
        send(&mut stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        read_until(&mut stream, "hello").await;
    }
    server.shows("orlop_connections_accepted_total 1\n").await;
    assert_eq!(server.stop().await, Drained::Completely);
}

#[tokio::test]
async fn a_head_that_does_not_arrive_in_time_ends_the_connection() {
    let server = start(hello(), Limits { header_timeout: SOON, ..limits() }).await;
    let mut silent = server.connect().await;
    let mut slow = server.connect().await;
    send(&mut slow, "GET / HTTP/1.1\r\nHost:").await;
    read_to_close(&mut silent).await;
    read_to_close(&mut slow).await;
    server.shows("orlop_connections 0\n").await;
}

#[tokio::test]
async fn a_connection_that_is_kept_open_without_use_is_closed() {
    // Long enough for the request, also where the machine is busy.
    let server = start(hello(), Limits { header_timeout: SOON * 20, ..limits() }).await;
    let mut stream = server.connect().await;
    send(&mut stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = read_to_close(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
}

#[tokio::test]
async fn a_body_that_stands_still_ends_with_an_error_for_its_handler() {
    let server = start(hello(), Limits { first_byte_timeout: SOON, idle_timeout: SOON, ..limits() }).await;
    let mut stream = server.connect().await;
    send(&mut stream, "POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345").await;
    let answer = read_to_close(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn time_that_the_handler_takes_is_not_the_clients() {
    let (router, begun, gate) = gated();
    let server = start(router, Limits { first_byte_timeout: SOON, idle_timeout: SOON, ..limits() }).await;
    let mut stream = server.connect().await;
    send(&mut stream, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
    begun.notified().await;
    // Another connection stalls and is cut meanwhile, so the limit has passed here too.
    let mut stalled = server.connect().await;
    send(&mut stalled, "POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n").await;
    read_to_close(&mut stalled).await;
    gate.notify_one();
    read_until(&mut stream, "done").await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_given_up() {
    let large = Router::new().route("/", get(|| async { vec![0_u8; 64 << 20] }));
    let server = start(large, Limits { idle_timeout: SOON, ..limits() }).await;
    let mut stream = server.connect().await;
    send(&mut stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    server.shows("orlop_connections_accepted_total 1\n").await;
    server.shows("orlop_connections 0\n").await;
}

#[tokio::test]
async fn a_connection_over_the_limit_waits_until_another_ends() {
    let server = start(hello(), Limits { connections: 1, ..limits() }).await;
    let mut first = server.connect().await;
    send(&mut first, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    read_until(&mut first, "hello").await;
    let mut second = server.connect().await;
    send(&mut second, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    server.shows("orlop_connections_delayed_total 1\n").await;
    server.shows("orlop_connections_accepted_total 1\n").await;
    drop(first);
    read_until(&mut second, "hello").await;
    server.shows("orlop_connections_accepted_total 2\n").await;
}

#[tokio::test]
async fn a_panicking_handler_costs_its_own_connection_only() {
    async fn panics() -> &'static str {
        panic!("a defect");
    }
    let server = start(hello().route("/panic", get(panics)), limits()).await;
    let mut unlucky = server.connect().await;
    let mut other = server.connect().await;
    send(&mut unlucky, "GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").await;
    read_to_close(&mut unlucky).await;
    send(&mut other, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    read_until(&mut other, "hello").await;
}

#[tokio::test]
async fn a_stop_lets_running_requests_finish_and_accepts_no_more() {
    let (router, begun, gate) = gated();
    let server = start(router, limits()).await;
    let mut idle = server.connect().await;
    send(&mut idle, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    read_until(&mut idle, "hello").await;
    let mut running = server.connect().await;
    send(&mut running, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
    begun.notified().await;

    let address = server.address;
    let ended = tokio::spawn(server.stop());
    read_to_close(&mut idle).await;
    // The port is closed before the idle connections are, so this can't be accepted any more.
    assert!(TcpStream::connect(address).await.is_err());
    gate.notify_one();
    let answer = read_to_close(&mut running).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("done"), "{answer}");
    assert_eq!(ended.await.unwrap(), Drained::Completely);
}

#[tokio::test]
async fn a_drain_ends_when_its_time_is_over() {
    let (router, begun, _gate) = gated();
    let server = start(router, Limits { drain_timeout: SOON, ..limits() }).await;
    let mut running = server.connect().await;
    send(&mut running, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await;
    begun.notified().await;
    assert_eq!(server.stop().await, Drained::Cut(1));
    assert_eq!(read_to_close(&mut running).await, "");
}
