//! podman, with this program as the mirror of the registries that it knows.

use crate::docker_registry::DockerRegistry;
use crate::page::{configuration, snippet, snippet_for};
use crate::podman::Podman;
use crate::process::run_to_failure;
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::{Client, Host, Layout};

/// podman with nothing in its store, and the settings of the page.
fn podman_of(server: &Server) -> Podman {
    let host = Host::new();
    host.use_registries(&snippet_for(server.address(), "podman"));
    Podman::on(host)
}

/// Pulls with no option that says how to reach the registry.
fn pull(podman: &Podman, image: &str) {
    let policy = podman.host().path("policy.json").display().to_string();
    podman.run(&["pull", "--quiet", "--signature-policy", &policy, image]);
}

#[test]
fn podman_runs_what_its_mirror_has_cached_while_the_registries_are_away() {
    let store = DockerRegistry::store_with(&Layout::of("from the hub"), "library/box:1");
    let hub = DockerRegistry::start_at(store.path());
    Skopeo::on(Host::new()).push(&Layout::of("from GitHub"), &hub.image("team/box:1"));
    let settings =
        configuration(&snippet("several"), &[("docker.io", hub.address()), ("ghcr.io", hub.address())]);
    let server = Server::start_configured(&settings, &[]);
    let pull_all = || {
        let podman = podman_of(&server);
        for (image, hello) in [("box:1", "from the hub"), ("ghcr.io/team/box:1", "from GitHub")] {
            pull(&podman, image);
            assert_eq!(podman.read(image, "/etc/hello"), hello);
        }
    };
    pull_all();
    drop(hub);
    pull_all();
}

#[test]
fn podman_pushes_its_own_images_beside_the_cache_and_none_into_it() {
    let store = DockerRegistry::store_with(&Layout::of("from the hub"), "library/box:1");
    let hub = DockerRegistry::start_at(store.path());
    let server = Server::start_configured(&configuration("", &[("docker.io", hub.address())]), &[]);
    let podman = podman_of(&server);
    pull(&podman, "docker.io/library/box:1");
    // Its layers lie in the cache, and are pushed to a name of one's own all the same.
    for own in [server.image("mine:1"), server.image("team/mine:1")] {
        podman.run(&["tag", "docker.io/library/box:1", &own]);
        podman.run(&["push", "--quiet", &own]);
        let fresh = podman_of(&server);
        pull(&fresh, &own);
        assert_eq!(fresh.read(&own, "/etc/hello"), "from the hub");
    }

    let into = server.image("docker.io/library/mine:1");
    podman.run(&["tag", "docker.io/library/box:1", &into]);
    let refusal = run_to_failure(&mut podman.command(&["push", &into]));
    assert!(refusal.contains("docker.io/library/mine caches docker.io and takes no pushes"), "{refusal}");

    drop(hub);
    let own = server.image("late/mine:1");
    podman.run(&["tag", "docker.io/library/box:1", &own]);
    podman.run(&["push", "--quiet", &own]);
}
