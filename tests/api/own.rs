//! The end-points under `/v2/_orlop/`: tags without a push, their history, and the revisions of a repository.

use serde_json::{Value, json};

use crate::support::{Content, Reply, Server, sha256, sha512};

const OWN: &str = "/v2/_orlop/repositories";

fn set_tag(server: &Server, repository: &str, tag: &str, body: &Value) -> Reply {
    let body = serde_json::to_vec(body).unwrap();
    server
        .put(&format!("{OWN}/{repository}/tags/{tag}"))
        .header("content-type", "application/json")
        .body(&body)
        .send()
}

/// Reads a listing to its end, by pages of `n`; returns the entries under `field`.
fn walk(server: &Server, path: &str, n: usize, field: &str) -> Vec<Value> {
    let mut entries = Vec::new();
    let mut next = Some(format!("{path}?n={n}"));
    while let Some(target) = next {
        assert!(target.starts_with(path), "{target}");
        let page = server.get(&target).send().expect(200).expect_header("content-type", "application/json");
        let json = page.json();
        let some = json[field].as_array().unwrap();
        assert!(some.len() <= n);
        entries.extend(some.iter().cloned());
        next = page.next();
    }
    entries
}

#[test]
fn a_tag_is_set_without_pushing_the_manifest_again() {
    let server = Server::start();
    let image = server.push_image("team/tags/app", "v1", 1);
    set_tag(&server, "team/tags/app", "latest", &json!({"digest": image.digest()}))
        .expect(201)
        .expect_header("location", "/v2/team/tags/app/manifests/latest")
        .expect_header("docker-content-digest", image.digest())
        .expect_header("oci-tag", "latest");
    server
        .get("/v2/team/tags/app/manifests/latest")
        .send()
        .expect(200)
        .expect_body(&image.bytes)
        .expect_header("docker-content-digest", image.digest());
    // Moving it is the same.
    let other = server.push_image("team/tags/app", "", 2);
    set_tag(&server, "team/tags/app", "latest", &json!({"digest": other.digest()})).expect(201);
    server.get("/v2/team/tags/app/manifests/latest").send().expect(200).expect_body(&other.bytes);
    server.get("/v2/team/tags/app/manifests/v1").send().expect(200).expect_body(&image.bytes);
}

#[test]
fn a_tag_may_name_the_manifest_by_any_of_its_digests() {
    let server = Server::start();
    let image = server.push_image("a", "v1", 1);
    let named = sha512(&image.bytes);
    set_tag(&server, "a", "v2", &json!({"digest": named})).expect_error(404, "MANIFEST_UNKNOWN");
    server.put_manifest("a", &named, &image).expect(201);
    set_tag(&server, "a", "v2", &json!({"digest": named}))
        .expect(201)
        .expect_header("docker-content-digest", &named);
    server.head("/v2/a/manifests/v2").send().expect(200).expect_header("docker-content-digest", &named);
}

#[test]
fn pulls_are_counted_for_manifests_and_tags_as_docker_pulls_them() {
    let server = Server::start();
    let image = server.push_image("team/app", "v1", 1);
    let other = server.push_image("team/app", "", 2);
    let manifest = |digest: String| {
        let all = server.get(&format!("{OWN}/team/app/manifests")).send().expect(200).json();
        let found = all["manifests"].as_array().unwrap().iter().find(|entry| entry["digest"] == *digest);
        found.unwrap().clone()
    };
    let tag = || server.get(&format!("{OWN}/team/app/tags/v1/history")).send().expect(200).json();
    assert_eq!((&manifest(image.digest())["pulls"], &tag()["pulls"]), (&json!(0), &json!(0)));
    assert_eq!((&manifest(image.digest())["pulledAt"], &tag()["pulledAt"]), (&Value::Null, &Value::Null));

    let (by_tag, by_digest) =
        ("/v2/team/app/manifests/v1".to_owned(), format!("/v2/team/app/manifests/{}", image.digest()));
    server.get(&by_tag).send().expect(200);
    server.get(&by_digest).send().expect(200);
    assert_eq!((&manifest(image.digest())["pulls"], &tag()["pulls"]), (&json!(2), &json!(1)));
    server.head(&by_tag).send().expect(200);
    server.get(&by_tag).header("if-none-match", &format!("\"{}\"", image.digest())).send().expect(304);
    assert_eq!((&manifest(image.digest())["pulls"], &tag()["pulls"]), (&json!(2), &json!(1)));
    server.get(&by_digest).send().expect(200);
    assert_eq!((&manifest(image.digest())["pulls"], &tag()["pulls"]), (&json!(3), &json!(2)));
    assert!(tag()["pulledAt"].as_str().unwrap().starts_with("20"));
    assert_eq!(tag()["pulledAt"], manifest(image.digest())["pulledAt"]);
    assert_eq!(manifest(other.digest())["pulls"], 0);

    server.delete("/v2/team/app/manifests/v1").send().expect(202);
    assert_eq!((&manifest(image.digest())["pulls"], &tag()["pulls"]), (&json!(3), &Value::Null));
}

