//! Schema 1 manifests, their signatures, and the merging of signatures from many hosts.
//!
//! A signed schema 1 manifest is a *pretty JWS*, as Docker's libtrust writes it: a JSON object (the payload) with one more
//! field, `signatures`, before its closing brace. Each signature carries its key (`jwk`) or certificates (`x5c`), and a
//! protected header that says where the payload was cut (`formatLength`, `formatTail`), so that it is recovered byte for
//! byte. The manifest's digest is the payload's: who signed doesn't change it.
//!
//! A push is [`SignedManifest::parse`] (which verifies every signature), then [`Schema1Manifest::matches`], then
//! [`SignatureSet::merge`] into the signatures that are stored (read back by [`Signature::from_json`]), and
//! [`SignatureSet::assemble`] to see that the merged manifest stays within its limit. A pull is `assemble` again, with
//! [`SignatureSet::digest`] in the `ETag`. An unsigned manifest is only [`Schema1Manifest::parse`].
//!
//! Everything is bounded: 64 levels of nesting, 128 keys of an object, 1,000 signatures, 10 certificates of 12 KiB, RSA keys
//! of 2,048 to 8,192 bits with exponents below 2³², and a few hundred MiB to hash.

mod algorithm;
mod certificate_chain;
mod der;
mod error;
mod json;
mod key_id;
mod manifest;
mod public_key;
mod signature;
mod signature_set;
mod signed_manifest;
#[cfg(test)]
#[path = "../../../tests/schema1/signer.rs"]
mod signer;

pub use algorithm::{SignatureAlgorithm, UnknownAlgorithm};
pub use certificate_chain::{TrustRoots, TrustRootsError};
pub use error::SignedManifestError;
pub use key_id::{KeyId, KeyIdError};
pub use manifest::Schema1Manifest;
pub use signature::Signature;
pub use signature_set::{MAX_SIGNATURES, MergeReport, SignatureSet};
pub use signed_manifest::SignedManifest;
