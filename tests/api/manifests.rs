//! Pushes and pulls of manifests.

use serde_json::{Value, json};

use crate::support::{
    Content, IMAGE, INDEX, Server, descriptor, image, index, noise, referrer, sha256, sha512,
};

#[test]
fn row_3_get_and_head_a_manifest_by_tag_and_by_digest() {
    let server = Server::start();
    let image = server.push_image("a", "v1", 1);
    for reference in ["v1".to_owned(), image.digest()] {
        let path = format!("/v2/a/manifests/{reference}");
        server
            .get(&path)
            .send()
            .expect(200)
            .expect_header("content-type", IMAGE)
            .expect_header("content-length", image.bytes.len())
            .expect_header("docker-content-digest", image.digest())
            .expect_body(&image.bytes);
        server
            .head(&path)
            .send()
            .expect(200)
            .expect_header("content-type", IMAGE)
            .expect_header("content-length", image.bytes.len())
            .expect_header("docker-content-digest", image.digest());
    }
}

#[test]
fn row_3_an_unknown_manifest_is_404() {
    let server = Server::start();
    server.push_image("a", "v1", 1);
    let nothing = sha256(b"nothing");
    for path in [
        "/v2/a/manifests/v2".to_owned(),
        format!("/v2/a/manifests/{nothing}"),
        "/v2/never/heard-of/manifests/v1".to_owned(),
    ] {
        let reply = server.get(&path).send().expect(404);
        assert!(["MANIFEST_UNKNOWN", "NAME_UNKNOWN"].contains(&reply.error_code().as_str()), "{reply:?}");
        server.head(&path).send().expect(404);
    }
}

#[test]
fn row_3_a_manifest_is_visible_only_in_its_repository() {
    let server = Server::start();
    let image = server.push_image("a", "v1", 1);
    server.push_image("b", "v1", 2);
    server.get(&format!("/v2/b/manifests/{}", image.digest())).send().expect_error(404, "MANIFEST_UNKNOWN");
}

#[test]
fn row_7a_put_a_manifest_by_tag_and_by_digest() {
    let server = Server::start();
    let first = server.push_image("a", "v1", 1);
    let reply = server
        .put_manifest("a", "v1", &first)
        .expect(201)
        .expect_header("docker-content-digest", first.digest());
    server.get(&reply.location()).send().expect(200).expect_body(&first.bytes);

    let second = server.push_image("a", "", 2);
    let reply = server
        .put_manifest("a", &second.digest(), &second)
        .expect(201)
        .expect_header("docker-content-digest", second.digest());
    server.get(&reply.location()).send().expect(200).expect_body(&second.bytes);
}

#[test]
fn row_7a_a_tag_moves_to_what_is_pushed_last() {
    let server = Server::start();
    let first = server.push_image("a", "latest", 1);
    let second = server.push_image("a", "latest", 2);
    server.get("/v2/a/manifests/latest").send().expect(200).expect_body(&second.bytes);
    server.get(&format!("/v2/a/manifests/{}", first.digest())).send().expect(200).expect_body(&first.bytes);
    server.put_manifest("a", "latest", &first).expect(201);
    server.get("/v2/a/manifests/latest").send().expect(200).expect_body(&first.bytes);
}

#[test]
fn row_7b_put_by_digest_with_several_tags() {
    let server = Server::start();
    let image = server.push_image("a", "", 1);
    let tags: Vec<String> = (0..12).map(|n| format!("tag-{n:02}")).collect();
    let query: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
    let reply =
        server.put_manifest("a", &format!("{}?{}", image.digest(), query.join("&")), &image).expect(201);
    let mut created = reply.values("oci-tag");
    created.sort();
    assert_eq!(created, tags);
    for tag in &tags {
        server.get(&format!("/v2/a/manifests/{tag}")).send().expect(200).expect_body(&image.bytes);
    }
    assert_eq!(server.get("/v2/a/tags/list").send().expect(200).strings("tags"), tags);
}

#[test]
fn row_7b_one_tag_that_is_none_refuses_the_whole_push() {
    let server = Server::start();
    let image = server.push_image("a", "v1", 1);
    let other = server.push_image("b", "v1", 2);
    server.put_manifest("a", &format!("{}?tag=good&tag=.bad", image.digest()), &image).expect(400);
    server.get("/v2/a/manifests/good").send().expect(404);
    server
        .put_manifest("b", &format!("{}?tag=a%20b", other.digest()), &other)
        .expect_error(400, "TAG_INVALID");
    server
        .put_manifest("b", &format!("{}?tag=", other.digest()), &other)
        .expect(201)
        .expect_no_header("oci-tag");
}

