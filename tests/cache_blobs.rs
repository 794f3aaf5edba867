//! Blobs of an upstream: one transfer for all who want one, whatever breaks on the way.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "cache_blobs/caching.rs"]
mod caching;
mod support;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use caching::{Caching, broken, read, rest, settings, wait_until};
use orlop::client::registry::{Credentials, Timeouts};
use orlop::clock::{ManualClock, Timestamp};
use orlop::fsio::SimulatedDisk;
use orlop::registry::Policy;
use serde_json::json;
use support::{Fault, FaultyUpstream, Server, image, noise, sha256, sha512};

const MIB: usize = 1 << 20;

/// Slowly enough that clients meet.
fn drip() -> Fault {
    Fault::Drip(MIB / 4, Duration::from_millis(20))
}

/// The offsets from which the upstream was asked for blobs.
fn ranges(upstream: &FaultyUpstream) -> Vec<Option<usize>> {
    let offset = |range: &str| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok();
    upstream
        .received()
        .iter()
        .filter(|received| received.method == "GET")
        .map(|received| received.header("range").and_then(offset))
        .collect()
}

#[test]
fn fifty_clients_cost_one_transfer() {
    let upstream = FaultyUpstream::start();
    let bytes = noise(1, 4 * MIB + 5);
    let digest = upstream.put_blob(&bytes);
    upstream.order("GET", &digest, 1, drip());
    let caching = Caching::of(&upstream);
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let response = caching.get("team/box", &digest);
                assert_eq!(response.status(), 200);
                assert_eq!(response.headers()["content-length"], bytes.len().to_string().as_str());
                assert!(response.bytes().unwrap() == bytes);
            });
        }
    });
    caching.wait_for("team/box", &digest);
    assert!(caching.get("team/box", &digest).bytes().unwrap() == bytes);
    assert_eq!(upstream.received().len(), 1, "{:?}", upstream.received());
    assert_eq!(upstream.sent_bytes(), bytes.len() as u64);
}

#[test]
fn who_comes_late_reads_what_is_there_and_parts_of_it() {
    let upstream = FaultyUpstream::start();
    let bytes = noise(2, 4 * MIB);
    let digest = upstream.put_blob(&bytes);
    upstream.order("GET", &digest, 1, Fault::StallAfter(3 * MIB));
    let mut settings = settings(&upstream);
    settings.client.timeouts.idle = Duration::from_secs(3);
    let caching = Caching::with(settings);
    let mut first = caching.get("team/box", &digest);
    assert!(read(&mut first, 2 * MIB) == bytes[..2 * MIB]);
    // The upstream says nothing more for a while.
    let mut late = caching.get("team/box", &digest);
    assert!(read(&mut late, 2 * MIB) == bytes[..2 * MIB]);
    let part = caching.range("team/box", &digest, "bytes=1000000-1000999");
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], format!("bytes 1000000-1000999/{}", bytes.len()).as_str());
    assert!(part.bytes().unwrap() == bytes[1_000_000..1_001_000]);
    let parts = caching.range("team/box", &digest, "bytes=0-9,100-109");
    assert_eq!(parts.status(), 206);
    assert!(parts.headers()["content-type"].to_str().unwrap().starts_with("multipart/byteranges"));
    assert!(parts.bytes().unwrap().windows(10).any(|part| part == &bytes[100..110]));
    let beyond = caching.range("team/box", &digest, "bytes=99999999-");
    assert_eq!(beyond.status(), 416);
    let head = caching.head("team/box", &digest);
    assert_eq!(head.status(), 200);
    for response in [&late, &head] {
        let headers = response.headers();
        assert_eq!(headers["docker-content-digest"], digest.as_str());
        assert_eq!(headers["etag"], format!("\"{digest}\"").as_str());
        assert_eq!(headers["content-length"], bytes.len().to_string().as_str());
        assert_eq!(headers["accept-ranges"], "bytes");
        assert_eq!(headers["oci-namespace"], caching::HOST);
    }
    assert_eq!(upstream.received().len(), 1);
    // It is asked for the rest then, and everybody gets it, who waits for the end from the beginning too.
    let end = thread::scope(|scope| {
        let end = scope.spawn(|| caching.range("team/box", &digest, "bytes=-10").bytes().unwrap());
        assert!(rest(first) == bytes[2 * MIB..]);
        assert!(rest(late) == bytes[2 * MIB..]);
        end.join().unwrap()
    });
    assert!(end == bytes[4 * MIB - 10..]);
    assert_eq!(ranges(&upstream), [None, Some(3 * MIB)]);
    assert_eq!(upstream.sent_bytes(), bytes.len() as u64);
}

