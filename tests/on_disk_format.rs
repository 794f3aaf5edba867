//! What lies in a data directory, name by name and byte by byte, as `docs/storage-format.md` promises it.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has to fail")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bytes::Bytes;
use orlop::oci::{Digest, DigestAlgorithm, Reference};
use orlop::registry::{Actor, ManifestPut, Options, Registry};

/// Every path below a directory with its mode, directories with a slash at the end.
fn tree(root: &Path) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            let mut path = entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if metadata.is_dir() {
                dirs.push(entry.path());
                path.push('/');
            }
            found.insert(path, metadata.permissions().mode() & 0o777);
        }
    }
    found
}

#[tokio::test]
async fn a_data_directory_holds_what_is_documented_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let registry = Registry::open(Options::new(&data)).unwrap();
    let repository = registry.namespace().repository(&"library/hello".parse().unwrap());
    let actor = Actor::anonymous();
    let blobs = repository.blobs();
    blobs.put(Bytes::from_static(b"hello\n"), None, &actor).await.unwrap();
    blobs.put(Bytes::new(), None, &actor).await.unwrap();
    // Named by another digest, and stored by the canonical one all the same.
    let named = Digest::of(DigestAlgorithm::Sha512, b"by sha512");
    blobs.put(Bytes::from_static(b"by sha512"), Some(&named), &actor).await.unwrap();
    let put = ManifestPut {
        payload: Bytes::from_static(br#"{"note":"payloads lie in the database"}"#),
        media_type: "application/vnd.example+json".parse().unwrap(),
        reference: Reference::Tag("v1".parse().unwrap()),
        tags: Vec::new(),
        actor: actor.clone(),
    };
    repository.manifests().put(put).await.unwrap();
    let mut writer = blobs.create(DigestAlgorithm::Sha256, &actor).unwrap();
    writer.write(Bytes::from_static(b"so far")).await.unwrap();
    writer.checkpoint().await.unwrap();
    let upload = format!("uploads/{}", writer.id());
    drop((writer, blobs, repository));
    registry.close().await;

    let expected = [
        ("blobs/", 0o700),
        ("blobs/sha256/", 0o700),
        ("blobs/sha256/58/", 0o700),
        ("blobs/sha256/58/5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03", 0o600),
        ("blobs/sha256/d0/", 0o700),
        ("blobs/sha256/d0/d01fe6b2a804a459cbb46e23f6d051d8173893743bfe61da5f299a9e2725930d", 0o600),
        ("blobs/sha256/e3/", 0o700),
        ("blobs/sha256/e3/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 0o600),
        ("lock", 0o600),
        ("metadata.redb", 0o600),
        ("quarantine/", 0o700),
        ("uploads/", 0o700),
        (upload.as_str(), 0o600),
    ];
    let expected: BTreeMap<String, u32> =
        expected.into_iter().map(|(path, mode)| (path.to_owned(), mode)).collect();
    assert_eq!(tree(&data), expected);

    let read = |path: &str| std::fs::read(data.join(path)).unwrap();
    assert_eq!(
        read("blobs/sha256/58/5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"),
        b"hello\n"
    );
    assert_eq!(read(&upload), b"so far");
    assert_eq!(read("lock"), b"");
    let database = read("metadata.redb");
    assert_eq!(&database[..9], b"redb\x1a\x0a\xa9\x0d\x0a");
    let payload = b"payloads lie in the database";
    assert!(database.windows(payload.len()).any(|window| window == payload));
}
