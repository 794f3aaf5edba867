//! Deletes of tags, manifests and blobs.

use serde_json::json;

use crate::support::{Server, image, index, referrer, sha256, sha512};

#[test]
fn row_9_a_tag_is_deleted_at_once() {
    let server = Server::start();
    let image = server.push_image("a", "v1", 1);
    server.put_manifest("a", "v2", &image).expect(201);
    server.delete("/v2/a/manifests/v1").send().expect(202);
    server.get("/v2/a/manifests/v1").send().expect_error(404, "MANIFEST_UNKNOWN");
    server.head("/v2/a/manifests/v1").send().expect(404);
    assert_eq!(server.get("/v2/a/tags/list").send().expect(200).strings("tags"), ["v2"]);
    server.get("/v2/a/manifests/v2").send().expect(200).expect_body(&image.bytes);
    server.get(&format!("/v2/a/manifests/{}", image.digest())).send().expect(200);
}

#[test]
fn row_9_a_manifest_is_deleted_with_its_tags() {
    let server = Server::start();
    let image = server.push_image("a", "v1", 1);
    let other = server.push_image("a", "other", 2);
    server.put_manifest("a", "v2", &image).expect(201);
    let path = format!("/v2/a/manifests/{}", image.digest());
    server.delete(&path).send().expect(202);
    for gone in [path.as_str(), "/v2/a/manifests/v1", "/v2/a/manifests/v2"] {
        server.get(gone).send().expect_error(404, "MANIFEST_UNKNOWN");
        server.head(gone).send().expect(404);
    }
    assert_eq!(server.get("/v2/a/tags/list").send().expect(200).strings("tags"), ["other"]);
    server.get("/v2/a/manifests/other").send().expect(200).expect_body(&other.bytes);
}

#[test]
fn row_9_what_is_not_there_is_404() {
    let server = Server::start();
    server.push_image("a", "v1", 1);
    let nothing = sha256(b"nothing");
    for path in ["/v2/a/manifests/v2", "/v2/none/manifests/v1", &format!("/v2/a/manifests/{nothing}")] {
        server.delete(path).send().expect(404);
    }
    server.delete("/v2/a/manifests/sha256:bad").send().expect_one_of(&[400, 404]);
}

#[test]
fn row_10_a_blob_is_deleted_at_once() {
    let server = Server::start();
    let digest = server.push_blob("a", b"unused");
    server.push_blob("b", b"unused");
    let path = format!("/v2/a/blobs/{digest}");
    server.delete(&path).send().expect(202);
    server.get(&path).send().expect_error(404, "BLOB_UNKNOWN");
    server.head(&path).send().expect(404);
    server.delete(&path).send().expect_error(404, "BLOB_UNKNOWN");
    server.get(&format!("/v2/b/blobs/{digest}")).send().expect(200).expect_body(b"unused");
}

#[test]
fn row_10_what_is_not_there_is_404_and_what_is_no_digest_400() {
    let server = Server::start();
    server.push_blob("a", b"x");
    server.delete(&format!("/v2/a/blobs/{}", sha256(b"nothing"))).send().expect_error(404, "BLOB_UNKNOWN");
    server.delete("/v2/a/blobs/sha256:bad").send().expect_one_of(&[400, 404]);
}

#[test]
fn a_deleted_blob_may_be_pushed_again() {
    let server = Server::start();
    for _ in 0..3 {
        let digest = server.push_blob("a", b"again");
        let path = format!("/v2/a/blobs/{digest}");
        server.get(&path).send().expect(200).expect_body(b"again");
        server.delete(&path).send().expect(202);
    }
    let digest = server.push_blob("a", b"again");
    server.get(&format!("/v2/a/blobs/{digest}")).send().expect(200).expect_body(b"again");
}

#[test]
fn a_deleted_image_may_be_pushed_again() {
    let server = Server::start();
    for _ in 0..2 {
        let image = server.push_image("a", "v1", 1);
        server.get("/v2/a/manifests/v1").send().expect(200).expect_body(&image.bytes);
        server.delete(&format!("/v2/a/manifests/{}", image.digest())).send().expect(202);
        server.get("/v2/a/manifests/v1").send().expect(404);
    }
}

