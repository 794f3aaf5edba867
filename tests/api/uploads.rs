//! Pushes of blobs in one piece or as a stream.

use std::io::Write;

use crate::support::{Server, noise, sha256, sha512, upload_files, with_query};

const UPLOADS: &str = "/v2/a/blobs/uploads/";

#[test]
fn row_4a_post_begins_an_upload() {
    let server = Server::start();
    let reply = server.post(UPLOADS).body(b"").send().expect(202);
    let location = reply.location();
    assert!(location.starts_with(UPLOADS) && location.len() > UPLOADS.len(), "{location}");
    assert_ne!(location, server.begin("a"), "every session has its own id");
}

#[test]
fn row_4a_a_name_that_is_none_is_refused() {
    let server = Server::start();
    server.post("/v2/UPPER/blobs/uploads/").body(b"").send().expect_one_of(&[400, 404]);
}

#[test]
fn s2_3_replies_about_an_upload_name_it_and_its_range() {
    let server = Server::start();
    let reply = server.post(UPLOADS).body(b"").send().expect(202).expect_header("range", "0-0");
    let id = reply.header("docker-upload-uuid").to_owned();
    assert!(reply.location().contains(&id));
    let patched =
        server.patch(&reply.location()).stream(b"12345").send().expect(202).expect_header("range", "0-4");
    assert_eq!(patched.header("docker-upload-uuid"), id);
    server.delete(&patched.location()).send().expect(204);
}

#[test]
fn row_4b_single_post_with_digest() {
    let server = Server::start();
    let bytes = noise(1, 100_000);
    let digest = sha256(&bytes);
    let reply = server.post(&format!("{UPLOADS}?digest={digest}")).body(&bytes).send().expect(201);
    assert_eq!(reply.header("docker-content-digest"), digest);
    server.get(&reply.location()).send().expect(200).expect_body(&bytes);
    assert_eq!(upload_files(&server), [""; 0]);
}

#[test]
fn row_4c_the_digest_algorithm_may_be_announced() {
    let server = Server::start();
    let bytes = noise(2, 100_000);
    for algorithm in ["sha256", "sha512"] {
        let location = server
            .post(&format!("{UPLOADS}?digest-algorithm={algorithm}"))
            .body(b"")
            .send()
            .expect(202)
            .location();
        let location = server.patch(&location).stream(&bytes).send().expect(202).location();
        server
            .put(&with_query(&location, &format!("digest={}", sha512(&bytes))))
            .body(b"")
            .send()
            .expect(201);
        server.get(&format!("/v2/a/blobs/{}", sha512(&bytes))).send().expect(200).expect_body(&bytes);
    }
    for algorithm in ["md5", "sha256:", "SHA256"] {
        server
            .post(&format!("{UPLOADS}?digest-algorithm={algorithm}"))
            .body(b"")
            .send()
            .expect_error(400, "DIGEST_INVALID");
    }
}

#[test]
fn row_6_put_ends_an_upload() {
    let server = Server::start();
    let bytes = noise(3, 100_000);
    let digest = sha256(&bytes);
    let location = with_query(&server.begin("a"), &format!("digest={digest}"));
    let reply = server
        .put(&location)
        .header("content-type", "application/octet-stream")
        .body(&bytes)
        .send()
        .expect(201);
    assert_eq!(reply.header("docker-content-digest"), digest);
    assert_eq!(reply.location(), format!("/v2/a/blobs/{digest}"));
    server.get(&reply.location()).send().expect(200).expect_body(&bytes);
    server.put(&location).body(&bytes).send().expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(upload_files(&server), [""; 0]);
}

#[test]
fn row_6_put_needs_a_digest() {
    let server = Server::start();
    let location = server.begin("a");
    server.put(&location).body(b"x").send().expect_error(400, "DIGEST_INVALID");
    server.delete(&location).send();
}

