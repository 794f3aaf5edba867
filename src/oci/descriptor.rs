//! Descriptors: how one piece of content names another.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::digest::Digest;
use super::media_type::MediaType;

/// A content descriptor of the image specification.
///
/// Reading is tolerant: unknown fields are ignored, and an optional field that is `null` counts as absent, as Go writes
/// an empty one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type of the content.
    pub media_type: MediaType,
    /// The digest of the content.
    pub digest: Digest,
    /// The length of the content in bytes; at most `i64::MAX`, since clients hold it in a signed integer.
    #[serde(deserialize_with = "size")]
    pub size: u64,
    /// The type of the artifact that the content is, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Where the content may also be found.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub urls: Vec<String>,
    /// Arbitrary metadata.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = u64::deserialize(deserializer)?;
    if i64::try_from(size).is_err() {
        return Err(D::Error::custom(format_args!("a descriptor's size of {size} bytes is too large")));
    }
    Ok(size)
}

fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    fn parse(fields: &str) -> Result<Descriptor, serde_json::Error> {
        serde_json::from_str(&format!(
            r#"{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{DIGEST}",{fields}}}"#
        ))
    }

    #[test]
    fn a_descriptor_round_trips_without_empty_fields() {
        let descriptor = parse(r#""size":2"#).unwrap();
        assert_eq!(
            serde_json::to_string(&descriptor).unwrap(),
            format!(r#"{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{DIGEST}","size":2}}"#)
        );
    }

    #[test]
    fn unknown_fields_and_nulls_are_tolerated() {
        let descriptor =
            parse(r#""size":2,"urls":null,"annotations":null,"artifactType":null,"platform":{"os":"linux"},"data":"e30=""#)
                .unwrap();
        assert!(
            descriptor.urls.is_empty()
                && descriptor.annotations.is_empty()
                && descriptor.artifact_type.is_none()
        );
    }

    #[test]
    fn sizes_are_whole_and_in_range() {
        for size in ["-1", "9223372036854775808", "18446744073709551616", "1.5", "\"2\"", "null"] {
            assert!(parse(&format!("\"size\":{size}")).is_err(), "{size}");
        }
        assert!(parse(r#""size":9223372036854775807"#).is_ok());
        assert!(parse(r#""annotations":{}"#).is_err(), "the size is required");
    }
}
