//! Answers that take long: lines of JSON, of which the last is the result or an error.
//!
//! ```text
//! {"progress":{"what":"hashing","done":1048576,"total":7340032,"unit":"bytes"}}
//! {"item":{…}}
//! {"result":{…}}
//! ```
//!
//! An item is a part of the result that comes before the rest of it, so that neither side has to hold all of them at once;
//! the work waits for a client that doesn't keep up. Words about progress are dropped where the client doesn't keep up. The work is asked to end when the client goes away
//! or the server stops; one that should go on all the same doesn't listen.

use std::any::Any;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use super::JSON_LINES;
use super::call::Call;
use crate::http::errors::{ApiError, ErrorEntry};

/// How many lines wait for a slow client.
const LINES: usize = 16;

/// One line of a long operation's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line<T> {
    /// How far it has come.
    Progress(Progress),
    /// A part of what came of it.
    Item(T),
    /// What came of it; the last line.
    Result(T),
    /// Why nothing came of it, as in the envelope of other errors; the last line.
    Errors(Vec<ErrorEntry>),
}

/// How far a long operation has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done, in a word or two.
    pub what: String,
    /// How much of it is done.
    pub done: u64,
    /// How much there is to do, where that is known.
    pub total: Option<u64>,
    /// What is counted.
    pub unit: Unit,
}

/// What progress is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Things.
    Items,
}

/// The way of a long operation to its client.
#[derive(Debug, Clone)]
pub(super) struct Reporter {
    lines: mpsc::Sender<Bytes>,
    stopping: watch::Receiver<bool>,
}

impl Reporter {
    /// Tells how far the work has come; the answer says whether it should end.
    pub(super) fn tell(&self, progress: Progress) -> ControlFlow<()> {
        if let Ok(line) = line(&Line::<()>::Progress(progress)) {
            // A client that doesn't keep up hears of later progress.
            let _ = self.lines.try_send(line);
        }
        if self.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Sends a part of the result, once the client takes it; the answer says whether the work should end.
    pub(super) async fn send(&self, item: impl Serialize) -> ControlFlow<()> {
        let Ok(line) = line(&Line::Item(item)) else { return ControlFlow::Break(()) };
        let is_gone = self.lines.send(line).await.is_err();
        if is_gone || self.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Waits until nobody waits for the answer any more, or the server is about to end.
    pub(super) async fn over(&self) {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            () = self.lines.closed() => {}
            // An error means that the server has ended already.
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }

    /// Whether nobody waits for the answer any more, or the server is about to end.
    pub(super) fn is_over(&self) -> bool {
        self.lines.is_closed() || *self.stopping.borrow()
    }
}

fn line(line: &impl Serialize) -> serde_json::Result<Bytes> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    Ok(Bytes::from(bytes))
}

/// Answers with what `work` tells and returns. It runs in a task of its own, on a thread that may block.
pub(super) fn answer<T, W>(call: &Call, work: W) -> Response
where
    T: Serialize + Send + 'static,
    W: FnOnce(&Reporter) -> Result<T, ApiError> + Send + 'static,
{
    let (sender, mut lines) = mpsc::channel(LINES);
    let reporter = Reporter { lines: sender.clone(), stopping: call.stopping() };
    tokio::spawn(async move {
        let work = tokio::task::spawn_blocking(move || {
            std::panic::catch_unwind(AssertUnwindSafe(|| work(&reporter)))
        });
        let last = match work.await {
            Ok(Ok(Ok(result))) => line(&Line::Result(result)),
            Ok(Ok(Err(error))) => line(&failed(error)),
            Ok(Err(panic)) => line(&failed(ApiError::failure(panicked(panic.as_ref())))),
            Err(error) => line(&failed(ApiError::failure(error))),
        };
        let last = last.or_else(|error| line(&failed(ApiError::failure(error))));
        if let Ok(last) = last {
            // The client may have left.
            let _ = sender.send(last).await;
        }
    });
    let body = stream::poll_fn(move |cx| lines.poll_recv(cx).map(|line| line.map(Ok::<_, Infallible>)));
    let mut response = Response::new(Body::from_stream(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON_LINES));
    response
}

/// The line of an error, which is logged here: the answer's head has left before.
fn failed(error: ApiError) -> Line<()> {
    if let Some(failure) = error.inner_failure() {
        tracing::error!(failure, "a long operation failed");
    }
    Line::Errors(vec![error.disclosed().entry()])
}

fn panicked(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("the operation panicked: {}", text.unwrap_or("without a message"))
}