#[test]
fn row_10_a_blob_that_a_manifest_needs_is_kept_and_the_manifest_is_named() {
    let server = Server::start();
    let (config, layer) = (b"{}", b"layer");
    server.push_blob("a", config);
    server.push_blob("a", layer);
    let image = image(config, &[layer], &json!({}));
    server.put_manifest("a", "v1", &image).expect(201);
    for digest in [sha256(config), sha256(layer)] {
        let path = format!("/v2/a/blobs/{digest}");
        let reply = server.delete(&path).send().expect_error(405, "DENIED");
        assert!(reply.json()["errors"][0]["detail"].to_string().contains(&image.digest()), "{reply:?}");
        server.get(&path).send().expect(200);
    }
    server.delete(&format!("/v2/a/manifests/{}", image.digest())).send().expect(202);
    for digest in [sha256(config), sha256(layer)] {
        server.delete(&format!("/v2/a/blobs/{digest}")).send().expect(202);
        server.get(&format!("/v2/a/blobs/{digest}")).send().expect(404);
    }
}

#[test]
fn row_9_a_manifest_that_an_index_needs_is_kept_and_the_index_is_named() {
    let server = Server::start();
    let image = server.push_image("a", "v1", 1);
    let index = index(&[image.descriptor()], &json!({}));
    server.put_manifest("a", "multi", &index).expect(201);
    let path = format!("/v2/a/manifests/{}", image.digest());
    let reply = server.delete(&path).send().expect_error(405, "DENIED");
    assert!(reply.json()["errors"][0]["detail"].to_string().contains(&index.digest()), "{reply:?}");
    server.get(&path).send().expect(200).expect_body(&image.bytes);
    server.get("/v2/a/manifests/v1").send().expect(200);
    // Its tag isn't what the index needs.
    server.delete("/v2/a/manifests/v1").send().expect(202);

    server.delete(&format!("/v2/a/manifests/{}", index.digest())).send().expect(202);
    server.delete(&path).send().expect(202);
    server.get(&path).send().expect(404);
}

#[test]
fn a_blob_that_an_index_of_a_build_cache_needs_is_kept() {
    let server = Server::start();
    let digest = server.push_blob("a", b"cache layer");
    let descriptor =
        crate::support::descriptor("application/vnd.oci.image.layer.v1.tar+gzip", b"cache layer");
    let index = index(&[descriptor], &json!({}));
    server.put_manifest("a", "cache", &index).expect(201);
    server.delete(&format!("/v2/a/blobs/{digest}")).send().expect_error(405, "DENIED");
    server.delete(&format!("/v2/a/manifests/{}", index.digest())).send().expect(202);
    server.delete(&format!("/v2/a/blobs/{digest}")).send().expect(202);
}

#[test]
fn s1_7_a_deleted_referrer_is_listed_no_longer() {
    let server = Server::start();
    server.push_blob("a", b"{}");
    let subject = server.push_image("a", "v1", 1);
    let about = referrer(&subject.descriptor(), "application/x", "about");
    server.put_manifest("a", "about", &about).expect(201);
    let path = format!("/v2/a/referrers/{}", subject.digest());
    assert_eq!(server.get(&path).send().expect(200).json()["manifests"].as_array().unwrap().len(), 1);
    server.delete(&format!("/v2/a/manifests/{}", about.digest())).send().expect(202);
    assert_eq!(server.get(&path).send().expect(200).json()["manifests"], json!([]));
}

#[test]
fn s1_7_a_subject_may_be_deleted_before_its_referrers() {
    let server = Server::start();
    server.push_blob("a", b"{}");
    let subject = server.push_image("a", "v1", 1);
    let about = referrer(&subject.descriptor(), "application/x", "about");
    server.put_manifest("a", &about.digest(), &about).expect(201);
    server.delete(&format!("/v2/a/manifests/{}", subject.digest())).send().expect(202);
    server.get("/v2/a/manifests/v1").send().expect(404);
    let path = format!("/v2/a/referrers/{}", subject.digest());
    server.get(&path).send().expect(200);
}

#[test]
fn s1_7_a_manifest_is_deleted_by_each_of_its_digests() {
    let server = Server::start();
    server.push_blob("a", b"{}");
    let image = image(b"{}", &[], &json!({}));
    let digest = sha512(&image.bytes);
    server.put_manifest("a", &format!("{digest}?tag=v1"), &image).expect(201);
    server.delete(&format!("/v2/a/manifests/{digest}")).send().expect(202);
    for reference in [digest, sha256(&image.bytes), "v1".to_owned()] {
        server.get(&format!("/v2/a/manifests/{reference}")).send().expect(404);
    }
}

