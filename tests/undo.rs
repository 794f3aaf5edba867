//! Deletions and what goes on before they are undone: nobody reads what is deleted, and what comes back stays.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "collection/store.rs"]
mod store;

use orlop::oci::{Digest, DigestAlgorithm, Reference};
use orlop::registry::{
    Actor, Collection, DeletedName, Error, Force, ManifestPut, NameScope, Policy, Quota, Quotas,
};
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

/// What was deleted before its repository couldn't be purged after it, nor undeleted, and stayed for the rest of its window.
#[tokio::test]
async fn a_purged_repository_takes_what_was_deleted_from_it_along() {
    let store = Store::new(undo());
    let app = store.repository("app");
    let secret = push_image(&app, &["secret"], &["v1"]).await;
    app.manifests().delete(&secret).await.unwrap();
    app.deletions().delete_repository().await.unwrap();
    app.deletions().purge(&DeletedName::Repository).await.unwrap();
    store.pass(HOUR * 2);
    let plan = store.registry.collection_plan().unwrap();
    let collected = store.collect().await;
    assert_eq!((collected.deletions, collected.blobs), (2, 1));
    assert_eq!((plan.deletions, plan.due), (0, collected));
    assert_eq!(store.blobs(), 0);
}

/// Of two deleted repositories of one name the older one came back, where it had got the name later.
#[tokio::test]
async fn the_repository_that_was_deleted_last_comes_back() {
    let store = Store::new(undo());
    let (old, app) = (store.repository("old"), store.repository("app"));
    push_image(&old, &["old"], &["old"]).await;
    push_image(&app, &["young"], &["young"]).await;
    app.deletions().delete_repository().await.unwrap();
    store.pass(HOUR);
    old.deletions().rename(app.name()).await.unwrap();
    app.deletions().delete_repository().await.unwrap();
    app.deletions().undelete(&DeletedName::Repository, &Actor::anonymous()).await.unwrap();
    assert!(app.tags().get(&tag("old")).unwrap().is_some());
    store.check();
}

/// Deleting, filling the place and undeleting was a way around a quota.
#[tokio::test]
async fn nothing_comes_back_over_a_quota() {
    let size = image(&["0000000001"], None).len() as u64 + 10;
    let repositories = vec![Quota { repositories: NameScope::everything(), max_bytes: size * 3 / 2 }];
    let quotas = Quotas { store_bytes: None, repositories };
    let store = Store::with(Policy { collection: undo(), quotas, ..Policy::default() });
    let app = store.repository("app");
    let first = push_image(&app, &["0000000001"], &["v1"]).await;
    app.manifests().delete(&first).await.unwrap().unwrap();
    app.blobs().delete(sha256(b"0000000001")).await.unwrap();
    let second = push_image(&app, &["0000000002"], &["v1"]).await;
    app.tags().tag(&second, &tag("v2"), &Actor::anonymous()).await.unwrap();
    app.tags().untag(&tag("v1")).await.unwrap();
    let undelete = async || app.deletions().undelete(&DeletedName::Digest(first), &Actor::anonymous()).await;
    assert!(matches!(undelete().await, Err(Error::QuotaExceeded { .. })));
    assert_eq!(app.sizes().unwrap().unwrap().bytes, size, "what was refused leaves nothing");
    store.check();
    app.manifests().delete(&second).await.unwrap().unwrap();
    app.blobs().delete(sha256(b"0000000002")).await.unwrap();
    undelete().await.unwrap();
    store.check();
}

/// A dry run left out what only deletions past their window have, and blobs whose links go all at once.
#[tokio::test]
async fn a_plan_says_what_the_collection_does_then() {
    let store = Store::new(undo());
    let (app, other) = (store.repository("app"), store.repository("other"));
    let digest = push_image(&app, &["deleted"], &["v1"]).await;
    app.manifests().delete(&digest).await.unwrap().unwrap();
    push_blob(&app, "unneeded by both").await;
    push_blob(&other, "unneeded by both").await;
    store.pass(HOUR * 24);
    let plan = store.registry.collection_plan().unwrap();
    assert_eq!((plan.due.deletions, plan.due.blobs, plan.due.bytes), (1, 2, 23));
    assert_eq!(plan.due, store.collect().await);
}

/// All that can be undone is over at once, however many deletions there are.
#[tokio::test]
async fn everything_is_purged_in_steps() {
    let store = Store::new(undo());
    let app = store.repository("app");
    let digest = push_image(&app, &["one"], &[]).await;
    for _ in 0..1_100 {
        app.tags().tag(&digest, &tag("v1"), &Actor::anonymous()).await.unwrap();
        app.tags().untag(&tag("v1")).await.unwrap();
    }
    assert_eq!(store.registry.purge_deletions().await.unwrap(), 1_100);
    assert_eq!(store.registry.purge_deletions().await.unwrap(), 0);
    assert_eq!(store.collect().await.deletions, 1_100);
}

#[tokio::test]
async fn what_is_deleted_is_known_by_its_other_digest_too() {
    let store = Store::new(undo());
    let app = store.repository("app");
    let sha512 = Digest::of(DigestAlgorithm::Sha512, b"layer");
    app.blobs().put("layer".into(), Some(&sha512), &Actor::anonymous()).await.unwrap();
    assert!(app.blobs().delete(sha512).await.unwrap());
    assert!(app.blobs().stat(sha256(b"layer")).unwrap().is_none());
    app.deletions().undelete(&DeletedName::Digest(sha512), &Actor::anonymous()).await.unwrap();
    assert!(app.blobs().stat(sha512).unwrap().is_some());
    store.check();
}
