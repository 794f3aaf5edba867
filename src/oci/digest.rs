//! Digests: the names of content.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::hasher::Hasher;
use super::text::excerpt;

/// The longest encoded digest of a supported algorithm, in bytes.
const MAX_LEN: usize = 64;

/// A digest algorithm that content may be addressed by.
///
/// The numbers are part of the storage format (see [`Digest::to_key`]) and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DigestAlgorithm {
    /// SHA-256, the canonical algorithm.
    Sha256 = 1,
    /// SHA-384.
    Sha384 = 2,
    /// SHA-512.
    Sha512 = 3,
}

impl DigestAlgorithm {
    /// The algorithm whose digest identifies content in the store, whatever algorithm named it on the wire.
    pub const CANONICAL: DigestAlgorithm = DigestAlgorithm::Sha256;

    /// Every supported algorithm.
    pub const ALL: [DigestAlgorithm; 3] =
        [DigestAlgorithm::Sha256, DigestAlgorithm::Sha384, DigestAlgorithm::Sha512];

    /// Returns the registered name, as it stands before the colon of a digest.
    pub const fn as_str(self) -> &'static str {
        match self {
            DigestAlgorithm::Sha256 => "sha256",
            DigestAlgorithm::Sha384 => "sha384",
            DigestAlgorithm::Sha512 => "sha512",
        }
    }

    /// Returns the byte that stands for the algorithm in stored keys.
    pub const fn tag(self) -> u8 {
        self as u8
    }

    /// Returns the algorithm of a stored tag byte.
    pub fn from_tag(tag: u8) -> Option<DigestAlgorithm> {
        DigestAlgorithm::ALL.into_iter().find(|algorithm| algorithm.tag() == tag)
    }

    /// Returns the length of a digest in bytes.
    #[expect(
        clippy::len_without_is_empty,
        reason = "the length of what it produces; no algorithm produces nothing"
    )]
    pub const fn len(self) -> usize {
        match self {
            DigestAlgorithm::Sha256 => 32,
            DigestAlgorithm::Sha384 => 48,
            DigestAlgorithm::Sha512 => 64,
        }
    }
}

impl fmt::Display for DigestAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for DigestAlgorithm {
    type Err = DigestError;

    fn from_str(name: &str) -> Result<Self, DigestError> {
        let known = DigestAlgorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == name);
        known.ok_or_else(|| {
            if is_algorithm_name(name) {
                DigestError::Unsupported(excerpt(name))
            } else {
                DigestError::Malformed(excerpt(name))
            }
        })
    }
}

/// Why a text is not a digest that this registry can serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// The text does not follow the grammar, or its hexadecimal part has the wrong length.
    #[error(
        "`{0}` is not a digest; expected `algorithm:hex` with lower-case hexadecimal digits, such as `sha256:` and 64 digits"
    )]
    Malformed(String),
    /// The text follows the grammar, but names an algorithm that is not supported.
    #[error("the digest algorithm of `{0}` is not supported; use sha256, sha384 or sha512")]
    Unsupported(String),
}

/// The digest of some content: an algorithm and its bytes, held inline.
///
/// Digests order by algorithm, then by bytes, which is also the order of their keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: DigestAlgorithm,
    /// The digest, followed by zeros up to the longest algorithm's length.
    bytes: [u8; MAX_LEN],
}

impl Digest {
    /// Computes the digest of `content`.
    pub fn of(algorithm: DigestAlgorithm, content: &[u8]) -> Digest {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(content);
        hasher.finish()
    }

    /// Returns the SHA-256 digest that has these bytes.
    pub fn sha256(bytes: &[u8; 32]) -> Digest {
        Digest::from_slice(DigestAlgorithm::Sha256, bytes).expect("32 bytes are the length of SHA-256")
    }

    /// Returns the digest that has these bytes, if they have the algorithm's length.
    pub(super) fn from_slice(algorithm: DigestAlgorithm, slice: &[u8]) -> Option<Digest> {
        if slice.len() != algorithm.len() {
            return None;
        }
        let mut bytes = [0; MAX_LEN];
        bytes[..slice.len()].copy_from_slice(slice);
        Some(Digest { algorithm, bytes })
    }

    /// Returns the algorithm.
    pub fn algorithm(&self) -> DigestAlgorithm {
        self.algorithm
    }

    /// Returns the bytes; their number is the algorithm's [`len`](DigestAlgorithm::len).
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.len()]
    }

    /// Returns the bytes of a SHA-256 digest, and `None` for another algorithm's.
    pub fn as_sha256(&self) -> Option<&[u8; 32]> {
        match self.algorithm {
            DigestAlgorithm::Sha256 => self.bytes.first_chunk(),
            DigestAlgorithm::Sha384 | DigestAlgorithm::Sha512 => None,
        }
    }

    /// Returns the lower-case hexadecimal part, without the algorithm.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = String::with_capacity(2 * self.algorithm.len());
        for byte in self.as_bytes() {
            hex.push(char::from(DIGITS[usize::from(byte >> 4)]));
            hex.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        hex
    }

    /// Returns the stored form: the algorithm's tag byte, then the bytes. Keys order as digests do.
    pub fn to_key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(1 + self.algorithm.len());
        key.push(self.algorithm.tag());
        key.extend_from_slice(self.as_bytes());
        key
    }

    /// Reads the stored form back, and returns `None` for bytes that [`to_key`](Digest::to_key) never writes.
    pub fn from_key(key: &[u8]) -> Option<Digest> {
        let (&tag, bytes) = key.split_first()?;
        Digest::from_slice(DigestAlgorithm::from_tag(tag)?, bytes)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let malformed = || DigestError::Malformed(excerpt(text));
        let (name, encoded) = text.split_once(':').ok_or_else(malformed)?;
        if !is_algorithm_name(name) || !is_encoded(encoded) {
            return Err(malformed());
        }
        let algorithm: DigestAlgorithm =
            name.parse().map_err(|_: DigestError| DigestError::Unsupported(excerpt(text)))?;
        decode_hex(algorithm, encoded.as_bytes()).ok_or_else(malformed)
    }
}

/// Whether `name` follows the image specification's grammar `[a-z0-9]+([+._-][a-z0-9]+)*`.
fn is_algorithm_name(name: &str) -> bool {
    name.split(['+', '.', '_', '-'])
        .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

/// Whether `encoded` follows the image specification's grammar `[a-zA-Z0-9=_-]+`.
fn is_encoded(encoded: &str) -> bool {
    !encoded.is_empty()
        && encoded.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'=' | b'_' | b'-'))
}

fn decode_hex(algorithm: DigestAlgorithm, hex: &[u8]) -> Option<Digest> {
    if hex.len() != 2 * algorithm.len() {
        return None;
    }
    let mut bytes = [0; MAX_LEN];
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(Digest { algorithm, bytes })
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}
