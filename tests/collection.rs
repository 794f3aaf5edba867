//! What goes on while something is collected: each test is a race that was lost once, or could be.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "collection/store.rs"]
mod store;

use std::time::Duration;

use futures_util::FutureExt;
use orlop::oci::{Digest, DigestAlgorithm, Reference};
use orlop::registry::{Actor, Collection, DeletedName, Error};
use store::{
    HELD, HOUR, IMAGE, INDEX, LEASE, MINUTE, Store, image, index, no_undo, push, push_blob, push_image,
    sha256, tag, try_push,
};

const SECOND: Duration = Duration::from_secs(1);

/// A deletion was found to be over and taken apart in steps; undeleting it between two of them, with a time that had been
/// read before, or after the clock was set back, brought the rest back without what was gone.
#[tokio::test]
async fn a_deletion_that_is_half_gone_does_not_come_back() {
    let store = Store::new(Collection { undo: MINUTE, ..no_undo() });
    let app = store.repository("app");
    let layers: Vec<String> = (0..300).map(|number| format!("layer {number}")).collect();
    let layers: Vec<&str> = layers.iter().map(String::as_str).collect();
    let digest = push_image(&app, &layers, &["v1"]).await;
    app.manifests().delete(&digest).await.unwrap().unwrap();
    store.pass(MINUTE);
    let (step, more) = store.registry.collect_step().await.unwrap();
    assert_eq!((step.deletions, more), (0, true), "it takes more than one step");
    store.check();

    store.clock.set(store::BEGIN);
    let back = app.deletions().undelete(&DeletedName::Digest(digest), &Actor::anonymous()).await;
    assert!(matches!(back, Err(Error::DeletionUnknown)), "{back:?}");
    store.check();
    store.pass(HOUR * 2);
    assert_eq!(store.collect().await.deletions, 1);
    assert_eq!(store.blobs(), 0);
}

/// With more referrers than one step removes, the signature's tag went in the first step, and its manifest was forgotten:
/// untagged, and not known as that.
#[tokio::test]
async fn all_that_follows_a_manifest_goes_in_however_many_steps() {
    let store = Store::new(no_undo());
    let app = store.repository("app");
    let subject = image(&["one"], None);
    let digest = push_image(&app, &["one"], &["v1"]).await;
    for number in 0..70 {
        let layer = format!("about {number}");
        push_blob(&app, &layer).await;
        push(&app, IMAGE, &image(&[&layer], Some(&subject)), &[]).await;
    }
    let signature = format!("{}.sig", digest.to_string().replace(':', "-"));
    push_image(&app, &["signed"], &[&signature]).await;
    app.manifests().delete(&digest).await.unwrap().unwrap();
    store.pass(HELD);
    loop {
        let (_, more) = store.registry.collect_step().await.unwrap();
        store.check();
        if !more {
            break;
        }
    }
    assert!(app.manifests().all(None, 10).unwrap().items.is_empty());
    assert!(app.tags().list(None, 10).unwrap().items.is_empty());
    store.pass(HOUR);
    store.collect().await;
    assert_eq!(store.blobs(), 0);
}

/// A referrer, and the tag of a signature, may be pushed before what they are about. They were taken for what a subject of
/// long ago had left behind.
#[tokio::test]
async fn what_comes_after_a_subject_was_deleted_does_not_follow_it() {
    for undo in [Duration::ZERO, MINUTE] {
        let store = Store::new(Collection { undo, ..no_undo() });
        let app = store.repository("app");
        let subject = image(&["one"], None);
        let digest = push_image(&app, &["one"], &["v1"]).await;
        push_blob(&app, "former").await;
        let former = push(&app, IMAGE, &image(&["former"], Some(&subject)), &[]).await;
        app.manifests().delete(&digest).await.unwrap().unwrap();

        store.pass(SECOND);
        push_blob(&app, "later").await;
        let later = push(&app, IMAGE, &image(&["later"], Some(&subject)), &[]).await;
        let signature = format!("{}.sig", digest.to_string().replace(':', "-"));
        push_image(&app, &["signed"], &[&signature]).await;
        for _ in 0..4 {
            store.pass(HOUR);
            store.collect().await;
        }
        assert!(!app.manifests().exists(&former).unwrap(), "it has followed");
        assert!(app.manifests().exists(&later).unwrap());
        assert!(app.tags().get(&tag(&signature)).unwrap().is_some());
        push_image(&app, &["one"], &["v1"]).await;
        assert!(app.blobs().get(sha256(b"later")).await.unwrap().is_some());
        store.check();
    }
}

/// A collection that was held looked at the same blobs again and again, and never came to its end.
#[tokio::test]
async fn a_held_collection_ends_and_goes_on_with_everything_else() {
    let store = Store::new(no_undo());
    let app = store.repository("app");
    for number in 0..200 {
        push_blob(&app, &format!("blob {number}")).await;
    }
    store.pass(HELD);
    let hold = store.registry.hold_collection().await;
    let collected = tokio::time::timeout(MINUTE, store.collect()).await.expect("it ends");
    assert_eq!((collected.links, collected.blobs), (200, 0));
    drop(hold);
    assert_eq!(store.collect().await.blobs, 200);
}

