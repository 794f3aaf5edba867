//! Signed schema 1 manifests over the wire, and the list of who has signed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use redb::ReadableTable as _;
use serde_json::{Value, json};

use crate::signer::{Signer, pretty_jws};
use crate::support::{Content, Server, referrer, sha256, with_query};

const SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
const TIME: &str = "2015-04-08T18:52:59Z";

fn payload(name: &str, tag: &str, layer: &str) -> Vec<u8> {
    let document = json!({
        "schemaVersion": 1, "name": name, "tag": tag, "architecture": "amd64",
        "fsLayers": [{"blobSum": layer}], "history": [{"v1Compatibility": "{}"}],
    });
    serde_json::to_vec_pretty(&document).unwrap()
}

fn signed(payload: &[u8], signers: &[&Signer]) -> Content {
    let blocks: Vec<String> = signers.iter().map(|signer| signer.sign(payload, TIME)).collect();
    Content { media_type: SIGNED.into(), bytes: pretty_jws(payload, &blocks) }
}

fn signatures(server: &Server, name: &str, digest: &str) -> Vec<Value> {
    let path = format!("/v2/_orlop/repositories/{name}/signatures/{digest}");
    server.get(&path).send().expect(200).json()["signatures"].as_array().unwrap().clone()
}

#[test]
fn signatures_of_two_hosts_are_served_together_and_the_entity_tag_covers_them() {
    let server = Server::start();
    let layer = server.push_blob("team/box", b"layer");
    let payload = payload("team/box", "1", &layer);
    let digest = sha256(&payload);
    let (one, two) = (Signer::generate(), Signer::generate());
    server
        .put_manifest("team/box", "1", &signed(&payload, &[&one]))
        .expect(201)
        .expect_header("docker-content-digest", &digest)
        .expect_header("location", format!("/v2/team/box/manifests/{digest}"));
    let first = server.get("/v2/team/box/manifests/1").send().expect(200);
    let etag = first.header("etag").to_owned();
    let unchanged = || server.get("/v2/team/box/manifests/1").header("if-none-match", &etag).send();
    unchanged().expect(304);

    server.put_manifest("team/box", &digest, &signed(&payload, &[&two])).expect(201);
    let merged = unchanged().expect(200);
    assert_ne!(merged.header("etag"), etag);
    let list = merged.json()["signatures"].as_array().unwrap().len();
    assert_eq!(list, 2);
    let bytes = merged.text_whole().into_bytes();
    for reference in ["1", &digest] {
        let path = format!("/v2/team/box/manifests/{reference}");
        server
            .get(&path)
            .send()
            .expect(200)
            .expect_header("content-type", SIGNED)
            .expect_header("docker-content-digest", &digest)
            .expect_body(&bytes);
        server
            .head(&path)
            .send()
            .expect(200)
            .expect_header("content-length", bytes.len())
            .expect_header("etag", merged.header("etag"));
    }
    let listed = signatures(&server, "team/box", &digest);
    let mut keys = vec![one.key_id(), two.key_id()];
    keys.sort();
    assert_eq!(listed.iter().map(|entry| entry["keyId"].as_str().unwrap()).collect::<Vec<_>>(), keys);
    for entry in &listed {
        assert_eq!((&entry["kind"], &entry["verified"]), (&json!("schema 1"), &json!("key")));
        assert_eq!((&entry["algorithm"], &entry["signedAt"]), (&json!("ES256"), &json!(TIME)));
        assert_eq!(entry["type"], SIGNED);
        let _: orlop::oci::Digest = entry["digest"].as_str().unwrap().parse().unwrap();
    }
    // When each came: the second with the push that the revision was last pushed by, the first with the one before.
    let revisions = server.get("/v2/_orlop/repositories/team/box/manifests").send().expect(200).json();
    let at = |signer: &Signer| {
        listed.iter().find(|entry| entry["keyId"] == signer.key_id()).unwrap()["at"].to_string()
    };
    assert_eq!(at(&two), revisions["manifests"][0]["pushedAt"].to_string());
    assert!(at(&one) <= at(&two));
    server.delete(&format!("/v2/team/box/manifests/{digest}")).send().expect(202);
    let path = format!("/v2/_orlop/repositories/team/box/signatures/{digest}");
    server.get(&path).send().expect_error(404, "MANIFEST_UNKNOWN");
}

