//! Notifications as their receivers meet them: the real program, and real HTTP servers that fail, hang and come back.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

mod notifications {
    pub(crate) mod receiver;
}

use notifications::receiver::{Behaviour, Receiver};
use serde_json::{Value, json};
use support::{Content, Server, sha256};

/// The configuration of one endpoint, with `more` lines.
fn endpoint(name: &str, url: &str, more: &str) -> String {
    format!("[[notifications.endpoint]]\nname = \"{name}\"\nurl = \"{url}\"\nbackoff = \"1ms\"\n{more}\n")
}

/// An event in short: `push one:1`.
fn short(event: &Value) -> String {
    let target = &event["target"];
    let tag = target["tag"].as_str().map_or_else(String::new, |tag| format!(":{tag}"));
    format!("{} {}{tag}", event["action"].as_str().unwrap(), target["repository"].as_str().unwrap())
}

fn shorts(events: &[Value]) -> Vec<String> {
    events.iter().map(short).collect()
}

/// A manifest that needs nothing.
fn note(text: &str) -> Content {
    Content::json("application/vnd.example+json", &json!({ "note": text }))
}

#[track_caller]
fn metric(server: &Server, line: &str) -> u64 {
    let text = String::from_utf8(server.get("/metrics").send().expect(200).body).unwrap();
    let value = text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {line} in\n{text}"))
}

