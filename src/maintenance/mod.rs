//! What an operator's policies say about content.

pub mod retention;

mod run;
mod schedule;

pub use run::{ACTOR, Decided, RunOptions, RunReport, run};
pub use schedule::run_on_schedule;