/// Of the untagged manifests whose grace was over the first 64 were looked at. Where somebody held these, by pulling them
/// by digest, no other one ever went.
#[tokio::test]
async fn what_is_held_keeps_nothing_else_from_being_collected() {
    let store = Store::new(no_undo());
    let (held, other) = (store.repository("held"), store.repository("other"));
    let mut digests = Vec::new();
    for number in 0..70 {
        digests.push(push_image(&held, &[&format!("layer {number}")], &[]).await);
    }
    let gone = push_image(&other, &["other"], &[]).await;
    store.pass(LEASE);
    for digest in &digests {
        held.manifests().hold(&Reference::Digest(*digest)).await.unwrap();
    }
    store.pass(HELD.saturating_sub(LEASE));
    assert_eq!(store.collect().await.manifests, 1);
    assert!(!other.manifests().exists(&gone).unwrap());
    assert!(digests.iter().all(|digest| held.manifests().exists(digest).unwrap()));
}

/// Whatever upload was open kept everything, so that a busy repository never gave anything back.
#[tokio::test]
async fn an_upload_extends_no_lease_that_had_ended_before_it_began() {
    let store = Store::new(no_undo());
    let app = store.repository("app");
    push_blob(&app, "early").await;
    let early = app.blobs().create(DigestAlgorithm::Sha256, &Actor::anonymous()).unwrap();
    store.pass(HELD.saturating_sub(SECOND));
    drop(early);
    // From here on there is always an upload under way.
    let mut open = Vec::new();
    for _ in 0..60 {
        let mut upload = app.blobs().create(DigestAlgorithm::Sha256, &Actor::anonymous()).unwrap();
        upload.write(vec![1; 10].into()).await.unwrap();
        upload.checkpoint().await.unwrap();
        open.push(upload);
        if open.len() > 3 {
            open.remove(0).cancel().await.unwrap();
        }
        store.pass(MINUTE * 2);
        store.collect().await;
    }
    assert!(app.blobs().stat(sha256(b"early")).unwrap().is_none());
}

/// A long upload kept what its client had been told of until the lease ended next, which might be the moment of its end.
#[tokio::test]
async fn what_an_upload_has_extended_stays_for_a_lease_after_its_end() {
    for restarts in [false, true] {
        let mut store = Store::new(no_undo());
        let app = store.repository("app");
        push_blob(&app, "first layer").await;
        let mut upload = app.blobs().create(DigestAlgorithm::Sha256, &Actor::anonymous()).unwrap();
        let id = *upload.id();
        upload.write(vec![1; 10].into()).await.unwrap();
        upload.checkpoint().await.unwrap();
        // Its last bytes come just before a lease that was extended once would end.
        for _ in 0..5 {
            store.pass(LEASE / 2);
            upload.write(vec![2; 10].into()).await.unwrap();
            upload.checkpoint().await.unwrap();
            store.collect().await;
        }
        drop((upload, app));
        if restarts {
            store = store.restart().await;
            store.pass(LEASE.saturating_sub(SECOND));
            store.collect().await;
        }
        let app = store.repository("app");
        let mut upload = app.blobs().resume(&id).await.unwrap().unwrap();
        let second = [vec![1; 10], vec![2; 50]].concat();
        upload.commit(&sha256(&second)).await.unwrap();
        let until = if restarts { LEASE / 2 } else { LEASE.saturating_sub(SECOND) };
        store.pass(until);
        store.collect().await;
        let second = String::from_utf8(second).unwrap();
        push(&app, IMAGE, &image(&["first layer", &second], None), &["v1"]).await;
        store.check();
    }
}

/// The background task was stopped between the commit that removes a row and the removal of the file.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_nobody_waits_for_leaves_no_file() {
    for polls in 0..8 {
        let store = Store::new(no_undo());
        let app = store.repository("app");
        push_blob(&app, "alone").await;
        app.blobs().delete(sha256(b"alone")).await.unwrap();
        let mut collection = Box::pin(store.registry.collect(|_| {}));
        for _ in 0..polls {
            if (&mut collection).now_or_never().is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop((collection, app));
        let store = store.restart().await;
        store.check();
    }
}

/// The last deletion of a name was purged, and the one before it couldn't be undone any more.
#[tokio::test]
async fn a_purged_deletion_hides_none_before_it() {
    let store = Store::new(Collection { undo: HOUR, ..no_undo() });
    let app = store.repository("app");
    let first = push_image(&app, &["first"], &["v1"]).await;
    app.deletions().delete_repository().await.unwrap();
    push_image(&app, &["second"], &["v1"]).await;
    app.deletions().delete_repository().await.unwrap();
    app.deletions().purge(&DeletedName::Repository).await.unwrap();
    app.deletions().undelete(&DeletedName::Repository, &Actor::anonymous()).await.unwrap();
    assert_eq!(app.tags().get(&tag("v1")).unwrap().unwrap().canonical, first);
    store.collect().await;
    assert!(app.blobs().stat(sha256(b"first")).unwrap().is_some());
}

