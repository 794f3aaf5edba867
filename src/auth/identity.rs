//! Who somebody is.

use crate::registry::Actor;

/// Who sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Somebody who hasn't said who they are.
    Anonymous,
    /// The user of this name, by their password.
    User(String),
}

impl Identity {
    /// A user.
    pub fn user(name: impl Into<String>) -> Identity {
        Identity::User(name.into())
    }

    /// Whether it is nobody in particular.
    pub fn is_anonymous(&self) -> bool {
        matches!(self, Identity::Anonymous)
    }

    /// The name that is recorded beside what they do.
    pub fn actor(&self) -> Actor {
        match self {
            Identity::Anonymous => Actor::anonymous(),
            Identity::User(name) => Actor::new(name.as_str()),
        }
    }
}
