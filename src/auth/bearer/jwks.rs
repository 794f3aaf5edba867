//! The public keys of an external issuer, as it publishes them (RFC 7517).

use std::fmt;
use std::str::FromStr;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// The most keys that are taken of one issuer.
const MAX_KEYS: usize = 64;

/// An algorithm by which an external issuer may sign. There is none by which whoever can verify can sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SigningAlgorithm(pub(super) Algorithm);

/// A word that is no such algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write algorithms of public keys: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA")]
pub struct AlgorithmError;

/// All of them, by their names in RFC 7518 and RFC 8037.
const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

impl FromStr for SigningAlgorithm {
    type Err = AlgorithmError;

    fn from_str(text: &str) -> Result<SigningAlgorithm, AlgorithmError> {
        let found = ALGORITHMS.iter().find(|(name, _)| *name == text);
        found.map(|(_, algorithm)| SigningAlgorithm(*algorithm)).ok_or(AlgorithmError)
    }
}

impl fmt::Display for SigningAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = ALGORITHMS.iter().find(|(_, algorithm)| *algorithm == self.0);
        f.write_str(found.map_or("", |(name, _)| name))
    }
}

/// The keys of an issuer.
#[derive(Debug, Default)]
pub(super) struct KeySet(Vec<PublicKey>);

#[derive(Debug)]
struct PublicKey {
    id: Option<String>,
    /// The algorithms by which it can sign.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads the keys that can sign by an algorithm of public keys; others are passed over. `None` where it is no set of keys,
    /// or where there is none that can be used.
    pub(super) fn parse(bytes: &[u8]) -> Option<KeySet> {
        let Document { keys } = serde_json::from_slice(bytes).ok()?;
        let keys: Vec<PublicKey> = keys.into_iter().filter_map(PublicKey::of).take(MAX_KEYS).collect();
        (!keys.is_empty()).then_some(KeySet(keys))
    }

    /// The keys by which a token may be signed that says so of itself. Where it names no key, there has to be one only.
    pub(super) fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<&DecodingKey> {
        let fits = |key: &&PublicKey| {
            key.algorithms.contains(&algorithm) && (id.is_none() || key.id.as_deref() == id)
        };
        let found: Vec<&DecodingKey> = self.0.iter().filter(fits).map(|key| &key.key).collect();
        if id.is_none() && found.len() > 1 { Vec::new() } else { found }
    }
}

impl PublicKey {
    fn of(value: Value) -> Option<PublicKey> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        if jwk.common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
            return None;
        }
        let able: &[Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => &[
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ],
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => &[Algorithm::ES256],
                EllipticCurve::P384 => &[Algorithm::ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                &[Algorithm::EdDSA]
            }
            _ => return None,
        };
        let said = jwk.common.key_algorithm.as_ref().map(KeyAlgorithm::to_string);
        let is_said = |algorithm: &&Algorithm| {
            let name = ALGORITHMS.iter().find(|(_, known)| known == *algorithm).map(|(name, _)| *name);
            said.is_none() || said.as_deref() == name
        };
        let algorithms: Vec<Algorithm> = able.iter().filter(is_said).copied().collect();
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        (!algorithms.is_empty()).then_some(PublicKey { id: jwk.common.key_id, algorithms, key })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_taken_for_the_algorithms_that_they_are_for() {
        let coordinate = "A".repeat(43);
        let ec = |id: &str, curve: &str| json!({"kty": "EC", "kid": id, "crv": curve, "x": coordinate, "y": coordinate});
        let set = json!({"keys": [
            ec("a", "P-256"),
            {"kty": "RSA", "kid": "r", "n": "AQAB", "e": "AQAB", "alg": "PS256", "use": "sig", "extra": 1},
            {"kty": "RSA", "kid": "any", "n": "AQAB", "e": "AQAB"},
            {"kty": "RSA", "kid": "enc", "n": "AQAB", "e": "AQAB", "use": "enc"},
            {"kty": "oct", "kid": "oct", "k": "AQAB"},
            {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": coordinate},
            {"kty": "OKP", "kid": "x", "crv": "X25519", "x": coordinate},
            {"kty": "future", "kid": "future"},
            "no key",
            ec("a", "P-384"),
        ]});
        let set = KeySet::parse(set.to_string().as_bytes()).unwrap();
        let count = |id: Option<&str>, algorithm: Algorithm| set.candidates(id, algorithm).len();
        for (id, algorithm, expected) in [
            (Some("a"), Algorithm::ES256, 1),
            (Some("a"), Algorithm::ES384, 1),
            (Some("a"), Algorithm::RS256, 0),
            (Some("a"), Algorithm::HS256, 0),
            (Some("r"), Algorithm::PS256, 1),
            (Some("r"), Algorithm::RS256, 0),
            (Some("any"), Algorithm::RS256, 1),
            (Some("enc"), Algorithm::RS256, 0),
            (Some("oct"), Algorithm::HS256, 0),
            (Some("ed"), Algorithm::EdDSA, 1),
            (Some("x"), Algorithm::EdDSA, 0),
            (Some("unknown"), Algorithm::ES256, 0),
            (None, Algorithm::ES256, 1),
            (None, Algorithm::PS256, 0),
        ] {
            assert_eq!(count(id, algorithm), expected, "{id:?} {algorithm:?}");
        }
        for bytes in ["", "[]", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","k":"AQAB"}]}"#] {
            assert!(KeySet::parse(bytes.as_bytes()).is_none(), "{bytes}");
        }
    }

    #[test]
    fn algorithms_are_written_as_they_are_read() {
        for (name, _) in ALGORITHMS {
            assert_eq!(name.parse::<SigningAlgorithm>().unwrap().to_string(), name);
        }
        for name in ["none", "HS256", "HS512", "", "es256", "ES512"] {
            assert_eq!(name.parse::<SigningAlgorithm>(), Err(AlgorithmError), "{name}");
        }
    }
}
