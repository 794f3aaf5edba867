//! Who does something.

use std::sync::{Arc, LazyLock};

/// Who brought or changed something; kept beside it, since later rules want to know.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Actor {
    name: Arc<str>,
    /// What tells them from others of the same name; empty for those who have not said who they are.
    key: Arc<str>,
}

impl Actor {
    /// Somebody who has not said who they are.
    pub fn anonymous() -> Actor {
        static NOBODY: LazyLock<Actor> =
            LazyLock::new(|| Actor { name: Arc::from("anonymous"), key: Arc::from("") });
        NOBODY.clone()
    }

    /// Whoever is known by this name.
    pub fn new(name: impl Into<Arc<str>>) -> Actor {
        let name = name.into();
        Actor { key: Arc::clone(&name), name }
    }

    /// Whoever is known by this name, which another kind of them may have too.
    pub fn of_kind(kind: &str, name: impl Into<Arc<str>>) -> Actor {
        let name = name.into();
        Actor { key: format!("{kind}:{name}").into(), name }
    }

    /// The name, as it is recorded.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// What tells them from everybody else.
    pub(super) fn key(&self) -> &str {
        &self.key
    }
}