#[test]
fn row_13_get_says_how_far_an_upload_is() {
    let server = Server::start();
    let location = server.begin("a");
    let reply = server.get(&location).send().expect(204).expect_header("range", "0-0");
    assert!(reply.location().contains(reply.header("docker-upload-uuid")));
    let location = server.patch(&reply.location()).stream(&[7; 1000]).send().expect(202).location();
    let location = server.get(&location).send().expect(204).expect_header("range", "0-999").location();
    server.delete(&location).send().expect(204);
    server.get(&location).send().expect_error(404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn row_14_delete_cancels_an_upload() {
    let server = Server::start();
    let bytes = noise(4, 100_000);
    let location = server.patch(&server.begin("a")).stream(&bytes).send().expect(202).location();
    server.delete(&location).send().expect(204);
    server.delete(&location).send().expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    server.patch(&location).stream(b"more").send().expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    server.assert_nothing_of("a", &bytes);
}

#[test]
fn s1_4_docker_streams_one_patch_without_a_range() {
    let server = Server::start();
    let bytes = noise(5, 5_000_000);
    let digest = sha256(&bytes);
    server.head(&format!("/v2/a/blobs/{digest}")).send().expect(404);
    let reply = server.patch(&server.begin("a")).stream(&bytes).send().expect(202);
    assert_eq!(reply.header("range"), format!("0-{}", bytes.len() - 1));
    server.put(&with_query(&reply.location(), &format!("digest={digest}"))).body(b"").send().expect(201);
    server
        .head(&format!("/v2/a/blobs/{digest}"))
        .send()
        .expect(200)
        .expect_header("content-length", bytes.len());
}

#[test]
fn s2_5_podman_sends_the_length_of_its_one_patch() {
    let server = Server::start();
    let bytes = noise(6, 100_000);
    let location = server.patch(&server.begin("a")).body(&bytes).send().expect(202).location();
    let digest = sha256(&bytes);
    server.put(&with_query(&location, &format!("digest={digest}"))).body(b"").send().expect(201);
    server.get(&format!("/v2/a/blobs/{digest}")).send().expect(200).expect_body(&bytes);
}

#[test]
fn s1_4_streams_append_and_put_may_bring_the_rest() {
    let server = Server::start();
    let location = server.patch(&server.begin("a")).stream(b"one ").send().expect(202).location();
    let location =
        server.patch(&location).stream(b"two ").send().expect(202).expect_header("range", "0-7").location();
    let digest = sha256(b"one two three");
    server.put(&with_query(&location, &format!("digest={digest}"))).body(b"three").send().expect(201);
    server.get(&format!("/v2/a/blobs/{digest}")).send().expect(200).expect_body(b"one two three");
}

#[test]
fn s1_4_the_closing_put_may_be_a_stream() {
    let server = Server::start();
    let bytes = noise(7, 300_000);
    let location = with_query(&server.begin("a"), &format!("digest={}", sha256(&bytes)));
    server.put(&location).stream(&bytes).send().expect(201);
    server.get(&format!("/v2/a/blobs/{}", sha256(&bytes))).send().expect(200).expect_body(&bytes);
}

#[test]
fn s1_4_an_empty_blob_may_be_pushed_in_every_style() {
    let digest = sha256(b"");
    for style in 0..4 {
        let server = Server::start();
        match style {
            0 => drop(server.post(&format!("{UPLOADS}?digest={digest}")).body(b"").send().expect(201)),
            1 => drop(
                server
                    .put(&with_query(&server.begin("a"), &format!("digest={digest}")))
                    .body(b"")
                    .send()
                    .expect(201),
            ),
            2 => {
                let location = server.patch(&server.begin("a")).stream(b"").send().expect(202).location();
                server.put(&with_query(&location, &format!("digest={digest}"))).body(b"").send().expect(201);
            }
            _ => {
                let location = server.patch(&server.begin("a")).body(b"").send().expect(202).location();
                server
                    .put(&with_query(&location, &format!("digest={digest}")))
                    .stream(b"")
                    .send()
                    .expect(201);
            }
        }
        server.get(&format!("/v2/a/blobs/{digest}")).send().expect(200).expect_header("content-length", 0);
    }
}

#[test]
fn s1_9_sha512_without_an_announcement() {
    let server = Server::start();
    let bytes = noise(8, 2_500_000);
    let digest = sha512(&bytes);
    let location = server.patch(&server.begin("a")).stream(&bytes[..2_000_000]).send().expect(202).location();
    server
        .put(&with_query(&location, &format!("digest={digest}")))
        .body(&bytes[2_000_000..])
        .send()
        .expect(201);
    server.get(&format!("/v2/a/blobs/{digest}")).send().expect(200).expect_body(&bytes);

    let other = noise(9, 1_000);
    server.post(&format!("{UPLOADS}?digest={}", sha512(&other))).body(&other).send().expect(201);
    server.get(&format!("/v2/a/blobs/{}", sha256(&other))).send().expect(200).expect_body(&other);
}

#[test]
fn s1_9_a_wrong_digest_is_400_in_every_push_style_and_leaves_nothing() {
    let server = Server::start();
    let bytes = noise(10, 200_000);
    for wrong in [sha256(b"other"), sha512(b"other")] {
        let parameter = format!("digest={wrong}");
        server
            .post(&format!("{UPLOADS}?{parameter}"))
            .body(&bytes)
            .send()
            .expect_error(400, "DIGEST_INVALID");
        server
            .post(&format!("{UPLOADS}?{parameter}"))
            .stream(&bytes)
            .send()
            .expect_error(400, "DIGEST_INVALID");
        server
            .put(&with_query(&server.begin("a"), &parameter))
            .body(&bytes)
            .send()
            .expect_error(400, "DIGEST_INVALID");
        server
            .put(&with_query(&server.begin("a"), &parameter))
            .stream(&bytes)
            .send()
            .expect_error(400, "DIGEST_INVALID");

        let streamed = server.patch(&server.begin("a")).stream(&bytes).send().expect(202).location();
        server.put(&with_query(&streamed, &parameter)).body(b"").send().expect_error(400, "DIGEST_INVALID");

        let chunked = server
            .patch(&server.begin("a"))
            .header("content-range", "0-199999")
            .body(&bytes)
            .send()
            .expect(202)
            .location();
        server.put(&with_query(&chunked, &parameter)).body(b"").send().expect_error(400, "DIGEST_INVALID");

        server.assert_nothing_of("a", &bytes);
        server.get(&format!("/v2/a/blobs/{wrong}")).send().expect(404);
    }
}

#[test]
fn s1_4_an_unsupported_or_malformed_digest_is_400() {
    let server = Server::start();
    for digest in ["md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:bad", "nonsense", "sha256:"] {
        server
            .post(&format!("{UPLOADS}?digest={digest}"))
            .body(b"x")
            .send()
            .expect_error(400, "DIGEST_INVALID");
        let location = with_query(&server.begin("a"), &format!("digest={digest}"));
        server.put(&location).body(b"x").send().expect_error(400, "DIGEST_INVALID");
    }
    server.assert_nothing_of("a", b"x");
}

#[test]
fn s1_4_an_unknown_upload_is_404() {
    let server = Server::start();
    server.begin("a");
    let digest = sha256(b"x");
    for id in ["01890a5d-ac96-774b-bcce-b302099a8057", "nonsense", "..%2forlop.redb"] {
        let location = format!("{UPLOADS}{id}");
        let unknown = |reply: crate::support::Reply| {
            let reply = reply.expect(404);
            let expected = if id.contains('%') { "UNSUPPORTED" } else { "BLOB_UPLOAD_UNKNOWN" };
            assert_eq!(reply.error_code(), expected, "{reply:?}");
        };
        unknown(server.get(&location).send());
        unknown(server.patch(&location).stream(b"x").send());
        unknown(server.put(&format!("{location}?digest={digest}")).body(b"x").send());
        unknown(server.delete(&location).send());
    }
    server.assert_nothing_of("a", b"x");
}

#[test]
fn an_upload_belongs_to_its_repository() {
    let server = Server::start();
    let location = server.begin("a");
    let elsewhere = location.replace("/v2/a/", "/v2/b/");
    server.get(&elsewhere).send().expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    server.patch(&elsewhere).stream(b"x").send().expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    server.delete(&elsewhere).send().expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    server.get(&location).send().expect(204);
}

#[test]
fn an_interrupted_body_leaves_nothing_visible_and_the_upload_can_go_on() {
    let server = Server::start();
    let bytes = noise(11, 2_000_000);
    let digest = sha256(&bytes);
    let location = server.begin("a");
    let mut stream = server.connect();
    write!(stream, "PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", bytes.len())
        .unwrap();
    stream.write_all(&bytes[..1_500_000]).unwrap();
    drop(stream);

    server.get(&format!("/v2/a/blobs/{digest}")).send().expect(404);
    server.wait_for_line(&["request", "method=\"PATCH\"", "status=400"]);
    let status = server.get(&location).send().expect(204);
    let last: usize = status.header("range").strip_prefix("0-").unwrap().parse().unwrap();
    let have = if last == 0 { 0 } else { last + 1 };
    assert!(have <= 1_500_000);
    let range = format!("{have}-{}", bytes.len() - 1);
    let location = server
        .patch(&status.location())
        .header("content-range", &range)
        .body(&bytes[have..])
        .send()
        .expect(202)
        .location();
    server.put(&with_query(&location, &format!("digest={digest}"))).body(b"").send().expect(201);
    server.get(&format!("/v2/a/blobs/{digest}")).send().expect(200).expect_body(&bytes);
}

#[test]
fn a_single_push_that_breaks_off_leaves_nothing_visible() {
    let server = Server::start();
    let bytes = noise(12, 1_000_000);
    let digest = sha256(&bytes);
    let put = with_query(&server.begin("a"), &format!("digest={digest}"));
    for (method, target) in [("POST", format!("{UPLOADS}?digest={digest}")), ("PUT", put)] {
        let mut stream = server.connect();
        write!(stream, "{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", bytes.len())
            .unwrap();
        stream.write_all(&bytes[..bytes.len() - 1]).unwrap();
        drop(stream);
        server.get(&format!("/v2/a/blobs/{digest}")).send().expect(404);
        server.head(&format!("/v2/a/blobs/{digest}")).send().expect(404);
        server.wait_for_line(&["request", &format!("method=\"{method}\""), "status=400"]);
    }
    server.get(&format!("/v2/a/blobs/{digest}")).send().expect(404);
    // After either, the whole blob can be pushed as if nothing had been.
    server.push_blob("a", &bytes);
}

#[test]
fn a_single_post_that_breaks_off_leaves_nothing_at_all() {
    let server = Server::start();
    let bytes = noise(16, 1_000_000);
    let mut stream = server.connect();
    let target = format!("{UPLOADS}?digest={}", sha256(&bytes));
    write!(stream, "POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", bytes.len()).unwrap();
    stream.write_all(&bytes[..700_000]).unwrap();
    drop(stream);
    server.wait_for_line(&["request", "method=\"POST\"", "status=400"]);
    server.assert_nothing_of("a", &bytes);
}

#[test]
fn an_upload_that_breaks_off_can_be_cancelled() {
    let server = Server::start();
    let bytes = noise(17, 1_000_000);
    let location = server.begin("a");
    let mut stream = server.connect();
    write!(stream, "PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", bytes.len())
        .unwrap();
    stream.write_all(&bytes[..700_000]).unwrap();
    drop(stream);
    server.wait_for_line(&["request", "method=\"PATCH\"", "status=400"]);
    server.delete(&location).send().expect(204);
    server.assert_nothing_of("a", &bytes);
}

#[test]
fn a_body_in_chunks_that_ends_too_early_is_not_a_body() {
    let server = Server::start();
    let location = with_query(&server.begin("a"), &format!("digest={}", sha256(b"hello")));
    let mut stream = server.connect();
    write!(stream, "PUT {location} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        .unwrap();
    drop(stream);
    server.get(&format!("/v2/a/blobs/{}", sha256(b"hello"))).send().expect(404);
}

#[test]
fn a_push_of_what_is_there_already_is_201_and_stores_it_once() {
    let server = Server::start();
    let bytes = noise(13, 100_000);
    for _ in 0..3 {
        server.push_blob("a", &bytes);
        server.push_blob("b", &bytes);
    }
    server.get(&format!("/v2/b/blobs/{}", sha256(&bytes))).send().expect(200).expect_body(&bytes);
    assert_eq!(upload_files(&server), [""; 0]);
}

#[test]
fn the_same_blob_may_be_pushed_by_many_at_once() {
    let server = Server::start();
    let bytes = noise(14, 500_000);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (server, bytes) = (&server, &bytes);
            scope.spawn(move || server.push_blob(&format!("r{}", n % 3), bytes));
        }
    });
    server.get(&format!("/v2/r0/blobs/{}", sha256(&bytes))).send().expect(200).expect_body(&bytes);
    assert_eq!(upload_files(&server), [""; 0]);
}

