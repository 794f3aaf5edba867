//! The one place that changes the file system.
