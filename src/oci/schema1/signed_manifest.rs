//! Signed schema 1 manifests, as pretty JWS.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::error::SignedManifestError;
use super::json::{Object, check_depth};
use super::manifest::Schema1Manifest;
use super::signature::{Format, Signature};
use super::signature_set::MAX_SIGNATURES;
use crate::oci::digest::{Digest, DigestAlgorithm};

/// The most bytes that are hashed for the signatures of one manifest, which bounds the time to verify it: 1,000 signatures
/// of a payload of 256 KiB.
const MAX_SIGNED_BYTES: usize = 384 << 20;

/// A schema 1 manifest whose signatures are all verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedManifest {
    payload: Vec<u8>,
    manifest: Schema1Manifest,
    signatures: Vec<Signature>,
}

impl SignedManifest {
    /// Reads a pretty JWS (`application/vnd.docker.distribution.manifest.v1+prettyjws`) and verifies every signature.
    ///
    /// Besides the signatures the document has to consist of the payload and nothing else, so that what people see in it is
    /// what was signed. Reading costs time and memory linear in `bytes`; verifying costs up to a second or two for 1,000
    /// signatures, so that it belongs on a thread that may block. Names are checked by
    /// [`matches`](Schema1Manifest::matches), chains by [`verify_chain`](Signature::verify_chain).
    pub fn parse(bytes: &[u8]) -> Result<SignedManifest, SignedManifestError> {
        check_depth(bytes)?;
        let document = Object::read("the manifest", bytes)?;
        let Some(raw) = document.raw("signatures") else {
            return Err(SignedManifestError::Unverified("it has no `signatures`".to_owned()));
        };
        let items = document.list("signatures", MAX_SIGNATURES)?;
        let signatures: Vec<Signature> =
            items.iter().map(|item| Signature::from_json(item.get().as_bytes())).collect::<Result<_, _>>()?;
        let Some(first) = signatures.first() else {
            return Err(SignedManifestError::Unverified("its `signatures` are empty".to_owned()));
        };
        if signatures.iter().any(|signature| signature.format() != first.format()) {
            return Err(SignedManifestError::Invalid(
                "its signatures don't agree on `formatLength` and `formatTail`".to_owned(),
            ));
        }
        let payload = recover_payload(bytes, raw, first.format())?;
        let manifest = Schema1Manifest::parse(&payload)?;

        let encoded = URL_SAFE_NO_PAD.encode(&payload);
        if encoded.len().saturating_mul(signatures.len()) > MAX_SIGNED_BYTES {
            return Err(SignedManifestError::Invalid(format!(
                "{} signatures of a payload of {} bytes are too much to verify",
                signatures.len(),
                payload.len()
            )));
        }
        let mut message = Vec::new();
        for signature in &signatures {
            signature.verify_encoded(&encoded, &mut message)?;
        }
        Ok(SignedManifest { payload, manifest, signatures })
    }

    /// Returns the bytes that were signed, which are a JSON object without signatures.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Returns the digest of the payload, which is the digest of the manifest whoever signed it.
    pub fn digest(&self) -> Digest {
        Digest::of(DigestAlgorithm::CANONICAL, &self.payload)
    }

    /// Returns what the payload says.
    pub fn manifest(&self) -> &Schema1Manifest {
        &self.manifest
    }

    /// Returns the verified signatures in the order of the document, of which there is at least one.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Takes the manifest apart into the payload, what it says, and the signatures, to be stored.
    pub fn into_parts(self) -> (Vec<u8>, Schema1Manifest, Vec<Signature>) {
        (self.payload, self.manifest, self.signatures)
    }
}

/// Returns the payload: the document without its last field, which has to be the signatures.
fn recover_payload(bytes: &[u8], signatures: &str, format: &Format) -> Result<Vec<u8>, SignedManifestError> {
    let invalid = |reason: &str| SignedManifestError::Invalid(reason.to_owned());
    let Some((head, rest)) = bytes.split_at_checked(format.length) else {
        return Err(invalid("its `formatLength` is longer than the document"));
    };
    // The text of the signatures is a part of the document.
    let at = signatures.as_ptr().addr() - bytes.as_ptr().addr();
    let between = at.checked_sub(format.length).and_then(|len| rest.get(..len));
    let between = between.ok_or_else(|| invalid("its `formatLength` ends behind its signatures"))?;
    let visible: Vec<u8> =
        between.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).take(16).collect();
    if visible != b",\"signatures\":" {
        return Err(invalid("its `formatLength` doesn't end right before its `signatures`"));
    }
    if bytes[at + signatures.len()..].trim_ascii() != b"}" {
        return Err(invalid("its `signatures` are not its last field"));
    }
    Ok([head, &format.tail[..]].concat())
}