#[test]
fn s1_5_a_repeated_tag_is_one_tag() {
    let server = Server::start();
    let image = server.push_image("a", "", 1);
    let reply = server.put_manifest("a", &format!("{}?tag=x&tag=x", image.digest()), &image).expect(201);
    assert_eq!(reply.values("oci-tag"), ["x"]);
}

#[test]
fn s1_5_a_push_without_extra_tags_reports_none() {
    let server = Server::start();
    let image = server.push_image("a", "", 1);
    server.put_manifest("a", &image.digest(), &image).expect(201).expect_no_header("oci-tag");
}

#[test]
fn s1_3_accept_never_leads_to_another_answer() {
    let server = Server::start();
    let image = server.push_image("a", "v1", 1);
    for accept in
        ["application/vnd.docker.distribution.manifest.v2+json", "text/html", "image/*;q=0.5", "nonsense"]
    {
        server
            .get("/v2/a/manifests/v1")
            .header("accept", accept)
            .send()
            .expect(200)
            .expect_header("content-type", IMAGE)
            .expect_body(&image.bytes);
        server.head("/v2/a/manifests/v1").header("accept", accept).send().expect(200);
    }
}

#[test]
fn s1_3_the_content_type_is_the_pushed_one_without_parameters() {
    let server = Server::start();
    let image = server.push_image("a", "v1", 1);
    server
        .put("/v2/a/manifests/v2")
        .header("content-type", &format!("{IMAGE}; charset=utf-8"))
        .body(&image.bytes)
        .send()
        .expect(201);
    server.get("/v2/a/manifests/v2").send().expect(200).expect_header("content-type", IMAGE);
}

#[test]
fn s1_5_the_bytes_are_kept_as_they_came() {
    let server = Server::start();
    let config = b"{}";
    server.push_blob("a", config);
    let text = format!(
        "\n{{ \"layers\" :[ ],\t\"schemaVersion\":2 , \"unknown\":{{\"x\":1.50}},\r\n\"config\":{}}}  \n",
        descriptor("application/vnd.oci.image.config.v1+json", config)
    );
    let manifest = Content { media_type: IMAGE.to_owned(), bytes: text.into_bytes() };
    server
        .put_manifest("a", "v1", &manifest)
        .expect(201)
        .expect_header("docker-content-digest", manifest.digest());
    server.get("/v2/a/manifests/v1").send().expect(200).expect_body(&manifest.bytes);
}

#[test]
fn s1_5_a_push_without_a_content_type_is_what_its_body_says() {
    let server = Server::start();
    let image = server.push_image("a", "", 1);
    server.put("/v2/a/manifests/v1").body(&image.bytes).send().expect(201);
    server.get("/v2/a/manifests/v1").send().expect(200).expect_header("content-type", IMAGE);
}

#[test]
fn s1_5_a_content_type_that_says_nothing_of_manifests_counts_as_none() {
    let server = Server::start();
    let config = b"{}";
    server.push_blob("a", config);
    let plain = Content::json(
        IMAGE,
        &json!({
            "schemaVersion": 2,
            "config": descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [],
        }),
    );
    for generic in
        ["application/json", "application/octet-stream", "application/x-www-form-urlencoded", "text/plain"]
    {
        server
            .put("/v2/a/manifests/v1")
            .header("content-type", generic)
            .body(&plain.bytes)
            .send()
            .expect(201);
        server.get("/v2/a/manifests/v1").send().expect(200).expect_header("content-type", IMAGE);
    }
    // It is an image, whose blobs are kept.
    server.delete(&format!("/v2/a/blobs/{}", sha256(config))).send().expect(405);
}

#[test]
fn s1_5_more_tags_than_one_push_may_create_are_414() {
    let server = Server::start();
    let image = server.push_image("a", "", 1);
    let reference = |tags: u32| {
        let query: Vec<String> = (0..tags).map(|n| format!("tag=tag-{n}")).collect();
        format!("{}?{}", image.digest(), query.join("&"))
    };
    server.put_manifest("a", &reference(1_000), &image).expect(414);
    assert_eq!(server.get("/v2/a/tags/list").send().expect(200).strings("tags"), [""; 0]);
    // What is allowed fits into an answer that clients with a limit of 100 headers can read.
    let reply = server.put_manifest("a", &reference(64), &image).expect(201);
    assert!(reply.header_count() < 90, "{reply:?}");
}

