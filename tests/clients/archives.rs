//! Archives that Docker, podman and skopeo write come in, those that are exported go out to them, and a real registry comes whole
//! over HTTP.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::docker::Docker;
use crate::docker_registry::{DockerRegistry, PASSWORD, USER};
use crate::image::{foreign_architecture, native_architecture};
use crate::podman::Podman;
use crate::process::{run, run_verbosely};
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::{Client, Host, Layout};

/// The program with these arguments, about the store of a server.
fn orlop(server: &Server, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    command.args(arguments).arg("--data").arg(server.data());
    command
}

/// What an import that takes everything says.
#[track_caller]
fn imported(server: &Server, arguments: &[&str]) -> Value {
    let said = run(orlop(server, &[&["import"], arguments].concat()).arg("--json"));
    assert_eq!(said.lines().count(), 1, "nothing is skipped: {said}");
    serde_json::from_str(&said).expect("the answer is JSON")
}

#[test]
fn what_docker_podman_and_skopeo_save_comes_in_and_runs() {
    let server = Server::start();
    let (docker, podman, skopeo) = (Docker::start(&[]), Podman::on(Host::new()), Skopeo::on(Host::new()));
    let folder = TempDir::with_prefix("orlop-archives-").expect("a temporary folder can be made");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let image = Layout::of("saved");
    let platforms = Layout::for_architectures(&[native_architecture(), foreign_architecture()]);

    skopeo.copy(
        &image.oci(),
        &format!("oci-archive:{}:by/skopeo:oci", at("skopeo-oci.tar")),
        &["--preserve-digests"],
    );
    skopeo.copy(
        &platforms.oci(),
        &format!("oci:{}:by/skopeo:multi", at("layout")),
        &["--all", "--preserve-digests"],
    );
    skopeo.copy(&image.oci(), &format!("docker-archive:{}:by/skopeo:docker", at("skopeo-docker.tar")), &[]);
    docker.load(&image, "by/docker:1");
    docker.run(&["tag", "by/docker:1", "registry.example.org/by/docker:2"]);
    docker.run(&["save", "--output", &at("docker.tar"), "by/docker:1", "registry.example.org/by/docker:2"]);
    let id = podman.pull(&image.oci(), &[]);
    podman.run(&["tag", &id, "by/podman:1"]);
    podman.run(&[
        "save",
        "--quiet",
        "--format",
        "docker-archive",
        "--output",
        &at("podman-docker.tar"),
        "by/podman:1",
    ]);
    podman.run(&[
        "save",
        "--quiet",
        "--format",
        "oci-archive",
        "--output",
        &at("podman-oci.tar"),
        "by/podman:1",
    ]);

    imported(&server, &["oci", &at("skopeo-oci.tar")]);
    imported(&server, &["oci", &at("layout")]);
    imported(&server, &["docker", &at("skopeo-docker.tar")]);
    let first = imported(&server, &["docker", &at("docker.tar")]);
    assert_eq!(first["tags"], 2, "{first}");
    imported(&server, &["docker", &at("podman-docker.tar")]);
    imported(&server, &["oci", &at("podman-oci.tar"), "--as", "by/podman:oci"]);
    // A layout of skopeo's in which the name is a tag only.
    imported(&server, &["oci", &image.folder().display().to_string(), "--as", "by/hand"]);

    assert_eq!(skopeo.digest(&server.image("by/skopeo:oci")), image.digest());
    assert_eq!(skopeo.digest(&server.image("by/hand:1")), image.digest());
    assert_eq!(skopeo.digest(&server.image("by/skopeo:multi")), platforms.digest());
    skopeo.pull_into(&server.image("by/skopeo:multi"), "multi", &["--all"]);
    // All of these are the same files, so that they are one image here.
    let docker_made = skopeo.digest(&server.image("by/docker:1"));
    for name in ["by/docker:2", "by/skopeo:docker"] {
        assert_eq!(skopeo.digest(&server.image(name)), docker_made, "{name}");
    }
    let again = imported(&server, &["docker", &at("docker.tar")]);
    assert_eq!((&again["manifests"], &again["blobs"]), (&0.into(), &0.into()), "{again}");
    for name in
        ["by/skopeo:oci", "by/skopeo:docker", "by/docker:2", "by/podman:1", "by/podman:oci", "by/hand:1"]
    {
        assert_eq!(docker.pull_and_read(&server.image(name), "/etc/hello"), "saved", "{name}");
    }
    assert_eq!(podman.pull_and_read(&server.image("by/docker:1"), "/etc/hello"), "saved");
}

