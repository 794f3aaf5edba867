//! Blobs of an upstream.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::exchange::{Question, Reply};
use super::{Error, Missing, Outage, RateLimit, Upstream};
use crate::client::Answer;
use crate::oci::{Digest, RepositoryName};

/// What an upstream says of a blob without sending it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobHead {
    /// Its size in bytes.
    pub size: u64,
    /// Whether parts of it can be asked for.
    pub accepts_ranges: bool,
    /// How much may still be asked.
    pub rate_limit: RateLimit,
}

/// A blob on its way. To drop it ends the request.
#[derive(Debug)]
pub struct Blob {
    /// The offset of the first byte that comes: the one that was asked for, or 0 where the upstream sends all of it.
    pub offset: u64,
    /// The size of the whole blob in bytes, where the upstream says it.
    pub size: Option<u64>,
    /// How much may still be asked.
    pub rate_limit: RateLimit,
    host: String,
    answer: Answer,
    idle: Duration,
    /// Where the next byte belongs.
    position: u64,
}

impl Upstream {
    /// Asks how large a blob is.
    pub async fn head_blob(&self, name: &RepositoryName, digest: &Digest) -> Result<BlobHead, Error> {
        let question = question(Method::HEAD, name, digest, HeaderMap::new());
        let Reply { host, answer } = self.0.ask(&question).await?;
        let headers = answer.headers();
        let size = length(headers).ok_or_else(|| Error::invalid(&host, "a blob's size is not said"))?;
        let accepts_ranges = headers.get(ACCEPT_RANGES).is_some_and(|value| value == "bytes");
        Ok(BlobHead { size, accepts_ranges, rate_limit: RateLimit::of(headers) })
    }

    /// Begins to fetch a blob, from `offset` on where the upstream can; [`Blob::offset`] says where it begins. Nothing is
    /// tried again after the first byte: whoever reads asks for the rest. The bytes are not compared with the digest.
    pub async fn get_blob(&self, name: &RepositoryName, digest: &Digest, offset: u64) -> Result<Blob, Error> {
        let mut headers = HeaderMap::new();
        if offset > 0 {
            let range = HeaderValue::try_from(format!("bytes={offset}-"));
            headers.insert(RANGE, range.expect("a number is printable ASCII"));
        }
        let question = question(Method::GET, name, digest, headers);
        let Reply { host, answer } = self.0.ask(&question).await?;
        let (start, size) = match answer.status() {
            StatusCode::OK => (0, length(answer.headers())),
            StatusCode::PARTIAL_CONTENT => {
                let size = answer.header(CONTENT_RANGE.as_str()).and_then(|range| rest_of(range, offset));
                let size = size.filter(|size| {
                    length(answer.headers()).is_none_or(|length| offset.checked_add(length) == Some(*size))
                });
                let reason = format!("asked for a blob from byte {offset} it sends another part");
                (offset, Some(size.ok_or_else(|| Error::invalid(&host, reason))?))
            }
            status => return Err(Error::invalid(&host, format!("asked for a blob it answers {status}"))),
        };
        let rate_limit = RateLimit::of(answer.headers());
        let idle = self.0.timeouts.idle;
        Ok(Blob { offset: start, size, rate_limit, host, answer, idle, position: start })
    }
}

impl Blob {
    /// Returns the next bytes, and none at the blob's end, which is never reported before the size that was said.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let next = self.answer.next(self.idle).await;
        let next = next.map_err(|error| Error::of_client(&self.host, &error, Outage::Interrupted))?;
        match (&next, self.size) {
            (Some(bytes), size) => {
                self.position += bytes.len() as u64;
                if size.is_some_and(|size| self.position > size) {
                    return Err(Error::invalid(&self.host, "a blob is longer than it said"));
                }
            }
            (None, Some(size)) if self.position < size => {
                let (host, outage) = (self.host.clone(), Outage::Interrupted);
                let reason = format!("a blob ended after {} of {size} bytes", self.position);
                return Err(Error::Unavailable { host, outage, reason, retry_after: None });
            }
            (None, _) => {}
        }
        Ok(next)
    }
}

fn question<'a>(
    method: Method,
    name: &'a RepositoryName,
    digest: &Digest,
    headers: HeaderMap,
) -> Question<'a> {
    let rest = format!("blobs/{digest}");
    Question { method, name: Some(name), rest, query: None, headers, missing: Missing::Blob }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads `bytes 5-9/10` and returns the size, if this is everything from `offset` on.
fn rest_of(range: &str, offset: u64) -> Option<u64> {
    let (part, size) = range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = part.split_once('-')?;
    let (first, last, size): (u64, u64, u64) = (first.parse().ok()?, last.parse().ok()?, size.parse().ok()?);
    (first == offset && first <= last && last.checked_add(1) == Some(size)).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_everything_from_the_offset_on_continues_a_blob() {
        assert_eq!(rest_of("bytes 5-9/10", 5), Some(10));
        for range in [
            "",
            "bytes 4-9/10",
            "bytes 5-8/10",
            "bytes 5-9/*",
            "bytes */10",
            "5-9/10",
            "bytes 5-18446744073709551615/0",
        ] {
            assert_eq!(rest_of(range, 5), None, "{range}");
        }
    }
}
