//! What an operator sets for each upstream: how long tags are believed, how much is kept, what may be pulled.

use std::process::Command;

use reqwest::blocking::Response;

use crate::docker_registry::DockerRegistry;
use crate::image::Compression;
use crate::image::random_bytes;
use crate::page::{configuration, snippet};
use crate::process::{run, run_to_failure};
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::wire::Wire;
use crate::{Client, Host, Layout};

fn get(server: &Server, path: &str) -> Response {
    reqwest::blocking::get(server.url(path)).expect("the server answers")
}

#[test]
fn tags_are_believed_as_long_as_the_operator_says() {
    let old = Layout::of("old");
    let store = DockerRegistry::store_with(&old, "team/box:1");
    let registry = DockerRegistry::start_at(store.path());
    let wires = [(); 3].map(|()| Wire::to(registry.address()));
    let upstreams = [("docker.io", 0), ("ghcr.io", 1), ("quay.io", 2)];
    let upstreams = upstreams.map(|(host, wire)| (host, wires[wire].address()));
    let server = Server::start_configured(&configuration(&snippet("fresh"), &upstreams), &[]);
    let skopeo = Skopeo::on(Host::new());
    let image = |host: &str| server.image(&format!("{host}/team/box:1"));
    for host in ["docker.io", "ghcr.io"] {
        assert_eq!(skopeo.pull_and_read(&image(host), "/etc/hello"), "old");
    }
    let offline = get(&server, "quay.io/team/box/manifests/1");
    assert_eq!((offline.status().as_u16(), wires[2].requests().len()), (404, 0), "nobody is asked");

    let asked = wires[0].requests().len();
    let new = Layout::of("new");
    skopeo.push(&new, &registry.image("team/box:1"));
    assert_eq!(skopeo.digest(&image("docker.io")), old.digest(), "it is believed for an hour");
    assert_eq!(wires[0].requests().len(), asked, "and nobody is asked");
    assert_eq!(skopeo.pull_and_read(&image("ghcr.io"), "/etc/hello"), "new");
    assert_eq!(skopeo.digest(&image("ghcr.io")), new.digest());

    drop((registry, wires));
    let fresh = get(&server, "docker.io/team/box/manifests/1");
    assert!(fresh.status().is_success() && !fresh.headers().contains_key("warning"), "{fresh:?}");
    let stale = get(&server, "ghcr.io/team/box/manifests/1");
    assert!(stale.status().is_success(), "{stale:?}");
    let warning = stale.headers()["warning"].to_str().expect("it is text").to_owned();
    assert!(warning.starts_with("299 ") && warning.contains("cached copy"), "{warning}");
    assert_eq!(skopeo.pull_and_read(&image("ghcr.io"), "/etc/hello"), "new");

    let line = snippet("status").replace("/var/lib/orlop", &server.data().display().to_string());
    let status = run(Command::new(env!("CARGO_BIN_EXE_orlop")).args(line.split_whitespace().skip(1)));
    for (host, state) in [("docker.io", "ok"), ("ghcr.io", "left alone"), ("quay.io", "offline")] {
        let row = status.lines().find(|line| line.starts_with(host)).expect("every upstream has a row");
        assert!(row.contains(state), "{status}");
    }
}

#[test]
fn what_may_not_be_pulled_is_refused_and_what_is_too_large_is_passed_on() {
    let small = Layout::of("a team's");
    let store = DockerRegistry::store_with(&small, "team/app:1");
    let registry = DockerRegistry::start_at(store.path());
    let skopeo = Skopeo::on(Host::new());
    for name in ["team/nightly:1", "other/app:1"] {
        skopeo.push(&small, &registry.image(name));
    }
    let large = vec![("etc/hello", b"large".to_vec()), ("large", random_bytes(8 << 20))];
    skopeo.push(&Layout::with_layers(Compression::Gzip, &[large]), &registry.image("team/large:1"));
    let wire = Wire::to(registry.address());
    let settings = snippet("size");
    assert!(settings.contains("max_size = \"100 GiB\""), "{settings}");
    let settings = settings.replace("max_size = \"100 GiB\"", "max_size = \"4 MiB\"");
    let upstreams = [("docker.io", wire.address()), ("ghcr.io", registry.address())];
    let server = Server::start_configured(&configuration(&settings, &upstreams), &[]);

    assert_eq!(skopeo.pull_and_read(&server.image("ghcr.io/team/app:1"), "/etc/hello"), "a team's");
    for name in ["ghcr.io/team/nightly:1", "ghcr.io/other/app:1"] {
        let inspect = ["inspect", "--tls-verify=false", &format!("docker://{}", server.image(name))];
        let refusal = run_to_failure(&mut skopeo.command(&inspect));
        assert!(refusal.contains("the operator's `allow` and `deny`"), "{refusal}");
    }

    let image = server.image("docker.io/team/large:1");
    assert_eq!(skopeo.pull_and_read(&image, "/etc/hello"), "large");
    let once = wire.downloaded();
    assert_eq!(skopeo.pull_and_read(&image, "/etc/hello"), "large");
    assert!(wire.downloaded() - once > 8 << 20, "it was not kept, and came again");
}
