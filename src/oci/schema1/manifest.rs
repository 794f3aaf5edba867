//! The payload of a schema 1 manifest.

use super::error::SignedManifestError;
use super::json::{Object, check_depth};
use crate::oci::digest::DigestError;
use crate::oci::media_type::MediaType;
use crate::oci::provisional_digest::ProvisionalDigest;
use crate::oci::repository_name::RepositoryName;
use crate::oci::tag::Tag;

/// The most layers of an image; Docker itself never allowed more than 127.
const MAX_LAYERS: usize = 10_000;

/// What a registry needs to know of a schema 1 manifest; the bytes themselves are kept verbatim elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema1Manifest {
    /// The repository that the manifest is about, as it stands there; empty where the client didn't know.
    pub name: String,
    /// The tag that the manifest is about, as it stands there; empty where the client didn't know.
    pub tag: String,
    /// The processor that the image is for, such as `amd64`; may be empty.
    pub architecture: String,
    /// The layers, the topmost first, a digest as often as it comes; there is at least one.
    pub layers: Vec<ProvisionalDigest>,
}

impl Schema1Manifest {
    /// Reads the payload of a signed manifest, or an unsigned manifest (`v1+json`). Signatures in it, which nobody would have
    /// verified, are [`Unverified`](SignedManifestError::Unverified).
    ///
    /// The cost is linear in the length of `payload`.
    pub fn parse(payload: &[u8]) -> Result<Schema1Manifest, SignedManifestError> {
        check_depth(payload)?;
        let object = Object::read("the manifest", payload)?;
        let version: i64 = object.required("schemaVersion")?;
        if version != 1 {
            return Err(invalid(&format!("its `schemaVersion` is {version}, not 1")));
        }
        if object.has_in_any_case("signatures") {
            let signed = MediaType::DOCKER_MANIFEST_SCHEMA1_SIGNED;
            return Err(SignedManifestError::Unverified(format!("it has `signatures`; send it as {signed}")));
        }
        let items = object.list("fsLayers", MAX_LAYERS)?;
        let mut layers = Vec::with_capacity(items.len());
        for item in items {
            let layer = Object::read("an item of `fsLayers`", item.get().as_bytes())?;
            let digest: String = layer.required("blobSum")?;
            layers.push(
                digest.parse().map_err(|error: DigestError| invalid(&format!("its `blobSum`: {error}")))?,
            );
        }
        if layers.is_empty() {
            return Err(invalid("it has no layers"));
        }
        let history = object.list("history", MAX_LAYERS)?;
        if history.len() != layers.len() {
            return Err(invalid(&format!(
                "it has {} layers, but {} entries of history",
                layers.len(),
                history.len()
            )));
        }
        for item in history {
            let entry = Object::read("an item of `history`", item.get().as_bytes())?;
            entry.required::<String>("v1Compatibility")?;
        }
        Ok(Schema1Manifest {
            name: object.required("name")?,
            tag: object.required("tag")?,
            architecture: object.optional("architecture")?.unwrap_or_default(),
            layers,
        })
    }

