//! Cached repositories: what is different about a copy of an upstream's.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "collection/store.rs"]
mod store;

use std::time::Duration;

use orlop::clock::Timestamp;
use orlop::oci::RepositoryName;
use orlop::registry::{
    Actor, Collection, DeletedName, Error, EventOptions, ImmutableRule, ImmutableTags, Listener, NameScope,
    Policy, Quota, Quotas, Repository, TagSelection, UpstreamAccess,
};
use store::{HOUR, IMAGE, INDEX, MINUTE, Store, image, index, push, push_blob, push_image, sha256, tag};

fn policy() -> Policy {
    let upstreams = [
        ("public.example", UpstreamAccess::Public),
        ("up.example", UpstreamAccess::Anonymous),
        ("private.example", UpstreamAccess::Private),
    ];
    let upstreams = upstreams.map(|(folder, access)| (folder.to_owned(), access)).into();
    Policy { upstreams, ..Policy::default() }
}

fn actor() -> Actor {
    Actor::anonymous()
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn names(store: &Store) -> Vec<String> {
    let page = store.registry.namespace().repositories(None, 100).unwrap();
    page.items.iter().map(ToString::to_string).collect()
}

fn bytes(store: &Store, upstream: Option<&str>) -> (u64, u64, u64) {
    let sizes = store.registry.cached_sizes(upstream).unwrap();
    (sizes.blobs, sizes.manifests, sizes.bytes)
}

#[tokio::test]
async fn a_cached_repository_has_what_its_manifests_name_or_not() {
    let store = Store::with(policy());
    let cached = store.repository("up.example/app");
    assert!(cached.is_cached().unwrap() && !store.repository("app").is_cached().unwrap());
    let child = image(&["layer"], None);
    push(&cached, INDEX, &index(&[&child]), &["v1"]).await;
    assert!(cached.is_cached().unwrap());
    store.check();
    push(&cached, IMAGE, &child, &[]).await;
    push_blob(&cached, "layer").await;
    store.check();
    drop(cached);
    let store = store.restart().await;
    assert!(store.repository("up.example/app").is_cached().unwrap());
    store.check();
}

#[tokio::test]
async fn what_was_local_before_its_upstream_was_configured_stays_local() {
    let store = Store::with(Policy::default());
    push_image(&store.repository("up.example/mine"), &["layer"], &["v1"]).await;
    push_image(&store.repository("mine"), &["layer"], &["v1"]).await;
    let store = store.restart_with(policy()).await;
    let mine = store.repository("up.example/mine");
    assert!(!mine.is_cached().unwrap());
    let refused = mine.cached().link(&sha256(b"layer"), &actor()).await;
    assert!(matches!(refused, Err(Error::NotCached(_))), "{refused:?}");
    mine.tags().untag(&tag("v1")).await.unwrap();
    mine.deletions().undelete(&DeletedName::Tag(tag("v1")), &actor()).await.unwrap();
    mine.deletions().rename(&name("elsewhere")).await.unwrap();
    store.check();
}

#[tokio::test]
async fn nobody_renames_from_or_into_the_names_of_an_upstream() {
    let store = Store::with(policy());
    let (local, cached) = (store.repository("app"), store.repository("up.example/app"));
    push_image(&local, &["one"], &["v1"]).await;
    push_image(&cached, &["one"], &["v1"]).await;
    for (from, to) in [(&cached, "new"), (&local, "up.example/new"), (&cached, "up.example/new")] {
        let refused = from.deletions().rename(&name(to)).await;
        assert!(matches!(refused, Err(Error::NameCached(_))), "{refused:?}");
    }
    local.deletions().rename(&name("new")).await.unwrap();
    store.check();
}

#[tokio::test]
async fn what_an_upstream_has_left_behind_takes_nothing_of_ones_own() {
    let store = Store::with(policy());
    push_image(&store.repository("up.example/app"), &["one"], &["v1"]).await;
    let store = store.restart_with(Policy::default()).await;
    let left = store.repository("up.example/app");
    assert!(left.is_cached().unwrap());
    let refused = left.blobs().put("two".into(), None, &actor()).await;
    assert!(matches!(refused, Err(Error::NameCached(_))), "{refused:?}");
    let mounted = left.blobs().mount(sha256(b"one"), None, &actor()).await;
    assert!(matches!(mounted, Err(Error::NameCached(_))), "{mounted:?}");
    assert!(left.deletions().delete_repository().await.unwrap());
    store.collect().await;
    assert!(left.deletions().list(None, 10).unwrap().items.is_empty());
    push_image(&left, &["two"], &["v1"]).await;
    assert!(!left.is_cached().unwrap());
    assert_eq!(bytes(&store, None), (0, 0, 0));
    store.check();
}

#[tokio::test]
async fn what_is_deleted_from_a_cached_repository_is_gone_at_once_and_its_blobs_after_five_minutes() {
    let store = Store::with(policy());
    let cached = store.repository("up.example/app");
    let one = push_image(&cached, &["one"], &["v1"]).await;
    push_image(&cached, &["two"], &["v2"]).await;
    cached.tags().untag(&tag("v2")).await.unwrap();
    cached.manifests().delete(&one).await.unwrap().unwrap();
    assert!(store.registry.deletions(None, 10).unwrap().items.is_empty());
    let back = cached.deletions().undelete(&DeletedName::Digest(one), &actor()).await;
    assert!(matches!(back, Err(Error::DeletionUnknown)), "{back:?}");
    store.check();
    store.pass(Duration::from_secs(299));
    assert_eq!(store.collect().await.links, 0);
    store.pass(MINUTE * 2);
    assert_eq!(store.collect().await.blobs, 1);
    assert_eq!(store.blobs(), 1, "the untagged image stays until it is evicted");
    store.check();
}

#[tokio::test]
async fn no_policy_for_ones_own_is_about_what_is_cached() {
    let everything = || NameScope::new(vec!["**".parse().unwrap()]);
    let tags = TagSelection { patterns: vec!["*".parse().unwrap()], except: Vec::new() };
    let immutable = ImmutableTags::new(vec![ImmutableRule { repositories: everything(), tags }]);
    let quotas =
        Quotas { store_bytes: None, repositories: vec![Quota { repositories: everything(), max_bytes: 1 }] };
    let collection = Collection { untagged_grace: Some(MINUTE), keep_history: 5, ..Collection::default() };
    let store = Store::with(Policy { immutable, quotas, collection, ..policy() });
    let cached = store.repository("up.example/app");
    push_image(&cached, &["one"], &["v1"]).await;
    push_image(&cached, &["two"], &["v1"]).await;
    store.check();
    assert_eq!(store.registry.status().unwrap().untagged, 0);
    assert!(cached.expiry().untagged(None, 10).unwrap().items.is_empty());
    store.pass(HOUR * 48);
    let collected = store.collect().await;
    assert_eq!((collected.manifests, collected.blobs), (0, 0));
    cached.tags().untag(&tag("v1")).await.unwrap();
    store.check();
    assert!(push_refused(&store.repository("local")).await);
}

async fn push_refused(repository: &Repository) -> bool {
    matches!(repository.blobs().put("two".into(), None, &actor()).await, Err(Error::QuotaExceeded { .. }))
}

#[tokio::test]
async fn only_pulls_of_what_is_cached_are_told_of() {
    let listener =
        Listener { name: "hook".into(), ignored_actions: Vec::new(), ignored_media_types: Vec::new() };
    let events = EventOptions { listeners: vec![listener], ..EventOptions::default() };
    let store = Store::listening(policy(), events);
    let cached = store.repository("up.example/app");
    push_image(&cached, &["one"], &["v1"]).await;
    cached.tags().untag(&tag("v1")).await.unwrap();
    cached.deletions().delete_repository().await.unwrap();
    assert_eq!(store.registry.events().newest().unwrap(), 0);
    push_image(&cached, &["one"], &["v1"]).await;
    cached.manifests().get(&"v1".parse().unwrap()).unwrap().unwrap();
    store.registry.events().settle(&[]).await.unwrap();
    assert_eq!(store.registry.events().newest().unwrap(), 1);
}

#[tokio::test]
async fn when_a_tag_was_checked_is_known_as_long_as_the_tag_is_there() {
    let store = Store::with(policy());
    let cached = store.repository("up.example/app");
    let at = Timestamp::from_millis(1234);
    assert!(cached.cached().set_checked(&tag("v1"), at).await.is_err());
    push_image(&cached, &["one"], &["v1", "v2"]).await;
    assert_eq!(cached.cached().checked_at(&tag("v1")).unwrap(), None);
    assert!(!cached.cached().set_checked(&tag("v3"), at).await.unwrap());
    for name in ["v1", "v2"] {
        assert!(cached.cached().set_checked(&tag(name), at).await.unwrap());
    }
    push_image(&cached, &["two"], &["v1"]).await;
    assert_eq!(cached.cached().checked_at(&tag("v1")).unwrap(), Some(at));
    store.check();
    drop(cached);
    let store = store.restart().await;
    let cached = store.repository("up.example/app");
    assert_eq!(cached.cached().checked_at(&tag("v2")).unwrap(), Some(at));
    cached.tags().untag(&tag("v2")).await.unwrap();
    assert_eq!(cached.cached().checked_at(&tag("v2")).unwrap(), None);
    store.check();
    cached.deletions().delete_repository().await.unwrap();
    store.collect().await;
    store.check();
    push_image(&cached, &["two"], &["v1"]).await;
    assert_eq!(cached.cached().checked_at(&tag("v1")).unwrap(), None);
    let local = store.repository("app");
    push_image(&local, &["one"], &["v1"]).await;
    assert!(matches!(local.cached().set_checked(&tag("v1"), at).await, Err(Error::NotCached(_))));
}

#[tokio::test]
async fn a_blob_is_linked_only_from_repositories_of_the_same_upstream() {
    let store = Store::with(policy());
    for other in ["local", "public.example/app"] {
        push_blob(&store.repository(other), "one").await;
    }
    let cached = store.repository("up.example/app");
    assert_eq!(cached.cached().link(&sha256(b"one"), &actor()).await.unwrap(), None);
    push_blob(&store.repository("up.example/other"), "one").await;
    let linked = cached.cached().link(&sha256(b"one"), &actor()).await.unwrap().unwrap();
    assert_eq!((linked.digest, linked.size), (sha256(b"one"), 3));
    assert!(cached.blobs().stat(sha256(b"one")).unwrap().is_some());
    store.check();
    store.pass(HOUR);
    store.collect().await;
    assert_eq!(cached.blobs().stat(sha256(b"one")).unwrap(), None);
    store.check();
}

#[tokio::test]
async fn what_came_with_credentials_is_neither_mounted_nor_listed_unless_it_is_public() {
    let store = Store::with(policy());
    push_blob(&store.repository("private.example/app").with_credentials(), "private").await;
    push_blob(&store.repository("public.example/app").with_credentials(), "public").await;
    push_blob(&store.repository("up.example/once").with_credentials(), "once").await;
    push_blob(&store.repository("up.example/app"), "anonymous").await;
    let check = async |store: &Store| {
        let local = store.repository("local");
        for (repository, blob, is_private) in [
            ("private.example/app", "private", true),
            ("public.example/app", "public", false),
            ("up.example/once", "once", true),
            ("up.example/app", "anonymous", false),
        ] {
            assert_eq!(
                store.repository(repository).cached().is_private().unwrap(),
                is_private,
                "{repository}"
            );
            for from in [Some(&name(repository)), None] {
                let mounted = local.blobs().mount(sha256(blob.as_bytes()), from, &actor()).await.unwrap();
                assert_eq!(mounted.is_none(), is_private, "{repository}");
            }
        }
        assert!(!names(store).iter().any(|name| name.contains("private") || name.contains("once")));
    };
    check(&store).await;
    store.check();
    let mut anonymous = policy();
    anonymous.upstreams.insert("private.example".to_owned(), UpstreamAccess::Anonymous);
    let store = store.restart_with(anonymous).await;
    check(&store).await;
    let mut without = policy();
    without.upstreams.remove("private.example");
    let store = store.restart_with(without).await;
    check(&store).await;
    let mut public = policy();
    for access in public.upstreams.values_mut() {
        *access = UpstreamAccess::Public;
    }
    let store = store.restart_with(public).await;
    assert!(!store.repository("private.example/app").cached().is_private().unwrap());
    assert!(store.repository("private.example/app").cached().came_privately().unwrap());
    assert_eq!(names(&store).len(), 5);
}

#[tokio::test]
async fn each_upstream_and_the_whole_cache_count_everything_once() {
    let store = Store::with(policy());
    let manifest = image(&["shared"], None).len() as u64;
    for repository in ["local", "up.example/a", "up.example/b", "public.example/a"] {
        push_image(&store.repository(repository), &["shared"], &["v1"]).await;
    }
    push_blob(&store.repository("public.example/a"), "own").await;
    assert_eq!(bytes(&store, Some("up.example")), (1, 1, 6 + manifest));
    assert_eq!(bytes(&store, Some("public.example")), (2, 1, 9 + manifest));
    assert_eq!(bytes(&store, Some("private.example")), (0, 0, 0));
    assert_eq!(bytes(&store, None), (2, 1, 9 + manifest));
    assert_eq!(store.registry.cached_sizes(None).unwrap().tags, 3);
    assert_eq!(store.registry.status().unwrap().manifests, 4);
    store.check();
    store.repository("up.example/a").deletions().delete_repository().await.unwrap();
    store.repository("public.example/a").deletions().delete_repository().await.unwrap();
    store.collect().await;
    assert_eq!(bytes(&store, Some("up.example")), (1, 1, 6 + manifest));
    assert_eq!(bytes(&store, None), (1, 1, 6 + manifest));
    store.check();
    let store = store.restart().await;
    store.repository("up.example/b").deletions().delete_repository().await.unwrap();
    store.collect().await;
    assert_eq!(bytes(&store, None), (0, 0, 0));
    store.check();
}
