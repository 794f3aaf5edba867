//! The wire, without a socket: requests go to what a connection hands them to, with bodies that break where a test wants them to.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "http/harness.rs"]
mod harness;

use futures_util::FutureExt as _;
use harness::{Log, Registry, digest, sha512};
use orlop::http::{ErrorCode, Operation};
use orlop::registry::Policy;
use serde_json::json;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A manifest without layers, with `extra` members; its config is the blob `{}`.
fn manifest(extra: &str) -> String {
    let config = digest(b"{}");
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{config}","size":2}},"layers":[]{extra}}}"#
    )
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at * 7 + at / 251) % 256).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_pushed_in_every_way_and_pulled() {
    let registry = Registry::open();
    let bytes = pattern(100_000);
    let digest = digest(&bytes);

    // One POST.
    let reply = registry.post(&format!("/v2/one/blobs/uploads/?digest={digest}"), bytes.clone()).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(reply.header("location"), format!("/v2/one/blobs/{digest}"));
    assert_eq!(reply.header("docker-content-digest"), digest);

    // POST, then PUT with everything.
    let session = registry.start("two/deep/er").await;
    let reply =
        registry.put(&format!("{session}?digest={}", digest.replace(':', "%3A")), bytes.clone()).await;
    assert_eq!(reply.status, 201, "{reply:?}");

    // A streamed PATCH, and an empty PUT.
    let session = registry.start("three").await;
    let reply = registry.patch(&session, &[], bytes.clone()).await;
    assert_eq!((reply.status, reply.header("range")), (202, "0-99999".to_owned()), "{reply:?}");
    assert_eq!(reply.header("location"), session);
    assert!(session.ends_with(&reply.header("docker-upload-uuid")));
    assert_eq!(registry.put(&format!("{session}?digest={digest}"), "").await.status, 201);

    // Chunks, the last one in the closing PUT.
    let session = registry.start("four").await;
    for (start, end) in [(0, 30_000), (30_000, 60_000)] {
        let range = format!("{start}-{}", end - 1);
        let reply = registry.patch(&session, &[("content-range", &range)], bytes[start..end].to_vec()).await;
        assert_eq!((reply.status, reply.header("range")), (202, format!("0-{}", end - 1)));
    }
    let reply = registry
        .send(
            "PUT",
            &format!("{session}?digest={digest}"),
            &[("content-range", "60000-99999")],
            bytes[60_000..].to_vec(),
        )
        .await;
    assert_eq!(reply.status, 201, "{reply:?}");

    for name in ["one", "two/deep/er", "three", "four"] {
        let reply = registry.get(&format!("/v2/{name}/blobs/{digest}"), &[]).await;
        assert_eq!(reply.status, 200);
        assert!(reply.body == bytes);
        let head = registry.send("HEAD", &format!("/v2/{name}/blobs/{digest}"), &[], "").await;
        assert_eq!((head.status, head.header("content-length")), (200, "100000".to_owned()));
        for reply in [reply, head] {
            assert_eq!(reply.header("docker-content-digest"), digest);
            assert_eq!(reply.header("etag"), format!("\"{digest}\""));
            assert_eq!(reply.header("content-type"), "application/octet-stream");
            assert_eq!(reply.header("accept-ranges"), "bytes");
            assert_eq!(reply.header("docker-distribution-api-version"), "registry/2.0");
            assert!(!reply.headers.contains_key("content-encoding"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_blob_are_served_as_the_specification_says() {
    let registry = Registry::open();
    let bytes = pattern(3_000);
    let path = registry.push_blob("a", &bytes).await;
    for (range, start, end) in [
        ("bytes=500-1499", 500, 1500),
        ("bytes=500-", 500, 3000),
        ("bytes=-500", 2500, 3000),
        ("bytes=2000-5000", 2000, 3000),
    ] {
        let reply = registry.get(&path, &[("range", range)]).await;
        assert_eq!(reply.status, 206, "{range}");
        assert_eq!(reply.header("content-range"), format!("bytes {start}-{}/3000", end - 1));
        assert_eq!(reply.header("content-length"), (end - start).to_string());
        assert!(reply.body == bytes[start..end], "{range}");
    }
    for range in ["bytes=500-0", "bytes=5000-10000"] {
        let reply = registry.get(&path, &[("range", range)]).await;
        assert_eq!((reply.status, reply.code().as_str()), (416, "RANGE_INVALID"), "{range}");
        assert_eq!(reply.header("content-range"), "bytes */3000");
    }

    let thousand = (0..1000).map(|at| format!("{}-{}", at * 3, at * 3 + 1)).collect::<Vec<_>>().join(",");
    let reply = registry.get(&path, &[("range", &format!("bytes={thousand}"))]).await;
    assert_eq!(reply.status, 206);
    assert!(reply.header("content-type").starts_with("multipart/byteranges; boundary="));
    assert_eq!(reply.header("content-length"), reply.body.len().to_string());
    assert_eq!(reply.text().matches("Content-Range: bytes ").count(), 1000);

    let too_many = (0..2001).map(|at| format!("{at}-{at}")).collect::<Vec<_>>().join(",");
    let reply = registry.get(&path, &[("range", &format!("bytes={too_many}"))]).await;
    assert_eq!((reply.status, reply.code().as_str()), (400, "RANGE_INVALID"));

    let tag = format!("\"{}\"", digest(&bytes));
    let reply = registry.get(&path, &[("if-none-match", &tag)]).await;
    assert_eq!((reply.status, reply.body.len()), (304, 0));
    assert_eq!(reply.header("etag"), tag);
    assert_eq!(registry.get(&path, &[("range", "bytes=0-0"), ("if-range", &tag)]).await.status, 206);
    assert_eq!(registry.get(&path, &[("range", "bytes=0-0"), ("if-range", "\"other\"")]).await.status, 200);
    assert_eq!(registry.send("HEAD", &path, &[("range", "bytes=0-0")], "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_out_of_order_is_refused_and_the_session_goes_on() {
    let registry = Registry::open();
    let session = registry.start("a").await;
    let empty = registry.get(&session, &[]).await;
    assert_eq!((empty.status, empty.header("range")), (204, "0-0".to_owned()));

    assert_eq!(registry.patch(&session, &[("content-range", "0-4")], "hello").await.status, 202);
    let content = digest(b"hello world");
    for reply in [
        registry.patch(&session, &[("content-range", "6-10")], "world").await,
        registry.patch(&session, &[("content-range", "0-4")], "hello").await,
        registry
            .send("PUT", &format!("{session}?digest={content}"), &[("content-range", "9-13")], "world")
            .await,
    ] {
        assert_eq!((reply.status, reply.code().as_str()), (416, "RANGE_INVALID"), "{reply:?}");
        assert_eq!((reply.header("range"), reply.header("location")), ("0-4".to_owned(), session.clone()));
    }
    for path in [session.clone(), format!("{session}?digest={content}")] {
        let status = registry.get(&path, &[]).await;
        assert_eq!((status.status, status.header("range")), (204, "0-4".to_owned()));
        assert_eq!(status.header("location"), session);
    }
    for (range, body, code) in [
        ("5-10", " wor", "SIZE_INVALID"),
        ("5-4", " world", "BLOB_UPLOAD_INVALID"),
        ("nonsense", " world", "BLOB_UPLOAD_INVALID"),
    ] {
        let reply = registry.patch(&session, &[("content-range", range)], body).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, code), "{range}");
    }
    assert_eq!(registry.patch(&session, &[("content-range", "5-10")], " world").await.status, 202);
    assert_eq!(registry.put(&format!("{session}?digest={content}"), "").await.status, 201);
    assert_eq!(registry.get(&session, &[]).await.code(), "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_body_keeps_what_came_and_publishes_nothing() {
    let registry = Registry::open();
    let bytes = pattern(200_000);
    let content = digest(&bytes);
    let session = registry.start("a").await;

    let reply = registry.broken("PATCH", &session, &bytes[..70_000]).await;
    assert_eq!((reply.status, reply.code().as_str()), (400, "BLOB_UPLOAD_INVALID"));
    assert_eq!(registry.get(&session, &[]).await.header("range"), "0-69999");
    let reply = registry.broken("PUT", &format!("{session}?digest={content}"), &bytes[70_000..150_000]).await;
    assert_eq!((reply.status, reply.code().as_str()), (400, "BLOB_UPLOAD_INVALID"));
    assert_eq!(registry.get(&format!("/v2/a/blobs/{content}"), &[]).await.status, 404);
    assert_eq!(registry.get(&session, &[]).await.header("range"), "0-149999");

    let range = [("content-range", "150000-199999")];
    let reply =
        registry.send("PUT", &format!("{session}?digest={content}"), &range, bytes[150_000..].to_vec()).await;
    assert_eq!(reply.status, 201, "{reply:?}");

    // The session of a POST that breaks off is known to nobody, and goes.
    let reply =
        registry.broken("POST", &format!("/v2/b/blobs/uploads/?digest={content}"), &bytes[..70_000]).await;
    assert_eq!((reply.status, reply.code().as_str()), (400, "BLOB_UPLOAD_INVALID"));
    assert_eq!(registry.staged_files(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_digest_is_refused_in_every_style_and_leaves_nothing() {
    let registry = Registry::open();
    let (wrong, missing) = (digest(b"other"), format!("blake3:{}", "a".repeat(64)));
    let start = "/v2/a/blobs/uploads/";

    assert_eq!(registry.post(&format!("{start}?digest={wrong}"), "bytes").await.code(), "DIGEST_INVALID");
    for bad in ["sha256:xyz", "nonsense", &missing] {
        assert_eq!(
            registry.post(&format!("{start}?digest={bad}"), "bytes").await.code(),
            "DIGEST_INVALID",
            "{bad}"
        );
        let session = registry.start("a").await;
        let reply = registry.put(&format!("{session}?digest={bad}"), "bytes").await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "DIGEST_INVALID"), "{bad}");
        assert_eq!(registry.send("DELETE", &session, &[], "").await.status, 204);
        assert_eq!(registry.send("DELETE", &session, &[], "").await.code(), "BLOB_UPLOAD_UNKNOWN");
    }
    assert_eq!(registry.post(&format!("{start}?digest-algorithm=md5"), "").await.code(), "DIGEST_INVALID");
    let session = registry.start("a").await;
    assert_eq!(registry.put(&session, "bytes").await.code(), "DIGEST_INVALID");
    assert_eq!(registry.patch(&session, &[], "bytes").await.status, 202);
    let reply = registry.put(&format!("{session}?digest={wrong}"), "").await;
    assert_eq!((reply.status, reply.code().as_str()), (400, "DIGEST_INVALID"));
    assert_eq!(registry.get(&session, &[]).await.status, 404);
    assert_eq!(registry.get(&format!("/v2/a/blobs/{wrong}"), &[]).await.status, 404);
    assert_eq!(registry.staged_files(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_may_be_named_by_sha512_with_and_without_the_hint() {
    let registry = Registry::open();
    let bytes = pattern(5_000);
    let name = sha512(&bytes);
    for query in ["?digest-algorithm=sha512", ""] {
        let session = registry.post(&format!("/v2/a/blobs/uploads/{query}"), "").await.header("location");
        registry.patch(&session, &[], bytes.clone()).await;
        let reply = registry.put(&format!("{session}?digest={name}"), "").await;
        assert_eq!((reply.status, reply.header("docker-content-digest")), (201, name.clone()));
        assert_eq!(reply.header("location"), format!("/v2/a/blobs/{name}"));
    }
    for (path, tag) in [(&name, &name), (&digest(&bytes), &digest(&bytes))] {
        let reply = registry.get(&format!("/v2/a/blobs/{path}"), &[]).await;
        assert!(reply.body == bytes);
        assert_eq!(reply.header("docker-content-digest"), *tag);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_needs_no_bytes_or_becomes_an_upload() {
    let registry = Registry::open();
    let bytes = pattern(1_000);
    registry.push_blob("from", &bytes).await;
    let content = digest(&bytes);
    for (name, query) in [("x", "&from=from"), ("y", "")] {
        let reply = registry.post(&format!("/v2/{name}/blobs/uploads/?mount={content}{query}"), "").await;
        assert_eq!((reply.status, reply.header("location")), (201, format!("/v2/{name}/blobs/{content}")));
        assert_eq!(registry.get(&format!("/v2/{name}/blobs/{content}"), &[]).await.body, bytes);
    }
    let elsewhere = digest(b"elsewhere");
    for query in [
        format!("mount={content}&from=nobody"),
        format!("mount={elsewhere}&from=from"),
        format!("mount={elsewhere}"),
        format!("mount={content}&from=NOT..A..NAME"),
        format!("mount=blake3:{}", "a".repeat(64)),
    ] {
        let reply = registry.post(&format!("/v2/z/blobs/uploads/?{query}"), "").await;
        assert_eq!(reply.status, 202, "{query}: {reply:?}");
        let session = reply.header("location");
        assert_eq!(registry.put(&format!("{session}?digest={elsewhere}"), "elsewhere").await.status, 201);
        let deleted = registry.send("DELETE", &format!("/v2/z/blobs/{elsewhere}"), &[], "").await;
        assert_eq!(deleted.status, 202);
    }
    assert_eq!(registry.post("/v2/z/blobs/uploads/?mount=sha256:bad", "").await.code(), "DIGEST_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_blob_is_a_blob() {
    let registry = Registry::open();
    let path = registry.push_blob("a", b"").await;
    for range in [vec![], vec![("range", "bytes=0-1")]] {
        let reply = registry.get(&path, &range).await;
        assert_eq!(
            (reply.status, reply.header("content-length"), reply.body.len()),
            (200, "0".to_owned(), 0)
        );
    }
    let session = registry.start("b").await;
    let reply = registry.put(&format!("{session}?digest={}", digest(b"")), "").await;
    assert_eq!(reply.status, 201, "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_kept_byte_for_byte_and_named_by_tag_and_digest() {
    let registry = Registry::open();
    registry.push_blob("a", b"{}").await;
    let payload = manifest(r#","annotations":{"b":"1",  "a":"2"}"#);
    let name = digest(payload.as_bytes());
    let typed = [("content-type", "application/vnd.oci.image.manifest.v1+json; charset=utf-8")];
    let reply = registry.send("PUT", "/v2/a/manifests/1", &typed, payload.clone()).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(reply.header("location"), format!("/v2/a/manifests/{name}"));
    assert_eq!(reply.header("docker-content-digest"), name);

    for reference in ["1", &name] {
        let path = format!("/v2/a/manifests/{reference}");
        let get =
            registry.get(&path, &[("accept", "application/vnd.docker.distribution.manifest.v2+json")]).await;
        assert_eq!(get.text(), payload);
        let head = registry.send("HEAD", &path, &[], "").await;
        for reply in [get, head] {
            assert_eq!(reply.status, 200);
            assert_eq!(reply.header("content-type"), OCI_MANIFEST);
            assert_eq!(reply.header("content-length"), payload.len().to_string());
            assert_eq!(reply.header("docker-content-digest"), name);
            assert_eq!(reply.header("etag"), format!("\"{name}\""));
        }
        let unchanged = registry.get(&path, &[("if-none-match", &format!("W/\"{name}\""))]).await;
        assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    }

    // Several tags at once, and the same content by sha512.
    let strong = sha512(payload.as_bytes());
    let reply = registry
        .put(&format!("/v2/a/manifests/{strong}?tag=x&tag=y&tag=x&ns=docker.io"), payload.clone())
        .await;
    assert_eq!((reply.status, reply.header("docker-content-digest")), (201, strong.clone()), "{reply:?}");
    let tags: Vec<_> = reply.headers.get_all("oci-tag").iter().collect();
    assert_eq!(tags, ["x", "y"]);
    assert_eq!(
        registry.get(&format!("/v2/a/manifests/{strong}"), &[]).await.header("docker-content-digest"),
        strong
    );

    let many = (0..65).map(|at| format!("tag=t{at}")).collect::<Vec<_>>().join("&");
    let reply = registry.put(&format!("/v2/a/manifests/{name}?{many}"), payload.clone()).await;
    assert_eq!(reply.status, 414);
    assert_eq!(registry.put(&format!("/v2/a/manifests/{name}?tag=-"), payload).await.code(), "TAG_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_cannot_be_taken_is_refused_with_its_code() {
    let registry = Registry::with_policy(Policy { max_manifest_bytes: 10_000, ..Policy::default() });
    let typed = [("content-type", OCI_MANIFEST)];
    let put = |reference: String, body: String| {
        let registry = &registry;
        async move { registry.send("PUT", &format!("/v2/a/manifests/{reference}"), &typed, body).await }
    };
    let reply = put("1".into(), manifest("")).await;
    assert_eq!((reply.status, reply.code().as_str()), (404, "MANIFEST_BLOB_UNKNOWN"));
    assert_eq!(reply.json()["errors"][0]["detail"]["missing"], json!([digest(b"{}")]));
    assert_eq!(put("1".into(), "no json".into()).await.code(), "MANIFEST_INVALID");
    assert_eq!(put(digest(b"x"), manifest("")).await.code(), "DIGEST_INVALID");
    assert_eq!(put("sha256:baddigeststring".into(), manifest("")).await.code(), "DIGEST_INVALID");
    let large = put("1".into(), " ".repeat(10_001)).await;
    assert_eq!((large.status, large.code().as_str()), (413, "SIZE_INVALID"));
    let streamed = registry.streamed("PUT", "/v2/a/manifests/1", vec![b' '; 10_001]).await;
    assert_eq!(streamed.status, 413);
    let reply = registry.broken("PUT", "/v2/a/manifests/1", manifest("").as_bytes()).await;
    assert_eq!(reply.status, 400);
    assert_eq!(registry.get("/v2/a/manifests/1", &[]).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_are_listed_filtered_and_never_missing() {
    let registry = Registry::open();
    let subject = digest(b"a subject that nobody pushed");
    let empty = registry.get(&format!("/v2/nowhere/referrers/{subject}"), &[]).await;
    assert_eq!((empty.status, empty.header("content-type")), (200, OCI_INDEX.to_owned()));
    assert_eq!(empty.json()["manifests"], json!([]));
    assert_eq!(registry.get("/v2/nowhere/referrers/sha256:bad", &[]).await.code(), "DIGEST_INVALID");

    registry.push_blob("a", b"{}").await;
    for kind in ["application/vnd.one+json", "application/vnd.two"] {
        let payload = manifest(&format!(
            r#","artifactType":"{kind}","subject":{{"mediaType":"{OCI_MANIFEST}","digest":"{subject}","size":28}}"#
        ));
        let name = digest(payload.as_bytes());
        let reply = registry.put(&format!("/v2/a/manifests/{name}"), payload).await;
        assert_eq!((reply.status, reply.header("oci-subject")), (201, subject.clone()), "{reply:?}");
    }
    let path = format!("/v2/a/referrers/{subject}");
    let all = registry.get(&path, &[]).await;
    assert_eq!(all.json()["manifests"].as_array().map(Vec::len), Some(2));
    assert!(!all.headers.contains_key("oci-filters-applied"));
    for kind in ["application/vnd.one+json", "application%2Fvnd.one%2Bjson"] {
        let one = registry.get(&format!("{path}?artifactType={kind}"), &[]).await;
        assert_eq!(one.header("oci-filters-applied"), "artifactType");
        assert_eq!(one.json()["manifests"][0]["artifactType"], "application/vnd.one+json");
        assert_eq!(one.json()["manifests"].as_array().map(Vec::len), Some(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_are_paged_by_n_last_and_link() {
    let registry = Registry::open();
    assert_eq!(registry.get("/v2/_catalog", &[]).await.json(), json!({"repositories": []}));
    assert_eq!(registry.get("/v2/a/tags/list", &[]).await.code(), "NAME_UNKNOWN");
    for name in ["b/c", "a", "b"] {
        registry.push_blob(name, b"{}").await;
    }
    let name = digest(manifest("").as_bytes());
    let reply = registry.put(&format!("/v2/a/manifests/{name}?tag=c&tag=B&tag=a&tag=b"), manifest("")).await;
    assert_eq!(reply.status, 201, "{reply:?}");

    for (path, key, pages) in [
        ("/v2/_catalog", "repositories", vec![json!(["a", "b"]), json!(["b/c"])]),
        ("/v2/a/tags/list", "tags", vec![json!(["B", "a"]), json!(["b", "c"])]),
    ] {
        let mut next = format!("{path}?n=2");
        for (at, page) in pages.iter().enumerate() {
            let reply = registry.get(&next, &[]).await;
            assert_eq!(reply.json()[key], *page, "{next}");
            if at + 1 == pages.len() {
                assert!(!reply.headers.contains_key("link"), "{next}");
            } else {
                let link = reply.header("link");
                next = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
            }
        }
        let none = registry.get(&format!("{path}?n=0"), &[]).await;
        assert_eq!(none.json()[key], json!([]));
        assert!(!none.headers.contains_key("link"));
        let bad = registry.get(&format!("{path}?n=-1"), &[]).await;
        assert_eq!((bad.status, bad.code().as_str()), (400, "PAGINATION_NUMBER_INVALID"));
        let after = registry.get(&format!("{path}?last=aa&n=100000"), &[]).await;
        assert_eq!(after.json()[key], if key == "tags" { json!(["b", "c"]) } else { json!(["b", "b/c"]) });
    }
}

/// To read a thousand signatures takes too long for a thread that others share: the list of tags is made by the thread that
/// asks, and that of signatures by one that may block, for which it waits here.
#[test]
fn who_has_signed_is_read_where_nobody_else_waits() {
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    let registry = Registry::open();
    runtime.block_on(async {
        let note = [("content-type", "application/vnd.example+json")];
        assert_eq!(registry.send("PUT", "/v2/a/manifests/1", &note, "{}").await.status, 201);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let holder = tokio::task::spawn_blocking(move || held.recv());
        let tags = registry.get("/v2/a/tags/list", &[]).now_or_never();
        assert_eq!(tags.unwrap().status, 200);
        let path = format!("/v2/_orlop/repositories/a/signatures/{}", digest(b"{}"));
        let mut signatures = std::pin::pin!(registry.get(&path, &[]));
        assert!(signatures.as_mut().now_or_never().is_none());
        drop(release);
        let reply = signatures.await;
        assert_eq!((reply.status, &reply.json()["signatures"]), (200, &json!([])));
        assert!(holder.await.unwrap().is_err());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_is_gone_at_once_and_deleting_can_be_switched_off() {
    let registry = Registry::open();
    registry.push_blob("a", b"{}").await;
    let name = digest(manifest("").as_bytes());
    registry.put(&format!("/v2/a/manifests/{name}?tag=x&tag=y"), manifest("")).await;

    let blob = format!("/v2/a/blobs/{}", digest(b"{}"));
    let used = registry.send("DELETE", &blob, &[], "").await;
    assert_eq!((used.status, used.code().as_str()), (405, "DENIED"));
    for (gone, kept) in [("/v2/a/manifests/x", Some("/v2/a/manifests/y")), ("/v2/a/manifests/y", None)] {
        let path = if kept.is_some() { gone.to_owned() } else { format!("/v2/a/manifests/{name}") };
        assert_eq!(registry.send("DELETE", &path, &[], "").await.status, 202);
        assert_eq!(registry.get(gone, &[]).await.code(), "MANIFEST_UNKNOWN");
        assert_eq!(registry.send("DELETE", &path, &[], "").await.code(), "MANIFEST_UNKNOWN");
        if let Some(kept) = kept {
            assert_eq!(registry.get(kept, &[]).await.status, 200);
        }
    }
    assert_eq!(registry.send("DELETE", &blob, &[], "").await.status, 202);
    assert_eq!(registry.get(&blob, &[]).await.code(), "BLOB_UNKNOWN");
    assert_eq!(registry.send("DELETE", &blob, &[], "").await.code(), "BLOB_UNKNOWN");

    let mut policy = Policy::default();
    (policy.delete.tags, policy.delete.manifests, policy.delete.blobs) = (false, false, false);
    let registry = Registry::with_policy(policy);
    let blob = registry.push_blob("a", b"{}").await;
    registry.put(&format!("/v2/a/manifests/{name}?tag=x"), manifest("")).await;
    for path in [blob, "/v2/a/manifests/x".to_owned(), format!("/v2/a/manifests/{name}")] {
        let reply = registry.send("DELETE", &path, &[], "").await;
        assert_eq!((reply.status, reply.code().as_str()), (405, "UNSUPPORTED"), "{path}");
        assert!(reply.header("allow").contains("GET"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_cannot_fit_is_refused_before_it_is_read() {
    let registry = Registry::open();
    let session = registry.start("a").await;
    let huge = [("content-length", "1000000000000000")];
    for path in
        [format!("{session}?digest={}", digest(b"")), format!("/v2/a/blobs/uploads/?digest={}", digest(b""))]
    {
        let method = if path.contains("uploads/?") { "POST" } else { "PUT" };
        let reply = registry.endless(method, &path, &huge).await;
        assert_eq!((reply.status, reply.code().as_str()), (507, "DENIED"), "{reply:?}");
    }
    let full = Registry::with_policy(Policy { free_floor_bytes: u64::MAX, ..Policy::default() });
    let reply = full.post("/v2/a/blobs/uploads/", "").await;
    assert_eq!((reply.status, reply.code().as_str()), (507, "DENIED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn urls_are_absolute_with_an_external_url_and_chunks_have_the_advised_length() {
    let registry = Registry::open().behind("https://registry.example/", 5_242_880);
    let reply = registry.post("/v2/a/blobs/uploads/", "").await;
    assert!(reply.header("location").starts_with("https://registry.example/v2/a/blobs/uploads/"));
    assert_eq!(reply.header("oci-chunk-min-length"), "5242880");
    for name in ["a", "b"] {
        let path = format!("/v2/{name}/blobs/uploads/?digest={}", digest(b"{}"));
        assert_eq!(
            registry.post(&path, "{}").await.header("location"),
            format!("https://registry.example/v2/{name}/blobs/{}", digest(b"{}"))
        );
    }
    let link = registry.get("/v2/_catalog?n=1", &[]).await.header("link");
    assert_eq!(link, "<https://registry.example/v2/_catalog?n=1&last=a>; rel=\"next\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_an_id_and_what_watches_has_its_endpoints() {
    let registry = Registry::open();
    for path in ["/v2", "/v2/"] {
        let reply = registry.get(path, &[]).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "{}"));
        assert_eq!(reply.header("docker-distribution-api-version"), "registry/2.0");
    }
    assert_eq!(registry.get("/v2/", &[("x-request-id", "abc-1")]).await.header("x-request-id"), "abc-1");
    let made = registry.get("/v2/", &[("x-request-id", "a b\u{7f}".trim_end_matches('\u{7f}'))]).await;
    assert_ne!(made.header("x-request-id"), "a b");
    assert_eq!(registry.get("/livez", &[]).await.text(), "ok\n");
    assert_eq!(registry.get("/readyz", &[]).await.text(), "ok\n");
    assert_eq!(registry.get("/nothing", &[]).await.status, 404);
    let metrics = registry.get("/metrics", &[]).await.text();
    let line = r#"orlop_http_requests_total{method="GET",route="get_base",status="200"} 4"#;
    assert!(metrics.contains(line), "{metrics}");
    let not_allowed = registry.send("PUT", "/v2/a/tags/list", &[], "").await;
    assert_eq!((not_allowed.status, not_allowed.header("allow")), (405, "GET, HEAD".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_ends_with_the_registry_and_nothing_inside_is_shown() {
    let registry = Registry::open();
    let path = registry.push_blob("a", b"{}").await;
    registry.close().await;
    assert_eq!(registry.get("/readyz", &[]).await.status, 503);
    let reply = registry.get(&path, &[]).await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "UNAVAILABLE"));
    assert_eq!(reply.header("retry-after"), "1");
}

#[tokio::test]
async fn each_request_has_one_line_that_no_stranger_can_forge() {
    let log = Log::start();
    let registry = Registry::open();
    let bytes = pattern(1_000_000);
    let path = registry.push_blob("logged/a", &bytes).await;
    let lines = log.take();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let digest = digest(&bytes);
    for part in [
        " INFO request ".to_owned(),
        r#"method="POST" path="/v2/logged/a/blobs/uploads/" route="create_upload" status=201"#.to_owned(),
        "received_bytes=1000000 sent_bytes=0".to_owned(),
        format!("digest=\"{digest}\""),
    ] {
        assert!(lines[0].contains(&part), "{part}: {lines:?}");
    }

    let agent = r#"x" status=200 route="y"#;
    let reply =
        registry.get("/v2/logged/a/manifests/1", &[("user-agent", agent), ("x-request-id", "id-1")]).await;
    let lines = log.take();
    assert_eq!((reply.status, lines.len()), (404, 1));
    let forged = r#"user_agent="x\" status=200 route=\"y""#;
    for part in [r#"request="id-1""#, r#"route="get_manifest" status=404 error="MANIFEST_UNKNOWN""#, forged] {
        assert!(lines[0].contains(part), "{part}: {lines:?}");
    }

    registry.get_in_part(&path, false).await.unwrap();
    let lines = log.take();
    assert!(lines.len() == 1 && lines[0].contains("request ended before its answer did"), "{lines:?}");
    assert!(lines[0].contains("sent_bytes=262144"), "{lines:?}");

    // A file that is shorter than its record breaks the answer off, and is said to whoever reads the log.
    std::fs::OpenOptions::new()
        .write(true)
        .open(registry.blob_file(&digest))
        .unwrap()
        .set_len(300_000)
        .unwrap();
    assert!(registry.get_in_part(&path, true).await.is_err());
    let lines = log.take();
    assert!(lines.len() == 1 && lines[0].contains("ERROR request failed"), "{lines:?}");
    assert!(lines[0].contains("shorter than its record"), "{lines:?}");
    registry.is_damaged();
}

#[test]
fn the_document_of_the_api_lists_every_endpoint_and_every_error() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/http-api.md")).unwrap();
    let lines: Vec<&str> = document.lines().collect();
    for operation in Operation::ALL {
        let row = operation.row();
        let start = format!("| `{} {}` | `{}` |", row.method, row.path, row.name);
        let access = format!("{:?}", row.access).to_lowercase();
        let found =
            lines.iter().any(|line| line.starts_with(&start) && line.contains(&format!("| {access} |")));
        assert!(found, "docs/http-api.md has no row {start} {access}");
    }
    for code in ErrorCode::ALL {
        let start = format!("| `{}` | {} |", code.as_str(), code.status().as_u16());
        assert!(lines.iter().any(|line| line.starts_with(&start)), "docs/http-api.md has no row {start}");
    }
}

#[tokio::test]
async fn what_answers_a_request_is_small_since_each_request_copies_it() {
    let registry = Registry::open();
    let size = registry.size_of_an_answer("/v2/one/manifests/latest");
    assert!(size <= 3072, "{size} bytes");
    registry.close().await;
}
