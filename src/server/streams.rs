//! The requests of connections on which HTTP/2 is spoken.
//!
//! By HTTP/1.1 a connection has one request at a time, and whatever stands still shows in its reads and writes. By HTTP/2 a
//! client can leave an answer lie while the connection looks alive; so the answers themselves are watched here.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The tasks that answer requests. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct StreamTasks(Arc<Mutex<JoinSet<()>>>);

impl StreamTasks {
    /// Ends those that still run, and waits for that.
    pub(super) async fn shutdown(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks());
        tasks.shutdown().await;
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for StreamTasks {
    fn execute(&self, future: F) {
        let mut tasks = self.tasks();
        while let Some(ended) = tasks.try_join_next() {
            super::accept::report(ended);
        }
        tasks.spawn(future);
    }
}

/// What a connection has to do. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<Mutex<Answers>>);

#[derive(Debug)]
struct Answers {
    next: u64,
    /// Those that are under way, with the time since which their client could have taken more of them; none while it is this
    /// program that is waited for.
    waiting: HashMap<u64, Option<Instant>>,
    /// Since when there is none.
    idle_since: Instant,
}

impl Default for Activity {
    fn default() -> Activity {
        let answers = Answers { next: 0, waiting: HashMap::new(), idle_since: Instant::now() };
        Activity(Arc::new(Mutex::new(answers)))
    }
}

impl Activity {
    /// Notes that a request has come.
    pub(super) fn begin(&self) -> Answering {
        let mut answers = self.answers();
        let id = answers.next;
        answers.next += 1;
        answers.waiting.insert(id, None);
        Answering { activity: self.clone(), id }
    }

    /// Is ready when there was no request for this long.
    pub(super) async fn ended(&self, limit: Duration) {
        self.until(limit, |answers| answers.waiting.is_empty().then_some(answers.idle_since)).await;
    }

    /// Is ready when a client has taken nothing of an answer for this long.
    pub(super) async fn stuck(&self, limit: Duration) {
        self.until(limit, |answers| answers.waiting.values().flatten().min().copied()).await;
    }

    /// Is ready when the time that `since` tells lies this far back.
    async fn until(&self, limit: Duration, since: impl Fn(&Answers) -> Option<Instant>) {
        loop {
            let now = Instant::now();
            let end = since(&self.answers()).unwrap_or(now) + limit;
            if end <= now {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that isn't answered to its end yet.
#[derive(Debug)]
pub(super) struct Answering {
    activity: Activity,
    id: u64,
}

impl Answering {
    /// The body of its answer, with which it ends.
    pub(super) fn until_taken<B>(self, body: B) -> WatchedBody<B> {
        self.note(Some(Instant::now()));
        WatchedBody { body, answering: self }
    }

    fn note(&self, waiting: Option<Instant>) {
        self.activity.answers().waiting.insert(self.id, waiting);
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut answers = self.activity.answers();
        answers.waiting.remove(&self.id);
        answers.idle_since = Instant::now();
    }
}

/// The body of an answer; its parts are asked for when the client has room for them.
#[derive(Debug)]
pub(super) struct WatchedBody<B> {
    body: B,
    answering: Answering,
}

impl<B: Body + Unpin> Body for WatchedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.answering.note(None);
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.answering.note(Some(Instant::now()));
        Poll::Ready(frame)
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
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_requests_ends_after_its_time() {
        let activity = Activity::default();
        let answering = activity.begin();
        assert!(tokio::time::timeout(LIMIT * 3, activity.ended(LIMIT)).await.is_err());
        drop(answering);
        activity.ended(LIMIT).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_is_told_of_and_one_that_is_not_ready_is_not() {
        let activity = Activity::default();
        let answering = activity.begin();
        assert!(tokio::time::timeout(LIMIT * 3, activity.stuck(LIMIT)).await.is_err());
        let mut body = answering.until_taken(Full::new(Bytes::from_static(b"x")));
        activity.stuck(LIMIT).await;
        body.frame().await.expect("there is one").expect("it is one");
        activity.stuck(LIMIT).await;
        drop(body);
        assert!(tokio::time::timeout(LIMIT * 3, activity.stuck(LIMIT)).await.is_err());
    }
}
