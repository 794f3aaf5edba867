//! Manifests to work with: the same bytes for the same numbers, always.

use std::fmt::Write as _;

use orlop::oci::{Digest, DigestAlgorithm};

/// The digest of content that only has a number.
pub(crate) fn digest(of: &str, number: usize) -> Digest {
    Digest::of(DigestAlgorithm::Sha256, format!("{of} {number}").as_bytes())
}

/// An image of `layers` layers, written as Docker writes one.
pub(crate) fn image(number: usize, layers: usize) -> String {
    let config = digest("config", number);
    let mut text = format!(
        r#"{{
   "schemaVersion": 2,
   "mediaType": "application/vnd.oci.image.manifest.v1+json",
   "config": {{
      "mediaType": "application/vnd.oci.image.config.v1+json",
      "digest": "{config}",
      "size": 7023
   }},
   "layers": ["#
    );
    for layer in 0..layers {
        let comma = if layer > 0 { "," } else { "" };
        let (digest, size) = (digest("layer", layer), 32_654 + layer * 1_024);
        write!(
            text,
            r#"{comma}
      {{
         "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
         "digest": "{digest}",
         "size": {size}
      }}"#
        )
        .expect("memory takes it");
    }
    text.push_str("\n   ]\n}");
    text
}

/// An index of `platforms` images, each with the annotations that a builder gives it.
pub(crate) fn index(platforms: usize) -> String {
    let mut text =
        r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":["#
            .to_owned();
    for platform in 0..platforms {
        let comma = if platform > 0 { "," } else { "" };
        let digest = digest("platform", platform);
        write!(
            text,
            r#"{comma}{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":1024,
"annotations":{{"vnd.docker.reference.type":"attestation-manifest","org.opencontainers.image.revision":"{platform}"}},
"platform":{{"architecture":"arch{platform}","os":"linux"}}}}"#
        )
        .expect("memory takes it");
    }
    text.push_str(r#"],"annotations":{"org.opencontainers.image.title":"an \"escaped\" title"}}"#);
    text
}