/// A manifest that is pushed again by its digest is as good as pulled: its grace begins anew.
#[tokio::test]
async fn an_untagged_manifest_that_is_pushed_again_stays_for_its_grace() {
    let store = Store::new(Collection { untagged_grace: Some(HOUR * 10), ..no_undo() });
    let app = store.repository("app");
    let digest = push_image(&app, &["one"], &[]).await;
    store.pass((HOUR * 10).saturating_sub(SECOND));
    push_image(&app, &["one"], &[]).await;
    store.pass(HOUR * 9);
    store.collect().await;
    assert!(app.manifests().exists(&digest).unwrap());
    store.pass(HOUR * 4);
    store.collect().await;
    assert!(!app.manifests().exists(&digest).unwrap());
}

/// A blob that a manifest names by sha512 has that name from another request, and was a candidate for collection all the
/// same.
#[tokio::test]
async fn content_that_is_named_by_its_other_digest_is_no_candidate() {
    let store = Store::new(no_undo());
    let app = store.repository("app");
    push_blob(&app, "config").await;
    let sha512 = Digest::of(DigestAlgorithm::Sha512, b"foreign");
    let foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    let named = format!(r#""layers":[{{"mediaType":"{foreign}","digest":"{sha512}","size":7}}]"#);
    let whole = image(&["config"], None);
    let (head, _) = whole.split_once(r#""layers""#).unwrap();
    push(&app, IMAGE, &format!("{head}{named}}}"), &["v1"]).await;
    let canonical = push_blob(&app, "foreign").await;
    app.blobs().set_descriptor(sha512, canonical).await.unwrap();
    store.check();
    store.pass(HOUR * 3);
    store.collect().await;
    assert!(app.blobs().stat(canonical).unwrap().is_some());
}

/// What HEAD has answered holds to the last moment of the lease, for a manifest as for a blob.
#[tokio::test]
async fn an_index_can_name_what_was_there_for_as_long_as_the_lease() {
    let store = Store::new(no_undo());
    let app = store.repository("app");
    let digest = push_image(&app, &["one"], &[]).await;
    store.pass(HELD.saturating_sub(SECOND));
    app.manifests().hold(&Reference::Digest(digest)).await.unwrap();
    store.pass(LEASE.saturating_sub(SECOND));
    store.collect().await;
    try_push(&app, INDEX, &index(&[&image(&["one"], None)]), &["multi"]).await.unwrap();
    store.check();
}

/// Each deletion had a commit of its own, two syncs, so that those of one run of a policy took minutes.
#[tokio::test]
async fn one_step_ends_several_deletions() {
    let store = Store::new(Collection { undo: MINUTE, ..no_undo() });
    let app = store.repository("app");
    for number in 0..4 {
        let digest = push_image(&app, &[&format!("layer {number}")], &[&format!("v{number}")]).await;
        app.manifests().delete(&digest).await.unwrap().unwrap();
    }
    store.pass(MINUTE);
    let (step, _) = store.registry.collect_step().await.unwrap();
    assert_eq!(step.deletions, 4);
    store.check();
}

/// The end of a deletion, the link that it left behind, and the blob that lost its last link by that had a commit each, of two
/// syncs, one after the other.
#[tokio::test]
async fn a_deleted_image_goes_in_one_commit() {
    let (store, metrics) = Store::counting(Collection { undo: MINUTE, ..no_undo() });
    let app = store.repository("app");
    push_image(&app, &["shared"], &["v1"]).await;
    let digest = push_image(&app, &["own", "shared"], &["v2"]).await;
    app.manifests().delete(&digest).await.unwrap().unwrap();
    store.pass(HELD + MINUTE);
    let before = metrics.commits();
    let gone = store.collect().await;
    assert_eq!((gone.deletions, gone.links, gone.blobs), (1, 1, 1), "{gone:?}");
    assert_eq!(metrics.commits() - before, 1);
}

/// What a collection would do was found out by one look at all candidates, which held them all in memory and its view open;
/// it reads pages of a thousand now.
#[tokio::test]
async fn a_plan_counts_more_than_it_names() {
    let store = Store::new(no_undo());
    let app = store.repository("app");
    // Nobody has more uploads open at once than they may.
    for numbers in [0..550, 550..1_100] {
        let blobs = numbers.map(|number| {
            let app = app.clone();
            async move { push_blob(&app, &format!("blob {number:04}")).await }
        });
        futures_util::future::join_all(blobs).await;
    }
    let plan = store.registry.collection_plan().unwrap();
    assert_eq!((plan.leased, plan.kept.len()), ((1_100, 1_100 * 9), 1_000));
    store.pass(HELD);
    let plan = store.registry.collection_plan().unwrap();
    assert_eq!((plan.due.links, plan.due.blobs, plan.due.bytes), (1_100, 1_100, 1_100 * 9));
    assert_eq!(plan.leased, (0, 0));
}