#[test]
fn what_cannot_be_tagged_is_refused_and_changes_nothing() {
    let server = Server::start();
    let image = server.push_image("a", "v1", 1);
    let unknown = json!({"digest": sha256(b"unknown")});
    set_tag(&server, "a", "v1", &unknown).expect_error(404, "MANIFEST_UNKNOWN");
    set_tag(&server, "never", "v1", &unknown).expect_error(404, "NAME_UNKNOWN");
    for body in [json!({}), json!([]), json!({"digest": 5}), json!({"digest": "latest"}), json!("v1")] {
        set_tag(&server, "a", "v1", &body).expect_error(400, "DIGEST_INVALID");
    }
    set_tag(&server, "a", ".v1", &json!({"digest": image.digest()})).expect_error(400, "TAG_INVALID");
    set_tag(&server, "A", "v1", &json!({"digest": image.digest()})).expect_error(400, "NAME_INVALID");
    let long = json!({"digest": image.digest(), "more": "x".repeat(5_000)});
    set_tag(&server, "a", "v1", &long).expect(413);
    // Another repository's manifest is none of this one's.
    server.push_image("b", "v1", 2);
    set_tag(&server, "b", "v2", &json!({"digest": image.digest()})).expect_error(404, "MANIFEST_UNKNOWN");
    server.get("/v2/a/manifests/v1").send().expect(200).expect_body(&image.bytes);
    server.post(&format!("{OWN}/a/tags/v1")).body(b"").send().expect_error(405, "UNSUPPORTED");
    server.get(&format!("{OWN}/a/nonsense")).send().expect_error(404, "UNSUPPORTED");
}

#[test]
fn pushing_the_same_manifest_under_another_tag_tags_it_too() {
    let server = Server::start();
    let image = server.push_image("a", "v1", 1);
    server.put_manifest("a", "v2", &image).expect(201);
    server.get("/v2/a/manifests/v2").send().expect(200).expect_body(&image.bytes);
    let path = format!("{OWN}/a/manifests/{}/tags", image.digest());
    assert_eq!(server.get(&path).send().expect(200).strings("tags"), ["v1", "v2"]);
}

