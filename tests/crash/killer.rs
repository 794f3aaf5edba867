//! When the server dies: by the progress that its clients see, so that every moment of a push has its turn.

#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use crate::random::Random;

/// Kills one server as soon as its clients together have sent so many bytes, or so many whole requests, or have
/// received so many answers.
pub(crate) struct Killer {
    pid: Pid,
    bytes: Countdown,
    requests: Countdown,
    answers: Countdown,
    is_done: AtomicBool,
}

/// Reaches zero once.
struct Countdown(AtomicU64);

impl Countdown {
    /// One that never ends.
    const NEVER: u64 = 1 << 60;

    fn passes(&self, count: u64) -> bool {
        let before = self.0.fetch_sub(count, Ordering::Relaxed);
        before > 0 && before <= count
    }
}

impl Killer {
    /// A killer that waits for one randomly chosen moment.
    pub(crate) fn new(pid: Pid, random: &mut Random) -> Self {
        let (mut bytes, mut requests, mut answers) = (Countdown::NEVER, Countdown::NEVER, Countdown::NEVER);
        match random.below(4) {
            0 => bytes = 1 + random.below(1 << 20),
            1 => answers = 1 + random.below(60),
            // Twice as likely: the request is there, and the server is at work on it.
            _ => requests = 1 + random.below(60),
        }
        Self::at(pid, bytes, requests, answers)
    }

    /// A killer that waits for so many requests.
    pub(crate) fn after_requests(pid: Pid, requests: u64) -> Self {
        Self::at(pid, Countdown::NEVER, requests, Countdown::NEVER)
    }

    /// A killer that never comes.
    pub(crate) fn none(pid: Pid) -> Self {
        Self::at(pid, Countdown::NEVER, Countdown::NEVER, Countdown::NEVER)
    }

    fn at(pid: Pid, bytes: u64, requests: u64, answers: u64) -> Self {
        let countdown = |count| Countdown(AtomicU64::new(count));
        Self {
            pid,
            bytes: countdown(bytes),
            requests: countdown(requests),
            answers: countdown(answers),
            is_done: AtomicBool::new(false),
        }
    }

    /// Notes that `count` bytes of a body have left.
    pub(crate) fn sent_bytes(&self, count: usize) {
        if self.bytes.passes(count as u64) {
            self.kill();
        }
    }

    /// Notes that a request has left completely.
    pub(crate) fn sent_request(&self) {
        if self.requests.passes(1) {
            self.kill();
        }
    }

    /// Notes that an answer has come completely.
    pub(crate) fn received_answer(&self) {
        if self.answers.passes(1) {
            self.kill();
        }
    }

    /// Whether the server is dead, which excuses broken connections.
    pub(crate) fn is_done(&self) -> bool {
        self.is_done.load(Ordering::SeqCst)
    }

    fn kill(&self) {
        self.is_done.store(true, Ordering::SeqCst);
        kill_process(self.pid, Signal::KILL).unwrap();
    }
}
