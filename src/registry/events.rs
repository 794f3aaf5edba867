//! Events: what happened in the repositories, for those who listen.
//!
//! A push, a mount or a deletion is written to the log in the commit that it tells of. A pull is only noted in memory;
//! many of them are written at once by [`EventLog::settle`], so that no pull waits for a commit, and a crash loses those
//! of the last moment. Nothing is written or noted that no listener wants.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use uuid::{NoContext, Uuid};

use super::{Error, Inner, Origin};
use crate::clock::Timestamp;
use crate::metadata::events::{self, Action, Bounds, EventRecord, EventReference, EventTarget, TargetKind};
use crate::metadata::{self, WriteTx};
use crate::oci::{Digest, Manifest, MediaType, RepositoryName, Tag};
use crate::telemetry::StorageMetrics;

/// As many pulls are written before their time.
const MANY_PULLS: usize = 4096;

/// The most pulls that wait in memory; further ones are lost, and counted.
const MAX_PULLS: usize = 16 * MANY_PULLS;

/// The most references that one event lists.
const MAX_REFERENCES: usize = 256;

/// The most events that one transaction removes.
const TRIM_AT_ONCE: usize = 2000;

/// Which events are kept for whom, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventOptions {
    /// Who listens. Nothing is written where nobody does.
    pub listeners: Vec<Listener>,
    /// The most events that are kept; the oldest ones go.
    pub max_events: u64,
    /// Events older than this go.
    pub max_age: Duration,
    /// Whether the events of manifests list what these name.
    pub references: bool,
}

impl Default for EventOptions {
    fn default() -> EventOptions {
        EventOptions {
            listeners: Vec::new(),
            max_events: 100_000,
            max_age: Duration::from_secs(7 * 24 * 60 * 60),
            references: false,
        }
    }
}

/// Somebody who wants to hear of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The name under which its progress is recorded; unique.
    pub name: String,
    /// Actions that it doesn't want to hear of.
    pub ignored_actions: Vec<Action>,
    /// Media types of targets that it doesn't want to hear of.
    pub ignored_media_types: Vec<MediaType>,
}

impl Listener {
    /// Whether it wants to hear of the action on a target of this media type; a deletion has none.
    pub fn wants(&self, action: Action, media_type: Option<&MediaType>) -> bool {
        !self.ignored_actions.contains(&action)
            && !media_type.is_some_and(|media_type| self.ignored_media_types.contains(media_type))
    }
}

/// The part of an open registry that writes events.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) options: EventOptions,
    metrics: StorageMetrics,
    pulls: Mutex<Vec<EventRecord>>,
    /// Pulls lost since the last line in the log about it.
    lost: AtomicU64,
    many_pulls: Notify,
    /// Changes after commits that may have added events.
    committed: watch::Sender<()>,
}

impl Events {
    pub(super) fn new(options: EventOptions, metrics: StorageMetrics) -> Events {
        Events {
            options,
            metrics,
            pulls: Mutex::default(),
            lost: AtomicU64::new(0),
            many_pulls: Notify::new(),
            committed: watch::Sender::new(()),
        }
    }

    fn wants(&self, action: Action, target: &EventTarget) -> bool {
        let media_type = target.media_type.as_ref();
        self.options.listeners.iter().any(|listener| listener.wants(action, media_type))
    }

    /// Writes an event in the transaction of what it tells of.
    pub(super) fn write(
        &self,
        tx: &WriteTx<'_>,
        now: Timestamp,
        action: Action,
        target: EventTarget,
        origin: &Origin,
    ) -> Result<(), metadata::Error> {
        if !self.wants(action, &target) {
            return Ok(());
        }
        events::append(tx, &record(now, action, target, origin), self.options.max_events)
    }

    /// Notes a pull, to be written later.
    pub(super) fn note_pull(&self, now: Timestamp, target: EventTarget, origin: &Origin) {
        if !self.wants(Action::Pull, &target) {
            return;
        }
        let record = record(now, Action::Pull, target, origin);
        let mut pulls = self.pulls();
        if pulls.len() >= MAX_PULLS {
            drop(pulls);
            self.lost(1);
            return;
        }
        pulls.push(record);
        if pulls.len() == MANY_PULLS {
            self.many_pulls.notify_one();
        }
    }

    fn lost(&self, count: u64) {
        self.metrics.pull_events_lost(count);
        self.lost.fetch_add(count, Ordering::Relaxed);
    }

