//! A layer as large as they get.

use crate::containerd::Containerd;
use crate::image::sha256_of;
use crate::podman::Podman;
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::{Client, Host, Layout};

#[test]
fn a_layer_of_one_gibibyte_comes_back_whole() {
    let server = Server::start();
    let skopeo = Skopeo::on(Host::new());
    let image = Layout::with_large_layer(1 << 30);
    let reference = server.image("large:1");
    skopeo.push(&image, &reference);

    let layer = image.manifest()["layers"][0].clone();
    assert!(layer["size"].as_u64() > Some(1 << 30), "{layer}");
    let digest = layer["digest"].as_str().expect("a layer has a digest").to_owned();
    let folder = skopeo.pull_into(&reference, "pulled", &["--preserve-digests"]);
    assert_eq!(sha256_of(&folder.join(digest.trim_start_matches("sha256:"))), digest);
    drop(skopeo);

    // These two unpack it, and check what they unpack against the image's own list of digests.
    let podman = Podman::on(Host::new());
    podman.pull(&reference, &[]);
    drop(podman);
    Containerd::start().pull(&reference, &[]);
}
