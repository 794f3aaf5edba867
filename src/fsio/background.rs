//! Long work that nobody waits for.

use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use crate::clock::monotonic;

/// How much less the thread gets of a processor than others: about a tenth, where they want all of it. With the least that there is, a
/// lock that it holds could keep others waiting for as long as they are busy.
const NICER: i32 = 10;

/// The longest rest behind a turn.
const LONGEST_REST: Duration = Duration::from_millis(200);

/// A turn of work on the disk, behind which others have it to themselves for a while.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    began: Instant,
    changes: u64,
}

impl Turn {
    /// Begins one; `changes` is how often others have changed something so far.
    pub fn begin(changes: u64) -> Turn {
        Turn { began: monotonic(), changes }
    }

    /// How long to rest behind it: so many times as long as it took, within bounds, and not at all where nobody has changed
    /// anything meanwhile.
    pub fn rest(self, changes: u64, times: u32) -> Duration {
        if changes == self.changes {
            Duration::ZERO
        } else {
            (self.began.elapsed() * times).min(LONGEST_REST)
        }
    }
}

/// Does long work on a thread of its own that gives way to all others of this process. Blocks until it is done; a panic goes on
/// here.
pub fn in_background<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let giving_way = || {
            // On Linux this is of the thread alone. Where it is refused, the work takes its share.
            let _ = rustix::process::nice(NICER);
            work()
        };
        scope.spawn(giving_way).join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_followed_by_a_rest_only_where_others_have_worked_meanwhile() {
        let turn = Turn::begin(3);
        thread::sleep(Duration::from_millis(2));
        assert_eq!(turn.rest(3, 2), Duration::ZERO);
        let rest = turn.rest(4, 2);
        assert!(rest >= Duration::from_millis(4) && rest <= LONGEST_REST, "{rest:?}");
        assert_eq!(turn.rest(4, 1_000), LONGEST_REST);
    }

    #[test]
    fn work_in_the_background_gives_way_alone() {
        let nice = || rustix::process::getpriority_process(None).expect("it can be asked");
        let before = nice();
        let lower = in_background(nice);
        // 19 is the least that there is.
        assert_eq!(lower, (before + NICER).min(19));
        assert_eq!(nice(), before);
    }
}
