//! What strangers try, one attack in each test.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orlop::oci::tarsum::{TarSumVersion, TarSummer};
use reqwest::Method;
use serde_json::json;
use support::{Reply, Request, Server, image, noise, sha256};
use tempfile::TempDir;

/// Users whose passwords are their names, and who they are.
const USERS: [&str; 3] = ["anna", "bo", "eve"];

fn basic(user: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{user}")))
}

/// A server with users, and with these rules.
fn guarded(rules: &str, settings: &[(&str, &str)]) -> (TempDir, Server) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("users");
    let lines = USERS.map(|user| format!("{user}:{}\n", bcrypt::hash(user, 4).unwrap()));
    std::fs::write(&path, lines.concat()).unwrap();
    let file = format!("access.htpasswd = {:?}\n{rules}", path.display().to_string());
    let server = Server::with_file(&file, settings);
    (dir, server)
}

/// A request of somebody, or of nobody in particular.
fn ask(server: &Server, who: &str, method: Method, target: &str) -> Request {
    let request = server.request(method, target);
    if who.is_empty() { request } else { request.header("authorization", &basic(who)) }
}

const PRIVATE: &str = r#"
[[rule]]
repositories = ["anna/**"]
who = ["user:anna"]
actions = ["pull", "push", "delete"]

[[rule]]
repositories = ["eve/**"]
who = ["user:eve"]
actions = ["pull", "push", "delete"]

[[rule]]
repositories = ["shared/**"]
who = ["user:anna", "user:eve"]
actions = ["pull", "push", "delete"]

[[rule]]
repositories = ["open/**"]
who = ["anonymous"]
actions = ["pull", "push"]
"#;

/// Begins an upload, and returns where it goes on.
fn begin(server: &Server, who: &str, name: &str) -> String {
    let target = format!("/v2/{name}/blobs/uploads/");
    ask(server, who, Method::POST, &target).body(b"").send().expect(202).location()
}

/// Whether an upload is one to somebody, asked in every way there is; the last ends it if it is theirs.
fn tries(server: &Server, who: &str, location: &str) -> Vec<Reply> {
    let digest = sha256(b"stolen");
    let ask = |method, target: &str| ask(server, who, method, target);
    vec![
        ask(Method::GET, location).send(),
        ask(Method::PATCH, location).body(b"stolen").send(),
        ask(Method::PATCH, location).header("content-range", "0-5").body(b"stolen").send(),
        ask(Method::PUT, &format!("{location}?digest={digest}")).body(b"stolen").send(),
        ask(Method::PUT, &format!("{location}?digest={digest}")).body(b"").send(),
        ask(Method::DELETE, location).send(),
    ]
}

#[test]
fn an_upload_is_nobodys_but_whose_it_is() {
    let (_dir, mut server) = guarded(PRIVATE, &[]);
    let (of_anna, of_nobody) = (begin(&server, "anna", "shared/a"), begin(&server, "", "open/a"));
    ask(&server, "anna", Method::PATCH, &of_anna).body(b"half").send().expect(202);
    for reply in tries(&server, "eve", &of_anna) {
        reply.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    }
    // It survives a restart as hers.
    server.stop();
    server.run_again();
    for reply in tries(&server, "eve", &of_anna) {
        reply.expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    }
    for reply in tries(&server, "", &of_anna) {
        reply.expect_error(401, "UNAUTHORIZED");
    }
    ask(&server, "anna", Method::GET, &of_anna).send().expect(204).expect_header("range", "0-3");
    let whole = format!("{of_anna}?digest={}", sha256(b"half and half"));
    ask(&server, "anna", Method::PUT, &whole).body(b" and half").send().expect(201);
    // What nobody in particular has begun didn't survive: it had not a byte. Another is everybody's who may push there.
    ask(&server, "", Method::GET, &of_nobody).send().expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    let of_nobody = begin(&server, "", "open/a");
    ask(&server, "", Method::PATCH, &of_nobody).body(b"of").send().expect(202);
    ask(&server, "eve", Method::PATCH, &of_nobody).body(b" all").send().expect(202);
    let target = format!("{of_nobody}?digest={}", sha256(b"of all"));
    ask(&server, "", Method::PUT, &target).body(b"").send().expect(201);
}

