//! The workers of all endpoints, and the records of how far they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::sink::{HttpSink, Sink};
use super::worker::Worker;
use super::{Endpoint, Source};
use crate::client::Client;
use crate::registry::{Error, EventLog};
use crate::telemetry::{EndpointMetrics, NotificationMetrics};

/// The time between two records of how far endpoints are, and between two writes of pulls.
const SETTLE_INTERVAL: Duration = Duration::from_secs(1);

/// How events are delivered.
#[derive(Debug)]
pub struct Settings {
    /// Whom to tell.
    pub endpoints: Vec<Endpoint>,
    /// Who tells.
    pub source: Source,
    /// By which client; none where there are no endpoints.
    pub client: Option<Client>,
    /// Where deliveries are counted.
    pub metrics: NotificationMetrics,
}

/// Running deliveries.
#[derive(Debug)]
pub struct Notifications {
    stop: watch::Sender<bool>,
    workers: Vec<JoinHandle<()>>,
    settler: JoinHandle<()>,
    places: Arc<Vec<Place>>,
    log: EventLog,
}

/// How far an endpoint is.
#[derive(Debug)]
struct Place {
    endpoint: String,
    /// The number of the last event that it has taken.
    position: Arc<AtomicU64>,
    metrics: EndpointMetrics,
}

impl Notifications {
    /// Starts to deliver the events of `log`, whose listeners have to be those of the endpoints. Needs tokio.
    pub fn start(log: EventLog, settings: Settings) -> Result<Notifications, Error> {
        let Settings { endpoints, source, client, metrics } = settings;
        let sinks = endpoints.into_iter().filter_map(|endpoint| {
            let sink = HttpSink { client: client.clone()?, endpoint: endpoint.clone() };
            Some((endpoint, sink))
        });
        start(log, sinks, &source, &metrics)
    }

    /// Lets the deliveries that are on their way end, for `limit` at most, and records how far every endpoint is.
    pub async fn stop(mut self, limit: Duration) {
        self.stop.send_replace(true);
        let all = futures_util::future::join_all(self.workers.iter_mut());
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!("a delivery of events was cut off; it is repeated after the next start");
            self.workers.iter().for_each(JoinHandle::abort);
        }
        self.settler.abort();
        // Ends by the abort; what it had begun is completed by the last record.
        let _ = self.settler.await;
        settle(&self.log, &self.places).await;
    }
}

fn start<S: Sink>(
    log: EventLog,
    sinks: impl IntoIterator<Item = (Endpoint, S)>,
    source: &Source,
    metrics: &NotificationMetrics,
) -> Result<Notifications, Error> {
    let stop = watch::Sender::new(false);
    let (mut places, mut workers) = (Vec::new(), Vec::new());
    for (endpoint, sink) in sinks {
        let name = endpoint.listener.name.clone();
        let position = Arc::new(AtomicU64::new(log.cursor(&name)?));
        let metrics = metrics.endpoint(&name);
        places.push(Place { endpoint: name, position: position.clone(), metrics: metrics.clone() });
        let worker = Worker {
            log: log.clone(),
            listener: endpoint.listener,
            sink,
            source: source.clone(),
            threshold: endpoint.threshold,
            backoff: endpoint.backoff,
            metrics,
            position,
        };
        workers.push(tokio::spawn(worker.run(stop.subscribe())));
    }
    let places = Arc::new(places);
    let settler = tokio::spawn(settle_on(log.clone(), places.clone()));
    Ok(Notifications { stop, workers, settler, places, log })
}

/// Records from time to time; where nobody listens, only removes what is left from when somebody did.
async fn settle_on(log: EventLog, places: Arc<Vec<Place>>) {
    let mut interval = tokio::time::interval(SETTLE_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = log.many_pulls() => {}
        }
        let is_done = settle(&log, &places).await;
        if places.is_empty() && is_done {
            return;
        }
    }
}

async fn settle(log: &EventLog, places: &[Place]) -> bool {
    let cursors: Vec<(String, u64)> =
        places.iter().map(|place| (place.endpoint.clone(), place.position.load(Ordering::Relaxed))).collect();
    let settled = log.settle(&cursors).await;
    if let Err(error) = &settled {
        tracing::warn!(%error, "cannot record how far events are delivered; trying again in a second");
    }
    for place in places {
        if let Ok(newest) = log.newest() {
            place.metrics.pending(newest.saturating_sub(place.position.load(Ordering::Relaxed)));
        }
    }
    settled.is_ok()
}
