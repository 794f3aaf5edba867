//! Docker, with this program as its mirror of Docker Hub and as the registry for its own images.

use serde_json::{Value, json};

use crate::docker::Docker;
use crate::docker_registry::DockerRegistry;
use crate::page::{configuration, snippet, snippet_for};
use crate::server::Server;
use crate::wire::Wire;
use crate::{Client, Host, Layout};

const READ: &[&str] = &["/bin/busybox", "cat", "/etc/hello"];

/// Docker with the settings of the page.
fn docker_of(server: &Server) -> Docker {
    let settings: Value =
        serde_json::from_str(&snippet_for(server.address(), "docker")).expect("the page's settings are JSON");
    Docker::start_with(&settings, &[])
}

/// The arguments of a line of the page, after the program's name.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().skip(1).collect()
}

#[test]
fn docker_runs_what_its_mirror_has_cached_while_docker_hub_is_away() {
    let store = DockerRegistry::store_with(&Layout::of("from the hub"), "library/box:1");
    let hub = DockerRegistry::start_at(store.path());
    crate::skopeo::Skopeo::on(Host::new()).push(&Layout::of("a team's"), &hub.image("team/box:1"));
    let line = snippet("start");
    let line = line.replace("serve --listen 0.0.0.0:5000", "");
    let server = Server::start_configured(&configuration("", &[("docker.io", hub.address())]), &words(&line));
    let images = [("box:1", "from the hub"), ("team/box:1", "a team's")];
    let docker = docker_of(&server);
    for (image, hello) in images {
        docker.run(&["pull", "--quiet", image]);
        assert_eq!(docker.run_in_container(image, READ), hello);
    }

    drop((docker, hub));
    let docker = docker_of(&server);
    for (image, hello) in images {
        docker.run(&["pull", "--quiet", image]);
        assert_eq!(docker.run_in_container(image, READ), hello);
    }
    let explicit = server.image("docker.io/library/box:1");
    docker.run(&["pull", "--quiet", &explicit]);
    assert_eq!(docker.run_in_container(&explicit, READ), "from the hub");
}

#[test]
fn docker_in_a_job_of_its_own_gets_the_cached_tag_while_docker_hub_is_away() {
    let store = DockerRegistry::store_with(&Layout::of("from the hub"), "library/box:1");
    let hub = DockerRegistry::start_at(store.path());
    // Every pull asks whether the tag has moved, so that the second one finds that nobody answers.
    let settings = "[[upstream]]\nhost = \"docker.io\"\nrevalidate_after = \"0s\"\n";
    let server = Server::start_configured(&configuration(settings, &[("docker.io", hub.address())]), &[]);
    let wire = Wire::to(server.address());
    let pull = || {
        let line = snippet_for(wire.address(), "ci");
        let docker = Docker::start_with(&json!({}), &words(&line));
        docker.run(&["pull", "--quiet", "box:1"]);
        assert_eq!(docker.run_in_container("box:1", READ), "from the hub");
    };
    pull();
    drop(hub);
    pull();

    let requests = wire.requests();
    assert!(requests.iter().any(|request| request.line.contains(" /v2/library/box/manifests/1 ")));
    assert!(requests.iter().all(|request| !request.line.contains("ns=")), "{requests:#?}");
    let url = server.url("docker.io/library/box/manifests/1");
    let answer = reqwest::blocking::get(url).expect("the server answers");
    let warning = answer.headers().get("warning").expect("nobody could be asked");
    assert!(warning.to_str().expect("it is text").starts_with("299 - \""), "{warning:?}");
}

#[test]
fn docker_pushes_its_own_images_beside_the_cache_and_none_into_it() {
    let store = DockerRegistry::store_with(&Layout::of("from the hub"), "team/app:1");
    let hub = DockerRegistry::start_at(store.path());
    let server = Server::start_configured(
        &configuration(&snippet("several"), &[("docker.io", hub.address()), ("ghcr.io", hub.address())]),
        &[],
    );
    let docker = docker_of(&server);
    let line = snippet_for(server.address(), "docker-explicit");
    docker.run(&words(&line));
    let cached = server.image("ghcr.io/team/app:1");
    assert_eq!(docker.run_in_container(&cached, READ), "from the hub");

    // The upstream has an image of the same name, layers included.
    let own = Layout::of("my own");
    for line in snippet_for(server.address(), "own").lines() {
        let image = line.rsplit(' ').next().expect("the line ends with an image");
        docker.load(&own, image);
        docker.run(&words(line));
        docker.forget_images();
        docker.run(&["pull", "--quiet", image]);
        assert_eq!(docker.run_in_container(image, READ), "my own");
    }
    docker.run(&["pull", "--quiet", "team/app:1"]);
    assert_eq!(docker.run_in_container("team/app:1", READ), "my own", "own names win at the mirror too");
    let theirs = server.image("docker.io/team/app:1");
    docker.run(&["pull", "--quiet", &theirs]);
    assert_eq!(docker.run_in_container(&theirs, READ), "from the hub");

    docker.run(&["tag", &theirs, &server.image("docker.io/library/app:1")]);
    let refusal = docker.fail_to_push(&server.image("docker.io/library/app:1"));
    assert!(refusal.contains("docker.io/library/app caches docker.io and takes no pushes"), "{refusal}");

    // Own images can be pushed with nobody to ask.
    drop(hub);
    let image = server.image("team/another:1");
    docker.push(&own, &image);
    assert_eq!(docker.pull_and_read(&image, "/etc/hello"), "my own");
}

#[test]
fn what_the_operator_calls_local_is_never_asked_for() {
    let store = DockerRegistry::store_with(&Layout::of("somebody else's"), "team/app:1");
    let hub = DockerRegistry::start_at(store.path());
    let wire = Wire::to(hub.address());
    let settings = configuration(&snippet("local"), &[("docker.io", wire.address())]);
    let server = Server::start_configured(&settings, &[]);
    let docker = docker_of(&server);
    let missing = docker.fail_to_pull(&server.image("team/app:1"));
    assert!(missing.contains("unknown") || missing.contains("not found"), "{missing}");
    assert!(wire.requests().is_empty(), "{:#?}", wire.requests());
}
