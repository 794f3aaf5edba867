//! The users and access tokens of the database, in memory.
//!
//! They are asked for at each request, so nothing is read from the database for that: all of them are read at the start and
//! after each change, and put in place of what was known in one step.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use super::htpasswd;
use super::token_secret::TokenSecret;
use super::{Principal, PrincipalKind, Scope};
use crate::clock::Timestamp;
use crate::registry::{self, AccessToken, AccessTokenId, Accounts, PasswordHash, TokenHash, User};

/// A use of a token that comes so soon after one that was noted isn't.
const USE_MILLIS: u64 = 60_000;

/// What is known of the accounts of a database.
#[derive(Debug, Default)]
pub(super) struct Directory {
    accounts: OnceLock<Accounts>,
    known: RwLock<Arc<Known>>,
    /// Held by who reads the database, so that what was read later isn't replaced by what was read before.
    refreshing: Mutex<()>,
    /// Whether there was ever a user or a token since the start.
    has_any: AtomicBool,
}

/// All users and tokens as of one moment.
#[derive(Debug, Default)]
pub(super) struct Known {
    users: HashMap<String, KnownUser>,
    tokens: HashMap<TokenHash, KnownToken>,
    by_id: HashMap<AccessTokenId, TokenHash>,
    robots: HashMap<String, TokenHash>,
    cost: Option<u32>,
}

/// A user.
#[derive(Debug)]
pub(super) struct KnownUser {
    pub(super) hash: PasswordHash,
    pub(super) principal: Arc<Principal>,
}

/// An access token.
#[derive(Debug)]
pub(super) struct KnownToken {
    id: AccessTokenId,
    /// The user whom it stands for; a robot account stands for nobody.
    pub(super) owner: Option<String>,
    expires_at: Option<Timestamp>,
    /// Whom a request with it comes from, where the owner is of the database, or there is none.
    pub(super) principal: Arc<Principal>,
    /// When its use was last noted, in milliseconds since 1970; kept from one reading of the database to the next.
    noted: Arc<AtomicU64>,
}

impl Known {
    /// The user of this name.
    pub(super) fn user(&self, name: &str) -> Option<&KnownUser> {
        self.users.get(name)
    }

    /// The token of this secret. Who doesn't know the secret can't choose its hash, so that the time that this takes tells
    /// nothing of others.
    pub(super) fn token(&self, secret: &TokenSecret) -> Option<&KnownToken> {
        self.tokens.get(&secret.hash())
    }

    /// The token of this number.
    pub(super) fn token_of(&self, id: AccessTokenId) -> Option<&KnownToken> {
        self.tokens.get(self.by_id.get(&id)?)
    }

    /// The robot account of this name.
    pub(super) fn robot(&self, name: &str) -> Option<&KnownToken> {
        self.tokens.get(self.robots.get(name)?)
    }

    /// The largest work factor of all passwords.
    pub(super) fn cost(&self) -> Option<u32> {
        self.cost
    }

    fn of(users: Vec<User>, tokens: Vec<AccessToken>, former: &Known) -> Known {
        let mut known = Known::default();
        for User { name, hash, groups, .. } in users {
            known.cost = known.cost.max(htpasswd::cost(hash.reveal()));
            let principal = Arc::new(Principal { groups, ..Principal::user(name.as_str()) });
            known.users.insert(name, KnownUser { hash, principal });
        }
        for token in tokens {
            known.add(token, former);
        }
        known
    }

    fn add(&mut self, token: AccessToken, former: &Known) {
        let AccessToken { id, name, hash, owner, scope, expires_at, used_at, .. } = token;
        let scope =
            scope.map(|scope| scope.iter().map(|scope| scope.parse()).collect::<Result<Vec<Scope>, _>>());
        let scope = match scope.transpose() {
            Ok(scope) => scope.map(Arc::from),
            Err(error) => {
                // Another release may know more. What isn't understood must not let anybody do more.
                tracing::error!(token = name, %error, "an access token can't be used: its scope isn't understood");
                return;
            }
        };
        let principal = match &owner {
            None => Principal { kind: PrincipalKind::AccessToken, ..Principal::user(name.as_str()) },
            Some(owner) => {
                let user = self.users.get(owner).map(|user| Principal::clone(&user.principal));
                user.unwrap_or_else(|| Principal::user(owner.as_str()))
            }
        };
        let principal = Arc::new(Principal { scope, access_token: Some(id), ..principal });
        let noted = former.token_of(id).map(|token| token.noted.clone());
        let noted = noted.unwrap_or_else(|| Arc::new(AtomicU64::new(used_at.map_or(0, Timestamp::millis))));
        if owner.is_none() {
            self.robots.insert(name, hash);
        }
        self.by_id.insert(id, hash);
        self.tokens.insert(hash, KnownToken { id, owner, expires_at, principal, noted });
    }
}

impl KnownToken {
    /// Whether it is worth nothing any more.
    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }

    /// The user name that a client gives beside it.
    pub(super) fn login(&self) -> &str {
        &self.principal.name
    }
}

impl Directory {
    /// Reads the accounts, and goes on with these. Blocks.
    pub(super) fn attach(&self, accounts: Accounts) -> Result<(), registry::Error> {
        // Others are attached never.
        let _ = self.accounts.set(accounts);
        self.refresh()
    }

    /// Reads the accounts again. Blocks.
    pub(super) fn refresh(&self) -> Result<(), registry::Error> {
        let Some(accounts) = self.accounts.get() else { return Ok(()) };
        let _alone = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        let ((users, is_any_user), (tokens, is_any_token)) = (accounts.users()?, accounts.tokens()?);
        let known = Arc::new(Known::of(users, tokens, &self.known()));
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        if is_any_user || is_any_token {
            self.has_any.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// What is known now.
    pub(super) fn known(&self) -> Arc<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether there has been a user or a token since the start. It stays so when the last one is removed: that must not let
    /// everybody in.
    pub(super) fn has_any(&self) -> bool {
        self.has_any.load(Ordering::Acquire)
    }

    /// The time by which tokens expire.
    pub(super) fn now(&self) -> Timestamp {
        self.accounts.get().map_or_else(Timestamp::default, Accounts::now)
    }

    /// Notes that a token is used, once a minute.
    pub(super) fn note_use(&self, token: &KnownToken, now: Timestamp) {
        let before = token.noted.load(Ordering::Relaxed);
        if now.millis() < before.saturating_add(USE_MILLIS) {
            return;
        }
        // Of those who come at once one notes it.
        let is_first =
            token.noted.compare_exchange(before, now.millis(), Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if let Some(accounts) = self.accounts.get().filter(|_| is_first) {
            accounts.note_use(token.id, now);
        }
    }
}
