//! Digests of any domain that clients may name content by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::digest::{Digest, DigestError};
use super::tarsum::TarSum;
use super::text::deserialize_parsed;

/// What a client names content by before it has been mapped to the canonical digest.
///
/// A [`TarSum`] doesn't stand for bytes, but for what is in a tar archive: different bytes may have the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProvisionalDigest {
    /// A digest of the bytes.
    Digest(Digest),
    /// The digest of a tar archive's contents that the clients of 2014 and 2015 used.
    TarSum(TarSum),
}

impl ProvisionalDigest {
    /// Returns the digest of the bytes, where it is one.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            ProvisionalDigest::Digest(digest) => Some(digest),
            ProvisionalDigest::TarSum(_) => None,
        }
    }

    /// Returns the stored form, which begins with a different byte in each domain.
    pub fn to_key(&self) -> Vec<u8> {
        match self {
            ProvisionalDigest::Digest(digest) => digest.to_key(),
            ProvisionalDigest::TarSum(sum) => sum.to_key(),
        }
    }

    /// Reads the stored form back, and returns `None` for bytes that [`to_key`](ProvisionalDigest::to_key) never writes.
    pub fn from_key(key: &[u8]) -> Option<ProvisionalDigest> {
        let digest = Digest::from_key(key).map(ProvisionalDigest::Digest);
        digest.or_else(|| TarSum::from_key(key).map(ProvisionalDigest::TarSum))
    }
}

impl From<Digest> for ProvisionalDigest {
    fn from(digest: Digest) -> Self {
        ProvisionalDigest::Digest(digest)
    }
}

impl From<&Digest> for ProvisionalDigest {
    fn from(digest: &Digest) -> Self {
        ProvisionalDigest::Digest(*digest)
    }
}

impl From<&ProvisionalDigest> for ProvisionalDigest {
    fn from(digest: &ProvisionalDigest) -> Self {
        *digest
    }
}

impl From<TarSum> for ProvisionalDigest {
    fn from(sum: TarSum) -> Self {
        ProvisionalDigest::TarSum(sum)
    }
}

impl FromStr for ProvisionalDigest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        if text.starts_with("tarsum") {
            return text.parse().map(ProvisionalDigest::TarSum);
        }
        text.parse().map(ProvisionalDigest::Digest)
    }
}

impl fmt::Display for ProvisionalDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProvisionalDigest::Digest(digest) => fmt::Display::fmt(digest, f),
            ProvisionalDigest::TarSum(sum) => fmt::Display::fmt(sum, f),
        }
    }
}

impl Serialize for ProvisionalDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ProvisionalDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_parsed(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::DigestAlgorithm;

    #[test]
    fn both_domains_round_trip_as_text_and_key() {
        let digest = Digest::of(DigestAlgorithm::Sha512, b"");
        for text in [
            digest.to_string(),
            format!("tarsum.v1+sha256:{}", "0a".repeat(32)),
            format!("tarsum+sha256:{}", "0b".repeat(32)),
        ] {
            let parsed: ProvisionalDigest = text.parse().unwrap();
            assert_eq!(parsed.to_string(), text);
            assert_eq!(ProvisionalDigest::from_key(&parsed.to_key()), Some(parsed));
        }
    }

    #[test]
    fn an_unknown_domain_is_unsupported_and_nonsense_malformed() {
        let unsupported = format!("tarsum.dev+sha256:{}", "0a".repeat(32));
        assert!(matches!(unsupported.parse::<ProvisionalDigest>(), Err(DigestError::Unsupported(_))));
        for text in ["", "tarsum", "tarsum.v1+sha256:", "tarsum.v1+sha256:0A", "sha256:x"] {
            assert!(matches!(text.parse::<ProvisionalDigest>(), Err(DigestError::Malformed(_))), "{text}");
        }
    }
}