    fn pulls(&self) -> MutexGuard<'_, Vec<EventRecord>> {
        self.pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells readers that a commit may have added events.
    pub(super) fn committed(&self) {
        if !self.options.listeners.is_empty() {
            self.committed.send_replace(());
        }
    }

    /// Makes the listeners known that are new, from this moment on. Those that are gone stay known until somebody settles
    /// the log: whoever opens a registry to look at it forgets nobody. Blocks.
    pub(super) fn register(&self, metadata: &metadata::Metadata) -> Result<(), metadata::Error> {
        let known = metadata.read(events::cursors)?;
        let names = self.options.listeners.iter().map(|listener| &listener.name);
        let new: Vec<String> =
            names.filter(|name| !known.iter().any(|(known, _)| known == *name)).cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        let register = move |tx: &WriteTx<'_>| {
            let last = events::last(tx)?;
            new.iter().try_for_each(|name| events::set_cursor(tx, name, last))
        };
        // A registry may be opened on a thread of an async runtime, which doesn't let itself be blocked by a channel.
        std::thread::scope(|scope| scope.spawn(|| metadata.write_blocking(register)).join())
            .unwrap_or(Err(metadata::Error::Panicked))
    }

    fn take_pulls(&self) -> Vec<EventRecord> {
        std::mem::take(&mut *self.pulls())
    }

    /// Takes note of how writing so many pulls went.
    fn wrote_pulls<T>(&self, count: usize, written: &Result<T, Error>) {
        if written.is_err() {
            self.lost(count as u64);
        } else if count > 0 {
            self.committed();
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(
                events = lost,
                "events of pulls were lost: too many came at once, or the disk refused them"
            );
        }
    }
}

fn record(now: Timestamp, action: Action, target: EventTarget, origin: &Origin) -> EventRecord {
    let millis = now.millis();
    let nanos = u32::try_from(millis % 1000).expect("less than a thousand") * 1_000_000;
    let id = Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, millis / 1000, nanos));
    EventRecord {
        at: millis,
        id: id.into_bytes(),
        action,
        target,
        actor: origin.actor.as_str().into(),
        request: origin.request.clone(),
    }
}

/// A blob in a repository, as events tell of it.
pub(super) fn blob(
    repository: &RepositoryName,
    digest: Digest,
    media_type: &MediaType,
    size: u64,
) -> EventTarget {
    EventTarget {
        digest: Some(digest),
        media_type: Some(media_type.clone()),
        size: Some(size),
        ..bare(TargetKind::Blob, repository)
    }
}

/// A manifest in a repository, as events tell of it.
pub(super) fn manifest(
    repository: &RepositoryName,
    digest: Digest,
    media_type: &MediaType,
    size: u64,
    tag: Option<&Tag>,
) -> EventTarget {
    EventTarget {
        kind: TargetKind::Manifest,
        tag: tag.cloned(),
        ..blob(repository, digest, media_type, size)
    }
}

/// What is gone from a repository, of which events tell no more than its name.
pub(super) fn gone(
    kind: TargetKind,
    repository: &RepositoryName,
    digest: Option<Digest>,
    tag: Option<&Tag>,
) -> EventTarget {
    EventTarget { digest, tag: tag.cloned(), ..bare(kind, repository) }
}

fn bare(kind: TargetKind, repository: &RepositoryName) -> EventTarget {
    EventTarget {
        kind,
        repository: repository.clone(),
        digest: None,
        media_type: None,
        size: None,
        tag: None,
        from: None,
        references: Vec::new(),
    }
}

/// What a manifest names, as events list it: the first of it, so that the log doesn't grow with what strangers push.
pub(super) fn references(manifest: &Manifest) -> Vec<EventReference> {
    let reference = |child: &crate::oci::Child| EventReference {
        media_type: child.descriptor.media_type.clone(),
        digest: child.descriptor.digest,
        size: child.descriptor.size,
    };
    manifest.children.iter().take(MAX_REFERENCES).map(reference).collect()
}

/// Some of the log, as one listener reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// The events with their numbers.
    pub events: Vec<(u64, EventRecord)>,
    /// How many events between those that were taken and these have been dropped.
    pub dropped: u64,
    /// The number of the newest event there is.
    pub newest: u64,
}

/// The log of a registry's events, for whoever delivers them.
#[derive(Debug, Clone)]
pub struct EventLog {
    inner: Arc<Inner>,
}

impl EventLog {
    pub(super) fn new(inner: Arc<Inner>) -> EventLog {
        EventLog { inner }
    }

