//! The server that the clients work with, killed and started again as often as it is told to.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use crate::killer::Killer;
use crate::program::Program;
use crate::random::Random;

/// How often a look is taken whether the server was killed.
const LOOK: Duration = Duration::from_millis(5);

/// One run of the server. Its killer outlives everybody who reports to it.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) number: u64,
    pub(crate) address: SocketAddr,
    pub(crate) killer: &'static Killer,
}

/// Where the server can be found now.
#[derive(Default)]
pub(crate) struct Arena {
    run: Mutex<Option<Run>>,
    changed: Condvar,
}

impl Arena {
    /// Waits for a run of the server behind the one with the number `former`.
    pub(crate) fn run_after(&self, former: u64) -> Run {
        let is_old = |run: &mut Option<Run>| run.is_none_or(|run| run.number <= former);
        let run = self.changed.wait_while(self.run.lock().unwrap(), is_old).unwrap();
        run.expect("waited for")
    }

    /// Serves until `done` is dropped; kills the server after about `kill_after` requests, again and again, where that isn't
    /// zero. Returns how often it was killed.
    pub(crate) fn serve(
        &self,
        directory: &Path,
        settings: &[String],
        kill_after: u64,
        random: &mut Random,
        done: &Receiver<()>,
    ) -> u64 {
        for number in 1.. {
            let mut program = Program::start_with(directory, settings);
            let killer = match kill_after {
                0 => Killer::none(program.pid()),
                requests => Killer::after_requests(program.pid(), 1 + random.below(2 * requests)),
            };
            let killer: &'static Killer = Box::leak(Box::new(killer));
            *self.run.lock().unwrap() = Some(Run { number, address: program.address, killer });
            self.changed.notify_all();
            while !program.has_ended() {
                if done.recv_timeout(LOOK) == Err(RecvTimeoutError::Disconnected) {
                    // The last request may have been the one that killed it.
                    if killer.is_done() {
                        program.reap();
                    } else {
                        program.stop();
                    }
                    return number - 1 + u64::from(killer.is_done());
                }
            }
            assert!(killer.is_done(), "the server ended by itself");
        }
        unreachable!("it serves until everybody has finished")
    }
}
