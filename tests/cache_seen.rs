//! What an operator sees of the pull-through cache: metrics, log lines, and `orlop cache status`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::{Content, Fault, FaultyUpstream, Server, image, noise};

const LAYER: usize = 100_000;

fn file(at: &FaultyUpstream, more: &str) -> String {
    format!(
        "[[upstream]]\nhost = \"hub.example\"\nurl = \"{}\"\nrevalidate_after = \"0s\"\n{more}\n",
        at.url()
    )
}

/// Gives the upstream an image; returns it with its layer's digest.
fn put_image(at: &FaultyUpstream, tag: &str) -> (Content, String) {
    let layer = noise(7, LAYER);
    at.put_blob(b"{}");
    let digest = at.put_blob(&layer);
    let image = image(b"{}", &[&layer], &json!({}));
    at.put_manifest(tag, &image.media_type, &image.bytes);
    (image, digest)
}

/// The value of a metric by its name without the prefix, and its labels without the upstream.
fn metric(server: &Server, name: &str, labels: &str) -> Option<f64> {
    let text = server.get("/metrics").send().expect(200).text_whole();
    let comma = if labels.is_empty() { "" } else { "," };
    let start = format!("orlop_cache_{name}{{upstream=\"hub.example\"{comma}{labels}}} ");
    text.lines().find_map(|line| line.strip_prefix(&start)).map(|value| value.parse().unwrap())
}

fn answers(server: &Server, kind: &str, source: &str) -> f64 {
    let labels = format!("kind=\"{kind}\",source=\"{source}\"");
    metric(server, "answers_total", &labels).unwrap_or_default()
}

fn requests(server: &Server, kind: &str, method: &str, result: &str) -> f64 {
    let labels = format!("kind=\"{kind}\",method=\"{method}\",result=\"{result}\"");
    metric(server, "upstream_requests_total", &labels).unwrap_or_default()
}

#[track_caller]
fn is(value: f64, expected: u32) {
    assert!((value - f64::from(expected)).abs() < 0.5, "{value} is not {expected}");
}

