//! Images that are fetched into the cache before anybody asks for them: by command, and by the clock.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Content, Fault, FaultyUpstream, INDEX, Server, image, index, noise};

fn configuration(at: &FaultyUpstream, more: &str) -> String {
    format!("{more}\n[[upstream]]\nhost = \"docker.io\"\nurl = \"{}\"\nrevalidate_after = \"0s\"\n", at.url())
}

/// Gives the upstream an image under its digest and a tag.
fn put_image(at: &FaultyUpstream, tag: &str, seed: u64) -> Content {
    let (config, layer) = (format!("{{\"seed\":{seed}}}").into_bytes(), noise(seed, 100_000));
    at.put_blob(&config);
    at.put_blob(&layer);
    let image = image(&config, &[&layer], &json!({}));
    at.put_manifest(tag, &image.media_type, &image.bytes);
    image
}

/// Gives the upstream an index of images for these platforms, and returns them.
fn put_platforms(at: &FaultyUpstream, tag: &str, platforms: &[&str]) -> Vec<Content> {
    let images: Vec<Content> = platforms
        .iter()
        .zip(100..)
        .map(|(name, seed)| put_image(at, &name.replace('/', "-"), seed))
        .collect();
    let entry = |(image, platform): (&Content, &&str)| {
        let mut entry = image.descriptor();
        let (os, architecture) = platform.split_once('/').unwrap();
        entry["platform"] = json!({"os": os, "architecture": architecture});
        entry
    };
    let entries: Vec<Value> = images.iter().zip(platforms).map(entry).collect();
    at.put_manifest(tag, INDEX, &index(&entries, &json!({})).bytes);
    images
}

/// Runs `orlop cache pull` for the server's directory.
fn pull(server: &Server, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    command.args(["cache", "pull", "--data"]).arg(server.data()).args(arguments);
    command.current_dir(server.data().parent().unwrap()).output().unwrap()
}

#[track_caller]
fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
fn refused(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn blobs_of(content: &Content) -> Vec<String> {
    let manifest: Value = serde_json::from_slice(&content.bytes).unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter();
    let all = layers.chain([&manifest["config"]]);
    all.map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_image_is_here_before_anybody_asks_for_it() {
    let hub = FaultyUpstream::start();
    let images = put_platforms(&hub, "1.36", &["linux/amd64", "linux/arm64", "windows/amd64"]);
    let mut server = Server::with_file(&configuration(&hub, ""), &[]);
    let shown =
        said(&pull(&server, &["docker.io/library/box:1.36", "--platform", "linux/arm64,windows/amd64"]));
    assert!(shown.contains("docker.io/library/box:1.36") && shown.contains("195.3 KiB"), "{shown}");
    assert_eq!(hub.count("GET", "/blobs/"), 4, "{:?}", hub.received());
    // Again, by the short name and without a server: nothing is left to fetch.
    server.stop();
    let json = said(&pull(&server, &["box:1.36", "--platform", "linux/arm64,windows/amd64", "--json"]));
    let answer: Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&answer["images"][0]["fetched"], &answer["images"][0]["blobs"]),
        (&json!(0), &json!(4)),
        "{answer}"
    );
    assert_eq!(hub.count("GET", "/blobs/"), 4);
    drop(hub);
    server.run_again();
    server.get("/v2/docker.io/library/box/manifests/1.36").send().expect(200);
    for image in &images[1..] {
        server.get(&format!("/v2/docker.io/library/box/manifests/{}", image.digest())).send().expect(200);
        for blob in blobs_of(image) {
            server.get(&format!("/v2/docker.io/library/box/blobs/{blob}")).send().expect(200);
        }
    }
}

