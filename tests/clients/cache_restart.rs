//! A server that is killed in the middle of a fetch.

use std::thread;

use crate::docker::Docker;
use crate::docker_registry::DockerRegistry;
use crate::image::{Compression, sha256_of};
use crate::page::configuration;
use crate::process::run;
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::wire::Wire;
use crate::{Host, Layout};

const MIB: u32 = 1 << 20;

/// How much passes at full speed; the rest comes slowly until the server has been killed.
const AT_ONCE: u32 = 128 * MIB;

/// How much more comes before that: enough that what came at once is durable.
const SLOWLY: u32 = 16 * MIB;

#[test]
fn a_fetch_goes_on_where_a_killed_server_left_it_and_docker_gets_all_of_it() {
    // Random bytes do not shrink, so that this is the size of the layer.
    let large = vec![("etc/hello", b"large".to_vec()), ("large", crate::image::random_bytes(192 << 20))];
    let layout = Layout::with_layers(Compression::Gzip, &[large]);
    let store = DockerRegistry::store_with(&layout, "team/large:1");
    let registry = DockerRegistry::start_at(store.path());
    let wire = Wire::to(registry.address());
    let mut server = Server::start_configured(&configuration("", &[("docker.io", wire.address())]), &[]);
    let manifest = layout.manifest();
    let layer = &manifest["layers"][1];
    let digest = layer["digest"].as_str().expect("a layer has a digest").to_owned();
    let size = layer["size"].as_u64().expect("a layer has a size");

    wire.slow_down_after(AT_ONCE);
    let under_way = wire.notice_download_after(AT_ONCE + SLOWLY);
    let docker = Docker::start(&[]);
    let image = server.image("docker.io/team/large:1");
    thread::scope(|scope| {
        // Docker tries again what broke off, from where it was.
        let mut pull = docker.command(&["pull", "--quiet", &image]);
        let pulling = scope.spawn(move || run(&mut pull));
        under_way.recv().expect("the fetch gets that far");
        server.kill_and_restart_there();
        wire.speed_up();
        pulling.join().expect("the pull comes to its end");
    });
    let read = docker.run_in_container(&image, &["/bin/busybox", "cat", "/etc/hello"]);
    assert_eq!(read, "large");

    // With the upstream away, what is cached is the layer, all of it.
    drop(registry);
    let skopeo = Skopeo::on(Host::new());
    let folder = skopeo.pull_into(&image, "pulled", &["--preserve-digests"]);
    assert_eq!(sha256_of(&folder.join(digest.trim_start_matches("sha256:"))), digest);

    let requests = wire.requests();
    let resumed = requests.iter().any(|request| {
        let from = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        request.line.contains(&digest)
            && from.is_some_and(|from| from.parse::<u64>().is_ok_and(|from| from > 0))
    });
    assert!(resumed, "{requests:#?}");
    let downloaded = wire.downloaded();
    let most = size + u64::from(SLOWLY) + (24 << 20);
    assert!(downloaded < most, "{downloaded} bytes came for a layer of {size}");
}
