//! The public keys that schema 1 manifests are signed with.

use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::algorithm::SignatureAlgorithm;
use super::der;
use super::error::SignedManifestError;
use super::json::Object;
use super::key_id::KeyId;
use crate::oci::text::excerpt;

/// The sizes of an RSA modulus in bits: shorter ones can be broken, longer ones cost too much to verify.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The longest public exponent of an RSA key in bytes; libtrust can't write a longer one either.
const RSA_EXPONENT: usize = 4;

/// The longest text of a number in a JWK: the largest modulus in base64, with some room for leading zeros.
const MAX_NUMBER: usize = 1_500;

/// The object identifiers 1.2.840.113549.1.1.1 (rsaEncryption) with its NULL, as an `AlgorithmIdentifier`.
const RSA_ENCRYPTION: &[u8] =
    &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// An elliptic curve of JWK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    const ALL: [Curve; 3] = [Curve::P256, Curve::P384, Curve::P521];

    fn as_str(self) -> &'static str {
        match self {
            Curve::P256 => "P-256",
            Curve::P384 => "P-384",
            Curve::P521 => "P-521",
        }
    }

    /// Returns the length of a coordinate in bytes.
    fn coordinate_len(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
            Curve::P521 => 66,
        }
    }

    /// Returns the one algorithm that JWS has for the curve.
    fn algorithm(self) -> SignatureAlgorithm {
        match self {
            Curve::P256 => SignatureAlgorithm::Es256,
            Curve::P384 => SignatureAlgorithm::Es384,
            Curve::P521 => SignatureAlgorithm::Es512,
        }
    }

    /// Returns the `AlgorithmIdentifier`: id-ecPublicKey (1.2.840.10045.2.1) and the curve.
    fn identifier(self) -> &'static [u8] {
        match self {
            Curve::P256 => &[
                0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
                0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
            ],
            Curve::P384 => &[
                0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81,
                0x04, 0x00, 0x22,
            ],
            Curve::P521 => &[
                0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81,
                0x04, 0x00, 0x23,
            ],
        }
    }
}

/// A public key whose parameters are within bounds; that a point lies on its curve is checked when it verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PublicKey {
    /// A point in uncompressed form without its leading 4: x, then y.
    Ec { curve: Curve, point: Vec<u8> },
    /// A modulus and an exponent, big-endian and without leading zeros.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
}

/// A key as libtrust writes it, its members in order of their names.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Jwk {
    Ec { crv: &'static str, kid: String, kty: &'static str, x: String, y: String },
    Rsa { e: String, kid: String, kty: &'static str, n: String },
}

impl PublicKey {
    /// Reads a JSON web key (RFC 7517). A `kid` has to be the key's id; members that are not known mean nothing.
    pub(super) fn from_jwk(json: &[u8]) -> Result<PublicKey, SignedManifestError> {
        let jwk = Object::read("a signature's `jwk`", json)?;
        let kind: String = jwk.required("kty")?;
        let key = match kind.as_str() {
            "EC" => {
                let name: String = jwk.required("crv")?;
                let known = Curve::ALL.into_iter().find(|curve| curve.as_str() == name);
                let curve = known.ok_or_else(|| {
                    invalid(format_args!(
                        "the curve `{}` is not supported; use P-256, P-384 or P-521",
                        excerpt(&name)
                    ))
                })?;
                let mut point = number(&jwk, "x")?;
                let y = number(&jwk, "y")?;
                if [point.len(), y.len()] != [curve.coordinate_len(); 2] {
                    return Err(invalid(format_args!(
                        "a coordinate on {name} has {} bytes, not {} or {}",
                        curve.coordinate_len(),
                        point.len(),
                        y.len()
                    )));
                }
                point.extend_from_slice(&y);
                PublicKey::Ec { curve, point }
            }
            "RSA" => PublicKey::rsa(&number(&jwk, "n")?, &number(&jwk, "e")?)?,
            _ => {
                return Err(invalid(format_args!(
                    "the key type `{}` is not supported; use EC or RSA",
                    excerpt(&kind)
                )));
            }
        };
        if let Some(kid) = jwk.optional::<String>("kid")? {
            key.check_id(&kid)?;
        }
        Ok(key)
    }

    /// Reads a DER `SubjectPublicKeyInfo` as it stands in certificates.
    pub(super) fn from_spki(spki: &[u8]) -> Result<PublicKey, SignedManifestError> {
        read_spki(spki).ok_or_else(|| {
            invalid("a certificate's key is neither RSA nor a point on P-256, P-384 or P-521")
        })?
    }

    fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<PublicKey, SignedManifestError> {
        let (modulus, exponent) = (significant(modulus), significant(exponent));
        let bits = modulus.first().map_or(0, |first| 8 * modulus.len() - first.leading_zeros() as usize);
        if !RSA_BITS.contains(&bits) {
            return Err(invalid(format_args!(
                "an RSA key of {bits} bits; from {} to {} are allowed",
                RSA_BITS.start(),
                RSA_BITS.end()
            )));
        }
        let is_odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
        if exponent.len() > RSA_EXPONENT || !is_odd(exponent) || exponent == [1] {
            return Err(invalid("the exponent of an RSA key has to be odd, above 1 and below 2^32"));
        }
        if !is_odd(modulus) {
            return Err(invalid("the modulus of an RSA key is even"));
        }
        Ok(PublicKey::Rsa { modulus: modulus.to_vec(), exponent: exponent.to_vec() })
    }

