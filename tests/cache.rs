//! The pull-through cache: whose a name is, manifests, freshness, lists, and what is done without the upstream.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use support::{Content, Fault, FaultyUpstream, INDEX, Server, descriptor, image, index, noise, referrer};

/// The configuration of an upstream called `host`.
fn upstream(host: &str, at: &FaultyUpstream, more: &str) -> String {
    format!("[[upstream]]\nhost = \"{host}\"\nurl = \"{}\"\n{more}\n", at.url())
}

/// A server that caches `hub.example`, whose tags are looked at again each time.
fn caching(at: &FaultyUpstream) -> Server {
    Server::with_file(&upstream("hub.example", at, "revalidate_after = \"0s\""), &[])
}

/// Gives the upstream an image, and returns it.
fn put_image(at: &FaultyUpstream, tag: &str, seed: u64) -> Content {
    let (config, layer) = (format!("{{\"seed\":{seed}}}").into_bytes(), noise(seed, 1000));
    at.put_blob(&config);
    at.put_blob(&layer);
    let image = image(&config, &[&layer], &json!({}));
    at.put_manifest(tag, &image.media_type, &image.bytes);
    image
}

fn manifest(name: &str, reference: &str) -> String {
    format!("/v2/{name}/manifests/{reference}")
}

#[test]
fn every_route_to_an_upstream_leads_to_the_same_repository() {
    let hub = FaultyUpstream::start();
    let other = FaultyUpstream::start();
    let box1 = put_image(&hub, "1", 1);
    put_image(&other, "1", 2);
    let config = format!(
        "cache.default = \"docker.io\"\n{}{}",
        upstream("docker.io", &hub, ""),
        upstream("quay.example", &other, "")
    );
    let server = Server::with_file(&config, &[]);
    for target in [
        "/v2/docker.io/library/box/manifests/1",
        "/v2/library/box/manifests/1?ns=docker.io",
        "/v2/library/box/manifests/1?ns=index.docker.io",
        "/v2/library/box/manifests/1?ns=registry-1.docker.io",
        "/v2/registry-1.docker.io/library/box/manifests/1",
        "/v2/docker.io/library/box/manifests/1?ns=docker.io",
        "/v2/library/box/manifests/1",
        "/v2/box/manifests/1",
        "/v2/box/manifests/1?ns=docker.io",
        "/v2/docker.io/box/manifests/1",
    ] {
        let reply = server.get(target).send().expect(200).expect_body(&box1.bytes);
        reply
            .expect_header("oci-namespace", "docker.io")
            .expect_header("docker-content-digest", box1.digest());
        server.head(target).send().expect(200).expect_header("content-type", &box1.media_type);
    }
    assert_eq!(hub.count("GET", "/v2/library/box/manifests/"), 1, "{:?}", hub.received());
    let reply = server.get("/v2/team/box/manifests/1?ns=quay.example").send().expect(200);
    reply.expect_header("oci-namespace", "quay.example");
    assert_eq!(other.count("GET", "/v2/team/box/manifests/"), 1);
    let catalog = server.get("/v2/_catalog").send().expect(200);
    assert_eq!(catalog.strings("repositories"), ["docker.io/library/box", "quay.example/team/box"]);
}

#[test]
fn what_is_of_nobody_that_is_configured_is_unknown_and_nobody_is_asked() {
    let hub = FaultyUpstream::start();
    put_image(&hub, "1", 1);
    let config = format!("cache.default = \"docker.io\"\n{}", upstream("docker.io", &hub, ""));
    let server = Server::with_file(&config, &[]);
    for target in [
        "/v2/library/box/manifests/1?ns=ghcr.io",
        "/v2/docker.io/library/box/manifests/1?ns=ghcr.io",
        "/v2/library/box/manifests/1?ns=localhost",
        "/v2/ghcr.io/library/box/manifests/1",
        "/v2/localhost/box/manifests/1",
        "/v2/library/box/manifests/1?ns=http://127.0.0.1",
    ] {
        server.get(target).send().expect_error(404, "NAME_UNKNOWN").expect_no_header("oci-namespace");
    }
    assert!(hub.received().is_empty(), "{:?}", hub.received());
    // containerd says the host of the image also where that is this registry.
    let own = format!("/v2/library/box/manifests/1?ns={}", server.host());
    server.get(&own).send().expect(200);
}

#[test]
fn without_a_default_upstream_names_are_ones_own() {
    let hub = FaultyUpstream::start();
    put_image(&hub, "1", 1);
    let server = caching(&hub);
    server.get("/v2/library/box/manifests/1").send().expect_error(404, "NAME_UNKNOWN");
    server.get("/v2/ghcr.io/box/manifests/1").send().expect_error(404, "NAME_UNKNOWN");
    assert!(hub.received().is_empty());
}