#[test]
fn a_delete_survives_a_restart() {
    let mut server = Server::start();
    let image = server.push_image("a", "v1", 1);
    let blob = server.push_blob("a", b"unused");
    server.delete(&format!("/v2/a/manifests/{}", image.digest())).send().expect(202);
    server.delete(&format!("/v2/a/blobs/{blob}")).send().expect(202);
    server.kill();
    server.run_again();
    server.get("/v2/a/manifests/v1").send().expect(404);
    server.get(&format!("/v2/a/blobs/{blob}")).send().expect(404);
}

#[test]
fn a_deleted_manifest_says_which_tags_went_with_it() {
    let server = Server::start();
    let image = server.push_image("a", "v1", 1);
    server.put_manifest("a", "v2", &image).expect(201);
    let gone = server.delete(&format!("/v2/a/manifests/{}", image.digest())).send().expect(202);
    assert_eq!(gone.values("OCI-Tag"), ["v1", "v2"]);
}

#[test]
fn force_deletes_what_something_live_names() {
    let server = Server::start();
    let layer = server.push_blob("a", b"layer");
    server.push_blob("a", b"{}");
    let child = image(b"{}", &[b"layer"], &json!({}));
    server.put_manifest("a", &child.digest(), &child).expect(201);
    let parent = index(&[child.descriptor()], &json!({}));
    server.put_manifest("a", "multi", &parent).expect(201);
    for (path, needed_by) in [
        (format!("/v2/a/blobs/{layer}"), child.digest()),
        (format!("/v2/a/manifests/{}", child.digest()), parent.digest()),
    ] {
        let refused = server.delete(&path).send().expect_error(405, "DENIED");
        assert_eq!(refused.json()["errors"][0]["detail"]["parents"], json!([needed_by]));
        server.delete(&format!("{path}?force=false")).send().expect(405);
        server.delete(&format!("{path}?force=true")).send().expect(202);
        server.get(&path).send().expect(404);
    }
    server.get("/v2/a/manifests/multi").send().expect(200);
}

#[test]
fn a_repository_is_deleted_with_all_that_it_has() {
    let server = Server::start();
    // Its name ends with words that other end-points end with.
    let name = "a/tags/v1/history";
    let image = server.push_image(name, "v1", 1);
    server.push_image("a", "v1", 1);
    server.delete(&format!("/v2/_orlop/repositories/{name}")).send().expect(202);
    server.get(&format!("/v2/{name}/manifests/v1")).send().expect_error(404, "NAME_UNKNOWN");
    server.get(&format!("/v2/{name}/manifests/{}", image.digest())).send().expect(404);
    server.get(&format!("/v2/{name}/tags/list")).send().expect_error(404, "NAME_UNKNOWN");
    assert_eq!(server.get("/v2/_catalog").send().expect(200).strings("repositories"), ["a"]);
    server.delete(&format!("/v2/_orlop/repositories/{name}")).send().expect_error(404, "NAME_UNKNOWN");
    server.delete("/v2/_orlop/repositories/A").send().expect_error(400, "NAME_INVALID");
    server.get("/v2/a/manifests/v1").send().expect(200);
}

#[test]
fn deletes_of_repositories_can_be_switched_off() {
    let server = Server::with(&[("delete.repositories", "false")]);
    server.push_image("a", "v1", 1);
    server.delete("/v2/_orlop/repositories/a").send().expect_error(405, "UNSUPPORTED");
    server.get("/v2/a/manifests/v1").send().expect(200);
}

#[test]
fn a_running_server_collects_by_itself() {
    let settings = [("delete.undo", "0s"), ("collection.lease", "1s"), ("collection.every", "100ms")];
    let server = Server::with(&settings);
    let image = server.push_image("a", "v1", 1);
    server.delete(&format!("/v2/a/manifests/{}", image.digest())).send().expect(202);
    server.wait_for_line(&["collected", "blobs=2"]);
    let blobs = std::fs::read_dir(server.data().join("blobs/sha256")).unwrap();
    assert_eq!(blobs.map(|dir| std::fs::read_dir(dir.unwrap().path()).unwrap().count()).sum::<usize>(), 0);
}

#[test]
fn files_that_nothing_names_go_after_a_start() {
    let mut server = Server::start();
    let kept = server.push_blob("a", b"kept");
    server.stop();
    let dir = server.data().join("blobs/sha256/00");
    std::fs::create_dir_all(&dir).unwrap();
    let orphan = dir.join(format!("00{}", "1".repeat(62)));
    std::fs::write(&orphan, b"left over").unwrap();
    server.run_again();
    server.wait_for_line(&["left behind", "files=1", "bytes=9"]);
    assert!(!orphan.exists());
    server.get(&format!("/v2/a/blobs/{kept}")).send().expect(200);
}
