//! Upstreams that want to know who asks, and upstreams that are this program too.

use std::path::Path;

use crate::docker::Docker;
use crate::docker_registry::{DockerRegistry, PASSWORD};
use crate::page::{configuration, snippet};
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::token_issuer::TokenIssuer;
use crate::wire::Wire;
use crate::{Client, Host, Layout};

/// The configuration of the page for an upstream with a password, which lies in a folder of the test.
fn with_password(folder: &Path, wire: &Wire) -> String {
    let file = folder.join("password");
    std::fs::write(&file, format!("{PASSWORD}\n")).expect("a file can be written");
    let text = snippet("credentials").replace("/etc/orlop/docker-hub-password", &file.display().to_string());
    configuration(&text, &[("docker.io", wire.address())])
}

/// Docker pulls through the cache, then once more with the upstream away.
fn assert_docker_pulls(server: &Server, registry: DockerRegistry) {
    let pull = || {
        let docker = Docker::start(&[&format!("http://{}", server.address())]);
        docker.run(&["pull", "--quiet", "team/box:1"]);
        let read = docker.run_in_container("team/box:1", &["/bin/busybox", "cat", "/etc/hello"]);
        assert_eq!(read, "for anna alone");
    };
    pull();
    drop(registry);
    pull();
}

#[test]
fn docker_pulls_through_the_cache_what_a_password_opens() {
    let store = DockerRegistry::store_with(&Layout::of("for anna alone"), "team/box:1");
    let settings = DockerRegistry::with_passwords(store.path());
    let registry = DockerRegistry::start_with(store.path(), &settings);
    let wire = Wire::to(registry.address());
    let server = Server::start_configured(&with_password(store.path(), &wire), &[]);
    assert_docker_pulls(&server, registry);
    assert!(wire.requests().iter().any(|request| request.header("authorization").is_some()));
    assert!(!server.log().contains(PASSWORD), "{}", server.log());
}

#[test]
fn docker_pulls_through_the_cache_what_a_token_opens() {
    let store = DockerRegistry::store_with(&Layout::of("for anna alone"), "team/box:1");
    let issuer = TokenIssuer::start();
    let registry = DockerRegistry::start_with(store.path(), &issuer.settings());
    let wire = Wire::to(registry.address());
    let server = Server::start_configured(&with_password(store.path(), &wire), &[]);
    assert_docker_pulls(&server, registry);
    assert_eq!(issuer.asked(), 1, "one token for all of the image");
    let bearers = wire
        .requests()
        .iter()
        .filter(|request| request.header("authorization").is_some_and(|value| value.starts_with("Bearer ")))
        .count();
    assert!(bearers > 0);
}

#[test]
fn what_credentials_open_is_for_nobody_unless_the_upstream_is_public() {
    let store = DockerRegistry::store_with(&Layout::of("for anna alone"), "team/box:1");
    let settings = DockerRegistry::with_passwords(store.path());
    let registry = DockerRegistry::start_with(store.path(), &settings);
    let wire = Wire::to(registry.address());
    let private = with_password(store.path(), &wire).replace("public = true", "public = false");
    let server = Server::start_configured(&private, &[]);
    assert!(server.log().contains("public"), "the start says so: {}", server.log());
    let refusal = Docker::start(&[]).fail_to_pull(&server.image("docker.io/team/box:1"));
    assert!(refusal.contains("the registry's own credentials for docker.io"), "{refusal}");
    assert!(wire.requests().is_empty(), "{:#?}", wire.requests());
}

#[test]
fn a_cache_of_a_cache_serves_while_both_upstreams_are_away() {
    let layout = Layout::of("from afar");
    let store = DockerRegistry::store_with(&layout, "library/box:1");
    let hub = DockerRegistry::start_at(store.path());
    let far = Server::start_configured(&configuration("", &[("docker.io", hub.address())]), &[]);
    let near = Server::start_configured(&configuration("", &[("docker.io", far.address())]), &[]);
    let pull = || {
        let skopeo = Skopeo::on(Host::new());
        assert_eq!(skopeo.pull_and_read(&near.image("library/box:1"), "/etc/hello"), "from afar");
        assert_eq!(skopeo.digest(&near.image("docker.io/library/box:1")), layout.digest());
    };
    pull();
    drop((hub, far));
    pull();
}

#[test]
fn a_registry_at_a_port_is_cached_under_a_name_without_a_colon() {
    let layout = Layout::of("at a port");
    let store = DockerRegistry::store_with(&layout, "box:1");
    let registry = DockerRegistry::start_at(store.path());
    let settings = configuration("", &[("registry.example.org:5000", registry.address())]);
    let server = Server::start_configured(&settings, &[]);
    let skopeo = Skopeo::on(Host::new());
    let reference = server.image("registry.example.org_5000/box:1");
    assert_eq!(skopeo.pull_and_read(&reference, "/etc/hello"), "at a port");
}