#[test]
fn a_chain_of_certificates_counts_only_while_its_root_is_configured() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, der: &[u8]| {
        let path = directory.path().join(name);
        let text = STANDARD.encode(der);
        std::fs::write(&path, format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"))
            .unwrap();
        path.to_str().unwrap().to_owned()
    };
    let root = file("root.pem", include_bytes!("../vectors/schema1/root.der"));
    let stranger = file("stranger.pem", include_bytes!("../vectors/schema1/stranger.der"));
    let mut server = Server::start();
    for layer in [&b"one"[..], b"two"] {
        server.push_blob("team/box", layer);
    }
    let chained = include_bytes!("../vectors/schema1/x5c.json").to_vec();
    let by_key = include_bytes!("../vectors/schema1/rs256.json").to_vec();
    for bytes in [chained, by_key] {
        server.put_manifest("team/box", "1", &Content { media_type: SIGNED.into(), bytes }).expect(201);
    }
    let digest = sha256(include_bytes!("../vectors/schema1/payload.json"));
    for (roots, verified) in
        [("", "key"), (&stranger, "key"), (&format!("{stranger},{root}"), "chain"), ("", "key")]
    {
        server.stop();
        server.set("signatures.trust_roots", roots);
        server.run_again();
        let mut found: Vec<(String, String)> = signatures(&server, "team/box", &digest)
            .iter()
            .map(|entry| {
                ["algorithm", "verified"].map(|field| entry[field].as_str().unwrap().to_owned()).into()
            })
            .collect();
        found.sort();
        assert_eq!(
            found,
            [("ES256", verified), ("RS256", "key")].map(|(a, v)| (a.to_owned(), v.to_owned())),
            "{roots}"
        );
    }
}

#[test]
fn what_a_signed_manifest_gets_wrong_has_its_own_code() {
    let server = Server::start();
    let layer = server.push_blob("team/box", b"layer");
    let signer = Signer::generate();
    let of = |payload: &[u8]| signed(payload, &[&signer]);
    let mut changed = of(&payload("team/box", "1", &layer));
    changed.bytes = String::from_utf8(changed.bytes).unwrap().replace("amd64", "arm64").into_bytes();
    for (document, status, code) in [
        (changed, 400, "MANIFEST_UNVERIFIED"),
        (of(&payload("team/fox", "1", &layer)), 400, "NAME_INVALID"),
        (of(&payload("team/box", "2", &layer)), 400, "MANIFEST_INVALID"),
        (of(&payload("team/box", "1", &sha256(b"absent"))), 404, "MANIFEST_BLOB_UNKNOWN"),
        (Content { media_type: SIGNED.into(), bytes: b"{".repeat(100_000) }, 400, "MANIFEST_INVALID"),
    ] {
        server.put_manifest("team/box", "1", &document).expect_error(status, code);
    }
}

#[test]
fn every_algorithm_is_taken_served_and_listed() {
    let server = Server::start();
    for layer in [&b"one"[..], b"two"] {
        server.push_blob("team/box", layer);
    }
    // What openssl signed by RSA comes back byte for byte.
    let rs256 = include_bytes!("../vectors/schema1/rs256.json");
    let push = |bytes: &[u8]| {
        let document = Content { media_type: SIGNED.into(), bytes: bytes.to_vec() };
        server.put_manifest("team/box", "1", &document).expect(201);
    };
    push(rs256);
    let path = "/v2/team/box/manifests/1";
    let digest = sha256(include_bytes!("../vectors/schema1/payload.json"));
    server.get(path).send().expect(200).expect_header("docker-content-digest", &digest).expect_body(rs256);

    for other in [
        &include_bytes!("../vectors/schema1/es512.json")[..],
        include_bytes!("../vectors/schema1/rs512.json"),
        include_bytes!("../vectors/schema1/es256.json"),
        include_bytes!("../vectors/schema1/x5c.json"),
        include_bytes!("../vectors/schema1/es384.json"),
        include_bytes!("../vectors/schema1/rs384.json"),
    ] {
        push(other);
    }
    // The keys as openssl computes their ids, in their order.
    let listed: Vec<String> = signatures(&server, "team/box", &digest)
        .iter()
        .map(|entry| {
            format!("{} {}\n", entry["keyId"].as_str().unwrap(), entry["algorithm"].as_str().unwrap())
        })
        .collect();
    assert_eq!(listed.concat(), include_str!("../vectors/schema1/several.txt"));
    assert_eq!(server.get(path).send().expect(200).json()["signatures"].as_array().unwrap().len(), 7);
}