#[test]
fn s1_5_header_and_body_must_name_the_same_type() {
    let server = Server::start();
    let mut image = server.push_image("a", "", 1);
    image.media_type = "application/vnd.docker.distribution.manifest.v2+json".to_owned();
    server.put_manifest("a", "v1", &image).expect_error(400, "MANIFEST_INVALID");
}

#[test]
fn s1_5_what_is_no_manifest_is_refused() {
    let server = Server::start();
    server.push_blob("a", b"{}");
    for bytes in [
        &b""[..],
        b"not JSON",
        b"[]",
        b"null",
        b"{}",
        br#"{"schemaVersion":2}"#,
        br#"{"schemaVersion":2,"layers":[]}"#,
    ] {
        for media_type in [IMAGE, INDEX] {
            let manifest = Content { media_type: media_type.to_owned(), bytes: bytes.to_vec() };
            server.put_manifest("a", "v1", &manifest).expect_error(400, "MANIFEST_INVALID");
        }
    }
    server.get("/v2/a/manifests/v1").send().expect(404);
}

#[test]
fn s1_5_missing_blobs_are_named() {
    let server = Server::start();
    let (config, layer, missing) = (&b"{}"[..], &b"layer"[..], &b"missing"[..]);
    server.push_blob("a", config);
    server.push_blob("a", layer);
    let image = image(config, &[layer, missing], &json!({}));
    let reply = server.put_manifest("a", "v1", &image);
    assert!([400, 404].contains(&reply.status), "{reply:?}");
    assert_eq!(reply.error_code(), "MANIFEST_BLOB_UNKNOWN");
    assert!(reply.text().contains(&sha256(missing)), "{reply:?}");
    assert!(!reply.text().contains(&sha256(layer)), "{reply:?}");
    server.get("/v2/a/manifests/v1").send().expect(404);
}

/// An index of 50,000 absent children was answered with 4 MB of digests.
#[test]
fn s1_5_of_very_many_missing_manifests_some_are_named() {
    let server = Server::start();
    let descriptors: Vec<_> = (0..5_000)
        .map(|n| json!({"mediaType": IMAGE, "digest": format!("sha256:{n:064x}"), "size": 1}))
        .collect();
    let reply = server.put_manifest("a", "v1", &index(&descriptors, &json!({})));
    assert_eq!(reply.error_code(), "MANIFEST_BLOB_UNKNOWN");
    assert!(reply.text().len() < 10_000, "{}", reply.text().len());
}

#[test]
fn s1_5_a_blob_of_another_repository_is_missing_too() {
    let server = Server::start();
    server.push_image("elsewhere", "v1", 1);
    let image = server.push_image("a", "", 1);
    server.put_manifest("b", "v1", &image).expect_one_of(&[400, 404]);
    server.get("/v2/b/manifests/v1").send().expect(404);
}

#[test]
fn s1_5_foreign_layers_may_be_absent() {
    let server = Server::start();
    let config = b"{}";
    server.push_blob("a", config);
    for media_type in [
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ] {
        let layers = json!({"layers": [descriptor(media_type, b"elsewhere")]});
        let image = image(config, &[], &layers);
        server.put_manifest("a", "v1", &image).expect(201);
        server.get("/v2/a/manifests/v1").send().expect(200).expect_body(&image.bytes);
    }
}