#[test]
fn what_has_come_is_shown_when_the_upstream_pauses() {
    let upstream = FaultyUpstream::start();
    let bytes = noise(3, MIB);
    let digest = upstream.put_blob(&bytes);
    upstream.order("GET", &digest, 1, Fault::StallAfter(MIB / 2));
    let mut settings = settings(&upstream);
    settings.client.timeouts.idle = Duration::from_secs(3600);
    let caching = Caching::with(settings);
    let mut response = caching.get("team/box", &digest);
    assert!(read(&mut response, MIB / 2) == bytes[..MIB / 2]);
}

#[test]
fn a_fetch_goes_on_when_the_last_client_has_left() {
    let upstream = FaultyUpstream::start();
    let bytes = noise(4, 4 * MIB);
    let digest = upstream.put_blob(&bytes);
    upstream.order("GET", &digest, 1, drip());
    let caching = Caching::of(&upstream);
    let mut response = caching.get("team/box", &digest);
    read(&mut response, 1);
    drop(response);
    caching.wait_for("team/box", &digest);
    assert_eq!((upstream.received().len(), upstream.sent_bytes()), (1, bytes.len() as u64));
}

#[test]
fn a_client_that_stops_reading_holds_nobody_up() {
    let upstream = FaultyUpstream::start();
    let bytes = noise(34, 24 * MIB);
    let digest = upstream.put_blob(&bytes);
    let caching = Caching::of(&upstream);
    let mut slow = caching.get("team/box", &digest);
    read(&mut slow, 1);
    assert!(caching.get("team/box", &digest).bytes().unwrap() == bytes);
    assert!(rest(slow) == bytes[1..]);
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn pulls_are_told_of_wherever_the_bytes_were() {
    let upstream = FaultyUpstream::start();
    let (kept, large) = (noise(35, MIB), noise(36, 2 * MIB));
    let (kept_digest, large_digest) = (upstream.put_blob(&kept), upstream.put_blob(&large));
    let mut settings = settings(&upstream);
    settings.max_bytes = Some(MIB as u64);
    let mut caching = Caching::with(settings);
    assert!(caching.get("team/one", &kept_digest).bytes().unwrap() == kept);
    caching.wait_for("team/one", &kept_digest);
    assert!(caching.get("team/one", &kept_digest).bytes().unwrap() == kept);
    assert!(caching.get("team/two", &large_digest).bytes().unwrap() == large);
    let names = ["team/one", "team/one", "team/two"].map(|name| format!("{}/{name}", caching::HOST));
    assert_eq!(caching.pulls(), names);
}

#[test]
fn what_nobody_reads_for_too_long_is_interrupted_and_can_be_gone_on_with() {
    let upstream = FaultyUpstream::start();
    let bytes = noise(5, 12 * MIB);
    let digest = upstream.put_blob(&bytes);
    upstream.order("GET", &digest, 1, drip());
    let mut settings = settings(&upstream);
    settings.fetching.unread_time = Duration::from_millis(50);
    let caching = Caching::with(settings.clone());
    drop(caching.get("team/box", &digest));
    let mut sent = None;
    wait_until("nothing more comes", || {
        thread::sleep(Duration::from_millis(300));
        sent.replace(upstream.sent_bytes()) == sent
    });
    assert!(!caching.has("team/box", &digest));
    assert!(upstream.sent_bytes() < bytes.len() as u64);
    assert!(caching.get("team/box", &digest).bytes().unwrap() == bytes);
    assert!(ranges(&upstream)[1].is_some_and(|offset| offset > 0), "{:?}", ranges(&upstream));

    // So is one of which there is more to come than may come for nobody.
    let bytes = noise(6, 12 * MIB);
    let digest = upstream.put_blob(&bytes);
    upstream.order("GET", &digest, 1, drip());
    settings.fetching.unread_time = Duration::from_secs(600);
    settings.fetching.unread_bytes = 4 << 20;
    let caching = Caching::with(settings);
    drop(caching.get("team/box", &digest));
    wait_until("nothing more comes", || {
        thread::sleep(Duration::from_millis(300));
        sent.replace(upstream.sent_bytes()) == sent
    });
    assert!(!caching.has("team/box", &digest));
}

#[test]
fn a_transfer_that_breaks_off_goes_on_where_it_stands() {
    let upstream = FaultyUpstream::start();
    let bytes = noise(7, 4 * MIB);
    let digest = upstream.put_blob(&bytes);
    for cut in [MIB + 7, MIB, 3] {
        upstream.order("GET", &digest, 1, Fault::CutAfter(cut));
    }
    let caching = Caching::of(&upstream);
    assert!(caching.get("team/box", &digest).bytes().unwrap() == bytes);
    let ranges = ranges(&upstream);
    assert_eq!((ranges.len(), ranges[0]), (4, None));
    assert!(ranges[1..].iter().all(|offset| offset.is_some_and(|offset| offset > MIB / 2)), "{ranges:?}");
    assert!(upstream.sent_bytes() < bytes.len() as u64 + MIB as u64);
}

#[test]
fn an_upstream_that_gives_wrong_ranges_or_none_is_asked_for_all_of_it() {
    for (seed, fault) in [(8, Fault::WholeBlob), (9, Fault::WrongRange), (10, Fault::Status(416, &[], ""))] {
        let upstream = FaultyUpstream::start();
        let bytes = noise(seed, 3 * MIB);
        let digest = upstream.put_blob(&bytes);
        upstream.order("GET", &digest, 1, Fault::CutAfter(2 * MIB));
        upstream.order("GET", &digest, 1, fault.clone());
        let caching = Caching::of(&upstream);
        assert!(caching.get("team/box", &digest).bytes().unwrap() == bytes, "{fault:?}");
        caching.wait_for("team/box", &digest);
    }
}

#[test]
fn an_upstream_that_never_gets_on_is_given_up() {
    let upstream = FaultyUpstream::start();
    let bytes = noise(11, 3 * MIB);
    let digest = upstream.put_blob(&bytes);
    upstream.order("GET", &digest, 3, Fault::CutAfter(10));
    let mut settings = settings(&upstream);
    settings.fetching.attempts = 3;
    let caching = Caching::with(settings);
    caching.broken("team/box", &digest);
    assert_eq!(upstream.received().len(), 3);
    assert!(caching.get("team/box", &digest).bytes().unwrap() == bytes);
}

#[test]
fn a_slow_drip_is_given_up() {
    let upstream = FaultyUpstream::start();
    let bytes = noise(12, MIB);
    let digest = upstream.put_blob(&bytes);
    upstream.order("GET", &digest, 2, Fault::Drip(100, Duration::from_millis(10)));
    let mut settings = settings(&upstream);
    settings.fetching.attempts = 2;
    settings.fetching.slowest_bytes = MIB as u64;
    settings.fetching.slowest_time = Duration::from_millis(500);
    let caching = Caching::with(settings);
    caching.broken("team/box", &digest);
    assert_eq!(upstream.received().len(), 2);
    assert!(caching.get("team/box", &digest).bytes().unwrap() == bytes);
}

#[test]
fn a_hang_before_the_first_byte_is_an_error_and_not_a_broken_answer() {
    let upstream = FaultyUpstream::start();
    let bytes = noise(13, 1000);
    let digest = upstream.put_blob(&bytes);
    upstream.order("GET", &digest, 1, Fault::Hang);
    let mut settings = settings(&upstream);
    settings.client.timeouts.first_byte = Duration::from_millis(200);
    let caching = Caching::with(settings);
    let response = caching.get("team/box", &digest);
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    assert!(response.text().unwrap().contains("UNAVAILABLE"));
}

#[test]
fn an_interrupted_fetch_goes_on_after_a_restart() {
    let upstream = FaultyUpstream::start();
    let bytes = noise(14, 12 * MIB);
    let digest = upstream.put_blob(&bytes);
    upstream.order("GET", &digest, 1, Fault::StallAfter(10 * MIB));
    let mut caching = Caching::of(&upstream);
    let mut response = caching.get("team/box", &digest);
    assert!(read(&mut response, 10 * MIB) == bytes[..10 * MIB]);
    caching.stop();
    drop(response);
    caching.start();
    assert!(!caching.has("team/box", &digest));
    let sent = upstream.sent_bytes();
    assert!(caching.get("team/box", &digest).bytes().unwrap() == bytes);
    assert_eq!(ranges(&upstream), [None, Some(10 * MIB)]);
    assert_eq!(upstream.sent_bytes() - sent, 2 * MIB as u64);
}

#[test]
fn a_registry_stops_at_once_whatever_the_upstream_does() {
    let upstream = FaultyUpstream::start();
    let (bytes, digest) = (noise(32, 2 * MIB), upstream.put_blob(&noise(33, 2 * MIB)));
    let hanging = upstream.put_blob(&bytes);
    upstream.order("GET", &digest, 1, Fault::StallAfter(MIB));
    upstream.order("GET", &hanging, 1, Fault::Hang);
    let mut settings = settings(&upstream);
    let long = Duration::from_secs(3600);
    settings.client.timeouts = Timeouts { first_byte: long, idle: long, ..settings.client.timeouts };
    let mut caching = Caching::with(settings);
    let mut response = caching.get("team/box", &digest);
    read(&mut response, 1);
    thread::scope(|scope| {
        let url = caching.url("team/box", &hanging);
        scope.spawn(move || reqwest::blocking::get(url).unwrap_err());
        wait_until("the upstream hangs", || upstream.count("GET", &hanging) == 1);
        caching.stop();
    });
}

#[test]
fn what_is_something_else_breaks_the_connection_and_is_never_stored() {
    for (seed, len) in [(15, 10), (16, 100_000), (17, 3 * MIB)] {
        let upstream = FaultyUpstream::start();
        let bytes = noise(seed, len);
        let digest = upstream.put_blob(&bytes);
        upstream.order("GET", &digest, 1, Fault::WrongBytes);
        let caching = Caching::of(&upstream);
        let came = caching.broken("team/box", &digest);
        assert!(came.len() + (64 << 10) <= len || came.is_empty(), "{} of {len} bytes came", came.len());
        wait_until("it is over", || !caching.has("team/box", &digest));
        assert!(caching.get("team/box", &digest).bytes().unwrap() == bytes, "another try works");
        caching.wait_for("team/box", &digest);
    }
}

#[test]
fn redirected_transfers_carry_no_authorization() {
    let (upstream, storage) = (FaultyUpstream::start(), FaultyUpstream::start());
    let bytes = noise(18, 2 * MIB);
    let digest = upstream.put_blob(&bytes);
    storage.put_blob(&bytes);
    upstream.want_tokens(None);
    let location = format!("{}/v2/elsewhere/blobs/{digest}?signature=abc", storage.url());
    storage.order("GET", &digest, 1, Fault::CutAfter(MIB));
    // The first request is the one that learns of the tokens.
    upstream.order("GET", &format!("/v2/none/blobs/{digest}"), 1, Fault::Close);
    let mut settings = settings(&upstream);
    settings.client.credentials = Some(Credentials::new("anna", "sesame").unwrap());
    settings.is_public = true;
    let caching = Caching::with(settings);
    assert_eq!(caching.head("team/box", &digest).status(), 200);
    upstream.order("GET", &digest, 2, Fault::Redirect(location));
    assert!(caching.get("team/box", &digest).bytes().unwrap() == bytes);
    assert!(upstream.received().iter().any(|received| received.header("authorization").is_some()));
    let received = storage.received();
    assert_eq!(received.len(), 2);
    assert!(received.iter().all(|received| received.header("authorization").is_none()), "{received:?}");
}

#[test]
fn head_of_a_cold_blob_is_answered_by_the_upstream_and_fetches_nothing() {
    let upstream = FaultyUpstream::start();
    let bytes = noise(19, MIB);
    let digest = upstream.put_blob(&bytes);
    let caching = Caching::of(&upstream);
    let head = caching.head("team/box", &digest);
    assert_eq!(
        (head.status().as_u16(), &head.headers()["content-length"]),
        (200, &"1048576".parse().unwrap())
    );
    assert_eq!(head.headers()["docker-content-digest"], digest.as_str());
    assert_eq!((upstream.count("HEAD", &digest), upstream.count("GET", "")), (1, 0));
    assert!(!caching.has("team/box", &digest));

    let missing = sha256(b"nowhere");
    for _ in 0..3 {
        assert_eq!(caching.head("team/box", &missing).status(), 404);
        let response = caching.get("team/box", &missing);
        assert_eq!(response.status(), 404);
        assert!(response.text().unwrap().contains("BLOB_UNKNOWN"));
    }
    assert_eq!((upstream.count("HEAD", &missing), upstream.count("GET", "")), (1, 0), "it is remembered");
}

#[test]
fn blobs_are_verified_by_the_digest_that_names_them() {
    let upstream = FaultyUpstream::start();
    let (bytes, other) = (noise(20, 2 * MIB), noise(21, 2 * MIB));
    let (digest, wrong) = (sha512(&bytes), sha512(b"something else"));
    upstream.put_blob_as(&digest, &bytes);
    upstream.put_blob_as(&wrong, &other);
    let caching = Caching::of(&upstream);
    assert!(caching.get("team/box", &digest).bytes().unwrap() == bytes);
    caching.wait_for("team/box", &digest);
    caching.broken("team/box", &wrong);
    assert!(!caching.has("team/box", &wrong));
}

#[test]
fn no_upstream_is_asked_for_a_tarsum() {
    let upstream = FaultyUpstream::start();
    let caching = Caching::of(&upstream);
    let tarsum = format!("tarsum.v1+sha256:{}", "a".repeat(64));
    assert_eq!(caching.get("team/box", &tarsum).status(), 404);
    assert_eq!(caching.head("team/box", &tarsum).status(), 404);
    assert!(upstream.received().is_empty());
}

#[test]
fn a_blob_without_a_length_is_fetched_by_the_size_that_head_says() {
    let upstream = FaultyUpstream::start();
    let bytes = noise(22, 2 * MIB);
    let digest = upstream.put_blob(&bytes);
    upstream.order("GET", &digest, 1, Fault::NoLength);
    let caching = Caching::of(&upstream);
    let response = caching.get("team/box", &digest);
    assert_eq!(response.headers()["content-length"], bytes.len().to_string().as_str());
    assert!(response.bytes().unwrap() == bytes);
    assert_eq!(upstream.count("HEAD", &digest), 1);

    let other = upstream.put_blob(&noise(23, 1000));
    upstream.order("GET", &other, 1, Fault::NoLength);
    upstream.order("HEAD", &other, 1, Fault::NoLength);
    let response = caching.get("team/box", &other);
    assert_eq!(response.status(), 502, "nobody says how long it is");
}

#[test]
fn only_so_many_are_fetched_at_once() {
    let upstream = FaultyUpstream::start();
    let (first, second) = (noise(24, 2 * MIB), noise(25, MIB));
    let (first_digest, second_digest) = (upstream.put_blob(&first), upstream.put_blob(&second));
    upstream.order("GET", &first_digest, 1, Fault::StallAfter(MIB));
    let mut settings = settings(&upstream);
    settings.fetching.at_once = 1;
    settings.client.timeouts.idle = Duration::from_secs(2);
    let caching = Caching::with(settings);
    let mut response = caching.get("team/box", &first_digest);
    read(&mut response, MIB / 2);
    // Somebody who doesn't wait for it makes nothing of it.
    let left = noise(41, 1000);
    caching.leave("team/box", &upstream.put_blob(&left), Duration::from_millis(200));
    assert!(caching.get("team/box", &second_digest).bytes().unwrap() == second);
    let asked: Vec<bool> =
        upstream.received().iter().map(|received| received.target.contains(&second_digest)).collect();
    assert_eq!(asked, [false, false, true], "the second had to wait until the first was whole");
    assert!(rest(response) == first[MIB / 2..]);
    assert_eq!(upstream.count("GET", &sha256(&left)), 0);
}

#[test]
fn what_nobody_reads_makes_room_for_those_who_wait() {
    let upstream = FaultyUpstream::start();
    let (first, second) = (upstream.put_blob(&noise(42, 12 * MIB)), noise(43, MIB));
    let second_digest = upstream.put_blob(&second);
    upstream.order("GET", &first, 1, Fault::StallAfter(MIB));
    let mut settings = settings(&upstream);
    settings.fetching.at_once = 1;
    settings.fetching.contended_unread_time = Duration::from_millis(50);
    settings.client.timeouts.idle = Duration::from_secs(3600);
    let caching = Caching::with(settings);
    drop(caching.get("team/box", &first));
    assert!(caching.get("team/box", &second_digest).bytes().unwrap() == second);
}

#[test]
fn what_is_fetched_for_another_repository_is_shared_once_the_upstream_has_said_yes() {
    let upstream = FaultyUpstream::start();
    let bytes = noise(26, 3 * MIB);
    let digest = upstream.put_blob(&bytes);
    upstream.order("GET", &digest, 1, Fault::StallAfter(2 * MIB));
    upstream.order("HEAD", "/v2/team/secret/", 1, Fault::Status(404, &[], ""));
    let mut settings = settings(&upstream);
    settings.client.timeouts.idle = Duration::from_secs(2);
    let caching = Caching::with(settings);
    let mut response = caching.get("team/box", &digest);
    read(&mut response, MIB);
    assert_eq!(caching.get("team/secret", &digest).status(), 404);
    let mut other = caching.get("team/other", &digest);
    assert!(read(&mut other, MIB) == bytes[..MIB]);
    assert_eq!(upstream.count("GET", ""), 1);
    assert_eq!(upstream.count("HEAD", "/v2/team/other/"), 1);
    assert!(rest(other) == bytes[MIB..]);
    caching.wait_for("team/other", &digest);
    assert_eq!(upstream.sent_bytes(), bytes.len() as u64);
}

#[test]
fn what_another_repository_has_is_linked_once_the_upstream_has_said_yes() {
    let upstream = FaultyUpstream::start();
    let bytes = noise(29, MIB);
    let digest = upstream.put_blob(&bytes);
    upstream.order("HEAD", "/v2/team/secret/", 1, Fault::Status(404, &[], ""));
    let caching = Caching::of(&upstream);
    assert!(caching.get("team/box", &digest).bytes().unwrap() == bytes);
    caching.wait_for("team/box", &digest);
    assert_eq!(caching.get("team/secret", &digest).status(), 404);
    assert!(!caching.has("team/secret", &digest));
    assert!(caching.get("team/other", &digest).bytes().unwrap() == bytes);
    assert!(caching.has("team/other", &digest));
    assert_eq!((upstream.count("GET", ""), upstream.count("HEAD", "")), (1, 2));
    assert_eq!(upstream.sent_bytes(), bytes.len() as u64);
}

#[test]
fn a_clock_that_was_wrong_keeps_no_tag_from_being_looked_at_again() {
    let upstream = FaultyUpstream::start();
    let image = image(b"{}", &[], &json!({}));
    upstream.put_manifest("1", &image.media_type, &image.bytes);
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(4_000_000_000_000)));
    let mut settings = settings(&upstream);
    settings.client.clock = clock.clone();
    let caching = Caching::with(settings);
    let heads = || {
        assert_eq!(caching.manifest("team/box", "1").status(), 200);
        upstream.count("HEAD", "/manifests/")
    };
    assert_eq!((heads(), heads()), (1, 1));
    clock.set(Timestamp::from_millis(1_700_000_000_000));
    assert_eq!((heads(), heads()), (2, 2), "it is asked, and believed from then on");
}

