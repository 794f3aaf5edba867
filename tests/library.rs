//! The library's face: what a program that embeds the registry can rely on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use orlop::oci::{Digest, DigestAlgorithm, MediaType, Reference, RepositoryName, Tag};
use orlop::registry::{Actor, Depth, Error, ManifestPut, Options, Registry, Repository};
use tempfile::TempDir;

fn open(dir: &TempDir) -> Registry {
    Registry::open(Options::new(dir.path().join("data"))).unwrap()
}

fn repository(registry: &Registry, name: &str) -> Repository {
    registry.namespace().repository(&name.parse::<RepositoryName>().unwrap())
}

fn sha256(content: &[u8]) -> Digest {
    Digest::of(DigestAlgorithm::Sha256, content)
}

/// An image of one layer, as JSON.
fn image(config: &Digest, config_len: usize, layer: &Digest, layer_len: usize) -> Bytes {
    let config_type = MediaType::OCI_IMAGE_CONFIG;
    let layer_type = "application/vnd.oci.image.layer.v1.tar";
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{config_type}","digest":"{config}","size":{config_len}}},"layers":[{{"mediaType":"{layer_type}","digest":"{layer}","size":{layer_len}}}]}}"#,
        MediaType::OCI_IMAGE_MANIFEST,
    )
    .into()
}

