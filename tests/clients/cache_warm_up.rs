//! Images that are in the cache before anybody asks for them.

use std::process::Command;
use std::time::Duration;

use crate::docker_registry::DockerRegistry;
use crate::page::{configuration, snippet};
use crate::process::run;
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::{Client, Host, Layout};

/// A registry with the images of the page.
fn upstream(folder: &std::path::Path) -> DockerRegistry {
    let registry = DockerRegistry::start_at(folder);
    Skopeo::on(Host::new()).push(&Layout::of("an app"), &registry.image("team/app:1.2.3"));
    registry
}

#[test]
fn a_command_fetches_an_image_that_is_pulled_when_the_upstream_is_away() {
    let store = DockerRegistry::store_with(&Layout::of("in time"), "library/busybox:1.36");
    let registry = upstream(store.path());
    let upstreams = [("docker.io", registry.address())];
    let server = Server::start_configured(&configuration("cache = [\"docker.io\"]", &upstreams), &[]);
    let line = snippet("pull").replace("/var/lib/orlop", &server.data().display().to_string());
    let mut words = line.split_whitespace();
    assert_eq!(words.next(), Some("orlop"));
    let said = run(Command::new(env!("CARGO_BIN_EXE_orlop")).args(words));
    assert!(said.contains("docker.io/library/busybox:1.36"), "{said}");
    drop(registry);
    let image = server.image("docker.io/library/busybox:1.36");
    assert_eq!(Skopeo::on(Host::new()).pull_and_read(&image, "/etc/hello"), "in time");
}

#[test]
fn the_server_fetches_images_by_the_clock() {
    let store = DockerRegistry::store_with(&Layout::of("in time"), "library/busybox:1.36");
    let registry = upstream(store.path());
    let upstreams = [("docker.io", registry.address()), ("ghcr.io", registry.address())];
    let text = snippet("sync");
    assert!(text.contains("sync_every = \"6h\""), "{text}");
    let text = text.replace("sync_every = \"6h\"", "sync_every = \"500ms\"");
    let server = Server::start_configured(&configuration(&text, &upstreams), &[]);
    let is_here = || {
        std::thread::sleep(Duration::from_millis(200));
        server.log().matches("images are up to date").count() >= 2
    };
    assert!(std::iter::repeat_with(is_here).take(300).any(|is_here| is_here), "{}", server.log());
    drop(registry);
    let skopeo = Skopeo::on(Host::new());
    for (image, says) in [("docker.io/library/busybox:1.36", "in time"), ("ghcr.io/team/app:1.2.3", "an app")]
    {
        assert_eq!(skopeo.pull_and_read(&server.image(image), "/etc/hello"), says);
    }
}
