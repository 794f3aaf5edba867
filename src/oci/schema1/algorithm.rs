//! The signature algorithms of signed schema 1 manifests.

use std::fmt;
use std::str::FromStr;

use crate::oci::text::excerpt;

/// A JWS signature algorithm that this registry verifies.
///
/// The numbers are part of the storage format (see [`SignatureAlgorithm::tag`]) and never change. Algorithms order by
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SignatureAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256 = 1,
    /// ECDSA on P-384 with SHA-384.
    Es384 = 2,
    /// ECDSA on P-521 with SHA-512.
    Es512 = 3,
    /// RSA (PKCS #1 1.5) with SHA-256.
    Rs256 = 4,
    /// RSA (PKCS #1 1.5) with SHA-384.
    Rs384 = 5,
    /// RSA (PKCS #1 1.5) with SHA-512.
    Rs512 = 6,
}

/// The name of an algorithm that is none of [`SignatureAlgorithm::ALL`]; holds the beginning of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the signature algorithm `{0}` is not supported; use ES256, ES384, ES512, RS256, RS384 or RS512")]
pub struct UnknownAlgorithm(String);

impl SignatureAlgorithm {
    /// Every supported algorithm.
    pub const ALL: [SignatureAlgorithm; 6] = [
        SignatureAlgorithm::Es256,
        SignatureAlgorithm::Es384,
        SignatureAlgorithm::Es512,
        SignatureAlgorithm::Rs256,
        SignatureAlgorithm::Rs384,
        SignatureAlgorithm::Rs512,
    ];

    /// Returns the name as it stands in a JWS header (RFC 7518, section 3.1).
    pub const fn as_str(self) -> &'static str {
        match self {
            SignatureAlgorithm::Es256 => "ES256",
            SignatureAlgorithm::Es384 => "ES384",
            SignatureAlgorithm::Es512 => "ES512",
            SignatureAlgorithm::Rs256 => "RS256",
            SignatureAlgorithm::Rs384 => "RS384",
            SignatureAlgorithm::Rs512 => "RS512",
        }
    }

    /// Returns the byte that stands for the algorithm in stored keys.
    pub const fn tag(self) -> u8 {
        self as u8
    }

    /// Returns the algorithm of a stored tag byte.
    pub fn from_tag(tag: u8) -> Option<SignatureAlgorithm> {
        SignatureAlgorithm::ALL.into_iter().find(|algorithm| algorithm.tag() == tag)
    }
}

impl fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for SignatureAlgorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        let known = SignatureAlgorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == name);
        known.ok_or_else(|| UnknownAlgorithm(excerpt(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_stored_tags_round_trip_and_never_change() {
        assert_eq!(SignatureAlgorithm::ALL.map(SignatureAlgorithm::tag), [1, 2, 3, 4, 5, 6]);
        for algorithm in SignatureAlgorithm::ALL {
            assert_eq!(algorithm.as_str().parse(), Ok(algorithm));
            assert_eq!(SignatureAlgorithm::from_tag(algorithm.tag()), Some(algorithm));
        }
        assert_eq!(SignatureAlgorithm::from_tag(0), None);
    }

    #[test]
    fn algorithms_without_a_public_key_are_refused() {
        for name in ["none", "HS256", "es256", "PS256", ""] {
            assert!(name.parse::<SignatureAlgorithm>().is_err(), "{name}");
        }
    }
}
