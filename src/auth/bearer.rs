//! Bearer tokens that are signed: by this registry's token endpoint, or by an issuer whom it trusts.

use super::{Access, AuthenticationError, Identity};

/// Who comes with a signed token, and what it restricts them to.
///
/// Nobody signs tokens yet, so that none is right.
#[expect(clippy::unused_async, reason = "an issuer's keys may have to be fetched")]
pub(super) async fn identify(_access: &Access, _token: &str) -> Result<Identity, AuthenticationError> {
    Err(AuthenticationError::Wrong)
}
