//! `/v2/`, and what holds for every end-point.

use reqwest::Method;

use crate::support::{Server, sha256};

#[test]
fn row_1_get_v2_says_that_the_api_is_there() {
    let server = Server::start();
    server.get("/v2/").send().expect(200);
    server.head("/v2/").send().expect(200);
}

#[test]
fn s2_1_v2_names_its_api_version() {
    let server = Server::start();
    server.get("/v2/").send().expect(200).expect_header("docker-distribution-api-version", "registry/2.0");
}

#[test]
fn s2_1_v2_needs_no_slash() {
    let server = Server::start();
    let reply = server.get("/v2").send().expect_one_of(&[200, 301]);
    if reply.status == 301 {
        assert_eq!(reply.location(), "/v2/");
    }
}

#[test]
fn s1_3_the_ns_parameter_of_a_proxying_client_is_accepted() {
    let server = Server::start();
    let image = server.push_image("library/app", "v1", 1);
    let digest = image.digest();
    server.get("/v2/?ns=docker.io").send().expect(200);
    server.get("/v2/library/app/manifests/v1?ns=docker.io").send().expect(200).expect_body(&image.bytes);
    server.head(&format!("/v2/library/app/manifests/{digest}?ns=docker.io")).send().expect(200);
    server.get("/v2/library/app/tags/list?ns=docker.io").send().expect(200);
}

#[test]
fn s1_8_reserved_names_are_no_repositories() {
    let server = Server::start();
    for path in [
        "/v2/_oci/ext/discover",
        "/v2/a/_oci/ext/discover",
        "/v2/_docker/x",
        "/v2/_chainguard/x",
        "/v2/_oci/tags/list",
        "/v2/_catalog/manifests/latest",
    ] {
        server.get(path).send().expect_one_of(&[400, 404]);
    }
}

#[test]
fn unknown_paths_are_404_in_the_envelope() {
    let server = Server::start();
    for path in [
        "/v2/a",
        "/v2/a/b",
        "/v2/a/blobs",
        "/v2/a/manifests",
        "/v2/a/tags",
        "/v2/a/tags/lists",
        "/v2/a/referrers",
    ] {
        server.get(path).send().expect(404);
    }
    for path in ["/v1/", "/v3/"] {
        assert_eq!(
            server
                .raw(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
                .status,
            404
        );
    }
}

#[test]
fn other_methods_are_405_and_say_which_are_allowed() {
    let server = Server::start();
    let digest = format!("sha256:{}", "0".repeat(64));
    for (method, path, allowed) in [
        (Method::POST, "/v2/".to_owned(), "GET"),
        (Method::POST, "/v2/a/tags/list".to_owned(), "GET"),
        (Method::PUT, "/v2/_catalog".to_owned(), "GET"),
        (Method::POST, "/v2/a/manifests/latest".to_owned(), "PUT"),
        (Method::PUT, format!("/v2/a/blobs/{digest}"), "DELETE"),
        (Method::PATCH, "/v2/a/blobs/uploads/".to_owned(), "POST"),
        (Method::DELETE, format!("/v2/a/referrers/{digest}"), "GET"),
    ] {
        let reply = server.request(method, &path).send().expect_error(405, "UNSUPPORTED");
        assert!(reply.values("allow").contains(&allowed.to_owned()), "{reply:?}");
    }
}

#[test]
fn s2_4_no_answer_is_ever_encoded() {
    let server = Server::start();
    let body = vec![b'a'; 100_000];
    let digest = server.push_blob("a", &body);
    server.push_image("a", "v1", 1);
    for path in [
        format!("/v2/a/blobs/{digest}"),
        "/v2/a/manifests/v1".to_owned(),
        "/v2/a/tags/list".to_owned(),
        "/v2/_catalog".to_owned(),
        "/v2/a/manifests/none".to_owned(),
    ] {
        // The client asserts for every reply that there is no Content-Encoding; here it asks for one.
        server.get(&path).header("accept-encoding", "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5").send();
    }
    server
        .get(&format!("/v2/a/blobs/{digest}"))
        .header("accept-encoding", "gzip")
        .send()
        .expect(200)
        .expect_header("content-length", body.len())
        .expect_body(&body);
}

#[test]
fn s1_3_head_answers_as_get_without_the_body() {
    let server = Server::start();
    let image = server.push_image("a", "v1", 1);
    for path in [
        "/v2/".to_owned(),
        "/v2/_catalog".to_owned(),
        "/v2/a/tags/list".to_owned(),
        "/v2/a/manifests/v1".to_owned(),
        format!("/v2/a/referrers/{}", image.digest()),
    ] {
        let get = server.get(&path).send().expect(200);
        server
            .head(&path)
            .send()
            .expect(200)
            .expect_header("content-length", get.body.len())
            .expect_header("content-type", get.header("content-type"));
    }
}

#[test]
fn s2_2_a_client_may_wait_for_100_continue() {
    use std::io::{Read, Write};

    let server = Server::start();
    let bytes = b"waited for";
    let digest = sha256(bytes);
    let mut stream = server.connect();
    write!(
        stream,
        "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        bytes.len()
    )
    .unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(bytes).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    server.get(&format!("/v2/a/blobs/{digest}")).send().expect(200).expect_body(bytes);
}

#[test]
fn a_request_that_a_proxy_wrote_in_absolute_form_is_served() {
    let server = Server::start();
    let request =
        "GET http://registry.example/v2/ HTTP/1.1\r\nHost: registry.example\r\nConnection: close\r\n\r\n";
    assert_eq!(server.raw(request.as_bytes()).status, 200);
}

#[test]
fn health_and_metrics_are_outside_of_the_api() {
    let server = Server::start();
    for path in ["/livez", "/readyz", "/metrics"] {
        server.get(path).send().expect(200);
    }
}

#[test]
fn the_server_ends_by_itself_when_it_is_told_to_and_keeps_everything() {
    let mut server = Server::start();
    let image = server.push_image("a", "v1", 1);
    server.stop();
    server.run_again();
    server.get("/v2/a/manifests/v1").send().expect(200).expect_body(&image.bytes);
}

#[test]
fn everything_acknowledged_survives_a_crash() {
    let mut server = Server::start();
    let image = server.push_image("a", "v1", 1);
    server.kill();
    server.run_again();
    server.get("/v2/a/manifests/v1").send().expect(200).expect_body(&image.bytes);
}
