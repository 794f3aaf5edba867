//! Snapshots by the clock.
//!
//! Each target has a task of its own, which takes one snapshot at a time. What it goes by is the last snapshot of the target itself:
//! nothing else is stored, so that a restart, a restore and a snapshot by hand all count. What is due while no server runs is taken
//! after the next start.

use std::any::Any;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Backup, BackupTarget, CreateOptions, Error, Location, Snapshot, create, prune};
use crate::clock::{Timestamp, monotonic};
use crate::fsio::Disk;
use crate::registry::Registry;
use crate::telemetry::{BackupFigures, BackupMetrics};

/// The time from the start to the first snapshot, unless the schedule is tighter: the first moments are left to clients.
const FIRST: Duration = Duration::from_secs(5);
/// The longest time between two looks at the clock, which may jump.
const LOOK: Duration = Duration::from_secs(30);
/// The pause after a failure, unless the schedule is tighter; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);

/// A failure to take a snapshot, or to prune.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupFailure {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    /// How many there were without a success between.
    pub in_a_row: u64,
}

/// How a target does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupStatus {
    /// What is wanted.
    pub target: BackupTarget,
    /// Its last snapshot, as far as it was looked for.
    pub last: Option<Snapshot>,
    /// How long that took, where this process has taken it.
    pub took: Option<Duration>,
    /// Since when one is being taken.
    pub running_since: Option<Timestamp>,
    /// What has failed since the last success.
    pub failure: Option<BackupFailure>,
    /// When the next one is due.
    pub due: Timestamp,
    /// Whether it should have been there long ago.
    pub is_overdue: bool,
}

/// Takes snapshots by the clock. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct BackupSchedule(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    registry: Registry,
    disk: Arc<dyn Disk>,
    metrics: BackupMetrics,
    targets: watch::Sender<Vec<Arc<Target>>>,
    stopping: watch::Sender<bool>,
}

/// One target, as it is wanted until the configuration changes.
#[derive(Debug)]
struct Target {
    wanted: BackupTarget,
    name: String,
    /// Since when it is wanted.
    since: Timestamp,
    state: Mutex<State>,
    /// Whether it isn't wanted any more.
    ended: watch::Sender<bool>,
}

#[derive(Debug, Clone, Default)]
struct State {
    last: Option<Snapshot>,
    took: Option<Duration>,
    running_since: Option<Timestamp>,
    failure: Option<BackupFailure>,
    successes: u64,
    failures: u64,
    /// Whether the log says that it is overdue.
    is_told: bool,
}

/// What came of an attempt.
enum Attempt {
    /// A snapshot was taken.
    Taken,
    /// Somebody else has taken one meanwhile.
    NotDue,
}

impl BackupSchedule {
    /// A schedule without targets, which nobody runs yet.
    pub fn new(registry: Registry, disk: Arc<dyn Disk>, metrics: BackupMetrics) -> BackupSchedule {
        let (targets, stopping) = (watch::Sender::default(), watch::Sender::new(false));
        BackupSchedule(Arc::new(Shared { registry, disk, metrics, targets, stopping }))
    }

    /// Goes by these targets from now on; the answer says whether they are others than before. A snapshot that is being taken to one
    /// that is changed or gone ends without one; what it has copied stays.
    pub fn set_targets(&self, wanted: &[BackupTarget]) -> bool {
        self.0.targets.send_if_modified(|targets| {
            if targets.iter().map(|target| &target.wanted).eq(wanted) {
                return false;
            }
            let before = std::mem::take(targets);
            let now = self.0.registry.now();
            *targets = wanted
                .iter()
                .map(|wanted| match before.iter().find(|target| target.wanted.to == wanted.to) {
                    Some(same) if same.wanted == *wanted => Arc::clone(same),
                    other => {
                        let state = other.map(|other| State { running_since: None, ..other.state().clone() });
                        Arc::new(Target {
                            wanted: wanted.clone(),
                            name: wanted.name(),
                            since: other.map_or(now, |other| other.since),
                            state: Mutex::new(state.unwrap_or_default()),
                            ended: watch::Sender::new(false),
                        })
                    }
                })
                .collect();
            for gone in before.iter().filter(|gone| !targets.iter().any(|target| Arc::ptr_eq(target, gone))) {
                gone.ended.send_replace(true);
                if !targets.iter().any(|target| target.name == gone.name) {
                    self.0.metrics.forget(&gone.name);
                }
            }
            for target in targets.iter() {
                self.0.show(target);
            }
            true
        })
    }

