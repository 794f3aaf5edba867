//! The load generator: clients on processors of their own that say how long each thing took.
//!
//! - [`closed`]: each client waits for an answer before it asks again; that shows what a server can do at most.
//! - [`open`]: requests have times at which they are due, whether the ones before are answered or not, and how long one took counts
//!   from then on; that shows what people wait for.
//! - [`streams`]: large bodies, each over a connection of its own, read or written in large pieces.

mod closed;
mod connection;
pub(crate) mod exchange;
mod open;
mod streams;

pub(crate) use closed::closed;
pub(crate) use connection::{Connection, Request};
pub(crate) use open::open;
pub(crate) use streams::streams;

use std::time::Duration;

/// Which operation of which client it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// The client, from 0.
    pub(crate) client: u64,
    /// Its operation, from 0.
    pub(crate) number: u64,
}

/// When clients end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// After so many operations each.
    Each(u64),
    /// After this time.
    Elapsed(Duration),
}

/// A generator that uses more than this share of its processors is the limit itself.
const LIMIT: f64 = 0.95;

/// Whether clients that used so much of so many processors were the limit.
pub(crate) fn is_limit(cpu: Duration, elapsed: Duration, processors: usize) -> bool {
    cpu.as_secs_f64()
        > LIMIT * elapsed.as_secs_f64() * f64::from(u32::try_from(processors).unwrap_or(u32::MAX))
}
