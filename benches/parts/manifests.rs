//! Manifests: from the bytes that a client pushes to what they name.

use std::hint::black_box;

use orlop::oci::{Manifest, MediaType, detect_media_type};

use crate::case::Case;
use crate::document::{image, index};

fn case(name: &'static str, rounds: u32, media_type: MediaType, text: String) -> Case {
    let bytes = text.len();
    Case::new(name, rounds, move || {
        black_box(Manifest::parse(&media_type, black_box(text.as_bytes()))).expect("it is a manifest");
    })
    .with_bytes(bytes)
}

pub(crate) fn cases() -> Vec<Case> {
    let untyped = image(1, 7);
    let bytes = untyped.len();
    vec![
        case("manifests/image of 7 layers", 50, MediaType::OCI_IMAGE_MANIFEST, image(1, 7)),
        case("manifests/image of 100 layers", 5, MediaType::OCI_IMAGE_MANIFEST, image(1, 100)),
        case("manifests/index of 16 platforms", 20, MediaType::OCI_IMAGE_INDEX, index(16)),
        Case::new("manifests/without a media type", 50, move || {
            black_box(detect_media_type(black_box(untyped.as_bytes()))).expect("it says what it is");
        })
        .with_bytes(bytes),
    ]
}
