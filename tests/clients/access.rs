//! Users with passwords, and what rules let them do, with clients that log in.

use crate::docker::Docker;
use crate::process::run_to_failure;
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

#[test]
fn docker_logs_in_and_does_what_the_rules_allow() {
    let (_folder, server) = start();
    let docker = Docker::start(&[]);
    let (image, host) = (server.image("team/box:1"), server.address().to_string());
    docker.load(&Layout::of("for the team"), &image);
    let login = |user: &str| docker.run(&["login", &host, "--username", user, "--password", user]);
    let refusal = docker.fail_to_push(&image);
    assert!(refusal.contains("no basic auth credentials"), "{refusal}");
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