    /// Returns the DER `SubjectPublicKeyInfo`.
    fn to_spki(&self) -> Vec<u8> {
        let (identifier, key) = match self {
            PublicKey::Ec { curve, point } => (curve.identifier(), [&[4], &point[..]].concat()),
            PublicKey::Rsa { modulus, exponent } => {
                let numbers = [der::unsigned(modulus), der::unsigned(exponent)].concat();
                (RSA_ENCRYPTION, der::element(der::SEQUENCE, &numbers))
            }
        };
        let bits = der::element(der::BIT_STRING, &[&[0], &key[..]].concat());
        der::element(der::SEQUENCE, &[identifier, &bits].concat())
    }

    /// Returns the key's id.
    pub(super) fn id(&self) -> KeyId {
        KeyId::of_spki(&self.to_spki())
    }

    /// Refuses a stated key id that isn't the key's.
    pub(super) fn check_id(&self, stated: &str) -> Result<(), SignedManifestError> {
        if stated.parse().as_ref() == Ok(&self.id()) {
            return Ok(());
        }
        Err(invalid(format_args!("its key id is {}, not `{}` as it says", self.id(), excerpt(stated))))
    }

    /// Returns the key as it is written in a signature's header.
    pub(super) fn to_jwk(&self) -> Jwk {
        let text = |number: &[u8]| URL_SAFE_NO_PAD.encode(number);
        let kid = self.id().to_string();
        match self {
            PublicKey::Ec { curve, point } => {
                let (x, y) = point.split_at(curve.coordinate_len());
                Jwk::Ec { crv: curve.as_str(), kid, kty: "EC", x: text(x), y: text(y) }
            }
            PublicKey::Rsa { modulus, exponent } => {
                Jwk::Rsa { e: text(exponent), kid, kty: "RSA", n: text(modulus) }
            }
        }
    }

    /// Refuses an algorithm that isn't for this kind of key, and for a curve, this curve.
    pub(super) fn check_algorithm(&self, algorithm: SignatureAlgorithm) -> Result<(), SignedManifestError> {
        let fits = match self {
            PublicKey::Ec { curve, .. } => curve.algorithm() == algorithm,
            PublicKey::Rsa { .. } => matches!(
                algorithm,
                SignatureAlgorithm::Rs256 | SignatureAlgorithm::Rs384 | SignatureAlgorithm::Rs512
            ),
        };
        if fits { Ok(()) } else { Err(invalid(format_args!("its key is not for {algorithm}"))) }
    }

    /// Verifies the signature of a message.
    ///
    /// A key on no curve is [`Invalid`](SignedManifestError::Invalid), a signature that isn't this key's
    /// [`Unverified`](SignedManifestError::Unverified).
    pub(super) fn verify(
        &self,
        algorithm: SignatureAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignedManifestError> {
        self.check_algorithm(algorithm)?;
        let key = ParsedPublicKey::new(verification(algorithm), self.to_spki()).map_err(|_| {
            invalid(format_args!("it is no key for {algorithm}; its point may lie on no curve"))
        })?;
        key.verify_sig(message, signature).map_err(|_| {
            SignedManifestError::Unverified(format!("the signature of the key {} is not its own", self.id()))
        })
    }
}

fn verification(algorithm: SignatureAlgorithm) -> &'static dyn VerificationAlgorithm {
    match algorithm {
        SignatureAlgorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
        SignatureAlgorithm::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
        SignatureAlgorithm::Es512 => &signature::ECDSA_P521_SHA512_FIXED,
        SignatureAlgorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        SignatureAlgorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        SignatureAlgorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
    }
}

fn invalid(reason: impl std::fmt::Display) -> SignedManifestError {
    SignedManifestError::Invalid(format!("a signature's key: {reason}"))
}

/// Reads a number of a JWK, which is base64url without padding.
fn number(jwk: &Object<'_>, field: &'static str) -> Result<Vec<u8>, SignedManifestError> {
    let text: String = jwk.required(field)?;
    if text.len() > MAX_NUMBER {
        return Err(invalid(format_args!(
            "`{field}` has {} characters; at most {MAX_NUMBER} are allowed",
            text.len()
        )));
    }
    URL_SAFE_NO_PAD
        .decode(&text)
        .map_err(|error| invalid(format_args!("`{field}` is not base64url: {error}")))
}

/// Returns a big-endian number without its leading zeros.
fn significant(number: &[u8]) -> &[u8] {
    &number[number.iter().take_while(|byte| **byte == 0).count()..]
}

/// Reads a `SubjectPublicKeyInfo`; `None` for anything that isn't a key of a supported kind in its canonical form.
fn read_spki(spki: &[u8]) -> Option<Result<PublicKey, SignedManifestError>> {
    let (info, b"") = der::take(der::SEQUENCE, spki)? else { return None };
    if let Some(bits) = info.strip_prefix(RSA_ENCRYPTION) {
        let ([0, key @ ..], b"") = der::take(der::BIT_STRING, bits)? else { return None };
        let (numbers, b"") = der::take(der::SEQUENCE, key)? else { return None };
        let (modulus, rest) = der::take_unsigned(numbers)?;
        let (exponent, b"") = der::take_unsigned(rest)? else { return None };
        return Some(PublicKey::rsa(modulus, exponent));
    }
    let curve = Curve::ALL.into_iter().find(|curve| info.starts_with(curve.identifier()))?;
    let ([0, 4, point @ ..], b"") = der::take(der::BIT_STRING, &info[curve.identifier().len()..])? else {
        return None;
    };
    (point.len() == 2 * curve.coordinate_len()).then(|| Ok(PublicKey::Ec { curve, point: point.to_vec() }))
}
