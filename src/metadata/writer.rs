//! Group commit: one thread runs every write that waits in one transaction and answers them after its one commit.
//!
//! redb has one writer, and a durable commit costs two to three syncs. A closure checks before it writes. One that fails
//! without having written leaves the transaction as it was; one that fails or panics after its first write makes the
//! thread abort the transaction and run the others again without it. No answer leaves before the commit, a refusal
//! neither: it may rest on what an earlier closure of the same batch wrote.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use redb::WriteTransaction;
use tokio::sync::oneshot;

use super::database::DatabaseSlot;
use super::{Error, WriteTx};
use crate::clock;
use crate::telemetry::StorageMetrics;

/// The most writes that one commit answers; more wait for the next.
const MAX_BATCH: usize = 1024;

/// What a write did to the transaction.
enum Ran {
    /// It succeeded.
    Done,
    /// It refused, and wrote nothing or may have written something.
    Refused,
    /// It panicked.
    Panicked,
}

/// A write with its answer, of any type.
trait Job: Send {
    fn run(&mut self, tx: &WriteTx<'_>) -> Ran;
    /// Sends what the last run returned.
    fn answer(self: Box<Self>);
    /// Sends an error of the batch instead.
    fn fail(self: Box<Self>, error: Error);
}

struct Write<T, E, F> {
    closure: F,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Job for Write<T, E, F>
where
    T: Send,
    E: From<Error> + Send,
    F: FnMut(&WriteTx<'_>) -> Result<T, E> + Send,
{
    fn run(&mut self, tx: &WriteTx<'_>) -> Ran {
        // What an earlier run returned may hold what this one needs.
        self.result = None;
        if let Ok(result) = catch_unwind(AssertUnwindSafe(|| (self.closure)(tx))) {
            let ran = if result.is_ok() { Ran::Done } else { Ran::Refused };
            self.result = Some(result);
            ran
        } else {
            self.result = Some(Err(Error::Panicked.into()));
            Ran::Panicked
        }
    }

    fn answer(self: Box<Self>) {
        let Write { closure, result, reply } = *self;
        // What the closure holds may keep the metadata alive: it goes before somebody who waits can go on and drop the rest.
        drop(closure);
        let result = result.unwrap_or_else(|| Err(Error::Closed.into()));
        // The one who asked may have gone; what was committed stays.
        let _ = reply.send(result);
    }

    fn fail(self: Box<Self>, error: Error) {
        let Write { closure, reply, .. } = *self;
        drop(closure);
        let _ = reply.send(Err(error.into()));
    }
}

/// What the thread is handed, in the order in which it is done.
enum Task {
    /// A write, which shares its commit with those that wait beside it.
    Write(Box<dyn Job>),
    /// A halt between two transactions: it says so, and goes on when the other side is dropped.
    Hold { held: Sender<()>, until_dropped: Receiver<()> },
}

/// The writer thread waits, with no transaction open, until this is dropped.
#[derive(Debug)]
pub(super) struct Hold {
    _release: Sender<()>,
}

/// The writer thread; it ends when this is dropped, after the writes that wait.
#[derive(Debug)]
pub(super) struct Writer {
    tasks: Option<Sender<Task>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for dyn Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(slot: Arc<DatabaseSlot>, metrics: StorageMetrics) -> std::io::Result<Writer> {
        let (tasks, waiting) = channel();
        let thread = std::thread::Builder::new()
            .name("metadata-writer".into())
            .spawn(move || run(&slot, &metrics, &waiting))?;
        Ok(Writer { tasks: Some(tasks), thread: Some(thread) })
    }

    /// Hands a closure to the thread. The answer comes after the commit that makes it durable.
    pub(super) fn submit<T, E, F>(&self, closure: F) -> oneshot::Receiver<Result<T, E>>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnMut(&WriteTx<'_>) -> Result<T, E> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        if let Some(tasks) = &self.tasks {
            // A failed send drops the job and with it the reply, which the receiver reports as closed.
            let _ = tasks.send(Task::Write(Box::new(Write { closure, result: None, reply })));
        }
        answer
    }

    /// Asks the thread to halt when it has done what waits. What is received is the halt; nothing where it has ended.
    pub(super) fn hold(&self) -> impl FnOnce() -> Option<Hold> + use<> {
        let (held, is_held) = channel();
        let (release, until_dropped) = channel();
        if let Some(tasks) = &self.tasks {
            // A failed send drops both sides, which the receiver below sees.
            let _ = tasks.send(Task::Hold { held, until_dropped });
        }
        move || is_held.recv().ok().map(|()| Hold { _release: release })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.tasks.take());
        let Some(thread) = self.thread.take() else { return };
        // The last handle on the metadata may have been in a closure whose asker had gone.
        if thread.thread().id() != std::thread::current().id() {
            // The thread catches the panics of closures; its own would have been reported when it happened.
            let _ = thread.join();
        }
    }
}

fn run(slot: &DatabaseSlot, metrics: &StorageMetrics, waiting: &Receiver<Task>) {
    while let Ok(first) = waiting.recv() {
        let mut batch = Vec::new();
        let mut hold = None;
        for task in std::iter::once(first).chain(waiting.try_iter()) {
            match task {
                Task::Write(job) => batch.push(job),
                Task::Hold { held, until_dropped } => hold = Some((held, until_dropped)),
            }
            if hold.is_some() || batch.len() == MAX_BATCH {
                break;
            }
        }
        commit_batch(slot, metrics, batch);
        if let Some((held, until_dropped)) = hold
            && held.send(()).is_ok()
        {
            // Nothing is ever sent: it ends when the other side goes.
            let _ = until_dropped.recv();
        }
    }
}

/// Runs and answers every job of the batch.
///
/// Never a part of its caller, so that profiles show it, and its instructions can be counted (`tests/instructions`).
#[inline(never)]
fn commit_batch(slot: &DatabaseSlot, metrics: &StorageMetrics, mut batch: Vec<Box<dyn Job>>) {
    let mut retried = false;
    while !batch.is_empty() {
        let mut ran = false;
        let opened = slot.opened();
        let began = clock::monotonic();
        let outcome = slot.write(|transaction| {
            ran = true;
            run_batch(transaction, slot, &mut batch)
        });
        match outcome {
            Ok(Outcome::Committed { wrote }) => {
                if wrote {
                    metrics.commit(batch.len(), began.elapsed());
                }
                for job in batch.drain(..) {
                    job.answer();
                }
            }
            Ok(Outcome::Aborted { culprit }) => batch.remove(culprit).answer(),
            Err(error) => {
                // The handle is useless after it. A handle that was broken before has run nothing yet, so the batch may run
                // once on the new one; a commit that failed may be durable all the same and is never repeated.
                let reopened = slot.reopen(opened);
                if reopened.is_ok() && !ran && !retried {
                    retried = true;
                    continue;
                }
                for job in batch.drain(..) {
                    job.fail(error.clone());
                }
            }
        }
    }
}

/// How a transaction ended.
enum Outcome {
    /// It is durable, or nobody wrote anything.
    Committed { wrote: bool },
    /// The job at this place failed after it had written, and the transaction was rolled back.
    Aborted { culprit: usize },
}

fn run_batch(
    transaction: WriteTransaction,
    slot: &DatabaseSlot,
    batch: &mut [Box<dyn Job>],
) -> Result<Outcome, Error> {
    let tx = WriteTx::new(&transaction, slot.caches(), slot.changed_rows().of_transaction());
    for (place, job) in batch.iter_mut().enumerate() {
        let before = tx.writes();
        match job.run(&tx) {
            Ran::Done => {}
            Ran::Refused if tx.writes() == before => {}
            Ran::Refused | Ran::Panicked => {
                drop(tx);
                transaction.abort().map_err(Error::from_redb)?;
                return Ok(Outcome::Aborted { culprit: place });
            }
        }
    }
    let wrote = tx.writes() > 0;
    // Dropped when the commit has happened, or has failed, and before any answer leaves.
    let written = tx.finish();
    if wrote {
        transaction.commit().map_err(Error::from_redb)?;
    } else {
        transaction.abort().map_err(Error::from_redb)?;
    }
    drop(written);
    Ok(Outcome::Committed { wrote })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;
    use crate::fsio::SimulatedDisk;
    use crate::metadata::{Metadata, Options, Read, Table};

    fn metadata(metrics: &StorageMetrics) -> Metadata {
        let disk: Arc<dyn crate::fsio::Disk> = Arc::new(SimulatedDisk::new());
        disk.create_dir("/data".as_ref()).unwrap();
        Metadata::open(&disk, "/data", Options::default(), metrics.clone()).unwrap()
    }

    /// Keeps the writer thread busy until the returned sender is used or dropped, so that later writes share one batch.
    fn hold(metadata: &Metadata) -> mpsc::Sender<()> {
        let (release, held) = mpsc::channel::<()>();
        let (entered, started) = mpsc::channel();
        let held = std::sync::Mutex::new(held);
        drop(metadata.submit(move |_| {
            entered.send(()).unwrap();
            let _ = held.lock().unwrap().recv();
            Ok::<_, Error>(())
        }));
        started.recv().unwrap();
        release
    }

    fn put(key: &'static str) -> impl FnMut(&WriteTx<'_>) -> Result<(), Error> + Send {
        move |tx| tx.insert(Table::Meta, key, b"x")
    }

    fn has(metadata: &Metadata, key: &str) -> bool {
        metadata.read(|tx| tx.has(Table::Meta, key)).unwrap()
    }

    #[test]
    fn writes_that_wait_share_one_commit() {
        let metrics = StorageMetrics::default();
        let metadata = metadata(&metrics);
        let release = hold(&metadata);
        let answers: Vec<_> = ["a", "b", "c"].map(|key| metadata.submit(put(key))).into();
        drop(release);
        for answer in answers {
            answer.blocking_recv().unwrap().unwrap();
        }
        assert_eq!(metrics.commits(), 1);
        assert!(["a", "b", "c"].iter().all(|key| has(&metadata, key)));
    }

    #[test]
    fn a_write_that_fails_half_way_leaves_nothing_and_costs_the_others_nothing() {
        let metadata = metadata(&StorageMetrics::default());
        let release = hold(&metadata);
        let before = metadata.submit(put("before"));
        let failing = metadata.submit(|tx| {
            tx.insert(Table::Meta, "half", b"x")?;
            Err::<(), _>(Error::Full)
        });
        let panicking = metadata.submit(|tx| -> Result<(), Error> {
            tx.insert(Table::Meta, "panic", b"x")?;
            panic!("on purpose")
        });
        let after = metadata.submit(put("after"));
        drop(release);
        assert!(before.blocking_recv().unwrap().is_ok());
        assert!(matches!(failing.blocking_recv().unwrap(), Err(Error::Full)));
        assert!(matches!(panicking.blocking_recv().unwrap(), Err(Error::Panicked)));
        assert!(after.blocking_recv().unwrap().is_ok());
        let there: Vec<_> = ["before", "half", "panic", "after"].map(|key| has(&metadata, key)).into();
        assert_eq!(there, [true, false, false, true]);
    }

    #[test]
    fn a_refusal_before_the_first_write_aborts_nothing() {
        let metadata = metadata(&StorageMetrics::default());
        let release = hold(&metadata);
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = runs.clone();
        let first = metadata.submit(move |tx| {
            counted.fetch_add(1, Ordering::Relaxed);
            tx.insert(Table::Meta, "first", b"x")
        });
        let refused = metadata.submit(|tx| {
            // Sees what the batch wrote before it.
            if tx.has(Table::Meta, "first")? { Err(Error::Closed) } else { Ok(()) }
        });
        drop(release);
        assert!(first.blocking_recv().unwrap().is_ok());
        assert!(matches!(refused.blocking_recv().unwrap(), Err(Error::Closed)));
        assert_eq!(runs.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_write_that_only_looks_commits_nothing() {
        let metrics = StorageMetrics::default();
        let metadata = metadata(&metrics);
        metadata.write_blocking(|tx| tx.has(Table::Meta, "none")).unwrap();
        assert_eq!(metrics.commits(), 0);
    }

    #[test]
    fn closing_answers_what_waits_and_refuses_what_comes_later() {
        let metadata = metadata(&StorageMetrics::default());
        let release = hold(&metadata);
        let waiting = metadata.submit(put("waiting"));
        drop(release);
        metadata.close();
        assert!(waiting.blocking_recv().unwrap().is_ok());
        assert!(matches!(metadata.write_blocking(put("late")), Err(Error::Closed)));
        assert!(matches!(metadata.read(|tx| tx.has(Table::Meta, "late")), Err(Error::Closed)));
    }
    /// Says when it is dropped whether that happens in a panic.
    struct Witness(mpsc::Sender<bool>);

    impl Drop for Witness {
        fn drop(&mut self) {
            let _ = self.0.send(std::thread::panicking());
        }
    }

    /// A request that was given up held the last handle in its closure, and the writer thread waited for its own end.
    #[test]
    fn the_last_handle_may_go_on_the_writer_thread() {
        let metadata = Arc::new(metadata(&StorageMetrics::default()));
        let release = hold(&metadata);
        let (dropped, gone) = mpsc::channel();
        let held = (metadata.clone(), Witness(dropped));
        drop(metadata.submit(move |_| {
            let _ = &held;
            Ok::<_, Error>(())
        }));
        drop(metadata);
        drop(release);
        assert_eq!(gone.recv(), Ok(false));
    }
}
