//! A client that pulls an image: its manifest by tag, its configuration, its layer; it reads all of it and keeps nothing.

use std::net::SocketAddr;
use std::time::Duration;

use orlop::clock::monotonic;

use crate::exchange::request;
use crate::image::Image;

/// When things were there, from the beginning of the pull.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pull {
    /// All of the manifest.
    pub(crate) manifest: Duration,
    /// The layer's first byte.
    pub(crate) first_byte: Duration,
    /// The layer's last byte.
    pub(crate) whole: Duration,
}

/// Pulls the image; fails when any of it is not as it should be.
pub(crate) fn pull(from: SocketAddr, image: &Image) -> Pull {
    let started = monotonic();
    let answer = request(from, "GET", &format!("/v2/library/bench/manifests/{}", image.tag));
    assert_eq!(answer.status(), 200, "the manifest is served");
    assert!(answer.read() > 100, "all of the manifest comes");
    let manifest = started.elapsed();
    let answer = request(from, "GET", &format!("/v2/library/bench/blobs/{}", image.config));
    assert_eq!(answer.status(), 200, "the configuration is served");
    assert!(answer.read() > 100, "all of the configuration comes");
    let mut answer = request(from, "GET", &format!("/v2/library/bench/blobs/{}", image.layer));
    assert_eq!(answer.status(), 200, "the layer is served");
    answer.read_some();
    let first_byte = started.elapsed();
    assert_eq!(answer.read(), image.size, "all of the layer comes");
    Pull { manifest, first_byte, whole: started.elapsed() }
}