#[test]
fn local_names_win_and_never_fall_through() {
    let hub = FaultyUpstream::start();
    put_image(&hub, "1", 1);
    put_image(&hub, "2", 2);
    let config = format!(
        "delete.undo = \"3s\"\ncache.default = \"docker.io\"\ncache.local = [\"team/**\"]\n{}",
        upstream("docker.io", &hub, "")
    );
    let server = Server::with_file(&config, &[]);
    server.get(&manifest("team/app", "1")).send().expect_error(404, "NAME_UNKNOWN");
    // A push client asks whether its blobs are there, and must not be told of somebody else's.
    let blob = hub.put_blob(b"base layer");
    server.head(&format!("/v2/app/blobs/{blob}")).send().expect(404);
    server.head(&format!("/v2/library/app/blobs/{blob}")).send().expect(404);
    assert!(hub.received().is_empty(), "{:?}", hub.received());

    let own = server.push_image("library/box", "1", 9);
    server.get(&manifest("library/box", "1")).send().expect(200).expect_body(&own.bytes);
    server.get(&manifest("library/box", "2")).send().expect_error(404, "MANIFEST_UNKNOWN");
    assert!(hub.received().is_empty(), "{:?}", hub.received());
    server.delete("/v2/_orlop/repositories/library/box").send().expect(202);
    server.get(&manifest("library/box", "1")).send().expect_error(404, "NAME_UNKNOWN");
    assert!(hub.received().is_empty(), "{:?}", hub.received());
    // Until it can't come back any more.
    let gone = std::iter::repeat_with(|| {
        std::thread::sleep(Duration::from_millis(200));
        server.get(&manifest("library/box", "1")).send().status
    });
    assert!(gone.take(150).any(|status| status == 200), "the name stays local for ever");
}

#[test]
fn names_outside_of_the_scope_are_the_default_upstreams_and_take_no_pushes() {
    let hub = FaultyUpstream::start();
    let one = put_image(&hub, "1", 1);
    let config =
        format!("scope = [\"team/**\"]\ncache.default = \"docker.io\"\n{}", upstream("docker.io", &hub, ""));
    let mut server = Server::with_file("", &[]);
    server.push_image("library/mine", "1", 8);
    server.stop();
    server.configure(&config);
    server.run_again();
    server.get(&manifest("library/mine", "1")).send().expect_error(404, "NAME_UNKNOWN");
    assert!(hub.received().is_empty(), "{:?}", hub.received());
    server.get(&manifest("library/box", "1")).send().expect(200).expect_body(&one.bytes);
    server.post("/v2/library/box/blobs/uploads/").body(b"").send().expect(403);
    let own = server.push_image("team/app", "1", 9);
    server.get(&manifest("team/app", "1")).send().expect(200).expect_body(&own.bytes);
}

#[test]
fn a_push_of_a_new_name_never_depends_on_the_default_upstream() {
    let faults = [
        Fault::Status(401, &[], "{}"),
        Fault::Status(403, &[], "{}"),
        Fault::Status(429, &[("retry-after", "600")], "{}"),
        Fault::Status(503, &[("retry-after", "600")], "{}"),
        Fault::Close,
        Fault::Body(b"<html>".to_vec()),
    ];
    for fault in faults {
        let hub = FaultyUpstream::start();
        hub.order("HEAD", "", 100, fault.clone());
        hub.order("GET", "", 100, fault.clone());
        let server = Server::with_file(&upstream("docker.io", &hub, ""), &[]);
        // As containerd does before it pushes.
        server.head(&manifest("app", "1")).send().expect(404);
        let status = server.get(&manifest("app", "1")).send().status;
        let is_refusal = matches!(fault, Fault::Status(401 | 403, ..));
        assert!(status == 404 || !is_refusal, "{fault:?}: {status}");
        server.push_image("app", "1", 1);
        server.get(&manifest("app", "1")).send().expect(200);
    }
}

#[test]
fn what_filters_leave_out_of_the_default_upstream_is_ones_own() {
    let hub = FaultyUpstream::start();
    put_image(&hub, "1", 1);
    let server = Server::with_file(&upstream("docker.io", &hub, "allow = [\"library/box\"]"), &[]);
    server.get(&manifest("box", "1")).send().expect(200);
    let asked = hub.received().len();
    server.head(&manifest("app", "1")).send().expect(404);
    server.get(&manifest("app", "1")).send().expect_error(404, "NAME_UNKNOWN");
    server.get(&manifest("docker.io/app", "1")).send().expect_error(403, "DENIED");
    assert_eq!(hub.received().len(), asked);
}

#[test]
fn nobody_waits_twice_for_an_upstream_that_is_slow() {
    let hub = FaultyUpstream::start();
    let one = put_image(&hub, "1", 1);
    let file = upstream("hub.example", &hub, "revalidate_after = \"0s\"\npatience = \"10s\"");
    let server = Server::with_file(&file, &[]);
    let target = manifest("hub.example/a/box", "1");
    server.get(&target).send().expect(200);
    hub.order("HEAD", "/manifests/", 1, Fault::Hang);
    let is_stale = |server: &Server| {
        let stale = server.get(&target).send().expect(200).expect_body(&one.bytes);
        assert!(stale.header("warning").contains("takes longer"), "{}", stale.header("warning"));
    };
    is_stale(&server);
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..5).for_each(|_| is_stale(&server));
            tell.send(()).unwrap();
        });
        told.recv_timeout(Duration::from_secs(9)).expect("they don't wait for as long as the first");
    });
    // The one that hangs is asked for all of them.
    assert_eq!(hub.count("HEAD", "/manifests/"), 2, "the first one and the one that hangs");
}

