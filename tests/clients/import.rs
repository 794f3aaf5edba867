//! Imports from the directory that a real docker-registry has written, by skopeo's and Docker's pushes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::disk::Disk;
use crate::docker::Docker;
use crate::docker_registry::DockerRegistry;
use crate::image::{foreign_architecture, native_architecture, sha256_of};
use crate::process::{find, run};
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::{Client, Host, Layout};

/// A docker-registry that takes everything and lets content be deleted.
fn docker_registry(folder: &Path) -> DockerRegistry {
    let on = |key| (key, "true".to_owned());
    DockerRegistry::start_with(
        folder,
        &[on("REGISTRY_STORAGE_DELETE_ENABLED"), on("REGISTRY_COMPATIBILITY_SCHEMA1_ENABLED")],
    )
}

/// Mounts every blob of an image into another repository, and puts its manifest there.
fn mount(registry: &DockerRegistry, image: &Layout, from: &str, to: &str, tag: &str) {
    let http = reqwest::blocking::Client::builder().no_proxy().build().expect("a client can be made");
    let manifest = image.manifest();
    let layers = manifest["layers"].as_array().expect("an image has layers");
    for blob in layers.iter().chain([&manifest["config"]]) {
        let digest = blob["digest"].as_str().expect("a digest");
        let url = format!("{}/v2/{to}/blobs/uploads/?mount={digest}&from={from}", registry.url());
        assert_eq!(http.post(url).send().expect("an answer").status(), 201, "{digest} is mounted");
    }
    let put = http.put(format!("{}/v2/{to}/manifests/{tag}", registry.url()));
    let bytes = std::fs::read(image.blob(&image.digest())).expect("a blob of the layout");
    let put = put.header("content-type", manifest["mediaType"].as_str().expect("a type")).body(bytes);
    assert_eq!(put.send().expect("an answer").status(), 201);
}

fn import(data: &Path, store: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    command.args(["import", "distribution", "--json"]).arg(store).arg("--data").arg(data);
    command
}

/// What an import that takes everything says.
fn imported(data: &Path, store: &Path) -> Value {
    let said = run(&mut import(data, store));
    assert_eq!(said.lines().count(), 1, "nothing is skipped: {said}");
    serde_json::from_str(&said).expect("the answer is JSON")
}

fn blobs_in(data: &Path) -> usize {
    let list = |path: &Path| {
        let entries = std::fs::read_dir(path).into_iter().flatten();
        entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect::<Vec<_>>()
    };
    list(&data.join("blobs/sha256")).iter().map(|prefix| list(prefix).len()).sum()
}

#[test]
fn every_image_of_a_docker_registry_pulls_with_the_same_digest_after_an_import() {
    let folder = TempDir::with_prefix("docker-registry-").expect("a temporary folder can be made");
    let store = folder.path().join("store");
    let registry = docker_registry(folder.path());
    let (skopeo, docker) = (Skopeo::on(Host::new()), Docker::start(&[]));
    let (first, second) = (Layout::of("first"), Layout::of("second"));
    let platforms = Layout::for_architectures(&[native_architecture(), foreign_architecture()]);
    for (image, name) in
        [(&first, "team/app:1"), (&first, "team/app:latest"), (&second, "team/app:latest"), (&second, "box")]
    {
        skopeo.push(image, &registry.image(name));
    }
    let multi = format!("docker://{}", registry.image("team/app/multi:1"));
    skopeo.copy(&platforms.oci(), &multi, &["--all", "--preserve-digests"]);
    let schema1 = format!("docker://{}", registry.image("old/app:1"));
    skopeo.copy(&first.oci(), &schema1, &["--format", "v2s1"]);
    docker.push(&first, &registry.image("by/docker:1"));
    mount(&registry, &first, "team/app", "mounted/app", "1");
    let gone = Layout::of("gone");
    skopeo.push(&gone, &registry.image("team/app:gone"));
    skopeo.run(&["delete", "--tls-verify=false", &format!("docker://{}", registry.image("team/app:gone"))]);

    let names = [
        "team/app:1",
        "team/app:latest",
        "box:latest",
        "team/app/multi:1",
        "old/app:1",
        "by/docker:1",
        "mounted/app:1",
    ];
    let digests: BTreeMap<&str, String> =
        names.iter().map(|name| (*name, skopeo.digest(&registry.image(name)))).collect();
    drop(registry);

    let server = Server::start();
    // One that is killed in its midst, by itself, and then the whole beside a server.
    let alone = TempDir::with_prefix("orlop-alone-").expect("a temporary folder can be made");
    let mut killed = import(alone.path(), &store).stdout(Stdio::null()).spawn().expect("the program starts");
    while blobs_in(alone.path()) == 0 && killed.try_wait().expect("it can be asked").is_none() {
        std::thread::yield_now();
    }
    let _ = killed.kill();
    killed.wait().expect("it ends");
    let before = blobs_in(alone.path()) as u64;
    let after = imported(alone.path(), &store);
    assert!(after["blobs"].as_u64().expect("a number") + before >= blobs_in(alone.path()) as u64);
    let whole = imported(server.data(), &store);
    assert_eq!(blobs_in(server.data()), blobs_in(alone.path()));
    assert_eq!(whole["repositories"], 6, "{whole}");
    assert_eq!(whole["tags"], 7, "{whole}");

    for server in [&server, &Server::start_at(alone.path(), &[])] {
        for (at, (name, digest)) in digests.iter().enumerate() {
            let image = server.image(name);
            assert_eq!(&skopeo.digest(&image), digest, "{name}");
            let options = if name.contains("multi") { &["--all"][..] } else { &[] };
            let port = server.address().port();
            skopeo.pull_into(&image, &format!("pulled-{port}-{at}"), options);
        }
        let tags = skopeo.run(&[
            "list-tags",
            "--tls-verify=false",
            &format!("docker://{}", server.image("team/app")),
        ]);
        let tags: Value = serde_json::from_str(&tags).expect("a list is JSON");
        assert_eq!(tags["Tags"], serde_json::json!(["1", "latest"]), "the deleted image stays deleted");
    }
    for (name, hello) in [("team/app:1", "first"), ("team/app:latest", "second"), ("by/docker:1", "first")] {
        assert_eq!(docker.pull_and_read(&server.image(name), "/etc/hello"), hello, "{name}");
    }
    // What the garbage collector of docker-registry leaves behind is whole too.
    let config = folder.path().join("config.yml");
    run(Command::new(find("docker-registry"))
        .arg("garbage-collect")
        .arg(&config)
        .env("OTEL_TRACES_EXPORTER", "none"));
    let collected = TempDir::with_prefix("orlop-collected-").expect("a temporary folder can be made");
    imported(collected.path(), &store);
    let again = imported(server.data(), &store);
    for what in ["manifests", "tags", "blobs", "linkedBlobs", "signatures"] {
        assert_eq!(again[what], 0, "{what}: {again}");
    }
}

