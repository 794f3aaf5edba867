//! Telling others what happens in the registry, in the envelope of distribution's webhooks.
//!
//! The registry writes events into one log. A worker for each endpoint reads it from the endpoint's cursor on, sends
//! what the endpoint wants to hear, in order, until it is accepted, and moves the cursor. Once a second the cursors are
//! recorded, the pulls of that second written, and the log cut, in one commit. So every event is delivered at least once;
//! after a crash those of the last second may come again, with the same ids.

mod deliver;
mod endpoint;
mod envelope;
mod sink;
mod worker;

pub use deliver::{Notifications, Settings};
pub use endpoint::{Endpoint, Version};
pub use envelope::{Source, render};
