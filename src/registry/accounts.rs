//! Users and access tokens, as the database has them.
//!
//! What they may do is no matter of this layer: it keeps hashes, groups and scopes as it was given them. Nothing here is asked
//! at each request; whoever decides keeps all of them in memory, and hears of changes from who made them.
//!
//! When a token was last used is noted in memory and written with others from time to time; a crash loses the last seconds.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{AccountName, Error, Inner};
use crate::clock::Timestamp;
use crate::metadata::access_tokens::{self, AccessTokenId, AccessTokenRecord};
use crate::metadata::users::{self, UserRecord};
use crate::metadata::{self, Read, WriteTx};

/// The most users, and the most access tokens: all of them are in memory.
const MOST: usize = 100_000;

const USER: &str = "user";
const TOKEN: &str = "access token";

/// The bcrypt hash of a password. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// The hash in the form `$2b$…`.
    pub fn new(hash: String) -> PasswordHash {
        PasswordHash(hash)
    }

    /// The hash, for a comparison.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

/// The SHA-256 of an access token's secret. Never printed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash")
    }
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Their name.
    pub name: String,
    /// Their password.
    pub hash: PasswordHash,
    /// The groups that they are in, in byte order.
    pub groups: Vec<String>,
    /// When they were added.
    pub created_at: Timestamp,
    /// When their password or their groups were changed last.
    pub changed_at: Timestamp,
}

/// An access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// Its number, never given twice.
    pub id: AccessTokenId,
    /// Its name, which no other has.
    pub name: String,
    /// Its secret.
    pub hash: TokenHash,
    /// The user whom it stands for; a robot account stands for nobody.
    pub owner: Option<String>,
    /// What it is restricted to.
    pub scope: Option<Vec<String>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is worth nothing.
    pub expires_at: Option<Timestamp>,
    /// When it was last used.
    pub used_at: Option<Timestamp>,
}

/// An access token that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAccessToken {
    /// Its name, which no other has.
    pub name: AccountName,
    /// Its secret.
    pub hash: TokenHash,
    /// The user whom it stands for; none for a robot account.
    pub owner: Option<String>,
    /// Whether the user is known to somebody else than the database.
    pub is_owner_elsewhere: bool,
    /// What it is restricted to.
    pub scope: Option<Vec<String>>,
    /// From when on it is worth nothing.
    pub expires_at: Option<Timestamp>,
}

impl AccessToken {
    fn of(id: AccessTokenId, record: AccessTokenRecord) -> AccessToken {
        AccessToken {
            id,
            name: record.name,
            hash: TokenHash(record.hash),
            owner: record.owner,
            scope: record.scope,
            created_at: Timestamp::from_millis(record.created_at),
            expires_at: record.expires_at.map(Timestamp::from_millis),
            used_at: (record.used_at > 0).then(|| Timestamp::from_millis(record.used_at)),
        }
    }
}

impl User {
    fn of(name: &str, record: UserRecord) -> User {
        User {
            name: name.to_owned(),
            hash: PasswordHash(record.hash),
            groups: record.groups,
            created_at: Timestamp::from_millis(record.created_at),
            changed_at: Timestamp::from_millis(record.changed_at),
        }
    }
}

/// The uses of access tokens that are not written yet, in milliseconds since 1970.
#[derive(Debug, Default)]
pub(super) struct TokenUses(Mutex<HashMap<AccessTokenId, u64>>);

impl TokenUses {
    fn lock(&self) -> MutexGuard<'_, HashMap<AccessTokenId, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The users and access tokens of a registry.
#[derive(Debug, Clone)]
pub struct Accounts(Arc<Inner>);

impl Accounts {
    pub(super) fn new(inner: Arc<Inner>) -> Accounts {
        Accounts(inner)
    }

    /// The time by which tokens expire.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Adds a user, under a name that neither a user nor a robot account has. Access tokens that stand for another user who had
    /// the name elsewhere are revoked.
    pub async fn add_user(
        &self,
        name: &AccountName,
        hash: PasswordHash,
        groups: &[AccountName],
    ) -> Result<(), Error> {
        let (name, now) = (name.clone(), self.now().millis());
        let record = UserRecord { hash: hash.0, groups: sorted(groups), created_at: now, changed_at: now };
        let add = move |tx: &WriteTx<'_>| {
            if users::exists(tx, name.as_str())? || has_robot(tx, name.as_str())? {
                return Err(Error::NameTaken(name.to_string()));
            }
            let mut count = 0;
            users::each(tx, |_, _| {
                count += 1;
                Ok(())
            })?;
            require_room(USER, count)?;
            for id in ids(tx, |token| token.owner.as_deref() == Some(name.as_str()))? {
                access_tokens::remove(tx, id)?;
            }
            Ok(users::put(tx, name.as_str(), &record)?)
        };
        self.0.metadata.write(add).await
    }