    /// How each target does, in the order of the configuration.
    pub fn status(&self) -> Vec<BackupStatus> {
        let (targets, now) = (self.0.targets.borrow().clone(), self.0.registry.now());
        let status = |target: Arc<Target>| {
            let state = target.state().clone();
            let due = target.due(&state, now);
            BackupStatus {
                target: target.wanted.clone(),
                last: state.last,
                took: state.took,
                running_since: state.running_since,
                failure: state.failure,
                due,
                is_overdue: now > target.wanted.overdue_from(due),
            }
        };
        targets.into_iter().map(status).collect()
    }

    /// Looks for the last snapshot of each target, for who doesn't run the schedule. Blocks.
    pub fn look(&self) {
        let targets = self.0.targets.borrow().clone();
        for target in targets {
            match self.0.open(&target).and_then(|backup| last_of(&backup)) {
                Ok(last) => target.state().last = last,
                Err(error) => self.0.failed(&target, &error.to_string()),
            }
        }
    }

    /// Takes snapshots until it is stopped, and returns when none is being taken any more.
    pub async fn run(self) {
        let (mut updates, mut stopping) = (self.0.targets.subscribe(), self.0.stopping.subscribe());
        let mut tasks: Vec<(Arc<Target>, JoinHandle<()>)> = Vec::new();
        loop {
            let wanted = updates.borrow_and_update().clone();
            let is_wanted = |target: &Arc<Target>| wanted.iter().any(|wanted| Arc::ptr_eq(wanted, target));
            let (stay, mut go): (Vec<_>, Vec<_>) =
                tasks.into_iter().partition(|(target, task)| is_wanted(target) && !task.is_finished());
            tasks = stay;
            for target in wanted {
                if tasks.iter().any(|(other, _)| Arc::ptr_eq(other, &target)) {
                    continue;
                }
                // Two never work in one directory.
                let before = go.iter().position(|(other, _)| other.name == target.name);
                let before = before.map(|at| go.swap_remove(at).1);
                let task = Arc::clone(&self.0).follow(Arc::clone(&target), before);
                tasks.push((target, tokio::spawn(task)));
            }
            tasks.extend(go);
            tokio::select! {
                // An error means the end too.
                _ = stopping.wait_for(|stopping| *stopping) => break,
                changed = updates.changed() => if changed.is_err() { break },
            }
        }
        for (_, task) in tasks {
            // Where it has panicked, that was logged.
            let _ = task.await;
        }
    }

    /// Ends [`run`](Self::run), and a snapshot that is being taken without one.
    pub fn stop(&self) {
        self.0.stopping.send_replace(true);
    }
}

impl Target {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn due(&self, state: &State, now: Timestamp) -> Timestamp {
        let last = state.last.as_ref().map(|last| Timestamp::from_millis(last.taken_at_millis));
        self.wanted.due(last, self.since, now)
    }
}

/// Whether a task should end.
struct Over {
    stopping: watch::Receiver<bool>,
    ended: watch::Receiver<bool>,
}

impl Over {
    fn is(&self) -> bool {
        *self.stopping.borrow() || *self.ended.borrow()
    }

    async fn wait(&mut self) {
        // Errors mean the same.
        tokio::select! {
            _ = self.stopping.wait_for(|stopping| *stopping) => {}
            _ = self.ended.wait_for(|ended| *ended) => {}
        }
    }
}

