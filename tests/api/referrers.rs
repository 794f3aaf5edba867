//! Lists of referrers.

use serde_json::{Value, json};

use crate::support::{Content, IMAGE, INDEX, Reply, Server, descriptor, image, index, referrer, sha256};

/// Starts a server with an image in `a`.
fn with_subject() -> (Server, Content) {
    let server = Server::start();
    server.push_blob("a", b"{}");
    let subject = server.push_image("a", "v1", 1);
    (server, subject)
}

fn digests(reply: &Reply) -> Vec<String> {
    let json = reply.json();
    let listed = json["manifests"].as_array().unwrap().iter();
    let mut digests: Vec<String> = listed.map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect();
    digests.sort();
    digests
}

fn sorted(manifests: &[&Content]) -> Vec<String> {
    let mut digests: Vec<String> = manifests.iter().map(|manifest| manifest.digest()).collect();
    digests.sort();
    digests
}

fn entry(reply: &Reply, manifest: &Content) -> Value {
    let json = reply.json();
    let mut listed = json["manifests"].as_array().unwrap().iter();
    listed.find(|entry| entry["digest"] == json!(manifest.digest())).unwrap().clone()
}

#[test]
fn row_12a_referrers_are_an_index_of_descriptors() {
    let (server, subject) = with_subject();
    let path = format!("/v2/a/referrers/{}", subject.digest());
    let one = referrer(&subject.descriptor(), "application/x.signature", "one");
    let two = referrer(&subject.descriptor(), "application/x.sbom", "two");
    server.put_manifest("a", &one.digest(), &one).expect(201);
    server.put_manifest("a", "two", &two).expect(201);
    let reply = server.get(&path).send().expect(200).expect_header("content-type", INDEX);
    assert_eq!(reply.json()["schemaVersion"], 2);
    assert_eq!(reply.json()["mediaType"], INDEX);
    assert_eq!(digests(&reply), sorted(&[&one, &two]));
    assert_eq!(
        entry(&reply, &one),
        json!({
            "mediaType": IMAGE,
            "digest": one.digest(),
            "size": one.bytes.len(),
            "artifactType": "application/x.signature",
            "annotations": {"note": "one"},
        })
    );
}

#[test]
fn row_12b_a_filter_by_artifact_type_says_so() {
    let (server, subject) = with_subject();
    let path = format!("/v2/a/referrers/{}", subject.digest());
    let one = referrer(&subject.descriptor(), "application/x.signature+json", "one");
    let two = referrer(&subject.descriptor(), "application/x.sbom", "two");
    server.put_manifest("a", &one.digest(), &one).expect(201);
    server.put_manifest("a", &two.digest(), &two).expect(201);
    server.get(&path).send().expect(200).expect_no_header("oci-filters-applied");
    let filtered = |artifact_type: &str| {
        server
            .get(&format!("{path}?artifactType={artifact_type}"))
            .send()
            .expect(200)
            .expect_header("oci-filters-applied", "artifactType")
    };
    assert_eq!(digests(&filtered("application/x.sbom")), sorted(&[&two]));
    assert_eq!(digests(&filtered("application%2Fx.signature%2Bjson")), sorted(&[&one]));
    assert_eq!(digests(&filtered("application/x.signature+json")), sorted(&[&one]), "a plus is no space");
    assert_eq!(digests(&filtered("application/x")), [""; 0]);
}

#[test]
fn row_12a_a_malformed_digest_is_400() {
    let (server, _) = with_subject();
    for digest in ["sha256:bad", "v1", "sha256:", "SHA256:00"] {
        server.get(&format!("/v2/a/referrers/{digest}")).send().expect_error(400, "DIGEST_INVALID");
    }
}

#[test]
fn s1_9_nothing_known_is_an_empty_index() {
    let (server, subject) = with_subject();
    for path in [
        format!("/v2/a/referrers/{}", subject.digest()),
        format!("/v2/a/referrers/{}", sha256(b"unknown")),
        format!("/v2/never/heard-of/referrers/{}", sha256(b"unknown")),
        // Well-formed, of an algorithm that nothing here can have.
        "/v2/a/referrers/md5:d41d8cd98f00b204e9800998ecf8427e".to_owned(),
    ] {
        let reply = server.get(&path).send().expect(200).expect_header("content-type", INDEX);
        assert_eq!(reply.json()["manifests"], json!([]));
    }
}