    /// Refuses a manifest that is about another repository than `name`, or another tag than `tag` when it is pushed by one.
    ///
    /// A manifest that is pushed by digest may have any tag.
    pub fn matches(&self, name: &RepositoryName, tag: Option<&Tag>) -> Result<(), SignedManifestError> {
        if self.name != name.as_str() {
            let pushed = name.to_string();
            return Err(SignedManifestError::NameMismatch { stated: self.name.clone(), pushed });
        }
        match tag {
            Some(tag) if self.tag != tag.as_str() => {
                let pushed = tag.to_string();
                Err(SignedManifestError::TagMismatch { stated: self.tag.clone(), pushed })
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn invalid(reason: &str) -> SignedManifestError {
    SignedManifestError::Invalid(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOAD: &str = include_str!("../../../tests/vectors/schema1/payload.json");

    fn parse(json: &str) -> Result<Schema1Manifest, SignedManifestError> {
        Schema1Manifest::parse(json.as_bytes())
    }

    #[test]
    fn an_unsigned_manifest_is_read() {
        let manifest = parse(PAYLOAD).unwrap();
        assert_eq!(manifest.architecture, "amd64");
        assert_eq!(manifest.layers.len(), 2);
    }

    #[test]
    fn layers_may_be_named_by_tarsum() {
        let digest = parse(PAYLOAD).unwrap().layers[0].to_string();
        let sum = format!("tarsum.v1+sha256:{}", "0a".repeat(32));
        let manifest = parse(&PAYLOAD.replace(&digest, &sum)).unwrap();
        assert_eq!(manifest.layers[0].to_string(), sum);
        assert!(parse(&PAYLOAD.replace(&digest, "sha256:0")).is_err());
        assert!(
            parse(&PAYLOAD.replace(&digest, &"x".repeat(1_000_000))).unwrap_err().to_string().len() < 500
        );
    }

    #[test]
    fn name_and_tag_are_held_against_where_it_was_pushed() {
        let manifest = parse(PAYLOAD).unwrap();
        let name: RepositoryName = "team/box".parse().unwrap();
        let tag: Tag = "1".parse().unwrap();
        manifest.matches(&name, Some(&tag)).unwrap();
        manifest.matches(&name, None).unwrap();
        let other = manifest.matches(&"team/fox".parse().unwrap(), None);
        assert!(matches!(other, Err(SignedManifestError::NameMismatch { .. })), "{other:?}");
        let other = manifest.matches(&name, Some(&"2".parse().unwrap()));
        assert!(matches!(other, Err(SignedManifestError::TagMismatch { .. })), "{other:?}");
    }

    #[test]
    fn what_is_missing_or_malformed_is_refused() {
        for (from, to) in [
            ("\"schemaVersion\": 1", "\"schemaVersion\": 2"),
            ("\"schemaVersion\"", "\"other\""),
            ("\"name\"", "\"other\""),
            ("\"tag\"", "\"other\""),
            ("\"tag\": \"1\"", "\"tag\": 1"),
            ("\"fsLayers\"", "\"other\""),
            ("\"history\"", "\"other\""),
            ("\"blobSum\"", "\"other\""),
            ("\"v1Compatibility\"", "\"other\""),
            ("\"tag\"", "\"NAME\": \"x\", \"tag\""),
            ("\"tag\"", "\"name\": \"x\", \"tag\""),
        ] {
            let refused = parse(&PAYLOAD.replacen(from, to, 1));
            assert!(matches!(refused, Err(SignedManifestError::Invalid(_))), "{from} to {to}: {refused:?}");
        }
        for json in
            ["", "[]", "null", "{}", r#"{"schemaVersion":1,"name":"a","tag":"b","fsLayers":[],"history":[]}"#]
        {
            assert!(parse(json).is_err(), "{json}");
        }
    }

    #[test]
    fn signatures_that_nobody_verifies_are_refused() {
        for name in ["signatures", "Signatures", "\u{17f}ignatures", "\\u0073ignatures"] {
            let refused = parse(&PAYLOAD.replacen('{', &format!("{{ \"{name}\": [],"), 1));
            assert!(matches!(refused, Err(SignedManifestError::Unverified(_))), "{name}: {refused:?}");
        }
    }

    #[test]
    fn layers_and_history_have_the_same_length() {
        let entry = "{\"v1Compatibility\": \"{}\"},";
        let more = PAYLOAD.replace("\"history\": [", &format!("\"history\": [{entry}"));
        let message = parse(&more).unwrap_err().to_string();
        assert!(message.contains("2 layers, but 3 entries"), "{message}");
        let many = PAYLOAD.replace("\"history\": [", &format!("\"history\": [{}", entry.repeat(100_000)));
        assert!(parse(&many).is_err());
    }
}
