//! Users with passwords, and what rules let them do, with clients that log in.

use std::process::Command;

use crate::containerd::Containerd;
use crate::docker::Docker;
use crate::podman::Podman;
use crate::process::{self, Daemon, run_to_failure};
use crate::server::Server;
use crate::skopeo::Skopeo;
use crate::{Client, Host, Layout};

/// The rules of docs/access.md, with users whose passwords are their names.
fn start() -> (tempfile::TempDir, Server) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/access.md");
    let page = std::fs::read_to_string(path).expect("the page is there");
    let block = page.split("```toml\n").nth(1).expect("it has a configuration");
    let rules = block.split("```").next().expect("it ends");
    let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
    let users = folder.path().join("users");
    let line = |user: &str| format!("{user}:{}\n", bcrypt::hash(user, 4).expect("a password can be hashed"));
    std::fs::write(&users, ["anna", "bo"].map(line).concat()).expect("a file can be written");
    assert!(rules.contains("/etc/orlop/users"), "{rules}");
    let server =
        Server::start_configured(&rules.replace("/etc/orlop/users", &users.display().to_string()), &[]);
    (folder, server)
}

/// Starts a server on every address of a network of its own, which has none, and returns what it says first.
fn listen_everywhere(configuration: &str, arguments: &[&str]) -> String {
    let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
    let file = folder.path().join("orlop.toml");
    std::fs::write(&file, configuration).expect("a file can be written");
    let mut command = Command::new(process::find("unshare"));
    command.args(["--net", "--", env!("CARGO_BIN_EXE_orlop"), "serve", "--listen", "0.0.0.0:5000"]);
    command.arg("--data").arg(folder.path().join("data")).arg("--config").arg(&file).args(arguments);
    let (mut daemon, _) = Daemon::start("orlop", &command, "insecure-registries");
    assert!(daemon.terminate().success());
    daemon.log()
}

#[test]
fn a_server_is_reached_from_elsewhere_where_users_rules_or_its_operator_say_by_whom() {
    let open = "Anybody who reaches this address can push and delete.";
    assert!(listen_everywhere("", &["--insecure-open"]).contains(open));
    assert!(listen_everywhere("access.insecure_open = true", &[]).contains(open));
    let rule = "[[rule]]\nrepositories = [\"**\"]\nwho = [\"anonymous\"]\nactions = [\"pull\"]\n";
    assert!(!listen_everywhere(rule, &[]).contains(open));
    let folder = tempfile::TempDir::new().expect("a temporary folder can be made");
    let users = folder.path().join("users");
    std::fs::write(&users, "").expect("a file can be written");
    let users = format!("access.htpasswd={}", users.display());
    assert!(!listen_everywhere("", &["--set", &users]).contains(open));
}

#[test]
fn docker_logs_in_and_does_what_the_rules_allow() {
    let (_folder, server) = start();
    let docker = Docker::start(&[]);
    let (image, host) = (server.image("team/box:1"), server.address().to_string());
    docker.load(&Layout::of("for the team"), &image);
    let login = |user: &str| docker.run(&["login", &host, "--username", user, "--password", user]);
    let refusal = docker.fail_to_push(&image);
    assert!(refusal.contains("requested access to the resource is denied"), "{refusal}");
    run_to_failure(&mut docker.command(&["login", &host, "--username", "anna", "--password", "bo"]));
    login("anna");
    docker.run(&["push", &image]);
    docker.run(&["rmi", &image]);
    docker.run(&["pull", &image]);
    assert_eq!(docker.run_in_container(&image, &["/bin/busybox", "cat", "/etc/hello"]), "for the team");
    login("bo");
    assert!(docker.fail_to_push(&image).contains("no rule lets you"), "bo may not push");
    docker.fail_to_pull(&image);
}

