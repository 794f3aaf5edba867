//! All signatures of one schema 1 manifest, from however many hosts, and the document that serves them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::ser::PrettyFormatter;

use super::algorithm::SignatureAlgorithm;
use super::error::SignedManifestError;
use super::key_id::KeyId;
use super::signature::{Format, Signature};
use crate::oci::digest::{Digest, DigestAlgorithm};
use crate::oci::hasher::Hasher;

/// The most signatures of one manifest.
pub const MAX_SIGNATURES: usize = 1_000;

/// The longest indentation that a merged manifest repeats on every line; libtrust's is 3 spaces.
const MAX_INDENT: usize = 16;

/// The signatures of one manifest: one for each key and algorithm, the newest.
///
/// All of them take the payload apart at the same place, and there are at most [`MAX_SIGNATURES`]. The order is that of the
/// key ids as text and then of the algorithms, whatever the order of arrival was, so that the same signatures always make
/// the same document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignatureSet(BTreeMap<(KeyId, SignatureAlgorithm), Signature>);

/// What a merge changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MergeReport {
    /// The keys and algorithms that had no signature before, in their order.
    pub added: Vec<(KeyId, SignatureAlgorithm)>,
    /// Those whose signature gave way to a newer one, in their order.
    pub replaced: Vec<(KeyId, SignatureAlgorithm)>,
}

impl MergeReport {
    /// Whether the set is what it was, so that there is nothing to write.
    pub fn is_unchanged(&self) -> bool {
        self.added.is_empty() && self.replaced.is_empty()
    }
}

impl SignatureSet {
    /// Returns the empty set.
    pub fn new() -> SignatureSet {
        SignatureSet::default()
    }

    /// Adds signatures of the same payload, which the caller has verified; on an error the set stays as it was.
    ///
    /// Of two signatures by one key and algorithm the newer is kept: the one with the later time in its signed header, and
    /// where the times are equal or one has none, the one that is merged later. So an old copy that comes again replaces
    /// nothing.
    pub fn merge(
        &mut self,
        signatures: impl IntoIterator<Item = Signature>,
    ) -> Result<MergeReport, SignedManifestError> {
        let mut incoming: BTreeMap<(KeyId, SignatureAlgorithm), Signature> = BTreeMap::new();
        let mut format = self.format().cloned();
        for signature in signatures {
            if format.get_or_insert_with(|| signature.format().clone()) != signature.format() {
                return Err(SignedManifestError::OtherFormat);
            }
            let place = (signature.key_id(), signature.algorithm());
            let newest = incoming.get(&place).or_else(|| self.0.get(&place));
            if newest.is_none_or(|newest| *newest != signature && signature.replaces(newest)) {
                incoming.insert(place, signature);
            }
        }
        let mut report = MergeReport::default();
        for place in incoming.keys() {
            let changed = if self.0.contains_key(place) { &mut report.replaced } else { &mut report.added };
            changed.push(*place);
        }
        if self.0.len() + report.added.len() > MAX_SIGNATURES {
            return Err(SignedManifestError::TooManySignatures { limit: MAX_SIGNATURES });
        }
        self.0.extend(incoming);
        Ok(report)
    }

    /// Returns the pretty JWS of the payload with all signatures, as libtrust writes it: what a client that pushed
    /// libtrust's own form pulls again, byte for byte.
    ///
    /// `payload` has to be the one that the signatures are for. The document is never longer than `limit`.
    pub fn assemble(&self, payload: &[u8], limit: usize) -> Result<Vec<u8>, SignedManifestError> {
        let Some(format) = self.format() else {
            return Err(SignedManifestError::Unverified("it has no signatures".to_owned()));
        };
        let Some(head) = payload.get(..format.length).filter(|head| payload[head.len()..] == format.tail)
        else {
            return Err(SignedManifestError::OtherFormat);
        };
        let blocks: Vec<_> = self.0.values().map(Signature::block).collect();
        let indent = indent(payload);
        let mut document = Vec::with_capacity(payload.len() + 1_024 * blocks.len());
        document.extend_from_slice(head);
        if indent.is_empty() {
            document.extend_from_slice(b",\"signatures\":");
            serde_json::to_writer(&mut document, &blocks).expect("writing to memory never fails");
            document.push(b'}');
        } else {
            let mut list = Vec::new();
            let formatter = PrettyFormatter::with_indent(indent);
            let mut writer = serde_json::Serializer::with_formatter(&mut list, formatter);
            blocks.serialize(&mut writer).expect("writing to memory never fails");
            document.extend_from_slice(b",\n");
            document.extend_from_slice(indent);
            document.extend_from_slice(b"\"signatures\": ");
            // The list lies one level deeper than it was written. No text in it has a line break.
            for (number, line) in list.split(|byte| *byte == b'\n').enumerate() {
                if number > 0 {
                    document.push(b'\n');
                    document.extend_from_slice(indent);
                }
                document.extend_from_slice(line);
            }
            document.extend_from_slice(b"\n}");
        }
        if document.len() > limit {
            return Err(SignedManifestError::TooLarge { size: document.len(), limit });
        }
        Ok(document)
    }