#[test]
fn a_layer_that_is_named_by_its_tarsum_is_refused_with_what_to_do() {
    let server = Server::start();
    let sum = "tarsum.v1+sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let location = server.begin("team/box");
    let archive = vec![0; 10_240];
    server.put(&with_query(&location, &format!("digest={sum}"))).body(&archive).send().expect(201);
    let signer = Signer::generate();
    let unsigned = "application/vnd.docker.distribution.manifest.v1+json";
    let by_sum = payload("team/box", "1", sum);
    for document in [signed(&by_sum, &[&signer]), Content { media_type: unsigned.to_owned(), bytes: by_sum }]
    {
        let refused = server.put_manifest("team/box", "1", &document).expect_error(400, "MANIFEST_INVALID");
        assert!(refused.text().contains("name it by its sha256"), "{}", refused.text());
    }
    let by_digest = signed(&payload("team/box", "1", &sha256(&archive)), &[&signer]);
    server.put_manifest("team/box", "1", &by_digest).expect(201);
}

/// The entity tag and the bytes of a manifest.
fn served(server: &Server, path: &str) -> (String, Vec<u8>) {
    let reply = server.get(path).send().expect(200);
    (reply.header("etag").to_owned(), reply.text_whole().into_bytes())
}

#[test]
fn a_thousand_keys_may_sign_and_one_more_is_refused_and_changes_nothing() {
    let server = Server::start();
    let layer = server.push_blob("team/box", b"layer");
    let payload = payload("team/box", "1", &layer);
    let signers: Vec<Signer> = (0..1_001).map(|_| Signer::generate()).collect();
    let [thousand @ .., last] = &signers[..] else { panic!("there are some") };
    let all: Vec<&Signer> = signers.iter().collect();
    let path = "/v2/team/box/manifests/1";
    let refused = |document: &Content| {
        let reply = server.put_manifest("team/box", "1", document);
        let reply = reply.expect_error(400, "MANIFEST_INVALID");
        assert!(reply.text_whole().contains("1000"), "{}", reply.text_whole());
    };
    refused(&signed(&payload, &all));
    server.get(path).send().expect_error(404, "MANIFEST_UNKNOWN");

    let (half, others) = thousand.split_at(500);
    for signers in [half, others] {
        let document = signed(&payload, &signers.iter().collect::<Vec<_>>());
        server.put_manifest("team/box", "1", &document).expect(201);
    }
    let full = served(&server, path);
    refused(&signed(&payload, &[last]));
    // All or nothing: the newer signature beside it isn't taken either.
    let newer = signers[0].sign(&payload, "2016-04-08T18:52:59Z");
    let bytes = pretty_jws(&payload, &[newer.clone(), last.sign(&payload, TIME)]);
    refused(&Content { media_type: SIGNED.into(), bytes });
    assert!(served(&server, path) == full, "nothing has changed");
    let listed = signatures(&server, "team/box", &sha256(&payload));
    assert_eq!(listed.len(), 1_000);
    assert!(listed.iter().all(|entry| entry["keyId"] != json!(last.key_id())));

    let newer = Content { media_type: SIGNED.into(), bytes: pretty_jws(&payload, &[newer]) };
    server.put_manifest("team/box", "1", &newer).expect(201);
    assert!(served(&server, path) != full, "who has signed already may sign again");
    assert_eq!(signatures(&server, "team/box", &sha256(&payload)).len(), 1_000);
}

