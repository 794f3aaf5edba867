//! skopeo, which names the cached copy itself; and that all clients share one copy.

use serde_json::{Value, json};

use crate::containerd::Containerd;
use crate::docker::Docker;
use crate::docker_registry::DockerRegistry;
use crate::image::{foreign_architecture, native_architecture, sha256_of_bytes};
use crate::page::{configuration, snippet, snippet_for};
use crate::podman::Podman;
use crate::process::run;
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::wire::Wire;
use crate::{Client, Host, Layout};

#[test]
fn skopeo_copies_every_platform_out_of_the_cache_while_the_upstream_is_away() {
    let layout = Layout::for_architectures(&[native_architecture(), foreign_architecture()]);
    let upstream = Server::start();
    let skopeo = Skopeo::on(Host::new());
    let to = format!("docker://{}", upstream.image("team/app:1"));
    skopeo.copy(&layout.oci(), &to, &["--all", "--preserve-digests"]);
    let settings = configuration(&snippet("several"), &[("ghcr.io", upstream.address())]);
    let server = Server::start_configured(&settings, &[]);
    let copy = || {
        let host = Host::new();
        let line = snippet_for(server.address(), "skopeo");
        // Where skopeo starts nobody may write; the image goes to the host's own folder.
        let line = line.replace("oci:app:1", &format!("oci:{}:1", host.path("app").display()));
        let skopeo = Skopeo::on(host);
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        skopeo.run(&words);
        let reference = server.image("ghcr.io/team/app:1");
        assert_eq!(skopeo.raw_manifest(&reference), layout.manifest());
        assert_eq!(skopeo.digest(&reference), layout.digest());
        let folder = skopeo.pull_into(&reference, "all", &["--all", "--preserve-digests"]);
        let blobs = std::fs::read_dir(folder).expect("skopeo made it").count();
        // Two configurations, two first layers that are the same, two second ones; and the manifests, by name.
        assert!(blobs >= 5, "{blobs}");
        let tags = skopeo.run(&[
            "list-tags",
            "--tls-verify=false",
            &format!("docker://{}", server.image("ghcr.io/team/app")),
        ]);
        let tags: Value = serde_json::from_str(&tags).expect("JSON");
        assert_eq!(tags["Tags"], json!(["1"]));
    };
    copy();
    drop(upstream);
    copy();
}

#[test]
fn what_refers_to_a_cached_image_is_found_while_the_upstream_is_away() {
    let upstream = Server::start();
    let image = Layout::of("signed");
    Skopeo::on(Host::new()).push(&image, &upstream.image("team/app:1"));
    let client = reqwest::blocking::Client::new();
    let put = |path: &str, media_type: &str, body: Vec<u8>| {
        let request = client.put(upstream.url(path)).header("content-type", media_type).body(body);
        assert!(request.send().expect("the server answers").status().is_success(), "{path}");
    };
    let empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let started = client.post(upstream.url("team/app/blobs/uploads/")).send().expect("the server answers");
    let location = started.headers()["location"].to_str().expect("it is text").to_owned();
    let separator = if location.contains('?') { '&' } else { '?' };
    let location = location.rsplit("/v2/").next().expect("it is below /v2/");
    put(&format!("{location}{separator}digest={empty}"), "application/octet-stream", b"{}".to_vec());
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let nothing = json!({ "mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2 });
    let size = std::fs::metadata(image.blob(&image.digest())).expect("it is there").len();
    let artifact = json!({
        "schemaVersion": 2, "mediaType": manifest_type, "artifactType": "application/vnd.example.sbom",
        "config": nothing, "layers": [nothing],
        "subject": { "mediaType": manifest_type, "digest": image.digest(), "size": size },
    });
    let artifact = artifact.to_string().into_bytes();
    let digest = sha256_of_bytes(&artifact);
    put(&format!("team/app/manifests/{digest}"), manifest_type, artifact.clone());

    let settings = configuration("", &[("ghcr.io", upstream.address())]);
    let server = Server::start_configured(&settings, &[]);
    let look = || {
        let referrers = server.url(&format!("ghcr.io/team/app/referrers/{}", image.digest()));
        let found: Value = client.get(referrers).send().expect("the server answers").json().expect("JSON");
        assert_eq!(found["manifests"][0]["digest"], digest.as_str(), "{found}");
        assert_eq!(found["manifests"][0]["artifactType"], "application/vnd.example.sbom");
        let url = server.url(&format!("ghcr.io/team/app/manifests/{digest}"));
        let answer = client.get(url).send().expect("the server answers");
        assert_eq!(answer.bytes().expect("all of it comes").as_ref(), artifact);
        // An artifact is copied as an image is.
        let skopeo = Skopeo::on(Host::new());
        let folder = skopeo.pull_into(
            &server.image(&format!("ghcr.io/team/app@{digest}")),
            "artifact",
            &["--preserve-digests"],
        );
        assert_eq!(std::fs::read(folder.join("manifest.json")).expect("skopeo writes it"), artifact);
    };
    look();
    drop(upstream);
    look();
}

#[test]
fn all_clients_share_one_copy_whichever_way_they_ask() {
    let layout = Layout::of("from the hub");
    let store = DockerRegistry::store_with(&layout, "library/box:1");
    let hub = DockerRegistry::start_at(store.path());
    let wire = Wire::to(hub.address());
    let server = Server::start_configured(&configuration("", &[("docker.io", wire.address())]), &[]);
    let mirror = format!("http://{}", server.address());

    let docker = Docker::start(&[&mirror]);
    docker.run(&["pull", "--quiet", "box:1"]);
    assert_eq!(docker.run_in_container("box:1", &["/bin/busybox", "cat", "/etc/hello"]), "from the hub");
    let once = wire.downloaded();
    let blobs = || wire.requests().iter().filter(|request| request.line.contains("/blobs/")).count();
    let blobs_once = blobs();

    let containerd = Containerd::start();
    std::fs::create_dir_all(containerd.host().path("hosts/_default")).expect("a folder can be made");
    let file = snippet_for(server.address(), "containerd-default");
    containerd.host().write("hosts/_default/hosts.toml", &file);
    let hosts = containerd.host().path("hosts").display().to_string();
    let image = "docker.io/library/box:1";
    containerd.run(&["images", "pull", "--hosts-dir", &hosts, "--snapshotter", "native", image]);

    let host = Host::new();
    host.use_registries(&snippet_for(server.address(), "podman"));
    let podman = Podman::on(host);
    podman.pull(image, &[]);
    assert_eq!(podman.read(image, "/etc/hello"), "from the hub");

    let skopeo = Skopeo::on(Host::new());
    for reference in
        [server.image("docker.io/library/box:1"), server.image("library/box:1"), server.image("box:1")]
    {
        assert_eq!(skopeo.pull_and_read(&reference, "/etc/hello"), "from the hub");
        assert_eq!(skopeo.digest(&reference), layout.digest());
    }

    assert_eq!(blobs(), blobs_once, "no blob is asked for twice");
    assert!(wire.downloaded() - once < 4096, "the rest is hits: {} after {once}", wire.downloaded());
    let data =
        run(std::process::Command::new("find").arg(server.data()).args(["-path", "*blobs*", "-type", "f"]));
    let manifest = layout.manifest();
    let layers = manifest["layers"].as_array().expect("an image has layers").len();
    assert_eq!(data.lines().count(), layers + 1, "{data}");
}