#[test]
fn patterns_and_ranges_mean_several_tags() {
    let hub = FaultyUpstream::start();
    for (tag, seed) in ["1.35.0", "1.36.0", "1.36.1", "2.0.0", "latest"].into_iter().zip(1..) {
        put_image(&hub, tag, seed);
    }
    let server = Server::with_file(&configuration(&hub, ""), &[]);
    let tags_of = |arguments: &[&str]| {
        let shown = said(&pull(&server, arguments));
        let tag =
            |line: &str| line.strip_prefix("docker.io/library/box:")?.split(' ').next().map(str::to_owned);
        shown.lines().filter_map(tag).collect::<Vec<_>>()
    };
    assert_eq!(tags_of(&["box:^1.36"]), ["1.36.0", "1.36.1"]);
    assert_eq!(tags_of(&["docker.io/library/box:1.3*", "box"]), ["1.35.0", "1.36.0", "1.36.1", "latest"]);
    let none = refused(&pull(&server, &["box:3.*"]));
    assert!(none.contains("no tag that is meant"), "{none}");
}

#[test]
fn sizes_that_a_manifest_makes_up_break_nothing() {
    let hub = FaultyUpstream::start();
    let entries: Vec<Value> = (1..=4)
        .map(|seed| {
            let digest = hub.put_blob(&noise(seed, 1000));
            json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": i64::MAX})
        })
        .collect();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        json!({"schemaVersion": 2, "mediaType": media_type, "config": entries[0], "layers": entries[1..]});
    hub.put_manifest("1", media_type, manifest.to_string().as_bytes());
    let server = Server::with_file(&configuration(&hub, ""), &[]);
    said(&pull(&server, &["box:1"]));
}

#[test]
fn what_can_not_be_fetched_is_said() {
    let hub = FaultyUpstream::start();
    put_platforms(&hub, "1", &["linux/amd64", "linux/s390x"]);
    let server = Server::with_file(&configuration(&hub, ""), &[]);
    for (arguments, words) in [
        (&["box:1", "--platform", "linux/arm64"][..], "linux/s390x"),
        (&["box:1", "--platform", "arm"], "linux/amd64"),
        (&["ghcr.io/a/b:1"], "ghcr.io"),
        (&["box:none"], "no such manifest"),
        (&["box:a b"], "write an image"),
    ] {
        let message = refused(&pull(&server, arguments));
        assert!(message.contains(words), "{arguments:?}: {message}");
    }
    hub.order("GET", "/blobs/", 1000, Fault::WrongBytes);
    refused(&pull(&server, &["box:1", "--platform", "linux/amd64"]));
    let plain = Server::start();
    let message = refused(&pull(&plain, &["docker.io/library/box:1"]));
    assert!(message.contains("no upstream is configured"), "{message}");
}

#[test]
fn images_are_fetched_by_the_clock() {
    let hub = FaultyUpstream::start();
    let one = put_image(&hub, "1", 1);
    let sync = "cache.sync = [\"docker.io/library/box:1\", \"docker.io/library/none:1.*\"]\ncache.sync_every = \"300ms\"";
    let server = Server::with_file(&configuration(&hub, sync), &[]);
    server.wait_for_line(&["images are up to date", "docker.io/library/box:1"]);
    server.wait_for_line(&["could not be fetched", "docker.io/library/none:1.*"]);
    let is_here = |content: &Content| {
        let asked = hub.received().len();
        let blobs = blobs_of(content).into_iter();
        blobs.for_each(|blob| {
            server.get(&format!("/v2/docker.io/library/box/blobs/{blob}")).send().expect(200);
        });
        asked
    };
    is_here(&one);
    assert_eq!(hub.count("GET", "/blobs/"), 2);
    // What moves upstream comes by itself.
    let two = put_image(&hub, "1", 2);
    let layer = blobs_of(&two).remove(0);
    let mut looks = std::iter::repeat_with(|| {
        std::thread::sleep(Duration::from_millis(100));
        hub.count("GET", &layer)
    });
    assert!(looks.by_ref().take(300).any(|count| count == 1), "{:?}", hub.received());
}
