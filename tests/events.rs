//! Events as the library writes them: in the commit of what they tell of, for those who listen, within bounds.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use orlop::clock::{ManualClock, Timestamp};
use orlop::oci::schema1::Signature;
use orlop::oci::{Digest, DigestAlgorithm, MediaType, Reference, RepositoryName};
use orlop::registry::{
    Action, Actor, DeletedName, Depth, Error, Event, EventOptions, EventRequest, Listener, ManifestPut,
    NameScope, Options, Origin, Registry, Repository, TargetKind,
};
use tempfile::TempDir;

#[path = "schema1/signer.rs"]
mod signer;

use signer::{Signer, pretty_jws};

fn listener(name: &str) -> Listener {
    Listener { name: name.to_owned(), ignored_actions: Vec::new(), ignored_media_types: Vec::new() }
}

fn options(dir: &TempDir, listeners: Vec<Listener>) -> Options {
    let mut options = Options::new(dir.path().join("data"));
    options.events = EventOptions { listeners, ..EventOptions::default() };
    options
}

fn repository(registry: &Registry, name: &str) -> Repository {
    registry.namespace().repository(&name.parse::<RepositoryName>().unwrap())
}

fn put(payload: &'static str, reference: &str, tags: &[&str]) -> ManifestPut {
    ManifestPut {
        payload: Bytes::from_static(payload.as_bytes()),
        media_type: "application/vnd.example+json".parse().unwrap(),
        reference: reference.parse().unwrap(),
        tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
        actor: Actor::anonymous(),
    }
}

fn sha256(content: &[u8]) -> Digest {
    Digest::of(DigestAlgorithm::Sha256, content)
}

/// Everything in the log.
fn all(registry: &Registry) -> Vec<Event> {
    let page = registry.events().read(0, usize::MAX).unwrap();
    page.events.into_iter().map(|(_, event)| event).collect()
}

/// An event in short: `push manifest box:1 sha256:…`.
fn short(event: &Event) -> String {
    let target = &event.target;
    let tag = target.tag.as_ref().map_or_else(String::new, |tag| format!(":{tag}"));
    let digest = target.digest.map_or_else(String::new, |digest| format!(" {}", &digest.hex()[..8]));
    let from = target.from.as_ref().map_or_else(String::new, |from| format!(" from {from}"));
    format!("{:?} {:?} {}{tag}{digest}{from}", event.action, target.kind, target.repository)
}

