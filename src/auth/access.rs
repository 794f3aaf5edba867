//! The one who is asked at each request.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::attempts::Attempts;
use super::credentials::Credentials;
use super::htpasswd::Htpasswd;
use super::passwords::Passwords;
use super::{HtpasswdError, Identity, Principal, PrincipalKind, Rule, Rules};
use crate::clock::monotonic;

/// How access is restricted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// A file of users and the bcrypt hashes of their passwords.
    pub htpasswd: Option<PathBuf>,
    /// Who may do what.
    pub rules: Vec<Rule>,
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
    passwords: Passwords,
    attempts: Attempts,
}

/// What changes when it is read again.
#[derive(Debug, Default, PartialEq, Eq)]
struct State {
    users: Htpasswd,
    rules: Arc<Rules>,
}

/// Everybody may do everything.
impl Default for Access {
    fn default() -> Access {
        Access::with(State::default())
    }
}

impl Access {
    /// Reads the users. Blocks.
    pub fn open(options: Options) -> Result<Access, UsersError> {
        State::read(options).map(Access::with)
    }

    fn with(state: State) -> Access {
        let (passwords, attempts) = (Passwords::new(), Attempts::default());
        Access(Arc::new(Shared { state: RwLock::new(Arc::new(state)), passwords, attempts }))
    }

    fn state(&self) -> Arc<State> {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The rules that hold now.
    pub fn rules(&self) -> Arc<Rules> {
        self.state().rules.clone()
    }

    /// Whether everybody may do everything.
    pub fn is_open(&self) -> bool {
        self.state().rules.are_open()
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
            Credentials::Basic { user, password } => self.by_password(&user, &password, address).await,
            Credentials::Bearer(_) => Err(AuthenticationError::Wrong),
        }
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
        let Shared { passwords, attempts, .. } = &*self.0;
        let state = self.state();
        let users = &state.users;
        let (hash, now) = (users.hash_of(user), monotonic());
        if hash.is_some_and(|hash| passwords.is_known(user, password, hash, now)) {
            return Ok(Identity::user(user));
        }
        if let Some(pause) = address.and_then(|address| attempts.pause(address, user, now)) {
            return Err(AuthenticationError::TooMany(pause));
        }
        let checked = passwords.check(user, password, hash, users.cost(), now).await;
        if checked.map_err(|_| AuthenticationError::Busy)? {
            return Ok(Identity::user(user));
        }
        if let Some(address) = address {
            attempts.note_failure(address, user, now);
        }
        Err(AuthenticationError::Wrong)
    }

    /// The one of this name, as they are known now; `None` where there is nobody of that name any more. For people whom an
    /// external issuer vouches for there is nothing to know.
    pub fn find(&self, kind: PrincipalKind, name: &str) -> Option<Arc<Principal>> {
        match kind {
            PrincipalKind::User => self.state().users.hash_of(name).map(|_| Arc::new(Principal::user(name))),
            PrincipalKind::AccessToken | PrincipalKind::External => None,
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
        if state.rules.are_open() {
            return Err(ReloadError::Open);
        }
        *present = Arc::new(state);
        Ok(true)
    }
}

impl State {
    fn read(options: Options) -> Result<State, UsersError> {
        let Options { htpasswd, rules } = options;
        let users = htpasswd.as_deref().map(read).transpose()?;
        let rules = Rules { rules, has_users: users.is_some() };
        Ok(State { users: users.unwrap_or_default(), rules: Arc::new(rules) })
    }
}

fn read(path: &Path) -> Result<Htpasswd, UsersError> {
    let failed = |source| UsersError::File { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    Htpasswd::parse(&text).map_err(|source| UsersError::Line { path: path.to_owned(), source })
}