#[test]
fn only_names_under_an_upstream_refuse_pushes() {
    let hub = FaultyUpstream::start();
    let config = format!("cache.default = \"docker.io\"\n{}", upstream("docker.io", &hub, ""));
    let server = Server::with_file(&config, &[]);
    let image = image(b"{}", &[], &json!({}));
    for name in ["docker.io/library/box", "docker.io/box"] {
        let reply = server.post(&format!("/v2/{name}/blobs/uploads/")).body(b"").send();
        let reply = reply.expect_error(403, "DENIED");
        assert!(
            reply.text().contains("docker.io") && reply.text().contains("takes no pushes"),
            "{}",
            reply.text()
        );
        server.put_manifest(name, "1", &image).expect_error(403, "DENIED");
    }
    server.post("/v2/library/box/blobs/uploads/?ns=docker.io").body(b"").send().expect_error(403, "DENIED");
    server.push_image("library/box", "1", 1);
    server.push_image("box", "1", 1);
    assert!(hub.received().is_empty(), "{:?}", hub.received());
}

#[test]
fn what_was_pushed_under_the_name_of_a_host_is_nothing_of_its_upstreams() {
    let hub = FaultyUpstream::start();
    put_image(&hub, "1", 1);
    let mut server = Server::with_file("", &[]);
    let squatted = server.push_image("docker.io/library/box", "1", 9);
    let own = server.push_image("library/box", "1", 8);
    server.stop();
    server.configure(&format!("cache.default = \"docker.io\"\n{}", upstream("docker.io", &hub, "")));
    server.run_again();
    for (name, image) in [("docker.io/library/box", &squatted), ("library/box", &own)] {
        server.get(&manifest(name, "1")).send().expect(200).expect_body(&image.bytes);
    }
    for target in ["/v2/library/box/manifests/1?ns=docker.io", "/v2/index.docker.io/library/box/manifests/1"]
    {
        server.get(target).send().expect_error(404, "NAME_UNKNOWN").expect_no_header("oci-namespace");
        server.delete(target).send().expect_error(404, "NAME_UNKNOWN");
    }
    server.get("/v2/box/manifests/1").send().expect_error(404, "NAME_UNKNOWN");
    server.get(&manifest("library/box", "1")).send().expect(200).expect_body(&own.bytes);
    assert!(hub.received().is_empty(), "{:?}", hub.received());
    server.stop();
    server.configure(&upstream("docker.io", &hub, "deny = [\"**\"]"));
    server.run_again();
    server.get(&manifest("docker.io/library/box", "1")).send().expect(200).expect_body(&squatted.bytes);
    server.stop();
    server.configure(&upstream("docker.io", &hub, ""));
    server.run_again();
    server.delete("/v2/_orlop/repositories/docker.io/library/box").send().expect(202);
    server
        .get("/v2/library/box/manifests/1?ns=docker.io")
        .send()
        .expect(200)
        .expect_header("oci-namespace", "docker.io");
}

#[test]
fn what_is_cached_can_be_mounted_into_ones_own_repositories() {
    let hub = FaultyUpstream::start();
    let blob = hub.put_blob(b"base layer");
    let config = format!("cache.default = \"docker.io\"\n{}", upstream("docker.io", &hub, ""));
    let server = Server::with_file(&config, &[]);
    server.get(&format!("/v2/docker.io/library/box/blobs/{blob}")).send().expect(200);
    for (to, from) in [("one", "docker.io/library/box"), ("two", "box"), ("three", "library/box")] {
        let target = format!("/v2/team/{to}/blobs/uploads/?mount={blob}&from={from}");
        server.post(&target).body(b"").send().expect(201);
        server.get(&format!("/v2/team/{to}/blobs/{blob}")).send().expect(200).expect_body(b"base layer");
    }
}

#[test]
fn a_digest_is_asked_for_once_and_a_tag_by_head() {
    let hub = FaultyUpstream::start();
    let one = put_image(&hub, "1", 1);
    let server = caching(&hub);
    for _ in 0..3 {
        let reply = server.get(&manifest("hub.example/a/box", &one.digest())).send().expect(200);
        reply.expect_body(&one.bytes).expect_header("content-type", &one.media_type);
    }
    assert_eq!((hub.count("GET", "/manifests/"), hub.count("HEAD", "/manifests/")), (1, 0));
    for _ in 0..3 {
        server.get(&manifest("hub.example/a/box", "1")).send().expect(200).expect_body(&one.bytes);
    }
    assert_eq!((hub.count("GET", "/manifests/"), hub.count("HEAD", "/manifests/1")), (1, 3));

    let two = put_image(&hub, "1", 2);
    server.get(&manifest("hub.example/a/box", "1")).send().expect(200).expect_body(&two.bytes);
    assert_eq!(hub.count("GET", &format!("/manifests/{}", two.digest())), 1);
    assert_eq!(hub.count("GET", "/manifests/1"), 0, "Docker Hub counts each GET");
    let history = server.get("/v2/_orlop/repositories/hub.example/a/box/tags/1/history").send().expect(200);
    let digests: Vec<_> = history.json()["revisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|revision| revision["digest"].clone())
        .collect();
    assert_eq!(digests, [json!(two.digest()), json!(one.digest())]);
}

#[test]
fn a_tag_is_believed_for_as_long_as_the_configuration_says() {
    let hub = FaultyUpstream::start();
    let one = put_image(&hub, "1", 1);
    let server = Server::with_file(&upstream("hub.example", &hub, "revalidate_after = \"1h\""), &[]);
    let target = manifest("hub.example/a/box", "1");
    server.get(&target).send().expect(200);
    put_image(&hub, "1", 2);
    for _ in 0..3 {
        server.get(&target).send().expect(200).expect_body(&one.bytes).expect_no_header("warning");
        server.head(&target).send().expect(200).expect_header("docker-content-digest", one.digest());
    }
    assert_eq!((hub.count("GET", "/manifests/"), hub.count("HEAD", "/manifests/")), (1, 1));
}

#[test]
fn freshness_survives_a_restart() {
    let hub = FaultyUpstream::start();
    put_image(&hub, "1", 1);
    let mut server = Server::with_file(&upstream("hub.example", &hub, "revalidate_after = \"1h\""), &[]);
    server.get(&manifest("hub.example/a/box", "1")).send().expect(200);
    server.stop();
    server.run_again();
    server.get(&manifest("hub.example/a/box", "1")).send().expect(200);
    assert_eq!((hub.count("GET", "/manifests/"), hub.count("HEAD", "/manifests/")), (1, 1));
}

#[test]
fn many_who_want_the_same_ask_once() {
    let hub = FaultyUpstream::start();
    let one = put_image(&hub, "1", 1);
    let server = Server::with_file(&upstream("hub.example", &hub, ""), &[]);
    hub.order("HEAD", "/manifests/", 1, Fault::Status(503, &[("retry-after", "1")], "{}"));
    hub.order("GET", "/manifests/", 1, Fault::Drip(100, Duration::from_millis(50)));
    std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..20)
            .map(|at| {
                let reference = if at % 2 == 0 { "1".to_owned() } else { one.digest() };
                let server = &server;
                scope.spawn(move || server.get(&manifest("hub.example/a/box", &reference)).send())
            })
            .collect();
        for pull in pulls {
            pull.join().unwrap().expect(200).expect_body(&one.bytes);
        }
    });
    assert_eq!((hub.count("GET", "/manifests/"), hub.count("HEAD", "/manifests/")), (1, 2));
}

