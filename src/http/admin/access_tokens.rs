//! Access tokens: made, listed and revoked.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::call::{Answer, Call, invalid, json};
use super::users::{change, opens_at_next_start};
use crate::auth::{PrincipalKind, Scope, TokenSecret};
use crate::clock::Timestamp;
use crate::registry::{AccountName, Error, NewAccessToken};

/// The most scopes that one token has.
const MOST_SCOPES: usize = 100;

/// The body of `POST tokens/create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateToken {
    /// A name that no other token has.
    pub name: AccountName,
    /// The user whom it stands for; without one it is a robot account.
    #[serde(default)]
    pub user: Option<String>,
    /// What it is restricted to, such as `team/**:pull,push`; without any, to what rules say.
    #[serde(default)]
    pub scope: Vec<String>,
    /// In how many seconds it expires; without, never.
    #[serde(default)]
    pub expires_in: Option<u64>,
}

/// The answer to `POST tokens/create`. The secret is in it and nowhere else ever after, and never printed but on purpose.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedToken {
    /// The token's name.
    pub name: String,
    /// The user name to log in with.
    pub login: String,
    /// What it is restricted to.
    pub scope: Vec<String>,
    /// When it expires.
    pub expires_at: Option<String>,
    /// The secret.
    pub secret: String,
}

impl fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CreatedToken({:?})", self.name)
    }
}

/// The body of `POST tokens/revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeToken {
    /// Which one.
    pub name: AccountName,
}

/// The answer to `POST tokens/revoke`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevokedToken {
    /// Whether nothing is left that restricts access: the server lets everybody in from its next start.
    pub opens_at_next_start: bool,
}

/// The answer to `GET tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessTokens {
    /// Every token, in the order in which they were made.
    pub tokens: Vec<AccessTokenEntry>,
}

/// An access token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessTokenEntry {
    /// Its name.
    pub name: String,
    /// The user whom it stands for; none for a robot account.
    pub user: Option<String>,
    /// Whether there is nobody of that name any more, so that it opens nothing.
    pub is_orphaned: bool,
    /// What it is restricted to; nothing in particular where there is none.
    pub scope: Vec<String>,
    /// When it was made.
    pub created_at: String,
    /// When it expires.
    pub expires_at: Option<String>,
    /// Whether it has.
    pub has_expired: bool,
    /// When it was last used, to a minute.
    pub used_at: Option<String>,
}

/// Lists the tokens.
pub(super) fn list_tokens(call: &Call) -> Answer {
    let accounts = call.registry().accounts();
    let now = accounts.now();
    let is_known = |user: &String| call.access().find(PrincipalKind::User, user).is_some();
    let tokens = accounts.tokens()?.0.into_iter().map(|token| AccessTokenEntry {
        is_orphaned: token.owner.as_ref().is_some_and(|owner| !is_known(owner)),
        name: token.name,
        user: token.owner,
        scope: token.scope.unwrap_or_default(),
        created_at: token.created_at.to_rfc3339(),
        expires_at: token.expires_at.map(Timestamp::to_rfc3339),
        has_expired: token.expires_at.is_some_and(|expires_at| expires_at <= now),
        used_at: token.used_at.map(Timestamp::to_rfc3339),
    });
    json(&AccessTokens { tokens: tokens.collect() })
}

/// Makes a token.
pub(super) async fn create_token(mut call: Call) -> Answer {
    let CreateToken { name, user, scope, expires_in } = call.json().await?;
    if scope.len() > MOST_SCOPES {
        return Err(invalid(format!("a token may have {MOST_SCOPES} scopes")));
    }
    let parsed: Result<Vec<Scope>, _> = scope.iter().map(|scope| scope.parse()).collect();
    let scope: Vec<String> =
        parsed.map_err(|error| invalid(error.to_string()))?.iter().map(Scope::to_string).collect();
    if expires_in == Some(0) {
        return Err(invalid("a token can't expire at once"));
    }
    let (accounts, secret) = (call.registry().accounts(), TokenSecret::generate());
    let expires_at = expires_in.map(|seconds| accounts.now().saturating_add(Duration::from_secs(seconds)));
    let token = NewAccessToken {
        name: name.clone(),
        hash: secret.hash(),
        is_owner_elsewhere: user.as_ref().is_some_and(|user| call.access().is_in_file(user)),
        owner: user.clone(),
        scope: (!scope.is_empty()).then(|| scope.clone()),
        expires_at,
    };
    if user.is_none() && call.access().is_in_file(name.as_str()) {
        return Err(Error::NameTaken(name.to_string()).into());
    }
    change(call.access().clone(), async move { accounts.create_token(token).await }).await?;
    json(&CreatedToken {
        login: user.unwrap_or_else(|| name.to_string()),
        name: name.into(),
        scope,
        expires_at: expires_at.map(Timestamp::to_rfc3339),
        secret: secret.reveal().to_owned(),
    })
}

/// Revokes a token: it opens nothing from the answer on.
pub(super) async fn revoke_token(mut call: Call) -> Answer {
    let RevokeToken { name } = call.json().await?;
    let accounts = call.registry().accounts();
    change(call.access().clone(), async move { accounts.revoke_token(&name).await }).await?;
    json(&RevokedToken { opens_at_next_start: opens_at_next_start(&call)? })
}
