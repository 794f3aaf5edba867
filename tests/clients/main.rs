//! Real clients against the real binary: Docker, containerd, podman, buildah, skopeo and oras push and pull real images. And this
//! program's own client against a real registry of another make.
//!
//! These are the programs that people use, not imitations of them, so a missing one is a failure that names the package
//! to install, never a skip. Each test starts a server of its own and clients with folders, sockets and mount
//! namespaces of their own; nothing of the machine's own container set-up is read or changed, and everything stays on
//! the loopback interface. They need root: `dockerd`, `containerd` and the mounts of the full disk do.
//!
//! `cargo test` leaves this target out, because it has to pass on a bare machine: `cargo test --test clients` runs it.

mod access;
mod access_examples;
mod archives;
mod backup;
mod backup_age;
mod backup_disks;
mod backup_s3;
mod buildah;
mod cache_containerd;
mod cache_docker;
mod cache_podman;
mod cache_restart;
mod cache_settings;
mod cache_skopeo;
mod cache_upstreams;
mod cache_warm_up;
mod command_line;
mod containerd;
mod disk;
mod docker;
mod docker_registry;
mod formats;
mod full_disk;
mod garage;
mod host;
mod image;
mod import;
mod interruption;
mod large;
mod matrix;
mod mirror;
mod oras;
mod page;
mod partial;
mod platforms;
mod podman;
mod private;
mod process;
mod server;
mod signed;
mod skopeo;
mod tls;
mod token_issuer;
mod upstream;
mod wire;

use host::Host;
use image::Layout;

/// What the push and pull matrix needs of a client.
pub(crate) trait Client {
    /// The name that people call it by.
    fn name(&self) -> &'static str;

    /// What the client says its version is.
    fn version(&self) -> String;

    /// Takes the image out of the layout into the client's own store and pushes it from there.
    fn push(&self, image: &Layout, reference: &str);

    /// Pulls with nothing in the local store, unpacks, and returns what the image's own program prints of `path`.
    fn pull_and_read(&self, reference: &str, path: &str) -> String;
}

/// Every client, each on a host of its own.
pub(crate) fn all_clients() -> Vec<Box<dyn Client>> {
    vec![
        Box::new(docker::Docker::start(&[])),
        Box::new(containerd::Containerd::start()),
        Box::new(podman::Podman::on(Host::new())),
        Box::new(buildah::Buildah::on(Host::new())),
        Box::new(skopeo::Skopeo::on(Host::new())),
    ]
}
