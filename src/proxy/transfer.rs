//! The bytes of a blob of an upstream, asked for again from where they broke off.

use std::time::Duration;

use bytes::{Buf, Bytes};

use super::{CachedRepository, Error, FetchLimits};
use crate::client::registry::{self as upstream, Blob, BlobHead, Missing};
use crate::clock::monotonic;
use crate::oci::Digest;

/// A blob on its way, from some offset on to its end.
#[derive(Debug)]
pub(super) struct Transfer {
    repository: CachedRepository,
    digest: Digest,
    size: u64,
    /// Where the next byte belongs that is handed out.
    position: u64,
    answer: Option<Answer>,
    /// How often it broke off without having brought much.
    failures: u32,
    /// What came since it last broke off.
    progress: u64,
}

/// What the upstream sends at the moment.
#[derive(Debug)]
struct Answer {
    blob: Blob,
    /// How much of it comes before the position: an upstream may know no ranges.
    to_skip: u64,
    pace: Pace,
}

/// How fast it comes.
#[derive(Debug, Default)]
struct Pace {
    bytes: u64,
    waited: Duration,
}

impl Pace {
    /// Notes how long the upstream took; says whether it is too slow.
    fn note(&mut self, bytes: usize, waited: Duration, limits: &FetchLimits) -> bool {
        self.bytes += bytes as u64;
        self.waited += waited;
        if self.waited < limits.slowest_time {
            return false;
        }
        std::mem::take(self).bytes < limits.slowest_bytes
    }
}

impl CachedRepository {
    /// Asks for the blob's size, and so whether the upstream has it in this repository.
    pub(super) async fn ask_size(&self, digest: &Digest) -> Result<u64, Error> {
        self.require_asked(digest)?;
        let head = self.upstream.ask(self.upstream.client.head_blob(&self.path, digest)).await;
        self.noted(digest, head).map(|BlobHead { size, .. }| size)
    }

    /// Begins to fetch the blob.
    pub(super) async fn ask_bytes(&self, digest: &Digest, offset: u64) -> Result<Blob, Error> {
        self.require_asked(digest)?;
        let blob = self.upstream.ask(self.upstream.client.get_blob(&self.path, digest, offset)).await;
        self.noted(digest, blob)
    }

    /// Fails where it is known that the upstream hasn't got the blob, or that it isn't asked.
    fn require_asked(&self, digest: &Digest) -> Result<(), Error> {
        self.upstream.absent.require_unknown(&self.path, &absent_key(digest), monotonic())
    }

    fn noted<T>(&self, digest: &Digest, answer: Result<T, Error>) -> Result<T, Error> {
        answer.map_err(|error| match error {
            Error::NotFound { reason, .. } => {
                let error = Error::NotFound { what: Missing::Blob, reason };
                self.upstream.absent.note(&self.path, &absent_key(digest), &error, monotonic());
                error
            }
            error => error,
        })
    }
}

/// A digest may be a manifest's too.
fn absent_key(digest: &Digest) -> String {
    format!("blob {digest}")
}

impl Transfer {
    /// The blob of `size` bytes from `position` on. `blob` is what is on its way already.
    pub(super) fn new(
        repository: &CachedRepository,
        digest: &Digest,
        size: u64,
        position: u64,
        blob: Option<Blob>,
    ) -> Transfer {
        let answer = blob.map(|blob| Answer::of(blob, position));
        let (repository, digest) = (repository.clone(), *digest);
        Transfer { repository, digest, size, position, answer, failures: 0, progress: 0 }
    }

    fn limits(&self) -> &FetchLimits {
        &self.repository.upstream.settings.fetching
    }

    fn invalid(&self, reason: &str) -> Error {
        Error::Invalid(format!("{}: {reason}", self.repository.host()))
    }