#[test]
fn s1_5_docker_images_and_lists_are_manifests() {
    let server = Server::start();
    let (config, layer) = (&b"{\"docker\":1}"[..], &b"layer"[..]);
    server.push_blob("a", config);
    server.push_blob("a", layer);
    let schema2 = "application/vnd.docker.distribution.manifest.v2+json";
    let image = Content::json(
        schema2,
        &json!({
            "schemaVersion": 2,
            "mediaType": schema2,
            "config": descriptor("application/vnd.docker.container.image.v1+json", config),
            "layers": [descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", layer)],
        }),
    );
    server.put_manifest("a", &image.digest(), &image).expect(201);
    let list_type = "application/vnd.docker.distribution.manifest.list.v2+json";
    let mut child = image.descriptor();
    child["platform"] = json!({"architecture": "amd64", "os": "linux"});
    let list =
        Content::json(list_type, &json!({"schemaVersion": 2, "mediaType": list_type, "manifests": [child]}));
    server.put_manifest("a", "v1", &list).expect(201);
    server
        .get("/v2/a/manifests/v1")
        .send()
        .expect(200)
        .expect_header("content-type", list_type)
        .expect_body(&list.bytes);
    let path = format!("/v2/a/manifests/{}", image.digest());
    server.get(&path).send().expect(200).expect_header("content-type", schema2).expect_body(&image.bytes);
}

#[test]
fn s1_5_indexes_may_be_nested() {
    let server = Server::start();
    let image = server.push_image("a", "", 1);
    let mut inner = index(&[image.descriptor()], &json!({}));
    server.put_manifest("a", &inner.digest(), &inner).expect(201);
    for level in 0..5 {
        let outer = index(
            &[inner.descriptor(), image.descriptor()],
            &json!({"annotations": {"level": level.to_string()}}),
        );
        server.put_manifest("a", &format!("level-{level}"), &outer).expect(201);
        server.get(&format!("/v2/a/manifests/level-{level}")).send().expect(200).expect_body(&outer.bytes);
        inner = outer;
    }
}

#[test]
fn s1_5_an_empty_index_is_an_index() {
    let server = Server::start();
    server.put_manifest("a", "empty", &index(&[], &json!({}))).expect(201);
    server.get("/v2/a/manifests/empty").send().expect(200).expect_header("content-type", INDEX);
}

#[test]
fn s1_5_an_index_needs_its_manifests() {
    let server = Server::start();
    let missing = image(b"{}", &[], &json!({}));
    let index = index(&[missing.descriptor()], &json!({}));
    let reply = server.put_manifest("a", "v1", &index);
    assert!([400, 404].contains(&reply.status), "{reply:?}");
    assert!(reply.text().contains(&missing.digest()), "{reply:?}");
}

#[test]
fn s2_6_the_entries_of_a_buildkit_cache_are_blobs() {
    let server = Server::start();
    let (layer, config) = (noise(1, 1000), b"{\"layers\":[]}");
    server.push_blob("cache", &layer);
    server.push_blob("cache", config);
    let index = index(
        &[
            descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &layer),
            descriptor("application/vnd.buildkit.cacheconfig.v0", config),
        ],
        &json!({}),
    );
    server.put_manifest("cache", "buildcache", &index).expect(201);
    server.get("/v2/cache/manifests/buildcache").send().expect(200).expect_body(&index.bytes);
    server.get(&format!("/v2/cache/blobs/{}", sha256(&layer))).send().expect(200).expect_body(&layer);
}

