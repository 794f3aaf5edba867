//! The delivery to one endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::sink::Sink;
use super::{Source, render};
use crate::registry::{Error, Event, EventLog, Listener};
use crate::telemetry::EndpointMetrics;

/// The most events of one envelope, and the most that are read at once.
const BATCH: usize = 100;

/// The pause after the log could not be read.
const READ_PAUSE: Duration = Duration::from_secs(1);

/// Delivers the events of the log to one endpoint.
#[derive(Debug)]
pub(super) struct Worker<S> {
    pub(super) log: EventLog,
    pub(super) listener: Listener,
    pub(super) sink: S,
    pub(super) source: Source,
    /// Failures in a row before each further attempt waits.
    pub(super) threshold: u32,
    /// How long it waits.
    pub(super) backoff: Duration,
    pub(super) metrics: EndpointMetrics,
    /// The number of the last event that was taken, for whoever records it.
    pub(super) position: Arc<AtomicU64>,
}

/// What happens while an endpoint doesn't accept: told in the log at its begin and at its end.
#[derive(Debug, Default)]
struct Outage {
    /// Failures in a row.
    failures: u32,
    /// Events that were dropped meanwhile.
    dropped: u64,
}

impl<S: Sink> Worker<S> {
    /// Delivers until `stop` becomes true; what is on its way then is finished.
    pub(super) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut committed = self.log.subscribe();
        let mut outage = Outage::default();
        while !*stop.borrow_and_update() {
            let pause = match self.step(&mut outage).await {
                Ok(Step::Delivered) => None,
                Ok(Step::Failed) if outage.failures < self.threshold => None,
                Ok(Step::Failed) => Some(self.backoff),
                Ok(Step::Idle) => {
                    tokio::select! {
                        // The sender lives as long as the log.
                        _ = committed.changed() => None,
                        _ = stop.changed() => None,
                    }
                }
                Err(error) => {
                    tracing::warn!(endpoint = %self.listener.name, %error, "cannot read the events");
                    Some(READ_PAUSE)
                }
            };
            if let Some(pause) = pause {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = stop.changed() => {}
                }
            }
        }
    }

    /// Sends the next events, once.
    async fn step(&self, outage: &mut Outage) -> Result<Step, Error> {
        let position = self.position.load(Ordering::Relaxed);
        let page = self.log.read(position, BATCH)?;
        self.metrics.pending(page.newest.saturating_sub(position + page.dropped));
        if page.dropped > 0 {
            self.dropped(page.dropped, outage);
            self.position.store(position + page.dropped, Ordering::Relaxed);
        }
        let Some((last, _)) = page.events.last() else { return Ok(Step::Idle) };
        let wanted: Vec<&Event> = page
            .events
            .iter()
            .map(|(_, event)| event)
            .filter(|event| self.listener.wants(event.action, event.target.media_type.as_ref()))
            .collect();
        if !wanted.is_empty() {
            let envelope = Bytes::from(render(wanted.iter().copied(), &self.source));
            if let Err(error) = self.sink.send(envelope).await {
                self.failed(&error, outage);
                return Ok(Step::Failed);
            }
            self.accepted(wanted.len() as u64, outage);
        }
        self.position.store(*last, Ordering::Relaxed);
        self.metrics.pending(page.newest.saturating_sub(*last));
        Ok(Step::Delivered)
    }

    fn dropped(&self, events: u64, outage: &mut Outage) {
        self.metrics.dropped(events);
        if outage.dropped == 0 {
            tracing::warn!(
                endpoint = %self.listener.name,
                events,
                "events were dropped before the endpoint got them: they became too many or too old"
            );
        }
        outage.dropped += events;
    }

    fn failed(&self, error: &impl std::fmt::Display, outage: &mut Outage) {
        self.metrics.failed();
        outage.failures = outage.failures.saturating_add(1);
        if outage.failures == 1 {
            tracing::warn!(endpoint = %self.listener.name, %error, "an endpoint doesn't accept events; trying on");
        } else {
            tracing::debug!(endpoint = %self.listener.name, %error, failures = outage.failures, "tried again");
        }
    }

    fn accepted(&self, events: u64, outage: &mut Outage) {
        self.metrics.delivered(events);
        let Outage { failures, dropped } = std::mem::take(outage);
        if failures > 0 || dropped > 0 {
            tracing::info!(endpoint = %self.listener.name, failures, dropped, "an endpoint accepts events again");
        }
    }
}

/// How one attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Events were taken.
    Delivered,
    /// The endpoint didn't accept them.
    Failed,
    /// There are none.
    Idle,
}
