//! Each client pulls what each client pushed.

use crate::process::say;
use crate::server::Server;
use crate::{Layout, all_clients, docker};

#[test]
fn every_client_pulls_what_every_client_pushed() {
    let server = Server::start();
    let clients = all_clients();
    let mut rows = Vec::new();
    for pusher in &clients {
        let hello = format!("pushed by {}", pusher.name());
        let reference = server.image(&format!("matrix/from-{}:1", pusher.name()));
        pusher.push(&Layout::of(&hello), &reference);
        let mut row = vec![format!("{:<24}", format!("{} {}", pusher.name(), pusher.version()))];
        for puller in &clients {
            let read = puller.pull_and_read(&reference, "/etc/hello");
            assert_eq!(read, hello, "{} pulls what {} pushed", puller.name(), pusher.name());
            row.push(format!("{:>12}", "whole"));
        }
        rows.push(row.concat());
    }
    let names: Vec<String> = clients.iter().map(|client| format!("{:>12}", client.name())).collect();
    say(&format!("\n{:<24}{}\n{}\n", "pushed by \\ pulled by", names.concat(), rows.join("\n")));
}

#[test]
fn docker_runs_a_container_from_a_pulled_image() {
    let server = Server::start();
    let docker = docker::Docker::start(&[]);
    let reference = server.image("box:1");
    docker.load(&Layout::of("hello"), &reference);
    docker.run(&["push", "--quiet", &reference]);
    docker.run(&["rmi", &reference]);
    docker.run(&["pull", "--quiet", &reference]);
    assert_eq!(docker.run_in_container(&reference, &["/bin/busybox", "echo", "hello"]), "hello");
}

#[test]
fn docker_imports_a_root_file_system_and_tags_it_at_any_depth() {
    let server = Server::start();
    let docker = docker::Docker::start(&[]);
    let layout = Layout::of("imported");
    let manifest = layout.manifest();
    let busybox = layout.blob(manifest["layers"][0]["digest"].as_str().expect("a layer has a digest"));
    let deep = server.image("a/b/c/d/e/box:imported");
    docker.run(&["import", &busybox.display().to_string(), &deep]);
    docker.run(&["push", "--quiet", &deep]);
    docker.run(&["tag", &deep, &server.image("box:second")]);
    docker.run(&["push", "--quiet", "--all-tags", &server.image("box")]);
    docker.forget_images();
    docker.run(&["pull", "--quiet", "--all-tags", &server.image("a/b/c/d/e/box")]);
    assert_eq!(docker.run_in_container(&deep, &["/bin/busybox", "echo", "deep"]), "deep");
    let missing = docker.fail_to_pull(&server.image("box:missing"));
    assert!(missing.contains("not found") || missing.contains("unknown"), "{missing}");
}
