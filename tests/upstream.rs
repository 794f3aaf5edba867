//! The client of other registries against a registry that breaks in every way, and against a second Orlop.
#![expect(clippy::unwrap_used, reason = "a test says what has to be")]

mod support;

use std::process::Command;
use std::time::Duration;

use orlop::client::registry::{
    Address, Blob, Credentials, Error, Missing, Options, Outage, Timeouts, Upstream,
};
use orlop::oci::{Digest, MediaType, Reference, RepositoryName};
use serde_json::json;
use support::{Fault, FaultyUpstream, IMAGE, Server, image, noise};

/// What `anna:sesame` sends.
const ANNA: &str = "Basic YW5uYTpzZXNhbWU=";

fn options(url: &str) -> Options {
    let mut options = Options::new(url.parse::<Address>().unwrap());
    options.retries.first_pause = Duration::from_millis(1);
    options
}

fn upstream(server: &FaultyUpstream) -> Upstream {
    Upstream::new(options(&server.url())).unwrap()
}

/// With the credentials of Anna.
fn annas(server: &FaultyUpstream) -> Upstream {
    let credentials = Some(Credentials::new("anna", "sesame").unwrap());
    Upstream::new(Options { credentials, ..options(&server.url()) }).unwrap()
}

/// One that waits for a short time only.
fn impatient(server: &FaultyUpstream) -> Upstream {
    let short = Duration::from_millis(300);
    let timeouts = Timeouts { first_byte: short, idle: short, small_answer: short, ..Timeouts::default() };
    Upstream::new(Options { timeouts, ..options(&server.url()) }).unwrap()
}