    /// Gives a user another password, or other groups, or both.
    pub async fn change_user(
        &self,
        name: &AccountName,
        hash: Option<PasswordHash>,
        groups: Option<&[AccountName]>,
    ) -> Result<(), Error> {
        let (name, now, groups) = (name.clone(), self.now().millis(), groups.map(sorted));
        let change = move |tx: &WriteTx<'_>| {
            let mut record = users::get(tx, name.as_str())?.ok_or_else(|| unknown(USER, name.as_str()))?;
            record.changed_at = now;
            if let Some(hash) = &hash {
                record.hash.clone_from(&hash.0);
            }
            if let Some(groups) = &groups {
                record.groups.clone_from(groups);
            }
            Ok(users::put(tx, name.as_str(), &record)?)
        };
        self.0.metadata.write(change).await
    }

    /// Removes a user with all access tokens that stand for them; returns how many those were.
    pub async fn remove_user(&self, name: &AccountName) -> Result<usize, Error> {
        let name = name.clone();
        let remove = move |tx: &WriteTx<'_>| {
            if !users::exists(tx, name.as_str())? {
                return Err(unknown(USER, name.as_str()));
            }
            let own = ids(tx, |token| token.owner.as_deref() == Some(name.as_str()))?;
            users::remove(tx, name.as_str())?;
            for id in &own {
                access_tokens::remove(tx, *id)?;
            }
            Ok(own.len())
        };
        self.0.metadata.write(remove).await
    }

    /// Every user, in the order of their names. Those whose record can't be read are left out and logged; `true` says that
    /// there is one, read or not.
    pub fn users(&self) -> Result<(Vec<User>, bool), Error> {
        let mut found = Vec::new();
        let mut is_any = false;
        self.0.metadata.read(|tx| {
            (found, is_any) = (Vec::new(), false);
            users::each(tx, |name, record| {
                is_any = true;
                found.extend(read(record)?.map(|record| User::of(name, record)));
                Ok(())
            })
        })?;
        Ok((found, is_any))
    }

    /// Makes an access token, under a name that no other has, and a robot account none that a user has. Its owner, if it has
    /// one, has to be there.
    pub async fn create_token(&self, token: NewAccessToken) -> Result<AccessToken, Error> {
        let (id, is_owner_elsewhere) = (AccessTokenId::now_v7(), token.is_owner_elsewhere);
        let record = AccessTokenRecord {
            name: token.name.into(),
            hash: token.hash.0,
            owner: token.owner,
            scope: token.scope,
            created_at: self.now().millis(),
            expires_at: token.expires_at.map(Timestamp::millis),
            used_at: 0,
        };
        let create = move |tx: &WriteTx<'_>| {
            if let Some(owner) = record.owner.as_deref().filter(|_| !is_owner_elsewhere)
                && !users::exists(tx, owner)?
            {
                return Err(unknown(USER, owner));
            }
            let is_users = record.owner.is_none() && users::exists(tx, &record.name)?;
            if is_users || !ids(tx, |token| token.name == record.name)?.is_empty() {
                return Err(Error::NameTaken(record.name.clone()));
            }
            require_room(TOKEN, ids(tx, |_| true)?.len())?;
            access_tokens::put(tx, id, &record)?;
            Ok(AccessToken::of(id, record.clone()))
        };
        self.0.metadata.write(create).await
    }

    /// Revokes the access token of this name.
    pub async fn revoke_token(&self, name: &AccountName) -> Result<(), Error> {
        let name = name.clone();
        let revoke = move |tx: &WriteTx<'_>| {
            let found = ids(tx, |token| token.name == name.as_str())?;
            if found.is_empty() {
                return Err(unknown(TOKEN, name.as_str()));
            }
            for id in found {
                access_tokens::remove(tx, id)?;
            }
            Ok(())
        };
        self.0.metadata.write(revoke).await
    }

    /// Every access token, in the order in which they were made, with its last use. Those whose record can't be read are left
    /// out and logged; `true` says that there is one, read or not.
    pub fn tokens(&self) -> Result<(Vec<AccessToken>, bool), Error> {
        // What is in memory goes first: what is written meanwhile is then at least as late.
        let uses = self.0.token_uses.lock().clone();
        let mut found = Vec::new();
        let mut is_any = false;
        self.0.metadata.read(|tx| {
            (found, is_any) = (Vec::new(), false);
            access_tokens::each(tx, |id, record| {
                is_any = true;
                let token = read(record)?.map(|record| AccessToken::of(id, record));
                found.extend(token.map(|token| {
                    let noted = uses.get(&id).map(|millis| Timestamp::from_millis(*millis));
                    AccessToken { used_at: token.used_at.max(noted), ..token }
                }));
                Ok(())
            })
        })?;
        Ok((found, is_any))
    }

    /// Notes that a token was used. Whoever calls sees to it that this happens once a minute for each token at most.
    pub fn note_use(&self, id: AccessTokenId, at: Timestamp) {
        let mut uses = self.0.token_uses.lock();
        let used_at = uses.entry(id).or_default();
        *used_at = at.millis().max(*used_at);
    }

    /// Writes down when tokens were last used, as far as that was noted, in one transaction; nothing where nothing was.
    pub async fn flush_uses(&self) -> Result<(), Error> {
        let noted = self.0.token_uses.lock().clone();
        if noted.is_empty() {
            return Ok(());
        }
        let uses = noted.clone();
        let write = move |tx: &WriteTx<'_>| {
            for (id, used_at) in &uses {
                // It may have been revoked meanwhile.
                let Some(mut record) = access_tokens::get(tx, *id)? else { continue };
                if record.used_at < *used_at {
                    record.used_at = *used_at;
                    access_tokens::put(tx, *id, &record)?;
                }
            }
            Ok::<_, Error>(())
        };
        self.0.metadata.write(write).await?;
        self.0.token_uses.lock().retain(|id, used_at| noted.get(id) != Some(used_at));
        Ok(())
    }
}

