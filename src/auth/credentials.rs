//! What a client brings to show who it is.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::secret::Secret;

/// What the header `Authorization` says. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    /// A user and a password (RFC 7617).
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token (RFC 6750).
    Bearer(Secret),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credentials::Basic { .. } => "Basic",
            Credentials::Bearer(_) => "Bearer",
        })
    }
}

impl Credentials {
    /// Reads the value of the header; `None` where it is neither.
    pub(super) fn parse(authorization: &str) -> Option<Credentials> {
        let (scheme, value) = authorization.split_once(' ')?;
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return (!value.is_empty()).then(|| Credentials::Bearer(value.into()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = Secret::from(String::from_utf8(STANDARD.decode(value).ok()?).ok()?);
        let (user, password) = decoded.reveal().split_once(':')?;
        Some(Credentials::Basic { user: user.to_owned(), password: password.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_schemes_are_read_and_nothing_else() {
        let basic = |user: &str, password: &str| Credentials::Basic {
            user: user.to_owned(),
            password: password.into(),
        };
        for (text, expected) in [
            ("Basic YW5uYTpzZXNhbWU=", Some(basic("anna", "sesame"))),
            ("basic  YTpiOmM=", Some(basic("a", "b:c"))),
            ("Basic Og==", Some(basic("", ""))),
            ("Bearer abc.def", Some(Credentials::Bearer("abc.def".into()))),
            ("bearer x", Some(Credentials::Bearer("x".into()))),
            ("Bearer", None),
            ("Bearer ", None),
            ("Basic", None),
            ("Basic !", None),
            ("Basic YW5uYQ==", None),
            ("Digest x", None),
        ] {
            assert_eq!(Credentials::parse(text), expected, "{text}");
        }
        assert_eq!(format!("{:?}", basic("anna", "sesame")), "Basic");
    }
}
