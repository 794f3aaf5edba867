//! Deleting, undoing and collecting: what comes back, what stays, and what goes when.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use orlop::clock::{ManualClock, Timestamp};
use orlop::oci::{Digest, DigestAlgorithm, Reference, Tag};
use orlop::registry::{
    Actor, Collected, Collection, DeletedKind, DeletedName, Depth, Error, Force, ManifestPut, Options,
    Policy, Registry, Repository, Root,
};
use tempfile::TempDir;

const BEGIN: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

struct Store {
    registry: Registry,
    clock: Arc<ManualClock>,
    dir: TempDir,
}

impl Store {
    fn new(collection: Collection) -> Store {
        let dir = TempDir::new().unwrap();
        let clock = Arc::new(ManualClock::new(BEGIN));
        let mut options = Options::new(dir.path());
        options.clock = clock.clone();
        options.policy = Policy { collection, ..Policy::default() };
        Store { registry: Registry::open(options).unwrap(), clock, dir }
    }

    fn repository(&self, name: &str) -> Repository {
        self.registry.namespace().repository(&name.parse().unwrap())
    }

    fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    async fn collect(&self) -> Collected {
        let collected = self.registry.collect(|_| {}).await.unwrap();
        self.check();
        collected
    }

    #[track_caller]
    fn check(&self) {
        let report = self.registry.verify(Depth::Full).unwrap();
        let orphans: Vec<_> = report.orphans.iter().filter(|orphan| !orphan.contains("upload")).collect();
        assert_eq!((report.problems, orphans), (vec![], vec![]));
    }

    fn files(&self) -> usize {
        let prefixes = std::fs::read_dir(self.dir.path().join("blobs/sha256")).unwrap();
        prefixes.map(|prefix| std::fs::read_dir(prefix.unwrap().path()).unwrap().count()).sum()
    }
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::of(DigestAlgorithm::Sha256, bytes)
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

async fn push_blob(repository: &Repository, bytes: &str) -> Digest {
    let bytes = Bytes::from(bytes.to_owned());
    repository.blobs().put(bytes, None, &Actor::anonymous()).await.unwrap().digest
}

async fn push(repository: &Repository, media_type: &str, payload: String, tags: &[&str]) -> Digest {
    let digest = sha256(payload.as_bytes());
    let put = ManifestPut {
        payload: payload.into(),
        media_type: media_type.parse().unwrap(),
        reference: Reference::Digest(digest),
        tags: tags.iter().map(|name| tag(name)).collect(),
        actor: Actor::anonymous(),
    };
    repository.manifests().put(put).await.unwrap().canonical
}

fn descriptor(media_type: &str, bytes: &str) -> String {
    let (digest, size) = (sha256(bytes.as_bytes()), bytes.len());
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
}

fn image(layers: &[&str], more: &str) -> String {
    let layers: Vec<String> = layers.iter().map(|layer| descriptor("a/layer", layer)).collect();
    let (config, layers) = (descriptor(CONFIG, "{}"), layers.join(","));
    format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{layers}]{more}}}"#)
}

/// Pushes an image of these layers, and its config.
async fn push_image(repository: &Repository, layers: &[&str], tags: &[&str]) -> Digest {
    push_blob(repository, "{}").await;
    for layer in layers {
        push_blob(repository, layer).await;
    }
    push(repository, MANIFEST, image(layers, ""), tags).await
}

async fn push_index(repository: &Repository, children: &[String], tags: &[&str]) -> Digest {
    let children: Vec<String> = children.iter().map(|child| descriptor(MANIFEST, child)).collect();
    let children = children.join(",");
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{children}]}}"#);
    push(repository, INDEX, index, tags).await
}