fn sorted(groups: &[AccountName]) -> Vec<String> {
    let mut groups: Vec<String> = groups.iter().map(AccountName::to_string).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

fn unknown(what: &'static str, name: &str) -> Error {
    Error::AccountUnknown { what, name: name.to_owned() }
}

fn require_room(what: &'static str, count: usize) -> Result<(), Error> {
    if count < MOST { Ok(()) } else { Err(Error::AccountsExhausted { what, most: MOST }) }
}

/// A record, or nothing where it can't be read: one that is damaged must not keep everybody else out.
fn read<R>(record: Result<R, metadata::Error>) -> Result<Option<R>, metadata::Error> {
    match record {
        Ok(record) => Ok(Some(record)),
        Err(error @ metadata::Error::Damaged { .. }) => {
            tracing::error!(%error, "an account can't log in; orlop verify names what is damaged");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The tokens that `is` is true of. One that can't be read is none of them.
fn ids(tx: &impl Read, is: impl Fn(&AccessTokenRecord) -> bool) -> Result<Vec<AccessTokenId>, Error> {
    let mut found = Vec::new();
    access_tokens::each(tx, |id, record| {
        if read(record)?.is_some_and(|record| is(&record)) {
            found.push(id);
        }
        Ok(())
    })?;
    Ok(found)
}

fn has_robot(tx: &impl Read, name: &str) -> Result<bool, Error> {
    Ok(!ids(tx, |token| token.owner.is_none() && token.name == name)?.is_empty())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;
    use crate::fsio::SimulatedDisk;
    use crate::registry::{Depth, Options, Registry};
    use crate::telemetry::StorageMetrics;

    struct Bench {
        disk: SimulatedDisk,
        clock: Arc<ManualClock>,
        metrics: StorageMetrics,
        registry: Registry,
    }

    impl Bench {
        fn new() -> Bench {
            let (disk, metrics) = (SimulatedDisk::new(), StorageMetrics::default());
            let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
            let options = Options {
                disk: Arc::new(disk.clone()),
                clock: clock.clone(),
                metrics: metrics.clone(),
                ..Options::new("/data")
            };
            Bench { disk, clock, metrics, registry: Registry::open(options).unwrap() }
        }

        fn accounts(&self) -> Accounts {
            self.registry.accounts()
        }

        async fn add(&self, user: &str) -> Result<(), Error> {
            self.accounts().add_user(&name(user), PasswordHash::new("$2b$".into()), &[]).await
        }

        async fn create(&self, token: &str, owner: Option<&str>) -> Result<AccessToken, Error> {
            let token = NewAccessToken {
                name: name(token),
                hash: TokenHash([7; 32]),
                owner: owner.map(str::to_owned),
                is_owner_elsewhere: false,
                scope: None,
                expires_at: None,
            };
            self.accounts().create_token(token).await
        }

        fn tokens(&self) -> Vec<AccessToken> {
            self.accounts().tokens().unwrap().0
        }
    }

    fn name(text: &str) -> AccountName {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn users_are_added_changed_and_removed_with_their_tokens() {
        let bench = Bench::new();
        let accounts = bench.accounts();
        assert_eq!(accounts.users().unwrap(), (vec![], false));
        let groups = [name("ops"), name("dev"), name("ops")];
        accounts.add_user(&name("anna"), PasswordHash::new("one".into()), &groups).await.unwrap();
        assert!(matches!(bench.add("anna").await, Err(Error::NameTaken(_))));
        bench.clock.advance(Duration::from_secs(1));
        accounts.change_user(&name("anna"), Some(PasswordHash::new("two".into())), None).await.unwrap();
        accounts.change_user(&name("bo"), None, Some(&[])).await.unwrap_err();
        let (users, is_any) = accounts.users().unwrap();
        let [anna] = &users[..] else { panic!("{users:?}") };
        assert!(is_any && anna.hash.reveal() == "two" && anna.groups == ["dev", "ops"]);
        assert_eq!(anna.changed_at.since(anna.created_at), Duration::from_secs(1));

        bench.create("laptop", Some("anna")).await.unwrap();
        bench.create("ci", None).await.unwrap();
        assert!(matches!(bench.create("ci", Some("anna")).await, Err(Error::NameTaken(_))));
        assert!(matches!(bench.create("x", Some("bo")).await, Err(Error::AccountUnknown { .. })));
        assert!(matches!(bench.create("anna", None).await, Err(Error::NameTaken(_))), "a robot like a user");
        assert!(matches!(bench.add("ci").await, Err(Error::NameTaken(_))), "a user like a robot");
        assert_eq!(accounts.remove_user(&name("anna")).await.unwrap(), 1);
        assert!(matches!(accounts.remove_user(&name("anna")).await, Err(Error::AccountUnknown { .. })));
        assert_eq!(bench.tokens().iter().map(|token| token.name.as_str()).collect::<Vec<_>>(), ["ci"]);
        accounts.revoke_token(&name("ci")).await.unwrap();
        assert!(matches!(accounts.revoke_token(&name("ci")).await, Err(Error::AccountUnknown { .. })));
        assert_eq!(accounts.tokens().unwrap(), (vec![], false));
        assert!(bench.registry.verify(Depth::Full).unwrap().is_clean());
    }

    #[tokio::test]
    async fn uses_are_known_at_once_and_written_together() {
        let bench = Bench::new();
        let accounts = bench.accounts();
        let one = bench.create("one", None).await.unwrap();
        let two = bench.create("two", None).await.unwrap();
        accounts.revoke_token(&name("two")).await.unwrap();
        let commits = bench.metrics.commits();
        accounts.flush_uses().await.unwrap();
        assert_eq!(bench.metrics.commits(), commits, "nothing was used");
        let then = accounts.now();
        accounts.note_use(one.id, then);
        accounts.note_use(two.id, then);
        assert_eq!(bench.tokens()[0].used_at, Some(then), "before it is written");
        accounts.flush_uses().await.unwrap();
        accounts.flush_uses().await.unwrap();
        assert_eq!(bench.metrics.commits(), commits + 1);
        let later = then.saturating_add(Duration::from_secs(60));
        accounts.note_use(one.id, later);
        bench.registry.close().await;
        let again = Options { disk: Arc::new(bench.disk.clone()), ..Options::new("/data") };
        drop((accounts, bench.registry));
        let registry = Registry::open(again).unwrap();
        let (tokens, _) = registry.accounts().tokens().unwrap();
        assert_eq!((tokens.len(), tokens[0].used_at), (1, Some(later)), "a clean end loses none");
    }

    #[tokio::test]
    async fn what_is_damaged_keeps_nobody_else_out_and_is_found() {
        let bench = Bench::new();
        bench.add("anna").await.unwrap();
        bench.create("ci", None).await.unwrap();
        let damage = |tx: &WriteTx<'_>| {
            users::put_damaged(tx, "bo")?;
            access_tokens::put_damaged(tx, AccessTokenId::from_u128(1))?;
            let mut twin = AccessTokenRecord {
                name: "ci".into(),
                hash: [8; 32],
                owner: None,
                scope: None,
                created_at: 0,
                expires_at: None,
                used_at: 0,
            };
            access_tokens::put(tx, AccessTokenId::from_u128(2), &twin)?;
            twin = AccessTokenRecord { name: "other".into(), hash: [7; 32], ..twin };
            access_tokens::put(tx, AccessTokenId::from_u128(3), &twin)
        };
        bench.registry.0.metadata.write(damage).await.unwrap();
        assert_eq!(bench.accounts().users().unwrap().0.len(), 1);
        assert_eq!(bench.tokens().len(), 3);
        let report = bench.registry.verify(Depth::Quick).unwrap();
        assert_eq!(report.problems.len(), 4, "{:?}", report.problems);
        bench.accounts().remove_user(&name("bo")).await.unwrap();
        assert_eq!(bench.registry.verify(Depth::Quick).unwrap().problems.len(), 3);
    }
}
