//! Users: added, changed, removed and listed.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::call::{Answer, Call, invalid, json};
use crate::auth::{Access, hash_password};
use crate::http::errors::{ApiError, ErrorCode};
use crate::registry::{AccountName, Error, PasswordHash};

/// A password on its way to the registry. Never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// The password that a text is.
    pub fn new(text: impl Into<String>) -> Password {
        Password(text.into())
    }

    /// The text, for what it is for.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// The body of `POST users/add`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddUser {
    /// A name that nobody has.
    pub name: AccountName,
    /// Their password.
    pub password: Password,
    /// The groups that they are in.
    #[serde(default)]
    pub groups: Vec<AccountName>,
}

/// The body of `POST users/set`. What isn't named stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetUser {
    /// Who.
    pub name: AccountName,
    /// Their new password.
    #[serde(default)]
    pub password: Option<Password>,
    /// All groups that they are in from now on.
    #[serde(default)]
    pub groups: Option<Vec<AccountName>>,
}

/// The body of `POST users/remove`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveUser {
    /// Who.
    pub name: AccountName,
}

/// The answer to `POST users/remove`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemovedUser {
    /// How many access tokens stood for them, which are revoked.
    pub revoked_tokens: usize,
    /// Whether nothing is left that restricts access: the server lets everybody in from its next start.
    pub opens_at_next_start: bool,
}

/// The answer to `GET users`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users {
    /// Everybody who has a password, by name.
    pub users: Vec<UserEntry>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserEntry {
    /// Their name.
    pub name: String,
    /// `database`, `file`, or `hidden`: in the database, under a name that somebody in the file has, who is meant by it.
    pub source: String,
    /// The groups that they are in.
    pub groups: Vec<String>,
    /// When they were added to the database.
    pub created_at: Option<String>,
    /// When their password or their groups were changed last in the database.
    pub changed_at: Option<String>,
}

/// Lists the users of the file and of the database.
pub(super) fn list_users(call: &Call) -> Answer {
    let access = call.access();
    let (stored, _) = call.registry().accounts().users()?;
    let of_file = access.users_in_file().into_iter().map(|name| UserEntry {
        name,
        source: "file".to_owned(),
        groups: Vec::new(),
        created_at: None,
        changed_at: None,
    });
    let of_database = stored.into_iter().map(|user| UserEntry {
        source: if access.is_in_file(&user.name) { "hidden" } else { "database" }.to_owned(),
        name: user.name,
        groups: user.groups,
        created_at: Some(user.created_at.to_rfc3339()),
        changed_at: Some(user.changed_at.to_rfc3339()),
    });
    let mut users: Vec<UserEntry> = of_file.chain(of_database).collect();
    users.sort_by(|one, other| (&one.name, &one.source).cmp(&(&other.name, &other.source)));
    json(&Users { users })
}

/// Adds a user to the database.
pub(super) async fn add_user(mut call: Call) -> Answer {
    let AddUser { name, password, groups } = call.json().await?;
    if call.access().is_in_file(name.as_str()) {
        let message = format!(
            "the file of users has {name} already, who would be meant by this name; change the password there \
             (orlop user add {name} --htpasswd FILE), or remove {name} from the file first"
        );
        return Err(ApiError::new(ErrorCode::NameTaken, message));
    }
    let hash = hashed(password).await?;
    let accounts = call.registry().accounts();
    change(call.access().clone(), async move { accounts.add_user(&name, hash, &groups).await }).await?;
    json(&super::Done {})
}

/// Gives a user of the database another password, or other groups.
pub(super) async fn set_user(mut call: Call) -> Answer {
    let SetUser { name, password, groups } = call.json().await?;
    let hash = match password {
        Some(password) => Some(hashed(password).await?),
        None if groups.is_none() => return Err(invalid("say what to change: password, groups or both")),
        None => None,
    };
    let accounts = call.registry().accounts();
    change(call.access().clone(), async move { accounts.change_user(&name, hash, groups.as_deref()).await })
        .await?;
    json(&super::Done {})
}

/// Removes a user from the database, with all access tokens that stand for them.
pub(super) async fn remove_user(mut call: Call) -> Answer {
    let RemoveUser { name } = call.json().await?;
    let accounts = call.registry().accounts();
    let revoked_tokens =
        change(call.access().clone(), async move { accounts.remove_user(&name).await }).await?;
    json(&RemovedUser { revoked_tokens, opens_at_next_start: opens_at_next_start(&call)? })
}

/// Hashes a password, on a thread that may block.
async fn hashed(password: Password) -> Result<PasswordHash, ApiError> {
    let hashed = tokio::task::spawn_blocking(move || hash_password(&password.0)).await;
    hashed.map_err(ApiError::failure)?.map_err(|error| invalid(error.to_string()))
}

/// Changes accounts, and lets the server know. Both is done to its end, also where nobody waits for the answer any more: what
/// was revoked must not go on being let in.
pub(super) async fn change<T: Send + 'static>(
    access: Access,
    change: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, ApiError> {
    let task = tokio::spawn(async move {
        let done = change.await?;
        let refreshed = tokio::task::spawn_blocking(move || access.refresh_accounts()).await;
        refreshed.map_err(ApiError::failure)??;
        Ok(done)
    });
    task.await.map_err(ApiError::failure)?
}

/// Whether nothing restricts access any more but that something has since the start.
pub(super) fn opens_at_next_start(call: &Call) -> Result<bool, ApiError> {
    let accounts = call.registry().accounts();
    let has_any = accounts.users()?.1 || accounts.tokens()?.1;
    Ok(!has_any && call.access().is_open_without_accounts())
}
