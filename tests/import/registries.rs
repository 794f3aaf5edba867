//! Imports from other registries over HTTP.

use super::support::{Fault, FaultyUpstream, IMAGE, index, referrer};
use super::*;

/// Imports what is at an address.
#[track_caller]
fn import_at(server: &Server, address: &str, arguments: &[&str]) -> Imported {
    said(orlop(&["import", "registry", address, "--data"]).arg(server.data()).args(arguments))
}

fn address(server: &Server) -> String {
    format!("http://{}", server.host())
}

/// The digest of everything that can be asked for there, by names and tags.
fn digests(server: &Server) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for name in server.get("/v2/_catalog").send().expect(200).strings("repositories") {
        for tag in server.get(&format!("/v2/{name}/tags/list")).send().expect(200).strings("tags") {
            let reply = server
                .head(&format!("/v2/{name}/manifests/{tag}"))
                .header("accept", "*/*")
                .send()
                .expect(200);
            found.push((format!("{name}:{tag}"), reply.header("docker-content-digest").to_owned()));
        }
    }
    found
}

fn subjects(server: &Server, name: &str, subject: &str) -> usize {
    let listed = server.get(&format!("/v2/{name}/referrers/{subject}")).send().expect(200).json();
    listed["manifests"].as_array().unwrap().len()
}

/// A registry with images of two platforms, signatures, a referrer of a referrer, and more tags than a page has.
fn source() -> (Server, Content) {
    let source = Server::start();
    for seed in 0..7 {
        source.push_image(&format!("team/app{}", seed % 3), &format!("v{seed}"), seed);
    }
    let (one, other) = (source.push_image("multi", "", 20), source.push_image("multi", "", 21));
    let multi = index(&[one.descriptor(), other.descriptor()], &json!({}));
    source.put_manifest("multi", "latest", &multi).expect(201);
    source.push_blob("multi", b"{}");
    let signature = referrer(&multi.descriptor(), "application/vnd.example.signature", "of the index");
    source.put_manifest("multi", &signature.digest(), &signature).expect(201);
    for (subject, note) in [(&one, "of a platform"), (&signature, "of a signature")] {
        let about = referrer(&subject.descriptor(), "application/vnd.example.signature", note);
        source.put_manifest("multi", &about.digest(), &about).expect(201);
    }
    (source, multi)
}

#[test]
fn a_registry_comes_whole_and_then_only_what_is_new() {
    let (source, multi) = source();
    let server = Server::start();
    let dry = import_at(&server, &address(&source), &["--dry-run"]).clean();
    assert_eq!((dry.count("tags"), digests(&server).len()), (8, 0), "{dry:?}");
    let first = import_at(&server, &address(&source), &[]).clean();
    assert_eq!(["tags", "manifests", "repositories"].map(|what| first.count(what)), [8, 13, 4], "{first:?}");
    assert_eq!(
        ["tags", "manifests", "blobs", "bytes"].map(|what| dry.count(what) == first.count(what)),
        [true; 4]
    );
    assert_eq!(digests(&server), digests(&source));
    assert_eq!(subjects(&server, "multi", &multi.digest()), 1);
    let again = import_at(&server, &address(&source), &[]).clean();
    assert_eq!(["tags", "manifests", "blobs"].map(|what| again.count(what)), [0, 0, 0], "{again:?}");
    assert_eq!((again.count("knownTags"), again.count("knownManifests")), (8, 13));
    // A tag that moves there moves here, and a new signature of what was here comes.
    source.push_image("team/app1", "v1", 50);
    let late = referrer(&multi.descriptor(), "application/vnd.example.signature", "later");
    source.put_manifest("multi", &late.digest(), &late).expect(201);
    let third = import_at(&server, &address(&source), &[]).clean();
    assert_eq!(["tags", "manifests", "blobs"].map(|what| third.count(what)), [1, 2, 2], "{third:?}");
    assert_eq!(digests(&server), digests(&source));
    assert_eq!(subjects(&server, "multi", &multi.digest()), 2);
}

#[test]
fn patterns_choose_and_a_prefix_moves_what_comes() {
    let (source, multi) = source();
    let server = Server::start();
    let some = ["--repository", "team/*", "--tag", "v[0-3]"];
    let refused = import_at(&server, &address(&source), &some);
    assert_eq!(refused.code, 2, "a pattern that no tag can match is a mistake");
    let some = ["--repository", "team/*", "--tag", "v1", "--tag", "v4", "--below", "old"];
    import_at(&server, &address(&source), &some).clean();
    let names: Vec<String> = digests(&server).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["old/team/app1:v1", "old/team/app1:v4"]);
    // With a pattern of tags what accompanies an image comes too, by the tags that cosign uses.
    let cosign = format!("{}.sig", multi.digest().replace(':', "-"));
    source.push_image("multi", &cosign, 30);
    source.push_image("multi", "other", 31);
    import_at(&server, &address(&source), &["--repository", "multi", "--tag", "latest"]).clean();
    let tags = server.get("/v2/multi/tags/list").send().expect(200).strings("tags");
    assert_eq!(tags, ["latest".to_owned(), cosign]);
}

