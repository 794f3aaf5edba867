//! The certificates that a signature may carry instead of its key.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use serde_json::value::RawValue;
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, anchor_from_trusted_cert};

use super::der;
use super::error::SignedManifestError;
use super::public_key::PublicKey;

/// The most certificates of a chain, the leaf included.
pub(super) const MAX_CERTIFICATES: usize = 10;

/// The longest certificate in base64 characters; real ones have 1 to 3 KiB.
const MAX_ENCODED: usize = 16 << 10;

/// The algorithms by which a certificate of a chain may be signed: what a public certificate authority may use, and P-521.
static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    webpki::aws_lc_rs::ECDSA_P256_SHA256,
    webpki::aws_lc_rs::ECDSA_P256_SHA384,
    webpki::aws_lc_rs::ECDSA_P384_SHA256,
    webpki::aws_lc_rs::ECDSA_P384_SHA384,
    webpki::aws_lc_rs::ECDSA_P521_SHA256,
    webpki::aws_lc_rs::ECDSA_P521_SHA384,
    webpki::aws_lc_rs::ECDSA_P521_SHA512,
    webpki::aws_lc_rs::ED25519,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA384,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA512,
    webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// The certificates of a signature's `x5c` header in DER, the signer's first; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CertificateChain(Vec<CertificateDer<'static>>);

impl CertificateChain {
    /// Decodes the list, and refuses what is no certificate by its outermost element.
    pub(super) fn read(list: &[&RawValue]) -> Result<CertificateChain, SignedManifestError> {
        let certificates: Result<Vec<_>, _> = list.iter().map(|item| certificate(item)).collect();
        let chain = CertificateChain(certificates?);
        if chain.0.is_empty() { Err(invalid("it is empty")) } else { Ok(chain) }
    }

    /// Returns the key of the first certificate, the signer's.
    pub(super) fn key(&self) -> Result<PublicKey, SignedManifestError> {
        PublicKey::from_spki(&self.leaf()?.subject_public_key_info())
    }

    /// Returns the certificates as they are written in a header.
    pub(super) fn encoded(&self) -> Vec<String> {
        self.0.iter().map(|certificate| STANDARD.encode(certificate)).collect()
    }

    /// Verifies that the chain leads to one of the roots, and that all of it is valid at a time since 1970.
    ///
    /// The cost is bounded by the verifier's own budget, whatever the certificates are. Neither revocation nor the
    /// purposes of the leaf are looked at: no purpose for signing manifests was ever registered, and libtrust's own
    /// certificates are for TLS.
    pub(super) fn verify(&self, roots: &TrustRoots, at: Duration) -> Result<(), SignedManifestError> {
        let leaf = self.leaf()?;
        let verified = leaf.verify_for_usage(
            ALGORITHMS,
            &roots.0,
            &self.0[1..],
            UnixTime::since_unix_epoch(at),
            AnyPurpose,
            None,
            None,
        );
        verified.map(|_| ()).map_err(|error| {
            SignedManifestError::Unverified(format!("the certificates lead to no configured root: {error}"))
        })
    }

    fn leaf(&self) -> Result<EndEntityCert<'_>, SignedManifestError> {
        EndEntityCert::try_from(&self.0[0])
            .map_err(|error| invalid(format_args!("its first item is not a certificate: {error}")))
    }
}

fn certificate(item: &RawValue) -> Result<CertificateDer<'static>, SignedManifestError> {
    if item.get().len() > MAX_ENCODED {
        return Err(invalid(format_args!("a certificate is longer than {MAX_ENCODED} characters")));
    }
    let text: String = serde_json::from_str(item.get()).map_err(|_| invalid("an item is not a string"))?;
    let der =
        STANDARD.decode(&text).map_err(|error| invalid(format_args!("an item is not base64: {error}")))?;
    match der::take(der::SEQUENCE, &der) {
        Some((_, [])) => Ok(CertificateDer::from(der)),
        _ => Err(invalid("an item is not a certificate")),
    }
}

fn invalid(reason: impl std::fmt::Display) -> SignedManifestError {
    SignedManifestError::Invalid(format!("a signature's `x5c`: {reason}"))
}

struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

/// The certificate authorities whose chains are believed.
#[derive(Debug, Clone, Default)]
pub struct TrustRoots(Vec<TrustAnchor<'static>>);

impl TrustRoots {
    /// Reads root certificates in DER, and returns the position of the first that is none.
    pub fn from_der<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> Result<TrustRoots, usize> {
        let anchors = certificates.into_iter().enumerate().map(|(position, der)| {
            let der = CertificateDer::from(der);
            anchor_from_trusted_cert(&der).map(|anchor| anchor.to_owned()).map_err(|_| position)
        });
        anchors.collect::<Result<_, _>>().map(TrustRoots)
    }

    /// Reads the root certificates of a PEM file; what else is in it is passed over.
    pub fn from_pem(pem: &[u8]) -> Result<TrustRoots, TrustRootsError> {
        let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|error| TrustRootsError::NotPem(error.to_string()))?;
        if certificates.is_empty() {
            return Err(TrustRootsError::Empty);
        }
        TrustRoots::from_der(certificates.iter().map(AsRef::as_ref))
            .map_err(|position| TrustRootsError::NoCertificate { number: position + 1 })
    }

    /// Adds the roots of another file.
    pub fn extend(&mut self, others: TrustRoots) {
        self.0.extend(others.0);
    }

    /// Whether no root is configured, so that no chain can be verified.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why a file of root certificates can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustRootsError {
    /// It is damaged.
    #[error("it is not in the form of PEM: {0}")]
    NotPem(String),
    /// It has no certificates.
    #[error("there is no certificate in it")]
    Empty,
    /// One of its certificates is none.
    #[error("its certificate number {number} can't be read as one")]
    NoCertificate {
        /// Which, counted from 1.
        number: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::super::signed_manifest::SignedManifest;
    use super::*;

    const ROOT: &[u8] = include_bytes!("../../../tests/vectors/schema1/root.der");
    const STRANGER: &[u8] = include_bytes!("../../../tests/vectors/schema1/stranger.der");
    const LEAF: &[u8] = include_bytes!("../../../tests/vectors/schema1/leaf.der");
    const DOCUMENT: &str = include_str!("../../../tests/vectors/schema1/x5c.json");

    /// Some day in 2050, when the certificates of the vectors are valid.
    const VALID: Duration = Duration::from_hours(80 * 365 * 24);

    fn roots(certificate: &[u8]) -> TrustRoots {
        TrustRoots::from_der([certificate]).unwrap()
    }

    fn invalid(document: &str) {
        let refused = SignedManifest::parse(document.as_bytes());
        assert!(matches!(refused, Err(SignedManifestError::Invalid(_))), "{refused:?}");
    }

    #[test]
    fn a_chain_is_verified_against_configured_roots_only() {
        let signed = SignedManifest::parse(DOCUMENT.as_bytes()).unwrap();
        let signature = &signed.signatures()[0];
        assert!(signature.has_chain());
        signature.verify_chain(&roots(ROOT), VALID).unwrap();
        for refused in [
            signature.verify_chain(&roots(STRANGER), VALID),
            signature.verify_chain(&TrustRoots::default(), VALID),
            signature.verify_chain(&roots(ROOT), Duration::ZERO),
            signature.verify_chain(&roots(ROOT), Duration::from_hours(500 * 365 * 24)),
        ] {
            assert!(matches!(refused, Err(SignedManifestError::Unverified(_))), "{refused:?}");
        }
    }

    #[test]
    fn a_chain_without_its_middle_leads_nowhere() {
        let intermediate = include_bytes!("../../../tests/vectors/schema1/intermediate.der");
        let document =
            DOCUMENT.replace(&format!(",\n               \"{}\"", STANDARD.encode(intermediate)), "");
        assert_ne!(document, DOCUMENT);
        let signed = SignedManifest::parse(document.as_bytes()).unwrap();
        assert!(signed.signatures()[0].verify_chain(&roots(ROOT), VALID).is_err());
    }

    #[test]
    fn a_signature_by_a_bare_key_has_no_chain() {
        let document = include_bytes!("../../../tests/vectors/schema1/es256.json");
        let signed = SignedManifest::parse(document).unwrap();
        assert!(signed.signatures()[0].verify_chain(&roots(ROOT), VALID).is_err());
    }

    #[test]
    fn garbage_in_a_chain_is_refused() {
        let leaf = STANDARD.encode(LEAF);
        let garbage = STANDARD.encode(der::element(der::SEQUENCE, &[0x5a; 300]));
        for replacement in ["", "AAAA", "!", "é", garbage.as_str(), &STANDARD.encode(&LEAF[..LEAF.len() - 1])]
        {
            invalid(&DOCUMENT.replace(&leaf, replacement));
        }
        invalid(&DOCUMENT.replace(&leaf, &"A".repeat(1_000_000)));
        invalid(&DOCUMENT.replace(&format!("\"{leaf}\""), &vec![format!("\"{leaf}\""); 100].join(",")));
        invalid(&DOCUMENT.replace(&format!("\"{leaf}\""), "5"));
        let (before, rest) = DOCUMENT.split_once("\"x5c\": [").unwrap();
        let (_, after) = rest.split_once(']').unwrap();
        invalid(&format!("{before}\"x5c\": []{after}"));
        invalid(&format!("{before}\"x5c\": {{}}{after}"));
        invalid(&format!("{before}\"x5c\": \"{leaf}\"{after}"));
        // Another's certificate in front: its key did not sign.
        let refused = SignedManifest::parse(DOCUMENT.replace(&leaf, &STANDARD.encode(ROOT)).as_bytes());
        assert!(matches!(refused, Err(SignedManifestError::Unverified(_))), "{refused:?}");
    }

    #[test]
    fn a_key_beside_a_chain_has_to_be_the_chains() {
        let other = include_str!("../../../tests/vectors/schema1/es256.json");
        let jwk = other.split("\"jwk\": ").nth(1).unwrap().split('}').next().unwrap();
        invalid(&DOCUMENT.replace("\"alg\"", &format!("\"jwk\": {jwk}}}, \"alg\"")));
    }

    #[test]
    fn a_root_that_is_no_certificate_is_pointed_out() {
        assert_eq!(TrustRoots::from_der([ROOT, b"garbage"]).unwrap_err(), 1);
        assert!(TrustRoots::from_der([]).unwrap().is_empty());
    }

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    }

    #[test]
    fn roots_are_read_from_pem_files_and_from_several_together() {
        let signed = SignedManifest::parse(DOCUMENT.as_bytes()).unwrap();
        let verifies = |roots: &TrustRoots| signed.signatures()[0].verify_chain(roots, VALID).is_ok();
        let key = pem("PRIVATE KEY", b"passed over");
        let both = [key, pem("CERTIFICATE", STRANGER), pem("CERTIFICATE", ROOT)].concat();
        assert!(verifies(&TrustRoots::from_pem(both.as_bytes()).unwrap()));
        let mut roots = TrustRoots::from_pem(pem("CERTIFICATE", STRANGER).as_bytes()).unwrap();
        assert!(!verifies(&roots));
        roots.extend(TrustRoots::from_pem(pem("CERTIFICATE", ROOT).as_bytes()).unwrap());
        assert!(verifies(&roots));
    }

    #[test]
    fn a_file_without_roots_or_with_damaged_ones_is_refused() {
        let refused = |pem: &str| TrustRoots::from_pem(pem.as_bytes()).unwrap_err();
        assert_eq!(refused(""), TrustRootsError::Empty);
        assert_eq!(refused("text"), TrustRootsError::Empty);
        assert_eq!(refused(&pem("PRIVATE KEY", ROOT)), TrustRootsError::Empty);
        let whole = pem("CERTIFICATE", ROOT);
        let second = whole.clone() + &pem("CERTIFICATE", &ROOT[..ROOT.len() - 9]);
        assert_eq!(refused(&second), TrustRootsError::NoCertificate { number: 2 });
        for damaged in [&whole[..whole.len() / 2], &whole.replace("MII", "M!I")] {
            assert!(matches!(refused(damaged), TrustRootsError::NotPem(_)), "{damaged}");
        }
    }
}