#[test]
fn a_head_fetches_nothing_and_the_manifest_gets_its_tag_when_it_comes() {
    let hub = FaultyUpstream::start();
    let one = put_image(&hub, "1", 1);
    let mut server = caching(&hub);
    for reference in ["1".to_owned(), one.digest()] {
        let reply = server.head(&manifest("hub.example/a/box", &reference)).send().expect(200);
        let reply = reply.expect_header("docker-content-digest", one.digest());
        let reply = reply.expect_header("content-type", &one.media_type);
        reply.expect_header("content-length", one.bytes.len()).expect_header("oci-namespace", "hub.example");
    }
    assert_eq!(hub.count("GET", "/manifests/"), 0);
    // As containerd and Docker do: the tag by HEAD, then the digest.
    server.get(&manifest("hub.example/a/box", &one.digest())).send().expect(200);
    drop(hub);
    server.get(&manifest("hub.example/a/box", "1")).send().expect(200).expect_body(&one.bytes);
    server.stop();
    server.run_again();
    server.get(&manifest("hub.example/a/box", "1")).send().expect(200).expect_body(&one.bytes);
}

#[test]
fn an_index_is_kept_whole_and_its_platforms_come_when_they_are_asked_for() {
    let hub = FaultyUpstream::start();
    let (arm, amd) = (put_image(&hub, "arm", 1), put_image(&hub, "amd", 2));
    let both = index(&[arm.descriptor(), amd.descriptor()], &json!({}));
    hub.put_manifest("1", INDEX, &both.bytes);
    let server = caching(&hub);
    server.get(&manifest("hub.example/a/box", "1")).send().expect(200).expect_body(&both.bytes);
    assert_eq!(hub.count("GET", "/manifests/"), 1);
    server.get(&manifest("hub.example/a/box", &amd.digest())).send().expect(200).expect_body(&amd.bytes);
    assert_eq!(hub.count("GET", "/manifests/"), 2);
}

#[test]
fn without_the_upstream_what_is_cached_is_served_with_a_warning_and_at_once() {
    for fault in [
        Fault::Status(500, &[], "{}"),
        Fault::Status(503, &[("retry-after", "120")], "{}"),
        Fault::Status(429, &[("retry-after", "120")], "{}"),
        Fault::Close,
        Fault::Hang,
        Fault::Body(b"<html>please log in</html>".to_vec()),
    ] {
        let hub = FaultyUpstream::start();
        let one = put_image(&hub, "1", 1);
        let file = upstream("hub.example", &hub, "revalidate_after = \"0s\"\npatience = \"500ms\"");
        let server = Server::with_file(&file, &[]);
        server.get(&manifest("hub.example/a/box", "1")).send().expect(200).expect_no_header("warning");
        hub.order("HEAD", "/manifests/", 1000, fault.clone());
        hub.order("GET", "/manifests/", 1000, fault.clone());
        let stale =
            server.get(&manifest("hub.example/a/box", "1")).send().expect(200).expect_body(&one.bytes);
        assert!(stale.header("warning").starts_with("299 - \""), "{fault:?}: {}", stale.header("warning"));
        let head = server.head(&manifest("hub.example/a/box", "1")).send().expect(200);
        assert!(head.header("warning").contains("out of date"), "{fault:?}");
        // By digest nobody has to be asked.
        let same = server.get(&manifest("hub.example/a/box", &one.digest())).send().expect(200);
        same.expect_no_header("warning");
    }
}

