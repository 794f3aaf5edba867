//! What an operator may change of the protocol's answers.

use serde_json::json;

use crate::support::{Server, image, index, sha256, upload_files, with_query};

#[test]
fn s1_7_deletes_of_tags_can_be_switched_off() {
    let server = Server::with(&[("delete.tags", "false")]);
    let image = server.push_image("a", "v1", 1);
    server.delete("/v2/a/manifests/v1").send().expect_error(405, "UNSUPPORTED");
    server.get("/v2/a/manifests/v1").send().expect(200);
    server.delete(&format!("/v2/a/manifests/{}", image.digest())).send().expect(202);
}

#[test]
fn s1_7_deletes_of_manifests_can_be_switched_off() {
    let server = Server::with(&[("delete.manifests", "false")]);
    let image = server.push_image("a", "v1", 1);
    let path = format!("/v2/a/manifests/{}", image.digest());
    server.delete(&path).send().expect_error(405, "UNSUPPORTED");
    server.get(&path).send().expect(200);
    server.delete("/v2/a/manifests/v1").send().expect(202);
}

#[test]
fn s1_7_deletes_of_blobs_can_be_switched_off() {
    let server = Server::with(&[("delete.blobs", "false")]);
    let digest = server.push_blob("a", b"kept");
    let path = format!("/v2/a/blobs/{digest}");
    server.delete(&path).send().expect_error(405, "UNSUPPORTED");
    server.get(&path).send().expect(200);
    let upload = server.begin("a");
    server.delete(&upload).send().expect(204);
}

#[test]
fn s1_7_an_immutable_tag_stays_where_it_was_pushed_to() {
    let file = "[[immutable]]\nrepositories = [\"team/**\"]\ntags = [\"v*\"]\nexcept = [\"*-dev\"]\n";
    let server = Server::with_file(file, &[]);
    let image = server.push_image("team/a", "v1", 1);
    let other = server.push_image("team/a", "v1-dev", 2);
    // The same again is fine, by tag and as one of several.
    server.put_manifest("team/a", "v1", &image).expect(201);
    let several = format!("{}?tag=v1&tag=v2", image.digest());
    server.put_manifest("team/a", &several, &image).expect(201);

    let refused = server.put_manifest("team/a", "v1", &other).expect_error(409, "DENIED");
    let error = &refused.json()["errors"][0];
    assert_eq!(error["detail"], json!({ "tag": "v1", "digest": image.digest() }));
    assert!(error["message"].as_str().unwrap().contains("v1 is immutable"), "{error}");
    let several = format!("{}?tag=new&tag=v2", other.digest());
    server.put_manifest("team/a", &several, &other).expect_error(409, "DENIED");
    server.get("/v2/team/a/manifests/new").send().expect(404);
    server.delete("/v2/team/a/manifests/v1").send().expect_error(409, "DENIED");
    server.delete(&format!("/v2/team/a/manifests/{}", image.digest())).send().expect_error(409, "DENIED");
    server.get("/v2/team/a/manifests/v1").send().expect(200).expect_body(&image.bytes);

    server.put_manifest("team/a", "v1-dev", &image).expect(201);
    server.delete("/v2/team/a/manifests/v1-dev").send().expect(202);
    server.push_image("other", "v1", 1);
    server.push_image("other", "v1", 2);
    server.delete("/v2/other/manifests/v1").send().expect(202);
}

