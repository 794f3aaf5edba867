//! What is said about each request: an id in the answer, one line in the log, and the metrics.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{Either, ready};
use http::header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, USER_AGENT};
use http::{Extensions, HeaderMap, HeaderValue, Method, Uri};
use http_body::{Frame, SizeHint};

use crate::clock::monotonic;
use crate::proxy::Source;
use crate::telemetry::{
    self, CacheAnswer, CacheKind, GaugeGuard, Metrics, RequestId, UpstreamMetrics, printable,
};

use super::audit::{Ended, Notes, is_job};
use super::errors::{ApiError, ErrorCode, Failure};
use super::forwarded::{Proxies, note_way};
use super::headers::{CONTENT_DIGEST, REQUEST_ID, UPLOAD_UUID};
use super::incoming::Incoming;
use super::limits::Guard;
use super::peer::{Remote, remote};

/// The status that the log and the metrics give to a request whose client left before it had an answer.
const CLIENT_LEFT: u16 = 499;

/// What becomes known of a request while it is handled; it stands in the request's extensions.
#[derive(Debug, Default)]
pub(super) struct Progress {
    received_bytes: AtomicU64,
    route: OnceLock<&'static str>,
    /// The upstream that content is of, and how the cache came by it.
    cache: OnceLock<(UpstreamMetrics, Option<Cached>)>,
    /// The name of the request; none where it came from this very process.
    id: Option<RequestId>,
    /// What is told of it besides.
    pub(super) notes: Notes,
}

/// What is told of the request with these extensions.
pub(super) fn notes(extensions: &Extensions) -> Option<&Notes> {
    extensions.get::<Arc<Progress>>().map(|progress| &progress.notes)
}

/// The name of the request with these extensions, which events tell of.
pub(super) fn request_id(extensions: &Extensions) -> Option<&RequestId> {
    extensions.get::<Arc<Progress>>()?.id.as_ref()
}

/// Names the route of the request with these extensions, for metrics and logs.
pub(super) fn set_route(extensions: &Extensions, name: &'static str) {
    if let Some(progress) = extensions.get::<Arc<Progress>>() {
        // Only the first name counts, and there is only one.
        let _ = progress.route.set(name);
    }
}

/// What an answer has of an upstream's content, and how the cache came by it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cached {
    pub(super) kind: CacheKind,
    pub(super) source: Source,
}

/// Names the upstream that the request is about, and what the answer has of it, for metrics and logs.
pub(super) fn set_cache(extensions: &Extensions, upstream: &UpstreamMetrics, cached: Option<Cached>) {
    if let Some(progress) = extensions.get::<Arc<Progress>>() {
        // There is one answer.
        let _ = progress.cache.set((upstream.clone(), cached));
    }
}

/// What every request passes.
#[derive(Debug, Clone)]
pub(super) struct Observer {
    pub(super) metrics: Metrics,
    /// The proxies that are believed.
    pub(super) proxies: Arc<Proxies>,
    /// The limits; none for the operator's own commands.
    pub(super) guard: Option<Arc<Guard>>,
}

/// Wraps the handlers of a router by [`observed`].
pub(super) async fn observe(State(observer): State<Observer>, request: Request, next: Next) -> Response {
    observed(&observer, request, |request| next.run(request)).await.map(Body::new)
}

/// Wraps every request: counts its bytes, answers its id, turns a panic into a 500, and speaks once at its end, which
/// is when the last byte of the answer has been taken, or the connection was lost. `answer` only begins to answer; what can panic is in
/// its future.
pub(super) fn observed<F: Future<Output = Response>>(
    observer: &Observer,
    request: Request,
    answer: impl FnOnce(Request) -> F,
) -> impl Future<Output = http::Response<ObservedBody>> {
    let (observation, admitted) = Observation::begin(observer, request);
    // All of it lies in the future once, which is copied as a whole before it begins.
    let answering = match admitted {
        Ok(request) => Either::Left(AssertUnwindSafe(answer(request)).catch_unwind()),
        Err(refusal) => Either::Right(ready(Ok(refusal))),
    };
    answering.map(|answered| observation.end(answered))
}

/// A request that is being answered.
struct Observation {
    line: Line,
    id: Option<HeaderValue>,
    is_head: bool,
}

