//! Signed schema 1 manifests over the wire, and the list of who has signed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::signer::{Signer, pretty_jws};
use crate::support::{Content, Server, referrer, sha256};

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
    }
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
fn signatures_by_cosign_and_notation_are_listed_beside() {
    let server = Server::start();
    let image = server.push_image("a", "v1", 1);
    let digest = image.digest();
    let tag = format!("{}.sig", digest.replace(':', "-"));
    let by_cosign = server.push_image("a", &tag, 2);
    let by_notation = referrer(&image.descriptor(), "application/vnd.cncf.notary.signature", "n");
    let other = referrer(&image.descriptor(), "application/spdx+json", "s");
    for manifest in [&by_notation, &other] {
        server.push_blob("a", b"{}");
        server.put_manifest("a", &manifest.digest(), manifest).expect(201);
    }
    let listed = signatures(&server, "a", &digest);
    let shown: Vec<_> = listed
        .iter()
        .map(|entry| (entry["kind"].clone(), entry["digest"].clone(), entry["verified"].clone()))
        .collect();
    let unchecked = json!("not checked");
    assert_eq!(
        shown,
        [
            (json!("cosign"), json!(by_cosign.digest()), unchecked.clone()),
            (json!("referrer"), json!(by_notation.digest()), unchecked),
        ]
    );
    assert_eq!(listed[0]["tag"], json!(tag));
}