#[test]
fn a_tag_of_which_only_the_head_came_is_served_as_it_was_while_the_upstream_is_away() {
    let hub = FaultyUpstream::start();
    let one = put_image(&hub, "1", 1);
    let server = Server::with_file(&upstream("hub.example", &hub, "revalidate_after = \"1s\""), &[]);
    let target = manifest("hub.example/a/box", "1");
    server.get(&target).send().expect(200).expect_body(&one.bytes);
    let two = put_image(&hub, "1", 2);
    std::thread::sleep(Duration::from_millis(1100));
    hub.order("GET", "/manifests/", 1000, Fault::Status(503, &[("retry-after", "3600")], "{}"));
    server.head(&target).send().expect(200).expect_header("docker-content-digest", two.digest());
    server.get(&manifest("hub.example/a/box", &two.digest())).send().expect_error(503, "UNAVAILABLE");
    let stale = server.head(&target).send().expect(200).expect_header("docker-content-digest", one.digest());
    stale.header("warning");
    server.get(&target).send().expect(200).expect_body(&one.bytes).header("warning");
}

#[test]
fn a_tag_called_tags_is_not_the_list_of_tags() {
    let hub = FaultyUpstream::start();
    put_image(&hub, "1", 1);
    let server = caching(&hub);
    server.get(&manifest("hub.example/a/box", "tags")).send().expect_error(404, "MANIFEST_UNKNOWN");
    let tags = server.get("/v2/hub.example/a/box/tags/list").send().expect(200).strings("tags");
    assert_eq!(tags, ["1"]);
}

#[test]
fn a_tag_that_moves_while_it_is_fetched_is_followed() {
    let hub = FaultyUpstream::start();
    put_image(&hub, "1", 1);
    let server = caching(&hub);
    let target = manifest("hub.example/a/box", "1");
    server.get(&target).send().expect(200);
    let two = put_image(&hub, "1", 2);
    let stale_head = Fault::Header("docker-content-digest", two.digest());
    let three = put_image(&hub, "1", 3);
    hub.order("GET", &format!("/manifests/{}", two.digest()), 1000, Fault::Status(404, &[], "{}"));
    hub.order("HEAD", "/manifests/1", 1, stale_head);
    server.get(&target).send().expect(200).expect_body(&three.bytes);

    let config = upstream("hub.example", &hub, "revalidate_after = \"1h\"");
    let patient = Server::with_file(&config, &[]);
    hub.order("HEAD", "/manifests/1", 1, Fault::Header("docker-content-digest", two.digest()));
    patient.head(&target).send().expect(200).expect_header("docker-content-digest", two.digest());
    patient.get(&manifest("hub.example/a/box", &two.digest())).send().expect_error(404, "MANIFEST_UNKNOWN");
    patient.get(&target).send().expect(200).expect_body(&three.bytes);
}

#[test]
fn a_tag_that_came_back_to_what_is_here_stays_there() {
    let hub = FaultyUpstream::start();
    let one = put_image(&hub, "1", 1);
    let server = Server::with_file(&upstream("hub.example", &hub, "revalidate_after = \"1s\""), &[]);
    let target = manifest("hub.example/a/box", "1");
    let wait = || std::thread::sleep(Duration::from_millis(1100));
    server.get(&target).send().expect(200).expect_body(&one.bytes);
    let two = put_image(&hub, "1", 2);
    wait();
    server.head(&target).send().expect(200).expect_header("docker-content-digest", two.digest());
    hub.put_manifest("1", &one.media_type, &one.bytes);
    wait();
    server.head(&target).send().expect(200).expect_header("docker-content-digest", one.digest());
    server.get(&manifest("hub.example/a/box", &two.digest())).send().expect(200);
    hub.order("HEAD", "", 1000, Fault::Status(503, &[("retry-after", "3600")], "{}"));
    server.get(&target).send().expect(200).expect_body(&one.bytes);
}

#[test]
fn an_upstream_that_is_away_is_left_alone() {
    let hub = FaultyUpstream::start();
    put_image(&hub, "1", 1);
    put_image(&hub, "2", 2);
    let server = caching(&hub);
    server.get(&manifest("hub.example/a/box", "1")).send().expect(200);
    hub.order("HEAD", "", 1000, Fault::Status(503, &[("retry-after", "3600")], "{}"));
    server.get(&manifest("hub.example/a/box", "1")).send().expect(200).header("warning");
    let asked = hub.received().len();
    for _ in 0..5 {
        server.get(&manifest("hub.example/a/box", "1")).send().expect(200).header("warning");
        let cold = server.get(&manifest("hub.example/a/box", "2")).send().expect_error(503, "UNAVAILABLE");
        let wait: u64 = cold.header("retry-after").parse().unwrap();
        assert!((3000..=3600).contains(&wait), "{wait}");
    }
    assert_eq!(hub.received().len(), asked, "{:?}", hub.received());
}

#[test]
fn who_limits_requests_is_heeded() {
    let hub = FaultyUpstream::start();
    let one = put_image(&hub, "1", 1);
    put_image(&hub, "2", 2);
    let server = caching(&hub);
    server.get(&manifest("hub.example/a/box", "1")).send().expect(200);
    hub.order("GET", "/manifests/", 1000, Fault::Status(429, &[("retry-after", "1800")], "{}"));
    let cold = server.get(&manifest("hub.example/a/box", "2")).send().expect_error(429, "TOOMANYREQUESTS");
    assert!((1700..=1800).contains(&cold.header("retry-after").parse::<u64>().unwrap()));
    let asked = hub.received().len();
    server.get(&manifest("hub.example/a/box", "2")).send().expect_error(429, "TOOMANYREQUESTS");
    let stale = server.get(&manifest("hub.example/a/box", "1")).send().expect(200).expect_body(&one.bytes);
    assert!(stale.header("warning").contains("limits"), "{}", stale.header("warning"));
    assert_eq!(hub.received().len(), asked);
}