#[test]
fn a_blob_whose_file_is_lost_comes_anew() {
    let upstream = FaultyUpstream::start();
    let bytes = noise(33, 100_000);
    let digest = upstream.put_blob(&bytes);
    let caching = Caching::of(&upstream);
    let comes_anew = |repository: &str| {
        caching.lose(&digest);
        // The first bytes may be of the fetch before, which is about to end.
        wait_until("its file is back", || {
            assert!(caching.get(repository, &digest).bytes().unwrap() == bytes, "{repository}");
            caching.file_of(&digest).is_some()
        });
    };
    for repository in ["team/one", "team/two"] {
        assert!(caching.get(repository, &digest).bytes().unwrap() == bytes);
        caching.wait_for(repository, &digest);
        comes_anew(repository);
    }
    comes_anew("team/three");
}

#[test]
fn an_image_that_is_too_large_is_handed_through_and_not_kept() {
    let upstream = FaultyUpstream::start();
    let (shared, own, config) = (noise(30, MIB), noise(31, 3 * MIB / 2), b"{}".to_vec());
    for blob in [&shared, &own, &config] {
        upstream.put_blob(blob);
    }
    let large = image(&config, &[&shared, &own], &json!({}));
    let small = image(&config, &[&shared], &json!({}));
    upstream.put_manifest("large", &large.media_type, &large.bytes);
    upstream.put_manifest("small", &small.media_type, &small.bytes);
    let mut settings = settings(&upstream);
    settings.max_bytes = Some(2 << 20);
    let caching = Caching::with(settings);
    assert_eq!(caching.manifest("team/box", "large").status(), 200);
    // Each would fit, but not the image.
    for blob in [&shared, &own] {
        assert!(caching.get("team/box", &sha256(blob)).bytes().unwrap() == *blob);
        assert!(!caching.has("team/box", &sha256(blob)));
    }
    assert_eq!(caching.manifest("team/box", "small").status(), 200);
    assert!(caching.get("team/box", &sha256(&shared)).bytes().unwrap() == shared);
    caching.wait_for("team/box", &sha256(&shared));
}

