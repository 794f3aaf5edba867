//! Errors. That each is in the envelope, with a known code and a message, is asserted by the client for every reply.

use serde_json::json;

use crate::support::{Content, IMAGE, Server, image, sha256, with_query};

#[test]
fn s1_8_each_code_has_its_occasion() {
    let server = Server::with(&[("manifests.max_size", "16 KiB"), ("delete.blobs", "false")]);
    let image_there = server.push_image("a", "v1", 1);
    let nothing = sha256(b"nothing");
    let upload = server.begin("a");

    server.get(&format!("/v2/a/blobs/{nothing}")).send().expect_error(404, "BLOB_UNKNOWN");
    server
        .get("/v2/a/blobs/uploads/01890a5d-ac96-774b-bcce-b302099a8057")
        .send()
        .expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    server
        .put(&with_query(&upload, &format!("digest={nothing}")))
        .body(b"x")
        .send()
        .expect_error(400, "DIGEST_INVALID");
    let reply = server.put_manifest("a", "v2", &image(b"missing", &[], &json!({})));
    assert_eq!(reply.error_code(), "MANIFEST_BLOB_UNKNOWN");
    let invalid = Content { bytes: b"{".to_vec(), ..image_there.clone() };
    server.put_manifest("a", "v2", &invalid).expect_error(400, "MANIFEST_INVALID");
    server.get("/v2/a/manifests/v2").send().expect_error(404, "MANIFEST_UNKNOWN");
    server.get("/v2/A/tags/list").send().expect_error(400, "NAME_INVALID");
    server.get("/v2/b/tags/list").send().expect_error(404, "NAME_UNKNOWN");
    server.delete(&format!("/v2/a/blobs/{nothing}")).send().expect_error(405, "UNSUPPORTED");
    let large = Content { bytes: vec![b' '; 20 * 1024], ..image_there };
    let reply = server.put_manifest("a", "v2", &large).expect(413);
    assert!(["SIZE_INVALID", "MANIFEST_INVALID"].contains(&reply.error_code().as_str()), "{reply:?}");
}

#[test]
fn s1_8_too_many_uploads_are_429_with_a_time_to_come_back() {
    let server = Server::with(&[("uploads.max_open", "2")]);
    let begun = || server.patch(&server.begin("a")).body(b"x").send().expect(202).location();
    let first = begun();
    begun();
    let reply = server.post("/v2/a/blobs/uploads/").body(b"").send().expect_error(429, "TOOMANYREQUESTS");
    let seconds: u64 = reply.header("retry-after").parse().unwrap();
    assert!(seconds > 0);
    server.delete(&first).send().expect(204);
    server.begin("a");
}

#[test]
fn an_upload_without_a_byte_makes_room_for_a_new_one() {
    let server = Server::with(&[("uploads.max_open", "2")]);
    let used = server.patch(&server.begin("a")).body(b"x").send().expect(202).location();
    let idle = server.begin("a");
    let new = server.begin("a");
    server.get(&idle).send().expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    server.get(&used).send().expect(204);
    server.get(&new).send().expect(204);
}

#[test]
fn s1_8_a_request_that_is_not_http_is_answered_or_closed() {
    let server = Server::start();
    let reply =
        server.raw(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: nonsense\r\nConnection: close\r\n\r\n");
    assert_eq!(reply.status, 400);
    server.get("/v2/").send().expect(200);
}

#[test]
fn s1_8_errors_of_head_have_a_status_only() {
    let server = Server::start();
    server.push_image("a", "v1", 1);
    for path in [
        format!("/v2/a/blobs/{}", sha256(b"nothing")),
        "/v2/a/manifests/v2".to_owned(),
        "/v2/A/manifests/v2".to_owned(),
    ] {
        server.head(&path).send().expect_one_of(&[404, 400]).expect_body(b"");
    }
}

#[test]
fn a_message_repeats_only_the_beginning_of_what_was_sent() {
    let server = Server::start();
    let long = "x".repeat(20_000);
    for path in
        [format!("/v2/a/blobs/{long}"), format!("/v2/a/manifests/{long}"), format!("/v2/{long}/tags/list")]
    {
        let reply = server.get(&path).send().expect_one_of(&[400, 404, 414]);
        assert!(reply.body.len() < 2_000, "{} bytes", reply.body.len());
    }
}

#[test]
fn an_error_leaves_the_connection_usable() {
    let server = Server::start();
    for _ in 0..3 {
        server.put("/v2/a/manifests/v1").header("content-type", IMAGE).body(b"{").send().expect(400);
        server.get("/v2/").send().expect(200);
    }
}
