//! Who somebody is.

use std::sync::Arc;

use super::Action;
use super::scope::{Grant, Scope};
use crate::oci::RepositoryName;
use crate::registry::{AccessTokenId, Actor};

/// Who sends a request, and what they have restricted themselves to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Nobody in particular where there is none.
    principal: Option<Arc<Principal>>,
    /// What their Bearer token was issued for; without one they are restricted by the rules only.
    restriction: Option<Arc<[Grant]>>,
}

/// Somebody who has said who they are, and has proved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// How they are known.
    pub kind: PrincipalKind,
    /// Their name; of its kind there is no other.
    pub name: String,
    /// The groups that they are in.
    pub groups: Vec<String>,
    /// What an external issuer says of them: name and value, a name several times where its value is a list.
    pub claims: Vec<(String, String)>,
    /// The access token of this registry that they came with.
    pub access_token: Option<AccessTokenId>,
    /// What their access token is restricted to.
    pub scope: Option<Arc<[Scope]>>,
    /// What an external issuer lets them do, beside the rules; by names as the registry has them.
    pub grants: Arc<[Grant]>,
}

/// How somebody is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrincipalKind {
    /// A user, by their password or by an access token of theirs.
    User,
    /// A robot account: an access token that is nobody's.
    AccessToken,
    /// Somebody whom an external issuer vouches for.
    External,
}

impl Principal {
    /// A user, in no group.
    pub fn user(name: impl Into<String>) -> Principal {
        Principal {
            kind: PrincipalKind::User,
            name: name.into(),
            groups: Vec::new(),
            claims: Vec::new(),
            access_token: None,
            scope: None,
            grants: Arc::default(),
        }
    }
}

impl Identity {
    /// Somebody who hasn't said who they are.
    pub fn anonymous() -> Identity {
        Identity::default()
    }

    /// Somebody who has.
    pub fn of(principal: impl Into<Arc<Principal>>) -> Identity {
        Identity { principal: Some(principal.into()), restriction: None }
    }

    /// The user of this name, in no group.
    pub fn user(name: impl Into<String>) -> Identity {
        Identity::of(Principal::user(name))
    }

    /// The same, who may do no more than this.
    #[must_use]
    pub fn restricted_to(self, grants: impl Into<Arc<[Grant]>>) -> Identity {
        Identity { restriction: Some(grants.into()), ..self }
    }

    /// Who has said who they are.
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        self.principal.as_ref()
    }

    /// Whether it is nobody in particular.
    pub fn is_anonymous(&self) -> bool {
        self.principal.is_none()
    }

    /// Whether they have come with a Bearer token that is for something in particular.
    pub fn is_restricted(&self) -> bool {
        self.restriction.is_some()
    }

    /// Whether their Bearer token was issued for this, if they have come with one. The name is the one in the path of the
    /// request, whatever it means here.
    pub fn is_within_restriction(&self, action: Action, requested: Option<&RepositoryName>) -> bool {
        let Some(restriction) = &self.restriction else { return true };
        restriction.iter().any(|grant| grant.covers(action, requested))
    }

    /// The name that is recorded beside what they do.
    pub fn actor(&self) -> Actor {
        let Some(principal) = &self.principal else { return Actor::anonymous() };
        let name = principal.name.as_str();
        match principal.kind {
            PrincipalKind::User => Actor::new(name),
            PrincipalKind::AccessToken => Actor::of_kind("token", name),
            PrincipalKind::External => Actor::of_kind("external", name),
        }
    }
}
