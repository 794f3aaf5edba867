//! Signs schema 1 manifests as libtrust does, for tests and examples; the registry itself never signs.
//!
//! It builds upon nothing of Orlop, so that it can't share a mistake with what it tests.
#![allow(dead_code, reason = "each of those who include this file uses another part of it")]

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A key on P-256 that signs manifests.
pub(crate) struct Signer(EcdsaKeyPair);

impl Signer {
    /// Makes a new key.
    pub(crate) fn generate() -> Signer {
        Signer(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"))
    }

    /// Returns the key's id in libtrust's form.
    pub(crate) fn key_id(&self) -> String {
        // SubjectPublicKeyInfo of a point on P-256.
        let mut spki = vec![0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
        spki.extend([0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00]);
        spki.extend(self.0.public_key().as_ref());
        let hash = digest(&SHA256, &spki);
        let bits: Vec<u8> = hash.as_ref()[..30]
            .iter()
            .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1))
            .collect();
        let digit = |at: usize| {
            let value = bits[5 * at..5 * at + 5].iter().fold(0, |value, bit| value << 1 | bit);
            char::from(if value < 26 { b'A' + value } else { b'2' + value - 26 })
        };
        (0..12)
            .map(|group| (4 * group..4 * group + 4).map(digit).collect::<String>())
            .collect::<Vec<_>>()
            .join(":")
    }

    /// Returns a signature of a payload: an object of the `signatures` of a manifest, without spaces.
    pub(crate) fn sign(&self, payload: &[u8], time: &str) -> String {
        let body = payload.trim_ascii_end().strip_suffix(b"}").expect("a JSON object").trim_ascii_end();
        let tail = URL_SAFE_NO_PAD.encode(&payload[body.len()..]);
        let protected = format!(r#"{{"formatLength":{},"formatTail":"{tail}","time":"{time}"}}"#, body.len());
        self.sign_protected(payload, &protected)
    }

    /// Returns a signature of a payload with a protected header of any text.
    pub(crate) fn sign_protected(&self, payload: &[u8], protected: &str) -> String {
        let protected = URL_SAFE_NO_PAD.encode(protected);
        let message = format!("{protected}.{}", URL_SAFE_NO_PAD.encode(payload));
        let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).expect("a signature");
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        format!(
            r#"{{"header":{{"jwk":{{"crv":"P-256","kid":"{}","kty":"EC","x":"{}","y":"{}"}},"alg":"ES256"}},"signature":"{}","protected":"{protected}"}}"#,
            self.key_id(),
            URL_SAFE_NO_PAD.encode(x),
            URL_SAFE_NO_PAD.encode(y),
            URL_SAFE_NO_PAD.encode(signature.as_ref())
        )
    }
}

/// Returns the signed manifest of a payload and its signatures.
pub(crate) fn pretty_jws(payload: &[u8], signatures: &[String]) -> Vec<u8> {
    let body = payload.trim_ascii_end().strip_suffix(b"}").expect("a JSON object").trim_ascii_end();
    [body, b",\n   \"signatures\": [", signatures.join(",").as_bytes(), b"]\n}"].concat()
}