#[test]
fn a_signature_that_would_make_the_manifest_too_long_is_refused_and_changes_nothing() {
    let server = Server::with(&[("manifests.max_size", "2 KiB")]);
    let layer = server.push_blob("team/box", b"layer");
    let payload = payload("team/box", "1", &layer);
    let path = "/v2/team/box/manifests/1";
    let push = |signer: &Signer| server.put_manifest("team/box", "1", &signed(&payload, &[signer]));
    push(&Signer::generate()).expect(201);
    let (mut taken, mut before) = (1, served(&server, path));
    let refused = loop {
        let reply = push(&Signer::generate());
        if reply.status != 201 {
            break reply;
        }
        taken += 1;
        before = served(&server, path);
    };
    let message = refused.expect_error(400, "MANIFEST_INVALID").text_whole();
    assert!(message.contains("at most 2048 are allowed"), "{message}");
    assert!(served(&server, path) == before, "nothing has changed");
    assert_eq!(signatures(&server, "team/box", &sha256(&payload)).len(), taken);
    assert!(before.1.len() <= 2_048, "{}", before.1.len());
}

/// Changes the rows of a table of a stopped server, and returns what they were.
fn change_rows(
    server: &Server,
    table: &str,
    change: impl Fn(&[u8], &[u8]) -> (Vec<u8>, Vec<u8>),
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let database = redb::Database::open(server.data().join(orlop::metadata::FILE_NAME)).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut former = Vec::new();
    {
        let definition = redb::TableDefinition::<&[u8], &[u8]>::new(table);
        let mut table = transaction.open_table(definition).unwrap();
        for row in table.iter().unwrap() {
            let (key, value) = row.unwrap();
            former.push((key.value().to_vec(), value.value().to_vec()));
        }
        for (key, value) in &former {
            table.remove(key.as_slice()).unwrap();
            let (key, value) = change(key, value);
            table.insert(key.as_slice(), value.as_slice()).unwrap();
        }
    }
    transaction.commit().unwrap();
    former
}

#[test]
fn damaged_signatures_are_reported_and_fail_their_manifest_only() {
    type Change = fn(&[u8], &[u8]) -> (Vec<u8>, Vec<u8>);
    let changes: [(&str, Change); 5] = [
        ("no record", |key, _| (key.to_vec(), b"garbage".to_vec())),
        ("nothing", |key, _| (key.to_vec(), Vec::new())),
        ("cut short", |key, value| (key.to_vec(), value[..value.len() / 2].to_vec())),
        ("no JSON", |key, value| {
            let text = value.iter().map(|byte| if *byte == b'{' { b'[' } else { *byte });
            (key.to_vec(), text.collect())
        }),
        ("another key", |key, value| {
            let mut key = key.to_vec();
            let last = key.len() - "ABCD\0ES256".len();
            key[last] = if key[last] == b'A' { b'B' } else { b'A' };
            (key, value.to_vec())
        }),
    ];
    let mut server = Server::start();
    let layer = server.push_blob("team/box", b"layer");
    let payload = payload("team/box", "1", &layer);
    server.put_manifest("team/box", "1", &signed(&payload, &[&Signer::generate()])).expect(201);
    server.push_image("team/box", "other", 1);
    let path = "/v2/team/box/manifests/1";
    let list = format!("/v2/_orlop/repositories/team/box/signatures/{}", sha256(&payload));
    let sound = served(&server, path);
    for (what, change) in changes {
        server.stop();
        let former = change_rows(&server, "signatures", change);
        let problems = server.problems();
        assert!(problems.iter().any(|problem| problem.contains("signatures")), "{what}: {problems:?}");
        server.run_again();
        server.get(path).send().expect_error(500, "UNKNOWN");
        if !what.starts_with("nobody") {
            server.get(&list).send().expect_error(500, "UNKNOWN");
        }
        server.get("/v2/team/box/manifests/other").send().expect(200);
        server.stop();
        assert!(!server.log().contains("panicked"), "{what}: {}", server.log());
        change_rows(&server, "signatures", |_, _| former[0].clone());
        server.run_again();
        assert!(served(&server, path) == sound, "{what}");
    }
}

