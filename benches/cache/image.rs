//! Images of random bytes at the upstream.

use std::io::Read;
use std::net::SocketAddr;

use orlop::oci::{Digest, DigestAlgorithm, Hasher};
use serde_json::json;

use crate::exchange::{BYTES, request, send};

/// The media type of its manifest.
pub(crate) const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// An image of one layer, `library/bench:<tag>` at the upstream.
#[derive(Debug)]
pub(crate) struct Image {
    /// Its tag.
    pub(crate) tag: String,
    /// The digest of its configuration.
    pub(crate) config: Digest,
    /// The digest of its layer.
    pub(crate) layer: Digest,
    /// The size of its layer.
    pub(crate) size: u64,
}

impl Image {
    /// Makes an image with a layer of `size` bytes, a multiple of 4 MiB or less than that, and pushes it.
    pub(crate) fn push(upstream: SocketAddr, tag: &str, size: u64) -> Image {
        let mut piece = vec![0; 4 << 20];
        piece.truncate(usize::try_from(size).expect("it fits").min(piece.len()));
        let mut random = std::fs::File::open("/dev/urandom").expect("it opens");
        random.read_exact(&mut piece).expect("it never ends");
        let repeat = usize::try_from(size).expect("it fits") / piece.len();
        let layer = push_blob(upstream, &piece, repeat);
        let text = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers",
            "diff_ids": [layer.to_string()] } });
        let text = text.to_string();
        let config = push_blob(upstream, text.as_bytes(), 1);
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST,
            "config": { "mediaType": "application/vnd.docker.container.image.v1+json", "size": text.len(),
                "digest": config.to_string() },
            "layers": [{ "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": size,
                "digest": layer.to_string() }] });
        let manifest = manifest.to_string();
        let answer = send(
            upstream,
            "PUT",
            &format!("/v2/library/bench/manifests/{tag}"),
            MANIFEST,
            manifest.as_bytes(),
            &[],
            0,
        );
        assert_eq!(answer.status(), 201, "the manifest is taken");
        Image { tag: tag.to_owned(), config, layer, size }
    }
}

/// Pushes a blob of `repeat` times the same bytes.
fn push_blob(upstream: SocketAddr, piece: &[u8], repeat: usize) -> Digest {
    let mut hasher = Hasher::new(DigestAlgorithm::Sha256);
    for _ in 0..repeat {
        hasher.update(piece);
    }
    let digest = hasher.finish();
    let session = request(upstream, "POST", "/v2/library/bench/blobs/uploads/");
    let location = session.header("location").expect("a session has a location");
    let location = location.find("/v2/").map_or(location, |start| &location[start..]).to_owned();
    let separator = if location.contains('?') { '&' } else { '?' };
    let target = format!("{location}{separator}digest={digest}");
    let answer = send(upstream, "PUT", &target, BYTES, &[], piece, repeat);
    assert_eq!(answer.status(), 201, "the blob is taken");
    digest
}
