//! The registry behind other servers: whom it believes, and the path that it may lie under.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use support::{Server, image, sha256};

/// Asks with these headers, and waits for the log to say who that was.
#[track_caller]
fn is_logged_as(server: &Server, headers: &[(&str, &str)], remote: &str) {
    let id = format!("asked-{}", headers.iter().map(|(_, value)| value.len()).sum::<usize>());
    let mut request = server.get("/v2/").header("x-request-id", &id).header("user-agent", "test");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.send().expect(200);
    server.wait_for_line(&[&id, &format!("remote={remote}")]);
}

#[test]
fn nobody_speaks_for_others_without_being_trusted() {
    let server = Server::start();
    is_logged_as(&server, &[("x-forwarded-for", "192.0.2.7")], "127.0.0.1:");
    is_logged_as(&server, &[("forwarded", "for=192.0.2.7;proto=https")], "127.0.0.1:");
    assert!(!server.log().contains("192.0.2.7"));
}

#[test]
fn a_trusted_proxy_names_the_client_and_no_client_names_itself() {
    let server = Server::with(&[("proxy.trusted", "127.0.0.0/8,10.0.0.5")]);
    is_logged_as(&server, &[("x-forwarded-for", "192.0.2.7")], "192.0.2.7 ");
    is_logged_as(&server, &[("x-forwarded-for", "6.6.6.6, 192.0.2.8, 10.0.0.5")], "192.0.2.8 ");
    is_logged_as(&server, &[("forwarded", "for=6.6.6.6")], "127.0.0.1:");
    assert!(!server.log().contains("6.6.6.6"));
    let server = Server::with(&[("proxy.trusted", "127.0.0.1"), ("proxy.headers", "forwarded")]);
    is_logged_as(&server, &[("x-forwarded-for", "6.6.6.6")], "127.0.0.1:");
    is_logged_as(&server, &[("forwarded", "for=\"[2001:db8::7]:4711\"")], "2001:db8::7 ");
}

#[test]
fn who_guesses_through_a_proxy_holds_up_nobody_else_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users");
    std::fs::write(&users, format!("anna:{}\n", bcrypt::hash("sesame", 4).unwrap())).unwrap();
    let users = users.to_str().unwrap();
    let server = Server::with(&[("access.htpasswd", users), ("proxy.trusted", "127.0.0.1")]);
    let login = |client: &str, password: &str| {
        let basic = format!("Basic {}", STANDARD.encode(format!("anna:{password}")));
        let request = server.get("/v2/").header("x-forwarded-for", client);
        request.header("authorization", &basic).send()
    };
    for _ in 0..10 {
        login("192.0.2.66", "guessed").expect_error(401, "UNAUTHORIZED");
    }
    login("192.0.2.66", "sesame").expect_error(429, "TOOMANYREQUESTS").header("retry-after");
    login("192.0.2.66, 10.0.0.9", "sesame").expect(200);
}

#[test]
fn below_a_path_everything_is_answered_with_it_and_without() {
    let url = "https://registry.example/depot/images";
    let server = Server::with(&[("external_url", url)]);
    let config = b"{\"of\":\"path\"}";
    let digest = sha256(config);
    for prefix in ["", "/depot/images"] {
        server.get(&format!("{prefix}/v2/")).send().expect(200);
        server.get(&format!("{prefix}/livez")).send().expect(200);
        server.get(&format!("{prefix}/readyz")).send().expect(200);
        server.get(&format!("{prefix}/metrics")).send().expect(200);
        let started = server.post(&format!("{prefix}/v2/team/a/blobs/uploads/")).body(b"").send().expect(202);
        let location = started.location();
        let path = location.strip_prefix(url).unwrap_or_else(|| panic!("{location}")).to_owned();
        let target = format!("{prefix}{path}?digest={digest}");
        let created = server.put(&target).body(config).send().expect(201);
        assert_eq!(created.location(), format!("{url}/v2/team/a/blobs/{digest}"));
        let image = image(config, &[], &json!({}));
        for tag in ["1", "2"] {
            let put = server.put(&format!("{prefix}/v2/team/a/manifests/{tag}"));
            put.header("content-type", &image.media_type).body(&image.bytes).send().expect(201);
        }
        let tags = server.get(&format!("{prefix}/v2/team/a/tags/list?n=1")).send().expect(200);
        assert_eq!(tags.next().unwrap(), format!("{url}/v2/team/a/tags/list?n=1&last=1"));
        server.get(&format!("{prefix}/nothing")).send().expect_error(404, "UNSUPPORTED");
    }
    for beside in ["/depot/v2/", "/depot/imagesv2/", "/depot/images/depot/images/v2/", "/depot/images2/v2/"] {
        server.get(beside).send().expect_error(404, "UNSUPPORTED");
    }
}
