//! TLS: a certificate that pebble gives by ACME, and clients that trust one authority only.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::docker::Docker;
use crate::podman::Podman;
use crate::process::{Daemon, find, run, run_to_failure};
use crate::skopeo::Skopeo;
use crate::{Host, Layout};

/// The name that the certificate is for.
const NAME: &str = "registry.test";

fn vector(name: &str) -> String {
    format!("{}/tests/vectors/tls/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port is free")
}

/// Starts a server with these settings and waits for a line.
fn serve(folder: &Path, address: SocketAddr, settings: &[(&str, &str)], ready: &str) -> Daemon {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    command.args(["serve", "--listen", &address.to_string(), "--data"]).arg(folder.join("data"));
    command.env("NO_PROXY", "127.0.0.1,localhost");
    for (key, value) in settings {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    Daemon::start("orlop", &command, ready).0
}

#[test]
fn pebble_gives_a_certificate_to_who_answers_at_its_name() {
    let folder = TempDir::with_prefix("orlop-acme-").expect("a temporary folder can be made");
    let (server, authority, management, dns) = (free(), free(), free(), free());
    let mut names = Command::new(find("pebble-challtestsrv"));
    names.args([
        "-defaultIPv6",
        "",
        "-http01",
        "",
        "-https01",
        "",
        "-tlsalpn01",
        "",
        "-management",
        &free().to_string(),
    ]);
    names.args(["-defaultIPv4", "127.0.0.1", "-dns01", &dns.to_string()]);
    let (_names, _) = Daemon::start("pebble-challtestsrv", &names, "Starting management server");
    let settings = serde_json::json!({"pebble": {
        "listenAddress": authority.to_string(), "managementListenAddress": management.to_string(),
        "certificate": vector("leaf.pem"), "privateKey": vector("key.pem"),
        "httpPort": 1, "tlsPort": server.port(), "ocspResponderURL": "", "externalAccountBindingRequired": false,
    }});
    let file = folder.path().join("pebble.json");
    std::fs::write(&file, settings.to_string()).expect("a file can be written");
    let mut pebble = Command::new(find("pebble"));
    pebble.args(["-strict", "-dnsserver", &dns.to_string(), "-config"]).arg(&file);
    // It waits some seconds before it looks otherwise. It does look.
    pebble.env("PEBBLE_VA_NOSLEEP", "1");
    let (pebble, _) = Daemon::start("pebble", &pebble, "ACME directory available");

    let directory = format!("https://{authority}/dir");
    let settings = [
        ("tls.acme", "true"),
        ("tls.domains", NAME),
        ("tls.acme_contact", "admin@example.org"),
        ("tls.acme_directory", &directory),
        ("tls.acme_root", &vector("root.pem")),
    ];
    let mut first = serve(folder.path(), server, &settings, "there is a new certificate");
    let root = folder.path().join("root.pem");
    let mut fetch = Command::new(find("curl"));
    fetch.args(["--silent", "--noproxy", "*", "--cacert", &vector("root.pem")]);
    let text = run(fetch.arg(format!("https://{management}/roots/0")));
    std::fs::write(&root, text).expect("a file can be written");
    let ask = || {
        let mut ask = Command::new(find("curl"));
        ask.args(["--silent", "--fail", "--noproxy", "*", "--cacert"]).arg(&root);
        ask.args(["--resolve", &format!("{NAME}:{}:127.0.0.1", server.port())]);
        run(ask.arg(format!("https://{NAME}:{}/v2/", server.port())))
    };
    assert_eq!(ask(), "{}");
    for name in ["certificate.pem", "account.json"] {
        let metadata = std::fs::metadata(folder.path().join("data/acme").join(name)).expect("it is kept");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert!(!first.log().contains("PRIVATE KEY"));
    assert!(first.terminate().success());

    // What is kept is served after the next start, whether or not the authority is there.
    drop(pebble);
    let mut second = serve(folder.path(), server, &settings, "Listening on https://");
    assert_eq!(ask(), "{}");
    assert!(second.terminate().success());
}

#[test]
fn clients_push_and_pull_over_tls_and_trust_its_authority_only() {
    let folder = TempDir::with_prefix("orlop-tls-").expect("a temporary folder can be made");
    let (server, trusted) = (free(), folder.path().join("trusted"));
    std::fs::create_dir(&trusted).expect("a folder can be made");
    std::fs::copy(vector("root.pem"), trusted.join("ca.crt")).expect("a file can be copied");
    let trusted = trusted.display().to_string();
    let pair = [("tls.certificate", &*vector("leaf.pem")), ("tls.key", &*vector("key.pem"))];
    for http2 in ["false", "true"] {
        let settings = [&pair[..], &[("tls.http2", http2)]].concat();
        let mut daemon = serve(folder.path(), server, &settings, "Listening on https://");
        let image = format!("{server}/team/box:{http2}");
        let layout = Layout::of("over TLS");

        let (skopeo, host) = (Skopeo::on(Host::new()), Host::new());
        let remote = format!("docker://{image}");
        let copy = ["copy", "--quiet", "--preserve-digests", &*layout.oci(), &remote];
        run_to_failure(&mut skopeo.command(&copy));
        skopeo.run(&[&copy[..], &["--dest-cert-dir", &trusted]].concat());
        let pulled = format!("dir:{}", host.path("pulled").display());
        skopeo.run(&["copy", "--quiet", "--src-cert-dir", &trusted, &remote, &pulled]);

        let podman = Podman::on(Host::new());
        run_to_failure(&mut podman.command(&["pull", "--quiet", &image]));
        podman.run(&["pull", "--quiet", "--cert-dir", &trusted, &image]);
        assert_eq!(podman.read(&image, "/etc/hello"), "over TLS");
        podman.run(&["push", "--quiet", "--cert-dir", &trusted, &image, &format!("{image}-podman")]);

        // Docker doesn't check whom it speaks with on this machine; the server speaks nothing but TLS all the same.
        let docker = Docker::start(&[]);
        docker.run(&["pull", "--quiet", &image]);
        assert_eq!(docker.run_in_container(&image, &["/bin/busybox", "cat", "/etc/hello"]), "over TLS");
        docker.run(&["tag", &image, &format!("{image}-docker")]);
        docker.run(&["push", "--quiet", &format!("{image}-docker")]);
        assert!(daemon.terminate().success());
    }
}