#[test]
fn a_blob_that_is_too_large_is_handed_through_and_not_kept() {
    let upstream = FaultyUpstream::start();
    let bytes = noise(27, 3 * MIB);
    let digest = upstream.put_blob(&bytes);
    let mut settings = settings(&upstream);
    settings.max_bytes = Some(2 << 20);
    let caching = Caching::with(settings);
    let response = caching.get("team/box", &digest);
    assert_eq!(response.headers()["content-length"], bytes.len().to_string().as_str());
    assert_eq!(response.headers()["docker-content-digest"], digest.as_str());
    assert!(response.bytes().unwrap() == bytes);
    assert!(!caching.has("team/box", &digest));

    for (asked, start, end) in [
        ("bytes=1000-", 1000, 3 * MIB),
        ("bytes=1000000-2999999", 1_000_000, 3_000_000),
        ("bytes=-100000", 3 * MIB - 100_000, 3 * MIB),
        ("bytes=0-0", 0, 1),
    ] {
        let part = caching.range("team/box", &digest, asked);
        assert_eq!(part.status(), 206);
        let range = format!("bytes {start}-{}/{}", end - 1, bytes.len());
        assert_eq!(part.headers()["content-range"], range.as_str());
        assert!(part.bytes().unwrap() == bytes[start..end], "{asked}");
        if start > 0 {
            assert_eq!(ranges(&upstream).last(), Some(&Some(start)));
        }
    }
    let all = caching.range("team/box", &digest, "bytes=0-9,100-109");
    assert_eq!(all.status(), 200);
    assert!(all.bytes().unwrap() == bytes);

    // It is taken up again where it breaks off.
    upstream.order("GET", &digest, 1, Fault::CutAfter(0));
    upstream.order("GET", &digest, 1, Fault::CutAfter(MIB));
    assert!(caching.get("team/box", &digest).bytes().unwrap() == bytes);

    upstream.order("GET", &digest, 2, Fault::WrongBytes);
    caching.broken("team/box", &digest);
    let wrong = sha256(b"something else");
    upstream.put_blob_as(&wrong, &bytes);
    upstream.order("GET", &wrong, 2, Fault::Drip(16 << 10, Duration::from_millis(1)));
    let came = caching.broken("team/box", &wrong);
    assert!(came.len() + (64 << 10) <= bytes.len(), "{} bytes came", came.len());
}