    /// Those who listen.
    pub fn listeners(&self) -> &[Listener] {
        &self.inner.events.options.listeners
    }

    /// The number of the last event that the listener has taken, as recorded.
    pub fn cursor(&self, listener: &str) -> Result<u64, Error> {
        Ok(self.inner.metadata.read(|tx| events::cursor(tx, listener))?.unwrap_or(0))
    }

    /// The number of the newest event there has been.
    pub fn newest(&self) -> Result<u64, Error> {
        Ok(self.inner.metadata.read(events::last)?)
    }

    /// Up to `limit` events behind the one numbered `after`, oldest first.
    pub fn read(&self, after: u64, limit: usize) -> Result<EventPage, Error> {
        Ok(self.inner.metadata.read(|tx| {
            let events = events::read(tx, after, limit)?;
            let newest = events::last(tx)?;
            let next = events.first().map_or(newest + 1, |(number, _)| *number);
            Ok(EventPage { dropped: next.saturating_sub(after + 1), events, newest })
        })?)
    }

    /// Changes after commits that may have added events.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.inner.events.committed.subscribe()
    }

    /// Waits until so many pulls are in memory that [`settle`](Self::settle) should not wait for its time.
    pub async fn many_pulls(&self) {
        self.inner.events.many_pulls.notified().await;
    }

    /// Writes the pulls that wait in memory, records how far listeners are, forgets those that are no more, and removes
    /// from the log what all have taken, what is too old, and what is too much. Nothing is written where nothing has
    /// changed.
    pub async fn settle(&self, cursors: &[(String, u64)]) -> Result<(), Error> {
        settle(&self.inner, cursors.to_vec()).await
    }
}

/// Writes the pulls that wait in memory.
pub(super) async fn write_pulls(inner: &Arc<Inner>) -> Result<(), Error> {
    let pulls = inner.events.take_pulls();
    let (count, max_events) = (pulls.len(), inner.events.options.max_events);
    let append =
        move |tx: &WriteTx<'_>| Ok(pulls.iter().try_for_each(|pull| events::append(tx, pull, max_events))?);
    let written = inner.metadata.write(append).await;
    inner.events.wrote_pulls(count, &written);
    written
}

async fn settle(inner: &Arc<Inner>, cursors: Vec<(String, u64)>) -> Result<(), Error> {
    let pulls = inner.events.take_pulls();
    let count = pulls.len();
    let EventOptions { max_events, max_age, .. } = inner.events.options;
    let not_before = inner.clock.now().saturating_sub(max_age).millis();
    let listeners: Vec<String> =
        inner.events.options.listeners.iter().map(|listener| listener.name.clone()).collect();
    let trim = move |tx: &WriteTx<'_>| {
        // Where nobody listens, everything may go.
        let taken = events::cursors(tx)?.into_iter().map(|(_, number)| number).min().unwrap_or(u64::MAX);
        events::trim(tx, &Bounds { taken, not_before, max_events }, TRIM_AT_ONCE)
    };
    let written = inner
        .metadata
        .write(move |tx| {
            for pull in &pulls {
                events::append(tx, pull, max_events)?;
            }
            for (name, known) in events::cursors(tx)? {
                if !listeners.contains(&name) {
                    events::remove_cursor(tx, &name)?;
                } else if let Some((_, number)) = cursors.iter().find(|(listener, _)| *listener == name)
                    && known < *number
                {
                    events::set_cursor(tx, &name, *number)?;
                }
            }
            Ok::<_, Error>(trim(tx)?)
        })
        .await;
    inner.events.wrote_pulls(count, &written);
    let mut has_more = written?;
    while has_more {
        has_more = inner.metadata.write(move |tx| Ok::<_, Error>(trim(tx)?)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::fsio::SimulatedDisk;
    use crate::registry::{Depth, Options, Registry};

    use super::*;

    #[test]
    fn a_listener_who_has_taken_what_never_was_is_found() {
        let mut options = Options::new("/data");
        options.disk = Arc::new(SimulatedDisk::new());
        let registry = Registry::open(options).unwrap();
        assert!(registry.verify(Depth::Quick).unwrap().is_clean());
        registry.0.metadata.write_blocking(|tx| events::set_cursor(tx, "hook", 9)).unwrap();
        let report = registry.verify(Depth::Quick).unwrap();
        assert_eq!(report.problems, ["the endpoint hook has taken event 9, and there are only 0"]);
    }
}
