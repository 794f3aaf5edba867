//! Key ids in libtrust's form.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use crate::oci::digest::{Digest, DigestAlgorithm};
use crate::oci::text::excerpt;

/// The 32 characters of base32 (RFC 4648, section 6).
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// How many bytes a key id has: 240 bits, which is 48 characters in 12 groups of 4.
const LEN: usize = 30;

/// The fingerprint of a public key: the first 240 bits of the SHA-256 of its DER `SubjectPublicKeyInfo`.
///
/// As text it is base32 in twelve groups of four characters with colons between them, as libtrust writes it:
/// `LYRA:YAG2:QQKS:376F:QQXY:3UNK:SXH7:K6ES:Y5AU:XUN5:ZLVY:KBYL`. Key ids order as their texts do, which isn't the order
/// of their bytes, since digits stand before letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; LEN]);

/// A text that is not a key id; holds the beginning of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a key id; expected twelve groups of four characters of A-Z and 2-7, separated by colons"
)]
pub struct KeyIdError(String);

impl KeyId {
    /// Returns the key id of a public key in the form `SubjectPublicKeyInfo`.
    pub(super) fn of_spki(der: &[u8]) -> KeyId {
        let digest = Digest::of(DigestAlgorithm::Sha256, der);
        KeyId(
            *digest.as_bytes().first_chunk().expect("SHA-256 has 32 bytes, of which the first 30 are taken"),
        )
    }

    /// Returns the bytes, for use in stored keys.
    pub fn as_bytes(&self) -> &[u8; LEN] {
        &self.0
    }

    /// Returns the key id that has these bytes.
    pub fn from_bytes(bytes: [u8; LEN]) -> KeyId {
        KeyId(bytes)
    }

    /// Returns the 48 characters of the text, without its colons.
    fn digits(&self) -> impl Iterator<Item = u8> {
        (0..8 * LEN).step_by(5).map(|bit| {
            let [high, low] = [bit / 8, bit / 8 + 1].map(|at| self.0.get(at).copied().unwrap_or_default());
            let wide = u16::from_be_bytes([high, low]);
            ALPHABET[usize::from(wide >> (11 - bit % 8) & 31)]
        })
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(59);
        for (index, digit) in self.digits().enumerate() {
            if index % 4 == 0 && index > 0 {
                text.push(':');
            }
            text.push(char::from(digit));
        }
        f.pad(&text)
    }
}

impl Ord for KeyId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.digits().cmp(other.digits())
    }
}

impl PartialOrd for KeyId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        decode(text.as_bytes()).ok_or_else(|| KeyIdError(excerpt(text)))
    }
}

fn decode(text: &[u8]) -> Option<KeyId> {
    if text.len() != 59 {
        return None;
    }
    let mut bytes = [0; LEN];
    for (index, group) in text.chunks(5).enumerate() {
        let digits = match group {
            [digits @ .., b':'] if index < 11 => digits,
            digits if index == 11 => digits,
            _ => return None,
        };
        for (place, digit) in digits.iter().enumerate() {
            let value = ALPHABET.iter().position(|known| known == digit)?;
            let bit = 20 * index + 5 * place;
            // A digit reaches over the end of its byte into the next at most.
            let wide = u16::try_from(value).ok()? << (11 - bit % 8);
            let [high, low] = wide.to_be_bytes();
            bytes[bit / 8] |= high;
            if let Some(next) = bytes.get_mut(bit / 8 + 1) {
                *next |= low;
            }
        }
    }
    Some(KeyId(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_a_key_id_is_refused() {
        let valid = KeyId([7; LEN]).to_string();
        assert!(valid.parse::<KeyId>().is_ok());
        for text in [
            "",
            "AAAA",
            &valid.to_lowercase(),
            &valid.replace(':', "-"),
            &valid.replace(':', ""),
            &valid[1..],
            &format!("{valid}:"),
            &valid.replacen(&valid[..1], "1", 1),
            &"é".repeat(30)[..58],
        ] {
            assert!(text.parse::<KeyId>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn key_ids_round_trip_and_order_as_their_text(
            one in proptest::array::uniform30(any::<u8>()),
            other in proptest::array::uniform30(any::<u8>())
        ) {
            let (one, other) = (KeyId::from_bytes(one), KeyId::from_bytes(other));
            prop_assert_eq!(one.to_string().parse::<KeyId>().unwrap(), one);
            prop_assert_eq!(one.to_string().len(), 59);
            prop_assert_eq!(one.to_string().cmp(&other.to_string()), one.cmp(&other));
        }

        #[test]
        fn arbitrary_text_never_panics(text in "[A-Z2-7:]{55,62}|.{0,70}") {
            if let Ok(id) = text.parse::<KeyId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