#[test]
fn a_manifest_with_damaged_signatures_can_be_deleted_and_pushed_again() {
    // Gone at once, and kept to be undone.
    for undo in ["0s", "1d"] {
        let mut server = Server::with(&[("delete.undo", undo)]);
        let layer = server.push_blob("team/box", b"layer");
        let payload = payload("team/box", "1", &layer);
        let document = signed(&payload, &[&Signer::generate()]);
        server.put_manifest("team/box", "1", &document).expect(201);
        server.stop();
        let sound = change_rows(&server, "signatures", |key, _| (key.to_vec(), b"garbage".to_vec()));
        server.run_again();
        let path = "/v2/team/box/manifests/1";
        server.get(path).send().expect_error(500, "UNKNOWN");
        server.delete(&format!("/v2/team/box/manifests/{}", sha256(&payload))).send().expect(202);
        server.get(path).send().expect_error(404, "MANIFEST_UNKNOWN");
        server.put_manifest("team/box", "1", &document).expect(201);
        server.get(path).send().expect(200);
        server.stop();
        // What was kept is as it was, until its time is over.
        let damaged = change_rows(&server, "signatures", |key, _| (key.to_vec(), sound[0].1.clone()));
        let damaged = damaged.iter().filter(|(_, value)| value == b"garbage").count();
        assert_eq!(damaged, usize::from(undo != "0s"));
    }
}

/// Orlop once kept signed manifests as they came, unverified, with the digest of the whole.
#[test]
fn a_signed_manifest_that_was_kept_as_a_whole_is_served_as_it_is() {
    let mut server = Server::start();
    let layer = server.push_blob("team/box", b"layer");
    let whole = signed(&payload("team/box", "1", &layer), &[&Signer::generate()]);
    // A type of the same length, under which any document is kept as it is.
    let other = SIGNED.replace("jws", "xyz");
    server
        .put_manifest("team/box", "1", &Content { media_type: other.clone(), bytes: whole.bytes.clone() })
        .expect(201);
    server.stop();
    change_rows(&server, "manifests", |key, value| {
        let at = value.windows(other.len()).position(|part| part == other.as_bytes()).unwrap();
        (key.to_vec(), [&value[..at], SIGNED.as_bytes(), &value[at + SIGNED.len()..]].concat())
    });
    server.run_again();
    for _ in 0..2 {
        let pulled = server.get("/v2/team/box/manifests/1").send().expect(200);
        pulled
            .expect_header("content-type", SIGNED)
            .expect_header("etag", format!("\"{}\"", whole.digest()))
            .expect_body(&whole.bytes);
    }
    assert_eq!(signatures(&server, "team/box", &whole.digest()), [json!(null); 0]);
}

/// The example in `docs/signatures.md` has the fields that the answer has, in each kind of entry.
#[test]
fn the_documents_list_is_what_comes() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/signatures.md")).unwrap();
    let example = page.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let example: Value = serde_json::from_str(example).unwrap();
    let server = Server::start();
    let layer = server.push_blob("team/app", b"layer");
    let payload = payload("team/app", "1", &layer);
    let document = signed(&payload, &[&Signer::generate()]);
    server.put_manifest("team/app", "1", &document).expect(201);
    let digest = sha256(&payload);
    server.push_image("team/app", &format!("{}.sig", digest.replace(':', "-")), 2);
    server.push_blob("team/app", b"{}");
    let subject = json!({"mediaType": SIGNED, "digest": digest, "size": payload.len()});
    let notation = referrer(&subject, "application/vnd.cncf.notary.signature", "n");
    server.put_manifest("team/app", &notation.digest(), &notation).expect(201);
    let listed = server
        .get(&format!("/v2/_orlop/repositories/team/app/signatures/{digest}"))
        .send()
        .expect(200)
        .json();

    let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(&listed), fields(&example));
    let entries = |list: &Value| list["signatures"].as_array().unwrap().clone();
    assert_eq!(entries(&listed).len(), 3);
    for (listed, example) in entries(&listed).iter().zip(&entries(&example)) {
        assert_eq!(fields(listed), fields(example));
        for field in ["kind", "type", "verified", "algorithm"] {
            assert_eq!(listed[field], example[field], "{field}");
        }
    }
}

