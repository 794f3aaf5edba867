//! What an operator's policies say about content.

pub mod retention;
