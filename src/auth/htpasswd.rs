//! Users in a file, as `htpasswd -B` writes it.

use std::collections::HashMap;
use std::fmt;

use crate::registry::PasswordHash;

/// The largest work factor of a hash that is taken. Each one more doubles the time of a check, which is seconds by then.
const MAX_COST: u32 = 16;

/// Users with the hashes of their passwords. Hashes are never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Htpasswd(HashMap<String, String>);

/// A line that can't be used. What it says of a password isn't repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HtpasswdError {
    /// It has no user and hash.
    #[error("line {0}: write user:hash, as `htpasswd -B` does")]
    Malformed(usize),
    /// It isn't a bcrypt hash.
    #[error("line {line}: the password of {user} isn't hashed by bcrypt; set it anew with `htpasswd -B`")]
    Hash {
        /// The line, counted from 1.
        line: usize,
        /// The user.
        user: String,
    },
    /// The same user again.
    #[error("line {line}: {user} stands there twice; remove one of the lines")]
    Twice {
        /// The line, counted from 1.
        line: usize,
        /// The user.
        user: String,
    },
}

/// The text of a file with a user's password set: in place of the line that was there, else as the last one. All other lines stay
/// as they are; where one can't be used, so does the whole file.
pub fn with_user(text: &str, user: &str, hash: &PasswordHash) -> Result<String, HtpasswdError> {
    Htpasswd::parse(text)?;
    let line = format!("{user}:{}", hash.reveal());
    let mut lines: Vec<&str> = text.lines().collect();
    let is_users = |line: &&str| {
        line.trim().split_once(':').is_some_and(|(name, _)| name == user && !name.starts_with('#'))
    };
    match lines.iter().position(is_users) {
        Some(at) => lines[at] = &line,
        None => lines.push(&line),
    }
    let mut text = lines.join("\n");
    text.push('\n');
    Ok(text)
}

impl Htpasswd {
    /// Reads a file. Empty lines and those that begin with `#` say nothing.
    pub fn parse(text: &str) -> Result<Htpasswd, HtpasswdError> {
        let mut users = HashMap::new();
        for (at, line) in text.lines().enumerate() {
            let (line, number) = (line.trim(), at + 1);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (user, hash) = line.split_once(':').ok_or(HtpasswdError::Malformed(number))?;
            if user.is_empty() || user.chars().any(char::is_control) {
                return Err(HtpasswdError::Malformed(number));
            }
            if !is_bcrypt(hash) {
                return Err(HtpasswdError::Hash { line: number, user: user.to_owned() });
            }
            if users.insert(user.to_owned(), hash.to_owned()).is_some() {
                return Err(HtpasswdError::Twice { line: number, user: user.to_owned() });
            }
        }
        Ok(Htpasswd(users))
    }

    /// The hash of a user's password.
    pub(super) fn hash_of(&self, user: &str) -> Option<&str> {
        self.0.get(user).map(String::as_str)
    }

    /// The largest work factor of all hashes.
    pub(super) fn cost(&self) -> Option<u32> {
        self.0.values().filter_map(|hash| cost(hash)).max()
    }

    /// Everybody's name, in byte order.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Htpasswd({} users)", self.0.len())
    }
}

/// The work factor of a bcrypt hash.
pub(super) fn cost(hash: &str) -> Option<u32> {
    hash.split('$').nth(2)?.parse().ok()
}

fn is_bcrypt(hash: &str) -> bool {
    let is_known = ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"./$".contains(&byte);
    let is_bearable = cost(hash).is_some_and(|cost| (4..=MAX_COST).contains(&cost));
    is_known && is_bearable && hash.len() == 60 && hash.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What such a hash looks like.
    const HASH: &str = "$2y$04$tEqe6DZ0JxXyk0FVQf0y5uDFQC2SMcO5hK6vZ4d0uOTpM5Q0R8E8a";

    #[test]
    fn users_are_read_as_htpasswd_writes_them() {
        let text = format!("# people\n\nanna:{HASH}\nbo:{}\n", HASH.replace("$2y$04", "$2b$10"));
        let users = Htpasswd::parse(&text).unwrap();
        assert_eq!((users.len(), users.cost()), (2, Some(10)));
        assert_eq!(users.hash_of("anna"), Some(HASH));
        assert_eq!(users.hash_of("nobody"), None);
        assert_eq!(format!("{users:?}"), "Htpasswd(2 users)");
        assert!(Htpasswd::parse("").unwrap().is_empty());
    }

    #[test]
    fn a_user_is_set_and_everything_else_stays() {
        let other = HASH.replace("$2y$04", "$2b$10");
        let set = |text: &str| with_user(text, "anna", &PasswordHash::new(other.clone())).unwrap();
        assert_eq!(set(""), format!("anna:{other}\n"));
        let people = format!("# people\n\nbo:{HASH}");
        assert_eq!(set(&people), format!("{people}\nanna:{other}\n"));
        let text = format!("#anna:x\n anna:{HASH}\nannabel:{HASH}\n");
        assert_eq!(set(&text), format!("#anna:x\nanna:{other}\nannabel:{HASH}\n"));
        let broken = with_user("bo:plain\n", "anna", &PasswordHash::new(other)).unwrap_err();
        assert!(matches!(broken, HtpasswdError::Hash { line: 1, .. }));
    }

    #[test]
    fn what_is_no_bcrypt_hash_is_refused_and_not_repeated() {
        let line = 2;
        for (text, expected) in [
            ("anna", HtpasswdError::Malformed(line)),
            (":x", HtpasswdError::Malformed(line)),
            ("anna:sesame", HtpasswdError::Hash { line, user: "anna".to_owned() }),
            ("anna:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=", HtpasswdError::Hash { line, user: "anna".to_owned() }),
            ("anna:$apr1$x$y", HtpasswdError::Hash { line, user: "anna".to_owned() }),
            (
                &format!("anna:{}", HASH.replace("04", "31")),
                HtpasswdError::Hash { line, user: "anna".to_owned() },
            ),
            (&format!("bo:{HASH}"), HtpasswdError::Twice { line, user: "bo".to_owned() }),
        ] {
            let error = Htpasswd::parse(&format!("bo:{HASH}\n{text}")).unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("sesame"));
        }
    }
}
