//! The value of a `TarSum`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::oci::digest::{Digest, DigestAlgorithm, DigestError};
use crate::oci::text::{deserialize_parsed, excerpt};

/// A version of the `TarSum` algorithm; the cipher is always SHA-256.
///
/// The numbers are part of the storage format (see [`TarSum::to_key`]) and never change; they are none of
/// [`DigestAlgorithm`]'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TarSumVersion {
    /// Version 0, `tarsum`: with times of modification, without extended attributes.
    V0 = 16,
    /// Version 1, `tarsum.v1`: without times of modification, with extended attributes.
    V1 = 17,
}

impl TarSumVersion {
    /// Every supported version.
    pub const ALL: [TarSumVersion; 2] = [TarSumVersion::V0, TarSumVersion::V1];

    /// Returns what stands before the colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            TarSumVersion::V0 => "tarsum+sha256",
            TarSumVersion::V1 => "tarsum.v1+sha256",
        }
    }

    /// Returns the byte that stands for the version in stored keys.
    pub const fn tag(self) -> u8 {
        self as u8
    }
}

/// The digest of what is in a tar archive, such as `tarsum.v1+sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TarSum {
    version: TarSumVersion,
    bytes: [u8; 32],
}

impl TarSum {
    /// The length of the stored form.
    pub const KEY_LEN: usize = 33;

    pub(super) fn new(version: TarSumVersion, digest: &Digest) -> TarSum {
        let bytes = *digest.as_sha256().expect("a tarsum is computed by SHA-256");
        TarSum { version, bytes }
    }

    /// Returns the version of the algorithm.
    pub fn version(&self) -> TarSumVersion {
        self.version
    }

    /// Returns the bytes of the digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Returns the stored form: the version's tag byte, then the bytes. No [`Digest`] has the same.
    pub fn to_key(&self) -> Vec<u8> {
        [&[self.version.tag()], &self.bytes[..]].concat()
    }

    /// Reads the stored form back, and returns `None` for bytes that [`to_key`](TarSum::to_key) never writes.
    pub fn from_key(key: &[u8]) -> Option<TarSum> {
        let (&tag, bytes) = key.split_first()?;
        let version = TarSumVersion::ALL.into_iter().find(|version| version.tag() == tag)?;
        Some(TarSum { version, bytes: bytes.try_into().ok()? })
    }
}

impl FromStr for TarSum {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let malformed = || DigestError::Malformed(excerpt(text));
        let (name, hex) = text.split_once(':').ok_or_else(malformed)?;
        let is_label = name.split(['+', '.']).all(|part| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        });
        if !is_label || !name.contains('+') || !name.starts_with("tarsum") {
            return Err(malformed());
        }
        let known = TarSumVersion::ALL.into_iter().find(|version| version.as_str() == name);
        let version = known.ok_or_else(|| DigestError::Unsupported(excerpt(text)))?;
        // The hexadecimal part follows the rules of a digest's.
        let digest: Digest = format!("{}:{hex}", DigestAlgorithm::Sha256).parse().map_err(|_| malformed())?;
        Ok(TarSum::new(version, &digest))
    }
}

impl fmt::Display for TarSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.version.as_str(), Digest::sha256(&self.bytes).hex())
    }
}

impl fmt::Debug for TarSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for TarSum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TarSum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_parsed(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_tags_never_change_and_are_no_digest_algorithms() {
        assert_eq!(TarSumVersion::ALL.map(TarSumVersion::tag), [16, 17]);
        for version in TarSumVersion::ALL {
            let sum = TarSum { version, bytes: [7; 32] };
            assert_eq!(TarSum::from_key(&sum.to_key()), Some(sum));
            assert_eq!(Digest::from_key(&sum.to_key()), None);
            assert_eq!(sum.to_string().parse(), Ok(sum));
        }
        for key in [&[][..], &[16; 32], &[16; 34], &[1; 33]] {
            assert_eq!(TarSum::from_key(key), None);
        }
    }

    #[test]
    fn what_is_no_tarsum_is_refused() {
        let hex = "0a".repeat(32);
        for text in [format!("tarsum.dev+sha256:{hex}"), format!("tarsum.v1+sha512:{hex}{hex}")] {
            assert!(matches!(text.parse::<TarSum>(), Err(DigestError::Unsupported(_))), "{text}");
        }
        for text in [
            String::new(),
            "tarsum".to_owned(),
            format!("tarsum.v1+sha256:{}", &hex[1..]),
            format!("tarsum.v1+sha256:{}", hex.to_uppercase()),
            format!("tarsum.V1+sha256:{hex}"),
            format!("tarsum..v1+sha256:{hex}"),
            format!("sha256:{hex}"),
            format!("tarsum:{hex}"),
        ] {
            assert!(matches!(text.parse::<TarSum>(), Err(DigestError::Malformed(_))), "{text}");
        }
    }
}
