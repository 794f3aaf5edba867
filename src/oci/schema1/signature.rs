//! One signature of a schema 1 manifest.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::algorithm::SignatureAlgorithm;
use super::certificate_chain::{CertificateChain, MAX_CERTIFICATES, TrustRoots};
use super::error::SignedManifestError;
use super::json::{Object, check_depth};
use super::key_id::KeyId;
use super::public_key::{Jwk, PublicKey};
use crate::oci::text::excerpt;

/// The longest `protected` header in characters; libtrust's has about 130.
const MAX_PROTECTED: usize = 4 << 10;

/// The longest `formatTail` in bytes; libtrust's has 2.
const MAX_TAIL: usize = 1 << 10;

/// How a pretty JWS is taken apart: the payload is the first `length` bytes of the document, then `tail`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) length: usize,
    pub(super) tail: Vec<u8>,
}

/// One signature of a schema 1 manifest: who signed, by which algorithm, and what is needed to verify it again.
///
/// It exists only by parsing, so that its parts are within bounds; whether it belongs to a payload is what
/// [`verify`](Signature::verify) tells. Signatures that come from [`SignedManifest`](super::SignedManifest) are verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    key: PublicKey,
    key_id: KeyId,
    algorithm: SignatureAlgorithm,
    has_jwk: bool,
    chain: Option<CertificateChain>,
    bytes: Vec<u8>,
    /// The protected header in base64url, as it was signed.
    protected: String,
    format: Format,
    signed_at: Option<String>,
}

/// A signature as libtrust writes it.
#[derive(Serialize)]
pub(super) struct Block<'a> {
    header: Header,
    signature: String,
    protected: &'a str,
}

#[derive(Serialize)]
struct Header {
    #[serde(skip_serializing_if = "Option::is_none")]
    jwk: Option<Jwk>,
    alg: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    x5c: Option<Vec<String>>,
}

impl Signature {
    /// Reads a signature from its JSON, as it stands in the `signatures` of a manifest, or as
    /// [`to_json`](Signature::to_json) wrote it. It isn't verified by that.
    pub fn from_json(json: &[u8]) -> Result<Signature, SignedManifestError> {
        check_depth(json)?;
        let block = Object::read("a signature", json)?;
        let raw_header = block.raw("header").ok_or_else(|| invalid("it has no `header`"))?;
        let header = Object::read("a signature's `header`", raw_header.as_bytes())?;

        let algorithm: String = header.required("alg")?;
        let algorithm: SignatureAlgorithm = algorithm
            .parse()
            .map_err(|error: super::algorithm::UnknownAlgorithm| invalid(&error.to_string()))?;
        let given = |field| header.raw(field).filter(|raw| *raw != "null");
        let chain = match given("x5c") {
            Some(_) => Some(CertificateChain::read(&header.list("x5c", MAX_CERTIFICATES)?)?),
            None => None,
        };
        let jwk = given("jwk").map(|raw| PublicKey::from_jwk(raw.as_bytes())).transpose()?;
        let has_jwk = jwk.is_some();
        let key = match (jwk, &chain) {
            (Some(jwk), Some(chain)) if chain.key()? != jwk => {
                return Err(invalid("its `jwk` is not the key of its first certificate"));
            }
            (Some(jwk), _) => jwk,
            (None, Some(chain)) => chain.key()?,
            (None, None) => {
                return Err(SignedManifestError::Unverified(
                    "a signature has neither `jwk` nor `x5c` in its header".to_owned(),
                ));
            }
        };
        key.check_algorithm(algorithm)?;
        if let Some(kid) = header.optional::<String>("kid")? {
            key.check_id(&kid)?;
        }

        let signature: String = block.required("signature")?;
        let bytes = decode("signature", &signature)?;
        let protected: String = block.required("protected")?;
        if protected.len() > MAX_PROTECTED {
            return Err(invalid(&format!("its `protected` is longer than {MAX_PROTECTED} characters")));
        }
        let (format, signed_at) = read_protected(&decode("protected", &protected)?)?;
        let key_id = key.id();
        Ok(Signature { key, key_id, algorithm, has_jwk, chain, bytes, protected, format, signed_at })
    }