#[test]
fn whom_the_upstream_refuses_gets_no_copy_unless_it_is_public() {
    for (more, status) in [("", 403), ("public = true", 200)] {
        let hub = FaultyUpstream::start();
        put_image(&hub, "1", 1);
        let server = Server::with_file(
            &upstream("hub.example", &hub, &format!("revalidate_after = \"0s\"\n{more}")),
            &[],
        );
        server.get(&manifest("hub.example/a/box", "1")).send().expect(200);
        hub.want_basic("Basic nobody");
        let refused = server.get(&manifest("hub.example/a/box", "1")).send().expect(status);
        match status {
            200 => assert!(refused.header("warning").starts_with("299"), "{}", refused.header("warning")),
            _ => assert_eq!(refused.error_code(), "DENIED"),
        }
    }
}

#[test]
fn an_upstream_that_is_offline_is_never_asked() {
    let hub = FaultyUpstream::start();
    let one = put_image(&hub, "1", 1);
    put_image(&hub, "2", 2);
    let mut server = caching(&hub);
    server.get(&manifest("hub.example/a/box", "1")).send().expect(200);
    server.stop();
    let asked = hub.received().len();
    let file = upstream("hub.example", &hub, "offline = true\nrevalidate_after = \"0s\"");
    server.configure(&file);
    server.run_again();
    let reply = server.get(&manifest("hub.example/a/box", "1")).send().expect(200).expect_body(&one.bytes);
    reply.expect_no_header("warning");
    let cold = server.get(&manifest("hub.example/a/box", "2")).send().expect_error(404, "MANIFEST_UNKNOWN");
    assert!(cold.text().contains("offline"), "{}", cold.text());
    server.head(&manifest("hub.example/a/box", "2")).send().expect(404);
    let tags = server.get("/v2/hub.example/a/box/tags/list").send().expect(200);
    assert_eq!(tags.strings("tags"), ["1"]);
    server.get(&format!("/v2/hub.example/a/box/referrers/{}", one.digest())).send().expect(200);
    assert_eq!(hub.received().len(), asked, "{:?}", hub.received());
}

#[test]
fn what_is_missing_is_asked_for_once_for_a_while() {
    let hub = FaultyUpstream::start();
    let server = caching(&hub);
    for _ in 0..3 {
        server.get(&manifest("hub.example/a/box", "none")).send().expect_error(404, "MANIFEST_UNKNOWN");
        server.head(&manifest("hub.example/a/box", "none")).send().expect(404);
    }
    assert_eq!(hub.received().len(), 1, "{:?}", hub.received());
    server.get(&manifest("hub.example/a/other", "none")).send().expect_error(404, "MANIFEST_UNKNOWN");
    assert_eq!(hub.received().len(), 2);
}

#[test]
fn a_tag_that_is_gone_upstream_is_gone_here() {
    let hub = FaultyUpstream::start();
    let one = put_image(&hub, "1", 1);
    let server = caching(&hub);
    server.get(&manifest("hub.example/a/box", "1")).send().expect(200);
    hub.order("HEAD", "/manifests/1", 1, Fault::Status(404, &[], "{}"));
    server.get(&manifest("hub.example/a/box", "1")).send().expect_error(404, "MANIFEST_UNKNOWN");
    server.get(&manifest("hub.example/a/box", &one.digest())).send().expect(200);
}

#[test]
fn a_manifest_that_is_not_what_it_should_be_is_never_kept() {
    let hub = FaultyUpstream::start();
    let one = put_image(&hub, "1", 1);
    let server = caching(&hub);
    hub.order("GET", "/manifests/", 1, Fault::WrongBytes);
    let reply = server.get(&manifest("hub.example/a/box", &one.digest())).send();
    reply.expect_error(502, "UNAVAILABLE");
    hub.order("GET", "/manifests/", 1, Fault::Body(b"{\"schemaVersion\":2}".to_vec()));
    server.get(&manifest("hub.example/a/box", &one.digest())).send().expect(502);
    server.get(&manifest("hub.example/a/box", &one.digest())).send().expect(200).expect_body(&one.bytes);
}

#[test]
fn tags_are_the_upstreams_and_without_it_those_that_are_cached() {
    let hub = FaultyUpstream::start();
    for (tag, seed) in ["1", "2", "3", "4", "5"].into_iter().zip(1..) {
        put_image(&hub, tag, seed);
    }
    let server = caching(&hub);
    let list = server.get("/v2/hub.example/a/box/tags/list").send().expect(200);
    assert_eq!(list.strings("tags"), ["1", "2", "3", "4", "5"]);
    assert_eq!(list.json()["name"], "hub.example/a/box");
    let page = server.get("/v2/hub.example/a/box/tags/list?n=2&last=1").send().expect(200);
    assert_eq!(page.strings("tags"), ["2", "3"]);
    assert_eq!(page.next().unwrap(), "/v2/hub.example/a/box/tags/list?n=2&last=3");
    server.get(&manifest("hub.example/a/box", "4")).send().expect(200);
    hub.order("GET", "/tags/list", 10, Fault::Status(429, &[("retry-after", "900")], "{}"));
    let list = server.get("/v2/hub.example/a/box/tags/list").send().expect(200);
    assert_eq!(list.strings("tags"), ["4"]);
    assert!(list.header("warning").contains("cached"), "{}", list.header("warning"));
    server.get("/v2/hub.example/a/other/tags/list").send().expect_error(429, "TOOMANYREQUESTS");
}

