//! Time limits for bodies that stand still.
//!
//! A limit on a whole request would cut off slow clients that do get on. So only the time is counted in which the
//! server waits for the client: for the next bytes of a request's body, or for room to send an answer. Time that the
//! server itself takes is nobody's fault, and isn't counted.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Watches one direction of a connection.
///
/// The timer is set once and looks at the clock when it fires, so that data in motion doesn't touch it.
#[derive(Debug)]
struct Stall {
    limit: Duration,
    /// Since when nothing has moved; none while something does.
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    fn new(limit: Duration) -> Self {
        Self { limit, since: None, timer: None }
    }

    /// Notes that something moved.
    fn moved(&mut self) {
        self.since = None;
    }

    /// Notes that something moved, and how long the next pause may be.
    fn moved_within(&mut self, limit: Duration) {
        self.since = None;
        if self.limit != limit {
            self.limit = limit;
            self.timer = None;
        }
    }

    /// Notes that nothing moves, and is ready when that has lasted for the limit.
    fn poll_stuck(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let end = *self.since.get_or_insert_with(Instant::now) + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        loop {
            std::task::ready!(timer.as_mut().poll(cx));
            if Instant::now() >= end {
                return Poll::Ready(());
            }
            // The timer was set when something stood still earlier.
            timer.as_mut().reset(end);
        }
    }
}

/// Why a request's body ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The connection broke, or what came over it isn't HTTP.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// Nothing came for `limits.idle_timeout`, or at first for `limits.first_byte_timeout`.
    #[error("the request's body stood still for {} s", .0.as_secs_f64())]
    Stalled(Duration),
}

/// A request's body that ends with an error when it stands still for too long.
#[derive(Debug)]
pub(super) struct TimedBody {
    body: Incoming,
    stall: Stall,
    /// The limit once there has been a first byte.
    idle: Duration,
}

impl TimedBody {
    /// A body whose first byte comes within the time `first`, and each further one within `idle`.
    pub(super) fn new(body: Incoming, first: Duration, idle: Duration) -> Self {
        Self { body, stall: Stall::new(first), idle }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                this.stall.moved_within(this.idle);
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
            }
            Poll::Pending => {
                this.stall.poll_stuck(cx).map(|()| Some(Err(BodyError::Stalled(this.stall.limit))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection whose writes fail when the peer takes nothing for too long.
#[derive(Debug)]
pub(super) struct TimedIo<T> {
    io: T,
    stall: Stall,
}

impl<T> TimedIo<T> {
    pub(super) fn new(io: T, limit: Duration) -> Self {
        Self { io, stall: Stall::new(limit) }
    }

    fn check<R>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if polled.is_ready() {
            self.stall.moved();
            return polled;
        }
        self.stall.poll_stuck(cx).map(|()| {
            let message = format!("the client took nothing for {} s", self.stall.limit.as_secs_f64());
            Err(io::Error::new(io::ErrorKind::TimedOut, message))
        })
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for TimedIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for TimedIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.check(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.check(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_after_the_limit() {
        let (near, _far) = duplex(16);
        let started = Instant::now();
        let mut io = TimedIo::new(near, LIMIT);
        let error = io.write_all(&[0; 64]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() >= LIMIT && started.elapsed() < LIMIT * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_slow_but_gets_on_is_kept() {
        let (near, mut far) = duplex(16);
        let reader = tokio::spawn(async move {
            let mut buffer = [0; 16];
            for _ in 0..8 {
                tokio::time::sleep(LIMIT * 9 / 10).await;
                far.read_exact(&mut buffer).await.expect("the writer is there");
            }
        });
        TimedIo::new(near, LIMIT).write_all(&[0; 128]).await.expect("each wait is below the limit");
        reader.await.expect("the reader got everything");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_at_rest_is_not_the_stall_timers_business() {
        let (near, mut far) = duplex(16);
        let mut io = TimedIo::new(near, LIMIT);
        io.write_all(&[0; 4]).await.expect("there is room");
        tokio::time::sleep(LIMIT * 3).await;
        io.write_all(&[0; 4]).await.expect("there is room");
        far.read_exact(&mut [0; 8]).await.expect("both writes arrived");
    }
}
