//! Who runs on which processors, so that a server and those who ask it don't take them from each other, and what a thread has used.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Some of the machine's processors.
#[derive(Clone, Debug)]
pub(crate) struct Processors(Vec<usize>);

impl Processors {
    /// All that this program may use.
    pub(crate) fn all() -> Processors {
        let may = sched_getaffinity(None).expect("a thread may ask");
        Processors((0..CpuSet::MAX_CPU).filter(|processor| may.is_set(*processor)).collect())
    }

    /// Those of the server and those of the load generator: half of them each, apart from each other. A machine with one processor has
    /// it for both.
    pub(crate) fn apart() -> (Processors, Processors) {
        let Processors(all) = Processors::all();
        if all.len() < 2 {
            return (Processors(all.clone()), Processors(all));
        }
        let (server, load) = all.split_at(all.len().div_ceil(2));
        (Processors(server.to_vec()), Processors(load.to_vec()))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Moves the calling thread, and those that it starts, to these.
    pub(crate) fn take(&self) {
        let mut set = CpuSet::new();
        self.0.iter().for_each(|processor| set.set(*processor));
        sched_setaffinity(None, &set).expect("a thread may move to where it was allowed before");
    }

    /// Does something, as [`Processors::take`]; the thread moves back afterwards.
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = Processors::all();
        self.take();
        let done = work();
        before.take();
        done
    }
}

/// Processor time of the calling thread.
pub(crate) fn cpu_of_this_thread() -> Duration {
    cpu_in(Path::new("/proc/thread-self/schedstat"))
}

/// Processor time in a file that the kernel calls `schedstat`.
pub(crate) fn cpu_in(schedstat: &Path) -> Duration {
    let text = fs::read_to_string(schedstat).unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0))
}
