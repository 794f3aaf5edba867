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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::super::sink::SendError;
    use super::*;
    use crate::fsio::SimulatedDisk;
    use crate::registry::{Action, Actor, EventOptions, ManifestPut, Options, Registry};
    use crate::telemetry::NotificationMetrics;

    /// An endpoint that fails as it is told, and says what came when.
    struct Scripted {
        /// How the next attempts end; success when there is nothing more.
        fails: Mutex<VecDeque<bool>>,
        attempts: mpsc::UnboundedSender<(Duration, Vec<String>)>,
        began: Instant,
    }

    impl Sink for Scripted {
        async fn send(&self, envelope: Bytes) -> Result<(), SendError> {
            let json: serde_json::Value = serde_json::from_slice(&envelope).unwrap();
            let tags = json["events"].as_array().unwrap().iter();
            let tags = tags.map(|event| event["target"]["tag"].as_str().unwrap().to_owned()).collect();
            self.attempts.send((self.began.elapsed(), tags)).unwrap();
            match self.fails.lock().unwrap().pop_front() {
                Some(true) => Err(SendError::Refused(http::StatusCode::BAD_GATEWAY)),
                Some(false) | None => Ok(()),
            }
        }
    }

    struct Running {
        registry: Registry,
        attempts: mpsc::UnboundedReceiver<(Duration, Vec<String>)>,
        position: Arc<AtomicU64>,
        stop: watch::Sender<bool>,
        worker: tokio::task::JoinHandle<()>,
    }

    fn registry(listener: &Listener) -> Registry {
        let mut options = Options::new("/data");
        options.disk = Arc::new(SimulatedDisk::new());
        options.policy.free_floor_bytes = 0;
        options.events = EventOptions { listeners: vec![listener.clone()], ..EventOptions::default() };
        Registry::open(options).unwrap()
    }

    fn listener(ignored_actions: Vec<Action>) -> Listener {
        Listener { name: "hook".into(), ignored_actions, ignored_media_types: Vec::new() }
    }

    async fn push(registry: &Registry, tag: &str) {
        let put = ManifestPut {
            payload: Bytes::from_static(b"{}"),
            media_type: "application/vnd.example+json".parse().unwrap(),
            reference: tag.parse().unwrap(),
            tags: Vec::new(),
            actor: Actor::anonymous(),
        };
        registry.namespace().repository(&"one".parse().unwrap()).manifests().put(put).await.unwrap();
    }

    fn run(registry: Registry, listener: Listener, fails: &[bool]) -> Running {
        let (sent, attempts) = mpsc::unbounded_channel();
        let fails = Mutex::new(fails.iter().copied().collect());
        let position = Arc::new(AtomicU64::new(0));
        let worker = Worker {
            log: registry.events(),
            listener,
            sink: Scripted { fails, attempts: sent, began: Instant::now() },
            source: Source { addr: "host:1".into(), instance_id: "i".into() },
            threshold: 3,
            backoff: Duration::from_secs(5),
            metrics: NotificationMetrics::default().endpoint("hook"),
            position: position.clone(),
        };
        let stop = watch::Sender::new(false);
        let worker = tokio::spawn(worker.run(stop.subscribe()));
        Running { registry, attempts, position, stop, worker }
    }

    impl Running {
        async fn attempt(&mut self) -> (u64, String) {
            let (at, tags) = self.attempts.recv().await.unwrap();
            (at.as_secs(), tags.join(" "))
        }

        async fn end(self) {
            self.stop.send_replace(true);
            self.worker.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_below_the_threshold_are_retried_at_once_and_then_after_the_backoff() {
        let listener = listener(Vec::new());
        let registry = registry(&listener);
        push(&registry, "1").await;
        push(&registry, "2").await;
        let mut running = run(registry, listener, &[true, true, true, true, true, false, true]);
        for at in [0, 0, 0, 5, 10, 15] {
            assert_eq!(running.attempt().await, (at, "1 2".to_owned()));
        }
        // A success starts the count anew.
        push(&running.registry, "3").await;
        let (first, tags) = running.attempt().await;
        assert_eq!((running.attempt().await, tags.as_str()), ((first, "3".to_owned()), "3"));
        running.end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_overtakes_what_was_not_accepted() {
        let listener = listener(Vec::new());
        let registry = registry(&listener);
        push(&registry, "1").await;
        let mut running = run(registry, listener, &[true, true, true]);
        for _ in 0..3 {
            assert_eq!(running.attempt().await.1, "1");
        }
        push(&running.registry, "2").await;
        let (_, tags) = running.attempt().await;
        assert!(tags == "1 2" || tags == "1", "{tags}");
        if tags == "1" {
            assert_eq!(running.attempt().await.1, "2");
        }
        running.end().await;
    }

    #[tokio::test(start_paused = true)]
    async fn many_events_come_in_envelopes_of_a_bounded_size() {
        let listener = listener(Vec::new());
        let registry = registry(&listener);
        for number in 0..=BATCH {
            push(&registry, &number.to_string()).await;
        }
        let mut running = run(registry, listener, &[]);
        assert_eq!(running.attempt().await.1.split(' ').count(), BATCH);
        assert_eq!(running.attempt().await.1, BATCH.to_string());
        let position = running.position.clone();
        running.end().await;
        assert_eq!(position.load(Ordering::Relaxed), BATCH as u64 + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_ignored_is_passed_over_without_a_word() {
        let (own, other) = (listener(vec![Action::Push]), listener(Vec::new()));
        let registry = registry(&other);
        push(&registry, "1").await;
        let repository = registry.namespace().repository(&"one".parse().unwrap());
        repository.tags().untag(&"1".parse().unwrap()).await.unwrap();
        push(&registry, "2").await;
        let mut running = run(registry, own, &[]);
        assert_eq!(running.attempt().await.1, "1");
        let position = running.position.clone();
        running.end().await;
        assert_eq!(position.load(Ordering::Relaxed), 3);
    }
}
