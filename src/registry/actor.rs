//! Who does something.

use std::sync::Arc;

/// Who brought or changed something; kept beside it, since later rules want to know.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Actor(Arc<str>);

impl Actor {
    /// Somebody who has not said who they are.
    pub fn anonymous() -> Actor {
        Actor(Arc::from("anonymous"))
    }

    /// Whoever is known by this name.
    pub fn new(name: impl Into<Arc<str>>) -> Actor {
        Actor(name.into())
    }

    /// The name, as it is recorded.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