/// Sends bytes, and reads until the server closes the connection.
fn raw(server: &Server, request: &[u8]) -> String {
    let mut stream = server.connect();
    // The server may have closed the connection before everything was sent.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// All files below a directory, and the link that each is.
fn files(below: &Path) -> BTreeSet<PathBuf> {
    let Ok(entries) = std::fs::read_dir(below) else { return BTreeSet::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { BTreeSet::from([path]) }).collect()
}

#[test]
fn no_part_of_a_path_leads_out_of_the_registry() {
    let server = Server::start();
    let id = begin(&server, "", "a");
    let outside = server.data().parent().unwrap().to_owned();
    let before = files(&outside).into_iter().filter(|path| !path.starts_with(server.data()));
    let before: BTreeSet<PathBuf> = before.collect();
    let digest = sha256(b"x");
    let ways = [
        "..",
        "../..",
        ".",
        "%2e%2e",
        "%2E%2e%2f%2e%2e",
        "%252e%252e",
        "%252e%252e%252f",
        "..%2f..%2fetc%2fpasswd",
        "..%5c..",
        "%c0%ae%c0%ae",
        "%uff0e",
        "a/../../b",
        "a%00",
        "%00",
        "a%2f..%2fb",
        "....//",
        "/",
        "//etc/passwd",
        "~",
        "a/.",
        "a/..",
        "%2fetc%2fpasswd",
        "file:%2f%2f%2fetc%2fpasswd",
        ".%00.",
        "uploads/../../orlop.toml",
    ];
    let mut sent = 0;
    for way in ways {
        let paths = [
            format!("/v2/{way}/tags/list"),
            format!("/v2/a/{way}/tags/list"),
            format!("/v2/{way}/blobs/{digest}"),
            format!("/v2/a/blobs/{way}"),
            format!("/v2/a/blobs/sha256:{way}"),
            format!("/v2/a/blobs/{way}:{}", &digest[7..]),
            format!("/v2/a/manifests/{way}"),
            format!("/v2/{way}/manifests/1"),
            format!("/v2/a/blobs/uploads/{way}"),
            format!("{id}/{way}"),
            format!("/v2/a/referrers/{way}"),
            format!("/v2/{way}/blobs/uploads/"),
            format!("/v2/a/blobs/uploads/?mount={way}&from=a"),
            format!("/v2/a/blobs/uploads/?mount={digest}&from={way}"),
            format!("/v2/a/blobs/uploads/?digest={way}"),
            format!("{id}?digest={way}"),
            format!("/v2/_orlop/repositories/{way}/tags/1/history"),
            format!("/v2/_orlop/repositories/a/tags/{way}"),
            format!("/v2/_orlop/repositories/a/signatures/{way}"),
            format!("/v2/_orlop/admin/{way}"),
            format!("/v2/_catalog?last={way}"),
            format!("/v2/a/tags/list?last={way}"),
            format!("/{way}/v2/"),
            format!("/{way}"),
        ];
        for path in paths {
            for method in ["GET", "PUT", "DELETE", "POST", "PATCH"] {
                let request = format!(
                    "{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"
                );
                let answer = raw(&server, request.as_bytes());
                let status: u16 =
                    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
                assert!((200..500).contains(&status), "{method} {path}: {answer}");
                assert!(!answer.contains("root:"), "{method} {path}: {answer}");
                sent += 1;
            }
        }
    }
    assert!(sent > 1000);
    let after = files(&outside).into_iter().filter(|path| !path.starts_with(server.data()));
    assert_eq!(after.collect::<BTreeSet<_>>(), before);
    for path in files(&server.data()) {
        let path = path.strip_prefix(server.data()).unwrap().to_str().unwrap().to_owned();
        let is_known = ["blobs/", "uploads/", "quarantine/"].iter().any(|folder| path.starts_with(folder));
        assert!(is_known || !path.contains('/'), "{path}");
    }
    assert!(server.get("/v2/_catalog").send().expect(200).strings("repositories").is_empty());
}

#[test]
fn names_and_digests_are_taken_up_to_their_limits() {
    let server = Server::start();
    let begin = |name: &str| server.post(&format!("/v2/{name}/blobs/uploads/")).body(b"").send();
    begin(&"a".repeat(255)).expect(202);
    begin(&"a".repeat(256)).expect_error(400, "NAME_INVALID");
    begin(&vec!["a"; 128].join("/")).expect(202);
    begin(&vec!["a"; 129].join("/")).expect_error(400, "NAME_INVALID");
    for bad in ["A", "a_", "-a", "a..b", "a___b", "a/", "a%20b", "%C3%A9", "a%0ab", "a:b", "a@b", "_a"] {
        begin(bad).expect_error(400, "NAME_INVALID");
    }
    let hex = "a".repeat(64);
    for bad in [
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}a"),
        format!("sha256:{}A", &hex[1..]),
        format!("sha512:{hex}"),
        format!("SHA256:{hex}"),
        format!("sha256%3a{hex}%00"),
        format!("sha256:{hex}%0d%0aX-Evil:1"),
        format!("md5:{}", &hex[..32]),
        "sha256:".to_owned(),
        ":".to_owned(),
        "a".repeat(5000),
    ] {
        server.get(&format!("/v2/a/blobs/{bad}")).send().expect_error(400, "DIGEST_INVALID");
        server
            .post(&format!("/v2/a/blobs/uploads/?digest={bad}"))
            .body(b"")
            .send()
            .expect_error(400, "DIGEST_INVALID");
    }
    let image = image(b"{}", &[], &json!({}));
    for tag in ["a".repeat(129), ".a".to_owned(), "a%20b".to_owned(), "a%0d%0ab".to_owned()] {
        let put = server.put(&format!("/v2/a/manifests/{tag}")).header("content-type", &image.media_type);
        put.body(&image.bytes).send().expect_error(400, "TAG_INVALID");
    }
}