    /// Returns a digest that changes with the set of signatures and with nothing else: for an `ETag`, since the digest of
    /// the manifest is the payload's and stays.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new(DigestAlgorithm::CANONICAL);
        for signature in self.0.values() {
            let json = signature.to_json();
            hasher.update(&(json.len() as u64).to_be_bytes());
            hasher.update(&json);
        }
        hasher.finish()
    }

    /// Returns the signatures in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Signature> {
        self.0.values()
    }

    /// Returns the signature of a key by an algorithm.
    pub fn get(&self, key_id: KeyId, algorithm: SignatureAlgorithm) -> Option<&Signature> {
        self.0.get(&(key_id, algorithm))
    }

    /// Returns how many signatures there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no signatures.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn format(&self) -> Option<&Format> {
        self.0.values().next().map(Signature::format)
    }
}

/// Returns how a payload indents its first field, if it does; an indentation that would make the document grow without
/// bounds counts as none.
fn indent(payload: &[u8]) -> &[u8] {
    let Some(fields) = payload.strip_prefix(b"{\n") else { return &[] };
    let indent = &fields[..fields.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count()];
    let is_indent = indent.len() <= MAX_INDENT && fields.get(indent.len()) == Some(&b'"');
    if is_indent { indent } else { &[] }
}

#[cfg(test)]
mod tests {
    use super::super::signed_manifest::SignedManifest;
    use super::super::signer::{Signer, pretty_jws};
    use super::*;

    const PAYLOAD: &[u8] = include_bytes!("../../../tests/vectors/schema1/payload.json");
    const ES256: &[u8] = include_bytes!("../../../tests/vectors/schema1/es256.json");
    const LATER: &[u8] = include_bytes!("../../../tests/vectors/schema1/es256-later.json");
    const LIMIT: usize = 4 << 20;

    fn signatures(document: &[u8]) -> Vec<Signature> {
        SignedManifest::parse(document).unwrap().signatures().to_vec()
    }

    fn set(documents: &[&[u8]]) -> SignatureSet {
        let mut set = SignatureSet::new();
        for document in documents {
            set.merge(signatures(document)).unwrap();
        }
        set
    }

    fn sign(signer: &Signer, time: &str) -> Signature {
        Signature::from_json(signer.sign(PAYLOAD, time).as_bytes()).unwrap()
    }

    #[test]
    fn what_libtrust_wrote_is_served_byte_for_byte() {
        for document in [
            ES256,
            LATER,
            include_bytes!("../../../tests/vectors/schema1/es512.json"),
            include_bytes!("../../../tests/vectors/schema1/rs256.json"),
            include_bytes!("../../../tests/vectors/schema1/x5c.json"),
            include_bytes!("../../../tests/vectors/schema1/several.json"),
            include_bytes!("../../../tests/vectors/schema1/compact.json"),
            include_bytes!("../../../tests/vectors/schema1/loose.json"),
            include_bytes!("../../../tests/vectors/schema1/skopeo.json"),
            include_bytes!("../../../tests/vectors/schema1/docker-registry.json"),
        ] {
            let signed = SignedManifest::parse(document).unwrap();
            let assembled = set(&[document]).assemble(signed.payload(), LIMIT).unwrap();
            assert_eq!(String::from_utf8_lossy(&assembled), String::from_utf8_lossy(document));
        }
    }