#[test]
fn s1_4_an_upload_survives_a_restart() {
    let mut server = Server::start();
    let bytes = noise(15, 1_000_000);
    let location = server.patch(&server.begin("a")).stream(&bytes[..600_000]).send().expect(202).location();
    server.stop();
    server.run_again();
    let location = server.get(&location).send().expect(204).expect_header("range", "0-599999").location();
    let location = server.patch(&location).stream(&bytes[600_000..]).send().expect(202).location();
    server.put(&with_query(&location, &format!("digest={}", sha256(&bytes)))).body(b"").send().expect(201);
    server.get(&format!("/v2/a/blobs/{}", sha256(&bytes))).send().expect(200).expect_body(&bytes);
}

#[test]
fn s1_4_an_abandoned_upload_expires() {
    let mut server = Server::start();
    let bytes = noise(18, 300_000);
    let location = server.patch(&server.begin("a")).stream(&bytes).send().expect(202).location();
    server.stop();
    assert_eq!(upload_files(&server).len(), 1);
    // The time between two runs of the program is longer than this.
    server.set("uploads.expire_after", "1ms");
    server.run_again();
    server.get(&location).send().expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    server.wait_for_line(&["removed abandoned uploads"]);
    server.assert_nothing_of("a", &bytes);
}

#[test]
fn bytes_that_a_crash_left_without_an_upload_are_swept() {
    let mut server = Server::start();
    server.push_blob("a", b"content");
    server.stop();
    let orphan = server.data().join("uploads/01890a5d-ac96-774b-bcce-b302099a8057");
    std::fs::write(&orphan, b"left behind").unwrap();
    server.run_again();
    server.wait_for_line(&["01890a5d-ac96-774b-bcce-b302099a8057", "left behind"]);
    assert!(!orphan.exists());
}

#[test]
fn the_slash_at_the_end_of_uploads_may_be_forgotten() {
    let server = Server::start();
    let location = server.post(UPLOADS.trim_end_matches('/')).body(b"").send().expect(202).location();
    server.delete(&location).send().expect(204);
}

#[test]
fn s2_6_a_content_type_on_post_does_no_harm() {
    let server = Server::start();
    let reply = server.post(UPLOADS).header("content-type", "application/json").body(b"").send().expect(202);
    server.delete(&reply.location()).send().expect(204);
}
