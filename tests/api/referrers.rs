//! Lists of referrers.

use serde_json::{Value, json};

use crate::support::{
    Content, IMAGE, INDEX, Reply, Server, descriptor, image, index, referrer, sha256, sha512,
};

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

/// What an old client pushes: a signature that names no subject.
fn without_subject(note: &str) -> Content {
    let mut plain: Value =
        serde_json::from_slice(&referrer(&json!(null), "application/x.old-signature", note).bytes).unwrap();
    plain.as_object_mut().unwrap().remove("subject");
    Content::json(IMAGE, &plain)
}

#[test]
fn s1_6_a_fallback_tag_is_merged_with_what_names_the_subject_each_once() {
    let (server, subject) = with_subject();
    let named = referrer(&subject.descriptor(), "application/x.signature", "named");
    let (listed, gone) = (without_subject("listed"), without_subject("gone"));
    for manifest in [&named, &listed, &gone] {
        server.put_manifest("a", &manifest.digest(), manifest).expect(201);
    }
    let path = format!("/v2/a/referrers/{}", subject.digest());
    assert_eq!(digests(&server.get(&path).send().expect(200)), sorted(&[&named]));

    // Twice the same, one that names the subject itself, the subject, and one about something else.
    let other = referrer(&descriptor(IMAGE, b"other"), "application/x.signature", "other");
    server.put_manifest("a", &other.digest(), &other).expect(201);
    let entries = [&listed, &named, &listed, &gone, &subject, &other].map(Content::descriptor);
    let fallback = index(&entries, &json!({}));
    let tag = subject.digest().replace(':', "-");
    server.put_manifest("a", &tag, &fallback).expect(201);
    let reply = server.get(&path).send().expect(200);
    assert_eq!(digests(&reply), sorted(&[&named, &listed, &gone]));
    assert_eq!(
        entry(&reply, &listed),
        json!({
            "mediaType": IMAGE,
            "digest": listed.digest(),
            "size": listed.bytes.len(),
            "artifactType": "application/x.old-signature",
            "annotations": {"note": "listed"},
        })
    );
    let filtered = server.get(&format!("{path}?artifactType=application/x.old-signature")).send().expect(200);
    assert_eq!(digests(&filtered), sorted(&[&listed, &gone]));

    // Neither kind of referrer is held by the list.
    server.delete(&format!("/v2/a/manifests/{}", gone.digest())).send().expect(202);
    assert_eq!(digests(&server.get(&path).send().expect(200)), sorted(&[&named, &listed]));
    server.delete(&format!("/v2/a/manifests/{}", named.digest())).send().expect(202);
    assert_eq!(digests(&server.get(&path).send().expect(200)), sorted(&[&listed]));

    // The client goes on with its list, which still names what is gone.
    let more = without_subject("more");
    server.put_manifest("a", &more.digest(), &more).expect(201);
    let fallback = index(&[listed.descriptor(), gone.descriptor(), more.descriptor()], &json!({}));
    server.put_manifest("a", &tag, &fallback).expect(201);
    assert_eq!(digests(&server.get(&path).send().expect(200)), sorted(&[&listed, &more]));
    server.delete(&format!("/v2/a/manifests/{tag}")).send().expect(202);
    assert_eq!(digests(&server.get(&path).send().expect(200)), [""; 0]);
}

#[test]
fn s1_6_a_list_of_referrers_becomes_an_index_like_others_when_another_tag_names_it() {
    let (server, subject) = with_subject();
    let (one, two) = (without_subject("one"), without_subject("two"));
    for manifest in [&one, &two] {
        server.put_manifest("a", &manifest.digest(), manifest).expect(201);
    }
    let list = index(&[one.descriptor(), two.descriptor()], &json!({}));
    let tag = subject.digest().replace(':', "-");
    server.put_manifest("a", &tag, &list).expect(201);
    let body = serde_json::to_vec(&json!({"digest": list.digest()})).unwrap();
    let release = "/v2/_orlop/repositories/a/tags/release";
    server.put(release).body(&body).send().expect(201);
    let held = server.delete(&format!("/v2/a/manifests/{}", one.digest())).send().expect_error(405, "DENIED");
    assert_eq!(held.json()["errors"][0]["detail"]["parents"], json!([list.digest()]));
    // One that has lost a child can't become such an index.
    let short = index(&[one.descriptor(), descriptor(IMAGE, b"never pushed")], &json!({}));
    server.put_manifest("a", &tag, &short).expect(201);
    let body = serde_json::to_vec(&json!({"digest": short.digest()})).unwrap();
    server.put(release).body(&body).send().expect_error(404, "MANIFEST_BLOB_UNKNOWN");
    server.put_manifest("a", "release", &short).expect_error(404, "MANIFEST_BLOB_UNKNOWN");
    server.get("/v2/a/manifests/release").send().expect(200).expect_body(&list.bytes);
}

