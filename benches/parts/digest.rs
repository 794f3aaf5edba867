//! Digests: hashing content, and reading and writing its name.
//!
//! The hash of large content is as fast as the processor's own instructions for it; where instructions are counted there
//! are none of these, so that what is counted there is the portable code.

use std::hint::black_box;

use orlop::oci::{Digest, DigestAlgorithm, Hasher};

use crate::case::Case;

/// A frame as it comes from a socket.
const FRAME: usize = 64 * 1024;

pub(crate) fn cases() -> Vec<Case> {
    let small = vec![0x5a; 4096];
    let large = vec![0xa5; 16 * FRAME];
    let wide = large.clone();
    let text = Digest::of(DigestAlgorithm::Sha256, b"orlop").to_string();
    let digest = Digest::of(DigestAlgorithm::Sha256, b"orlop");
    vec![
        Case::new("digest/sha256 of 4 KiB", 10, move || {
            black_box(Digest::of(DigestAlgorithm::Sha256, black_box(&small)));
        })
        .with_bytes(4096),
        Case::new("digest/sha256 of 1 MiB in frames", 1, move || {
            let mut hasher = Hasher::new(DigestAlgorithm::Sha256);
            black_box(&large).chunks(FRAME).for_each(|frame| hasher.update(frame));
            black_box(hasher.finish());
        })
        .with_bytes(16 * FRAME),
        Case::new("digest/sha512 of 1 MiB in frames", 1, move || {
            let mut hasher = Hasher::new(DigestAlgorithm::Sha512);
            black_box(&wide).chunks(FRAME).for_each(|frame| hasher.update(frame));
            black_box(hasher.finish());
        })
        .with_bytes(16 * FRAME),
        Case::new("digest/parse", 1_000, move || {
            black_box(black_box(text.as_str()).parse::<Digest>()).expect("it was written by a digest");
        }),
        Case::new("digest/print", 1_000, move || {
            black_box(black_box(&digest).to_string());
        }),
    ]
}