#[test]
fn skopeo_brings_a_password_and_reads_without_one_what_is_for_everybody() {
    let (_folder, server) = start();
    let skopeo = Skopeo::on(Host::new());
    let to = format!("docker://{}", server.image("public/box:1"));
    skopeo.copy(&Layout::of("for all").oci(), &to, &["--dest-creds", "anna:anna"]);
    assert_eq!(skopeo.pull_and_read(&server.image("public/box:1"), "/etc/hello"), "for all");
    let inspect = ["inspect", "--tls-verify=false", &format!("docker://{}", server.image("team/box:1"))];
    run_to_failure(&mut skopeo.command(&inspect));
}

/// A server on which anna pushes and everybody pulls `public/**`, with what anna has pushed there and to `team/box:1`.
fn start_with_images() -> (tempfile::TempDir, Server) {
    let (folder, server) = start();
    let skopeo = Skopeo::on(Host::new());
    for name in ["public/box:1", "team/box:1"] {
        let to = format!("docker://{}", server.image(name));
        skopeo.copy(&Layout::of("by a token").oci(), &to, &["--dest-creds", "anna:anna"]);
    }
    (folder, server)
}

#[test]
fn docker_pulls_without_a_login_what_is_for_everybody_and_pushes_with_one() {
    let (_folder, server) = start_with_images();
    let docker = Docker::start(&[]);
    let (public, team) = (server.image("public/box:1"), server.image("team/box:1"));
    docker.run(&["pull", &public]);
    assert_eq!(docker.run_in_container(&public, &["/bin/busybox", "cat", "/etc/hello"]), "by a token");
    let refusal = docker.fail_to_pull(&team);
    assert!(refusal.contains("denied") || refusal.contains("unauthorized"), "{refusal}");
    docker.fail_to_push(&public);
    let host = server.address().to_string();
    docker.run(&["login", &host, "--username", "anna", "--password", "anna"]);
    // Docker mounts what it knows from the other repository, by a token for both.
    let other = server.image("team/other:1");
    docker.run(&["tag", &public, &other]);
    docker.run(&["push", &other]);
    docker.run(&["logout", &host]);
    docker.fail_to_pull(&other);
    let log = server.log();
    assert!(log.contains("route=\"get_token\""), "{log}");
}

#[test]
fn podman_and_containerd_pull_without_a_login_what_is_for_everybody_and_push_with_one() {
    let (_folder, server) = start_with_images();
    let host = server.address().to_string();

    let podman = Podman::on(Host::new());
    podman.pull(&server.image("public/box:1"), &[]);
    assert_eq!(podman.read(&server.image("public/box:1"), "/etc/hello"), "by a token");
    run_to_failure(&mut podman.command(&["pull", "--tls-verify=false", &server.image("team/box:1")]));
    let login = ["login", "--tls-verify=false", "--username", "anna", "--password", "anna", &host];
    podman.run(&login);
    let pushed = server.image("team/by-podman:1");
    podman.run(&["tag", &server.image("public/box:1"), &pushed]);
    podman.run(&["push", "--quiet", "--tls-verify=false", &pushed]);

    let containerd = Containerd::start();
    containerd.pull(&server.image("public/box:1"), &[]);
    let pull = ["images", "pull", "--plain-http", "--snapshotter", "native", &pushed];
    run_to_failure(&mut containerd.command(&pull));
    containerd.pull(&pushed, &["--user", "anna:anna"]);
    assert_eq!(containerd.run_in_container(&pushed, &["/bin/busybox", "cat", "/etc/hello"]), "by a token");
    let own = server.image("team/by-containerd:1");
    let push = ["images", "push", "--plain-http", "--user", "anna:anna", &own, &pushed];
    containerd.run(&push);
    let push_alone = ["images", "push", "--plain-http", &server.image("public/none:1"), &pushed];
    run_to_failure(&mut containerd.command(&push_alone));
    let image = format!("docker://{own}");
    let inspect = ["inspect", "--tls-verify=false", "--creds", "anna:anna", &image];
    Skopeo::on(Host::new()).run(&inspect);
}
