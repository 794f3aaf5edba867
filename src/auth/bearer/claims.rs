//! What a token of the registry's own says.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::LEEWAY;
use crate::auth::{Grant, Principal, PrincipalKind};
use crate::clock::Timestamp;

/// Why a token isn't taken. The client is told to fetch another one, and why in words that say nothing about the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It isn't a token, or nobody who is believed has signed it so.
    #[error("the token is not valid here; log in again")]
    Invalid,
    /// It was issued for another registry.
    #[error("the token was issued for another registry; fetch one from this one")]
    Audience,
    /// Its time is over.
    #[error("the token has expired; fetch another one")]
    Expired,
    /// Its time hasn't come yet.
    #[error("the token is not valid yet; compare the clocks of its issuer and of this registry")]
    NotYet,
    /// Whom it was issued for may not come in any more.
    #[error("whom the token was issued for is not known any more; log in again")]
    Gone,
    /// The issuer's keys couldn't be fetched.
    #[error("the keys of the token's issuer can't be fetched at the moment; try again soon")]
    Unavailable,
}

/// The payload of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) sub: String,
    pub(super) aud: String,
    /// In seconds since 1970, as `nbf` and `iat`.
    pub(super) exp: u64,
    pub(super) nbf: u64,
    pub(super) iat: u64,
    pub(super) jti: String,
    pub(super) access: Vec<Grant>,
    /// Who it is, beside their name.
    pub(super) orlop: Holder,
}

/// Whom a token was issued for, as far as their name in `sub` doesn't say it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Holder {
    /// Nobody in particular.
    Anonymous,
    /// A user.
    User {
        /// The access token that they came with, if they came with one of these. What is issued for it is worth nothing without
        /// it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        access_token: Option<String>,
    },
    /// A robot account.
    AccessToken {
        /// The access token that it is.
        access_token: String,
    },
    /// Somebody whom an external issuer vouches for.
    External {
        /// The claims that rules speak of.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        claims: Vec<(String, String)>,
        /// Their groups.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        groups: Vec<String>,
        /// What the issuer lets them do.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        grants: Vec<Grant>,
    },
}

impl Holder {
    /// What has to be remembered of somebody; of their claims those that `is_needed` says.
    pub(super) fn of(principal: Option<&Principal>, is_needed: impl Fn(&str) -> bool) -> Holder {
        let Some(principal) = principal else { return Holder::Anonymous };
        let access_token = principal.access_token.map(|id| id.to_string());
        match principal.kind {
            PrincipalKind::User => Holder::User { access_token },
            PrincipalKind::AccessToken => {
                Holder::AccessToken { access_token: access_token.unwrap_or_default() }
            }
            PrincipalKind::External => Holder::External {
                claims: principal.claims.iter().filter(|(name, _)| is_needed(name)).cloned().collect(),
                groups: principal.groups.clone(),
                grants: principal.grants.to_vec(),
            },
        }
    }

    /// Somebody of this name whom an external issuer vouches for.
    pub(super) fn external(&self, name: &str) -> Option<Principal> {
        let Holder::External { claims, groups, grants } = self else { return None };
        Some(Principal {
            kind: PrincipalKind::External,
            name: name.to_owned(),
            groups: groups.clone(),
            claims: claims.clone(),
            access_token: None,
            scope: None,
            grants: Arc::from(grants.clone()),
        })
    }
}

/// Whether a token is in its time, by the seconds in which it says so.
pub(super) fn check_times(exp: u64, nbf: Option<u64>, now: Timestamp) -> Result<(), TokenError> {
    let (now, leeway) = (now.millis() / 1000, LEEWAY.as_secs());
    if now >= exp.saturating_add(leeway) {
        return Err(TokenError::Expired);
    }
    if nbf.is_some_and(|nbf| nbf > now.saturating_add(leeway)) {
        return Err(TokenError::NotYet);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_in_its_time_and_a_little_around_it() {
        let at = |seconds: u64| Timestamp::from_millis(seconds * 1000);
        let check = |now: u64| check_times(2000, Some(1000), at(now));
        for (now, outcome) in [
            (969, Err(TokenError::NotYet)),
            (970, Ok(())),
            (1999, Ok(())),
            (2029, Ok(())),
            (2030, Err(TokenError::Expired)),
        ] {
            assert_eq!(check(now), outcome, "{now}");
        }
        assert_eq!(check_times(u64::MAX, None, at(1)), Ok(()));
    }
}