#[test]
fn the_history_of_a_tag_is_the_newest_first_and_outlives_it() {
    let server = Server::start();
    let images: Vec<Content> = (1..=7).map(|seed| server.push_image("a/history", "v1", seed)).collect();
    set_tag(&server, "a/history", "v1", &json!({"digest": images[0].digest()})).expect(201);
    server.delete("/v2/a/history/manifests/v1").send().expect(202);
    let path = format!("{OWN}/a/history/tags/v1/history");
    let whole = server.get(&path).send().expect(200);
    assert_eq!((&whole.json()["name"], &whole.json()["tag"]), (&json!("a/history"), &json!("v1")));
    assert_eq!(whole.next(), None);
    let revisions = walk(&server, &path, 3, "revisions");
    assert_eq!(whole.json()["revisions"], json!(revisions));
    let digests: Vec<&str> = revisions.iter().map(|entry| entry["digest"].as_str().unwrap()).collect();
    let expected: Vec<String> =
        std::iter::once(&images[0]).chain(images.iter().rev()).map(Content::digest).collect();
    assert_eq!(digests, expected);
    let times: Vec<&str> = revisions.iter().map(|entry| entry["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|later, earlier| later >= earlier) && times[0].ends_with('Z'), "{times:?}");
    assert!(revisions.iter().all(|entry| entry["actor"] == "anonymous"));

    server.get(&format!("{OWN}/a/history/tags/v/history")).send().expect_error(404, "MANIFEST_UNKNOWN");
    server.get(&format!("{OWN}/never/tags/v1/history")).send().expect_error(404, "NAME_UNKNOWN");
    server.get(&format!("{path}?last=x")).send().expect_error(400, "PAGINATION_NUMBER_INVALID");
    assert_eq!(server.get(&format!("{path}?last=0")).send().expect(200).json()["revisions"], json!([]));
}

#[test]
fn all_revisions_are_listed_tagged_or_not_while_others_come_and_go() {
    let server = Server::start();
    let mut images: Vec<Content> = (1..=9).map(|seed| server.push_image("a", "", seed)).collect();
    images.sort_by_key(Content::digest);
    let path = format!("{OWN}/a/manifests");
    let digests = |entries: &[Value]| -> Vec<String> {
        entries.iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect()
    };
    let expected: Vec<String> = images.iter().map(Content::digest).collect();
    let entries = walk(&server, &path, 4, "manifests");
    assert_eq!(digests(&entries), expected);
    assert_eq!(entries[0]["size"], json!(images[0].bytes.len()));
    assert_eq!(entries[0]["mediaType"], json!(images[0].media_type));

    // The cursor stands on a revision that goes.
    let first = server.get(&format!("{path}?n=4")).send().expect(200);
    server.delete(&format!("/v2/a/manifests/{}", expected[3])).send().expect(202);
    let second = server.get(&first.next().unwrap()).send().expect(200);
    assert_eq!(digests(second.json()["manifests"].as_array().unwrap()), expected[4..8]);
    server.get(&format!("{path}?last=v1")).send().expect_error(400, "DIGEST_INVALID");
    server.get(&format!("{OWN}/never/manifests")).send().expect_error(404, "NAME_UNKNOWN");
}

#[test]
fn the_tags_of_a_manifest_are_looked_up_by_its_digest() {
    let server = Server::start();
    let image = server.push_image("a/manifests", "", 1);
    server.push_image("a/manifests", "other", 2);
    let tags: Vec<String> = (0..25).map(|n| format!("v{n:02}")).collect();
    let query: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
    server
        .put_manifest("a/manifests", &format!("{}?{}", image.digest(), query.join("&")), &image)
        .expect(201);
    let path = format!("{OWN}/a/manifests/manifests/{}/tags", image.digest());
    assert_eq!(walk(&server, &path, 10, "tags"), tags.iter().map(|tag| json!(tag)).collect::<Vec<_>>());
    let unknown = format!("{OWN}/a/manifests/manifests/{}/tags", sha256(b"unknown"));
    server.get(&unknown).send().expect_error(404, "MANIFEST_UNKNOWN");
}

#[test]
fn hits_and_misses_of_the_cache_are_metrics_and_it_can_be_switched_off() {
    let counted = |server: &Server, name: &str| -> u64 {
        let text = server.get("/metrics").send().expect(200).text_whole();
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let server = Server::start();
    server.push_image("a", "v1", 1);
    server.get("/v2/a/manifests/v1").send().expect(200);
    let before = counted(&server, "orlop_descriptor_cache_hits_total");
    for _ in 0..4 {
        server.get("/v2/a/manifests/v1").send().expect(200);
    }
    // One look-up for each: without upstreams nothing has to be asked about the repository.
    assert_eq!(counted(&server, "orlop_descriptor_cache_hits_total"), before + 4);
    assert!(counted(&server, "orlop_descriptor_cache_misses_total") >= 1);
    assert_eq!(counted(&server, "orlop_manifest_cache_hits_total"), 4);

    let off = Server::with(&[("cache.layerinfo", "none")]);
    off.push_image("a", "v1", 1);
    for _ in 0..5 {
        off.get("/v2/a/manifests/v1").send().expect(200);
    }
    assert_eq!(counted(&off, "orlop_descriptor_cache_hits_total"), 0);
    assert!(
        off.log().contains("cache.layerinfo is now called storage.cache.blobdescriptor"),
        "{}",
        off.log()
    );
}

#[test]
fn pulls_of_a_few_seconds_ago_survive_a_crash() {
    let mut server = Server::start();
    server.push_image("a", "v1", 1);
    let pulls = |server: &Server| {
        let page = server.get("/v2/_orlop/repositories/a/manifests").send().expect(200);
        page.json()["manifests"][0]["pulls"].as_u64().unwrap()
    };
    // They are written every five seconds; a busy machine gets more of them.
    for seconds in [6, 12, 24, 48] {
        server.get("/v2/a/manifests/v1").send().expect(200);
        std::thread::sleep(std::time::Duration::from_secs(seconds));
        server.kill();
        server.run_again();
        if pulls(&server) > 0 {
            return;
        }
    }
    panic!("no pull was written");
}