#[test]
fn what_two_servers_could_understand_in_two_ways_is_refused_and_the_connection_closed() {
    let server = Server::start();
    let smuggled = "GET /v2/smuggled/tags/list HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: a\r\n";
    let shapes = [
        ("two lengths", format!("{post}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello")),
        ("two lengths in one", format!("{post}Content-Length: 5, 6\r\n\r\nhello")),
        ("a length with a sign", format!("{post}Content-Length: +5\r\n\r\nhello")),
        ("a length in hex", format!("{post}Content-Length: 0x5\r\n\r\nhello")),
        ("an enormous length", format!("{post}Content-Length: 99999999999999999999\r\n\r\nhello")),
        (
            "a length, then chunks",
            format!("{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            "chunks, then a length",
            format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        ),
        ("chunks that aren't last", format!("{post}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n")),
        ("an unknown coding", format!("{post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n")),
        ("a space before the colon", format!("{post}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n")),
        ("a tab before the colon", format!("{post}Content-Length\t: 5\r\n\r\nhello")),
        ("a folded line", format!("{post}X-A: 1\r\n  2\r\nContent-Length: 0\r\n\r\n")),
        ("a folded first line", "GET /v2/ HTTP/1.1\r\n Host: a\r\n\r\n".to_owned()),
        ("a line without a CR", "GET /v2/ HTTP/1.1\r\nHost: a\nX-A: 1\r\n\r\n".to_owned()),
        ("a head without a CR", "GET /v2/ HTTP/1.1\nHost: a\n\n".to_owned()),
        ("an end without a CR", format!("{post}Content-Length: 0\r\n\n")),
        ("a lonely CR", "GET /v2/ HTTP/1.1\r\nHost: a\rX-A: 1\r\n\r\n".to_owned()),
        ("a zero byte", "GET /v2/ HTTP/1.1\r\nHost: a\r\nX-A: a\0b\r\n\r\n".to_owned()),
        ("two hosts", "GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned()),
        ("no host", "GET /v2/ HTTP/1.1\r\n\r\n".to_owned()),
        ("a host with a path", "GET /v2/ HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned()),
        ("a host with quotes", "GET /v2/ HTTP/1.1\r\nHost: a\",x=\"y\r\n\r\n".to_owned()),
        (
            "chunks in HTTP/1.0",
            "POST /v2/a/blobs/uploads/ HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                .to_owned(),
        ),
    ];
    for (shape, request) in shapes {
        let answer = raw(&server, format!("{request}{smuggled}").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 "), "{shape}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{shape}: {answer}");
    }
    // Broken chunks end their request, and nothing behind them is one.
    for (shape, chunks) in [
        ("no size", "x\r\nhello\r\n0\r\n\r\n"),
        ("a negative size", "-5\r\nhello\r\n0\r\n\r\n"),
        ("an enormous size", "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ("no end of a chunk", "5\r\nhelloX0\r\n\r\n"),
    ] {
        let target = format!("/v2/a/blobs/uploads/?digest={}", sha256(b"hello"));
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{smuggled}"
        );
        let answer = raw(&server, request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 "), "{shape}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{shape}: {answer}");
    }
    assert!(!server.log().contains("smuggled"), "{}", server.log());
}

#[test]
fn nobody_reads_the_blobs_of_a_repository_that_is_not_theirs() {
    let (_dir, server) = guarded(PRIVATE, &[]);
    let (secret, config) = (b"anna's secret".as_slice(), b"{}".as_slice());
    let push = |who: &str, name: &str, blob: &[u8]| {
        let target = format!("/v2/{name}/blobs/uploads/?digest={}", sha256(blob));
        ask(&server, who, Method::POST, &target).body(blob).send().expect(201);
    };
    push("anna", "anna/app", secret);
    push("anna", "anna/app", config);
    let of_anna = image(config, &[secret], &json!({}));
    let put = |who: &str, name: &str, content: &support::Content| {
        let put = ask(&server, who, Method::PUT, &format!("/v2/{name}/manifests/1"));
        put.header("content-type", &content.media_type).body(&content.bytes).send()
    };
    put("anna", "anna/app", &of_anna).expect(201);
    push("eve", "eve/app", config);

    let (digest, manifest) = (sha256(secret), sha256(&of_anna.bytes));
    let is_hidden = || {
        for method in [Method::GET, Method::HEAD] {
            for target in [format!("/v2/eve/app/blobs/{digest}"), format!("/v2/eve/app/manifests/{manifest}")]
            {
                ask(&server, "eve", method.clone(), &target).send().expect(404);
            }
            for target in [format!("/v2/anna/app/blobs/{digest}"), "/v2/anna/app/manifests/1".to_owned()] {
                ask(&server, "eve", method.clone(), &target).send().expect(403);
                ask(&server, "", method.clone(), &target).send().expect(401);
            }
        }
    };
    is_hidden();
    // By a mount: named, unnamed, by a name that means the same.
    for query in ["&from=anna/app", "", "&from=anna/none", "&from=", "&from=../anna/app"] {
        let target = format!("/v2/eve/app/blobs/uploads/?mount={digest}{query}");
        ask(&server, "eve", Method::POST, &target).body(b"").send().expect(202);
    }
    is_hidden();
    // By naming it: in an image, as a layer that needn't be pushed, in an index, as a subject.
    put("eve", "eve/app", &of_anna).expect_error(404, "MANIFEST_BLOB_UNKNOWN");
    let foreign = json!({
        "schemaVersion": 2,
        "mediaType": support::IMAGE,
        "config": support::descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": [support::descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", secret)],
        "subject": support::descriptor(support::IMAGE, &of_anna.bytes),
    });
    let foreign = foreign.to_string().into_bytes();
    let request =
        ask(&server, "eve", Method::PUT, "/v2/eve/app/manifests/2").header("content-type", support::IMAGE);
    request.body(&foreign).send().expect_one_of(&[201, 404]);
    is_hidden();
    let index = support::index(&[of_anna.descriptor()], &json!({}));
    put("eve", "eve/app", &index).expect_error(404, "MANIFEST_BLOB_UNKNOWN");
    is_hidden();
    let tag = ask(&server, "eve", Method::PUT, "/v2/_orlop/repositories/eve/app/tags/3");
    tag.body(json!({ "digest": manifest }).to_string().as_bytes()).send().expect(404);
    // By sending other bytes under its digest.
    let target = format!("/v2/eve/app/blobs/uploads/?digest={digest}");
    ask(&server, "eve", Method::POST, &target).body(b"guessed").send().expect_error(400, "DIGEST_INVALID");
    is_hidden();
}

/// A tar archive of one file, and the time that a tarsum leaves out.
fn archive(content: &[u8], modified: u64) -> Vec<u8> {
    let mut header = [0_u8; 512];
    header[..4].copy_from_slice(b"file");
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    header[136..148].copy_from_slice(format!("{modified:011o}\0").as_bytes());
    header[148..156].copy_from_slice(b"        ");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let padding = vec![0; (512 - content.len() % 512) % 512 + 1024];
    [&header[..], content, &padding].concat()
}

/// A tarsum links the bytes that were sent, and no others that have the same one: there is nothing to be had by it.
#[test]
fn nobody_reads_by_a_tarsum_what_they_have_not_sent() {
    let (_dir, server) = guarded(PRIVATE, &[]);
    let (of_anna, of_eve) = (archive(b"layer", 1), archive(b"layer", 2));
    let sum = |archive: &[u8]| {
        let mut summer = TarSummer::new(TarSumVersion::V1);
        summer.update(archive).unwrap();
        summer.finish().unwrap().to_string()
    };
    assert_eq!(sum(&of_anna), sum(&of_eve));
    assert_ne!(of_anna, of_eve);
    let sum = sum(&of_anna);
    let push = |who: &str, name: &str, bytes: &[u8]| {
        let target = format!("/v2/{name}/blobs/uploads/?digest={sum}");
        ask(&server, who, Method::POST, &target).body(bytes).send()
    };
    push("anna", "anna/app", &of_anna).expect(201);
    let get = |what: &str| ask(&server, "eve", Method::GET, &format!("/v2/eve/app/blobs/{what}")).send();
    get(&sum).expect(404);
    push("eve", "eve/app", b"not an archive").expect_error(400, "DIGEST_INVALID");
    push("eve", "eve/app", &archive(b"other", 1)).expect_error(400, "DIGEST_INVALID");
    get(&sum).expect(404);
    for query in ["", "&from=anna/app"] {
        let target = format!("/v2/eve/app/blobs/uploads/?mount={sum}{query}");
        ask(&server, "eve", Method::POST, &target).body(b"").send().expect(202);
    }
    get(&sum).expect(404);
    push("eve", "eve/app", &of_eve).expect(201);
    get(&sum).expect(200).expect_body(&of_eve);
    get(&sha256(&of_anna)).expect(404);
    let mine = ask(&server, "anna", Method::GET, &format!("/v2/anna/app/blobs/{sum}")).send();
    mine.expect(200).expect_body(&of_anna);
}

#[test]
fn nothing_is_ever_decompressed() {
    let server = Server::start();
    // A megabyte of zeros, as a gzip of a kilobyte would be; what it says of itself means nothing here.
    let blob = [b"\x1f\x8b\x08\0\0\0\0\0".as_slice(), &[0; 1000]].concat();
    let digest = sha256(&blob);
    for encoding in ["gzip", "br", "zstd", "deflate", "gzip, gzip, gzip"] {
        let target = format!("/v2/a/blobs/uploads/?digest={digest}");
        server.post(&target).header("content-encoding", encoding).body(&blob).send().expect(201);
        let get = server.get(&format!("/v2/a/blobs/{digest}")).header("accept-encoding", encoding).send();
        get.expect(200).expect_body(&blob).expect_no_header("content-encoding");
    }
    let image = image(b"{}", &[], &json!({}));
    server.post(&format!("/v2/a/blobs/uploads/?digest={}", sha256(b"{}"))).body(b"{}").send().expect(201);
    let put = server.put("/v2/a/manifests/1").header("content-type", &image.media_type);
    put.header("content-encoding", "gzip").body(&image.bytes).send().expect(201);
    let put = server.put("/v2/a/manifests/2").header("content-type", &image.media_type);
    put.header("content-encoding", "gzip").body(&blob).send().expect_error(400, "MANIFEST_INVALID");
    let get = server.get("/v2/a/manifests/1").header("accept-encoding", "gzip, br").send();
    get.expect(200).expect_body(&image.bytes).expect_no_header("content-encoding");
}

#[test]
fn nothing_that_is_pushed_becomes_a_header() {
    let server = Server::start();
    let evil = "x\r\nX-Evil: 1\r\n\r\n<script>, \"; rel=\"next";
    let config = b"{}";
    server.post(&format!("/v2/a/blobs/uploads/?digest={}", sha256(config))).body(config).send().expect(201);
    let image = image(config, &[], &json!({ "annotations": { evil: evil }, "artifactType": "a/b" }));
    let put = |target: &str| {
        let put = server.put(target).header("content-type", &image.media_type);
        put.body(&image.bytes).send()
    };
    put("/v2/a/manifests/1").expect(201);
    put("/v2/a/manifests/2").expect(201);
    let digest = sha256(&image.bytes);
    let encoded = "x%0d%0aX-Evil:%201";
    let mut answers = vec![
        put(&format!("/v2/a/manifests/{encoded}")),
        put(&format!("/v2/a/manifests/{digest}?tag={encoded}")),
        server.get(&format!("/v2/a/tags/list?n=1&last={encoded}")).send(),
        server.get(&format!("/v2/_catalog?n=1&last={encoded}")).send(),
        server.get(&format!("/v2/a/referrers/{digest}?artifactType={encoded}")).send(),
        server.get(&format!("/v2/a/referrers/{digest}?n=1&last={encoded}")).send(),
        server.post(&format!("/v2/{encoded}/blobs/uploads/")).body(b"").send(),
        server.post(&format!("/v2/a/blobs/uploads/?mount={digest}&from={encoded}")).body(b"").send(),
        server.get("/v2/a/manifests/1").header("accept", "a/b;x=\"y").send(),
        server.get(&format!("/v2/a/blobs/{digest}?ns={encoded}")).send(),
        server.get("/v2/").header("x-request-id", "a b<script>\"").send(),
    ];
    for host in ["a\"b", "a<b", "a b", "a,b", "a@b", "a?b"] {
        answers.push(server.get("/v2/").header("host", host).send().expect(400));
    }
    for answer in &answers {
        assert!(answer.get("x-evil").is_none() && answer.status < 500, "{answer:?}");
        for name in ["location", "link", "oci-tag", "oci-filters-applied", "x-request-id", "www-authenticate"]
        {
            let value = answer.get(name).unwrap_or_default().to_lowercase();
            assert!(!value.contains("evil:") && !value.contains("<script>"), "{name} of {answer:?}");
        }
    }
}

#[test]
fn nobody_forges_a_line_of_the_log() {
    let (_dir, server) = guarded(PRIVATE, &[("log.level", "debug")]);
    let forged = "2026-01-01T00:00:00Z INFO forged";
    let evil = format!("x\u{1b}[31m\u{9b}2J%0a%0d{}", forged.replace(' ', "%20"));
    let encoded = format!("%1b[31m%0a{}", forged.replace(' ', "%20"));
    for path in [format!("/v2/{encoded}/tags/list"), format!("/{encoded}"), format!("/v2/?x={encoded}")] {
        raw(&server, format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes());
    }
    let user = STANDARD.encode(format!("eve\n{forged}\n\u{1b}[2J:x"));
    let headers = format!(
        "User-Agent: {evil}\tb\r\nX-Request-Id: {evil}\r\nX-Forwarded-For: {evil}\r\nReferer: {evil}\r\nAuthorization: Basic {user}\r\n"
    );
    for path in ["/v2/", "/v2/anna/app/tags/list"] {
        raw(
            &server,
            format!("GET {path} HTTP/1.1\r\nHost: a\r\n{headers}Connection: close\r\n\r\n").as_bytes(),
        );
    }
    server.get("/v2/").header("x-request-id", "the-last").header("user-agent", "x").send();
    server.wait_for_line(&["the-last"]);
    for line in server.log().lines() {
        assert!(!line.starts_with(forged), "{line}");
        assert!(line.bytes().all(|byte| byte == b'\t' || !byte.is_ascii_control()), "{line:?}");
        assert!(!line.contains('\u{9b}'), "{line:?}");
    }
}

#[test]
fn nobody_learns_which_users_there_are() {
    let (_dir, server) = guarded(PRIVATE, &[]);
    // Whatever differs from answer to answer.
    let told = |user: &str, target: &str| {
        let wrong = format!("Basic {}", STANDARD.encode(format!("{user}:wrong")));
        let reply = server.get(target).header("authorization", &wrong).send();
        (reply.status, reply.header_count(), reply.get("www-authenticate").map(ToOwned::to_owned), reply.body)
    };
    for target in ["/v2/", "/v2/anna/app/tags/list", "/v2/nobodys/tags/list", "/v2/_catalog"] {
        assert_eq!(told("anna", target), told("nobody", target), "{target}");
    }
    // Whether there is a repository isn't told either.
    for who in ["eve", ""] {
        let there = ask(&server, who, Method::GET, "/v2/anna/app/tags/list").send();
        let nowhere = ask(&server, who, Method::GET, "/v2/anna/none/tags/list").send();
        assert_eq!(there.status, nowhere.status);
        assert_eq!(there.text_whole().replace("app", "none"), nowhere.text_whole());
    }
}

#[test]
fn a_link_that_is_planted_in_the_data_leads_nothing_out_of_it() {
    let mut server = Server::start();
    server.stop();
    let outside = TempDir::new().unwrap();
    let (data, blob) = (server.data(), b"pushed after the link".as_slice());
    let digest = sha256(blob);
    let victim = outside.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    // At the place of the blob that will come, and of the socket.
    let place = data.join("blobs/sha256").join(&digest[7..9]).join(&digest[7..]);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    symlink(&victim, &place).unwrap();
    let _ = std::fs::remove_file(data.join("admin.sock"));
    symlink(&victim, data.join("admin.sock")).unwrap();
    server.run_again();
    server.post(&format!("/v2/a/blobs/uploads/?digest={digest}")).body(blob).send().expect(201);
    server.get(&format!("/v2/a/blobs/{digest}")).send().expect(200).expect_body(blob);
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
    assert!(!place.is_symlink(), "the blob has taken the link's place");

    // At the place of an upload that is open already, with nothing written yet.
    let location = begin(&server, "", "a");
    let id = location.rsplit('/').next().unwrap();
    symlink(&victim, data.join("uploads").join(id)).unwrap();
    let large = noise(7, 1 << 20);
    server.patch(&location).body(&large).send();
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
    server.delete(&location).send();
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
    let _ = std::fs::remove_file(data.join("uploads").join(id));
}

#[test]
fn a_thousand_connections_that_send_slowly_hold_up_nobody() {
    let settings = [("limits.connections", "4096"), ("limits.connections_per_address", "0")];
    let server = Server::with(&settings);
    let mut slow = Vec::new();
    for at in 0..1000 {
        let Ok(mut stream) = TcpStream::connect(server.host()) else { continue };
        let sent = match at % 3 {
            0 => "GET /v2/ HTTP/1.1\r\nHo",
            1 => {
                "POST /v2/a/blobs/uploads/?digest=sha256:aa HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx"
            }
            _ => "PUT /v2/a/manifests/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5",
        };
        stream.write_all(sent.as_bytes()).unwrap();
        slow.push(stream);
    }
    assert!(slow.len() > 900, "{}", slow.len());
    let blob = noise(3, 1 << 16);
    let digest = sha256(&blob);
    server.post(&format!("/v2/a/blobs/uploads/?digest={digest}")).body(&blob).send().expect(201);
    for stream in &mut slow {
        // One more byte, as slowly as it goes.
        let _ = stream.write_all(b"a");
        server.get("/v2/").send().expect(200);
    }
    server.get(&format!("/v2/a/blobs/{digest}")).send().expect(200).expect_body(&blob);
    drop(slow);
}

#[test]
fn one_address_does_not_take_all_connections() {
    let server = Server::with(&[("limits.connections", "100"), ("limits.connections_per_address", "20")]);
    let held: Vec<TcpStream> = (0..200).filter_map(|_| TcpStream::connect(server.host()).ok()).collect();
    // Another address of the same machine.
    let from = |address: [u8; 4]| {
        let client = reqwest::blocking::Client::builder().no_proxy().local_address(IpAddr::from(address));
        client.build().unwrap().get(format!("http://{}/v2/", server.host())).send()
    };
    assert_eq!(from([127, 0, 0, 2]).unwrap().status().as_u16(), 200);
    drop(held);
}