#[test]
fn s1_5_sparse_indexes_can_be_allowed() {
    let server = Server::with(&[("manifests.sparse_indexes", "true")]);
    let present = server.push_image("a", "", 1);
    let absent = image(b"{}", &[], &json!({}));
    let index = index(&[present.descriptor(), absent.descriptor()], &json!({}));
    server.put_manifest("a", "v1", &index).expect(201);
    server.get("/v2/a/manifests/v1").send().expect(200).expect_body(&index.bytes);
    server.get(&format!("/v2/a/manifests/{}", absent.digest())).send().expect(404);
    // An image needs its blobs all the same.
    let reply = server.put_manifest("a", "v2", &image(b"missing", &[], &json!({})));
    assert_eq!(reply.error_code(), "MANIFEST_BLOB_UNKNOWN");
    // The absent one may come later.
    server.push_blob("a", b"{}");
    server.put_manifest("a", &absent.digest(), &absent).expect(201);
    server.delete(&format!("/v2/a/manifests/{}", absent.digest())).send().expect_error(405, "DENIED");
}

#[test]
fn s1_4_locations_and_links_are_relative_by_default() {
    let server = Server::start();
    let image = server.push_image("a", "v1", 1);
    let location = server.begin("a");
    assert!(location.starts_with("/v2/a/blobs/uploads/"), "{location}");
    let location = server.patch(&location).stream(b"x").send().expect(202).location();
    assert!(location.starts_with("/v2/a/blobs/uploads/"), "{location}");
    let put = with_query(&location, &format!("digest={}", sha256(b"x")));
    let location = server.put(&put).body(b"").send().expect(201).location();
    assert_eq!(location, format!("/v2/a/blobs/{}", sha256(b"x")));
    let location = server.put_manifest("a", "v2", &image).expect(201).location();
    assert!(location.starts_with("/v2/a/manifests/"), "{location}");
    let next = server.get("/v2/a/tags/list?n=1").send().expect(200).next().unwrap();
    assert!(next.starts_with("/v2/a/tags/list?"), "{next}");
}

#[test]
fn s1_4_locations_and_links_begin_with_the_external_url() {
    let url = "https://registry.example.org/deep";
    let server = Server::with(&[("external_url", url)]);
    let inner = |target: &str| target.strip_prefix(url).unwrap_or_else(|| panic!("{target}")).to_owned();
    let bytes = b"content";
    let location = inner(&server.post("/v2/a/blobs/uploads/").body(b"").send().expect(202).location());
    let location = inner(&server.patch(&location).stream(bytes).send().expect(202).location());
    let location = inner(&server.get(&location).send().expect(204).location());
    let put = with_query(&location, &format!("digest={}", sha256(bytes)));
    let location = inner(&server.put(&put).body(b"").send().expect(201).location());
    server.get(&location).send().expect(200).expect_body(bytes);

    server.post(&format!("/v2/b/blobs/uploads/?mount={}&from=a", sha256(bytes))).body(b"").send().expect(201);
    let image = image(bytes, &[], &json!({}));
    let location = inner(&server.put_manifest("a", "v1", &image).expect(201).location());
    server.get(&location).send().expect(200).expect_body(&image.bytes);
    server.put_manifest("a", "v2", &image).expect(201);
    for list in ["/v2/a/tags/list?n=1", "/v2/_catalog?n=1"] {
        let next = inner(&server.get(list).send().expect(200).next().unwrap());
        server.get(&next).send().expect(200);
    }
}

#[test]
fn a_disk_below_the_floor_of_free_space_refuses_pushes_and_serves_everything_else() {
    let mut server = Server::start();
    let kept = server.push_image("a", "v1", 1);
    server.push_image("a", "v2", 2);
    server.push_blob("a", b"{}");
    server.stop();
    server.set("storage.free_floor", "1000000 TiB");
    server.run_again();

    let bytes = b"one more";
    let digest = sha256(bytes);
    server.post(&format!("/v2/a/blobs/uploads/?digest={digest}")).body(bytes).send().expect(507);
    server.put_manifest("a", "v3", &image(b"{}", &[], &json!({}))).expect_error(507, "DENIED");
    server.get("/v2/a/manifests/v1").send().expect(200).expect_body(&kept.bytes);
    server.get("/v2/a/tags/list").send().expect(200);
    server.delete("/v2/a/manifests/v2").send().expect(202);
    server.get("/v2/a/manifests/v3").send().expect(404);
    server.assert_nothing_of("a", bytes);

    server.stop();
    server.set("storage.free_floor", "1 MiB");
    server.run_again();
    server.push_blob("a", bytes);
}