    /// Asks for what comes next, unless it is on its way.
    pub(super) async fn begin(&mut self) -> Result<(), Error> {
        if self.answer.is_some() || self.position == self.size {
            return Ok(());
        }
        let (repository, digest) = (&self.repository, &self.digest);
        let blob = match repository.ask_bytes(digest, self.position).await {
            // It may know no ranges, or have given a wrong one.
            Err(Error::Invalid(_)) if self.position > 0 => repository.ask_bytes(digest, 0).await?,
            asked => asked?,
        };
        if blob.size.is_some_and(|size| size != self.size) {
            return Err(self.invalid("a blob has another size than it had"));
        }
        self.answer = Some(Answer::of(blob, self.position));
        Ok(())
    }

    /// Returns the next bytes, and none at the end. Takes the transfer up again where it breaks off, so that an error is
    /// final for now; it is [`Error::Invalid`] where what has come can't be right.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while self.position < self.size {
            if let Err(error) = self.begin().await {
                self.pause(error).await?;
                continue;
            }
            let Some(answer) = &mut self.answer else { continue };
            let asked = monotonic();
            let mut bytes = match answer.blob.next().await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => {
                    self.answer = None;
                    self.pause(self.interrupted("a blob ended too soon")).await?;
                    continue;
                }
                Err(error) => {
                    self.answer = None;
                    self.pause(of_transfer(error)).await?;
                    continue;
                }
            };
            let limits = &self.repository.upstream.settings.fetching;
            let is_too_slow = answer.pace.note(bytes.len(), asked.elapsed(), limits);
            self.repository.upstream.metrics.fetched(bytes.len() as u64);
            let skipped = answer.to_skip.min(bytes.len() as u64);
            answer.to_skip -= skipped;
            bytes.advance(usize::try_from(skipped).unwrap_or(bytes.len()));
            if bytes.len() as u64 > self.size - self.position {
                return Err(self.invalid("a blob is longer than it said"));
            }
            let enough = limits.slowest_bytes;
            self.position += bytes.len() as u64;
            self.progress += bytes.len() as u64;
            if self.progress >= enough {
                self.failures = 0;
            }
            if is_too_slow {
                self.answer = None;
                self.pause(self.interrupted("a blob comes too slowly")).await?;
            }
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// Waits before another attempt, unless there is none.
    async fn pause(&mut self, error: Error) -> Result<(), Error> {
        let limits = self.limits();
        let own = limits.first_pause.saturating_mul(1 << self.failures.min(16)).min(limits.longest_pause);
        let asked = match &error {
            Error::Unavailable { retry_after, .. } | Error::RateLimited { retry_after, .. } => *retry_after,
            _ => return Err(error),
        };
        if self.failures + 1 >= limits.attempts || asked > limits.longest_pause {
            return Err(error);
        }
        tracing::debug!(digest = %self.digest, position = self.position, %error, "a transfer is taken up again");
        self.failures += 1;
        self.progress = 0;
        tokio::time::sleep(own.max(asked)).await;
        Ok(())
    }

    fn interrupted(&self, reason: &str) -> Error {
        let reason = format!("{}: {reason}; ask again", self.repository.host());
        Error::Unavailable { reason, retry_after: Duration::ZERO }
    }
}

impl Answer {
    fn of(blob: Blob, position: u64) -> Answer {
        Answer { to_skip: position.saturating_sub(blob.offset), blob, pace: Pace::default() }
    }
}

/// An answer that broke off: the upstream isn't left alone for it, unless it says so.
fn of_transfer(error: upstream::Error) -> Error {
    match error {
        upstream::Error::Unavailable { retry_after, .. } => {
            Error::Unavailable { reason: error.to_string(), retry_after: retry_after.unwrap_or_default() }
        }
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_brings_too_little_in_a_while_is_too_slow() {
        let limits =
            FetchLimits { slowest_bytes: 10, slowest_time: Duration::from_secs(4), ..FetchLimits::default() };
        let mut pace = Pace::default();
        let second = Duration::from_secs(1);
        assert!((0..40).all(|_| !pace.note(3, second, &limits)), "12 bytes in 4 s");
        let verdicts: Vec<bool> = (0..4).map(|_| pace.note(2, second, &limits)).collect();
        assert_eq!(verdicts, [false, false, false, true], "8 bytes in 4 s");
        assert!(!pace.note(0, second, &limits), "it begins anew");
    }
}
