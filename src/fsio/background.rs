//! Long work that nobody waits for.

use std::panic::resume_unwind;
use std::thread;

/// How much less the thread gets of a processor than others: about a tenth, where they want all of it. With the least that there is, a
/// lock that it holds could keep others waiting for as long as they are busy.
const NICER: i32 = 10;

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
