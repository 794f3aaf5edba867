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
        match catch_unwind(AssertUnwindSafe(|| (self.closure)(tx))) {
            Ok(result) => {
                let ran = if result.is_ok() { Ran::Done } else { Ran::Refused };
                self.result = Some(result);
                ran
            }
            Err(_) => {
                self.result = Some(Err(Error::Panicked.into()));
                Ran::Panicked
            }
        }
    }

    fn answer(self: Box<Self>) {
        let result = self.result.unwrap_or_else(|| Err(Error::Closed.into()));
        // The one who asked may have gone; what was committed stays.
        let _ = self.reply.send(result);
    }

    fn fail(self: Box<Self>, error: Error) {
        let _ = self.reply.send(Err(error.into()));
    }
}

/// The writer thread; it ends when this is dropped, after the writes that wait.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Option<Sender<Box<dyn Job>>>,
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
        let (jobs, waiting) = channel();
        let thread = std::thread::Builder::new()
            .name("metadata-writer".into())
            .spawn(move || run(&slot, &metrics, &waiting))?;
        Ok(Writer { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Hands a closure to the thread. The answer comes after the commit that makes it durable.
    pub(super) fn submit<T, E, F>(&self, closure: F) -> oneshot::Receiver<Result<T, E>>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnMut(&WriteTx<'_>) -> Result<T, E> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        if let Some(jobs) = &self.jobs {
            // A failed send drops the job and with it the reply, which the receiver reports as closed.
            let _ = jobs.send(Box::new(Write { closure, result: None, reply }));
        }
        answer
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // The thread catches the panics of closures; its own would have been reported when it happened.
            let _ = thread.join();
        }
    }
}

fn run(slot: &DatabaseSlot, metrics: &StorageMetrics, waiting: &Receiver<Box<dyn Job>>) {
    while let Ok(first) = waiting.recv() {
        let mut batch = vec![first];
        batch.extend(waiting.try_iter().take(MAX_BATCH - 1));
        commit_batch(slot, metrics, batch);
    }
}

/// Runs and answers every job of the batch.
fn commit_batch(slot: &DatabaseSlot, metrics: &StorageMetrics, mut batch: Vec<Box<dyn Job>>) {
    let mut retried = false;
    while !batch.is_empty() {
        let mut ran = false;
        let opened = slot.opened();
        let began = clock::monotonic();
        let outcome = slot.write(|transaction| {
            ran = true;
            run_batch(transaction, &mut batch)
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

fn run_batch(transaction: WriteTransaction, batch: &mut [Box<dyn Job>]) -> Result<Outcome, Error> {
    let tx = WriteTx::new(&transaction);
    for place in 0..batch.len() {
        let before = tx.writes();
        match batch[place].run(&tx) {
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
    drop(tx);
    if wrote {
        transaction.commit().map_err(Error::from_redb)?;
    } else {
        transaction.abort().map_err(Error::from_redb)?;
    }
    Ok(Outcome::Committed { wrote })
}
