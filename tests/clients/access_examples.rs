//! The set-ups of `docs/access-examples.md`, with Docker.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::Layout;
use crate::docker::Docker;
use crate::page::snippet_of;
use crate::process::{Daemon, find, run, run_to_failure};
use crate::server::Server;

/// What the page calls the registry.
const REGISTRY: &str = "registry.lan:5000";
/// What it calls the file of users.
const USERS: &str = "/etc/orlop/users";

fn snippet(name: &str) -> String {
    snippet_of("access-examples.md", name)
}

fn folder() -> TempDir {
    TempDir::new().expect("a temporary folder can be made")
}

/// Runs a snippet of a shell, in which `orlop` is the program, the file of users is this one, and the registry that server.
fn shell(snippet: &str, users: &Path, server: Option<&Server>, input: &str) -> String {
    let address = server.map_or_else(String::new, |server| server.address().to_string());
    let text = snippet.replace(USERS, &users.display().to_string()).replace(REGISTRY, &address);
    let programs = folder();
    let program = Path::new(env!("CARGO_BIN_EXE_orlop"));
    std::os::unix::fs::symlink(program, programs.path().join("orlop")).expect("a link can be made");
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("sh");
    command
        .args(["-ec", &format!("printf '%s' \"$INPUT\" | {{ {text}\n}}")])
        .env("PATH", path)
        .env("INPUT", input);
    if let Some(server) = server {
        command.env("ORLOP_DATA", server.data());
    }
    run(&mut command)
}

/// Runs the `docker` commands of a snippet.
fn docker_does(docker: &Docker, server: &Server, snippet: &str, password: &str) {
    let text = snippet.replace(REGISTRY, &server.address().to_string());
    for line in text.lines() {
        let words: Vec<&str> =
            line.split_once("docker ").expect("a line is a command").1.split(' ').collect();
        let words: Vec<&str> = words.into_iter().filter(|word| *word != "--password-stdin").collect();
        let login = ["--password", password];
        let is_login = words[0] == "login";
        let arguments = [&words[..], if is_login { &login[..] } else { &[] }].concat();
        docker.run(&arguments);
    }
}

fn private_image(docker: &Docker, server: &Server) -> String {
    let image = server.image("team/app:v1");
    docker.load(&Layout::of("for the team"), &image);
    image
}

/// A server with a configuration of the page, on a port of its own.
fn configured(name: &str, users: &Path) -> Server {
    let text = snippet(name);
    assert!(text.contains("listen = \"0.0.0.0:5000\""), "{text}");
    Server::start_configured(&text.replace(USERS, &users.display().to_string()), &[])
}

#[test]
fn an_open_registry_takes_everything_of_everybody() {
    let line = snippet("open-serve");
    let arguments: Vec<&str> = line.trim().split(' ').skip(2).collect();
    assert_eq!(arguments[..2], ["--listen", "0.0.0.0:5000"]);
    let server = Server::start_configured("", &arguments[2..]);
    let settings = snippet("open-docker").replace(REGISTRY, &server.address().to_string());
    let settings: Value = serde_json::from_str(&settings).expect("it is JSON");
    let docker = Docker::start_with(&settings, &[]);
    let image = private_image(&docker, &server);
    docker.run(&["push", &image]);
    docker.run(&["rmi", &image]);
    docker.run(&["pull", &image]);
}

#[test]
fn a_private_registry_is_for_its_users() {
    let folder = folder();
    let users = folder.path().join("users");
    shell(&snippet("private-user"), &users, None, "sesame\n");
    let server = configured("private", &users);
    let docker = Docker::start(&[]);
    let image = private_image(&docker, &server);
    docker.fail_to_push(&image);
    run_to_failure(&mut docker.command(&[
        "login",
        &server.address().to_string(),
        "-u",
        "anna",
        "-p",
        "wrong",
    ]));
    docker_does(&docker, &server, &snippet("private-docker"), "sesame");
    docker.run(&["logout", &server.address().to_string()]);
    docker.run(&["rmi", &image]);
    docker.fail_to_pull(&image);
}

#[test]
fn everybody_pulls_and_users_push() {
    let folder = folder();
    let users = folder.path().join("users");
    shell(&snippet("private-user"), &users, None, "sesame\n");
    let server = configured("anonymous-pull", &users);
    let docker = Docker::start(&[]);
    let image = private_image(&docker, &server);
    docker.fail_to_push(&image);
    docker_does(&docker, &server, &snippet("private-docker"), "sesame");
    docker.run(&["logout", &server.address().to_string()]);
    docker.run(&["rmi", &image]);
    docker.run(&["pull", &image]);
    docker.fail_to_push(&image);
}

/// Runs the page's nginx in front of a server, at an address of its own.
fn nginx(server: &Server, folder: &Path) -> (Daemon, String) {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = address.expect("a port is free").to_string();
    let snippet = snippet_of("access.md", "nginx");
    assert!(snippet.contains("127.0.0.1:18080") && snippet.contains("127.0.0.1:5000"), "{snippet}");
    let text = snippet.replace("127.0.0.1:18080", &address);
    let text = text.replace("127.0.0.1:5000", &server.address().to_string());
    let at = folder.display();
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"));
    let text = format!(
        "daemon off; master_process off; pid {at}/nginx.pid; error_log stderr notice;\nevents {{}}\nhttp {{\naccess_log off;\n\
         {}{text}\n}}\n",
        paths.concat()
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, text).expect("a file can be written");
    let mut command = Command::new(find("nginx"));
    command.arg("-p").arg(folder).arg("-c").arg(file);
    (Daemon::start("nginx", &command, "event method").0, address)
}

#[test]
fn nginx_stands_in_front() {
    let folder = folder();
    let users = folder.path().join("users");
    shell(&snippet("private-user"), &users, None, "sesame\n");
    let text = snippet("private").replace(USERS, &users.display().to_string());
    let server = Server::start_configured(&format!("{text}\n{}", snippet_of("access.md", "proxy")), &[]);
    let (_nginx, address) = nginx(&server, folder.path());
    let reply = reqwest::blocking::get(format!("http://{address}/v2/")).expect("nginx answers");
    let challenge = reply.headers()["www-authenticate"].to_str().expect("it is text").to_owned();
    assert!(challenge.contains(&format!("realm=\"http://{address}/v2/")), "{challenge}");
    let docker = Docker::start(&[]);
    let image = format!("{address}/team/app:v1");
    docker.load(&Layout::of("by nginx"), &image);
    docker.fail_to_push(&image);
    docker.run(&["login", &address, "-u", "anna", "-p", "sesame"]);
    docker.run(&["push", &image]);
    docker.run(&["rmi", &image]);
    docker.run(&["pull", &image]);
    assert_eq!(docker.run_in_container(&image, &["/bin/busybox", "cat", "/etc/hello"]), "by nginx");
}

#[test]
fn a_robot_pushes_until_its_token_is_revoked() {
    let folder = folder();
    let server = Server::start();
    let made = shell(&snippet("robot-create"), folder.path(), Some(&server), "");
    let secret = made.split_whitespace().find(|word| word.starts_with("orlop_")).expect("a secret is shown");
    let docker = Docker::start(&[]);
    let image = private_image(&docker, &server);
    docker.fail_to_push(&image);
    docker_does(&docker, &server, &snippet("robot-docker"), secret);
    let other = server.image("other/app:v1");
    docker.run(&["tag", &image, &other]);
    docker.fail_to_push(&other);
    shell(&snippet("robot-revoke"), folder.path(), Some(&server), "");
    docker.fail_to_push(&image);
    assert!(!server.log().contains(secret));
}
