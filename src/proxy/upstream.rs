//! One upstream, as the cache knows it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::absent::Absent;
use super::circuit::Circuit;
use super::fetching::Fetches;
use super::told::{Told, rate_limit_of, result_of};
use super::{Error, UpstreamSettings};
use crate::client;
use crate::client::registry::{self, Missing, RateLimit, Upstream as Client};
use crate::clock::monotonic;
use crate::oci::RepositoryName;
use crate::telemetry::{CacheMetrics, UpstreamMetrics, UpstreamRequest};

/// For how long nobody waits for an upstream, who can do without, after somebody has waited in vain.
const SLOW: Duration = Duration::from_secs(30);

/// How many questions wait for an upstream at once.
const QUESTIONS: usize = 1_000;

/// An upstream: how it is asked, and whether it is.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) settings: UpstreamSettings,
    pub(super) client: Client,
    circuit: Circuit,
    questions: Semaphore,
    /// Until when those who can do without it don't wait for it.
    slow_until: Mutex<Option<Instant>>,
    pub(super) metrics: UpstreamMetrics,
    /// What it hasn't got.
    pub(super) absent: Absent,
    /// The blobs that are on their way.
    pub(super) fetches: Fetches,
    /// The first component of the names of its repositories here.
    pub(super) folder: String,
}

impl Upstream {
    /// Reads the root certificates. Blocks.
    pub(super) fn new(settings: UpstreamSettings, metrics: &CacheMetrics) -> Result<Upstream, client::Error> {
        let (client, folder) = (Client::new(settings.client.clone())?, settings.folder());
        let (circuit, absent) = (Circuit::default(), Absent::default());
        let fetches = Fetches::new(settings.fetching.at_once);
        let metrics = metrics.upstream(&settings.host);
        Ok(Upstream {
            settings,
            client,
            circuit,
            questions: Semaphore::new(QUESTIONS),
            slow_until: Mutex::default(),
            metrics,
            absent,
            fetches,
            folder,
        })
    }

    /// The repository's name here.
    pub(super) fn name_of(&self, path: &RepositoryName) -> Result<RepositoryName, Error> {
        let too_long = |_| Error::NameTooLong { host: self.settings.host.clone() };
        format!("{}/{path}", self.folder).parse().map_err(too_long)
    }

    /// Refuses what a filter is against.
    pub(super) fn require_allowed(&self, path: &RepositoryName) -> Result<(), Error> {
        let UpstreamSettings { host, allow, deny, .. } = &self.settings;
        if allow.contains(path) && !deny.contains(path) {
            return Ok(());
        }
        Err(Error::Denied(format!(
            "{path} of {host} is not cached here: the operator's `allow` and `deny` of this upstream leave it out"
        )))
    }

    /// Asks the upstream, unless it is to be left alone.
    pub(super) async fn ask<T: Told>(
        &self,
        question: impl Future<Output = Result<T, registry::Error>>,
    ) -> Result<T, Error> {
        if self.settings.is_offline {
            let host = &self.settings.host;
            let reason =
                format!("this is not cached, and {host} is not asked: it is `offline` in the configuration");
            return Err(Error::NotFound { what: Missing::Manifest, reason });
        }
        // Those who don't wait for the answer any more may be many.
        let Ok(_turn) = self.questions.try_acquire() else {
            let reason = format!("{} is asked for too much at once; try again later", self.settings.host);
            return Err(Error::Unavailable { reason, retry_after: Duration::from_secs(1) });
        };
        let began = monotonic();
        let entered = self.circuit.enter(began)?;
        let answer = question.await;
        entered.note(&answer, monotonic());
        if answer.is_ok() {
            *self.slow() = None;
        }
        self.count(&answer, began.elapsed());
        Ok(answer?)
    }

    /// Whether somebody who could do without it has just waited for it in vain.
    pub(super) fn is_slow(&self) -> bool {
        self.slow().is_some_and(|until| monotonic() < until)
    }

    /// Notes that somebody who can do without it has waited for it in vain.
    pub(super) fn note_slow(&self) {
        *self.slow() = Some(monotonic() + SLOW);
    }

    fn slow(&self) -> MutexGuard<'_, Option<Instant>> {
        self.slow_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count<T: Told>(&self, answer: &Result<T, registry::Error>, took: Duration) {
        let (kind, method, result) = (T::KIND, T::METHOD, result_of(answer));
        self.metrics.asked(&UpstreamRequest { kind, method, result, took });
        self.metrics.fetched(answer.as_ref().map_or(0, Told::bytes));
        self.metrics.left_alone(self.circuit.is_open());
        let RateLimit { limit, remaining, .. } = rate_limit_of(answer);
        self.metrics.limited(limit, remaining);
    }

    /// Why the upstream is left alone at the moment, if it is, and for how long.
    pub(super) fn left_alone(&self) -> Option<(String, Duration)> {
        self.circuit.left_alone(monotonic())
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::client::registry::{BlobHead, Options};

    #[tokio::test]
    async fn what_waits_for_an_upstream_is_bounded() {
        let head = || Ok(BlobHead { size: 1, accepts_ranges: false, rate_limit: RateLimit::default() });
        let settings = UpstreamSettings::new("a.example", Options::new("a.example".parse().unwrap()));
        let upstream = Upstream::new(settings, &CacheMetrics::default()).unwrap();
        let mut waiting: Vec<_> = (0..QUESTIONS)
            .map(|_| Box::pin(upstream.ask(std::future::pending::<Result<BlobHead, registry::Error>>())))
            .collect();
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.iter_mut().all(|asked| asked.as_mut().poll(&mut context).is_pending()));
        let refused = upstream.ask(std::future::ready(head())).await;
        assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
        waiting.pop();
        assert!(upstream.ask(std::future::ready(head())).await.is_ok());
    }
}
