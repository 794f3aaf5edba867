//! Answers whose body is still on its way.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};

use super::Error;

/// The head of an answer, and its body as it comes. To drop it ends the request.
#[derive(Debug)]
pub struct Answer(reqwest::Response);

impl Answer {
    pub(super) fn new(response: reqwest::Response) -> Answer {
        Answer(response)
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }

    /// A header's text; none where it is absent or not printable ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0.headers().get(name)?.to_str().ok()
    }

    /// Returns the next bytes of the body, none at its end, and an error when nothing comes for `idle` or when the body ends
    /// before the length that its head has promised.
    pub async fn next(&mut self, idle: Duration) -> Result<Option<Bytes>, Error> {
        let next = tokio::time::timeout(idle, self.0.chunk()).await.map_err(|_| Error::TimedOut)?;
        next.map_err(Error::of_request)
    }

    /// Reads the whole body within `time`, and returns none when it is longer than `limit` bytes, of which no more is read.
    pub async fn read(&mut self, limit: usize, time: Duration) -> Result<Option<Bytes>, Error> {
        let reading = async {
            let mut bytes = BytesMut::new();
            while let Some(more) = self.0.chunk().await.map_err(Error::of_request)? {
                if more.len() > limit - bytes.len() {
                    return Ok(None);
                }
                bytes.extend_from_slice(&more);
            }
            Ok(Some(bytes.freeze()))
        };
        tokio::time::timeout(time, reading).await.map_err(|_| Error::TimedOut)?
    }
}
