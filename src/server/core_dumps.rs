//! Core dumps, which would hold whatever was in memory.

use rustix::process::{Resource, Rlimit, setrlimit};

/// Keeps the system from writing the process's memory to a file when it crashes, and says whether it does.
pub fn forbid_core_dumps() -> bool {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).is_ok()
}
