//! Pushes of blobs in chunks with `Content-Range`.

use crate::support::{Reply, Server, noise, sha256, with_query};

fn chunk(server: &Server, location: &str, range: &str, bytes: &[u8]) -> Reply {
    server.patch(location).header("content-range", range).body(bytes).send()
}

#[test]
fn row_5_chunks_in_order() {
    let server = Server::start();
    let bytes = noise(1, 300);
    let location = server.begin("a");
    let reply = chunk(&server, &location, "0-99", &bytes[..100]).expect(202).expect_header("range", "0-99");
    let reply = chunk(&server, &reply.location(), "100-199", &bytes[100..200])
        .expect(202)
        .expect_header("range", "0-199");
    let reply = chunk(&server, &reply.location(), "200-299", &bytes[200..])
        .expect(202)
        .expect_header("range", "0-299");
    let put = with_query(&reply.location(), &format!("digest={}", sha256(&bytes)));
    server.put(&put).body(b"").send().expect(201);
    server.get(&format!("/v2/a/blobs/{}", sha256(&bytes))).send().expect(200).expect_body(&bytes);
}

#[test]
fn row_5_an_unknown_upload_is_404() {
    let server = Server::start();
    let location = "/v2/a/blobs/uploads/01890a5d-ac96-774b-bcce-b302099a8057";
    chunk(&server, location, "0-0", b"x").expect_error(404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn row_6_put_may_bring_the_last_chunk() {
    let server = Server::start();
    let bytes = noise(2, 150);
    let location = chunk(&server, &server.begin("a"), "0-99", &bytes[..100]).expect(202).location();
    server
        .put(&with_query(&location, &format!("digest={}", sha256(&bytes))))
        .header("content-range", "100-149")
        .body(&bytes[100..])
        .send()
        .expect(201);
    server.get(&format!("/v2/a/blobs/{}", sha256(&bytes))).send().expect(200).expect_body(&bytes);
}

#[test]
fn s1_9_a_chunk_out_of_order_is_416_and_the_upload_goes_on() {
    let server = Server::start();
    let bytes = noise(3, 200);
    let first = server.begin("a");
    chunk(&server, &first, "50-99", &bytes[50..100]).expect(416);
    let location = server.get(&first).send().expect(204).location();
    let location = chunk(&server, &location, "0-99", &bytes[..100]).expect(202).location();

    for range in ["101-200", "0-99", "99-198", "1000-1099"] {
        let wrong = vec![0; 100];
        chunk(&server, &location, range, &wrong).expect(416);
        server.get(&location).send().expect(204).expect_header("range", "0-99");
    }
    let location = server.get(&location).send().expect(204).location();
    let location = chunk(&server, &location, "100-199", &bytes[100..]).expect(202).location();
    server.put(&with_query(&location, &format!("digest={}", sha256(&bytes)))).body(b"").send().expect(201);
}

#[test]
fn s1_9_a_closing_put_out_of_order_is_416_and_the_upload_goes_on() {
    let server = Server::start();
    let bytes = noise(4, 150);
    let location = chunk(&server, &server.begin("a"), "0-99", &bytes[..100]).expect(202).location();
    let put = with_query(&location, &format!("digest={}", sha256(&bytes)));
    for range in ["0-49", "50-99", "101-150"] {
        server.put(&put).header("content-range", range).body(&bytes[100..]).send().expect(416);
        // The same URL, query and all, says where the upload stands.
        server.get(&put).send().expect(204).expect_header("range", "0-99");
    }
    server.put(&put).header("content-range", "100-149").body(&bytes[100..]).send().expect(201);
    server.get(&format!("/v2/a/blobs/{}", sha256(&bytes))).send().expect(200).expect_body(&bytes);
}

#[test]
fn s1_4_a_content_range_of_another_form_is_refused() {
    let server = Server::start();
    let location = server.begin("a");
    for range in ["0-", "-4", "a-b", "4-0", "0-99999999999999999999", "", "-", "0..4"] {
        chunk(&server, &location, range, b"hello").expect_one_of(&[400, 416]);
    }
    server.get(&location).send().expect(204).expect_header("range", "0-0");
    chunk(&server, &location, "0-4", b"hello").expect(202).expect_header("range", "0-4");
}

#[test]
fn s1_4_a_chunk_of_another_length_than_its_range_is_refused_and_changes_nothing() {
    let server = Server::start();
    let location = server.begin("a");
    for (range, bytes) in [("0-9", &b"hello"[..]), ("0-1", b"hello"), ("0-0", b"")] {
        let reply = chunk(&server, &location, range, bytes).expect_one_of(&[400, 416]);
        assert_ne!(reply.error_code(), "UNKNOWN", "{reply:?}");
        server.get(&location).send().expect(204).expect_header("range", "0-0");
    }
    // Without a Content-Length the length shows only at the end.
    server.patch(&location).header("content-range", "0-9").stream(b"hello").send().expect_one_of(&[400, 416]);
    server.patch(&location).header("content-range", "0-1").stream(b"hello").send().expect_one_of(&[400, 416]);
    let location = server.get(&location).send().expect(204).location();
    server.delete(&location).send().expect(204);
}

#[test]
fn s1_4_a_chunk_survives_a_crash() {
    let mut server = Server::start();
    let bytes = noise(5, 1_000_000);
    let location = chunk(&server, &server.begin("a"), "0-599999", &bytes[..600_000]).expect(202).location();
    server.kill();
    server.run_again();
    let location = server.get(&location).send().expect(204).expect_header("range", "0-599999").location();
    let location = chunk(&server, &location, "600000-999999", &bytes[600_000..]).expect(202).location();
    server.put(&with_query(&location, &format!("digest={}", sha256(&bytes)))).body(b"").send().expect(201);
    // The state of the hash came through the crash too: nothing was read back.
    let metrics = server.get("/metrics").send().expect(200);
    assert!(String::from_utf8_lossy(&metrics.body).contains("\norlop_upload_rehashed_bytes_total 0\n"));
    server.get(&format!("/v2/a/blobs/{}", sha256(&bytes))).send().expect(200).expect_body(&bytes);
}

#[test]
fn s1_4_the_least_chunk_length_is_announced_when_it_is_configured() {
    let server = Server::with(&[("uploads.chunk_min_length", "64 KiB")]);
    let reply = server.post("/v2/a/blobs/uploads/").body(b"").send().expect(202);
    assert_eq!(reply.header("oci-chunk-min-length"), "65536");
    let plain = Server::start();
    plain.post("/v2/a/blobs/uploads/").body(b"").send().expect(202).expect_no_header("oci-chunk-min-length");
}