impl Shared {
    /// Takes one snapshot after the other to a target, once `before` has ended.
    async fn follow(self: Arc<Self>, target: Arc<Target>, before: Option<JoinHandle<()>>) {
        if let Some(before) = before {
            // Where it has panicked, that was logged.
            let _ = before.await;
        }
        let mut over = Over { stopping: self.stopping.subscribe(), ended: target.ended.subscribe() };
        // So that people see how old it is from the start.
        let (shared, of) = (Arc::clone(&self), Arc::clone(&target));
        match blocking(move || whole_last_of(&of, &shared.open(&of)?)).await {
            Ok(last) => target.state().last = last,
            Err(error) => {
                self.failed(&target, &error.to_string());
                tracing::warn!(backup = target.name, %error, "no backup can be taken; trying again in a moment");
            }
        }
        self.show(&target);
        let mut pause = FIRST.min(target.wanted.every);
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = over.wait() => return,
            }
            let now = self.registry.now();
            let due = target.due(&target.state(), now);
            self.tell_overdue(&target, now, due);
            if now < due {
                pause = due.since(now).min(LOOK);
                continue;
            }
            target.state().running_since = Some(now);
            self.show(&target);
            let attempt = self.attempt(&target, &mut over).await;
            target.state().running_since = None;
            pause = match attempt {
                Ok(Attempt::Taken | Attempt::NotDue) => Duration::ZERO,
                Err(Error::Stopped) if over.is() => Duration::ZERO,
                Err(error) => {
                    self.failed(&target, &error.to_string());
                    let pause = pause_after(target.failures_in_a_row(), target.wanted.every);
                    let again = pause.as_secs();
                    tracing::warn!(backup = target.name, %error, again_in_seconds = again, "no backup was taken");
                    pause
                }
            };
            self.show(&target);
        }
    }

    /// Takes a snapshot where one is due, and removes those that don't stay.
    async fn attempt(self: &Arc<Self>, target: &Arc<Target>, over: &mut Over) -> Result<Attempt, Error> {
        let began = monotonic();
        let (shared, of) = (Arc::clone(self), Arc::clone(target));
        let (backup, last) = blocking(move || {
            let backup = shared.open(&of)?;
            let last = whole_last_of(&of, &backup)?;
            Ok((backup, last))
        })
        .await?;
        let now = self.registry.now();
        let is_due = {
            let mut state = target.state();
            state.last = last;
            now >= target.due(&state, now)
        };
        if !is_due {
            return Ok(Attempt::NotDue);
        }
        let hold = tokio::select! {
            hold = self.registry.hold_collection() => hold,
            () = over.wait() => return Err(Error::Stopped),
        };
        let (shared, of) = (Arc::clone(self), Arc::clone(target));
        let (stopping, ended) = (over.stopping.clone(), over.ended.clone());
        let snapshot = blocking(move || {
            let over = Over { stopping, ended };
            let options = CreateOptions { with_cached: of.wanted.include_cache, link: false };
            create(&shared.registry, hold, &backup, options, &mut |_| going(&over))
        })
        .await?;
        tracing::info!(
            backup = target.name,
            snapshot = %snapshot.name,
            bytes = snapshot.bytes,
            added_bytes = snapshot.added_bytes,
            lost = snapshot.lost.len(),
            "took a backup"
        );
        {
            let mut state = target.state();
            (state.took, state.failure) = (Some(began.elapsed()), None);
            state.last = Some(snapshot);
            state.successes += 1;
            state.is_told = false;
        }
        self.show(target);
        self.prune(target, over).await;
        Ok(Attempt::Taken)
    }

    /// Removes what doesn't stay. A failure is told, and the next snapshot tries again.
    async fn prune(self: &Arc<Self>, target: &Arc<Target>, over: &Over) {
        let keep = target.wanted.keep;
        if keep.is_nothing() {
            return;
        }
        let (shared, of) = (Arc::clone(self), Arc::clone(target));
        let (stopping, ended) = (over.stopping.clone(), over.ended.clone());
        let pruned = blocking(move || {
            let over = Over { stopping, ended };
            let backup = shared.open(&of)?;
            let snapshots: Result<Vec<Snapshot>, Error> =
                backup.names()?.iter().map(|name| backup.snapshot(name)).collect();
            let remove = keep.plan(&snapshots?).remove;
            if remove.is_empty() {
                return Ok(None);
            }
            prune(&backup, &remove, &mut |_| going(&over)).map(Some)
        });
        match pruned.await {
            Ok(None) => {}
            Ok(Some(pruned)) => tracing::info!(
                backup = target.name,
                snapshots = pruned.snapshots,
                files = pruned.files,
                bytes = pruned.bytes,
                "removed old backups"
            ),
            Err(Error::Stopped) if over.is() => {}
            Err(error) => {
                self.failed(
                    target,
                    &format!("a backup was taken, but old ones could not be removed: {error}"),
                );
                tracing::warn!(backup = target.name, %error, "old backups could not be removed");
            }
        }
    }

    /// The backup of a target. Blocks.
    fn open(&self, target: &Target) -> Result<Backup, Error> {
        let BackupTarget { to, options, .. } = &target.wanted;
        // A disk that isn't mounted must not become a backup beside the data.
        if let Location::Directory(dir) = to
            && !std::fs::metadata(dir).is_ok_and(|metadata| metadata.is_dir())
        {
            return Err(Error::Absent(dir.clone()));
        }
        Backup::create_at(Arc::clone(&self.disk), to, options)
    }

    fn failed(&self, target: &Target, reason: &str) {
        let at = self.registry.now();
        let mut state = target.state();
        let in_a_row = state.failure.as_ref().map_or(0, |failure| failure.in_a_row) + 1;
        state.failure = Some(BackupFailure { at, reason: reason.to_owned(), in_a_row });
        state.failures += 1;
    }

    /// Says once that a target is overdue.
    fn tell_overdue(&self, target: &Target, now: Timestamp, due: Timestamp) {
        self.show(target);
        let is_overdue = now > target.wanted.overdue_from(due);
        if is_overdue && !std::mem::replace(&mut target.state().is_told, true) {
            tracing::warn!(backup = target.name, due = %due, "a backup is overdue");
        }
    }

    /// Lets the metrics show how a target does.
    fn show(&self, target: &Target) {
        let state = target.state();
        let due = target.due(&state, self.registry.now());
        let figures = BackupFigures {
            last_success: state.last.as_ref().map(|last| Timestamp::from_millis(last.taken_at_millis)),
            overdue_from: Some(target.wanted.overdue_from(due)),
            took: state.took,
            bytes: state.last.as_ref().map_or(0, |last| last.bytes),
            added_bytes: state.last.as_ref().map_or(0, |last| last.added_bytes),
            successes: state.successes,
            failures: state.failures,
            is_running: state.running_since.is_some(),
        };
        if !*target.ended.borrow() {
            self.metrics.show(&target.name, figures);
        }
    }
}

