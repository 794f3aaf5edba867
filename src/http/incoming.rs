//! The body of a request, as handlers read it.

use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, EXPECT};

use super::errors::{ApiError, ErrorCode, manifest_too_large};

/// What is still read of a body that nobody wants, so that a client that sends first and listens later finds the answer
/// and not a broken connection.
const DISCARDED_BYTES: u64 = 64 * 1024 * 1024;
/// How long that may take.
const DISCARDED_FOR: Duration = Duration::from_secs(10);

/// The body of a request, read at most once.
#[derive(Debug)]
pub(super) struct Incoming {
    body: Body,
    /// What `Content-Length` says.
    declared: Option<u64>,
    received: u64,
    /// The client waits for a word before it sends.
    is_expecting: bool,
    is_over: bool,
}

impl Incoming {
    pub(super) fn new(headers: &HeaderMap, body: Body) -> Self {
        let declared = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok());
        let is_over = body.is_end_stream();
        Self { body, declared, received: 0, is_expecting: headers.contains_key(EXPECT), is_over }
    }

    /// The length that the client declared, if it did.
    pub(super) fn declared(&self) -> Option<u64> {
        self.declared
    }

    /// Whether the client sends nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        self.received == 0 && (self.is_over || self.declared == Some(0))
    }

    /// The next bytes, `None` at the end. A body that ends before its declared length is an error, not an end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        while !self.is_over {
            let frame = std::future::poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await;
            match frame.transpose() {
                Ok(Some(frame)) => {
                    // Trailers mean nothing here.
                    if let Ok(bytes) = frame.into_data()
                        && !bytes.is_empty()
                    {
                        self.received += bytes.len() as u64;
                        return Ok(Some(bytes));
                    }
                }
                Ok(None) => {
                    self.is_over = true;
                    if self.declared.is_some_and(|declared| declared != self.received) {
                        return Err(interrupted());
                    }
                }
                Err(_) => {
                    self.is_over = true;
                    return Err(interrupted());
                }
            }
        }
        Ok(None)
    }

    /// The whole body, as a manifest of up to `limit` bytes; a longer one is refused by its declared length, before it
    /// is read.
    pub(super) async fn manifest(&mut self, limit: usize) -> Result<Bytes, ApiError> {
        if self.declared.is_some_and(|declared| declared > limit as u64) {
            return Err(manifest_too_large(limit));
        }
        let Some(first) = self.next_of_manifest().await? else { return Ok(Bytes::new()) };
        if first.len() > limit {
            return Err(manifest_too_large(limit));
        }
        if self.declared == Some(first.len() as u64) {
            // The usual case: the manifest came in one piece, and is held without a copy of its own.
            return self.next_of_manifest().await.map(|_| first);
        }
        let mut all = BytesMut::from(first);
        while let Some(bytes) = self.next_of_manifest().await? {
            if all.len() + bytes.len() > limit {
                return Err(manifest_too_large(limit));
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all.freeze())
    }

    async fn next_of_manifest(&mut self) -> Result<Option<Bytes>, ApiError> {
        self.next().await.map_err(|_| {
            ApiError::new(
                ErrorCode::ManifestInvalid,
                "the request's body ended before its time; send the manifest again",
            )
        })
    }

    /// Ends the reading; what the client still sends is read and dropped in the background, up to a bound, while the
    /// answer is on its way. A client that waits for `100 Continue` isn't asked to send.
    pub(super) fn discard(self) {
        let is_waiting = self.is_expecting && self.received == 0;
        if !self.is_over && !is_waiting && !self.body.is_end_stream() {
            tokio::spawn(self.read_in_vain());
        }
    }

    async fn read_in_vain(mut self) {
        let enough = self.received.saturating_add(DISCARDED_BYTES);
        let reading = async { while self.received < enough && matches!(self.next().await, Ok(Some(_))) {} };
        // A client that sends more, or too slowly, sees its connection close.
        let _ = tokio::time::timeout(DISCARDED_FOR, reading).await;
    }
}

fn interrupted() -> ApiError {
    ApiError::new(
        ErrorCode::BlobUploadInvalid,
        "the request's body ended before its time; ask for the upload's status and go on from there",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures_util::stream;
    use http::HeaderValue;

    use super::*;

    fn incoming(declared: Option<&str>, pieces: Vec<Result<&'static str, std::io::Error>>) -> Incoming {
        let headers = declared.map(|text| (CONTENT_LENGTH, HeaderValue::from_str(text).expect("digits")));
        let body = Body::from_stream(stream::iter(pieces.into_iter().map(|piece| piece.map(Bytes::from))));
        Incoming::new(&HeaderMap::from_iter(headers), body)
    }

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime")
            .block_on(future)
    }

    #[test]
    fn a_body_is_read_piece_by_piece_to_its_end() {
        run(async {
            let mut body = incoming(Some("4"), vec![Ok("ab"), Ok(""), Ok("cd")]);
            assert!(!body.is_empty());
            assert_eq!(body.next().await.expect("bytes").expect("some"), "ab");
            assert_eq!(body.next().await.expect("bytes").expect("some"), "cd");
            assert!(body.next().await.expect("the end").is_none());
            assert!(body.next().await.expect("the end").is_none());
        });
    }

    #[test]
    fn a_body_shorter_than_declared_or_broken_is_an_error() {
        run(async {
            for mut body in [
                incoming(Some("5"), vec![Ok("abcd")]),
                incoming(None, vec![Ok("abcd"), Err(std::io::Error::other("reset"))]),
            ] {
                body.next().await.expect("bytes");
                let error = body.next().await.expect_err("an interruption");
                assert_eq!(error.code(), ErrorCode::BlobUploadInvalid);
            }
        });
    }

    #[test]
    fn a_manifest_is_read_up_to_the_limit_and_refused_above() {
        run(async {
            let manifest = incoming(Some("6"), vec![Ok("abc"), Ok("def")]).manifest(6).await;
            assert_eq!(manifest.expect("a manifest"), "abcdef");
            let manifest = incoming(None, vec![Ok("abc"), Ok("def")]).manifest(6).await;
            assert_eq!(manifest.expect("a manifest"), "abcdef");
            for mut body in [
                incoming(Some("7"), vec![Ok("abcdefg")]),
                incoming(None, vec![Ok("abcdefg")]),
                incoming(None, vec![Ok("abc"), Ok("defg")]),
            ] {
                let error = body.manifest(6).await.expect_err("too large");
                assert_eq!(error.code(), ErrorCode::ManifestTooLarge);
            }
        });
    }

    #[test]
    fn what_nobody_wants_is_read_up_to_a_bound() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let read = Arc::new(AtomicU64::new(0));
            let counted = Arc::clone(&read);
            let piece = Bytes::from(vec![0; 1 << 16]);
            let endless = stream::repeat_with(move || {
                counted.fetch_add(1, Ordering::Relaxed);
                Ok::<_, std::io::Error>(piece.clone())
            });
            Incoming::new(&HeaderMap::new(), Body::from_stream(endless)).read_in_vain().await;
            assert_eq!(read.load(Ordering::Relaxed) << 16, DISCARDED_BYTES);
            // The clock is paused: only a time-out ends this.
            let silent = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
            Incoming::new(&HeaderMap::new(), silent).read_in_vain().await;
        });
    }
}
