//! Bearer tokens (RFC 6750): those that the registry issues itself, and those of external issuers.
//!
//! [`Tokens`] issues a token for whoever has proved who they are, and tells by a token who sends a request. A token of the
//! registry's own says who somebody is and what they have restricted themselves to; what they may do is looked up at
//! each request.

mod claims;
mod issuer;
mod jwks;
mod keys;
mod tokens;
mod verified;

use std::time::Duration;

pub use claims::{Holder, TokenError};
pub use issuer::{IssuerOptions, KeySource};
pub use jwks::{AlgorithmError, SigningAlgorithm};
pub use keys::{KEYS_FILE, KeysError, TokenKeys};
pub use tokens::{Bearer, Issued, TokenOptions, Tokens};

/// How far the clocks of those who issue tokens may differ from this one.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// The shortest and the longest time that a token of the registry's own can last.
pub const MIN_LIFETIME: Duration = Duration::from_secs(60);
/// See [`MIN_LIFETIME`].
pub const MAX_LIFETIME: Duration = Duration::from_secs(60 * 60);

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 16 << 10;
