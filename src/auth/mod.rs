//! Who may do what.
//!
//! [`Access`] tells who sends a request, by the user and password that it brings, and whether a rule lets them do it.
//! Without users and rules everybody may do everything.

mod access;
mod attempts;
mod bearer;
mod credentials;
mod directory;
mod htpasswd;
mod identity;
mod passwords;
mod rules;
mod scope;
mod token_secret;

pub use access::{Access, AuthenticationError, Options, ReloadError, UsersError};
pub use attempts::network;
pub use bearer::{
    AlgorithmError, Bearer, Holder, Issued, IssuerOptions, KEYS_FILE, KeySource, KeysError, LEEWAY,
    MAX_LIFETIME, MAX_TOKEN, MIN_LIFETIME, SigningAlgorithm, TokenError, TokenKeys, TokenOptions, Tokens,
};
pub use htpasswd::{Htpasswd, HtpasswdError, with_user};
pub use identity::{Identity, Principal, PrincipalKind};
pub use passwords::{NewPasswordError, hash_password};
pub use rules::{Action, Actions, ActionsError, Decision, Rule, Rules, Who, WhoError};
pub use scope::{Grant, Scope, ScopeError};
pub use token_secret::TokenSecret;
