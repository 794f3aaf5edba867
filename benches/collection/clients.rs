//! Clients that push.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use orlop::clock::monotonic;

use crate::store::{self, digest, manifest};
use crate::wire::Client;

/// Pushes one small image after the other, nothing of which anybody has; returns how long each took, in milliseconds.
pub(crate) fn push_until(address: SocketAddr, client: u64, stop: &AtomicBool) -> Vec<f64> {
    let mut connection = Client::connect(address);
    let repository = format!("pushes/client-{client}");
    let mut taken = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let fresh = store::fresh();
        let (config, layer) = (format!("{{\"fresh\":{fresh}}}"), format!("layer {fresh}").repeat(200));
        let image = manifest(&config, std::slice::from_ref(&layer), "fresh");
        let began = monotonic();
        for blob in [&config, &layer] {
            let target = format!("/v2/{repository}/blobs/uploads/?digest={}", digest(blob.as_bytes()));
            connection.create("POST", &target, "application/octet-stream", blob.as_bytes());
        }
        let target = format!("/v2/{repository}/manifests/fresh-{fresh}");
        connection.create("PUT", &target, store::MANIFEST, image.as_bytes());
        taken.push(began.elapsed().as_secs_f64() * 1e3);
    }
    taken
}