/// One that trusts the certificate of the tests.
fn secure(server: &FaultyUpstream, credentials: Option<Credentials>) -> Upstream {
    let roots = format!("{}/tests/vectors/tls/root.pem", env!("CARGO_MANIFEST_DIR"));
    let root_certificates = Some(roots.into());
    Upstream::new(Options { credentials, root_certificates, ..options(&server.url()) }).unwrap()
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn digest(text: &str) -> Digest {
    text.parse().unwrap()
}

fn tag(text: &str) -> Reference {
    text.parse().unwrap()
}

fn accept() -> Vec<MediaType> {
    vec![MediaType::OCI_IMAGE_MANIFEST, MediaType::OCI_IMAGE_INDEX]
}

async fn manifest(upstream: &Upstream, reference: &str) -> Result<Vec<u8>, Error> {
    let fetched = upstream.get_manifest(&name("a/b"), &tag(reference), &accept(), 4096).await?;
    Ok(fetched.bytes.to_vec())
}

/// Reads a blob to its end, or to the error that ends it.
async fn rest(blob: &mut Blob) -> (Vec<u8>, Option<Error>) {
    let mut bytes = Vec::new();
    loop {
        match blob.next().await {
            Ok(Some(more)) => bytes.extend_from_slice(&more),
            Ok(None) => return (bytes, None),
            Err(error) => return (bytes, Some(error)),
        }
    }
}

fn outage(error: &Error) -> Option<Outage> {
    match error {
        Error::Unavailable { outage, .. } => Some(*outage),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_comes_as_it_is() {
    let server = FaultyUpstream::start();
    let bytes = noise(1, 300_000);
    let layer = digest(&server.put_blob(&bytes));
    let image = server.put_manifest("1", IMAGE, b"{\"a\": 1}");
    let upstream = upstream(&server);

    let window = Fault::Header("ratelimit-limit", "100;w=21600".to_owned());
    server.order("HEAD", "/manifests/1", 1, window);
    let head = upstream.head_manifest(&name("a/b"), &tag("1"), &accept()).await.unwrap();
    assert_eq!((head.digest, head.size), (Some(digest(&image)), Some(8)));
    assert_eq!(head.rate_limit.limit, Some(100));
    assert_eq!(head.rate_limit.window, Some(Duration::from_secs(21600)));
    let fetched = upstream.get_manifest(&name("a/b"), &tag("1"), &accept(), 8).await.unwrap();
    assert_eq!((fetched.media_type.as_str(), &fetched.bytes[..]), (IMAGE, &b"{\"a\": 1}"[..]));
    assert_eq!(fetched.digest, Some(digest(&image)));

    let head = upstream.head_blob(&name("a/b"), &layer).await.unwrap();
    assert_eq!((head.size, head.accepts_ranges), (300_000, true));
    let mut blob = upstream.get_blob(&name("a/b"), &layer, 0).await.unwrap();
    assert_eq!((blob.offset, blob.size), (0, Some(300_000)));
    assert!(rest(&mut blob).await == (bytes.clone(), None));
    let mut blob = upstream.get_blob(&name("a/b"), &layer, 200_000).await.unwrap();
    assert_eq!((blob.offset, blob.size), (200_000, Some(300_000)));
    assert!(rest(&mut blob).await == (bytes[200_000..].to_vec(), None));

    let received = server.received();
    assert_eq!(received[0].target, "/v2/a/b/manifests/1");
    assert_eq!(received[0].header("accept"), Some(format!("{IMAGE}, {}", support::INDEX).as_str()));
    assert!(received.iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_told_apart() {
    let server = FaultyUpstream::start();
    let upstream = upstream(&server);
    let nothing = Digest::of(orlop::oci::DigestAlgorithm::Sha256, b"");
    let missing = |error: Error| match error {
        Error::NotFound { what, .. } => what,
        other => panic!("{other}"),
    };
    assert_eq!(missing(manifest(&upstream, "none").await.unwrap_err()), Missing::Manifest);
    assert_eq!(missing(upstream.head_blob(&name("a"), &nothing).await.unwrap_err()), Missing::Blob);
    assert_eq!(missing(upstream.get_blob(&name("a"), &nothing, 0).await.unwrap_err()), Missing::Blob);
    let referrers = upstream.referrers(&name("a"), &nothing, None, None).await;
    assert_eq!(missing(referrers.unwrap_err()), Missing::Referrers);
    let unknown = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no such repository"}]}"#;
    server.order("GET", "/manifests/", 1, Fault::Status(404, &[], unknown));
    let error = manifest(&upstream, "none").await.unwrap_err();
    assert_eq!(missing(error.clone()), Missing::Repository);
    let (text, host) = (error.to_string(), server.host());
    assert_eq!(text, format!("{host} has no such repository; check the name (it says: no such repository)"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_is_fetched_for_all_who_wait() {
    let server = FaultyUpstream::start();
    server.want_tokens(Some(ANNA));
    server.put_manifest("1", IMAGE, b"{}");
    let upstream = annas(&server);
    let all = || futures_util::future::join_all((0..50).map(|_| manifest(&upstream, "1")));
    assert!(all().await.iter().all(Result::is_ok));
    assert_eq!(server.count("GET", "/token"), 1);
    let request = server.received().into_iter().find(|request| request.target.starts_with("/token")).unwrap();
    assert_eq!(request.target, "/token?service=upstream&scope=repository%3Aa%2Fb%3Apull");
    assert_eq!(request.header("authorization"), Some(ANNA));

    // Those tokens are over before their time.
    server.expire_tokens();
    assert!(all().await.iter().all(Result::is_ok));
    assert_eq!(server.count("GET", "/token"), 2, "refreshed once for all");

    // Another name takes another token, without being refused first.
    let before = server.received().len();
    let other = upstream.get_manifest(&name("c"), &tag("1"), &accept(), 4096).await;
    assert!(other.is_ok());
    assert_eq!(server.received().len() - before, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_token_that_is_refused_ends_the_dance() {
    let server = FaultyUpstream::start();
    server.want_tokens(None);
    server.put_manifest("1", IMAGE, b"{}");
    let upstream = upstream(&server);
    manifest(&upstream, "1").await.unwrap();
    let tokens = server.count("GET", "/token");
    let body = br#"{"token": "stolen"}"#.to_vec();
    server.order("GET", "/token", 9, Fault::Body(body));
    server.expire_tokens();
    let error = manifest(&upstream, "1").await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    assert_eq!(server.count("GET", "/token") - tokens, 1, "one refresh, then it gives up");
}

#[tokio::test(flavor = "multi_thread")]
async fn token_services_that_misbehave_are_errors() {
    let server = FaultyUpstream::start();
    server.put_manifest("1", IMAGE, b"{}");
    server.want_tokens(Some(ANNA));
    let error = manifest(&upstream(&server), "1").await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    assert!(error.to_string().contains("incorrect username or password"), "{error}");

    let upstream = annas(&server);
    let huge = [b"{\"token\": \"".to_vec(), vec![b'x'; 2 << 20], b"\"}".to_vec()].concat();
    for body in [huge, b"{}".to_vec(), b"<html>".to_vec()] {
        server.order("GET", "/token", 1, Fault::Body(body));
        let error = manifest(&upstream, "1").await.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    }
    let elsewhere = FaultyUpstream::start();
    server.order("GET", "/token", 1, Fault::Redirect(format!("{}/token", elsewhere.url())));
    let error = manifest(&upstream, "1").await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    assert!(elsewhere.received().is_empty(), "credentials follow no redirection");
    server.order("GET", "/token", 2, Fault::Status(503, &[], ""));
    manifest(&upstream, "1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_is_met_with_credentials_and_gives_up_without() {
    let server = FaultyUpstream::start();
    server.put_manifest("1", IMAGE, b"{}");
    server.want_basic(ANNA);
    let with = annas(&server);
    manifest(&with, "1").await.unwrap();
    manifest(&with, "1").await.unwrap();
    assert_eq!(server.received().len(), 3, "the second request brings what the first one was asked for");
    let error = manifest(&upstream(&server), "1").await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    assert!(
        error.to_string().contains(&server.host()) && error.to_string().contains("configure credentials")
    );
    server.want_basic("Basic other");
    let error = manifest(&with, "1").await.unwrap_err();
    assert!(error.to_string().contains("check the credentials"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redirections_are_followed_without_authorization() {
    for wants_tokens in [false, true] {
        let (server, storage) = (FaultyUpstream::start(), FaultyUpstream::start());
        let bytes = noise(2, 1000);
        let layer = server.put_blob(&bytes);
        storage.put_blob(&bytes);
        if wants_tokens {
            server.want_tokens(Some(ANNA));
        } else {
            server.want_basic(ANNA);
        }
        let upstream = annas(&server);
        // The first request may be refused before it would be redirected.
        upstream.head_blob(&name("a"), &digest(&layer)).await.unwrap();
        let location = format!("{}/v2/x/blobs/{layer}?signature=secret", storage.url());
        server.order("GET", "/blobs/", 1, Fault::Redirect(location));
        let mut blob = upstream.get_blob(&name("a"), &digest(&layer), 10).await.unwrap();
        assert!(rest(&mut blob).await == (bytes[10..].to_vec(), None));
        let received = storage.received();
        assert_eq!(received.len(), 1);
        assert_eq!(received[0].header("authorization"), None);
        assert_eq!(received[0].header("range"), Some("bytes=10-"));

        storage.order("GET", "/blobs/", 9, Fault::Status(403, &[], ""));
        let location = format!("{}/v2/x/blobs/{layer}?signature=secret", storage.url());
        server.order("GET", "/blobs/", 9, Fault::Redirect(location));
        let error = upstream.get_blob(&name("a"), &digest(&layer), 0).await.unwrap_err();
        assert!(error.to_string().contains(&storage.host()), "{error}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redirections_end() {
    let server = FaultyUpstream::start();
    let layer = digest(&server.put_blob(b"x"));
    for location in [format!("/v2/a/blobs/{layer}"), "file:///etc/passwd".to_owned(), "http://".to_owned()] {
        let upstream = upstream(&server);
        server.order("GET", "/blobs/", 6, Fault::Redirect(location));
        let before = server.received().len();
        let error = upstream.get_blob(&name("a"), &layer, 0).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
        assert!(server.received().len() - before <= 6);
        // Whatever is left of the order.
        while upstream.get_blob(&name("a"), &layer, 0).await.is_err() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leads_from_https_to_http() {
    let (server, plain) = (FaultyUpstream::start_tls(), FaultyUpstream::start());
    let layer = server.put_blob(b"x");
    plain.put_blob(b"x");
    let upstream = secure(&server, Some(Credentials::new("anna", "sesame").unwrap()));
    let read = upstream.get_blob(&name("a"), &digest(&layer), 0).await;
    assert!(rest(&mut read.unwrap()).await == (b"x".to_vec(), None), "its certificate is trusted");

    server.order("GET", "/blobs/", 1, Fault::Redirect(format!("{}/v2/a/blobs/{layer}", plain.url())));
    let error = upstream.get_blob(&name("a"), &digest(&layer), 0).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    server.want_tokens_of(&format!("{}/token", plain.url()), None);
    let error = upstream.get_blob(&name("a"), &digest(&layer), 0).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    assert!(error.to_string().contains("plain http"), "{error}");
    assert!(plain.received().is_empty());

    let distrusting = Upstream::new(options(&server.url())).unwrap();
    let error = distrusting.get_blob(&name("a"), &digest(&layer), 0).await.unwrap_err();
    assert_eq!(outage(&error), Some(Outage::Unreachable), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_pass_is_tried_again_and_ends() {
    let server = FaultyUpstream::start();
    server.put_manifest("1", IMAGE, b"{}");
    let upstream = upstream(&server);
    server.order("GET", "/manifests/", 2, Fault::Status(500, &[], "{}"));
    manifest(&upstream, "1").await.unwrap();
    assert_eq!(server.received().len(), 3);
    server.order("GET", "/manifests/", 2, Fault::Close);
    manifest(&upstream, "1").await.unwrap();
    server.order("GET", "/manifests/", 9, Fault::Status(502, &[], "{}"));
    let error = manifest(&upstream, "1").await.unwrap_err();
    assert_eq!(outage(&error), Some(Outage::Status(502)), "{error}");
    assert_eq!(server.count("GET", "/manifests/"), 9, "three attempts each");

    let gone = FaultyUpstream::start().url();
    let error = manifest(&Upstream::new(options(&gone)).unwrap(), "1").await.unwrap_err();
    assert_eq!(outage(&error), Some(Outage::Unreachable), "{error}");
    assert!(error.to_string().starts_with(gone.trim_start_matches("http://")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_waited_for_when_short_and_told_when_long() {
    let server = FaultyUpstream::start();
    server.put_manifest("1", IMAGE, b"{}");
    let upstream = upstream(&server);
    server.order("GET", "/manifests/", 1, Fault::Status(429, &[("retry-after", "1")], "{}"));
    let began = orlop::clock::monotonic();
    manifest(&upstream, "1").await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));

    let headers =
        &[("retry-after", "3600"), ("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "0")];
    server.order("GET", "/manifests/", 1, Fault::Status(429, headers, "{}"));
    let error = manifest(&upstream, "1").await.unwrap_err();
    let Error::RateLimited { retry_after, limit, .. } = &error else { panic!("{error}") };
    assert_eq!(*retry_after, Some(Duration::from_secs(3600)));
    assert_eq!((limit.limit, limit.remaining), (Some(100), Some(0)));
    assert!(error.to_string().ends_with("try again in 3600 s"), "{error}");

    server.order("GET", "/manifests/", 1, Fault::Status(429, &[], "{}"));
    let error = manifest(&upstream, "1").await.unwrap_err();
    assert!(matches!(error, Error::RateLimited { retry_after: None, .. }), "{error}");
    let date = &[("retry-after", "Fri, 01 Jan 2100 00:00:00 GMT")];
    server.order("GET", "/manifests/", 1, Fault::Status(503, date, "{}"));
    let error = manifest(&upstream, "1").await.unwrap_err();
    let Error::Unavailable { retry_after, .. } = &error else { panic!("{error}") };
    assert!(retry_after.is_some_and(|time| time > Duration::from_secs(365 * 86400)), "{error}");
    assert_eq!(server.count("GET", "/manifests/"), 5, "nobody is asked before the time that they said");
}

#[tokio::test(flavor = "multi_thread")]
async fn hangs_stalls_and_drips_end() {
    let server = FaultyUpstream::start();
    server.put_manifest("1", IMAGE, b"{\"a\": \"0123456789\"}");
    let layer = digest(&server.put_blob(&noise(3, 1000)));
    let upstream = impatient(&server);

    server.order("GET", "/manifests/", 1, Fault::Hang);
    let error = manifest(&upstream, "1").await.unwrap_err();
    assert_eq!(outage(&error), Some(Outage::TimedOut), "{error}");
    assert_eq!(server.received().len(), 1, "a time-out is not tried again");
    server.order("GET", "/manifests/", 1, Fault::Drip(1, Duration::from_millis(100)));
    let error = manifest(&upstream, "1").await.unwrap_err();
    assert_eq!(outage(&error), Some(Outage::TimedOut), "{error}");

    server.order("GET", "/blobs/", 1, Fault::StallAfter(500));
    let mut blob = upstream.get_blob(&name("a"), &layer, 0).await.unwrap();
    let (bytes, error) = rest(&mut blob).await;
    assert_eq!((bytes.len(), error.as_ref().and_then(outage)), (500, Some(Outage::TimedOut)));
    // A blob may drip, as long as it goes on.
    server.order("GET", "/blobs/", 1, Fault::Drip(200, Duration::from_millis(100)));
    let mut blob = upstream.get_blob(&name("a"), &layer, 0).await.unwrap();
    assert!(rest(&mut blob).await == (noise(3, 1000), None));
    server.order("GET", "/blobs/", 9, Fault::EndlessHead);
    let error = upstream.get_blob(&name("a"), &layer, 0).await.unwrap_err();
    assert!(outage(&error).is_some(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_breaks_off_goes_on_from_there() {
    let server = FaultyUpstream::start();
    let bytes = noise(4, 100_000);
    let layer = digest(&server.put_blob(&bytes));
    let upstream = upstream(&server);
    server.order("GET", "/blobs/", 1, Fault::CutAfter(60_000));
    let mut blob = upstream.get_blob(&name("a"), &layer, 0).await.unwrap();
    let (mut got, error) = rest(&mut blob).await;
    assert_eq!(error.as_ref().and_then(outage), Some(Outage::Interrupted));
    assert!(got == bytes[..got.len()] && got.len() <= 60_000);
    let mut blob = upstream.get_blob(&name("a"), &layer, got.len() as u64).await.unwrap();
    assert_eq!(blob.offset, got.len() as u64);
    got.extend(rest(&mut blob).await.0);
    assert!(got == bytes);

    server.order("GET", "/blobs/", 1, Fault::WholeBlob);
    let mut blob = upstream.get_blob(&name("a"), &layer, 60_000).await.unwrap();
    assert_eq!((blob.offset, blob.size), (0, Some(100_000)), "a range that isn't honoured is said");
    assert!(rest(&mut blob).await == (bytes.clone(), None));
    server.order("GET", "/blobs/", 1, Fault::WrongRange);
    let error = upstream.get_blob(&name("a"), &layer, 60_000).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_can_not_be_right_are_refused() {
    let server = FaultyUpstream::start();
    let image = server.put_manifest("1", IMAGE, b"{\"a\": 1}");
    let upstream = upstream(&server);
    for fault in [
        Fault::WrongBytes,
        Fault::Header("docker-content-digest", format!("sha256:{}", "0".repeat(64))),
        Fault::Header("docker-content-digest", "nonsense".to_owned()),
        Fault::Header("content-encoding", "gzip".to_owned()),
        Fault::Status(418, &[], "{}"),
        Fault::Body(vec![b' '; 4097]),
    ] {
        server.order("GET", "/manifests/", 1, fault.clone());
        let error = manifest(&upstream, "1").await.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{fault:?}: {error}");
    }
    for vague in ["text/html; charset=utf-8", "application/octet-stream"] {
        let bytes = br#"{"schemaVersion":2,"config":{},"layers":[]}"#;
        let tag = server.put_manifest("typed", vague, bytes).parse().unwrap();
        let fetched = upstream.get_manifest(&name("a/b"), &tag, &accept(), 4096).await.unwrap();
        assert_eq!(fetched.media_type, MediaType::OCI_IMAGE_MANIFEST, "{vague}");
    }
    server.order("GET", "/manifests/", 1, Fault::Body(b"{}".to_vec()));
    let error = manifest(&upstream, &image).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    assert_eq!(manifest(&upstream, &image).await.unwrap(), b"{\"a\": 1}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_listed_over_pages() {
    let server = FaultyUpstream::start();
    let tags: Vec<String> = (0..8).map(|number| format!("t{number}")).collect();
    for tag in &tags {
        server.put_manifest(tag, IMAGE, b"{}");
    }
    server.want_tokens(None);
    let upstream = upstream(&server);
    let list = async |last: Option<&str>, n| {
        let last = last.map(|last| last.parse().unwrap());
        let found = upstream.list_tags(&name("a"), last.as_ref(), n).await.unwrap();
        (found.tags.iter().map(ToString::to_string).collect::<Vec<_>>(), found.is_complete)
    };
    assert_eq!(list(None, 100).await, (tags.clone(), true));
    assert_eq!(list(None, 7).await, (tags[..7].to_vec(), false));
    assert_eq!(list(Some("t5"), 7).await, (tags[6..].to_vec(), true));
    let again = Fault::Header("link", "</v2/a/tags/list?n=100>; rel=\"next\"".to_owned());
    server.order("GET", "/tags/list", 9, again);
    let error = upstream.list_tags(&name("a"), None, 100).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "a list that goes in circles: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_are_listed_page_by_page() {
    let server = FaultyUpstream::start();
    let subject = digest(&server.put_blob(b"x"));
    server.put_referrers(&subject.to_string(), vec![b"{\"a\": 0}".to_vec(), b"{\"a\": 1}".to_vec()]);
    let upstream = upstream(&server);
    let kind = Some("application/x+json");
    let first = upstream.referrers(&name("a"), &subject, kind, None).await.unwrap();
    assert_eq!((&first.index[..], first.is_filtered), (&b"{\"a\": 0}"[..], false));
    let second = upstream.referrers(&name("a"), &subject, kind, first.next.as_ref()).await.unwrap();
    assert_eq!((&second.index[..], second.next), (&b"{\"a\": 1}"[..], None));
    let targets: Vec<String> = server.received().iter().map(|request| request.target.clone()).collect();
    let path = format!("/v2/a/referrers/{subject}");
    assert_eq!(targets, [format!("{path}?artifactType=application/x%2Bjson"), format!("{path}?page=1")]);
    server.order("GET", "/referrers/", 1, Fault::Body(b"<html>".to_vec()));
    let error = upstream.referrers(&name("a"), &subject, None, None).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { what: Missing::Referrers, .. }), "{error}");
    server.order("GET", "/referrers/", 1, Fault::Header("oci-filters-applied", "artifactType".to_owned()));
    assert!(upstream.referrers(&name("a"), &subject, kind, None).await.unwrap().is_filtered);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_in_nothing_that_is_printed() {
    let server = FaultyUpstream::start();
    server.want_basic("Basic other");
    let echo = r#"{"errors":[{"code":"UNAUTHORIZED","message":"anna may not pull with sesame"}]}"#;
    server.order("GET", "/manifests/", 9, Fault::Status(403, &[], echo));
    let upstream = annas(&server);
    let error = manifest(&upstream, "1").await.unwrap_err();
    let printed = format!("{error} {error:?} {upstream:?} {:?}", annas(&server));
    assert!(!printed.contains("sesame") && !printed.contains(&ANNA[6..]), "{printed}");
}

#[test]
fn a_second_orlop_is_pulled_from() {
    let server = Server::start();
    let content = {
        server.push_blob("team/app", b"{}");
        server.push_blob("team/app", b"layer");
        image(b"{}", &[b"layer"], &json!({}))
    };
    server.put_manifest("team/app", "v1", &content).expect(201);
    for number in 0..3 {
        let referrer = support::referrer(&content.descriptor(), "application/x.test", &number.to_string());
        server.put_manifest("team/app", &referrer.digest(), &referrer).expect(201);
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let upstream = Upstream::new(options(&format!("http://{}", server.host()))).unwrap();
    runtime.block_on(async {
        let app = name("team/app");
        let head = upstream.head_manifest(&app, &tag("v1"), &accept()).await.unwrap();
        assert_eq!(head.digest, Some(digest(&content.digest())));
        let fetched = upstream.get_manifest(&app, &tag("v1"), &accept(), 1 << 20).await.unwrap();
        assert_eq!(&fetched.bytes[..], &content.bytes[..]);
        let layer = digest(&support::sha256(b"layer"));
        assert!(upstream.head_blob(&app, &layer).await.unwrap().accepts_ranges);
        let mut blob = upstream.get_blob(&app, &layer, 2).await.unwrap();
        assert_eq!((blob.offset, blob.size), (2, Some(5)));
        assert_eq!(rest(&mut blob).await, (b"yer".to_vec(), None));
        let tags = upstream.list_tags(&app, None, 10).await.unwrap();
        assert_eq!((tags.tags.len(), tags.is_complete), (1, true));
        let missing = upstream.head_manifest(&app, &tag("v2"), &accept()).await.unwrap_err();
        assert!(matches!(missing, Error::NotFound { what: Missing::Manifest, .. }), "{missing}");
        let kind = Some("application/x.test");
        let page = upstream.referrers(&app, &digest(&content.digest()), kind, None).await.unwrap();
        let index: serde_json::Value = serde_json::from_slice(&page.index).unwrap();
        assert_eq!(index["manifests"].as_array().unwrap().len(), 3);
        assert!(page.is_filtered && page.next.is_none());
    });
}

/// Run by the next test in a process of its own, whose environment names a proxy.
#[test]
#[ignore = "needs a proxy in its environment"]
fn pulls_through_the_proxy_of_the_environment() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let upstream = Upstream::new(options("http://registry.invalid")).unwrap();
    assert_eq!(runtime.block_on(manifest(&upstream, "1")).unwrap(), b"{}");
}

#[test]
fn the_environment_names_the_proxy() {
    let proxy = FaultyUpstream::start();
    proxy.put_manifest("1", IMAGE, b"{}");
    let inner = "pulls_through_the_proxy_of_the_environment";
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", inner, "--ignored"])
        .env("HTTP_PROXY", proxy.url())
        .env("http_proxy", proxy.url())
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stdout));
    assert_eq!(proxy.received()[0].target, "http://registry.invalid/v2/a/b/manifests/1");
}