#[test]
fn signatures_by_cosign_and_notation_are_listed_beside() {
    const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
    const NOTATION: &str = "application/vnd.cncf.notary.signature";
    let server = Server::start();
    let image = server.push_image("a", "v1", 1);
    let digest = image.digest();
    server.push_blob("a", b"{}");
    let mut expected = Vec::new();
    for (number, ending) in [(2, "sig"), (3, "att"), (4, "sbom")] {
        let tag = format!("{}.{ending}", digest.replace(':', "-"));
        let by_cosign = server.push_image("a", &tag, number);
        expected.push(json!({
            "kind": "cosign", "type": by_cosign.media_type, "digest": by_cosign.digest(), "tag": tag,
        }));
    }
    let mut referrers = Vec::new();
    for artifact_type in [BUNDLE, NOTATION, "application/spdx+json"] {
        let manifest = referrer(&image.descriptor(), artifact_type, "n");
        server.put_manifest("a", &manifest.digest(), &manifest).expect(201);
        referrers.push(json!({"kind": "referrer", "type": artifact_type, "digest": manifest.digest()}));
    }
    referrers.pop();
    referrers.sort_by_key(|entry| entry["digest"].to_string());
    expected.extend(referrers);
    // When each came, as the list of revisions has it.
    let revisions = server.get("/v2/_orlop/repositories/a/manifests").send().expect(200).json();
    for entry in &mut expected {
        let mut all = revisions["manifests"].as_array().unwrap().iter();
        let revision = all.find(|revision| revision["digest"] == entry["digest"]).unwrap();
        entry["at"] = revision["pushedAt"].clone();
        entry["verified"] = json!("not checked");
    }
    assert_eq!(signatures(&server, "a", &digest), expected);
}

/// There was an end to the referrers that were searched, of which the answer said nothing.
#[test]
fn pages_lead_to_the_signatures_behind_any_number_of_other_referrers() {
    const NOTATION: &str = "application/vnd.cncf.notary.signature";
    let server = Server::start();
    let image = server.push_image("a", "v1", 1);
    server.push_image("a", &format!("{}.sig", image.digest().replace(':', "-")), 2);
    server.push_blob("a", b"{}");
    let long = "x".repeat(2_000_000);
    let mut expected = Vec::new();
    for number in 0..3 {
        for artifact_type in [NOTATION, "application/spdx+json"] {
            let manifest = referrer(&image.descriptor(), artifact_type, &format!("{number}{long}"));
            server.put_manifest("a", &manifest.digest(), &manifest).expect(201);
            if artifact_type == NOTATION {
                expected.push(manifest.digest());
            }
        }
    }
    expected.sort();
    let mut path = format!("/v2/_orlop/repositories/a/signatures/{}", image.digest());
    let (mut pages, mut found) = (0, Vec::new());
    loop {
        let reply = server.get(&path).send().expect(200);
        let listed = reply.json()["signatures"].as_array().unwrap().clone();
        assert_eq!(listed.iter().filter(|entry| entry["kind"] == "cosign").count(), usize::from(pages == 0));
        let referrers = listed.iter().filter(|entry| entry["kind"] == "referrer");
        found.extend(referrers.map(|entry| entry["digest"].as_str().unwrap().to_owned()));
        pages += 1;
        match reply.get("link") {
            Some(link) => path = link[1..link.find('>').unwrap()].to_owned(),
            None => break,
        }
    }
    assert_eq!((found, pages), (expected, 3));
}

#[test]
fn signatures_that_were_not_sent_as_such_are_not_kept_unverified() {
    let server = Server::start();
    let layer = server.push_blob("team/box", b"layer");
    let good = signed(&payload("team/box", "1", &layer), &[&Signer::generate()]);
    let forged = String::from_utf8(good.bytes).unwrap().replace("amd64", "arm64").into_bytes();
    let unsigned = "application/vnd.docker.distribution.manifest.v1+json".to_owned();
    let refused = server.put_manifest("team/box", "1", &Content { media_type: unsigned, bytes: forged });
    assert!(refused.expect_error(400, "MANIFEST_UNVERIFIED").text().contains(SIGNED));
}

/// The tags of the parameters are held against the manifest as the one of the path is.
#[test]
fn a_signed_manifest_takes_no_tag_but_its_own() {
    let server = Server::start();
    let layer = server.push_blob("team/box", b"layer");
    let payload = payload("team/box", "1", &layer);
    let document = signed(&payload, &[&Signer::generate()]);
    let push = |tags: &str| {
        let path = format!("/v2/team/box/manifests/{}?{tags}", sha256(&payload));
        server.put(&path).header("content-type", SIGNED).body(&document.bytes).send()
    };
    push("tag=1&tag=2").expect_error(400, "MANIFEST_INVALID");
    server.get("/v2/team/box/manifests/1").send().expect_error(404, "MANIFEST_UNKNOWN");
    push("tag=1").expect(201);
    server.get("/v2/team/box/manifests/1").send().expect(200);
}
