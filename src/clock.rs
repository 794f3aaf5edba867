//! The one source of the time of day.
