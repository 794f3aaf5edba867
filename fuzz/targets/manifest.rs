//! Manifests of every media type, unsigned schema 1 manifests among them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orlop::oci::schema1::Schema1Manifest;
use orlop::oci::{Manifest, MediaType, detect_media_type};

fuzz_target!(|bytes: &[u8]| {
    for media_type in [
        MediaType::OCI_IMAGE_MANIFEST,
        MediaType::OCI_IMAGE_INDEX,
        MediaType::OCI_ARTIFACT_MANIFEST,
        MediaType::OCTET_STREAM,
    ] {
        if let Err(error) = Manifest::parse(&media_type, bytes) {
            assert!(error.to_string().len() < 2_000);
        }
    }
    let _ = detect_media_type(bytes);
    if let Err(error) = Schema1Manifest::parse(bytes) {
        assert!(error.to_string().len() < 2_000);
    }
});