#[test]
fn what_is_exported_is_read_by_docker_podman_and_skopeo() {
    let (server, other) = (Server::start(), Server::start());
    let (docker, podman, skopeo) = (Docker::start(&[]), Podman::on(Host::new()), Skopeo::on(Host::new()));
    let folder = TempDir::with_prefix("orlop-exports-").expect("a temporary folder can be made");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let image = Layout::of("exported");
    let platforms = Layout::for_architectures(&[native_architecture(), foreign_architecture()]);
    skopeo.push(&image, &server.image("team/app:1"));
    let multi = format!("docker://{}", server.image("team/multi:1"));
    skopeo.copy(&platforms.oci(), &multi, &["--all", "--preserve-digests"]);
    let export = |arguments: &[&str]| run(&mut orlop(&server, &[&["export"], arguments].concat()));

    // By a pipe, as people do it.
    let archive = std::fs::File::create(folder.path().join("docker.tar")).expect("a file can be made");
    let mut piped = orlop(&server, &["export", "docker", "-", "team/app:1", "team/multi:1"]);
    assert!(piped.stdout(archive).status().expect("the program starts").success());
    let loaded = run_verbosely(&mut docker.command(&["load", "--input", &at("docker.tar")]));
    for name in ["team/app:1", "team/multi:1"] {
        assert!(loaded.contains(name), "{loaded}");
    }
    assert_eq!(docker.run_in_container("team/app:1", &["/bin/busybox", "cat", "/etc/hello"]), "exported");
    assert_eq!(podman.read(&loaded_by(&podman, &at("docker.tar")), "/etc/hello"), "exported");
    skopeo.copy(
        &format!("docker-archive:{}:team/app:1", at("docker.tar")),
        &format!("dir:{}", at("dir")),
        &[],
    );

    export(&["oci", &at("layout"), "team/app", "team/multi"]);
    export(&["oci", &at("layout.tar"), "team/app", "team/multi"]);
    for (from, name) in [("oci:", "layout"), ("oci-archive:", "layout.tar")] {
        for (image, digest) in [("team/app:1", image.digest()), ("team/multi:1", platforms.digest())] {
            let to = other.image(&format!("{name}/{image}"));
            let from = format!("{from}{}:{image}", at(name));
            skopeo.copy(&from, &format!("docker://{to}"), &["--all", "--preserve-digests"]);
            assert_eq!(skopeo.digest(&to), digest, "{from}");
        }
    }
    export(&["oci", &at("one.tar"), "team/app:1"]);
    let fresh = Podman::on(Host::new());
    assert_eq!(fresh.read(&loaded_by(&fresh, &at("one.tar")), "/etc/hello"), "exported");
}

/// Has podman load an archive, and returns what it calls `team/app:1`, which has no host.
fn loaded_by(podman: &Podman, archive: &str) -> String {
    podman.run(&["load", "--quiet", "--input", archive]);
    let names = podman.run(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let name = names.lines().find(|name| name.ends_with("/team/app:1"));
    name.unwrap_or_else(|| panic!("there is no team/app:1 in {names}")).to_owned()
}

#[test]
fn a_docker_registry_with_passwords_comes_whole_and_then_nothing_is_fetched() {
    let folder = TempDir::with_prefix("docker-registry-").expect("a temporary folder can be made");
    let on = |key| (key, "true".to_owned());
    let mut settings = DockerRegistry::with_passwords(folder.path());
    settings.extend([on("REGISTRY_STORAGE_DELETE_ENABLED"), on("REGISTRY_COMPATIBILITY_SCHEMA1_ENABLED")]);
    let registry = DockerRegistry::start_with(folder.path(), &settings);
    let (skopeo, docker, server) = (Skopeo::on(Host::new()), Docker::start(&[]), Server::start());
    let who = format!("{USER}:{PASSWORD}");
    let (first, second) = (Layout::of("first"), Layout::of("second"));
    let platforms = Layout::for_architectures(&[native_architecture(), foreign_architecture()]);
    let push = |image: &Layout, name: &str, options: &[&str]| {
        let to = format!("docker://{}", registry.image(name));
        skopeo.copy(&image.oci(), &to, &[&["--dest-creds", &who], options].concat());
    };
    for (image, name) in
        [(&first, "team/app:1"), (&second, "team/app:latest"), (&second, "box:1"), (&first, "box:gone")]
    {
        push(image, name, &["--preserve-digests"]);
    }
    push(&platforms, "team/app/multi:1", &["--all", "--preserve-digests"]);
    push(&first, "old/app:1", &["--format", "v2s1"]);
    let gone = format!("docker://{}", registry.image("box:gone"));
    skopeo.run(&["delete", "--tls-verify=false", "--creds", &who, &gone]);

    let login = folder.path().join("login");
    std::fs::write(&login, format!("{who}\n")).expect("a file can be written");
    let url = registry.url();
    let arguments = ["registry", &url, "--login", login.to_str().expect("a path of text")];
    let refused = orlop(&server, &["import", "registry", &url]).output().expect("the program starts");
    assert_eq!(refused.status.code(), Some(1));
    let whole = imported(&server, &arguments);
    assert_eq!((&whole["repositories"], &whole["tags"]), (&4.into(), &5.into()), "{whole}");
    for (name, digest) in [
        ("team/app:1", first.digest()),
        ("team/app:latest", second.digest()),
        ("box:1", second.digest()),
        ("team/app/multi:1", platforms.digest()),
    ] {
        assert_eq!(skopeo.digest(&server.image(name)), digest, "{name}");
    }
    let old = format!("docker://{}", registry.image("old/app:1"));
    let inspect =
        ["inspect", "--no-tags", "--format", "{{.Digest}}", "--tls-verify=false", "--creds", &who, &old];
    assert_eq!(skopeo.digest(&server.image("old/app:1")), skopeo.run(&inspect));
    skopeo.pull_into(&server.image("team/app/multi:1"), "multi", &["--all"]);
    for (name, hello) in [("team/app:1", "first"), ("box:1", "second")] {
        assert_eq!(docker.pull_and_read(&server.image(name), "/etc/hello"), hello, "{name}");
    }
    let again = imported(&server, &arguments);
    for what in ["manifests", "tags", "blobs", "bytes", "linkedBlobs"] {
        assert_eq!(again[what], 0, "{what}: {again}");
    }
    // With what `docker login` keeps.
    let config = Path::new(folder.path()).join("config.json");
    let encoded = run(Command::new("sh").args(["-c", "printf %s \"$1\" | base64 -w0", "sh", &who]));
    let json = serde_json::json!({"auths": {registry.address().to_string(): {"auth": encoded}}});
    std::fs::write(&config, json.to_string()).expect("a file can be written");
    let below = [
        "registry",
        &url,
        "--login",
        config.to_str().expect("a path of text"),
        "--below",
        "old",
        "--repository",
        "box",
    ];
    assert_eq!(imported(&server, &below)["linkedBlobs"], 4);
}