#[test]
fn pushes_pulls_mounts_and_deletions_arrive_in_order_in_either_version_of_the_envelope() {
    let (old, new) = (Receiver::start(Behaviour::Accept), Receiver::start(Behaviour::Accept));
    let headers = "headers = { Authorization = \"Bearer secret\", X-Who = \"orlop\" }";
    let file = endpoint("old", &old.url(), headers) + &endpoint("new", &new.url(), "version = \"v2\"");
    let mut server = Server::with_file(&file, &[]);
    let blob = server.push_blob("one", b"blob");
    server.post(&format!("/v2/two/blobs/uploads/?mount={blob}&from=one")).body(b"").send().expect(201);
    server.put_manifest("one", "1", &note("x")).expect(201);
    server.get("/v2/one/manifests/1").send().expect(200);
    server.head("/v2/one/manifests/1").send().expect(200);
    let tag = format!("\"{}\"", note("x").digest());
    server.get("/v2/one/manifests/1").header("if-none-match", &tag).send().expect(304);
    server.get(&format!("/v2/one/blobs/{blob}")).send().expect(200);
    server.head(&format!("/v2/one/blobs/{blob}")).send().expect(200);
    let pulled = old.accepted(5);
    server.delete("/v2/one/manifests/1").send().expect(202);
    server.delete(&format!("/v2/one/manifests/{}", note("x").digest())).send().expect(202);
    server.delete(&format!("/v2/one/blobs/{blob}")).send().expect(202);
    let events = old.accepted(8);
    assert_eq!(events[..5], pulled);
    assert_eq!(
        shorts(&events),
        [
            "push one",
            "mount two",
            "push one:1",
            "pull one:1",
            "pull one",
            "delete one:1",
            "delete one",
            "delete one"
        ]
    );
    assert_eq!(
        new.accepted(8).iter().map(|event| &event["id"]).collect::<Vec<_>>(),
        events.iter().map(|event| &event["id"]).collect::<Vec<_>>()
    );
    for (receiver, version) in [(&old, "v1"), (&new, "v2")] {
        let envelopes = receiver.wait(|_| true);
        for envelope in envelopes {
            assert!(envelope.head[0].starts_with("POST /hook HTTP/1.1"), "{:?}", envelope.head);
            let media_type = format!("application/vnd.docker.distribution.events.{version}+json");
            assert_eq!(envelope.header("content-type"), Some(media_type.as_str()));
            let is_old = version == "v1";
            assert_eq!(envelope.header("authorization"), is_old.then_some("Bearer secret"));
            assert_eq!(envelope.header("x-who"), is_old.then_some("orlop"));
        }
    }

    // Field by field, as distribution fills them.
    let host = server.host();
    let push = &events[2];
    let digest = note("x").digest();
    assert_eq!(
        push["target"],
        json!({
            "mediaType": "application/vnd.example+json",
            "digest": digest,
            "size": note("x").bytes.len(),
            "length": note("x").bytes.len(),
            "repository": "one",
            "url": format!("http://{host}/v2/one/manifests/{digest}"),
            "tag": "1",
        })
    );
    assert_eq!(push["request"]["host"], host);
    assert_eq!(push["request"]["method"], "PUT");
    assert!(push["request"]["addr"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(push["actor"], json!({}));
    let port = host.rsplit(':').next().unwrap();
    assert!(push["source"]["addr"].as_str().unwrap().ends_with(&format!(":{port}")));
    assert_eq!(push["source"]["instanceID"].as_str().unwrap().len(), 36);
    assert_eq!(events[1]["target"]["fromRepository"], "one");
    assert_eq!(events[1]["request"]["method"], "POST");
    assert_eq!(events[4]["target"]["url"], format!("http://{host}/v2/one/blobs/{blob}"));
    assert_eq!(events[7]["target"], json!({ "repository": "one", "digest": blob }));
    let mut keys: Vec<&String> = push.as_object().unwrap().keys().collect();
    keys.sort_unstable();
    assert_eq!(keys, ["action", "actor", "id", "request", "source", "target", "timestamp"]);
    server.stop();
    assert!(!server.log().contains("secret"), "{}", server.log());
}

#[test]
fn an_endpoint_that_refuses_hangs_and_comes_back_gets_everything_in_order_and_holds_up_nobody() {
    let (flaky, steady) = (Receiver::start(Behaviour::Refuse), Receiver::start(Behaviour::Accept));
    let file = endpoint("flaky", &flaky.url(), "timeout = \"100ms\"\nthreshold = 2")
        + &endpoint("steady", &steady.url(), "");
    let server = Server::with_file(&file, &[]);
    server.put_manifest("one", "1", &note("x")).expect(201);
    flaky.wait(|envelopes| envelopes.len() >= 5);
    flaky.behave(Behaviour::Hang);
    let hanging = flaky.wait(|_| true).len();
    server.put_manifest("one", "2", &note("x")).expect(201);
    flaky.wait(|envelopes| envelopes.len() >= hanging + 2);
    server.put_manifest("one", "3", &note("x")).expect(201);
    assert_eq!(shorts(&steady.accepted(3)), ["push one:1", "push one:2", "push one:3"]);
    flaky.behave(Behaviour::Accept);
    assert_eq!(shorts(&flaky.accepted(3)), ["push one:1", "push one:2", "push one:3"]);
    assert_eq!(flaky.accepted(3), steady.accepted(3));
    assert!(metric(&server, "orlop_notifications_failed_total{endpoint=\"flaky\"}") >= 7);
    assert_eq!(metric(&server, "orlop_notifications_failed_total{endpoint=\"steady\"}"), 0);
    assert_eq!(metric(&server, "orlop_notifications_dropped_total{endpoint=\"flaky\"}"), 0);
}

#[test]
fn what_was_acknowledged_before_a_crash_is_told_after_it() {
    let receiver = Receiver::start(Behaviour::Refuse);
    let mut server = Server::with_file(&endpoint("hook", &receiver.url(), "threshold = 1000"), &[]);
    let blob = server.push_blob("one", b"blob");
    server.post(&format!("/v2/two/blobs/uploads/?mount={blob}&from=one")).body(b"").send().expect(201);
    server.put_manifest("one", "1", &note("x")).expect(201);
    server.delete("/v2/one/manifests/1").send().expect(202);
    server.kill();
    receiver.behave(Behaviour::Accept);
    server.run_again();
    assert_eq!(shorts(&receiver.accepted(4)), ["push one", "mount two", "push one:1", "delete one:1"]);
}

/// An endpoint's headers and events are for whom the configuration names, and for nobody whom that one names.
#[test]
fn a_redirection_is_a_refusal_and_leads_nowhere() {
    let (elsewhere, receiver) = (Receiver::start(Behaviour::Accept), Receiver::start(Behaviour::Refuse));
    receiver.behave(Behaviour::Redirect(elsewhere.port()));
    let server = Server::with_file(&endpoint("hook", &receiver.url(), ""), &[]);
    server.put_manifest("one", "1", &note("x")).expect(201);
    receiver.wait(|envelopes| envelopes.len() >= 3);
    receiver.behave(Behaviour::Accept);
    assert_eq!(shorts(&receiver.accepted(1)), ["push one:1"]);
    assert!(elsewhere.wait(|_| true).is_empty());
}

/// What an endpoint has taken is recorded each second, together with the pulls of that second: once an attempt shows a pull,
/// something was recorded while the endpoint had taken nothing.
#[test]
fn a_record_of_how_far_an_endpoint_is_never_runs_ahead_of_it() {
    let receiver = Receiver::start(Behaviour::Refuse);
    let mut server = Server::with_file(&endpoint("hook", &receiver.url(), ""), &[]);
    for tag in ["1", "2"] {
        server.put_manifest("one", tag, &note("x")).expect(201);
    }
    server.get("/v2/one/manifests/1").send().expect(200);
    let tried = |envelopes: &[notifications::receiver::Envelope]| {
        envelopes.iter().any(|envelope| envelope.events.iter().any(|event| event["action"] == "pull"))
    };
    receiver.wait(tried);
    server.kill();
    receiver.behave(Behaviour::Accept);
    server.run_again();
    assert_eq!(shorts(&receiver.accepted(3)), ["push one:1", "push one:2", "pull one:1"]);
}

#[test]
fn kills_in_the_middle_of_deliveries_lose_nothing_and_change_no_order() {
    let receiver = Receiver::start(Behaviour::Accept);
    let mut server = Server::with_file(&endpoint("hook", &receiver.url(), ""), &[]);
    let mut expected = Vec::new();
    for round in 0..5 {
        for number in 0..20 {
            let tag = format!("{round}-{number}");
            server.put_manifest("one", &tag, &note("x")).expect(201);
            expected.push(format!("push one:{tag}"));
        }
        // Some have come by now, and some have not.
        receiver.accepted(round * 20 + 1 + round * 4);
        server.kill();
        server.run_again();
    }
    assert_eq!(shorts(&receiver.accepted(expected.len())), expected);
}

#[test]
fn endpoints_hear_only_what_they_want_to_hear() {
    let (pushes, manifests) = (Receiver::start(Behaviour::Accept), Receiver::start(Behaviour::Accept));
    let file = endpoint("pushes", &pushes.url(), "ignore_actions = [\"pull\", \"mount\", \"delete\"]")
        + &endpoint("manifests", &manifests.url(), "ignore_media_types = [\"application/octet-stream\"]");
    let server = Server::with_file(&file, &[]);
    let blob = server.push_blob("one", b"blob");
    server.get(&format!("/v2/one/blobs/{blob}")).send().expect(200);
    server.put_manifest("one", "1", &note("x")).expect(201);
    server.delete("/v2/one/manifests/1").send().expect(202);
    server.put_manifest("one", "2", &note("x")).expect(201);
    assert_eq!(shorts(&pushes.accepted(3)), ["push one", "push one:1", "push one:2"]);
    assert_eq!(shorts(&manifests.accepted(3)), ["push one:1", "delete one:1", "push one:2"]);
}

#[test]
fn the_log_is_bounded_and_what_was_dropped_is_counted_and_said() {
    let receiver = Receiver::start(Behaviour::Refuse);
    let file = endpoint("hook", &receiver.url(), "");
    let mut server = Server::with_file(&file, &[("notifications.max_events", "5")]);
    for number in 1..=8 {
        server.put_manifest("one", &number.to_string(), &note("x")).expect(201);
    }
    // An attempt that has read the log after the last push.
    receiver.wait(|envelopes| {
        envelopes
            .last()
            .is_some_and(|envelope| envelope.events.iter().any(|event| short(event) == "push one:8"))
    });
    receiver.behave(Behaviour::Accept);
    let told = shorts(&receiver.accepted(5));
    assert_eq!(told, ["push one:4", "push one:5", "push one:6", "push one:7", "push one:8"]);
    assert_eq!(metric(&server, "orlop_notifications_dropped_total{endpoint=\"hook\"}"), 3);
    server.stop();
    assert!(server.log().contains("events were dropped before the endpoint got them"), "{}", server.log());
}

#[test]
fn an_endpoint_behind_tls_is_trusted_by_the_configured_roots_only() {
    let (trusted, other) = (Receiver::start_tls(Behaviour::Accept), Receiver::start_tls(Behaviour::Accept));
    let roots = format!("{}/tests/vectors/tls/root.pem", env!("CARGO_MANIFEST_DIR"));
    let server =
        Server::with_file(&endpoint("hook", &trusted.url(), ""), &[("client.root_certificates", &roots)]);
    server.put_manifest("one", "1", &note("x")).expect(201);
    assert_eq!(shorts(&trusted.accepted(1)), ["push one:1"]);

    let witness = Receiver::start(Behaviour::Accept);
    let file = endpoint("hook", &other.url(), "") + &endpoint("witness", &witness.url(), "");
    let mut server = Server::with_file(&file, &[]);
    server.put_manifest("one", "1", &note("x")).expect(201);
    // Comes to its end while the other can't be reached.
    witness.accepted(1);
    while metric(&server, "orlop_notifications_failed_total{endpoint=\"hook\"}") == 0 {
        std::thread::yield_now();
    }
    server.stop();
    assert!(server.log().contains("an endpoint doesn't accept events"), "{}", server.log());
    assert!(other.wait(|_| true).is_empty(), "nothing is said to whom nobody vouches for");
}

/// The example in `docs/notifications.md`.
#[test]
fn the_documents_example_is_what_comes() {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/notifications.md")).unwrap();
    let block = |kind: &str| page.split(&format!("```{kind}\n")).nth(1).unwrap().split("```").next().unwrap();
    let receiver = Receiver::start(Behaviour::Accept);
    let file = block("toml").replace("https://hooks.example.org/orlop", &receiver.url());
    assert!(file.contains(&receiver.url()));
    let server = Server::with_file(&file, &[("external_url", "https://registry.example.org")]);
    let manifest = Content {
        media_type: "application/vnd.oci.image.index.v1+json".to_owned(),
        bytes: br#"{"schemaVersion":2,"manifests":[]}"#.to_vec(),
    };
    server
        .put("/v2/team/app/manifests/1.0")
        .header("content-type", &manifest.media_type)
        .header("host", "registry.example.org")
        .header("user-agent", "docker/28.0")
        .header("x-request-id", "5f3a9c01-2a")
        .body(&manifest.bytes)
        .send()
        .expect(201);
    let mut event = receiver.accepted(1).remove(0);
    let shown: Value = serde_json::from_str(block("json")).unwrap();
    let shown = &shown["events"][0];
    for (part, field) in
        [("", "id"), ("", "timestamp"), ("request", "addr"), ("source", "addr"), ("source", "instanceID")]
    {
        // What differs each time has the same shape.
        let pointer = if part.is_empty() { format!("/{field}") } else { format!("/{part}/{field}") };
        let (came, shown) = (event.pointer_mut(&pointer).unwrap(), shown.pointer(&pointer).unwrap());
        assert!(came.is_string() && shown.is_string(), "{pointer}");
        *came = shown.clone();
    }
    assert_eq!(event, *shown);
    assert_eq!(sha256(&manifest.bytes), shown["target"]["digest"].as_str().unwrap());
}

#[test]
fn a_registry_of_a_scope_refuses_other_names() {
    let server = Server::with(&[("scope", "team/**,base")]);
    server.put_manifest("team/app", "1", &note("x")).expect(201);
    server.put_manifest("base", "1", &note("x")).expect(201);
    let refused = server.put_manifest("other", "1", &note("x")).expect_error(403, "DENIED");
    assert!(refused.text().contains("takes only team/**, base"), "{refused:?}");
    server.post("/v2/other/blobs/uploads/").body(b"").send().expect_error(403, "DENIED");
    server.delete("/v2/other/manifests/1").send().expect_error(403, "DENIED");
    let unserved = server.get("/v2/other/manifests/1").send().expect_error(404, "NAME_UNKNOWN");
    assert!(unserved.text().contains("serves only team/**, base"), "{unserved:?}");
    server.get(&format!("/v2/other/blobs/{}", sha256(b""))).send().expect_error(404, "NAME_UNKNOWN");
    server.get("/v2/team/tags/list").send().expect_error(404, "NAME_UNKNOWN");
    assert_eq!(server.get("/v2/_catalog").send().expect(200).strings("repositories"), ["base", "team/app"]);
}