#[test]
fn referrers_are_the_upstreams_and_are_cached() {
    let hub = FaultyUpstream::start();
    let one = put_image(&hub, "1", 1);
    let signature = referrer(&one.descriptor(), "application/x.signature", "s");
    let report = referrer(&one.descriptor(), "application/x.report", "r");
    hub.put_blob(b"{}");
    let described = |content: &Content, kind: &str| {
        let mut descriptor = descriptor(&content.media_type, &content.bytes);
        descriptor["artifactType"] = json!(kind);
        hub.put_manifest(&content.digest(), &content.media_type, &content.bytes);
        descriptor
    };
    let pages =
        [described(&signature, "application/x.signature"), described(&report, "application/x.report")];
    let pages = pages.map(|entry| index(&[entry], &json!({})).bytes);
    hub.put_referrers(&one.digest(), pages.to_vec());
    let server = Server::with_file(&upstream("hub.example", &hub, "revalidate_after = \"1h\""), &[]);
    let target = format!("/v2/hub.example/a/box/referrers/{}", one.digest());
    let listed = |target: &str| {
        let reply = server.get(target).send().expect(200).expect_header("content-type", INDEX);
        let entries = reply.json()["manifests"].as_array().unwrap().clone();
        let digests = entries.iter().map(|entry| entry["digest"].as_str().unwrap().to_owned());
        (digests.collect::<Vec<_>>(), reply)
    };
    assert_eq!(listed(&target).0, [signature.digest(), report.digest()]);
    let (filtered, reply) = listed(&format!("{target}?artifactType=application/x.report"));
    assert_eq!(filtered, [report.digest()]);
    reply.expect_header("oci-filters-applied", "artifactType");
    assert_eq!(hub.count("GET", "/referrers/"), 2, "two pages, once");
    let nothing = format!("/v2/hub.example/a/box/referrers/{}", report.digest());
    assert!(listed(&nothing).0.is_empty());
}

#[test]
fn referrers_under_a_tag_are_found_and_without_the_upstream_those_that_are_here() {
    let hub = FaultyUpstream::start();
    let one = put_image(&hub, "1", 1);
    let signature = referrer(&one.descriptor(), "application/x.signature", "s");
    hub.put_manifest(&signature.digest(), &signature.media_type, &signature.bytes);
    let list = index(&[signature.descriptor()], &json!({}));
    hub.put_manifest(&one.digest().replace(':', "-"), INDEX, &list.bytes);
    let mut server = caching(&hub);
    let target = format!("/v2/hub.example/a/box/referrers/{}", one.digest());
    let listed =
        |server: &Server| server.get(&target).send().expect(200).json()["manifests"][0]["digest"].clone();
    assert_eq!(listed(&server), json!(signature.digest()));
    server.get(&manifest("hub.example/a/box", &signature.digest())).send().expect(200);
    server.stop();
    drop(hub);
    server.run_again();
    assert_eq!(listed(&server), json!(signature.digest()), "what is here is listed");
    server.get(&target).send().expect(200).header("warning");
}

#[test]
fn filters_say_what_is_asked_for() {
    let hub = FaultyUpstream::start();
    put_image(&hub, "1", 1);
    let more = "allow = [\"library/*\", \"team/**\"]\ndeny = [\"team/secret\"]";
    let server = Server::with_file(&upstream("hub.example", &hub, more), &[]);
    for name in ["library/box", "team/a/b"] {
        server.get(&manifest(&format!("hub.example/{name}"), "1")).send().expect(200);
    }
    let asked = hub.received().len();
    for name in ["other/box", "team/secret", "box"] {
        let reply =
            server.get(&manifest(&format!("hub.example/{name}"), "1")).send().expect_error(403, "DENIED");
        assert!(reply.text().contains("`deny`"), "{}", reply.text());
    }
    assert_eq!(hub.received().len(), asked);
}