fn by_tag(payload: Bytes, tag: &str) -> ManifestPut {
    ManifestPut {
        payload,
        media_type: MediaType::OCI_IMAGE_MANIFEST,
        reference: Reference::Tag(tag.parse().unwrap()),
        tags: Vec::new(),
        actor: Actor::anonymous(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_pushed_through_the_library_is_there_after_reopening() {
    let dir = TempDir::new().unwrap();
    let anonymous = Actor::anonymous();
    let (config, layer) = (Bytes::from_static(b"{}"), Bytes::from(vec![7; 3 << 20]));
    let payload = image(&sha256(&config), config.len(), &sha256(&layer), layer.len());
    {
        let registry = open(&dir);
        let box_ = repository(&registry, "team/box");
        box_.blobs().put(config.clone(), None, &anonymous).await.unwrap();
        let mut writer = box_.blobs().create(DigestAlgorithm::Sha256, &anonymous).unwrap();
        for piece in layer.chunks(100_000) {
            writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        let stored = writer.commit(&sha256(&layer)).await.unwrap();
        assert_eq!((stored.digest, stored.size), (sha256(&layer), layer.len() as u64));
        let pushed = box_.manifests().put(by_tag(payload.clone(), "1")).await.unwrap();
        assert_eq!(pushed.canonical, sha256(&payload));
        registry.close().await;
    }
    let registry = open(&dir);
    let box_ = repository(&registry, "team/box");
    let tag: Tag = "1".parse().unwrap();
    let (descriptor, bytes) = box_.manifests().get(&Reference::Tag(tag.clone())).unwrap().unwrap();
    assert_eq!((descriptor.digest, bytes), (sha256(&payload), payload));
    assert_eq!(box_.blobs().get(&sha256(&layer)).await.unwrap().unwrap(), layer);
    assert_eq!(box_.tags().lookup(&descriptor.digest, None, 10).unwrap().items, [tag]);
    assert!(matches!(box_.blobs().delete(&sha256(&layer)).await, Err(Error::StillReferenced { .. })));
    let report = registry.verify(Depth::Full).unwrap();
    assert_eq!((report.problems, report.orphans), (vec![], vec![]));
    assert_eq!((report.repositories, report.blobs, report.manifests, report.tags), (1, 2, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_after_the_writer_is_dropped_and_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let content = Bytes::from((0..2_000_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    let id = {
        let registry = open(&dir);
        let blobs = repository(&registry, "box").blobs();
        let mut writer = blobs.create(DigestAlgorithm::Sha256, &Actor::anonymous()).unwrap();
        let id = *writer.id();
        writer.write(content.slice(..1_000_000)).await.unwrap();
        drop(writer);
        let mut writer = blobs.resume(&id).await.unwrap().unwrap();
        assert_eq!(writer.size(), 1_000_000);
        writer.write(content.slice(1_000_000..1_100_000)).await.unwrap();
        assert_eq!(writer.checkpoint().await.unwrap(), 1_100_000);
        drop(writer);
        assert!(repository(&registry, "other").blobs().resume(&id).await.unwrap().is_none());
        registry.close().await;
        id
    };
    let registry = open(&dir);
    let blobs = repository(&registry, "box").blobs();
    let mut writer = blobs.resume(&id).await.unwrap().unwrap();
    assert_eq!(writer.size(), 1_100_000);
    writer.write(content.slice(1_100_000..)).await.unwrap();
    writer.commit(&sha256(&content)).await.unwrap();
    assert_eq!(blobs.get(&sha256(&content)).await.unwrap().unwrap(), content);
    assert!(blobs.resume(&id).await.unwrap().is_none());
    let report = registry.verify(Depth::Full).unwrap();
    assert_eq!((report.problems, report.orphans), (vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_another_digest_leave_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let registry = open(&dir);
    let blobs = repository(&registry, "box").blobs();
    for len in [0, 10, 2 << 20] {
        let mut writer = blobs.create(DigestAlgorithm::Sha256, &Actor::anonymous()).unwrap();
        let id = *writer.id();
        writer.write(Bytes::from(vec![1; len])).await.unwrap();
        let result = writer.commit(&sha256(b"something else")).await;
        assert!(matches!(result, Err(Error::DigestMismatch { .. })), "{result:?}");
        assert!(blobs.resume(&id).await.unwrap().is_none());
    }
    assert!(!repository(&registry, "box").exists().unwrap());
    let report = registry.verify(Depth::Full).unwrap();
    assert_eq!((report.problems, report.orphans, report.blobs), (vec![], vec![], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_by_sha512_is_one_revision_under_both_digests() {
    let dir = TempDir::new().unwrap();
    let registry = open(&dir);
    let manifests = repository(&registry, "box").manifests();
    let payload = Bytes::from_static(br#"{"any":"thing"}"#);
    let named = Digest::of(DigestAlgorithm::Sha512, &payload);
    let put = ManifestPut {
        payload: payload.clone(),
        media_type: "application/vnd.example+json".parse().unwrap(),
        reference: Reference::Digest(named),
        tags: vec!["a".parse().unwrap(), "b".parse().unwrap(), "a".parse().unwrap()],
        actor: Actor::anonymous(),
    };
    let pushed = manifests.put(put).await.unwrap();
    assert_eq!((pushed.digest, pushed.canonical, pushed.tags.len()), (named, sha256(&payload), 2));
    for (reference, digest) in [
        (Reference::Digest(named), named),
        (Reference::Digest(sha256(&payload)), sha256(&payload)),
        (Reference::Tag("b".parse().unwrap()), named),
    ] {
        let (descriptor, bytes) = manifests.get(&reference).unwrap().unwrap();
        assert_eq!((descriptor.digest, bytes), (digest, payload.clone()));
    }
    assert_eq!(manifests.delete(&named).await.unwrap().unwrap().len(), 2);
    assert!(manifests.stat(&Reference::Digest(sha256(&payload))).unwrap().is_none());
    assert!(registry.verify(Depth::Full).unwrap().is_clean());
}

#[path = "../examples/push_pull.rs"]
#[allow(dead_code, unreachable_pub, reason = "its main is for running it by hand")]
mod push_pull;

#[tokio::test(flavor = "multi_thread")]
async fn the_example_pushes_and_pulls() {
    let dir = TempDir::new().unwrap();
    push_pull::push_and_pull(dir.path().to_str().unwrap()).await.unwrap();
    let registry = Registry::open(Options::new(dir.path())).unwrap();
    let tag = "latest".parse().unwrap();
    assert!(repository(&registry, "team/hello").tags().get(&tag).unwrap().is_some());
}

#[path = "../examples/merge_signatures.rs"]
#[allow(dead_code, unreachable_pub, reason = "its main is for running it by hand")]
mod merge_signatures;

#[tokio::test(flavor = "multi_thread")]
async fn the_example_signs_on_two_hosts_and_reads_both_signatures_back() {
    let dir = TempDir::new().unwrap();
    let registry = open(&dir);
    // The second time the hosts have other keys, whose signatures come to those that are there.
    for hosts in [&["builder", "tester"][..], &["builder", "builder", "tester", "tester"]] {
        merge_signatures::sign_on_two_hosts(&registry).await.unwrap();
        let repository = repository(&registry, "team/hello");
        let signed = repository.manifests().stat(&"signed".parse().unwrap()).unwrap().unwrap();
        let signatures = repository.signatures().get(&signed.canonical).unwrap().unwrap();
        let mut actors: Vec<_> = signatures.iter().map(|signature| signature.actor.as_str()).collect();
        actors.sort_unstable();
        assert_eq!(actors, hosts);
    }
    assert!(registry.verify(Depth::Full).unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn syncs_and_bytes_read_back_are_counted() {
    let dir = TempDir::new().unwrap();
    let options = Options::new(dir.path().join("data"));
    let metrics = options.metrics.clone();
    let registry = Registry::open(options).unwrap();
    let blobs = repository(&registry, "box").blobs();
    let content = Bytes::from(vec![5; 1_000_000]);
    let mut writer = blobs.create(DigestAlgorithm::Sha256, &Actor::anonymous()).unwrap();
    writer.write(content.clone()).await.unwrap();
    writer.commit(&sha256(&content)).await.unwrap();
    assert_eq!((metrics.rehashed_bytes(), metrics.commits()), (0, 1));
    // An algorithm that nobody announced costs one reading.
    let mut writer = blobs.create(DigestAlgorithm::Sha256, &Actor::anonymous()).unwrap();
    writer.write(content.clone()).await.unwrap();
    writer.commit(&Digest::of(DigestAlgorithm::Sha512, &content)).await.unwrap();
    assert_eq!(metrics.rehashed_bytes(), 1_000_000);
    // One that was announced costs none.
    let mut writer = blobs.create(DigestAlgorithm::Sha512, &Actor::anonymous()).unwrap();
    writer.write(content.clone()).await.unwrap();
    writer.commit(&Digest::of(DigestAlgorithm::Sha512, &content)).await.unwrap();
    assert_eq!(metrics.rehashed_bytes(), 1_000_000);
}

/// `verify` took the second row of such a child to be there without reason.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_came_before_and_after_its_child_by_sha512_verifies_clean() {
    let dir = TempDir::new().unwrap();
    let mut options = Options::new(dir.path().join("data"));
    options.policy.allow_sparse_indexes = true;
    let registry = Registry::open(options).unwrap();
    let (manifests, blobs) = (repository(&registry, "box").manifests(), repository(&registry, "box").blobs());
    let child = Bytes::from_static(b"{}");
    let strong = Digest::of(DigestAlgorithm::Sha512, &child);
    let index = Bytes::from(format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/x","digest":"{strong}","size":2}}]}}"#
    ));
    for _ in ["before", "after"] {
        let put = ManifestPut { media_type: MediaType::OCI_IMAGE_INDEX, ..by_tag(index.clone(), "1") };
        manifests.put(put).await.unwrap();
        blobs.put(child.clone(), Some(&strong), &Actor::anonymous()).await.unwrap();
    }
    assert_eq!(registry.verify(Depth::Full).unwrap().problems, [""; 0]);
    assert!(matches!(blobs.delete(&strong).await, Err(Error::StillReferenced { .. })));
}
