//! Deletions and what goes on before they are undone: nobody reads what is deleted, and what comes back stays.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "collection/store.rs"]
mod store;

use orlop::oci::{Digest, DigestAlgorithm, Reference};
use orlop::registry::{Actor, Collection, DeletedName, Error, Force, ManifestPut};
use store::{
    HOUR, IMAGE, INDEX, Store, image, index, media_type, no_undo, push, push_blob, push_image, sha256, tag,
    try_push,
};

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

/// What a live manifest names was let go by force, came back, and was collected after its lease, from under that manifest.
#[tokio::test]
async fn what_was_deleted_by_force_is_kept_again_when_it_is_back() {
    let store = Store::new(undo());
    let app = store.repository("app");
    let child = push_image(&app, &["one", "two"], &[]).await;
    let parent = push(&app, INDEX, &index(&[&image(&["one", "two"], None)]), &["multi"]).await;
    app.blobs().delete_with(sha256(b"one"), Force::Yes).await.unwrap();
    app.manifests().delete_with(&child, Force::Yes).await.unwrap().unwrap();
    store.check();
    push_blob(&app, "one").await;
    app.deletions().undelete(&DeletedName::Digest(child), &Actor::anonymous()).await.unwrap();
    store.check();
    store.pass(HOUR * 48);
    store.collect().await;
    assert!(app.manifests().exists(&child).unwrap());
    for blob in [b"one", b"two"] {
        assert!(app.blobs().stat(sha256(blob)).unwrap().is_some());
    }
    let refused = app.manifests().delete(&child).await;
    assert!(matches!(refused, Err(Error::StillReferenced { parents, .. }) if parents == [parent]));

    // The parent is deleted without its child, which is back before it.
    app.manifests().delete_with(&child, Force::Yes).await.unwrap().unwrap();
    app.manifests().delete(&parent).await.unwrap().unwrap();
    push(&app, IMAGE, &image(&["one", "two"], None), &[]).await;
    app.deletions().undelete(&DeletedName::Digest(parent), &Actor::anonymous()).await.unwrap();
    store.check();
    store.pass(HOUR * 48);
    store.collect().await;
    assert!(app.manifests().exists(&child).unwrap());
}

/// Whoever pushes a blob by its sha512 says so for all repositories, and another one's manifest had named it by that.
#[tokio::test]
async fn another_repository_learns_by_which_digest_a_manifest_names_a_blob() {
    let store = Store::new(no_undo());
    let (app, other) = (store.repository("app"), store.repository("other"));
    push_blob(&app, "config").await;
    let foreign = push_blob(&app, "foreign").await;
    let sha512 = Digest::of(DigestAlgorithm::Sha512, b"foreign");
    let kind = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    let whole = image(&["config"], None);
    let (head, _) = whole.split_once(r#""layers""#).unwrap();
    let layers = format!(r#""layers":[{{"mediaType":"{kind}","digest":"{sha512}","size":7}}]}}"#);
    push(&app, IMAGE, &format!("{head}{layers}"), &["v1"]).await;
    other.blobs().put("foreign".into(), Some(&sha512), &Actor::anonymous()).await.unwrap();
    store.check();
    app.blobs().put("foreign".into(), Some(&sha512), &Actor::anonymous()).await.unwrap();
    store.check();
    store.pass(HOUR * 3);
    store.collect().await;
    assert!(app.blobs().stat(foreign).unwrap().is_some());
}

/// A list of referrers that names them by sha512 could get no tag of its own, since they seemed to be missing.
#[tokio::test]
async fn a_list_by_other_digests_can_get_a_name_of_its_own() {
    let store = Store::new(no_undo());
    let app = store.repository("app");
    let payload = image(&["one"], None);
    push_image(&app, &["one"], &[]).await;
    let sha512 = Digest::of(DigestAlgorithm::Sha512, payload.as_bytes());
    let put = |payload: String, kind: &str, reference| ManifestPut {
        payload: payload.into(),
        media_type: media_type(kind),
        reference,
        tags: Vec::new(),
        actor: Actor::anonymous(),
    };
    app.manifests().put(put(payload.clone(), IMAGE, Reference::Digest(sha512))).await.unwrap();
    let size = payload.len();
    let list = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{IMAGE}","digest":"{sha512}","size":{size}}}]}}"#
    );
    let fallback = tag(&format!("sha256-{}", "a".repeat(64)));
    let list = app.manifests().put(put(list, INDEX, Reference::Tag(fallback))).await.unwrap().canonical;
    app.tags().tag(&list, &tag("named"), &Actor::anonymous()).await.unwrap();
    store.check();
    let refused = app.manifests().delete(&sha256(payload.as_bytes())).await;
    assert!(matches!(refused, Err(Error::StillReferenced { parents, .. }) if parents == [list]));
    store.pass(HOUR * 3);
    store.collect().await;
    assert!(app.manifests().exists(&sha512).unwrap());
}

/// A repository under a former name of another one was told of that rename whenever it lacked a blob.
#[tokio::test]
async fn a_former_name_is_just_a_name_after_a_while() {
    let store = Store::new(no_undo());
    let app = store.repository("app");
    push_image(&app, &["one"], &["v1"]).await;
    app.deletions().rename(&"moved".parse().unwrap()).await.unwrap();
    store.pass(HOUR / 60);
    // A push that has begun before the rename goes on, with blobs that aren't there any more.
    push_blob(&app, "two").await;
    let push = async || try_push(&app, IMAGE, &image(&["one", "two"], None), &["v2"]).await;
    assert!(matches!(push().await, Err(Error::RepositoryRenamed { .. })));
    store.pass(HOUR);
    assert!(matches!(push().await, Err(Error::ManifestReferencesUnknown(_))));
}