impl Observation {
    /// Takes note of a request, which is refused where a limit is reached.
    fn begin(observer: &Observer, request: Request) -> (Observation, Result<Request, Response>) {
        let Observer { metrics, proxies, guard } = observer;
        let started = monotonic();
        let in_flight = metrics.request_started();
        let sent_id =
            request.headers().get(&REQUEST_ID).and_then(|id| id.to_str().ok()).and_then(RequestId::accept);
        let id = sent_id.unwrap_or_else(RequestId::generate);
        let id_value = HeaderValue::from_str(id.as_str()).ok();

        let (mut parts, body) = request.into_parts();
        note_way(proxies, &mut parts);
        hide_secrets(&mut parts.headers);
        let progress = Arc::new(Progress { id: Some(id), ..Progress::default() });
        let body = if body.is_end_stream() {
            body
        } else {
            Body::new(CountedBody { body, progress: Arc::clone(&progress) })
        };
        let line = Line {
            metrics: metrics.clone(),
            started,
            method: method_name(&parts.method),
            uri: parts.uri.clone(),
            remote: remote(&parts),
            user_agent: parts.headers.get(USER_AGENT).cloned(),
            status: CLIENT_LEFT,
            error: None,
            upload: None,
            digest: None,
            failure: None,
            progress: Arc::clone(&progress),
            is_audited: false,
            is_job: false,
            sent_bytes: 0,
            is_complete: false,
            _in_flight: in_flight,
        };
        parts.extensions.insert(progress);
        // An answer to HEAD is complete without the body that is made for it.
        let is_head = parts.method == Method::HEAD;
        let admitted = match guard.as_deref().map_or(Ok(()), |guard| guard.admit(&parts)) {
            Ok(()) => Ok(Request::from_parts(parts, body)),
            Err(refused) => {
                Incoming::new(&parts.headers, body).discard();
                Err(refused.into_response())
            }
        };
        (Observation { line, id: id_value, is_head }, admitted)
    }

    /// Takes note of the answer, and of its body as it leaves.
    fn end(self, answered: Result<Response, Box<dyn Any + Send>>) -> http::Response<ObservedBody> {
        let Observation { mut line, id, is_head } = self;
        let mut response = answered.unwrap_or_else(|panic| {
            ApiError::failure(format!("the request's handler panicked: {}", panic_message(panic.as_ref())))
                .into_response()
        });
        if let Some(id) = id {
            response.headers_mut().insert(REQUEST_ID.clone(), id);
        }
        line.status = response.status().as_u16();
        line.error = response.extensions().get::<ErrorCode>().map(|code| code.as_str());
        line.failure = response.extensions_mut().remove::<Failure>().map(|failure| failure.0);
        line.upload = response.headers().get(&UPLOAD_UUID).cloned();
        line.digest = response.headers().get(&CONTENT_DIGEST).cloned();
        line.is_job = is_job(response.headers());
        // What was done is done, whether or not anybody takes the answer.
        line.tell_audit(Some(line.status));
        response.map(|body| {
            line.is_complete = body.is_end_stream() || is_head;
            ObservedBody { body, line }
        })
    }
}

/// Keeps what shows who somebody is out of whatever prints a header.
fn hide_secrets(headers: &mut HeaderMap) {
    for (name, value) in headers.iter_mut() {
        if [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(name) {
            value.set_sensitive(true);
        }
    }
}

/// The method by HTTP's own name for it, from a closed set, since strangers choose methods.
fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}

