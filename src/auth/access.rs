//! The one who is asked at each request.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use super::attempts::Attempts;
use super::bearer;
use super::credentials::Credentials;
use super::htpasswd::Htpasswd;
use super::passwords::Passwords;
use super::{Action, Decision, HtpasswdError, Identity, Principal, PrincipalKind, Rule, Rules};
use crate::clock::monotonic;
use crate::oci::RepositoryName;

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

/// Who may do what. Clones share what they know.
#[derive(Debug, Clone)]
pub struct Access(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: Options,
    users: RwLock<Users>,
    rules: Rules,
    passwords: Passwords,
    attempts: Attempts,
}

/// The users, and of which state of their file they are.
#[derive(Debug, Clone)]
struct Users {
    users: Arc<Htpasswd>,
    state: Option<FileState>,
}

/// What changes with a file.
type FileState = (SystemTime, u64, u64);

/// Everybody may do everything.
impl Default for Access {
    fn default() -> Access {
        Access::with(Options::default(), Users { users: Arc::default(), state: None })
    }
}

impl Access {
    /// Reads the users. Blocks.
    pub fn open(options: Options) -> Result<Access, UsersError> {
        let users = match &options.htpasswd {
            Some(path) => read(path)?,
            None => Users { users: Arc::default(), state: None },
        };
        Ok(Access::with(options, users))
    }

    fn with(options: Options, users: Users) -> Access {
        let rules = Rules { rules: options.rules.clone(), has_users: options.htpasswd.is_some() };
        let (passwords, attempts) = (Passwords::new(), Attempts::default());
        Access(Arc::new(Shared { options, users: RwLock::new(users), rules, passwords, attempts }))
    }

    /// Whether everybody may do everything.
    pub fn is_open(&self) -> bool {
        self.0.rules.are_open()
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
            Credentials::Bearer(token) => bearer::identify(self, &token).await,
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
        let users = self.users();
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

    /// Whether somebody may do something with a repository, or with any where none is named.
    pub fn decide(
        &self,
        identity: &Identity,
        action: Action,
        repository: Option<&RepositoryName>,
    ) -> Decision<'_> {
        self.0.rules.decide(identity, action, repository)
    }

    /// The one of this name, as they are known now; `None` where there is nobody of that name any more. For people whom an
    /// external issuer vouches for there is nothing to know.
    pub fn find(&self, kind: PrincipalKind, name: &str) -> Option<Arc<Principal>> {
        match kind {
            PrincipalKind::User => self.users().hash_of(name).map(|_| Arc::new(Principal::user(name))),
            PrincipalKind::AccessToken | PrincipalKind::External => None,
        }
    }

    /// Whether somebody may read what the registry's own credentials have opened.
    pub fn decide_private(&self, identity: &Identity, repository: &RepositoryName) -> Decision<'_> {
        self.0.rules.decide_private(identity, repository)
    }

    fn users(&self) -> Arc<Htpasswd> {
        self.0.users.read().unwrap_or_else(PoisonError::into_inner).users.clone()
    }

    /// Reads the users again where their file has changed; says whether it had. Where it can't be used the former ones stay.
    /// Blocks.
    pub fn reload(&self) -> Result<bool, UsersError> {
        let Some(path) = &self.0.options.htpasswd else { return Ok(false) };
        let known = self.0.users.read().unwrap_or_else(PoisonError::into_inner).state;
        if known.is_some() && known == state(path) {
            return Ok(false);
        }
        let users = read(path)?;
        *self.0.users.write().unwrap_or_else(PoisonError::into_inner) = users;
        Ok(true)
    }
}

fn read(path: &Path) -> Result<Users, UsersError> {
    let failed = |source| UsersError::File { path: path.to_owned(), source };
    // Before its content: a change in between is seen with the next look.
    let state = state(path);
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let users =
        Htpasswd::parse(&text).map_err(|source| UsersError::Line { path: path.to_owned(), source })?;
    Ok(Users { users: Arc::new(users), state })
}

/// The state of what a path leads to, through symbolic links.
fn state(path: &Path) -> Option<FileState> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.ino(), metadata.len()))
}
