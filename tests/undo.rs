//! Deletions and what goes on before they are undone: nobody reads what is deleted, and what comes back stays.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "collection/store.rs"]
mod store;

use orlop::registry::{Actor, Collection, DeletedName};
use store::{HOUR, Store, no_undo, push_blob};

fn undo() -> Collection {
    Collection { undo: HOUR * 24, ..no_undo() }
}

/// A mount without a source took the blob from wherever it was, deletions and deleted repositories too.
#[tokio::test]
async fn nobody_mounts_what_is_deleted() {
    let store = Store::new(undo());
    let (app, thief) = (store.repository("app"), store.repository("thief"));
    let secret = push_blob(&app, "secret").await;
    assert!(app.blobs().delete(secret).await.unwrap());
    let mount = async |from| thief.blobs().mount(secret, from, &Actor::anonymous()).await.unwrap();
    assert!(mount(None).await.is_none(), "a deletion has it");
    assert!(mount(Some(app.name())).await.is_none());
    app.deletions().undelete(&DeletedName::Digest(secret), &Actor::anonymous()).await.unwrap();
    app.deletions().delete_repository().await.unwrap();
    assert!(mount(None).await.is_none(), "a deleted repository has it");
    assert!(mount(Some(app.name())).await.is_none());
    assert!(!thief.exists().unwrap());

    // Who has it lives, and comes behind in the order of the repositories.
    push_blob(&store.repository("living"), "secret").await;
    assert!(mount(None).await.is_some());
    store.check();
}