    #[test]
    fn signatures_from_many_hosts_make_one_document_whatever_their_order() {
        let documents: [&[u8]; 7] = [
            include_bytes!("../../../tests/vectors/schema1/rs512.json"),
            ES256,
            include_bytes!("../../../tests/vectors/schema1/es384.json"),
            include_bytes!("../../../tests/vectors/schema1/rs256.json"),
            include_bytes!("../../../tests/vectors/schema1/es512.json"),
            include_bytes!("../../../tests/vectors/schema1/x5c.json"),
            include_bytes!("../../../tests/vectors/schema1/rs384.json"),
        ];
        let merged = set(&documents);
        let mut reversed = documents;
        reversed.reverse();
        assert_eq!(set(&reversed), merged);
        assert_eq!(merged.len(), 7);
        let document = merged.assemble(PAYLOAD, LIMIT).unwrap();
        let several = include_str!("../../../tests/vectors/schema1/several.txt");
        let read = SignedManifest::parse(&document).unwrap();
        assert_eq!(read.payload(), PAYLOAD);
        let listed: Vec<String> =
            read.signatures().iter().map(|one| format!("{} {}\n", one.key_id(), one.algorithm())).collect();
        assert_eq!(listed.concat(), several);
    }

    #[test]
    fn two_real_hosts_are_merged() {
        let (skopeo, registry) = (
            &include_bytes!("../../../tests/vectors/schema1/skopeo.json")[..],
            &include_bytes!("../../../tests/vectors/schema1/docker-registry.json")[..],
        );
        let payload = SignedManifest::parse(skopeo).unwrap().payload().to_vec();
        let document = set(&[skopeo, registry]).assemble(&payload, LIMIT).unwrap();
        assert_eq!(signatures(&document).len(), 2);
        assert_eq!(document, set(&[registry, skopeo]).assemble(&payload, LIMIT).unwrap());
    }

    #[test]
    fn a_key_has_one_signature_the_newest() {
        let mut set = set(&[ES256]);
        let report = set.merge(signatures(LATER)).unwrap();
        assert_eq!((report.added.len(), report.replaced.len(), set.len()), (0, 1, 1));
        assert_eq!(set.iter().next().unwrap().signed_at(), Some("2016-01-02T03:04:05Z"));

        let before = set.clone();
        assert!(set.merge(signatures(ES256)).unwrap().is_unchanged(), "an old copy replaces nothing");
        assert!(set.merge(signatures(LATER)).unwrap().is_unchanged(), "the same again");
        assert_eq!(set, before);
    }

    #[test]
    fn where_no_time_decides_the_later_push_does() {
        let signer = Signer::generate();
        for (first, second) in [
            ("2015-04-08T18:52:59Z", "2015-04-08T18:52:59Z"),
            ("2015-04-08T18:52:59Z", "yesterday"),
            ("some day", "2015-04-08T18:52:59Z"),
            ("2016-01-01T00:00:00Z", "2015-04-08T18:52:59+02:00"),
        ] {
            let (first, second) = (sign(&signer, first), sign(&signer, second));
            let mut set = SignatureSet::new();
            set.merge([first]).unwrap();
            assert_eq!(set.merge([second.clone()]).unwrap().replaced.len(), 1);
            assert_eq!(set.iter().collect::<Vec<_>>(), [&second]);
        }
        // Of two in one document too, and once only.
        let (first, second) = (sign(&signer, "2015-04-08T18:52:59Z"), sign(&signer, "2015-04-08T18:52:59Z"));
        let mut set = SignatureSet::new();
        assert_eq!(set.merge([first, second.clone()]).unwrap().added.len(), 1);
        assert_eq!(set.iter().collect::<Vec<_>>(), [&second]);
    }

