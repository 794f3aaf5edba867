//! What users, groups and access tokens are called.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name.
const MOST: usize = 128;

/// The name of a user, a group or an access token: ASCII letters, digits and `._-@+`, of which a letter or a digit is first.
///
/// So it needs no escaping in lists, logs and rules, and can't be taken for another one that looks alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountName(String);

/// A text that is no such name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name has letters (a-z, A-Z), digits and `._-@+`, begins with a letter or a digit, and is at most {MOST} long; \
     anonymous is nobody's name"
)]
pub struct AccountNameError;

impl AccountName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountName {
    type Err = AccountNameError;

    fn from_str(text: &str) -> Result<AccountName, AccountNameError> {
        let is_taken = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@+".contains(&byte);
        let begins_well = text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
        // What nobody in particular does is recorded under that name.
        let is_free = !text.eq_ignore_ascii_case("anonymous");
        if begins_well && is_free && text.len() <= MOST && text.bytes().all(is_taken) {
            return Ok(AccountName(text.to_owned()));
        }
        Err(AccountNameError)
    }
}

impl TryFrom<String> for AccountName {
    type Error = AccountNameError;

    fn try_from(text: String) -> Result<AccountName, AccountNameError> {
        text.parse()
    }
}

impl From<AccountName> for String {
    fn from(name: AccountName) -> String {
        name.0
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_need_no_escaping_anywhere() {
        for text in ["a", "anna", "ci-robot_2", "anna.b+ci@example.com", "7", &"n".repeat(MOST)] {
            assert_eq!(text.parse::<AccountName>().unwrap().as_str(), text);
        }
        let long = "n".repeat(MOST + 1);
        for text in
            ["", " ", "a b", "a:b", "a,b", "-a", ".a", "a\n", "a\0", "jürgen", "аnna", "Anonymous", &long]
        {
            assert_eq!(text.parse::<AccountName>(), Err(AccountNameError), "{text:?}");
        }
    }
}