fn text_of(value: Option<&HeaderValue>) -> Option<String> {
    value.map(|value| printable(value.as_bytes()))
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

/// What will be said about a request; it is said when this is dropped. Everything in it is as it came: it is put into words only where
/// the log has such lines.
#[derive(Debug)]
struct Line {
    metrics: Metrics,
    started: Instant,
    method: &'static str,
    uri: Uri,
    remote: Option<Remote>,
    user_agent: Option<HeaderValue>,
    status: u16,
    error: Option<&'static str>,
    upload: Option<HeaderValue>,
    digest: Option<HeaderValue>,
    /// What went wrong inside, if something did.
    failure: Option<String>,
    progress: Arc<Progress>,
    /// Whether what is told of it besides is told.
    is_audited: bool,
    is_job: bool,
    sent_bytes: u64,
    is_complete: bool,
    _in_flight: GaugeGuard,
}

/// Emits one event at a level that is known only when it happens.
macro_rules! event {
    ($level:ident, $line:ident, $took:ident, $($field:tt)*) => {
        tracing::$level!(
            request = $line.id(),
            method = $line.method,
            path = printable($line.uri.path().as_bytes()),
            route = $line.route(),
            status = $line.status,
            error = $line.error,
            received_bytes = $line.received_bytes(),
            sent_bytes = $line.sent_bytes,
            took_us = u64::try_from($took.as_micros()).unwrap_or(u64::MAX),
            remote = $line.remote.map(tracing::field::display),
            user_agent = text_of($line.user_agent.as_ref()),
            upload = text_of($line.upload.as_ref()),
            digest = text_of($line.digest.as_ref()),
            upstream = $line.upstream(),
            cache = $line.cache(),
            $($field)*
        )
    };
}

impl Line {
    fn tell_audit(&mut self, status: Option<u16>) {
        if std::mem::replace(&mut self.is_audited, true) {
            return;
        }
        self.progress.notes.tell(&Ended {
            action: self.route(),
            request: Some(self.id()),
            remote: self.remote,
            status,
            error: self.error,
            digest: self.digest.as_ref(),
            is_job: self.is_job,
        });
    }

    fn id(&self) -> &str {
        self.progress.id.as_ref().map_or("", RequestId::as_str)
    }

    fn route(&self) -> &'static str {
        self.progress.route.get().copied().unwrap_or("none")
    }

    fn upstream(&self) -> Option<&str> {
        self.progress.cache.get().map(|(upstream, _)| upstream.host())
    }

    fn cache(&self) -> Option<&'static str> {
        self.progress.cache.get().and_then(|(_, cached)| cached.map(|cached| cached.source.as_str()))
    }

    fn received_bytes(&self) -> u64 {
        self.progress.received_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Where there was no answer.
        self.tell_audit(None);
        let took = monotonic().saturating_duration_since(self.started);
        self.metrics.record(&telemetry::Request {
            method: self.method,
            route: self.route(),
            status: self.status,
            took,
            received_bytes: self.received_bytes(),
            sent_bytes: self.sent_bytes,
        });
        if let Some((upstream, Some(Cached { kind, source }))) = self.progress.cache.get()
            && self.status < 400
        {
            upstream.answered(&CacheAnswer {
                kind: *kind,
                source: source.as_str(),
                is_hit: source.is_hit(),
                sent_bytes: self.sent_bytes,
            });
        }
        let line = self;
        match (&line.failure, line.is_complete) {
            (Some(failure), _) => event!(error, line, took, failure, "request failed"),
            (None, _) if line.status >= 500 => event!(warn, line, took, "request refused"),
            (None, true) => event!(info, line, took, "request"),
            (None, false) => event!(info, line, took, "request ended before its answer did"),
        }
    }
}

/// A request's body that counts what arrives.
struct CountedBody {
    body: Body,
    progress: Arc<Progress>,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            self.progress.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body that counts what leaves, and holds the request's line until it is dropped.
#[derive(Debug)]
pub struct ObservedBody {
    body: Body,
    line: Line,
}

impl HttpBody for ObservedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                self.line.sent_bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
                self.line.is_complete = self.body.is_end_stream();
            }
            Poll::Ready(Some(Err(error))) => {
                self.line.failure = Some(format!("the answer's body ended: {error}"));
            }
            Poll::Ready(None) => self.line.is_complete = true,
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_somebody_is_is_not_printed_with_the_headers() {
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, HeaderValue::from_static("Basic sesame"));
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer sesame"));
        headers.append(COOKIE, HeaderValue::from_static("sesame"));
        hide_secrets(&mut headers);
        assert!(!format!("{headers:?}").contains("sesame"));
    }

    #[test]
    fn methods_that_strangers_make_up_share_one_name() {
        assert_eq!(method_name(&Method::PATCH), "PATCH");
        assert_eq!(method_name(&Method::from_bytes(b"FOO").expect("a method")), "OTHER");
    }
}