fn no_undo() -> Collection {
    Collection { undo: Duration::ZERO, ..Collection::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_image_gives_its_space_back_after_the_undo_and_the_lease() {
    let store = Store::new(Collection::default());
    let app = store.repository("app");
    let digest = push_image(&app, &["one", "two"], &["v1", "v2"]).await;
    let other = push_image(&app, &["two", "three"], &["v3"]).await;
    assert_eq!(app.manifests().delete(&digest).await.unwrap(), Some(vec![tag("v1"), tag("v2")]));
    assert!(app.manifests().stat(&Reference::Digest(digest)).unwrap().is_none());
    assert!(app.tags().get(&tag("v1")).unwrap().is_none());
    store.check();

    // The lease of its links passes, and the undo window still holds the bytes.
    store.pass(HOUR * 2);
    let collected = store.collect().await;
    assert_eq!((collected.links, collected.blobs), (1, 0));
    assert_eq!(store.files(), 4);
    store.pass(HOUR * 23);
    let collected = store.collect().await;
    assert_eq!((collected.deletions, collected.blobs, collected.bytes), (1, 1, 3));
    assert_eq!(store.files(), 3, "what another image needs stays");
    assert!(app.blobs().get(&sha256(b"two")).await.unwrap().is_some());
    assert!(app.manifests().exists(&other).unwrap());
    assert_eq!(store.registry.collection_plan().unwrap().deletions, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_manifest_comes_back_with_its_tags_and_all_that_it_names() {
    let store = Store::new(Collection::default());
    let app = store.repository("app");
    let (one, two) = (image(&["one"], ""), image(&["two"], ""));
    let first = push_image(&app, &["one"], &[]).await;
    let second = push_image(&app, &["two"], &[]).await;
    let index = push_index(&app, &[one, two], &["multi", "latest"]).await;
    app.manifests().delete(&index).await.unwrap().unwrap();
    // All that it named is deleted as well, and collected where it was.
    app.manifests().delete(&first).await.unwrap().unwrap();
    app.manifests().delete(&second).await.unwrap().unwrap();
    assert!(app.blobs().delete(sha256(b"one")).await.unwrap());
    store.pass(HOUR * 3);
    store.collect().await;

    let name = DeletedName::Digest(index);
    let back = app.deletions().undelete(&name, &Actor::anonymous()).await.unwrap();
    assert_eq!((back.kind, back.digest), (DeletedKind::Manifest, Some(index)));
    store.check();
    for tag in ["multi", "latest"] {
        assert_eq!(app.tags().get(&tag.parse().unwrap()).unwrap().unwrap().canonical, index);
    }
    for (manifest, layer) in [(first, "one"), (second, "two")] {
        assert!(app.manifests().get(&Reference::Digest(manifest)).unwrap().is_some());
        assert!(app.blobs().get(sha256(layer.as_bytes())).await.unwrap().is_some());
    }
    let again = app.deletions().undelete(&name, &Actor::anonymous()).await;
    assert!(matches!(again, Err(Error::DeletionUnknown)));
    store.pass(HOUR * 48);
    store.collect().await;
    assert!(app.blobs().get(sha256(b"one")).await.unwrap().is_some(), "what is back stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_tag_comes_back_unless_its_name_is_taken() {
    let store = Store::new(Collection::default());
    let app = store.repository("app");
    let first = push_image(&app, &["one"], &["v1"]).await;
    assert!(app.tags().untag(&tag("v1")).await.unwrap());
    let second = push_image(&app, &["two"], &["v1"]).await;
    let name = DeletedName::Tag(tag("v1"));
    let taken = app.deletions().undelete(&name, &Actor::anonymous()).await;
    assert!(matches!(taken, Err(Error::NameTaken(what)) if what == "app:v1"));
    store.check();

    app.tags().untag(&tag("v1")).await.unwrap();
    let back = app.deletions().undelete(&name, &Actor::anonymous()).await.unwrap();
    assert_eq!(back.digest, Some(second), "the last deletion is the one that is undone");
    assert_eq!(app.tags().get(&tag("v1")).unwrap().unwrap().canonical, second);
    assert!(app.manifests().exists(&first).unwrap());
    store.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_blob_comes_back() {
    let store = Store::new(Collection::default());
    let app = store.repository("app");
    let digest = push_blob(&app, "alone").await;
    assert!(app.blobs().delete(digest).await.unwrap());
    assert!(app.blobs().stat(digest).unwrap().is_none());
    store.pass(HOUR * 3);
    store.collect().await;
    app.deletions().undelete(&DeletedName::Digest(digest), &Actor::anonymous()).await.unwrap();
    assert_eq!(app.blobs().get(digest).await.unwrap().unwrap(), "alone");
    store.check();
    // Nothing names it, so that it goes by itself.
    store.pass(HOUR * 3);
    let collected = store.collect().await;
    assert_eq!((collected.links, collected.blobs), (1, 1));
    assert_eq!(store.files(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_repository_comes_back_or_goes_whole() {
    let store = Store::new(Collection::default());
    let (app, other) = (store.repository("app"), store.repository("other"));
    let digest = push_image(&app, &["one", "both"], &["v1"]).await;
    push_image(&other, &["both"], &["v1"]).await;
    assert!(app.deletions().delete_repository().await.unwrap());
    assert!(!app.deletions().delete_repository().await.unwrap());
    assert!(!app.exists().unwrap());
    assert!(app.manifests().get(&Reference::Digest(digest)).unwrap().is_none());
    store.check();

    app.deletions().undelete(&DeletedName::Repository, &Actor::anonymous()).await.unwrap();
    assert!(app.manifests().get(&Reference::Tag(tag("v1"))).unwrap().is_some());
    store.check();

    assert!(app.deletions().delete_repository().await.unwrap());
    push_image(&app, &["new"], &["v1"]).await;
    let taken = app.deletions().undelete(&DeletedName::Repository, &Actor::anonymous()).await;
    assert!(matches!(taken, Err(Error::NameTaken(_))));
    store.pass(HOUR * 25);
    let collected = store.collect().await;
    assert_eq!((collected.deletions, collected.blobs, collected.bytes), (1, 1, 3));
    assert!(other.blobs().stat(sha256(b"both")).unwrap().is_some());
    assert_eq!(app.sizes().unwrap().unwrap().tags, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_ends_the_window_and_no_lease() {
    let store = Store::new(Collection::default());
    let app = store.repository("app");
    let digest = push_image(&app, &["secret"], &["v1"]).await;
    app.manifests().delete(&digest).await.unwrap();
    app.deletions().purge(&DeletedName::Digest(digest)).await.unwrap();
    assert_eq!(store.collect().await.blobs, 0, "a client may have just been told that the blob is there");
    let undone = app.deletions().undelete(&DeletedName::Digest(digest), &Actor::anonymous()).await;
    assert!(matches!(undone, Err(Error::DeletionUnknown)));
    store.pass(HOUR * 2);
    assert_eq!(store.collect().await.blobs, 2);
    assert_eq!(store.files(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_was_told_of_stays_for_the_lease() {
    let store = Store::new(no_undo());
    let app = store.repository("app");
    let digest = push_blob(&app, "layer").await;
    for _ in 0..5 {
        store.pass(HOUR);
        assert!(app.blobs().stat_held(digest).await.unwrap().is_some());
        store.collect().await;
    }
    // Named in the last moment of the lease.
    store.pass(HOUR);
    push_blob(&app, "{}").await;
    let manifest = push(&app, MANIFEST, image(&["layer"], ""), &["v1"]).await;
    store.pass(HOUR * 100);
    store.collect().await;
    assert!(app.blobs().stat(digest).unwrap().is_some());
    app.manifests().delete(&manifest).await.unwrap();
    store.pass(HOUR);
    store.collect().await;
    assert!(app.blobs().stat(digest).unwrap().is_some(), "the lease begins when the last name goes");
    store.pass(HOUR);
    assert_eq!(store.collect().await.blobs, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_holds_for_itself() {
    let store = Store::new(no_undo());
    let (from, to) = (store.repository("from"), store.repository("to"));
    let digest = push_blob(&from, "layer").await;
    store.pass(HOUR);
    to.blobs().mount(digest, Some(from.name()), &Actor::anonymous()).await.unwrap().unwrap();
    store.pass(HOUR / 2);
    assert_eq!(store.collect().await.links, 1);
    assert!(from.blobs().stat(digest).unwrap().is_none());
    assert_eq!(to.blobs().get(digest).await.unwrap().unwrap(), "layer");
    // Once more, while the link is there: its lease begins again.
    store.pass(HOUR / 2);
    let again = to.blobs().mount(digest, Some(to.name()), &Actor::anonymous()).await.unwrap();
    assert!(again.is_some());
    store.pass(HOUR);
    assert_eq!(store.collect().await, Collected::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_upload_of_the_repository_extends_the_lease() {
    let store = Store::new(no_undo());
    let app = store.repository("app");
    let digest = push_blob(&app, "first layer").await;
    let mut writer = app.blobs().create(DigestAlgorithm::Sha256, &Actor::anonymous()).unwrap();
    for _ in 0..4 {
        store.pass(HOUR / 2);
        writer.write(Bytes::from_static(b"slow ")).await.unwrap();
        writer.flush().await.unwrap();
        store.collect().await;
    }
    assert!(app.blobs().stat(digest).unwrap().is_some());
    writer.cancel().await.unwrap();
    store.pass(HOUR * 2);
    assert_eq!(store.collect().await.blobs, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_something_live_names_is_deleted_by_force_alone() {
    let store = Store::new(no_undo());
    let app = store.repository("app");
    let child = push_image(&app, &["one"], &[]).await;
    let index = push_index(&app, &[image(&["one"], "")], &["multi"]).await;
    let refused = app.manifests().delete(&child).await;
    assert!(matches!(refused, Err(Error::StillReferenced { parents, .. }) if parents == [index]));
    let refused = app.blobs().delete(sha256(b"one")).await;
    assert!(matches!(refused, Err(Error::StillReferenced { parents, .. }) if parents == [child]));
    app.blobs().delete_with(sha256(b"one"), Force::Yes).await.unwrap();
    app.manifests().delete_with(&child, Force::Yes).await.unwrap().unwrap();
    store.check();
    assert!(app.manifests().exists(&index).unwrap());
    store.pass(HOUR * 2);
    assert_eq!(store.collect().await.blobs, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn untagged_manifests_go_after_their_grace_where_there_is_one() {
    let grace = Some(HOUR * 24);
    for untagged_grace in [None, grace] {
        let store = Store::new(Collection { untagged_grace, ..no_undo() });
        let app = store.repository("app");
        let first = push_image(&app, &["one"], &["v1"]).await;
        push_image(&app, &["two"], &["v1"]).await;
        let child = push_image(&app, &["three"], &[]).await;
        push_index(&app, &[image(&["three"], "")], &["multi"]).await;
        store.pass(HOUR * 20);
        app.manifests().hold(&Reference::Digest(first)).await.unwrap();
        store.pass(HOUR * 20);
        store.collect().await;
        assert!(app.manifests().exists(&first).unwrap(), "it was pulled by digest 20 hours ago");
        let plan = store.registry.collection_plan().unwrap();
        assert_eq!(plan.untagged.0, 1);
        let untagged = plan.kept.iter().find_map(|root| match root {
            Root::Untagged { digest, until, .. } => Some((*digest, until.is_some())),
            Root::Deletion(_) | Root::Lease { .. } => None,
        });
        assert_eq!(untagged, Some((first, untagged_grace.is_some())));
        store.pass(HOUR * 10);
        let collected = store.collect().await;
        assert_eq!(collected.manifests, u64::from(untagged_grace.is_some()));
        assert_eq!(app.manifests().exists(&first).unwrap(), untagged_grace.is_none());
        assert!(app.manifests().exists(&child).unwrap(), "a live index names it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_revisions_of_a_tag_are_kept_where_the_policy_says_so() {
    let collection = Collection { untagged_grace: Some(HOUR), keep_history: 1, ..no_undo() };
    let store = Store::new(collection);
    let app = store.repository("app");
    let first = push_image(&app, &["one"], &["v1"]).await;
    let second = push_image(&app, &["two"], &["v1"]).await;
    push_image(&app, &["three"], &["v1"]).await;
    store.pass(HOUR * 3);
    store.collect().await;
    assert!(!app.manifests().exists(&first).unwrap());
    assert!(app.manifests().exists(&second).unwrap());
    let kept = store.registry.collection_plan().unwrap().kept;
    let holds = |root: &Root| matches!(root, Root::Untagged { digest, history_of: Some(tag), .. } if *digest == second && tag.as_str() == "v1");
    assert!(kept.iter().any(holds), "{kept:?}");
    let back = app.tags().rollback(&tag("v1"), None, &Actor::anonymous()).await.unwrap();
    assert_eq!(back.digest, second);
    let gone = app.tags().rollback(&tag("v1"), Some(0), &Actor::anonymous()).await;
    assert!(matches!(gone, Err(Error::RevisionGone(digest)) if digest == first));
    let unknown = app.tags().rollback(&tag("v1"), Some(77), &Actor::anonymous()).await;
    assert!(matches!(unknown, Err(Error::HistoryUnknown)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_has_a_hundred_entries_at_most() {
    let store = Store::new(no_undo());
    let app = store.repository("app");
    let (one, two) = (push_image(&app, &["1"], &[]).await, push_image(&app, &["2"], &[]).await);
    for round in 0..130 {
        let digest = if round % 2 == 0 { &one } else { &two };
        app.tags().tag(digest, &tag("v1"), &Actor::anonymous()).await.unwrap();
    }
    let history = app.tags().history(&tag("v1"), None, 1000).unwrap().items;
    assert_eq!((history.len(), history[0].number, history[99].number), (100, 129, 30));
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_go_with_their_subject_and_come_back_with_it() {
    let store = Store::new(Collection::default());
    let app = store.repository("app");
    let subject = push_image(&app, &["one"], &["v1"]).await;
    let size = image(&["one"], "").len();
    let names = |subject: &Digest| {
        format!(r#","subject":{{"mediaType":"{MANIFEST}","digest":"{subject}","size":{size}}}"#)
    };
    let referrer = push(&app, MANIFEST, image(&["one"], &names(&subject)), &[]).await;
    push_blob(&app, "a signature").await;
    let cosign = format!("sha256-{}.sig", subject.hex());
    let signature = push(&app, MANIFEST, image(&["a signature"], ""), &[&cosign]).await;
    let kept = push(&app, MANIFEST, image(&["one", "one"], &names(&subject)), &["named"]).await;

    app.manifests().delete(&subject).await.unwrap();
    store.pass(HOUR * 20);
    store.collect().await;
    app.deletions().undelete(&DeletedName::Digest(subject), &Actor::anonymous()).await.unwrap();
    store.pass(HOUR * 30);
    store.collect().await;
    assert_eq!(app.referrers().list(&subject, None, None).unwrap().descriptors.len(), 2);

    app.manifests().delete(&subject).await.unwrap();
    store.pass(HOUR * 25);
    store.collect().await;
    assert!(app.manifests().exists(&referrer).unwrap(), "it has its lease");
    store.pass(HOUR * 2);
    let collected = store.collect().await;
    assert_eq!((collected.manifests, collected.tags), (2, 1));
    assert!(!app.manifests().exists(&referrer).unwrap());
    assert!(!app.manifests().exists(&signature).unwrap());
    assert!(app.tags().get(&tag(&cosign)).unwrap().is_none());
    assert!(app.manifests().exists(&kept).unwrap(), "a tag of its own names it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_referrer_of_a_subject_that_never_was_stays() {
    let store = Store::new(Collection { untagged_grace: Some(HOUR), ..no_undo() });
    let app = store.repository("app");
    push_image(&app, &["one"], &["v1"]).await;
    let subject = sha256(b"elsewhere");
    let names = format!(r#","subject":{{"mediaType":"{MANIFEST}","digest":"{subject}","size":3}}"#);
    let referrer = push(&app, MANIFEST, image(&["one"], &names), &[]).await;
    store.pass(HOUR * 1000);
    store.collect().await;
    assert!(app.manifests().exists(&referrer).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_repository_takes_all_it_has_along() {
    let store = Store::new(Collection::default());
    let app = store.repository("team/app");
    push_image(&app, &["one"], &["v1"]).await;
    app.tags().tag(&sha256(image(&["one"], "").as_bytes()), &tag("v2"), &Actor::anonymous()).await.unwrap();
    app.tags().untag(&tag("v2")).await.unwrap();
    let mut writer = app.blobs().create(DigestAlgorithm::Sha256, &Actor::anonymous()).unwrap();
    writer.write(Bytes::from_static(b"under way")).await.unwrap();
    push_image(&store.repository("taken"), &["x"], &["v1"]).await;

    let taken = app.deletions().rename(&"taken".parse().unwrap()).await;
    assert!(matches!(taken, Err(Error::NameTaken(_))));
    app.deletions().rename(&"team/renamed".parse().unwrap()).await.unwrap();
    store.check();
    assert!(!app.exists().unwrap());
    let renamed = store.repository("team/renamed");
    assert!(renamed.tags().get(&tag("v1")).unwrap().is_some());
    renamed.deletions().undelete(&DeletedName::Tag(tag("v2")), &Actor::anonymous()).await.unwrap();

    let pushed = writer.commit(&sha256(b"under way")).await;
    let is_told = |result: &Error| matches!(result, Error::RepositoryRenamed { to, .. } if to.as_str() == "team/renamed");
    assert!(is_told(&pushed.unwrap_err()));
    let put = ManifestPut {
        payload: image(&["one"], "").into(),
        media_type: MANIFEST.parse().unwrap(),
        reference: Reference::Tag(tag("v3")),
        tags: Vec::new(),
        actor: Actor::anonymous(),
    };
    assert!(is_told(&app.manifests().put(put).await.unwrap_err()));
    store.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_are_exact_and_tell_shared_from_unique() {
    let store = Store::new(no_undo());
    let (app, other) = (store.repository("app"), store.repository("other"));
    push_image(&app, &["1", "22"], &["v1"]).await;
    push_image(&app, &["22", "4444"], &["v2"]).await;
    let before = app.sizes().unwrap().unwrap();
    let manifests = (image(&["1", "22"], "").len() + image(&["22", "4444"], "").len()) as u64;
    assert_eq!((before.blobs, before.manifests, before.tags), (4, 2, 2));
    assert_eq!((before.bytes, before.unique), (9 + manifests, 9 + manifests));
    let tag_size = app.sizes_of_tag(&tag("v2")).unwrap().unwrap();
    let own = image(&["22", "4444"], "").len() as u64;
    assert_eq!((tag_size.bytes, tag_size.unique), (8 + own, 4 + own));

    push_image(&other, &["4444"], &["v1"]).await;
    let after = app.sizes().unwrap().unwrap();
    assert_eq!((after.bytes, after.shared()), (before.bytes, 6));
    assert_eq!(app.sizes_of_tag(&tag("v2")).unwrap().unwrap().unique, own);
    assert_eq!(store.registry.sizes().unwrap().bytes, 9 + manifests + image(&["4444"], "").len() as u64);
    other.deletions().delete_repository().await.unwrap();
    store.collect().await;
    assert_eq!(app.sizes().unwrap().unwrap(), before);
    let listed = store.registry.namespace().sizes(None, 10).unwrap().items;
    assert_eq!(listed, [("app".parse().unwrap(), before)]);
    store.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_keeps_the_files_of_collected_blobs() {
    let store = Store::new(no_undo());
    let app = store.repository("app");
    push_blob(&app, "layer").await;
    store.pass(HOUR * 2);
    let hold = store.registry.hold_collection().await;
    assert_eq!(store.collect().await.blobs, 0);
    assert_eq!(store.files(), 1);
    drop(hold);
    assert_eq!(store.collect().await.blobs, 1);
    assert_eq!(store.files(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_outlives_the_other_digest_of_what_it_lists() {
    let store = Store::new(Collection { undo: HOUR, ..Collection::default() });
    let app = store.repository("app");
    let payload = "opaque";
    let named = Digest::of(DigestAlgorithm::Sha512, payload.as_bytes());
    let put = |payload: String, media_type: &str, reference: Reference| ManifestPut {
        payload: payload.into(),
        media_type: media_type.parse().unwrap(),
        reference,
        tags: Vec::new(),
        actor: Actor::anonymous(),
    };
    let opaque = || put(payload.to_owned(), "application/x", Reference::Digest(named));
    app.manifests().put(opaque()).await.unwrap();
    let list = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/x","digest":"{named}","size":6}}]}}"#
    );
    let fallback = format!("sha256-{}", "a".repeat(64)).parse().unwrap();
    let list = app.manifests().put(put(list, INDEX, fallback)).await.unwrap().canonical;
    app.manifests().delete(&named).await.unwrap().unwrap();
    store.pass(HOUR * 3);
    store.collect().await;
    assert!(!app.manifests().exists(&named).unwrap());
    app.manifests().put(opaque()).await.unwrap();
    store.check();
    app.manifests().delete(&list).await.unwrap().unwrap();
    store.pass(HOUR * 3);
    store.collect().await;
    app.manifests().delete(&sha256(payload.as_bytes())).await.unwrap().unwrap();
    store.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_can_be_had_from_nobody() {
    let store = Store::new(Collection::default());
    let (app, gone, thief) = (store.repository("app"), store.repository("gone"), store.repository("thief"));
    let digest = push_blob(&app, "secret").await;
    push_blob(&gone, "secret").await;
    app.blobs().delete(digest).await.unwrap();
    gone.deletions().delete_repository().await.unwrap();
    for from in [None, Some(app.name()), Some(gone.name())] {
        assert!(thief.blobs().mount(digest, from, &Actor::anonymous()).await.unwrap().is_none(), "{from:?}");
    }
    assert!(thief.blobs().stat(digest).unwrap().is_none());
    store.repository("other").blobs().put(Bytes::from("secret"), None, &Actor::anonymous()).await.unwrap();
    assert!(thief.blobs().mount(digest, None, &Actor::anonymous()).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_went_with_its_manifest_comes_back_with_it() {
    let store = Store::new(Collection::default());
    let app = store.repository("app");
    let digest = push_image(&app, &["one"], &["v1", "v2"]).await;
    app.manifests().delete(&digest).await.unwrap();
    let unknown = app.deletions().undelete(&DeletedName::Tag(tag("v3")), &Actor::anonymous()).await;
    assert!(matches!(unknown, Err(Error::DeletionUnknown)));
    let back = app.deletions().undelete(&DeletedName::Tag(tag("v2")), &Actor::anonymous()).await.unwrap();
    assert_eq!((back.kind, back.digest), (DeletedKind::Manifest, Some(digest)));
    for name in ["v1", "v2"] {
        assert_eq!(app.tags().get(&tag(name)).unwrap().unwrap().canonical, digest);
    }
    store.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_purged_fills_no_page_of_what_can_come_back() {
    let store = Store::new(Collection::default());
    let app = store.repository("app");
    let names = ["a", "b", "c"];
    for name in names {
        push_image(&app, &["one"], &[name]).await;
        app.tags().untag(&tag(name)).await.unwrap();
    }
    for name in ["c", "b"] {
        app.deletions().purge(&DeletedName::Tag(tag(name))).await.unwrap();
    }
    let page = app.deletions().list(None, 1).unwrap();
    assert_eq!((page.items.len(), page.more), (1, false));
    assert_eq!(page.items[0].tag, Some(tag("a")));
    app.tags().tag(&page.items[0].digest.unwrap(), &tag("d"), &Actor::anonymous()).await.unwrap();
    app.tags().untag(&tag("d")).await.unwrap();
    let first = app.deletions().list(None, 1).unwrap();
    assert_eq!((first.items[0].tag.clone(), first.more), (Some(tag("d")), true));
    let second = app.deletions().list(Some(first.items[0].id), 1).unwrap();
    assert_eq!((second.items[0].tag.clone(), second.more), (Some(tag("a")), false));
}
