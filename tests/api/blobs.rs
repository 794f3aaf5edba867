//! GET and HEAD of blobs.

use crate::support::{Server, noise, sha256, sha512, with_query};

#[test]
fn row_2_get_and_head_a_blob() {
    let server = Server::start();
    let bytes = noise(1, 3_000_000);
    let digest = server.push_blob("a", &bytes);
    let path = format!("/v2/a/blobs/{digest}");
    server
        .get(&path)
        .send()
        .expect(200)
        .expect_header("content-length", bytes.len())
        .expect_header("docker-content-digest", &digest)
        .expect_body(&bytes);
    server
        .head(&path)
        .send()
        .expect(200)
        .expect_header("content-length", bytes.len())
        .expect_header("docker-content-digest", &digest);
}

#[test]
fn row_2_an_unknown_blob_is_404() {
    let server = Server::start();
    server.push_blob("a", b"something else");
    for repository in ["a", "never-heard-of"] {
        let path = format!("/v2/{repository}/blobs/{}", sha256(b"nothing"));
        let reply = server.get(&path).send().expect(404);
        assert!(["BLOB_UNKNOWN", "NAME_UNKNOWN"].contains(&reply.error_code().as_str()), "{reply:?}");
        server.head(&path).send().expect(404);
    }
}

#[test]
fn row_2_a_blob_is_visible_only_in_its_repositories() {
    let server = Server::start();
    let digest = server.push_blob("a", b"mine");
    server.push_blob("b", b"yours");
    server.get(&format!("/v2/b/blobs/{digest}")).send().expect_error(404, "BLOB_UNKNOWN");
}

#[test]
fn s1_3_replies_name_the_digest_in_the_algorithm_that_was_asked_for() {
    let server = Server::start();
    let bytes = b"two names";
    let location = server.begin("a");
    server.put(&with_query(&location, &format!("digest={}", sha512(bytes)))).body(bytes).send().expect(201);
    for digest in [sha256(bytes), sha512(bytes)] {
        let path = format!("/v2/a/blobs/{digest}");
        server
            .get(&path)
            .send()
            .expect(200)
            .expect_header("docker-content-digest", &digest)
            .expect_body(bytes);
        server.head(&path).send().expect(200).expect_header("docker-content-digest", &digest);
    }
}

#[test]
fn s1_3_blobs_are_ranged() {
    let server = Server::start();
    let digest = server.push_blob("a", b"0123456789");
    let path = format!("/v2/a/blobs/{digest}");
    server.get(&path).send().expect(200).expect_header("accept-ranges", "bytes");
    server.head(&path).send().expect(200).expect_header("accept-ranges", "bytes");
}

#[test]
fn s1_9_a_zero_byte_blob_and_an_empty_object_are_blobs() {
    let server = Server::start();
    for bytes in [&b""[..], b"{}"] {
        let digest = server.push_blob("a", bytes);
        let path = format!("/v2/a/blobs/{digest}");
        server.get(&path).send().expect(200).expect_header("content-length", bytes.len()).expect_body(bytes);
        server.head(&path).send().expect(200).expect_header("content-length", bytes.len());
    }
}

#[test]
fn s1_9_a_malformed_digest_is_400_and_an_unknown_algorithm_too() {
    let server = Server::start();
    server.push_blob("a", b"x");
    for digest in ["sha256:baddigeststring", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:", "latest"] {
        let reply = server.get(&format!("/v2/a/blobs/{digest}")).send().expect_one_of(&[400, 404]);
        assert_eq!(reply.error_code(), if reply.status == 400 { "DIGEST_INVALID" } else { "BLOB_UNKNOWN" });
        server.head(&format!("/v2/a/blobs/{digest}")).send().expect(reply.status);
    }
}

#[test]
fn s2_1_the_digest_is_the_etag_and_saves_the_body() {
    let server = Server::start();
    let digest = server.push_blob("a", b"unchanged");
    let path = format!("/v2/a/blobs/{digest}");
    let etag = format!("\"{digest}\"");
    server.get(&path).send().expect(200).expect_header("etag", &etag);
    for condition in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()] {
        let reply = server.get(&path).header("if-none-match", &condition).send().expect(304).expect_body(b"");
        assert_eq!(reply.header("etag"), etag, "{condition}");
        server.head(&path).header("if-none-match", &condition).send().expect(304);
    }
    server.get(&path).header("if-none-match", "\"other\"").send().expect(200).expect_body(b"unchanged");
}

#[test]
fn s2_1_a_blob_may_be_cached_for_long() {
    let server = Server::start();
    let digest = server.push_blob("a", b"for ever");
    let reply = server.get(&format!("/v2/a/blobs/{digest}")).send().expect(200);
    assert!(reply.header("cache-control").contains("max-age=31536000"), "{reply:?}");
}

#[test]
fn a_blob_is_served_while_another_client_stands_still() {
    use std::io::Write;

    let server = Server::start();
    let bytes = noise(2, 8_000_000);
    let digest = server.push_blob("a", &bytes);
    let mut slow = server.connect();
    write!(slow, "GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    server.get(&format!("/v2/a/blobs/{digest}")).send().expect(200).expect_body(&bytes);
    drop(slow);
}

/// The published example of an archive without files; `tar c -T /dev/null` makes it.
#[test]
fn a_layer_of_an_old_client_is_pushed_and_pulled_by_its_tarsum() {
    let server = Server::start();
    let layer = vec![0; 10_240];
    let sum = "tarsum.v1+sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let location = server.begin("a");
    server
        .put(&with_query(&location, &format!("digest={sum}")))
        .body(&layer)
        .send()
        .expect(201)
        .expect_header("location", format!("/v2/a/blobs/{sum}"))
        .expect_header("docker-content-digest", sum);
    // What the tarsum leads to may be other bytes tomorrow, so that it is no tag for them.
    let etag = format!("\"{}\"", sha256(&layer));
    for digest in [sum.to_owned(), sha256(&layer)] {
        server
            .get(&format!("/v2/a/blobs/{digest}"))
            .send()
            .expect(200)
            .expect_body(&layer)
            .expect_header("docker-content-digest", &digest)
            .expect_header("etag", &etag);
        server.head(&format!("/v2/a/blobs/{digest}")).send().expect(200).expect_header("etag", &etag);
    }
    server.post(&format!("/v2/b/blobs/uploads/?mount={sum}&from=a")).body(b"").send().expect(201);
    server.get(&format!("/v2/b/blobs/{sum}")).send().expect(200).expect_body(&layer);
    let location = server.begin("a");
    let wrong = with_query(&location, &format!("digest={sum}"));
    server.put(&wrong).body(b"no archive").send().expect_error(400, "DIGEST_INVALID");
    let longer = vec![0; 20_480];
    let location = server.begin("a");
    server.put(&with_query(&location, &format!("digest={sum}"))).body(&longer).send().expect(201);
    let reply = server.get(&format!("/v2/a/blobs/{sum}")).header("if-none-match", &etag).send();
    reply.expect(200).expect_body(&longer).expect_no_header("cache-control");
    server.get(&format!("/v2/b/blobs/{sum}")).header("if-none-match", &etag).send().expect(304);
    server.delete(&format!("/v2/a/blobs/{sum}")).send().expect(202);
    server.get(&format!("/v2/a/blobs/{}", sha256(&longer))).send().expect_error(404, "BLOB_UNKNOWN");
}