#[test]
fn s1_6_the_artifact_type_is_the_manifest_s_else_its_config_s() {
    let (server, subject) = with_subject();
    let about = json!({"subject": subject.descriptor()});
    let plain_image = image(b"{}", &[], &about);
    let plain_index = index(&[], &about);
    let typed_index =
        index(&[], &json!({"subject": subject.descriptor(), "artifactType": "application/x.index"}));
    let opaque = Content::json("application/vnd.example+json", &json!({"subject": subject.descriptor()}));
    for manifest in [&plain_image, &plain_index, &typed_index, &opaque] {
        server
            .put_manifest("a", &manifest.digest(), manifest)
            .expect(201)
            .expect_header("oci-subject", subject.digest());
    }
    let reply = server.get(&format!("/v2/a/referrers/{}", subject.digest())).send().expect(200);
    assert_eq!(digests(&reply), sorted(&[&plain_image, &plain_index, &typed_index, &opaque]));
    assert_eq!(entry(&reply, &plain_image)["artifactType"], "application/vnd.oci.image.config.v1+json");
    assert_eq!(entry(&reply, &plain_index).get("artifactType"), None);
    assert_eq!(entry(&reply, &typed_index)["artifactType"], "application/x.index");
    assert_eq!(entry(&reply, &typed_index)["mediaType"], INDEX);
    assert_eq!(entry(&reply, &opaque)["mediaType"], "application/vnd.example+json");
}

#[test]
fn s1_6_an_artifact_manifest_of_the_time_before_oci_1_1_is_a_referrer() {
    let (server, subject) = with_subject();
    let old = Content::json(
        "application/vnd.oci.artifact.manifest.v1+json",
        &json!({
            "mediaType": "application/vnd.oci.artifact.manifest.v1+json",
            "artifactType": "application/x.old",
            "blobs": [descriptor("application/json", b"{}")],
            "subject": subject.descriptor(),
        }),
    );
    server.put_manifest("a", &old.digest(), &old).expect(201);
    let reply = server.get(&format!("/v2/a/referrers/{}", subject.digest())).send().expect(200);
    assert_eq!(entry(&reply, &old)["artifactType"], "application/x.old");
}

#[test]
fn s1_6_referrers_pushed_before_their_subject_are_listed() {
    let server = Server::start();
    server.push_blob("a", b"{}");
    let subject = image(b"{}", &[], &json!({"annotations": {"late": "yes"}}));
    let early = referrer(&subject.descriptor(), "application/x", "early");
    server.put_manifest("a", &early.digest(), &early).expect(201);
    let path = format!("/v2/a/referrers/{}", subject.digest());
    assert_eq!(digests(&server.get(&path).send().expect(200)), sorted(&[&early]));
    server.put_manifest("a", "v1", &subject).expect(201);
    assert_eq!(digests(&server.get(&path).send().expect(200)), sorted(&[&early]));
}

#[test]
fn s1_6_referrers_belong_to_their_repository() {
    let (server, subject) = with_subject();
    let one = referrer(&subject.descriptor(), "application/x", "one");
    server.put_manifest("a", &one.digest(), &one).expect(201);
    server.push_image("b", "v1", 1);
    let reply = server.get(&format!("/v2/b/referrers/{}", subject.digest())).send().expect(200);
    assert_eq!(digests(&reply), [""; 0]);
}

#[test]
fn s1_6_a_fallback_tag_of_an_older_client_is_a_tag_and_what_it_lists_is_found_all_the_same() {
    let (server, subject) = with_subject();
    let one = referrer(&subject.descriptor(), "application/x", "one");
    server.put_manifest("a", &one.digest(), &one).expect(201);
    let fallback = index(&[one.descriptor()], &json!({}));
    let tag = subject.digest().replace(':', "-");
    server.put_manifest("a", &tag, &fallback).expect(201);
    server.get(&format!("/v2/a/manifests/{tag}")).send().expect(200).expect_body(&fallback.bytes);
    let reply = server.get(&format!("/v2/a/referrers/{}", subject.digest())).send().expect(200);
    assert_eq!(digests(&reply), sorted(&[&one]));
}

#[test]
fn s1_6_pages_stay_below_four_mebibytes_and_lead_to_all() {
    let (server, subject) = with_subject();
    let note = "n".repeat(400_000);
    let mut all = Vec::new();
    for n in 0..12 {
        let manifest =
            referrer(&subject.descriptor(), &format!("application/x.{}", n % 2), &format!("{n}{note}"));
        server.put_manifest("a", &manifest.digest(), &manifest).expect(201);
        all.push(manifest);
    }
    let walk = |start: String| {
        let mut found = Vec::new();
        let mut pages = 0;
        let mut next = Some(start);
        while let Some(target) = next {
            let page = server.get(&target).send().expect(200).expect_header("content-type", INDEX);
            assert!(page.body.len() < 4 * 1024 * 1024, "{} bytes", page.body.len());
            assert_eq!(
                page.get("oci-filters-applied").is_some(),
                target.contains("artifactType="),
                "{target}"
            );
            found.extend(digests(&page));
            next = page.next();
            pages += 1;
        }
        found.sort();
        (found, pages)
    };
    let path = format!("/v2/a/referrers/{}", subject.digest());
    let (found, pages) = walk(path.clone());
    assert_eq!(found, sorted(&all.iter().collect::<Vec<_>>()));
    assert!(pages > 1);
    let even: Vec<&Content> = all.iter().step_by(2).collect();
    assert_eq!(walk(format!("{path}?artifactType=application/x.0")).0, sorted(&even));
}
