//! What repositories and the store may hold: what counts against which quota, and what a refusal leaves.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "collection/store.rs"]
mod store;

use bytes::Bytes;
use orlop::oci::DigestAlgorithm;
use orlop::registry::{Actor, Collection, Error, NameScope, Policy, Quota, Quotas, Repository};
use store::{HOUR, IMAGE, Store, image, no_undo, push_blob, sha256, try_push};

fn store(of_each: Option<u64>, of_all: Option<u64>) -> Store {
    let repositories = of_each.map(|max_bytes| Quota { repositories: NameScope::everything(), max_bytes });
    let quotas = Quotas { store_bytes: of_all, repositories: repositories.into_iter().collect() };
    let collection = Collection { undo: HOUR * 24, ..no_undo() };
    Store::with(Policy { collection, quotas, ..Policy::default() })
}

async fn put(repository: &Repository, text: &'static str) -> Result<(), Error> {
    let bytes = Bytes::from_static(text.as_bytes());
    repository.blobs().put(bytes, None, &Actor::anonymous()).await.map(drop)
}

#[track_caller]
fn refused_by(result: Result<impl Sized, Error>, whose: &str) {
    match result {
        Err(Error::QuotaExceeded { of, .. }) => assert_eq!(of, whose),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was taken"),
    }
}

#[tokio::test]
async fn a_repository_counts_what_it_has_once_and_what_it_shares_in_full() {
    let store = store(Some(15), None);
    let (app, other) = (store.repository("app"), store.repository("other"));
    put(&app, "abcde").await.unwrap();
    put(&app, "abcde").await.unwrap();
    refused_by(put(&app, "0123456789+").await, "app");
    put(&app, "0123456789").await.unwrap();

    put(&other, "0123456").await.unwrap();
    let digest = sha256(b"0123456789");
    refused_by(other.blobs().mount(digest, Some(app.name()), &Actor::anonymous()).await, "other");
    assert!(other.blobs().stat(digest).unwrap().is_none());
    other.blobs().mount(sha256(b"abcde"), Some(app.name()), &Actor::anonymous()).await.unwrap().unwrap();
    refused_by(put(&other, "wxyz").await, "other");
    assert_eq!(other.sizes().unwrap().unwrap().bytes, 12);
    store.check();
}

#[tokio::test]
async fn what_is_refused_leaves_nothing() {
    let store = store(Some(12), None);
    let app = store.repository("app");
    refused_by(put(&app, "more than twelve bytes").await, "app");
    assert!(!app.exists().unwrap());
    // Two that fit alone, under way at once.
    let mut writers = Vec::new();
    for text in ["0123456", "abcdefg"] {
        let mut writer = app.blobs().create(DigestAlgorithm::Sha256, &Actor::anonymous()).unwrap();
        writer.write(Bytes::from_static(text.as_bytes())).await.unwrap();
        writer.flush().await.unwrap();
        writers.push((text, writer));
    }
    let mut results = Vec::new();
    for (text, mut writer) in writers {
        results.push(writer.commit(&sha256(text.as_bytes())).await);
    }
    refused_by(results.pop().unwrap(), "app");
    results.pop().unwrap().unwrap();

    let manifest = image(&["0123456"], None);
    refused_by(try_push(&app, IMAGE, &manifest, &["v1"]).await, "app");
    assert!(!app.manifests().exists(&sha256(manifest.as_bytes())).unwrap());
    assert_eq!(app.tags().list(None, 10).unwrap().items, []);
    assert_eq!((store.blobs(), app.sizes().unwrap().unwrap().bytes), (1, 7));
    assert_eq!(store.registry.status().unwrap().uploads, 0);
    store.check();
}

#[tokio::test]
async fn what_can_be_undeleted_counts_against_the_store_alone() {
    let store = store(Some(15), Some(25));
    let app = store.repository("app");
    let digest = push_blob(&app, "0123456789").await;
    assert!(app.blobs().delete(digest).await.unwrap());
    put(&app, "abcdefghij").await.unwrap();
    let other = store.repository("other");
    refused_by(put(&other, "0123456").await, "this registry");
    // What the store has already takes no place there.
    other.blobs().mount(sha256(b"abcdefghij"), None, &Actor::anonymous()).await.unwrap().unwrap();

    assert_eq!(store.registry.purge_deletions().await.unwrap(), 1);
    store.collect().await;
    put(&store.repository("third"), "0123456").await.unwrap();
    store.check();
}