#[test]
fn what_is_handed_through_comes_no_faster_than_it_is_taken() {
    let upstream = FaultyUpstream::start();
    let bytes = noise(37, 64 * MIB);
    let digest = upstream.put_blob(&bytes);
    let mut settings = settings(&upstream);
    settings.max_bytes = Some(2 << 20);
    let caching = Caching::with(settings);
    let mut response = caching.get("team/box", &digest);
    read(&mut response, 1);
    let mut sent = None;
    wait_until("nothing more comes", || {
        thread::sleep(Duration::from_millis(300));
        sent.replace(upstream.sent_bytes()) == sent
    });
    assert!(upstream.sent_bytes() < 48 << 20, "{} bytes wait somewhere", upstream.sent_bytes());
    assert!(rest(response) == bytes[1..]);
}

#[test]
fn a_disk_that_fills_up_in_the_middle_breaks_the_answer_and_the_rest_is_handed_through() {
    let upstream = FaultyUpstream::start();
    let bytes = noise(38, 12 * MIB);
    let digest = upstream.put_blob(&bytes);
    upstream.order("GET", &digest, 1, drip());
    let disk = SimulatedDisk::new();
    let policy = Policy { free_floor_bytes: 0, ..Policy::default() };
    let caching = Caching::on(Arc::new(disk.clone()), settings(&upstream), policy);
    let mut response = caching.get("team/box", &digest);
    assert!(read(&mut response, 2 * MIB) == bytes[..2 * MIB]);
    disk.set_capacity(Some(6 << 20));
    let more = broken(response);
    assert!(bytes[2 * MIB..].starts_with(&more));
    let came = 2 * MIB + more.len();
    let part = caching.range("team/box", &digest, &format!("bytes={came}-"));
    assert_eq!(part.status(), 206);
    assert!(part.bytes().unwrap() == bytes[came..]);
    assert!(!caching.has("team/box", &digest));
    disk.set_capacity(None);
    assert!(caching.get("team/box", &digest).bytes().unwrap() == bytes);
    caching.wait_for("team/box", &digest);
}

