//! The one who is asked at each request.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::attempts::Attempts;
use super::credentials::Credentials;
use super::directory::{Directory, KnownToken};
use super::htpasswd::Htpasswd;
use super::passwords::Passwords;
use super::token_secret::{self, TokenSecret};
use super::{HtpasswdError, Identity, Principal, PrincipalKind, Rule, Rules};
use crate::clock::monotonic;
use crate::registry::{self, AccessTokenId, Accounts};

/// How access is restricted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// A file of users and the bcrypt hashes of their passwords.
    pub htpasswd: Option<PathBuf>,
    /// Whether users are known by the certificates that they show, too.
    pub knows_certificates: bool,
    /// Who may do what.
    pub rules: Vec<Rule>,
    /// Whether external issuers vouch for anybody. Then not everybody may do everything.
    pub has_issuers: bool,
}

/// Why somebody isn't let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// The header can't be read.
    #[error(
        "the Authorization header is malformed; send Basic with user:password in base64, or Bearer with a token"
    )]
    Malformed,
    /// No such user, or another password: nobody is told which.
    #[error("the user or the password is wrong")]
    Wrong,
    /// The access token was right once. Only who has its secret is told.
    #[error("the access token has expired; ask the registry's operator for another one")]
    Expired,
    /// Too many wrong passwords were tried.
    #[error("too many wrong passwords were tried from your address; try again in {} s", .0.as_secs().max(1))]
    TooMany(Duration),
    /// Too many passwords are being checked.
    #[error("too many passwords are being checked; try again in a moment")]
    Busy,
}

/// Why the users can't be read; names the file.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// The file can't be read.
    #[error("cannot read the users in {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line of it can't be used.
    #[error("{}: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which, and why.
        source: HtpasswdError,
    },
}

/// Why what is known of access stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The users can't be read.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// There would be neither users nor rules any more. A file that is cut short must not mean that.
    #[error(
        "without users and rules everybody may do everything; restart the server if that is what you want"
    )]
    Open,
}

/// Who may do what. Clones share what they know.
#[derive(Debug, Clone)]
pub struct Access(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Replaced as a whole, so that users and rules always go together.
    state: RwLock<Arc<State>>,
    /// The users and access tokens of the database.
    accounts: Directory,
    passwords: Passwords,
    attempts: Attempts,
}

/// What changes when it is read again.
#[derive(Debug, PartialEq, Eq)]
struct State {
    /// Those of the file.
    users: Htpasswd,
    /// Without regard to the users of the database.
    rules: Arc<Rules>,
    /// The same, where there are any.
    rules_of_users: Arc<Rules>,
}

/// Everybody may do everything.
impl Default for Access {
    fn default() -> Access {
        Access::with(State::of(None, Vec::new()))
    }
}

impl Access {
    /// Reads the users. Blocks.
    pub fn open(options: Options) -> Result<Access, UsersError> {
        State::read(options).map(Access::with)
    }

    fn with(state: State) -> Access {
        Access(Arc::new(Shared {
            state: RwLock::new(Arc::new(state)),
            accounts: Directory::default(),
            passwords: Passwords::new(),
            attempts: Attempts::default(),
        }))
    }

    /// Lets the users and access tokens of the database in, beside those of the file. Blocks.
    pub fn attach(&self, accounts: Accounts) -> Result<(), registry::Error> {
        self.0.accounts.attach(accounts)
    }

    /// Reads the users and access tokens of the database again; whoever changes them calls this. Blocks.
    pub fn refresh_accounts(&self) -> Result<(), registry::Error> {
        self.0.accounts.refresh()
    }