fn shorts(registry: &Registry) -> Vec<String> {
    all(registry).iter().map(short).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_told_once_in_the_order_of_its_commit() {
    let dir = TempDir::new().unwrap();
    let registry = Registry::open(options(&dir, vec![listener("a")])).unwrap();
    let (one, two) = (repository(&registry, "one"), repository(&registry, "two"));
    let anonymous = Actor::anonymous();
    let blob = one.blobs().put(Bytes::from_static(b"blob"), None, &anonymous).await.unwrap().digest;
    two.blobs().mount(&blob, None, &anonymous).await.unwrap().unwrap();
    assert!(two.blobs().mount(&sha256(b"none"), None, &anonymous).await.unwrap().is_none());
    let manifest = one.manifests().put(put("{}", "1", &["2"])).await.unwrap().digest;
    one.manifests().put(put("{ }", &sha256(b"{ }").to_string(), &[])).await.unwrap();
    one.tags().tag(&manifest, &"3".parse().unwrap(), &anonymous).await.unwrap();
    assert!(one.tags().untag(&"2".parse().unwrap()).await.unwrap());
    assert!(!one.tags().untag(&"2".parse().unwrap()).await.unwrap());
    one.manifests().delete(&manifest).await.unwrap().unwrap();
    assert!(one.manifests().delete(&manifest).await.unwrap().is_none());
    assert!(one.blobs().delete(&blob).await.unwrap());
    assert!(!one.blobs().delete(&blob).await.unwrap());
    let (blob, manifest, other) = (&blob.hex()[..8], &manifest.hex()[..8], &sha256(b"{ }").hex()[..8]);
    assert_eq!(
        shorts(&registry),
        [
            format!("Push Blob one {blob}"),
            format!("Mount Blob two {blob} from one"),
            format!("Push Manifest one:1 {manifest}"),
            format!("Push Manifest one:2 {manifest}"),
            format!("Push Manifest one {other}"),
            format!("Push Manifest one:3 {manifest}"),
            "Delete Tag one:2".to_owned(),
            "Delete Tag one:1".to_owned(),
            "Delete Tag one:3".to_owned(),
            format!("Delete Manifest one {manifest}"),
            format!("Delete Blob one {blob}"),
        ]
    );
    let events = all(&registry);
    let ids: std::collections::BTreeSet<_> = events.iter().map(|event| event.id).collect();
    assert_eq!(ids.len(), events.len(), "every event has an id of its own");
    assert_eq!(events[0].target.media_type, Some(MediaType::OCTET_STREAM));
    assert_eq!(events[0].target.size, Some(4));
    assert!(registry.verify(Depth::Full).unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_that_come_alone_are_told_of_like_the_manifest_that_brings_them() {
    const TIME: &str = "2015-04-08T18:52:59Z";
    let dir = TempDir::new().unwrap();
    let mut options = options(&dir, vec![listener("a")]);
    options.events.references = true;
    let registry = Registry::open(options).unwrap();
    let one = repository(&registry, "one");
    let layer =
        one.blobs().put(Bytes::from_static(b"layer"), None, &Actor::anonymous()).await.unwrap().digest;
    let payload = format!(
        r#"{{"schemaVersion":1,"name":"one","tag":"1","fsLayers":[{{"blobSum":"{layer}"}}],"history":[{{"v1Compatibility":"{{}}"}}]}}"#
    );
    let digest = sha256(payload.as_bytes());
    let [first, second] = [(); 2].map(|()| Signer::generate().sign(payload.as_bytes(), TIME));
    let push = ManifestPut {
        payload: pretty_jws(payload.as_bytes(), &[first]).into(),
        media_type: MediaType::DOCKER_MANIFEST_SCHEMA1_SIGNED,
        reference: Reference::Digest(digest),
        tags: Vec::new(),
        actor: Actor::new("ann"),
    };
    one.manifests().put(push).await.unwrap();
    let second = vec![Signature::from_json(second.as_bytes()).unwrap()];
    for _ in 0..2 {
        // The second time it changes nothing and is told to nobody.
        one.signatures().put(&digest, second.clone(), &Actor::new("ben")).await.unwrap();
    }
    let events = all(&registry);
    let [_, pushed, signed] = &events[..] else { panic!("{:?}", shorts(&registry)) };
    assert_eq!((signed.action, &signed.target), (Action::Push, &pushed.target));
    assert_eq!(signed.target.references.len(), 1);
    assert_eq!((pushed.actor.as_str(), signed.actor.as_str()), ("ann", "ben"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_costs_no_commit_of_its_own_and_a_refused_change_tells_nothing() {
    let dir = TempDir::new().unwrap();
    let options = options(&dir, vec![listener("a")]);
    let metrics = options.metrics.clone();
    let registry = Registry::open(options).unwrap();
    let one = repository(&registry, "one");
    let before = metrics.commits();
    one.manifests().put(put("{}", "1", &[])).await.unwrap();
    assert_eq!(metrics.commits() - before, 1, "a push of a manifest is one commit, its event included");
    let mut refused = put(r#"{"schemaVersion":2,"manifests":[]}"#, "2", &[]);
    refused.media_type = MediaType::OCI_IMAGE_MANIFEST;
    assert!(one.manifests().put(refused).await.is_err());
    assert_eq!(shorts(&registry).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_makes_no_commit_and_many_are_written_in_one() {
    let dir = TempDir::new().unwrap();
    let options = options(&dir, vec![listener("a")]);
    let metrics = options.metrics.clone();
    let registry = Registry::open(options).unwrap();
    let one = repository(&registry, "one");
    let digest = one.manifests().put(put("{}", "1", &[])).await.unwrap().digest;
    let blob = one.blobs().put(Bytes::from_static(b"blob"), None, &Actor::anonymous()).await.unwrap().digest;
    let before = metrics.commits();
    let (by_tag, by_digest) = ("1".parse::<Reference>().unwrap(), Reference::Digest(digest));
    for _ in 0..100 {
        one.manifests().get(&by_tag).unwrap().unwrap();
        one.manifests().get(&by_digest).unwrap().unwrap();
        one.manifests().stat(&by_tag).unwrap().unwrap();
        one.blobs().open(blob).unwrap().unwrap();
        one.blobs().stat(blob).unwrap().unwrap();
    }
    assert_eq!(metrics.commits(), before, "no pull waits for a commit");
    assert_eq!(shorts(&registry).len(), 2);
    registry.events().settle(&[]).await.unwrap();
    assert_eq!(metrics.commits() - before, 1);
    let told = shorts(&registry);
    assert_eq!(told.len(), 2 + 300, "a look without the content is no pull");
    assert_eq!(told[2], format!("Pull Manifest one:1 {}", &digest.hex()[..8]));
    assert_eq!(told[3], format!("Pull Manifest one {}", &digest.hex()[..8]));
    assert_eq!(told[4], format!("Pull Blob one {}", &blob.hex()[..8]));
    registry.events().settle(&[]).await.unwrap();
    assert_eq!(metrics.commits() - before, 1, "nothing is written where nothing has happened");
    one.manifests().get(&by_tag).unwrap().unwrap();
    registry.close().await;
    drop((one, registry));
    let registry = Registry::open(self::options(&dir, vec![listener("a")])).unwrap();
    assert_eq!(shorts(&registry).len(), 2 + 300 + 1, "a clean end writes the pulls of the last moment");
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_that_wait_to_be_written_are_bounded_and_those_lost_are_counted() {
    const WAITING: usize = 65_536;
    let dir = TempDir::new().unwrap();
    let options = options(&dir, vec![listener("a")]);
    let metrics = options.metrics.clone();
    let registry = Registry::open(options).unwrap();
    let one = repository(&registry, "one");
    one.manifests().put(put("{}", "1", &[])).await.unwrap();
    let by_tag = "1".parse::<Reference>().unwrap();
    for _ in 0..WAITING {
        one.manifests().get(&by_tag).unwrap().unwrap();
    }
    assert_eq!(metrics.lost_pull_events(), 0);
    for _ in 0..5 {
        one.manifests().get(&by_tag).unwrap().unwrap();
    }
    assert_eq!(metrics.lost_pull_events(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_that_nobody_listens_to() {
    let dir = TempDir::new().unwrap();
    let registry = Registry::open(options(&dir, Vec::new())).unwrap();
    let one = repository(&registry, "one");
    one.manifests().put(put("{}", "1", &[])).await.unwrap();
    one.manifests().get(&"1".parse().unwrap()).unwrap().unwrap();
    registry.events().settle(&[]).await.unwrap();
    assert_eq!((registry.events().newest().unwrap(), shorts(&registry).len()), (0, 0));
    registry.close().await;
    drop((one, registry));

    let picky = Listener {
        ignored_actions: vec![Action::Pull, Action::Delete],
        ignored_media_types: vec![MediaType::OCTET_STREAM],
        ..listener("picky")
    };
    let registry = Registry::open(options(&dir, vec![picky])).unwrap();
    let one = repository(&registry, "one");
    let blob = one.blobs().put(Bytes::from_static(b"blob"), None, &Actor::anonymous()).await.unwrap().digest;
    one.blobs().delete(&blob).await.unwrap();
    one.manifests().get(&"1".parse().unwrap()).unwrap().unwrap();
    one.tags().untag(&"1".parse().unwrap()).await.unwrap();
    one.manifests().put(put("{}", "2", &[])).await.unwrap();
    registry.events().settle(&[]).await.unwrap();
    let told = shorts(&registry);
    assert!(matches!(&told[..], [only] if only.starts_with("Push Manifest one:2")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_bounded_by_count_and_age_and_what_went_can_be_counted() {
    let dir = TempDir::new().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
    let mut options = options(&dir, vec![listener("slow")]);
    options.clock = clock.clone();
    options.events.max_events = 5;
    options.events.max_age = Duration::from_secs(60);
    let registry = Registry::open(options).unwrap();
    let (log, one) = (registry.events(), repository(&registry, "one"));
    for tag in 1..=8 {
        one.manifests().put(put("{}", &tag.to_string(), &[])).await.unwrap();
    }
    let page = log.read(0, 100).unwrap();
    let numbers: Vec<u64> = page.events.iter().map(|(number, _)| *number).collect();
    assert_eq!((numbers, page.dropped, page.newest), (vec![4, 5, 6, 7, 8], 3, 8));
    assert_eq!(log.read(4, 2).unwrap().dropped, 0);

    clock.advance(Duration::from_secs(61));
    one.manifests().put(put("{}", "new", &[])).await.unwrap();
    log.settle(&[]).await.unwrap();
    let page = log.read(4, 100).unwrap();
    assert_eq!((page.events.len(), page.dropped, page.newest), (1, 4, 9));

    clock.advance(Duration::from_secs(61));
    log.settle(&[]).await.unwrap();
    let page = log.read(8, 100).unwrap();
    assert_eq!((page.events.len(), page.dropped, page.newest), (0, 1, 9));
    one.manifests().put(put("{}", "newer", &[])).await.unwrap();
    assert_eq!(log.read(8, 100).unwrap().events[0].0, 10, "no number is given twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_listener_has_its_own_place_and_what_all_have_taken_goes() {
    let dir = TempDir::new().unwrap();
    let both = vec![listener("fast"), listener("slow")];
    let registry = Registry::open(options(&dir, both)).unwrap();
    let (log, one) = (registry.events(), repository(&registry, "one"));
    for tag in 1..=4 {
        one.manifests().put(put("{}", &tag.to_string(), &[])).await.unwrap();
    }
    log.settle(&[("fast".to_owned(), 4), ("slow".to_owned(), 1)]).await.unwrap();
    assert_eq!((log.cursor("fast").unwrap(), log.cursor("slow").unwrap(), all(&registry).len()), (4, 1, 3));
    // A place is never lost by a late word about an earlier one.
    log.settle(&[("fast".to_owned(), 2)]).await.unwrap();
    assert_eq!(log.cursor("fast").unwrap(), 4);
    registry.close().await;
    drop((log, one, registry));

    // Whoever only looks, without a configuration, takes nobody's place away.
    let registry = Registry::open(options(&dir, Vec::new())).unwrap();
    registry.close().await;
    drop(registry);

    let registry = Registry::open(options(&dir, vec![listener("slow"), listener("new")])).unwrap();
    let log = registry.events();
    assert_eq!(
        (log.cursor("slow").unwrap(), log.cursor("new").unwrap()),
        (1, 4),
        "a new one begins at the end"
    );
    log.settle(&[]).await.unwrap();
    assert_eq!(log.cursor("fast").unwrap(), 0, "one that is no more is forgotten");
    log.settle(&[("slow".to_owned(), 4)]).await.unwrap();
    assert_eq!((all(&registry).len(), log.newest().unwrap()), (0, 4));
    registry.close().await;
    drop((log, registry));

    // Where nobody listens any more, what is left goes.
    let registry = Registry::open(options(&dir, vec![listener("slow")])).unwrap();
    repository(&registry, "one").manifests().put(put("{}", "5", &[])).await.unwrap();
    registry.close().await;
    drop(registry);
    let registry = Registry::open(options(&dir, Vec::new())).unwrap();
    registry.events().settle(&[]).await.unwrap();
    assert_eq!((all(&registry).len(), registry.events().newest().unwrap()), (0, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_tells_of_the_request_and_of_what_a_manifest_names() {
    let dir = TempDir::new().unwrap();
    let mut options = options(&dir, vec![listener("a")]);
    options.events.references = true;
    let registry = Registry::open(options).unwrap();
    let request = EventRequest {
        id: "id".into(),
        addr: "192.0.2.1:7".into(),
        host: "registry.example".into(),
        method: "PUT".into(),
        user_agent: "test".into(),
        base_url: "https://registry.example".into(),
    };
    let one =
        repository(&registry, "one").on_behalf_of(Origin::with_request(Actor::anonymous(), request.clone()));
    let config = one.blobs().put(Bytes::from_static(b"{}"), None, &Actor::anonymous()).await.unwrap();
    let mut image = put("", "1", &[]);
    image.media_type = MediaType::OCI_IMAGE_MANIFEST;
    image.payload = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{}","size":2}},"layers":[]}}"#,
        config.digest
    )
    .into();
    let digest = one.manifests().put(image).await.unwrap().digest;
    one.manifests().get(&Reference::Digest(digest)).unwrap().unwrap();
    one.manifests().delete(&digest).await.unwrap().unwrap();
    registry.events().settle(&[]).await.unwrap();
    let events = all(&registry);
    assert!(
        events.iter().all(|event| event.request.as_deref() == Some(&request) && event.actor == "anonymous")
    );
    let of_manifests = events.iter().filter(|event| event.target.kind == TargetKind::Manifest);
    let references: Vec<(Action, Vec<Digest>)> = of_manifests
        .map(|event| (event.action, event.target.references.iter().map(|child| child.digest).collect()))
        .collect();
    assert_eq!(
        references,
        [(Action::Push, vec![config.digest]), (Action::Delete, vec![]), (Action::Pull, vec![config.digest])]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_lists_some_of_what_a_manifest_names_however_much_that_is() {
    let dir = TempDir::new().unwrap();
    let mut options = options(&dir, vec![listener("a")]);
    options.events.references = true;
    options.policy.allow_sparse_indexes = true;
    let registry = Registry::open(options).unwrap();
    let children: Vec<String> = (0..300_u32)
        .map(|number| {
            let digest = sha256(&number.to_be_bytes());
            format!(r#"{{"mediaType":"{}","digest":"{digest}","size":2}}"#, MediaType::OCI_IMAGE_MANIFEST)
        })
        .collect();
    let mut index = put("", "1", &[]);
    index.media_type = MediaType::OCI_IMAGE_INDEX;
    index.payload = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, children.join(",")).into();
    repository(&registry, "one").manifests().put(index).await.unwrap();
    let events = all(&registry);
    let references = &events[0].target.references;
    assert_eq!((events.len(), references.len()), (1, 256));
    assert_eq!(references[0].digest, sha256(&0_u32.to_be_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_outside_of_the_scope_are_refused() {
    let dir = TempDir::new().unwrap();
    let anonymous = Actor::anonymous();
    {
        let registry = Registry::open(options(&dir, Vec::new())).unwrap();
        for name in ["team/a", "team/b", "other/a"] {
            let content = Bytes::copy_from_slice(name.as_bytes());
            repository(&registry, name).blobs().put(content, None, &anonymous).await.unwrap();
            repository(&registry, name).manifests().put(put("{}", "1", &[])).await.unwrap();
        }
        registry.close().await;
    }
    let mut options = options(&dir, vec![listener("a")]);
    options.policy.scope = NameScope::new(vec!["team/**".parse().unwrap()]);
    let registry = Registry::open(options).unwrap();
    let (inside, outside) = (repository(&registry, "team/a"), repository(&registry, "other/a"));
    assert!(inside.manifests().stat(&"1".parse().unwrap()).unwrap().is_some());
    inside.blobs().put(Bytes::from_static(b"x"), None, &anonymous).await.unwrap();

    let unserved = |result: Result<(), Error>| {
        let error = result.expect_err("the name is outside");
        assert!(matches!(error, Error::NameUnserved { .. }), "{error}");
        assert_eq!(error.to_string(), "this registry serves only team/**, and other/a is not among that");
    };
    unserved(outside.exists().map(drop));
    unserved(outside.manifests().stat(&"1".parse().unwrap()).map(drop));
    unserved(outside.manifests().get(&"1".parse().unwrap()).map(drop));
    unserved(outside.manifests().all(None, 1).map(drop));
    unserved(outside.blobs().stat(sha256(b"other/a")).map(drop));
    unserved(outside.blobs().open(sha256(b"other/a")).map(drop));
    unserved(outside.tags().list(None, 1).map(drop));
    unserved(outside.tags().history(&"1".parse().unwrap(), None, 1).map(drop));
    unserved(outside.referrers().list(&sha256(b"{}"), None, None).map(drop));

    let refused = |result: Result<(), Error>| {
        let error = result.expect_err("the name is outside");
        assert!(matches!(error, Error::NameRefused { .. }), "{error}");
    };
    refused(outside.blobs().create(DigestAlgorithm::Sha256, &anonymous).map(drop));
    refused(outside.blobs().mount(&sha256(b"x"), None, &anonymous).await.map(drop));
    refused(outside.blobs().delete(&sha256(b"other/a")).await.map(drop));
    refused(outside.manifests().put(put("{}", "2", &[])).await.map(drop));
    refused(outside.manifests().delete(&sha256(b"{}")).await.map(drop));
    refused(outside.tags().tag(&sha256(b"{}"), &"2".parse().unwrap(), &anonymous).await);
    refused(outside.tags().untag(&"1".parse().unwrap()).await.map(drop));

    // What isn't served is neither listed nor mounted.
    let page = registry.namespace().repositories(None, 1).unwrap();
    assert_eq!((page.items[0].as_str(), page.items.len(), page.more), ("team/a", 1, true));
    let page = registry.namespace().repositories(Some("team/a"), 5).unwrap();
    assert_eq!((page.items[0].as_str(), page.items.len(), page.more), ("team/b", 1, false));
    let from = "other/a".parse().unwrap();
    assert!(inside.blobs().mount(&sha256(b"other/a"), Some(&from), &anonymous).await.unwrap().is_none());
    assert!(inside.blobs().mount(&sha256(b"other/a"), None, &anonymous).await.unwrap().is_none());
    assert!(registry.verify(Depth::Full).unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_and_what_comes_back_are_told_of() {
    let dir = TempDir::new().unwrap();
    let registry = Registry::open(options(&dir, vec![listener("one")])).unwrap();
    let app = repository(&registry, "app");
    let actor = Actor::new("somebody");
    app.manifests().put(put("{}", "v1", &[])).await.unwrap();
    let blob = app.blobs().put(Bytes::from_static(b"blob"), None, &actor).await.unwrap().digest;
    let before = all(&registry).len();

    app.tags().untag(&"v1".parse().unwrap()).await.unwrap();
    app.deletions().undelete(&DeletedName::Tag("v1".parse().unwrap()), &actor).await.unwrap();
    app.blobs().delete(blob).await.unwrap();
    app.deletions().undelete(&DeletedName::Digest(blob), &actor).await.unwrap();
    app.clone().on_behalf_of(Origin::of(actor.clone())).deletions().delete_repository().await.unwrap();
    app.deletions().undelete(&DeletedName::Repository, &actor).await.unwrap();
    let manifest = &sha256(b"{}").hex()[..8];
    let blob = &blob.hex()[..8];
    assert_eq!(
        shorts(&registry)[before..],
        [
            "Delete Tag app:v1".to_owned(),
            format!("Push Manifest app:v1 {manifest}"),
            format!("Delete Blob app {blob}"),
            format!("Push Blob app {blob}"),
            "Delete Repository app".to_owned(),
            "Push Repository app".to_owned(),
        ]
    );
    assert_eq!(all(&registry)[before + 4].actor, "somebody");
    assert!(registry.verify(Depth::Full).unwrap().is_clean());
}