#[test]
fn an_upstream_that_answers_no_head_is_asked_for_all_of_what_was_interrupted() {
    let upstream = FaultyUpstream::start();
    let bytes = noise(39, 9 * MIB);
    let digest = upstream.put_blob(&bytes);
    upstream.order("GET", &digest, 1, Fault::CutAfter(2 * MIB));
    upstream.order("HEAD", &digest, 10, Fault::Status(405, &[], ""));
    let mut settings = settings(&upstream);
    settings.fetching.attempts = 1;
    let caching = Caching::with(settings);
    caching.broken("team/box", &digest);
    assert!(caching.get("team/box", &digest).bytes().unwrap() == bytes);
}

#[test]
fn a_crash_in_the_middle_of_a_fetch_loses_little_of_it() {
    let upstream = FaultyUpstream::start();
    let bytes = noise(40, 40 * MIB);
    let digest = upstream.put_blob(&bytes);
    upstream.order("GET", &digest, 1, Fault::Drip(2 * MIB, Duration::from_millis(500)));
    let file = format!("[[upstream]]\nhost = \"{}\"\nurl = \"{}\"\n", caching::HOST, upstream.url());
    let mut server = Server::with_file(&file, &[]);
    let target = format!("/v2/{}/team/box/blobs/{digest}", caching::HOST);
    let mut response = reqwest::blocking::get(format!("http://{}{target}", server.host())).unwrap();
    // What has come is made durable every few seconds.
    assert!(read(&mut response, 26 * MIB) == bytes[..26 * MIB]);
    server.kill();
    drop(response);
    server.run_again();
    server.get(&target).send().expect(200).expect_body(&bytes);
    server.wait_for_line(&["hub.example", "miss"]);
    let ranges = ranges(&upstream);
    assert_eq!((ranges.len(), ranges[0]), (2, None));
    assert!(
        ranges[1].is_some_and(|offset| offset >= 8 * MIB),
        "what was durable isn't sent again: {ranges:?}"
    );
    server.get(&target).send().expect(200).expect_body(&bytes);
    assert_eq!(upstream.count("GET", ""), 2);
}

#[test]
fn without_room_on_the_disk_blobs_are_handed_through() {
    let upstream = FaultyUpstream::start();
    let bytes = noise(28, 2 * MIB);
    let digest = upstream.put_blob(&bytes);
    let policy = Policy { free_floor_bytes: 1 << 60, ..Policy::default() };
    let caching = Caching::with_policy(settings(&upstream), policy);
    assert!(caching.get("team/box", &digest).bytes().unwrap() == bytes);
    let part = caching.range("team/box", &digest, "bytes=1000000-");
    assert_eq!(part.status(), 206);
    assert!(part.bytes().unwrap() == bytes[1_000_000..]);
    assert!(!caching.has("team/box", &digest));
}