    /// Returns the signature as JSON without spaces, with its members in a fixed order and nothing in it that isn't needed
    /// to verify it again: the form to store. The same signature always has the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.block()).expect("text in structures is always JSON")
    }

    pub(super) fn block(&self) -> Block<'_> {
        let header = Header {
            jwk: self.has_jwk.then(|| self.key.to_jwk()),
            alg: self.algorithm.as_str(),
            x5c: self.chain.as_ref().map(CertificateChain::encoded),
        };
        Block { header, signature: URL_SAFE_NO_PAD.encode(&self.bytes), protected: &self.protected }
    }

    /// Returns the id of the key that signed.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Returns the algorithm.
    pub fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// Returns when the signer says that it signed, such as `2016-01-02T03:04:05Z`; `None` if it doesn't say so in that
    /// form, which is libtrust's. These texts order by time.
    pub fn signed_at(&self) -> Option<&str> {
        self.signed_at.as_deref()
    }

    /// Whether the signature came with certificates, so that [`verify_chain`](Signature::verify_chain) can succeed.
    pub fn has_chain(&self) -> bool {
        self.chain.is_some()
    }

    pub(super) fn format(&self) -> &Format {
        &self.format
    }

    /// Verifies that the key signed `payload`.
    pub fn verify(&self, payload: &[u8]) -> Result<(), SignedManifestError> {
        self.verify_encoded(&URL_SAFE_NO_PAD.encode(payload), &mut Vec::new())
    }

    /// Verifies that the key signed a payload that is already in base64url; `message` is scratch space.
    pub(super) fn verify_encoded(
        &self,
        payload: &str,
        message: &mut Vec<u8>,
    ) -> Result<(), SignedManifestError> {
        message.clear();
        message.extend_from_slice(self.protected.as_bytes());
        message.push(b'.');
        message.extend_from_slice(payload.as_bytes());
        self.key.verify(self.algorithm, message, &self.bytes)
    }

    /// Verifies that the signer's certificate leads to one of `roots` and that it, and all between, are valid at `at`, counted
    /// since the beginning of 1970. Without certificates it is [`Unverified`](SignedManifestError::Unverified).
    pub fn verify_chain(&self, roots: &TrustRoots, at: Duration) -> Result<(), SignedManifestError> {
        match &self.chain {
            Some(chain) => chain.verify(roots, at),
            None => Err(SignedManifestError::Unverified("the signature has no certificates".to_owned())),
        }
    }

    /// Whether this signature goes before `older`, which has the same key and algorithm and came earlier: unless the
    /// signer itself says otherwise, what comes later is newer. So an old copy that is pushed again replaces nothing.
    pub(super) fn replaces(&self, older: &Signature) -> bool {
        match (&self.signed_at, &older.signed_at) {
            (Some(own), Some(other)) => own >= other,
            (None, _) | (_, None) => true,
        }
    }
}

fn invalid(reason: &str) -> SignedManifestError {
    SignedManifestError::Invalid(format!("a signature: {reason}"))
}

fn decode(field: &str, text: &str) -> Result<Vec<u8>, SignedManifestError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|error| invalid(&format!("its `{field}` is not base64url: {error}")))
}

/// Reads the protected header: how the payload is taken apart, and when it was signed.
fn read_protected(json: &[u8]) -> Result<(Format, Option<String>), SignedManifestError> {
    let what = "a signature's `protected`";
    check_depth(json)?;
    let protected = Object::read(what, json)?;
    let length: u64 = protected.required("formatLength")?;
    let length = usize::try_from(length)
        .map_err(|_| invalid(&format!("its `formatLength` {length} is longer than any manifest")))?;
    let tail: String = protected.required("formatTail")?;
    let tail = decode("formatTail", &tail)?;
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let visible: Vec<u8> = tail.iter().copied().filter(|byte| !is_space(byte)).collect();
    if visible != b"}" || tail.len() > MAX_TAIL {
        return Err(invalid(&format!(
            "its `formatTail` is `{}`, not a closing brace and at most {MAX_TAIL} bytes of white space",
            excerpt(&String::from_utf8_lossy(&tail))
        )));
    }
    let time: Option<String> = protected.optional("time")?;
    Ok((Format { length, tail }, time.filter(|time| is_time(time))))
}

/// Whether a text is a time in the one form that libtrust writes, which orders as text.
fn is_time(text: &str) -> bool {
    let pattern = b"0000-00-00T00:00:00Z";
    text.len() == pattern.len()
        && text.bytes().zip(pattern).all(|(byte, wanted)| match wanted {
            b'0' => byte.is_ascii_digit(),
            other => byte == *other,
        })
}