#[test]
fn s1_6_a_fallback_tag_of_a_sha512_subject_holds_the_beginning_of_its_digest() {
    let (server, subject) = with_subject();
    let named = sha512(&subject.bytes);
    server.put_manifest("a", &named, &subject).expect(201);
    let one = without_subject("one");
    server.put_manifest("a", &one.digest(), &one).expect(201);
    let tag = &named.replace(':', "-")[.."sha512-".len() + 64];
    server.put_manifest("a", tag, &index(&[one.descriptor()], &json!({}))).expect(201);
    for digest in [named, subject.digest()] {
        let reply = server.get(&format!("/v2/a/referrers/{digest}")).send().expect(200);
        assert_eq!(digests(&reply), sorted(&[&one]), "{digest}");
    }
}

#[test]
fn s1_6_deleting_a_referrer_removes_it_and_an_index_may_be_one() {
    let (server, subject) = with_subject();
    let child = server.push_image("a", "", 2);
    let typed = json!({"subject": subject.descriptor(), "artifactType": "application/x.bundle"});
    let index_of_one = index(&[child.descriptor()], &typed);
    // A null or empty type is none, and only images fall back to their configuration's.
    let untyped = json!({"subject": subject.descriptor(), "artifactType": null});
    let plain = index(&[child.descriptor()], &untyped);
    for manifest in [&index_of_one, &plain] {
        server.put_manifest("a", &manifest.digest(), manifest).expect(201);
    }
    let path = format!("/v2/a/referrers/{}", subject.digest());
    let reply = server.get(&path).send().expect(200);
    assert_eq!(digests(&reply), sorted(&[&index_of_one, &plain]));
    assert_eq!(entry(&reply, &index_of_one)["artifactType"], "application/x.bundle");
    assert_eq!(entry(&reply, &index_of_one)["mediaType"], INDEX);
    assert!(entry(&reply, &plain).get("artifactType").is_none());
    let filtered = server.get(&format!("{path}?artifactType=application/x.bundle")).send().expect(200);
    assert_eq!(digests(&filtered), sorted(&[&index_of_one]));
    server.delete(&format!("/v2/a/manifests/{}", index_of_one.digest())).send().expect(202);
    assert_eq!(digests(&server.get(&path).send().expect(200)), sorted(&[&plain]));
}

#[test]
fn s1_6_pages_lead_through_both_kinds_of_referrers_below_four_mebibytes() {
    let (server, subject) = with_subject();
    let note = "n".repeat(700_000);
    let mut all = Vec::new();
    let mut entries = Vec::new();
    for n in 0..6 {
        let named = referrer(&subject.descriptor(), "application/x", &format!("{n}{note}"));
        let listed = without_subject(&format!("{n}{note}"));
        for manifest in [named, listed] {
            server.put_manifest("a", &manifest.digest(), &manifest).expect(201);
            entries.push(manifest.descriptor());
            all.push(manifest);
        }
    }
    let tag = subject.digest().replace(':', "-");
    server.put_manifest("a", &tag, &index(&entries, &json!({}))).expect(201);
    let (mut found, mut pages) = (Vec::new(), 0);
    let mut next = Some(format!("/v2/a/referrers/{}", subject.digest()));
    while let Some(target) = next {
        let page = server.get(&target).send().expect(200);
        assert!(page.body.len() < 4 * 1024 * 1024, "{} bytes", page.body.len());
        found.extend(digests(&page));
        next = page.next();
        pages += 1;
    }
    found.sort();
    assert_eq!(found, sorted(&all.iter().collect::<Vec<_>>()));
    assert!(pages >= 3, "{pages}");
}

/// What a list under a tag names is read to be described: no more than some MiB of it for one answer, however short that is.
#[test]
fn s1_6_a_page_reads_no_more_of_what_a_list_names_than_some_mebibytes() {
    let (server, subject) = with_subject();
    let mut all = Vec::new();
    for n in 0..5 {
        let mut long: Value = serde_json::from_slice(&without_subject(&n.to_string()).bytes).unwrap();
        long["padding"] = json!("x".repeat(1_500_000));
        let long = Content::json(IMAGE, &long);
        server.put_manifest("a", &long.digest(), &long).expect(201);
        all.push(long);
    }
    let entries: Vec<Value> = all.iter().map(Content::descriptor).collect();
    let tag = subject.digest().replace(':', "-");
    server.put_manifest("a", &tag, &index(&entries, &json!({}))).expect(201);
    let first = server.get(&format!("/v2/a/referrers/{}", subject.digest())).send().expect(200);
    let second = server.get(&first.next().expect("another page")).send().expect(200);
    assert_eq!((digests(&first).len(), digests(&second).len(), second.next()), (3, 2, None));
    let mut found = [digests(&first), digests(&second)].concat();
    found.sort();
    assert_eq!(found, sorted(&all.iter().collect::<Vec<_>>()));
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