    fn state(&self) -> Arc<State> {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The rules that hold now.
    pub fn rules(&self) -> Arc<Rules> {
        let state = self.state();
        if self.0.accounts.has_any() { state.rules_of_users.clone() } else { state.rules.clone() }
    }

    /// Whether everybody may do everything.
    pub fn is_open(&self) -> bool {
        !self.0.accounts.has_any() && self.state().rules.are_open()
    }

    /// Who sends a request with this `Authorization`, from this address.
    pub async fn identify(
        &self,
        authorization: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<Identity, AuthenticationError> {
        let Some(authorization) = authorization.filter(|_| !self.is_open()) else {
            return Ok(Identity::anonymous());
        };
        match Credentials::parse(authorization).ok_or(AuthenticationError::Malformed)? {
            Credentials::Basic { user, password } => {
                self.by_password(&user, password.reveal(), address).await
            }
            Credentials::Bearer(token) if token_secret::means_to_be(token.reveal()) => {
                self.by_secret(TokenSecret::parse(token.reveal()).as_ref(), None, address)
            }
            Credentials::Bearer(_) => Err(AuthenticationError::Wrong),
        }
    }

    /// The user whose name stands in a certificate that a configured authority has signed.
    pub fn by_certificate(&self, name: &str) -> Identity {
        if self.is_open() {
            return Identity::anonymous();
        }
        self.find(PrincipalKind::User, name).map_or_else(|| Identity::user(name), Identity::of)
    }

    async fn by_password(
        &self,
        user: &str,
        password: &str,
        address: Option<IpAddr>,
    ) -> Result<Identity, AuthenticationError> {
        if user.is_empty() && password.is_empty() {
            // As podman and skopeo ask who haven't logged in.
            return Ok(Identity::anonymous());
        }
        if let Some(secret) = TokenSecret::parse(password) {
            return self.by_secret(Some(&secret), Some(user), address);
        }
        let Shared { passwords, attempts, accounts, .. } = &*self.0;
        let (state, known, now) = (self.state(), accounts.known(), monotonic());
        let users = &state.users;
        // Of the same name the one in the file is meant.
        let (hash, stored) = match (users.hash_of(user), known.user(user)) {
            (Some(hash), _) => (Some(hash), None),
            (None, stored) => (stored.map(|stored| stored.hash.reveal()), stored),
        };
        let identity = || match stored {
            Some(stored) => Identity::of(stored.principal.clone()),
            None => Identity::user(user),
        };
        let is_known = |now| hash.is_some_and(|hash| passwords.is_known(user, password, hash, now));
        let pause = |now| address.and_then(|address| attempts.pause(address, user, now));
        if is_known(now) {
            return Ok(identity());
        }
        if let Some(pause) = pause(now) {
            return Err(AuthenticationError::TooMany(pause));
        }
        let turn = passwords.turn().await.map_err(|_| AuthenticationError::Busy)?;
        // Whoever tries many at once has to wait as if it were one after the other.
        let now = monotonic();
        if is_known(now) {
            return Ok(identity());
        }
        if let Some(pause) = pause(now) {
            return Err(AuthenticationError::TooMany(pause));
        }
        let cost = users.cost().max(known.cost());
        let (is_right, _turn) = passwords.check(turn, user, password, hash, cost, now).await;
        if is_right {
            return Ok(identity());
        }
        if let Some(address) = address {
            attempts.note_failure(address, user, now);
        }
        Err(AuthenticationError::Wrong)
    }

    /// Who comes with the secret of an access token, and with this user name where one has to be given. Nobody guesses one, so
    /// that a right one is taken however many wrong ones were tried from there.
    fn by_secret(
        &self,
        secret: Option<&TokenSecret>,
        login: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<Identity, AuthenticationError> {
        let Shared { accounts, attempts, .. } = &*self.0;
        let (known, now) = (accounts.known(), accounts.now());
        let token = secret.and_then(|secret| known.token(secret));
        let token = token.filter(|token| login.is_none_or(|login| login == token.login()));
        let error = match token.and_then(|token| Some((token, self.principal_of(token)?))) {
            Some((token, principal)) if !token.has_expired(now) => {
                accounts.note_use(token, now);
                return Ok(Identity::of(principal));
            }
            Some(_) => AuthenticationError::Expired,
            None => AuthenticationError::Wrong,
        };
        let (login, now) = (login.unwrap_or_default(), monotonic());
        if let Some(address) = address {
            if let Some(pause) = attempts.pause(address, login, now) {
                return Err(AuthenticationError::TooMany(pause));
            }
            attempts.note_failure(address, login, now);
        }
        Err(error)
    }

    /// Whom an access token stands for; nobody where its owner is no more.
    fn principal_of(&self, token: &KnownToken) -> Option<Arc<Principal>> {
        let Some(owner) = &token.owner else { return Some(token.principal.clone()) };
        if !self.is_in_file(owner) {
            return self.0.accounts.known().user(owner).map(|_| token.principal.clone());
        }
        if token.principal.groups.is_empty() {
            return Some(token.principal.clone());
        }
        // The groups are those of another of the same name.
        Some(Arc::new(Principal { groups: Vec::new(), ..Principal::clone(&token.principal) }))
    }

    /// Whom the access token of this number stands for now; `None` where it has expired or was revoked.
    pub fn find_access_token(&self, id: AccessTokenId) -> Option<Arc<Principal>> {
        let (known, now) = (self.0.accounts.known(), self.0.accounts.now());
        self.principal_of(known.token_of(id).filter(|token| !token.has_expired(now))?)
    }

    /// The users of the file, by name.
    pub fn users_in_file(&self) -> Vec<String> {
        self.state().users.names()
    }

    /// Whether nothing but the users and access tokens of the database keeps anybody out.
    pub fn is_open_without_accounts(&self) -> bool {
        self.state().rules.are_open()
    }

    /// Whether the file has a user of this name.
    pub fn is_in_file(&self, user: &str) -> bool {
        self.state().users.hash_of(user).is_some()
    }

    /// The one of this name, as they are known now; `None` where there is nobody of that name any more. For people whom an
    /// external issuer vouches for there is nothing to know.
    pub fn find(&self, kind: PrincipalKind, name: &str) -> Option<Arc<Principal>> {
        match kind {
            PrincipalKind::User if self.is_in_file(name) => Some(Arc::new(Principal::user(name))),
            PrincipalKind::User => self.0.accounts.known().user(name).map(|user| user.principal.clone()),
            PrincipalKind::AccessToken => {
                let (known, now) = (self.0.accounts.known(), self.0.accounts.now());
                let robot = known.robot(name).filter(|robot| !robot.has_expired(now));
                robot.map(|robot| robot.principal.clone())
            }
            PrincipalKind::External => None,
        }
    }

    /// Reads the users again, and goes by these rules from now on; says whether anything is different. Where that can't be,
    /// everything stays as it was. Blocks.
    pub fn reload(&self, options: Options) -> Result<bool, ReloadError> {
        let state = State::read(options)?;
        let mut present = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
        if **present == state {
            return Ok(false);
        }
        if state.rules.are_open() && !self.0.accounts.has_any() {
            return Err(ReloadError::Open);
        }
        *present = Arc::new(state);
        Ok(true)
    }
}

impl State {
    fn read(options: Options) -> Result<State, UsersError> {
        let Options { htpasswd, knows_certificates, rules, has_issuers } = options;
        let users = htpasswd.as_deref().map(read).transpose()?;
        let state = State::of(users, rules);
        let has_others = has_issuers || knows_certificates;
        Ok(if has_others { State { rules: state.rules_of_users.clone(), ..state } } else { state })
    }

    fn of(users: Option<Htpasswd>, rules: Vec<Rule>) -> State {
        let rules = Rules { rules, has_users: users.is_some() };
        let rules_of_users = Arc::new(Rules { has_users: true, ..rules.clone() });
        State { users: users.unwrap_or_default(), rules: Arc::new(rules), rules_of_users }
    }
}

fn read(path: &Path) -> Result<Htpasswd, UsersError> {
    let failed = |source| UsersError::File { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    Htpasswd::parse(&text).map_err(|source| UsersError::Line { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
