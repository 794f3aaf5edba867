//! Every format and compression that clients write today.

use crate::buildah::Buildah;
use crate::containerd::Containerd;
use crate::docker::Docker;
use crate::image::{Compression, random_files};
use crate::podman::Podman;
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::{Client, Host, Layout};

/// An image whose layers are plain, so that a client compresses them as it is told.
fn plain_image(hello: &str) -> Layout {
    Layout::with_layers(Compression::None, &[vec![("etc/hello", hello.into())], random_files(8, 40_000)])
}

#[test]
fn oci_and_docker_schema_2_reach_every_client() {
    let server = Server::start();
    let skopeo = Skopeo::on(Host::new());
    let (docker, containerd) = (Docker::start(&[]), Containerd::start());
    for (format, media_type) in [
        ("oci", "application/vnd.oci.image.manifest.v1+json"),
        ("v2s2", "application/vnd.docker.distribution.manifest.v2+json"),
    ] {
        let by_skopeo = server.image(&format!("formats/skopeo:{format}"));
        skopeo.copy(&Layout::of(format).oci(), &format!("docker://{by_skopeo}"), &["--format", format]);
        let by_buildah = server.image(&format!("formats/buildah:{format}"));
        let buildah_format = if format == "oci" { "oci" } else { "docker" };
        Buildah::on(Host::new()).build_and_push(&Layout::of(format), buildah_format, &by_buildah);
        for reference in [&by_skopeo, &by_buildah] {
            assert_eq!(skopeo.raw_manifest(reference)["mediaType"], media_type, "{reference}");
            let podman = Podman::on(Host::new());
            let clients: [&dyn Client; 4] = [&docker, &containerd, &podman, &skopeo];
            for client in clients {
                assert_eq!(
                    client.pull_and_read(reference, "/etc/hello"),
                    format,
                    "{} {reference}",
                    client.name()
                );
            }
        }
    }
}

#[test]
fn zstd_layers_reach_containerd_podman_buildah_and_skopeo() {
    layers_compressed_by_zstd("zstd");
}

#[test]
fn zstd_chunked_layers_reach_containerd_podman_buildah_and_skopeo() {
    layers_compressed_by_zstd("zstd:chunked");
}

/// Debian's Docker 20.10 can't unpack zstd, so it isn't asked to.
fn layers_compressed_by_zstd(format: &str) {
    let server = Server::start();
    let skopeo = Skopeo::on(Host::new());
    let image = plain_image(format);
    let by_skopeo = server.image("zstd/skopeo:1");
    skopeo.copy(&image.oci(), &format!("docker://{by_skopeo}"), &["--dest-compress-format", format]);

    let by_podman = server.image("zstd/podman:1");
    let podman = Podman::on(Host::new());
    let id = podman.pull(&image.oci(), &[]);
    podman.run(&["push", "--quiet", "--tls-verify=false", "--compression-format", format, &id, &by_podman]);

    for reference in [&by_skopeo, &by_podman] {
        let manifest = skopeo.raw_manifest(reference);
        for layer in manifest["layers"].as_array().expect("an image has layers") {
            assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd", "{manifest}");
            let chunked = layer["annotations"]["io.containers.zstd-chunked.manifest-position"].is_string();
            assert_eq!(chunked, format == "zstd:chunked", "{manifest}");
        }
        let clients: [&dyn Client; 3] =
            [&Containerd::start(), &Podman::on(Host::new()), &Buildah::on(Host::new())];
        for client in clients {
            assert_eq!(
                client.pull_and_read(reference, "/etc/hello"),
                format,
                "{} {reference}",
                client.name()
            );
        }
        // skopeo checks the digest of each blob that it copies, and unpacks none.
        let folder =
            skopeo.pull_into(reference, &format!("pulled{}", reference.replace(['/', ':'], "-")), &[]);
        let layers = manifest["layers"].as_array().expect("an image has layers");
        for layer in layers {
            let digest = layer["digest"].as_str().expect("a layer has a digest");
            assert_eq!(crate::image::sha256_of(&folder.join(digest.trim_start_matches("sha256:"))), digest);
        }
    }
}