#[cfg(test)]
mod tests {
    use super::super::algorithm::SignatureAlgorithm;
    use super::super::signer::{Signer, pretty_jws};
    use super::*;

    const TIME: &str = "2015-04-08T18:52:59Z";

    /// The vectors, made and signed by openssl, or recorded; see `make.sh` beside them.
    macro_rules! vector {
        ($name:literal) => {
            include_bytes!(concat!("../../../tests/vectors/schema1/", $name))
        };
    }

    fn text(vector: &[u8]) -> String {
        String::from_utf8(vector.to_vec()).unwrap()
    }

    fn invalid(document: &[u8]) -> String {
        match SignedManifest::parse(document) {
            Err(SignedManifestError::Invalid(reason)) => {
                assert!(reason.len() < 500, "{reason}");
                reason
            }
            other => {
                panic!("{other:?} of {}", String::from_utf8_lossy(&document[..document.len().min(3000)]))
            }
        }
    }

    fn unverified(document: &[u8]) -> String {
        match SignedManifest::parse(document) {
            Err(SignedManifestError::Unverified(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_signature_of_every_algorithm_is_verified_and_the_payload_recovered() {
        let payload = vector!("payload.json");
        for (document, algorithm) in [
            (&vector!("es256.json")[..], SignatureAlgorithm::Es256),
            (vector!("es384.json"), SignatureAlgorithm::Es384),
            (vector!("es512.json"), SignatureAlgorithm::Es512),
            (vector!("rs256.json"), SignatureAlgorithm::Rs256),
            (vector!("rs384.json"), SignatureAlgorithm::Rs384),
            (vector!("rs512.json"), SignatureAlgorithm::Rs512),
        ] {
            let signed = SignedManifest::parse(document).unwrap();
            assert_eq!(signed.payload(), payload);
            assert_eq!(signed.digest(), Digest::of(DigestAlgorithm::Sha256, payload));
            let [signature] = signed.signatures() else { panic!("{:?}", signed.signatures()) };
            assert_eq!(signature.algorithm(), algorithm);
            assert_eq!(signature.signed_at(), Some(TIME));
            assert!(!signature.has_chain());
            let manifest = signed.manifest();
            assert_eq!(
                (manifest.name.as_str(), manifest.tag.as_str(), manifest.layers.len()),
                ("team/box", "1", 2)
            );
        }
    }

    #[test]
    fn key_ids_are_those_that_openssl_and_libtrust_compute() {
        let several = SignedManifest::parse(vector!("several.json")).unwrap();
        let listed: Vec<String> = several
            .signatures()
            .iter()
            .map(|signature| format!("{} {}\n", signature.key_id(), signature.algorithm()))
            .collect();
        assert_eq!(listed.concat(), include_str!("../../../tests/vectors/schema1/several.txt"));
    }

    #[test]
    fn what_skopeo_pushes_and_distribution_serves_is_read() {
        let pushed = SignedManifest::parse(vector!("skopeo.json")).unwrap();
        let served = SignedManifest::parse(vector!("docker-registry.json")).unwrap();
        assert_eq!(pushed.payload(), served.payload(), "the same manifest, signed by two keys");
        assert_ne!(pushed.signatures()[0].key_id(), served.signatures()[0].key_id());
        // The Docker-Content-Digest that distribution answered.
        assert_eq!(
            served.digest().to_string(),
            "sha256:40166ec45c7ebe5c7c5ff95f9a40016233110510e4a4eac3cdfa400f51bc4119"
        );
        assert_eq!(pushed.manifest().name, "team/box");
        assert_eq!(pushed.manifest().layers.len(), 3);
    }

    #[test]
    fn every_layout_is_recovered_exactly() {
        for document in [&vector!("compact.json")[..], vector!("loose.json")] {
            let signed = SignedManifest::parse(document).unwrap();
            assert_ne!(signed.payload(), vector!("payload.json"));
            assert_eq!(signed.manifest(), SignedManifest::parse(vector!("es256.json")).unwrap().manifest());
        }
        assert!(SignedManifest::parse(vector!("loose.json")).unwrap().payload().ends_with(b"  \n\t}\n"));
    }

    #[test]
    fn a_changed_payload_or_signature_is_unverified() {
        let document = text(vector!("es256.json"));
        unverified(document.replace("team/box", "team/fox").as_bytes());
        unverified(document.replace("\"1\"", "\"2\"").as_bytes());
        let other = text(vector!("es256-later.json"));
        let field = |document: &str, name: &str| {
            let value = document.split(&format!("\"{name}\": \"")).nth(1).unwrap();
            value.split('"').next().unwrap().to_owned()
        };
        for name in ["signature", "protected"] {
            unverified(document.replace(&field(&document, name), &field(&other, name)).as_bytes());
        }
        let cut = document.replace(&field(&document, "signature"), "AAAA");
        unverified(cut.as_bytes());
        // The key of another, without its id.
        let (one, two) = (Signer::generate(), Signer::generate());
        let payload = vector!("payload.json");
        let key = |signer: &Signer| {
            let block = signer.sign(payload, TIME);
            block.split("\"kty\":").nth(1).unwrap().split('}').next().unwrap().to_owned()
        };
        let block = one.sign(payload, TIME);
        let forged = block.replace(&key(&one), &key(&two));
        invalid(&pretty_jws(payload, std::slice::from_ref(&forged)));
        let forged = forged.replace(&format!("\"kid\":\"{}\",", one.key_id()), "");
        assert!(unverified(&pretty_jws(payload, &[forged])).contains(&two.key_id()));
    }

    #[test]
    fn one_bad_signature_among_good_ones_is_enough() {
        let payload = vector!("payload.json");
        let signers = [Signer::generate(), Signer::generate()];
        let mut blocks: Vec<String> = signers.iter().map(|signer| signer.sign(payload, TIME)).collect();
        assert_eq!(SignedManifest::parse(&pretty_jws(payload, &blocks)).unwrap().signatures().len(), 2);
        blocks.push(signers[0].sign(b"{ \"other\": 1\n}", TIME));
        invalid(&pretty_jws(payload, &blocks));
        blocks.pop();
        let changed = text(payload).replace("team/box", "team/fox");
        blocks.push(signers[0].sign(changed.as_bytes(), TIME));
        unverified(&pretty_jws(payload, &blocks));
    }

    #[test]
    fn a_manifest_without_signatures_or_key_is_unverified() {
        unverified(vector!("payload.json"));
        unverified(&pretty_jws(vector!("payload.json"), &[]));
        let block = Signer::generate().sign(vector!("payload.json"), TIME);
        let (before, after) = block.split_once("\"jwk\":").unwrap();
        let (_, after) = after.split_once("},").unwrap();
        let reason = unverified(&pretty_jws(vector!("payload.json"), &[format!("{before}{after}")]));
        assert!(reason.contains("neither"), "{reason}");
    }

    #[test]
    fn nothing_hides_between_the_payload_and_the_signatures() {
        let payload = vector!("payload.json");
        let block = [Signer::generate().sign(payload, TIME)];
        let document = text(&pretty_jws(payload, &block));
        assert!(SignedManifest::parse(document.as_bytes()).is_ok());
        for changed in [
            document.replace("\"signatures\"", "\"extra\": 1, \"signatures\""),
            document.replace("]\n}", "], \"extra\": 1\n}"),
            document.replace("\"signatures\"", "\"Signatures\": [], \"signatures\""),
            document.replace("\"signatures\"", "\"signatures\": [], \"signatures\""),
            document.replace("]\n}", "]\n}}"),
            document.replace("]\n}", "]\n"),
        ] {
            invalid(changed.as_bytes());
        }
    }

    #[test]
    fn a_format_that_is_not_the_documents_is_refused() {
        let payload = vector!("payload.json");
        let signer = Signer::generate();
        let body = payload.len() - 2;
        let protected = |length: &str, tail: &str| {
            let tail = URL_SAFE_NO_PAD.encode(tail);
            format!(r#"{{"formatLength":{length},"formatTail":"{tail}"}}"#)
        };
        let with = |header: &str| pretty_jws(payload, &[signer.sign_protected(payload, header)]);
        assert!(
            SignedManifest::parse(&with(&protected(&body.to_string(), "\n}"))).is_ok(),
            "a time is optional"
        );
        for (length, tail) in [
            (body.to_string().as_str(), "\n},"),
            (&body.to_string(), "\"x\":1}"),
            (&body.to_string(), ""),
            (&body.to_string(), &format!("}}{}", " ".repeat(2_000))),
            (&(body + 1).to_string(), "\n}"),
            (&(body - 1).to_string(), "\n}"),
            ("0", "}"),
            ("1", "}"),
            ("-1", "}"),
            ("1e3", "}"),
            ("1.5", "}"),
            ("\"5\"", "}"),
            ("null", "}"),
            ("18446744073709551615", "}"),
            ("18446744073709551616", "}"),
            ("1000000000000", "}"),
            ("2000", "}"),
        ] {
            invalid(&with(&protected(length, tail)));
        }
        for header in ["", "{}", "[]", r#"{"formatLength":5}"#, r#"{"formatLength":5,"formatTail":"}"}"#] {
            invalid(&with(header));
        }
        let twice = protected(&body.to_string(), "\n}").replace("{\"f", "{\"FormatLength\":1,\"f");
        invalid(&with(&twice));
    }

    #[test]
    fn signatures_that_cut_the_payload_at_different_places_are_refused() {
        let payload = vector!("payload.json");
        let signer = Signer::generate();
        let one = signer.sign(payload, TIME);
        let length = payload.len() - 2;
        let other =
            signer.sign_protected(payload, &format!(r#"{{"formatLength":{length},"formatTail":"fQ"}}"#));
        assert!(invalid(&pretty_jws(payload, &[one, other])).contains("don't agree"));
    }

    #[test]
    fn a_hundred_thousand_signatures_are_refused_before_they_are_read() {
        let payload = vector!("payload.json");
        let block = Signer::generate().sign(payload, TIME);
        let document = pretty_jws(payload, &vec![block; 100_000]);
        assert!(document.len() > 40_000_000);
        assert!(invalid(&document).contains("more than 1000 items"));
        let document = pretty_jws(payload, &vec!["0".to_owned(); 100_000]);
        invalid(&document);
    }

    #[test]
    fn a_payload_that_would_be_hashed_for_minutes_is_refused() {
        let payload = text(vector!("payload.json")).replace("amd64", &"a".repeat(2_000_000));
        let block = Signer::generate().sign(payload.as_bytes(), TIME);
        assert!(SignedManifest::parse(&pretty_jws(payload.as_bytes(), std::slice::from_ref(&block))).is_ok());
        let reason = invalid(&pretty_jws(payload.as_bytes(), &vec![block; 1_000]));
        assert!(reason.contains("too much to verify"), "{reason}");
    }

    #[test]
    fn nesting_without_end_is_refused_everywhere() {
        let document = text(vector!("es256.json"));
        for deep in [
            "[".repeat(1_000),
            "{\"a\":".repeat(1_000_000),
            format!("{}{}", "[".repeat(1_000), "]".repeat(1_000)),
        ] {
            invalid(document.replace("\"amd64\"", &deep).as_bytes());
            invalid(document.replace("\"ES256\"", &deep).as_bytes());
            let signer = Signer::generate();
            let header = format!(r#"{{"formatLength":1,"formatTail":"fQ","x":{deep}}}"#);
            invalid(&pretty_jws(vector!("payload.json"), &[signer.sign_protected(b"{}", &header)]));
        }
    }

    #[test]
    fn bad_keys_are_refused() {
        let payload = vector!("payload.json");
        let signer = Signer::generate();
        let block = signer.sign(payload, TIME);
        let without_id = block.replace(&format!("\"kid\":\"{}\",", signer.key_id()), "");
        let refuse = |block: String| invalid(&pretty_jws(payload, &[block]));
        let x = without_id.split("\"x\":\"").nth(1).unwrap()[..43].to_owned();
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);

        let reason = refuse(without_id.replace(&x, &encode(&[1; 32])));
        assert!(reason.contains("no curve"), "{reason}");
        refuse(without_id.replace(&x, &encode(&[0xff; 32])));
        refuse(without_id.replace(&x, &encode(&[1; 33])));
        refuse(without_id.replace(&x, ""));
        refuse(without_id.replace(&x, "!"));
        refuse(without_id.replace(&x, &format!("{x}=")));
        refuse(without_id.replace(&x, &"A".repeat(1_000_000)));
        refuse(without_id.replace("P-256", "secp256k1"));
        refuse(without_id.replace("P-256", "P-384"));
        refuse(without_id.replace("\"EC\"", "\"oct\""));
        refuse(without_id.replace("ES256", "ES384"));
        refuse(without_id.replace("ES256", "RS256"));
        refuse(without_id.replace("ES256", "none"));
        refuse(without_id.replace("ES256", "HS256"));
        refuse(without_id.replace("\"crv\"", "\"crv\":\"P-256\",\"CRV\""));
        refuse(block.replace(&signer.key_id(), "ABCD"));
        let kid = Signer::generate().key_id();
        refuse(block.replace(&signer.key_id(), &kid));
        let reason = refuse(block.replace("\"alg\"", &format!("\"kid\":\"{kid}\",\"alg\"")));
        assert!(reason.contains("key id"), "{reason}");
        let right = block.replace("\"alg\"", &format!("\"kid\":\"{}\",\"alg\"", signer.key_id()));
        assert!(SignedManifest::parse(&pretty_jws(payload, &[right])).is_ok());
    }

    #[test]
    fn rsa_keys_out_of_bounds_are_refused() {
        assert!(invalid(vector!("rsa1024.json")).contains("1024 bits"));
        let document = text(vector!("rs256.json"));
        let kid = document.split("\"kid\": \"").nth(1).unwrap()[..59].to_owned();
        let document = document.replace(&format!("\"kid\": \"{kid}\","), "");
        let modulus = document.split("\"n\": \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        for bits in [64, 1_024, 2_040, 8_200, 16_384, 1_000_000] {
            invalid(document.replace(&modulus, &encode(&vec![0xff; bits / 8])).as_bytes());
        }
        invalid(document.replace(&modulus, &encode(&[0; 256])).as_bytes());
        invalid(document.replace(&modulus, &encode(&[0xfe; 256])).as_bytes());
        // A modulus that is a number of the right size, but not the signer's.
        unverified(document.replace(&modulus, &encode(&[0xff; 256])).as_bytes());
        for exponent in [&[][..], &[0], &[1], &[2], &[1, 0], &[1, 0, 0, 0, 1], &[0xff; 256]] {
            let changed = document.replace("\"AQAB\"", &format!("\"{}\"", encode(exponent)));
            invalid(changed.as_bytes());
        }
    }

    #[test]
    fn bad_base64_is_refused() {
        let payload = vector!("payload.json");
        let block = Signer::generate().sign(payload, TIME);
        for field in ["signature", "protected"] {
            let value = block.split(&format!("\"{field}\":\"")).nth(1).unwrap().split('"').next().unwrap();
            for bad in ["!!!!", "A", "AA==", "A\\nAA", "é"] {
                invalid(&pretty_jws(payload, &[block.replace(value, bad)]));
            }
            invalid(&pretty_jws(payload, &[block.replace(&format!("\"{value}\""), "5")]));
        }
        let value = block.split("\"protected\":\"").nth(1).unwrap().split('"').next().unwrap();
        invalid(&pretty_jws(payload, &[block.replace(value, &"A".repeat(1_000_000))]));
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for document in [&b""[..], b"{", b"null", b"[]", b"\xff\xfe", b"\0", b"{}{}", b"{\"signatures\": {}}"]
        {
            assert!(SignedManifest::parse(document).is_err());
        }
        let document = text(vector!("es256.json"));
        invalid(document.replace("\"header\"", "\"heeder\"").as_bytes());
        invalid(document.replace("\"alg\"", "\"olg\"").as_bytes());
        for end in 0..document.len() {
            assert!(SignedManifest::parse(&document.as_bytes()[..end]).is_err());
        }
    }
}