#[test]
fn a_registry_with_tokens_is_imported_by_who_may_pull() {
    let dir = TempDir::new().unwrap();
    let users = dir.path().join("users");
    fs::write(&users, format!("anna:{}\n", bcrypt::hash("sesame", 4).unwrap())).unwrap();
    let file = format!(
        "access.htpasswd = {:?}\n[[rule]]\nrepositories = [\"**\"]\nwho = [\"user:anna\"]\nactions = [\"pull\", \"list\"]\n",
        users.display().to_string()
    );
    let mut source = Server::start();
    let image = source.push_image("team/app", "v1", 1);
    source.stop();
    source.configure(&file);
    source.run_again();
    let server = Server::start();
    let denied = import_at(&server, &address(&source), &[]);
    assert!(denied.code == 1 && denied.errors.contains("Name them: --repository"), "{denied:?}");
    let denied = import_at(&server, &address(&source), &["--repository", "team/app"]);
    assert!(denied.code == 3 && denied.skipped[0].1.contains("refuses access"), "{denied:?}");
    let login = dir.path().join("login");
    fs::write(&login, "anna:sesame\n").unwrap();
    let login = ["--login", login.to_str().unwrap()];
    import_at(&server, &address(&source), &login).clean();
    let reply = server.get("/v2/team/app/manifests/v1").header("accept", "*/*").send().expect(200);
    reply.expect_body(&image.bytes);
    assert!(!server.log().contains("sesame"), "no password is logged");
}

/// Whatever was under way, the store is consistent, and the next import goes on behind what is there.
#[test]
fn an_import_of_a_registry_that_is_killed_anywhere_goes_on() {
    let (source, mut server) = (Server::start(), Server::start());
    for seed in 0..40 {
        source.push_image(&format!("app{}", seed % 5), &format!("v{seed}"), seed);
    }
    server.stop();
    kill_imports(&server, |data| {
        let mut command = orlop(&["import", "registry", &address(&source), "--data"]);
        command.arg(data);
        command
    });
    server.run_again();
    let last = import_at(&server, &address(&source), &[]).clean();
    assert!(last.count("knownManifests") > 0, "what came before the kills stayed: {last:?}");
    assert_eq!(digests(&server), digests(&source));
}

/// An upstream with one image under a tag.
fn upstream() -> (FaultyUpstream, Content) {
    filled(FaultyUpstream::start())
}

fn filled(upstream: FaultyUpstream) -> (FaultyUpstream, Content) {
    let (config, layer) = (b"{\"a\":1}".to_vec(), noise(1, 300_000));
    upstream.put_blob(&config);
    upstream.put_blob(&layer);
    let image = image(&config, &[&layer], &json!({}));
    upstream.put_manifest("v1", IMAGE, &image.bytes);
    (upstream, image)
}

#[test]
fn an_authority_of_ones_own_is_trusted_where_it_is_named() {
    let (upstream, image) = filled(FaultyUpstream::start_tls());
    let server = Server::start();
    let some = ["--repository", "team/app"];
    let unknown = import_at(&server, &upstream.url(), &some);
    assert!(unknown.code == 3 && unknown.skipped[0].1.contains("certificate"), "{unknown:?}");
    let root = format!("{}/tests/vectors/tls/root.pem", env!("CARGO_MANIFEST_DIR"));
    import_at(&server, &upstream.url(), &[&some[..], &["--ca", &root]].concat()).clean();
    let reply = server.get("/v2/team/app/manifests/v1").header("accept", "*/*").send().expect(200);
    reply.expect_body(&image.bytes);
}

#[test]
fn who_says_to_come_back_later_is_left_alone_that_long() {
    let (upstream, image) = upstream();
    let server = Server::start();
    upstream.order("GET", "/tags/list", 1, Fault::Status(429, &[("retry-after", "1")], "{}"));
    upstream.order("HEAD", "/manifests/", 1, Fault::Status(429, &[], "{}"));
    upstream.order("GET", "/blobs/", 2, Fault::Status(503, &[("retry-after", "1")], "{}"));
    import_at(&server, &upstream.url(), &["--repository", "team/app"]).clean();
    let reply = server.get("/v2/team/app/manifests/v1").header("accept", "*/*").send().expect(200);
    reply.expect_body(&image.bytes);
}

#[test]
fn a_blob_that_breaks_off_goes_on_where_it_stood() {
    let (upstream, _) = upstream();
    let server = Server::start();
    upstream.order("GET", "/blobs/", 4, Fault::CutAfter(100_000));
    import_at(&server, &upstream.url(), &["--repository", "team/app"]).clean();
    assert!(upstream.sent_bytes() < 500_000, "{} bytes were sent", upstream.sent_bytes());
}

#[test]
fn what_is_wrong_there_is_told_of_by_its_name() {
    let (upstream, image) = upstream();
    let server = Server::start();
    let layer = sha256(&noise(1, 300_000));
    upstream.order("GET", "/blobs/sha256", 9, Fault::WrongBytes);
    let damaged = import_at(&server, &upstream.url(), &["--repository", "team/app"]);
    assert_eq!(damaged.code, 3);
    let told = |part: &str| damaged.skipped.iter().any(|(path, _)| path.ends_with(part));
    assert!(told(&format!("team/app@{layer}")) && told("team/app:v1"), "{damaged:?}");
    assert!(told(&format!("team/app@{}", image.digest())), "{damaged:?}");
    server.head("/v2/team/app/manifests/v1").send().expect(404);
    // A registry that lists nothing is imported by names.
    let refused = import_at(&server, &upstream.url(), &[]);
    assert!(refused.code == 1 && refused.errors.contains("--repository team/app"), "{refused:?}");
    let absent = import_at(&server, "http://127.0.0.1:9", &["--repository", "team/app"]);
    assert!(absent.code == 3 && !absent.skipped.is_empty(), "{absent:?}");
    for wrong in ["ftp://a", "https://anna:sesame@a.example"] {
        let refused = import_at(&server, wrong, &[]);
        assert!(refused.code == 1 && refused.errors.contains("write a host"), "{refused:?}");
    }
}
