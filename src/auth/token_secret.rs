//! The secrets of access tokens: `orlop_`, 32 random letters and digits, and six that follow from them.
//!
//! 32 of 62 signs are 190 bits, so that nobody guesses one and a plain SHA-256 of it can be stored. The last six tell what only
//! looks like one, or was mistyped, from what is one, and let those who search for leaked secrets know them.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;

use crate::registry::TokenHash;
use crate::secret::Secret;

/// What every secret begins with.
const PREFIX: &str = "orlop_";

const RANDOM: usize = 32;
const CHECKSUM: usize = 6;

const SIGNS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The secret of an access token. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSecret(Secret);

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret")
    }
}

impl TokenSecret {
    /// A new one.
    pub fn generate() -> TokenSecret {
        let mut random = String::with_capacity(RANDOM);
        while random.len() < RANDOM {
            let mut bytes = [0; RANDOM];
            // Without random numbers there is no TLS either.
            rand::fill(&mut bytes).expect("the system has random numbers");
            // Of 256 values the first 248 are four times 62.
            let signs = bytes.iter().filter(|byte| **byte < 248);
            let signs = signs.map(|byte| char::from(SIGNS[usize::from(byte % 62)]));
            random.extend(signs.take(RANDOM - random.len()));
        }
        let checksum = checksum(&random);
        TokenSecret(format!("{PREFIX}{random}{checksum}").into())
    }

    /// The secret that a text is; `None` for any other text.
    pub fn parse(text: &str) -> Option<TokenSecret> {
        let signs = text.strip_prefix(PREFIX)?;
        let is_plain = signs.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_plain || signs.len() != RANDOM + CHECKSUM {
            return None;
        }
        let (random, rest) = signs.split_at(RANDOM);
        (checksum(random) == rest).then(|| TokenSecret(text.into()))
    }

    /// What is stored of it.
    pub fn hash(&self) -> TokenHash {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, self.0.reveal().as_bytes()).as_ref());
        TokenHash(hash)
    }

    /// The text, for whoever it was made for.
    pub fn reveal(&self) -> &str {
        self.0.reveal()
    }
}

/// Whether a text means to be an access token.
pub(super) fn means_to_be(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// The first 64 bits of the SHA-256 of the prefix and the random signs, to the base 62, its last six digits.
fn checksum(random: &str) -> String {
    let hash = digest(&SHA256, format!("{PREFIX}{random}").as_bytes());
    let first = hash.as_ref().first_chunk().copied().unwrap_or_default();
    let mut number = u64::from_be_bytes(first);
    let mut signs = [0; CHECKSUM];
    for sign in signs.iter_mut().rev() {
        *sign = SIGNS[usize::try_from(number % 62).unwrap_or_default()];
        number /= 62;
    }
    signs.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_secret_is_read_as_it_was_made_and_nothing_else_is_one() {
        let secret = TokenSecret::generate();
        let text = secret.reveal();
        assert_eq!(text.len(), 44);
        assert_eq!(TokenSecret::parse(text), Some(secret.clone()));
        assert_eq!(format!("{secret:?}"), "TokenSecret");
        let mut mistyped = text.to_owned().into_bytes();
        mistyped[10] = if mistyped[10] == b'a' { b'b' } else { b'a' };
        let mistyped = String::from_utf8(mistyped).unwrap();
        for text in [
            &mistyped,
            &text[..43],
            &format!("{text}0"),
            &text[6..],
            "orlop_",
            "",
            &format!("Orlop_{}", &text[6..]),
        ] {
            assert_eq!(TokenSecret::parse(text), None, "{text}");
        }
    }

    #[test]
    fn secrets_are_all_different_and_use_every_sign() {
        let secrets: HashSet<String> =
            (0..1000).map(|_| TokenSecret::generate().reveal().to_owned()).collect();
        assert_eq!(secrets.len(), 1000);
        let signs: HashSet<u8> =
            secrets.iter().flat_map(|secret| secret.as_bytes()[6..38].to_vec()).collect();
        assert_eq!(signs, SIGNS.iter().copied().collect());
    }

    #[test]
    fn the_form_of_a_secret_never_changes() {
        let secret = TokenSecret::parse("orlop_0123456789ABCDEFGHIJKLMNOPQRSTUVn36Gjk").unwrap();
        assert_eq!(secret.hash().0[..4], 0x0853_1257_u32.to_be_bytes());
    }
}