#[test]
fn s2_6_a_provenance_entry_of_an_index_is_a_manifest_like_others() {
    let server = Server::start();
    let (image, attestation) = (server.push_image("a", "", 1), server.push_image("a", "", 2));
    let mut entry = attestation.descriptor();
    entry["platform"] = json!({"architecture": "unknown", "os": "unknown"});
    entry["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image.digest()});
    server.put_manifest("a", "v1", &index(&[image.descriptor(), entry], &json!({}))).expect(201);
}

#[test]
fn s1_5_artifacts_have_any_media_type() {
    let server = Server::start();
    for (media_type, bytes) in [
        ("application/vnd.example.thing+json", &br#"{"anything":[1,2,3]}"#[..]),
        ("application/vnd.example.thing.v1", b"\x00\xff not even text"),
        ("application/vnd.oci.artifact.manifest.v1+json", br#"{"artifactType":"a/b","blobs":[]}"#),
    ] {
        let manifest = Content { media_type: media_type.to_owned(), bytes: bytes.to_vec() };
        server
            .put_manifest("a", "thing", &manifest)
            .expect(201)
            .expect_header("docker-content-digest", sha256(bytes));
        server
            .get("/v2/a/manifests/thing")
            .send()
            .expect(200)
            .expect_header("content-type", media_type)
            .expect_body(bytes);
    }
}

#[test]
fn s2_6_helm_charts_and_oras_artifacts_are_images() {
    let server = Server::start();
    let (config, chart) = (b"{\"name\":\"chart\"}", noise(3, 500));
    for bytes in [&config[..], &chart, b"{}"] {
        server.push_blob("charts/app", bytes);
    }
    let helm = Content::json(
        IMAGE,
        &json!({
            "schemaVersion": 2,
            "config": descriptor("application/vnd.cncf.helm.config.v1+json", config),
            "layers": [descriptor("application/vnd.cncf.helm.chart.content.v1.tar+gzip", &chart)],
        }),
    );
    server.put_manifest("charts/app", "0.1.0_build.5", &helm).expect(201);
    let oras = Content::json(
        IMAGE,
        &json!({
            "schemaVersion": 2,
            "artifactType": "application/vnd.example+type",
            "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
            "layers": [descriptor("text/plain", &chart)],
        }),
    );
    server.put_manifest("charts/app", "artifact", &oras).expect(201);
    server.get("/v2/charts/app/manifests/artifact").send().expect(200).expect_body(&oras.bytes);
}

#[test]
fn s1_5_a_subject_may_come_before_or_after() {
    let server = Server::start();
    server.push_blob("a", b"{}");
    let subject = server.push_image("elsewhere", "v1", 1);
    let early = referrer(&subject.descriptor(), "application/x.early", "before the subject");
    server
        .put_manifest("a", &early.digest(), &early)
        .expect(201)
        .expect_header("oci-subject", subject.digest());
    server.push_image("a", "v1", 1);
    let late = referrer(&subject.descriptor(), "application/x.late", "after the subject");
    server.put_manifest("a", "late", &late).expect(201).expect_header("oci-subject", subject.digest());
    server.put_manifest("a", "v1", &subject).expect(201).expect_no_header("oci-subject");
}

#[test]
fn s1_9_a_manifest_of_almost_four_megabytes_is_accepted() {
    let server = Server::start();
    server.push_blob("a", b"{}");
    let annotations: serde_json::Map<String, Value> =
        (0..390).map(|n| (format!("key-{n}"), json!("x".repeat(10_000)))).collect();
    let manifest = image(b"{}", &[], &json!({"annotations": annotations}));
    assert!(manifest.bytes.len() > 3_900_000);
    server.put_manifest("a", "large", &manifest).expect(201);
    server
        .get("/v2/a/manifests/large")
        .send()
        .expect(200)
        .expect_header("content-length", manifest.bytes.len())
        .expect_body(&manifest.bytes);
}

#[test]
fn s1_5_a_manifest_above_the_limit_is_413() {
    let server = Server::with(&[("manifests.max_size", "16 KiB")]);
    server.push_blob("a", b"{}");
    let sized = |size: usize| {
        let without = image(b"{}", &[], &json!({"annotations": {"pad": ""}})).bytes.len();
        image(b"{}", &[], &json!({"annotations": {"pad": "x".repeat(size - without)}}))
    };
    server.put_manifest("a", "fits", &sized(16 * 1024)).expect(201);
    let larger = sized(16 * 1024 + 1);
    server.put_manifest("a", "larger", &larger).expect(413);
    server
        .put("/v2/a/manifests/larger")
        .header("content-type", &larger.media_type)
        .stream(&larger.bytes)
        .send()
        .expect(413);
    server.get("/v2/a/manifests/larger").send().expect(404);
}

#[test]
fn s1_9_a_malformed_digest_is_refused() {
    let server = Server::start();
    let image = server.push_image("a", "v1", 1);
    server.get("/v2/a/manifests/sha256:baddigeststring").send().expect_one_of(&[400, 404]);
    server.head("/v2/a/manifests/sha256:baddigeststring").send().expect_one_of(&[400, 404]);
    server.put_manifest("a", "sha256:baddigeststring", &image).expect(400);
    server
        .put_manifest("a", "md5:d41d8cd98f00b204e9800998ecf8427e", &image)
        .expect_error(400, "DIGEST_INVALID");
}

#[test]
fn s1_5_a_digest_that_is_not_the_content_s_is_refused() {
    let server = Server::start();
    let image = server.push_image("a", "v1", 1);
    for wrong in [sha256(b"other"), sha512(b"other")] {
        server.put_manifest("a", &wrong, &image).expect_error(400, "DIGEST_INVALID");
        server.put_manifest("a", &format!("{wrong}?tag=x"), &image).expect_error(400, "DIGEST_INVALID");
        server.get(&format!("/v2/a/manifests/{wrong}")).send().expect(404);
    }
    server.get("/v2/a/manifests/x").send().expect(404);
}

#[test]
fn s1_9_a_manifest_by_sha512_has_tags_and_referrers() {
    let server = Server::start();
    let config = b"{}";
    server.push_blob("a", config);
    let image = image(config, &[], &json!({"annotations": {"digest": "sha512"}}));
    let digest = sha512(&image.bytes);
    let reply = server
        .put_manifest("a", &format!("{digest}?tag=v1"), &image)
        .expect(201)
        .expect_header("docker-content-digest", &digest);
    assert_eq!(reply.values("oci-tag"), ["v1"]);
    server.get(&reply.location()).send().expect(200).expect_body(&image.bytes);
    for reference in [digest.clone(), sha256(&image.bytes), "v1".to_owned()] {
        server.get(&format!("/v2/a/manifests/{reference}")).send().expect(200).expect_body(&image.bytes);
    }
    let path = format!("/v2/a/manifests/{digest}");
    server.get(&path).send().expect(200).expect_header("docker-content-digest", &digest);
    server.head(&path).send().expect(200).expect_header("docker-content-digest", &digest);
    assert_eq!(server.get("/v2/a/tags/list").send().expect(200).strings("tags"), ["v1"]);

    let mut subject = image.descriptor();
    subject["digest"] = json!(digest);
    let about = referrer(&subject, "application/x.about", "by sha512");
    server.put_manifest("a", &about.digest(), &about).expect(201).expect_header("oci-subject", &digest);
    let listed = server.get(&format!("/v2/a/referrers/{digest}")).send().expect(200).json();
    assert_eq!(listed["manifests"][0]["digest"], json!(about.digest()), "{listed}");
}

#[test]
fn s1_9_a_manifest_by_tag_stays_sha256() {
    let server = Server::start();
    let image = server.push_image("a", "v1", 1);
    server
        .head("/v2/a/manifests/v1")
        .send()
        .expect(200)
        .expect_header("docker-content-digest", image.digest());
    server.get(&format!("/v2/a/manifests/{}", sha512(&image.bytes))).send().expect(404);
}

#[test]
fn s1_5_children_may_be_named_by_sha512() {
    let server = Server::start();
    let layer = noise(4, 1000);
    server.push_blob("a", b"{}");
    let post = format!("/v2/a/blobs/uploads/?digest={}", sha512(&layer));
    server.post(&post).body(&layer).send().expect(201);
    let mut named = descriptor("application/vnd.oci.image.layer.v1.tar", &layer);
    named["digest"] = json!(sha512(&layer));
    let image = image(b"{}", &[], &json!({"layers": [named]}));
    server.put_manifest("a", "v1", &image).expect(201);
    server.get("/v2/a/manifests/v1").send().expect(200).expect_body(&image.bytes);
}

#[test]
fn s2_1_the_digest_is_the_etag_and_saves_the_body() {
    let server = Server::start();
    let image = server.push_image("a", "v1", 1);
    let etag = format!("\"{}\"", image.digest());
    for path in ["/v2/a/manifests/v1".to_owned(), format!("/v2/a/manifests/{}", image.digest())] {
        server.get(&path).send().expect(200).expect_header("etag", &etag);
        server.get(&path).header("if-none-match", &etag).send().expect(304).expect_body(b"");
        server.head(&path).header("if-none-match", &etag).send().expect(304);
        server.get(&path).header("if-none-match", "\"other\"").send().expect(200).expect_body(&image.bytes);
    }
    let moved = server.push_image("a", "v1", 2);
    server
        .get("/v2/a/manifests/v1")
        .header("if-none-match", &etag)
        .send()
        .expect(200)
        .expect_body(&moved.bytes);
}

#[test]
fn s1_5_a_tag_that_is_none_is_refused() {
    let server = Server::start();
    let image = server.push_image("a", "v1", 1);
    for tag in ["-v1", ".v1", "v%201", "v+1", &"x".repeat(129)] {
        server.put_manifest("a", tag, &image).expect(400);
        server.get(&format!("/v2/a/manifests/{tag}")).send().expect_one_of(&[400, 404]);
    }
    server.put_manifest("a", &"x".repeat(128), &image).expect(201);
}

#[test]
fn many_may_push_to_one_tag_at_once() {
    let server = Server::start();
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let server = &server;
            scope.spawn(move || server.push_image("a", "latest", seed));
        }
    });
    let last = server.get("/v2/a/manifests/latest").send().expect(200);
    assert_eq!(last.header("docker-content-digest"), sha256(&last.body));
}
