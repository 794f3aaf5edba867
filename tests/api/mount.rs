//! Mounting a blob from another repository.

use crate::support::{Server, sha256, sha512, with_query};

#[test]
fn row_11_a_blob_is_mounted_from_another_repository() {
    let server = Server::start();
    let digest = server.push_blob("source/repo", b"shared");
    let reply = server
        .post(&format!("/v2/target/blobs/uploads/?mount={digest}&from=source/repo"))
        .body(b"")
        .send()
        .expect(201)
        .expect_header("docker-content-digest", &digest);
    assert_eq!(reply.location(), format!("/v2/target/blobs/{digest}"));
    server.get(&reply.location()).send().expect(200).expect_body(b"shared");
}

#[test]
fn row_11_the_source_may_be_percent_encoded() {
    let server = Server::start();
    let digest = server.push_blob("source/repo", b"shared");
    let encoded = digest.replace(':', "%3A");
    server
        .post(&format!("/v2/target/blobs/uploads/?from=source%2Frepo&mount={encoded}"))
        .body(b"")
        .send()
        .expect(201);
    server.head(&format!("/v2/target/blobs/{digest}")).send().expect(200);
}

#[test]
fn s1_4_the_source_may_be_left_out() {
    let server = Server::start();
    let digest = server.push_blob("source", b"shared");
    server.post(&format!("/v2/target/blobs/uploads/?mount={digest}")).body(b"").send().expect(201);
    server.get(&format!("/v2/target/blobs/{digest}")).send().expect(200).expect_body(b"shared");
}

#[test]
fn s1_9_a_mount_of_a_missing_blob_falls_back_to_an_upload_that_works() {
    let server = Server::start();
    server.push_blob("source", b"something else");
    let bytes = b"missing";
    let digest = sha256(bytes);
    for from in ["&from=source", "&from=never/heard-of", ""] {
        let location = server
            .post(&format!("/v2/target/blobs/uploads/?mount={digest}{from}"))
            .body(b"")
            .send()
            .expect(202)
            .location();
        server.get(&location).send().expect(204);
        server.delete(&location).send().expect(204);
    }
    let location = server
        .post(&format!("/v2/target/blobs/uploads/?mount={digest}&from=source"))
        .body(b"")
        .send()
        .expect(202)
        .location();
    server.put(&with_query(&location, &format!("digest={digest}"))).body(bytes).send().expect(201);
    server.get(&format!("/v2/target/blobs/{digest}")).send().expect(200).expect_body(bytes);
}

#[test]
fn a_mount_from_a_repository_that_does_not_have_the_blob_is_an_upload() {
    let server = Server::start();
    let digest = server.push_blob("has", b"content");
    server.push_blob("has-not", b"other");
    server
        .post(&format!("/v2/target/blobs/uploads/?mount={digest}&from=has-not"))
        .body(b"")
        .send()
        .expect(202);
    server.head(&format!("/v2/target/blobs/{digest}")).send().expect(404);
}

#[test]
fn a_mount_of_no_digest_or_from_no_name_is_not_a_mount() {
    let server = Server::start();
    let digest = server.push_blob("source", b"content");
    server
        .post("/v2/target/blobs/uploads/?mount=nonsense&from=source")
        .body(b"")
        .send()
        .expect_one_of(&[202, 400]);
    server
        .post(&format!("/v2/target/blobs/uploads/?mount={digest}&from=NO/name"))
        .body(b"")
        .send()
        .expect_one_of(&[202, 400]);
    server.head(&format!("/v2/target/blobs/{digest}")).send().expect(404);
}

#[test]
fn a_blob_is_mounted_by_each_of_its_digests() {
    let server = Server::start();
    let bytes = b"two names";
    let location = with_query(&server.begin("source"), &format!("digest={}", sha512(bytes)));
    server.put(&location).body(bytes).send().expect(201);
    server
        .post(&format!("/v2/target/blobs/uploads/?mount={}&from=source", sha512(bytes)))
        .body(b"")
        .send()
        .expect(201)
        .expect_header("docker-content-digest", sha512(bytes));
    for digest in [sha512(bytes), sha256(bytes)] {
        server.get(&format!("/v2/target/blobs/{digest}")).send().expect(200).expect_body(bytes);
    }
}

#[test]
fn a_mount_onto_itself_changes_nothing() {
    let server = Server::start();
    let digest = server.push_blob("a", b"content");
    server.post(&format!("/v2/a/blobs/uploads/?mount={digest}&from=a")).body(b"").send().expect(201);
    server.get(&format!("/v2/a/blobs/{digest}")).send().expect(200).expect_body(b"content");
}

#[test]
fn s2_6_the_parameters_that_crane_adds_do_no_harm() {
    let server = Server::start();
    let digest = server.push_blob("source", b"shared");
    server
        .post(&format!("/v2/target/blobs/uploads/?mount={digest}&from=source&origin=index.docker.io"))
        .header("content-type", "application/json")
        .body(b"")
        .send()
        .expect(201);
}
