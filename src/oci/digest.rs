//! Digests: the names of content.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::hasher::Hasher;
use super::text::{deserialize_parsed, excerpt};

/// The longest encoded digest of a supported algorithm, in bytes.
const MAX_LEN: usize = 64;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

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
        self.with_hex(str::to_owned)
    }

    /// Hands the lower-case hexadecimal part to `read`.
    fn with_hex<R>(&self, read: impl FnOnce(&str) -> R) -> R {
        let mut hex = [0; 2 * MAX_LEN];
        for (digits, byte) in hex.chunks_exact_mut(2).zip(self.as_bytes()) {
            digits[0] = DIGITS[usize::from(byte >> 4)];
            digits[1] = DIGITS[usize::from(byte & 15)];
        }
        read(std::str::from_utf8(&hex[..2 * self.algorithm.len()]).expect("hexadecimal digits are ASCII"))
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
        let algorithm = DigestAlgorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == name);
        if let Some(algorithm) = algorithm {
            // Whatever it decodes follows the grammar.
            return decode_hex(algorithm, encoded.as_bytes()).ok_or_else(malformed);
        }
        if !is_algorithm_name(name) || !is_encoded(encoded) {
            return Err(malformed());
        }
        Err(DigestError::Unsupported(excerpt(text)))
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
    // Looked at once, behind all of them, whether they are digits.
    let mut seen = 0;
    for (byte, pair) in bytes.iter_mut().zip(hex.as_chunks().0) {
        let [high, low] = pair.map(|digit| NIBBLES[usize::from(digit)]);
        *byte = high << 4 | low;
        seen |= high | low;
    }
    (seen < 16).then_some(Digest { algorithm, bytes })
}

/// The values of lower-case hexadecimal digits, and 255 for all other bytes.
const NIBBLES: [u8; 256] = {
    let mut nibbles = [u8::MAX; 256];
    let mut value = 0;
    while value < 16 {
        nibbles[DIGITS[value as usize] as usize] = value;
        value += 1;
    }
    nibbles
};

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm.as_str())?;
        f.write_str(":")?;
        self.with_hex(|hex| f.write_str(hex))
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
        deserialize_parsed(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_digest() -> impl Strategy<Value = Digest> {
        (0_usize..3, proptest::array::uniform32(any::<u8>())).prop_map(|(algorithm, bytes)| {
            let algorithm = DigestAlgorithm::ALL[algorithm];
            let repeated: Vec<u8> = bytes.iter().copied().cycle().take(algorithm.len()).collect();
            Digest::from_slice(algorithm, &repeated).unwrap()
        })
    }

    #[test]
    fn known_content_has_its_known_digest() {
        assert_eq!(
            Digest::of(DigestAlgorithm::Sha256, b"{}").to_string(),
            "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        );
        assert_eq!(
            Digest::of(DigestAlgorithm::Sha384, b"abc").to_string(),
            "sha384:cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"
        );
        assert_eq!(
            Digest::of(DigestAlgorithm::Sha512, b"").to_string(),
            "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f\
             63b931bd47417a81a538327af927da3e"
        );
    }

    #[test]
    fn what_breaks_the_grammar_is_malformed() {
        let hex = "0".repeat(64);
        for text in [
            "",
            ":",
            "sha256",
            "sha256:",
            "sha256:baddigeststring",
            &format!("sha256:{}", "A".repeat(64)),
            &format!("sha256:{}", "g".repeat(64)),
            &format!("sha256:{hex}0"),
            &format!("sha512:{hex}"),
            &format!(" sha256:{hex}"),
            &format!("sha256:{hex}\n"),
            &format!("SHA256:{hex}"),
            &format!("sha256::{hex}"),
            &format!("sha256+:{hex}"),
            &format!("sha256:../{hex}"),
        ] {
            assert!(matches!(text.parse::<Digest>(), Err(DigestError::Malformed(_))), "{text:?}");
        }
    }

    #[test]
    fn nothing_but_lower_case_digits_is_decoded_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for place in [0, 1, 63] {
                let mut hex = [b'7'; 64];
                hex[place] = byte;
                let is_digit = DIGITS.contains(&byte);
                assert_eq!(
                    decode_hex(DigestAlgorithm::Sha256, &hex).is_some(),
                    is_digit,
                    "{byte} at {place}"
                );
            }
        }
    }

    #[test]
    fn an_unknown_algorithm_is_unsupported() {
        for text in [
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8",
        ] {
            assert!(matches!(text.parse::<Digest>(), Err(DigestError::Unsupported(_))), "{text:?}");
        }
        assert_eq!("blake3".parse::<DigestAlgorithm>(), Err(DigestError::Unsupported("blake3".to_owned())));
        assert_eq!("SHA256".parse::<DigestAlgorithm>(), Err(DigestError::Malformed("SHA256".to_owned())));
    }

    #[test]
    fn an_error_repeats_only_the_beginning_of_a_long_input() {
        let error = "x".repeat(1_000_000).parse::<Digest>().unwrap_err();
        assert!(error.to_string().len() < 400);
    }

    #[test]
    fn the_stored_tags_of_the_algorithms_never_change() {
        assert_eq!(DigestAlgorithm::ALL.map(DigestAlgorithm::tag), [1, 2, 3]);
        let key = Digest::of(DigestAlgorithm::Sha256, b"").to_key();
        assert_eq!(key[..5], [1, 0xe3, 0xb0, 0xc4, 0x42]);
    }

    #[test]
    fn keys_that_are_never_written_are_not_read() {
        for key in [&[][..], &[0; 33], &[1; 32], &[1; 34], &[4; 65], &[3; 33]] {
            assert_eq!(Digest::from_key(key), None, "{key:?}");
        }
    }

    proptest! {
        #[test]
        fn digests_round_trip_as_text_json_and_key(digest in any_digest()) {
            prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
            let json = serde_json::to_string(&digest).unwrap();
            prop_assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
            prop_assert_eq!(Digest::from_key(&digest.to_key()), Some(digest));
            prop_assert_eq!(digest.as_sha256().is_some(), digest.algorithm() == DigestAlgorithm::Sha256);
        }

        #[test]
        fn keys_order_as_digests_do(one in any_digest(), other in any_digest()) {
            prop_assert_eq!(one.to_key().cmp(&other.to_key()), one.cmp(&other));
        }

        #[test]
        fn what_parses_prints_the_same(text in "(sha256|sha384|sha512|md5):[0-9a-fA-F]{0,130}|.{0,80}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }
}