    #[test]
    fn another_format_is_refused_and_changes_nothing() {
        let mut set = set(&[ES256]);
        let before = set.clone();
        let loose = include_bytes!("../../../tests/vectors/schema1/loose.json");
        assert_eq!(set.merge(signatures(loose)), Err(SignedManifestError::OtherFormat));
        assert_eq!(set, before);
        assert_eq!(set.assemble(b"{}", LIMIT), Err(SignedManifestError::OtherFormat));
        assert!(matches!(
            SignatureSet::new().assemble(PAYLOAD, LIMIT),
            Err(SignedManifestError::Unverified(_))
        ));
    }

    #[test]
    fn a_hundred_hosts_are_merged_and_all_are_served() {
        let signers: Vec<Signer> = (0..100).map(|_| Signer::generate()).collect();
        let mut set = SignatureSet::new();
        for signer in &signers {
            let document = pretty_jws(PAYLOAD, &[signer.sign(PAYLOAD, "2015-04-08T18:52:59Z")]);
            set.merge(signatures(&document)).unwrap();
        }
        let served = SignedManifest::parse(&set.assemble(PAYLOAD, LIMIT).unwrap()).unwrap();
        let mut wanted: Vec<String> = signers.iter().map(Signer::key_id).collect();
        wanted.sort();
        let found: Vec<String> = served.signatures().iter().map(|one| one.key_id().to_string()).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn there_are_at_most_a_thousand_and_the_document_has_a_limit() {
        let signers: Vec<Signer> = (0..=MAX_SIGNATURES).map(|_| Signer::generate()).collect();
        let all: Vec<Signature> = signers.iter().map(|signer| sign(signer, "2015-04-08T18:52:59Z")).collect();
        let mut set = SignatureSet::new();
        set.merge(all[..MAX_SIGNATURES].iter().cloned()).unwrap();
        assert_eq!(
            set.merge(all[MAX_SIGNATURES..].iter().cloned()),
            Err(SignedManifestError::TooManySignatures { limit: MAX_SIGNATURES })
        );
        assert_eq!(set.len(), MAX_SIGNATURES);
        let again = sign(&signers[0], "2016-04-08T18:52:59Z");
        assert_eq!(set.merge([again]).unwrap().replaced.len(), 1, "a full set still takes newer ones");

        let document = set.assemble(PAYLOAD, LIMIT).unwrap();
        assert_eq!(set.assemble(PAYLOAD, document.len()).unwrap(), document);
        let refused = set.assemble(PAYLOAD, document.len() - 1);
        let (size, limit) = (document.len(), document.len() - 1);
        assert_eq!(refused, Err(SignedManifestError::TooLarge { size, limit }));
        assert_eq!(signatures(&document).len(), MAX_SIGNATURES);
    }

    #[test]
    fn the_digest_of_the_set_changes_with_the_set() {
        let (one, later) = (set(&[ES256]), set(&[ES256, LATER]));
        let several = set(&[include_bytes!("../../../tests/vectors/schema1/several.json")]);
        assert_eq!(one.digest(), set(&[ES256]).digest());
        assert_ne!(one.digest(), later.digest());
        assert_ne!(one.digest(), several.digest());
    }

    #[test]
    fn stored_signatures_read_back_the_same() {
        let several = set(&[include_bytes!("../../../tests/vectors/schema1/several.json")]);
        let mut restored = SignatureSet::new();
        for signature in several.iter() {
            let stored = signature.to_json();
            let read = Signature::from_json(&stored).unwrap();
            assert_eq!((&read, read.to_json()), (signature, stored));
            read.verify(PAYLOAD).unwrap();
            assert!(read.verify(b"other").is_err());
            assert_eq!(several.get(read.key_id(), read.algorithm()), Some(&read));
            restored.merge([read]).unwrap();
        }
        assert_eq!(restored, several);
        assert_eq!(restored.assemble(PAYLOAD, LIMIT), several.assemble(PAYLOAD, LIMIT));
    }

    #[test]
    fn an_endless_indentation_is_not_repeated() {
        assert_eq!(indent(b"{\n   \"a\""), b"   ");
        assert_eq!(indent(b"{\n\t\"a\""), b"\t");
        for payload in
            ["{\"a\"", "{\n\"a\"", "{\n \n\"a\"", "{\n}", "{\n", &format!("{{\n{}\"a\"", " ".repeat(17))]
        {
            assert_eq!(indent(payload.as_bytes()), b"", "{payload}");
        }
    }
}
