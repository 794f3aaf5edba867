//! Names of repositories in URLs.

use crate::support::{Server, sha256};

#[test]
fn s1_1_names_have_any_depth() {
    let server = Server::start();
    for depth in [1, 2, 3, 5, 10, 60, 127] {
        let name = vec!["x"; depth].join("/");
        let image = server.push_image(&name, "v1", 1);
        server.get(&format!("/v2/{name}/manifests/v1")).send().expect(200).expect_body(&image.bytes);
        let list = server.get(&format!("/v2/{name}/tags/list")).send().expect(200);
        assert_eq!(list.json()["name"], name);
    }
}

#[test]
fn s1_1_names_use_the_whole_grammar() {
    let server = Server::start();
    for name in ["a.b", "a_b", "a__b", "a---b", "0", "docker.io/library/busybox", "a.b/c_d/e__f/g-h"] {
        server.push_image(name, "v1", 1);
        server.get(&format!("/v2/{name}/manifests/v1")).send().expect(200);
    }
}

#[test]
fn s1_1_a_name_has_up_to_255_characters() {
    let server = Server::start();
    let longest = "x".repeat(255);
    server.push_image(&longest, "v1", 1);
    let longer = "x".repeat(256);
    server.post(&format!("/v2/{longer}/blobs/uploads/")).body(b"").send().expect_error(400, "NAME_INVALID");
    server.get(&format!("/v2/{longer}/tags/list")).send().expect_error(400, "NAME_INVALID");
}

#[test]
fn s1_1_what_is_no_name_is_refused() {
    let server = Server::start();
    let image = server.push_image("a", "v1", 1);
    for name in ["A", "a/B", "-a", "a-", "a..b", "a___b", "_a", "a%20b", "a%2e%2e", "%C3%A4"] {
        server.get(&format!("/v2/{name}/tags/list")).send().expect_error(400, "NAME_INVALID");
        server.put_manifest(name, "v1", &image).expect_error(400, "NAME_INVALID");
        server.post(&format!("/v2/{name}/blobs/uploads/")).body(b"").send().expect_error(400, "NAME_INVALID");
    }
    assert_eq!(server.get("/v2/_catalog").send().expect(200).strings("repositories"), ["a"]);
}

#[test]
fn words_of_the_api_may_be_parts_of_names() {
    let server = Server::start();
    for name in [
        "blobs",
        "manifests",
        "tags/list",
        "a/blobs",
        "a/manifests/b",
        "blobs/uploads",
        "referrers/tags",
        "v2",
    ] {
        let image = server.push_image(name, "v1", 1);
        server.get(&format!("/v2/{name}/manifests/v1")).send().expect(200).expect_body(&image.bytes);
        assert_eq!(server.get(&format!("/v2/{name}/tags/list")).send().expect(200).strings("tags"), ["v1"]);
        server.get(&format!("/v2/{name}/referrers/{}", image.digest())).send().expect(200);
    }
}

#[test]
fn a_digest_may_be_percent_encoded() {
    let server = Server::start();
    let digest = server.push_blob("a", b"content");
    server
        .get(&format!("/v2/a/blobs/{}", digest.replace(':', "%3A")))
        .send()
        .expect(200)
        .expect_body(b"content");
}

#[test]
fn no_path_leads_out_of_the_registry() {
    let server = Server::start();
    let digest = server.push_blob("a", b"content");
    for path in [
        "/v2/../../../../etc/passwd",
        "/v2/a/../../../etc/passwd",
        "/v2/..%2f..%2fetc/manifests/passwd",
        "/v2/a/blobs/..%2f..%2f..%2fetc%2fpasswd",
        "/v2/a/blobs/uploads/..%2f..%2forlop.redb",
        "/v2/a/blobs/uploads/../../../x",
        "/v2/a/manifests/..",
        "/v2/a/manifests/%00",
        "/v2/%2e%2e/tags/list",
        "/v2//tags/list",
        "/v2/a//tags/list",
        &format!("/v2/a/blobs/sha256:../{digest}"),
    ] {
        let reply =
            server.raw(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes());
        assert!([400, 404].contains(&reply.status), "{path}: {}", reply.head);
        assert!(!reply.body.contains("root:"), "{path}");
    }
}

#[test]
fn names_are_not_folders() {
    let server = Server::start();
    server.push_image("a", "v1", 1);
    let inner = server.push_image("a/b", "v1", 2);
    server.push_image("a/b/c", "v1", 3);
    server.delete(&format!("/v2/a/b/manifests/{}", inner.digest())).send().expect(202);
    server.get("/v2/a/manifests/v1").send().expect(200);
    server.get("/v2/a/b/c/manifests/v1").send().expect(200);
    server.get(&format!("/v2/a/b/blobs/{}", sha256(b"nothing"))).send().expect(404);
}