impl Target {
    fn failures_in_a_row(&self) -> u64 {
        self.state().failure.as_ref().map_or(0, |failure| failure.in_a_row)
    }
}

/// The last snapshot of a backup. Blocks.
fn last_of(backup: &Backup) -> Result<Option<Snapshot>, Error> {
    backup.names()?.last().map(|name| backup.snapshot(name)).transpose()
}

/// The same for who takes the next one: where the last one is damaged, there is none. Blocks.
fn whole_last_of(target: &Target, backup: &Backup) -> Result<Option<Snapshot>, Error> {
    match last_of(backup) {
        Err(error @ Error::Damaged { .. }) => {
            tracing::warn!(backup = target.name, %error, "the last backup is damaged; another one is due");
            Ok(None)
        }
        last => last,
    }
}

fn going(over: &Over) -> ControlFlow<()> {
    if over.is() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// The pause after so many failures in a row: it doubles, is never longer than the time between two snapshots, and a fourth of it is
/// left to chance, so that many machines don't come back to one store at once.
fn pause_after(failures: u64, every: Duration) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1).min(16)).unwrap_or(16);
    let pause = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE).min(every);
    // The keys of a hasher are random.
    let random = u32::try_from(RandomState::new().hash_one(0_u8) >> 32).unwrap_or(u32::MAX);
    pause.saturating_sub((pause / 4).mul_f64(f64::from(random) / f64::from(u32::MAX)))
}

/// Does what blocks, and turns a panic into an error.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let caught = || std::panic::catch_unwind(AssertUnwindSafe(work));
    match tokio::task::spawn_blocking(caught).await {
        Ok(Ok(done)) => done,
        Ok(Err(panic)) => Err(Error::Panicked(panicked(panic.as_ref()))),
        // The runtime ends.
        Err(_) => Err(Error::Stopped),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_vary_and_are_never_longer_than_the_schedule() {
        let (hour, day) = (Duration::from_secs(3_600), Duration::from_secs(86_400));
        for (failures, longest) in [(1, 30), (2, 60), (4, 240), (8, 3_600), (1_000, 3_600)] {
            let longest = Duration::from_secs(longest);
            let pauses: Vec<Duration> = (0..50).map(|_| pause_after(failures, day)).collect();
            assert!(pauses.iter().all(|pause| (longest * 3 / 4..=longest).contains(pause)), "{pauses:?}");
            assert!(pauses.iter().any(|pause| *pause != pauses[0]), "they vary");
        }
        assert!(pause_after(1_000, hour / 60) <= hour / 60);
    }
}