#[test]
fn what_came_with_credentials_is_for_nobody_unless_it_is_public() {
    let hub = FaultyUpstream::start();
    let one = put_image(&hub, "1", 1);
    let blob = hub.put_blob(b"a secret layer");
    // anna:sesame
    hub.want_basic("Basic YW5uYTpzZXNhbWU=");
    let credentials =
        "revalidate_after = \"0s\"\nusername = \"anna\"\npassword_env = \"TEST_UPSTREAM_PASSWORD\"";
    let mut server = Server::with_file("", &[]);
    server.stop();
    server.environment("TEST_UPSTREAM_PASSWORD", "sesame");
    server.configure(&upstream("hub.example", &hub, credentials));
    server.run_again();
    server.wait_for_line(&["WARN", "hub.example", "public = true"]);
    let targets = [
        manifest("hub.example/a/box", "1"),
        manifest("hub.example/a/box", &one.digest()),
        format!("/v2/hub.example/a/box/blobs/{blob}"),
        "/v2/hub.example/a/box/tags/list".to_owned(),
        format!("/v2/hub.example/a/box/referrers/{}", one.digest()),
        "/v2/_orlop/repositories/hub.example/a/box/manifests".to_owned(),
    ];
    let mount = format!("/v2/own/uploads/blobs/uploads/?mount={blob}&from=hub.example/a/box");
    let mount_any = format!("/v2/own/uploads/blobs/uploads/?mount={blob}");
    let is_closed = |server: &Server| {
        for target in &targets {
            server.get(target).send().expect_error(403, "DENIED");
        }
        server.post(&mount).body(b"").send().expect(202);
        server.post(&mount_any).body(b"").send().expect(202);
        let names = server.get("/v2/_catalog").send().expect(200).strings("repositories");
        assert!(!names.iter().any(|name| name.starts_with("hub.example/")), "{names:?}");
    };
    is_closed(&server);
    assert!(hub.received().is_empty(), "{:?}", hub.received());
    server.stop();
    server.configure(&upstream("hub.example", &hub, &format!("{credentials}\npublic = true")));
    server.run_again();
    for target in &targets {
        server.get(target).send().expect(200);
    }
    let other = upstream("other.example", &hub, "");
    for without in [
        upstream("hub.example", &hub, credentials),
        upstream("hub.example", &hub, "revalidate_after = \"1h\""),
        other.clone(),
        format!("cache.default = \"other.example\"\n{other}"),
        String::new(),
    ] {
        server.stop();
        server.configure(&without);
        server.run_again();
        is_closed(&server);
    }
    assert!(!server.log().contains("sesame"));
}

#[test]
fn what_came_with_credentials_is_for_those_whom_a_rule_names() {
    let hub = FaultyUpstream::start();
    let one = put_image(&hub, "1", 1);
    // anna:sesame
    hub.want_basic("Basic YW5uYTpzZXNhbWU=");
    let mut server = Server::with_file("", &[]);
    server.stop();
    server.environment("TEST_UPSTREAM_PASSWORD", "sesame");
    let users = server.data().with_file_name("users");
    let lines = ["bo", "cleo"].map(|user| format!("{user}:{}\n", bcrypt::hash(user, 4).unwrap()));
    std::fs::write(&users, lines.concat()).unwrap();
    let credentials =
        upstream("hub.example", &hub, "username = \"anna\"\npassword_env = \"TEST_UPSTREAM_PASSWORD\"");
    let rule = |repositories: &str, who: &str, actions: &str| {
        format!("[[rule]]\nrepositories = [\"{repositories}\"]\nwho = [\"{who}\"]\nactions = [{actions}]\n")
    };
    let rules = [
        rule("**", "anonymous", "\"pull\", \"list\", \"push\""),
        rule("hub.example/**", "user:bo", "\"pull\""),
    ];
    let htpasswd = format!("access.htpasswd = {:?}\n", users.display().to_string());
    let as_user = |user: &str| format!("Basic {}", STANDARD.encode(format!("{user}:{user}")));
    let targets = [
        manifest("hub.example/a/box", "1"),
        manifest("hub.example/a/box", &one.digest()),
        "/v2/a/box/manifests/1?ns=hub.example".to_owned(),
    ];
    for with_rules in [false, true] {
        let rules = if with_rules { rules.concat() } else { String::new() };
        server.configure(&format!("{htpasswd}{credentials}\n{rules}"));
        server.run_again();
        for target in &targets {
            server.get(target).send().expect_error(401, "UNAUTHORIZED");
            server.get(target).header("authorization", &as_user("cleo")).send().expect_error(403, "DENIED");
            let reply = server.get(target).header("authorization", &as_user("bo")).send();
            reply.expect(if with_rules { 200 } else { 403 });
        }
        let listed = |user: &str| {
            let reply = server.get("/v2/_catalog").header("authorization", &as_user(user)).send();
            reply.expect(200).strings("repositories")
        };
        assert_eq!(listed("cleo"), [""; 0]);
        assert_eq!(listed("bo"), if with_rules { vec!["hub.example/a/box"] } else { Vec::new() });
        server.stop();
    }
    // The upstream is gone, and what it gave is still his alone.
    server.configure(&format!("{htpasswd}{}", rules.concat()));
    server.run_again();
    let target = manifest("hub.example/a/box", "1");
    server.get(&target).send().expect_error(401, "UNAUTHORIZED");
    server.get(&target).header("authorization", &as_user("cleo")).send().expect_error(403, "DENIED");
    server.get(&target).header("authorization", &as_user("bo")).send().expect(200);
    let mount = format!("/v2/own/blobs/uploads/?from=hub.example/a/box&mount={}", one.digest());
    server.post(&mount).body(b"").header("authorization", &as_user("bo")).send().expect(202);
}

#[test]
fn the_log_says_of_each_request_what_the_cache_did() {
    let hub = FaultyUpstream::start();
    put_image(&hub, "1", 1);
    let server = caching(&hub);
    let target = manifest("hub.example/a/box", "1");
    server.get(&target).send().expect(200);
    server.wait_for_line(&["GET", "cache=\"miss\"", "upstream=\"hub.example\""]);
    server.get(&target).send().expect(200);
    server.wait_for_line(&["GET", "cache=\"revalidated\"", "upstream=\"hub.example\""]);
    hub.order("HEAD", "/manifests/", 10, Fault::Status(429, &[("retry-after", "900")], "{}"));
    server.get(&target).send().expect(200);
    server.wait_for_line(&["GET", "cache=\"stale\"", "upstream=\"hub.example\""]);
}