#[test]
fn an_import_from_a_registry_that_serves_is_gone_on_with_after_it_was_stopped() {
    let folder = TempDir::with_prefix("docker-registry-").expect("a temporary folder can be made");
    let store = folder.path().join("store");
    let registry = docker_registry(folder.path());
    let (skopeo, server) = (Skopeo::on(Host::new()), Server::start());
    let names = ["team/app:1", "team/app:latest", "team/app:2"];
    let (first, second) = (Layout::of("first"), Layout::of("second"));
    for name in &names[..2] {
        skopeo.push(&first, &registry.image(name));
    }
    let begun = imported(server.data(), &store);
    assert_eq!((&begun["tags"], &begun["manifests"]), (&2.into(), &1.into()), "{begun}");

    // One tag moves, and one is new.
    for name in &names[1..] {
        skopeo.push(&second, &registry.image(name));
    }
    let digests = names.map(|name| skopeo.digest(&registry.image(name)));
    drop(registry);
    let rest = imported(server.data(), &store);
    assert_eq!((&rest["tags"], &rest["knownTags"]), (&2.into(), &1.into()), "{rest}");
    assert_eq!((&rest["manifests"], &rest["blobs"]), (&1.into(), &3.into()), "both have busybox: {rest}");
    assert_eq!(names.map(|name| skopeo.digest(&server.image(name))), digests);
    for (name, hello) in names.iter().zip(["first", "second", "second"]) {
        assert_eq!(skopeo.pull_and_read(&server.image(name), "/etc/hello"), hello, "{name}");
    }
}

#[test]
fn where_files_can_share_blocks_an_import_copies_nothing() {
    const LAYER: u64 = 64 << 20;
    let disk = Disk::xfs(512);
    let skopeo = Skopeo::on(Host::new());
    let image = Layout::with_large_layer(LAYER);
    let digest = {
        let registry = docker_registry(&disk.path());
        skopeo.push(&image, &registry.image("team/large:1"));
        skopeo.digest(&registry.image("team/large:1"))
    };
    let server = Server::start_at(&disk.path().join("data"), &[]);
    let before = disk.available();
    let report = imported(server.data(), &disk.path().join("store"));
    let took = before.saturating_sub(disk.available());
    assert_eq!((&report["blobs"], &report["copiedBytes"]), (&2.into(), &0.into()), "{report}");
    assert!(report["bytes"].as_u64() > Some(LAYER), "{report}");
    assert!(took < LAYER / 4, "{took} bytes for a layer of 64 MiB that is there already");
    let imported = server.image("team/large:1");
    assert_eq!(skopeo.digest(&imported), digest);
    let layer = image.manifest()["layers"][0]["digest"].as_str().expect("a layer has a digest").to_owned();
    let pulled = skopeo.pull_into(&imported, "pulled", &["--preserve-digests"]);
    assert_eq!(sha256_of(&pulled.join(layer.trim_start_matches("sha256:"))), layer);
}