#[test]
fn an_unknown_key_keeps_the_server_from_starting() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_orlop"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("ORLOP_DELETE_TAG", "false")
        .current_dir(tempfile::TempDir::new().unwrap().path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("ORLOP_DELETE_TAG") && said.contains("ORLOP_DELETE_TAGS"), "{said}");
}

#[test]
fn a_push_over_quota_is_refused_before_its_bytes_and_leaves_nothing() {
    let file = "[[quota]]\nrepositories = [\"team/*\"]\nmax_size = \"2 KiB\"\n";
    let server = Server::with_file(file, &[]);
    let layer = vec![1; 1024];
    let blob = server.push_blob("team/a", &layer);
    server.push_blob("other", &[2; 4096]);

    // By length, before a byte is sent.
    let location = server.begin("team/a");
    let host = server.host();
    let head = format!(
        "PATCH {location} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1025\r\nExpect: 100-continue\r\n\r\n"
    );
    let reply = server.raw(head.as_bytes());
    assert_eq!(reply.status, 403);
    // By what comes, where nobody has said how much.
    server.patch(&location).stream(&[3; 1025]).send().expect_error(403, "DENIED");
    server.get(&location).send().expect(404);
    // By what has come meanwhile, at the end.
    let half = |byte| {
        let patched = server.patch(&server.begin("team/a")).body(&[byte; 600]).send().expect(202);
        with_query(&patched.location(), &format!("digest={}", sha256(&[byte; 600])))
    };
    let (first, second) = (half(6), half(7));
    server.put(&first).send().expect(201);
    let refused = server.put(&second).send().expect_error(403, "DENIED");
    let message = refused.json()["errors"][0]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("team/a may hold 2048 bytes and has 1624"), "{message}");
    server.assert_nothing_of("team/a", &[7; 600]);
    assert!(upload_files(&server).is_empty());
    server.delete(&format!("/v2/team/a/blobs/{}", sha256(&[6; 600]))).send().expect(202);
    // By a mount, which costs the store nothing.
    let big = sha256(&[2; 4096]);
    server
        .post(&format!("/v2/team/a/blobs/uploads/?mount={big}&from=other"))
        .send()
        .expect_error(403, "DENIED");

    // What is there already costs nothing, and exactly as much as is left is taken.
    let again = format!("/v2/team/a/blobs/uploads/?digest={blob}");
    server.post(&again).body(&layer).send().expect(201);
    server.push_blob("team/a", &[4; 1024]);
    server.push_blob("team/b", &layer);
    // What is deleted counts no more.
    server.delete(&format!("/v2/team/a/blobs/{blob}")).send().expect(202);
    server.push_blob("team/a", &[5; 1024]);
}

#[test]
fn the_whole_store_has_a_limit_of_its_own() {
    let server = Server::with(&[("storage.max_size", "2 KiB")]);
    let blob = server.push_blob("a", &[1; 1500]);
    let refused = format!("/v2/b/blobs/uploads/?digest={}", sha256(&[2; 600]));
    server.post(&refused).body(&[2; 600]).send().expect_error(403, "DENIED");
    // Shared bytes count once, and deleted ones until they can't come back.
    server.post(&format!("/v2/b/blobs/uploads/?mount={blob}&from=a")).send().expect(201);
    for name in ["a", "b"] {
        server.delete(&format!("/v2/{name}/blobs/{blob}")).send().expect(202);
    }
    server.post(&refused).body(&[2; 600]).send().expect_error(403, "DENIED");
    let image = image(&[3; 700], &[], &json!({}));
    server.push_blob("a", &[4; 500]);
    server.put_manifest("a", "v1", &image).expect(404);
}
