//! Where something that is asked of the registry comes from.

use std::sync::Arc;

use super::Actor;
use crate::metadata::events::EventRequest;

/// Who asks for something, and by which request: what events tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub(super) actor: Actor,
    pub(super) request: Option<Arc<EventRequest>>,
}

impl Origin {
    /// Somebody who uses the library.
    pub fn of(actor: Actor) -> Origin {
        Origin { actor, request: None }
    }

    /// Somebody who has sent a request.
    pub fn with_request(actor: Actor, request: EventRequest) -> Origin {
        Origin { actor, request: Some(Arc::new(request)) }
    }
}

impl Default for Origin {
    fn default() -> Origin {
        Origin::of(Actor::anonymous())
    }
}