/// Runs a command beside the server, or in its place where it is stopped.
fn command(server: &Server, arguments: &[&str]) -> String {
    let data = server.data();
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    command.args(arguments).arg("--data").arg(&data).current_dir(data.parent().unwrap());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn status(server: &Server) -> Value {
    serde_json::from_str(&command(server, &["cache", "status", "--json"])).unwrap()
}

#[test]
fn answers_and_requests_are_counted_by_what_they_are_of_and_where_they_come_from() {
    let hub = FaultyUpstream::start();
    let (image, layer) = put_image(&hub, "1");
    let server = Server::with_file(&file(&hub, ""), &[]);
    let (manifest, blob) = ("/v2/hub.example/box/manifests/1", format!("/v2/hub.example/box/blobs/{layer}"));
    server.get(manifest).send().expect(200);
    server.get(manifest).send().expect(200);
    server.get(&blob).send().expect(200);
    server.get(&blob).send().expect(200);
    server.wait_for_line(&["manifests/1", "upstream=\"hub.example\"", "cache=\"miss\""]);
    server.wait_for_line(&["manifests/1", "cache=\"revalidated\""]);
    server.wait_for_line(&["/blobs/", "cache=\"hit\""]);

    is(answers(&server, "manifest", "miss"), 1);
    is(answers(&server, "manifest", "revalidated"), 1);
    is(answers(&server, "blob", "miss"), 1);
    is(answers(&server, "blob", "hit"), 1);
    is(requests(&server, "manifest", "HEAD", "ok"), 2);
    is(requests(&server, "manifest", "GET", "ok"), 1);
    let size = u32::try_from(LAYER + image.bytes.len()).unwrap();
    is(metric(&server, "fetched_bytes_total", "").unwrap(), size);
    is(metric(&server, "bytes", "").unwrap(), size);
    let hit = metric(&server, "sent_bytes_total", "source=\"hit\"").unwrap();
    is(hit, u32::try_from(LAYER).unwrap());
    assert!(metric(&server, "upstream_first_byte_seconds_count", "").unwrap() >= 4.0);
    is(metric(&server, "upstream_left_alone", "").unwrap(), 0);

    let shown = status(&server);
    let [upstream] = &shown["upstreams"].as_array().unwrap()[..] else { panic!("{shown}") };
    assert_eq!((&upstream["host"], &upstream["configured"]), (&json!("hub.example"), &json!(true)));
    assert_eq!((&upstream["bytes"], &shown["bytes"]), (&json!(size), &json!(size)));
    let activity = &upstream["activity"];
    assert_eq!((&activity["hits"], &activity["misses"]), (&json!(2), &json!(2)), "{shown}");
    assert_eq!(activity["savedBytes"], json!(size), "all of it went out twice");
    assert!(activity["firstByteMs"].is_u64(), "{shown}");
    let shown = command(&server, &["cache", "status"]);
    for part in ["hub.example", "ok", "50.0 %", "KiB are cached in all."] {
        assert!(shown.contains(part), "{shown}");
    }
}

#[test]
fn limits_and_failures_of_an_upstream_are_shown() {
    let hub = FaultyUpstream::start();
    put_image(&hub, "1");
    let server = Server::with_file(&file(&hub, "max_size = \"1 GiB\""), &[]);
    assert_eq!(metric(&server, "upstream_rate_limit_remaining", ""), None, "nothing was said yet");
    hub.order("HEAD", "/manifests/1", 1, Fault::Header("ratelimit-remaining", "76;w=21600".to_owned()));
    server.get("/v2/hub.example/box/manifests/1").send().expect(200);
    is(metric(&server, "upstream_rate_limit_remaining", "").unwrap(), 76);

    server.get("/v2/hub.example/box/manifests/no").send().expect(404);
    is(requests(&server, "manifest", "HEAD", "not_found"), 1);
    let limits =
        &[("retry-after", "900"), ("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "0;w=21600")];
    hub.order("HEAD", "/manifests/1", 1, Fault::Status(429, limits, ""));
    let reply = server.get("/v2/hub.example/box/manifests/1").send().expect(200);
    assert!(reply.header("warning").starts_with("299 - "));
    server.wait_for_line(&["manifests/1", "cache=\"stale\""]);
    is(answers(&server, "manifest", "stale"), 1);
    is(requests(&server, "manifest", "HEAD", "limited"), 1);
    is(metric(&server, "upstream_rate_limit", "").unwrap(), 100);
    is(metric(&server, "upstream_rate_limit_remaining", "").unwrap(), 0);
    is(metric(&server, "upstream_left_alone", "").unwrap(), 1);
    let shown = command(&server, &["cache", "status"]);
    for part in ["left alone", "0 of 100", "of 1.0 GiB", "hub.example is left alone for another 8"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let activity = &status(&server)["upstreams"][0]["activity"];
    assert_eq!((&activity["rateLimit"], &activity["rateLimitRemaining"]), (&json!(100), &json!(0)));
    assert!(activity["leftAlone"]["seconds"].as_u64().unwrap() > 0, "{activity}");
    // The one look at the registry has the same, and what is wrong stands last.
    let shown = command(&server, &["status"]);
    assert!(shown.contains("0 of 100"), "{shown}");
    let last = shown.trim_end().lines().last().unwrap();
    assert!(last.starts_with("WARNING: the upstream hub.example is left alone for another"), "{shown}");
}

#[test]
fn a_stopped_servers_cache_is_shown_by_what_is_stored() {
    let hub = FaultyUpstream::start();
    put_image(&hub, "1");
    let mut server = Server::with_file(&file(&hub, ""), &[]);
    server.get("/v2/hub.example/box/manifests/1").send().expect(200);
    server.stop();
    let shown = status(&server);
    let upstream = &shown["upstreams"][0];
    assert_eq!((&upstream["host"], &upstream["activity"]), (&json!("hub.example"), &Value::Null), "{shown}");
    assert_eq!((&upstream["manifests"], &upstream["configured"]), (&json!(1), &json!(true)), "{shown}");
    assert!(command(&server, &["cache", "status"]).contains("not running"));
    server.configure("");
    let shown = command(&server, &["cache", "status"]);
    assert!(shown.contains("hub.example  not configured"), "{shown}");
    server.configure("cache = [\"quay.example\"]");
    let upstreams = status(&server)["upstreams"].as_array().unwrap().len();
    assert_eq!(upstreams, 2, "what is stored is shown beside what is configured");
    let empty = Server::start();
    assert!(command(&empty, &["cache", "status"]).contains("orlop serve --cache docker.io"));
}

#[test]
fn an_upstream_with_credentials_is_shown_as_private_and_its_secrets_nowhere() {
    let hub = FaultyUpstream::start();
    put_image(&hub, "1");
    // anna:open sesame
    let basic = "Basic YW5uYTpvcGVuIHNlc2FtZQ==";
    hub.want_tokens(Some(basic));
    let user = "username = \"anna\"\npassword_env = \"HUB_PASSWORD\"";
    let mut server = Server::with_file("", &[("log.level", "trace")]);
    server.stop();
    server.environment("HUB_PASSWORD", "open sesame");
    server.configure(&file(&hub, user));
    server.run_again();
    let manifest = "/v2/hub.example/box/manifests/1";
    server.get(manifest).send().expect_error(403, "DENIED");
    let shown = command(&server, &["cache", "status"]);
    assert!(shown.contains("private") && shown.contains("a rule names"), "{shown}");
    server.stop();
    server.configure(&file(&hub, &format!("{user}\npublic = true")));
    server.run_again();
    server.get(manifest).send().expect(200);
    assert!(hub.received().iter().any(|received| received.header("authorization") == Some(basic)));
    hub.expire_tokens();
    hub.want_basic("Basic bm9ib2R5");
    let reply = server.get(manifest).send().expect(200);
    assert!(reply.header("warning").contains("cached copy"));
    let shown = [server.log(), command(&server, &["cache", "status"]), status(&server).to_string()];
    for text in shown {
        for secret in ["sesame", "YW5uYT", "Bearer ", "token-"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}

#[test]
fn the_page_about_operations_lists_the_metrics_of_the_cache() {
    let hub = FaultyUpstream::start();
    let (_, layer) = put_image(&hub, "1");
    hub.order("HEAD", "/manifests/1", 1, Fault::Header("ratelimit-limit", "100;w=21600".to_owned()));
    hub.order("GET", "/manifests/", 1, Fault::Header("ratelimit-remaining", "9;w=21600".to_owned()));
    let server = Server::with_file(&file(&hub, ""), &[]);
    server.get("/v2/hub.example/box/manifests/1").send().expect(200);
    server.get(&format!("/v2/hub.example/box/blobs/{layer}")).send().expect(200);
    server.wait_for_line(&["/blobs/", "cache=\"miss\""]);
    let text = server.get("/metrics").send().expect(200).text_whole();
    let shown: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE orlop_cache_")?.split_once(' '))
        .map(|(name, kind)| format!("{name}{}", if kind == "counter" { "_total" } else { "" }))
        .collect();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let page = std::fs::read_to_string(page).unwrap();
    let listed: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `orlop_cache_"))
        .map(|rest| rest.split(['`', '{']).next().unwrap().to_owned())
        .collect();
    assert_eq!(listed, shown);
}
