//! Who pulls.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use crate::secret::Secret;

/// A user and a password for an upstream. Neither is ever printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    password: Secret,
    /// Base64 of both, as `Basic` writes them.
    encoded: Secret,
}

/// A user or password that can't be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a user and a password are needed, the user without a colon, both without line breaks and other control characters"
)]
pub struct CredentialsError;

impl Credentials {
    /// Takes a user and a password.
    pub fn new(user: &str, password: &str) -> Result<Credentials, CredentialsError> {
        let is_sendable = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
        if !is_sendable(user) || !is_sendable(password) || user.contains(':') {
            return Err(CredentialsError);
        }
        let both = Secret::from(format!("{user}:{password}"));
        let encoded = STANDARD.encode(both.reveal()).into();
        Ok(Credentials { password: password.into(), encoded })
    }

    /// The value of `Authorization`, marked as sensitive.
    pub(super) fn basic(&self) -> HeaderValue {
        let value = HeaderValue::try_from(format!("Basic {}", self.encoded.reveal()));
        let mut value = value.expect("base64 is printable ASCII");
        value.set_sensitive(true);
        value
    }

    /// Whether a text of somebody else's gives the password away.
    pub(super) fn are_in(&self, text: &str) -> bool {
        text.contains(self.password.reveal()) || text.contains(self.encoded.reveal())
    }
}

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(credentials)")
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_sent_and_not_printed() {
        let credentials = Credentials::new("anna", "open:sesame").unwrap();
        assert_eq!(credentials.basic().to_str().unwrap(), "Basic YW5uYTpvcGVuOnNlc2FtZQ==");
        let printed = format!("{credentials} {credentials:?} {:?}", credentials.basic());
        assert!(!printed.contains("anna") && !printed.contains("sesame") && !printed.contains("YW5u"));
        assert!(credentials.are_in("no user with open:sesame"));
        assert!(!credentials.are_in("no such user"));
    }

    #[test]
    fn what_basic_can_not_say_is_refused() {
        for (user, password) in [("", "x"), ("x", ""), ("a:b", "x"), ("a", "x\n"), ("a\r", "x")] {
            assert_eq!(Credentials::new(user, password), Err(CredentialsError));
        }
    }
}
