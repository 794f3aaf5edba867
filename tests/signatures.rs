//! Schema 1 manifests that are signed on many hosts, through the library.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and tells its figures"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use orlop::clock::{Clock as _, ManualClock, SystemClock, Timestamp, monotonic};
use orlop::oci::schema1::{Signature, SignedManifest, SignedManifestError, TrustRoots};
use orlop::oci::{Digest, DigestAlgorithm, MediaType, Reference, RepositoryName};
use orlop::registry::{
    Actor, DeletedName, Depth, Error, ManifestPut, ManifestService, Options, Registry, Repository, Verified,
};
use tempfile::TempDir;

#[path = "schema1/signer.rs"]
mod signer;

use signer::{Signer, pretty_jws};

const TIME: &str = "2015-04-08T18:52:59Z";
const LATER: &str = "2016-04-08T18:52:59Z";
const LAYER: &[u8] = b"a layer";

/// A registry with one layer, which has to verify clean at the end of its test.
struct Store {
    registry: Registry,
    _dir: TempDir,
}

impl Store {
    async fn open() -> Store {
        Store::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Options)) -> Store {
        let dir = TempDir::new().unwrap();
        let mut options = Options::new(dir.path().join("data"));
        change(&mut options);
        let store = Store { registry: Registry::open(options).unwrap(), _dir: dir };
        store.repository().blobs().put(Bytes::from_static(LAYER), None, &Actor::anonymous()).await.unwrap();
        store
    }

    fn repository(&self) -> Repository {
        self.registry.namespace().repository(&"team/box".parse::<RepositoryName>().unwrap())
    }

    async fn push(&self, document: &[u8], reference: &str) -> Result<Digest, Error> {
        self.push_as(MediaType::DOCKER_MANIFEST_SCHEMA1_SIGNED, document, reference).await
    }

    async fn push_as(
        &self,
        media_type: MediaType,
        document: &[u8],
        reference: &str,
    ) -> Result<Digest, Error> {
        let put = ManifestPut {
            payload: Bytes::copy_from_slice(document),
            media_type,
            reference: reference.parse().unwrap(),
            tags: Vec::new(),
            actor: Actor::anonymous(),
        };
        Ok(self.repository().manifests().put(put).await?.digest)
    }

    /// What is served, the same by tag and by digest, with a length that HEAD knows too.
    fn pull(&self) -> Bytes {
        let manifests = self.repository().manifests();
        let (tagged, document) = manifests.get(&reference("1")).unwrap().unwrap();
        let (named, again) = manifests.get(&Reference::Digest(tagged.digest)).unwrap().unwrap();
        assert_eq!((&document, &tagged), (&again, &named));
        assert_eq!(manifests.stat(&reference("1")).unwrap().unwrap(), tagged);
        assert_eq!(manifests.all(None, 10).unwrap().items, std::slice::from_ref(&tagged));
        assert_eq!(tagged.size, document.len() as u64);
        assert_eq!(tagged.media_type, MediaType::DOCKER_MANIFEST_SCHEMA1_SIGNED);
        document
    }

    fn etag(&self) -> String {
        self.repository().manifests().stat(&reference("1")).unwrap().unwrap().etag()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let report = self.registry.verify(Depth::Full).unwrap();
            assert_eq!((report.problems, report.orphans), (vec![], vec![]));
        }
    }
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn sha256(content: &[u8]) -> Digest {
    Digest::of(DigestAlgorithm::Sha256, content)
}

fn payload() -> Vec<u8> {
    payload_of("team/box", "1", &sha256(LAYER))
}

fn payload_of(name: &str, tag: &str, layer: &Digest) -> Vec<u8> {
    format!(
        "{{\n   \"schemaVersion\": 1,\n   \"name\": \"{name}\",\n   \"tag\": \"{tag}\",\n   \"architecture\": \"amd64\",\n   \
         \"fsLayers\": [{{\"blobSum\": \"{layer}\"}}],\n   \"history\": [{{\"v1Compatibility\": \"{{}}\"}}]\n}}"
    )
    .into_bytes()
}

fn signed(signers: &[&Signer], time: &str) -> Vec<u8> {
    let blocks: Vec<String> = signers.iter().map(|signer| signer.sign(&payload(), time)).collect();
    pretty_jws(&payload(), &blocks)
}

fn key_ids(document: &[u8]) -> Vec<String> {
    let manifest = SignedManifest::parse(document).unwrap();
    assert_eq!(manifest.payload(), payload());
    manifest.signatures().iter().map(|signature| signature.key_id().to_string()).collect()
}

fn sorted(signers: &[&Signer]) -> Vec<String> {
    let mut ids: Vec<String> = signers.iter().map(|signer| signer.key_id()).collect();
    ids.sort();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_from_two_hosts_end_in_one_revision() {
    let store = Store::open().await;
    let (one, two) = (Signer::generate(), Signer::generate());
    let digest = store.push(&signed(&[&one], TIME), "1").await.unwrap();
    assert_eq!(digest, sha256(&payload()), "the digest is the payload's, whoever signed");
    assert_eq!(key_ids(&store.pull()), sorted(&[&one]));
    let etag = store.etag();
    assert_eq!(store.push(&signed(&[&two], TIME), &digest.to_string()).await.unwrap(), digest);
    let merged = store.pull();
    assert_eq!(key_ids(&merged), sorted(&[&one, &two]));
    assert_ne!(store.etag(), etag);

    // Who pushes again adds nothing; the newest counts, and an old copy replaces nothing.
    let etag = store.etag();
    store.push(&merged, "1").await.unwrap();
    assert_eq!((store.pull(), store.etag()), (merged.clone(), etag.clone()));
    store.push(&signed(&[&one], LATER), "1").await.unwrap();
    store.push(&signed(&[&one], TIME), "1").await.unwrap();
    assert_eq!(key_ids(&store.pull()), sorted(&[&one, &two]));
    assert!(store.pull() != merged && store.etag() != etag);

    // The payload alone takes no signature away.
    store.push_as(MediaType::DOCKER_MANIFEST_SCHEMA1, &payload(), "1").await.unwrap();
    assert_eq!(key_ids(&store.pull()), sorted(&[&one, &two]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_manifest_is_served_as_it_is_until_somebody_signs() {
    let store = Store::open().await;
    let unsigned = MediaType::DOCKER_MANIFEST_SCHEMA1;
    let digest = store.push_as(unsigned.clone(), &payload(), "1").await.unwrap();
    let manifests = store.repository().manifests();
    let (descriptor, bytes) = manifests.get(&reference("1")).unwrap().unwrap();
    assert_eq!((descriptor.media_type.clone(), bytes), (unsigned, payload().into()));
    assert_eq!(descriptor.etag(), digest.to_string());
    assert!(store.repository().signatures().get(&digest).unwrap().unwrap().is_empty());

    let signer = Signer::generate();
    let signature = |payload: &[u8]| Signature::from_json(signer.sign(payload, TIME).as_bytes()).unwrap();
    let service = store.repository().signatures();
    let other = vec![signature(&payload_of("team/fox", "1", &digest))];
    let other = service.put(&digest, other, &Actor::anonymous()).await;
    assert!(matches!(other, Err(Error::SignedManifest(SignedManifestError::Unverified(_)))));
    let report = service.put(&digest, vec![signature(&payload())], &Actor::anonymous()).await.unwrap();
    assert_eq!(report.added.len(), 1);
    assert_eq!(key_ids(&store.pull()), sorted(&[&signer]));
    let listed = service.get(&digest).unwrap().unwrap();
    assert_eq!((listed.len(), listed[0].verified), (1, Verified::ByKey));
    let unknown = service.put(&sha256(b"unknown"), Vec::new(), &Actor::anonymous()).await;
    assert!(matches!(unknown, Err(Error::ManifestUnknown)));
}

/// Tells one error from the others.
type Is = fn(&Error) -> bool;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_true_is_refused_and_changes_nothing() {
    let store = Store::open().await;
    let signer = Signer::generate();
    let good = signed(&[&signer], TIME);
    let about = |payload: Vec<u8>| pretty_jws(&payload, &[signer.sign(&payload, TIME)]);
    let changed = String::from_utf8(good.clone()).unwrap().replace("amd64", "arm64");
    let cases: [(Vec<u8>, Is); 5] = [
        (changed.into(), |error| matches!(error, Error::SignedManifest(SignedManifestError::Unverified(_)))),
        (about(payload_of("team/fox", "1", &sha256(LAYER))), |error| {
            matches!(error, Error::SignedManifest(SignedManifestError::NameMismatch { .. }))
        }),
        (about(payload_of("team/box", "2", &sha256(LAYER))), |error| {
            matches!(error, Error::SignedManifest(SignedManifestError::TagMismatch { .. }))
        }),
        (about(payload_of("team/box", "1", &sha256(b"absent"))), |error| {
            matches!(error, Error::ManifestReferencesUnknown(_))
        }),
        (payload(), |error| matches!(error, Error::SignedManifest(SignedManifestError::Unverified(_)))),
    ];
    for (document, is_refused) in cases {
        let error = store.push(&document, "1").await.unwrap_err();
        assert!(is_refused(&error), "{error}");
    }
    assert!(store.repository().manifests().stat(&reference("1")).unwrap().is_none());

    // Another end of the payload can't be served together with this one.
    let digest = store.push(&good, "1").await.unwrap();
    let whole = payload();
    let body = whole.strip_suffix(b"}").unwrap();
    let protected = format!(r#"{{"formatLength":{},"formatTail":"fQ"}}"#, body.len());
    let block = Signer::generate().sign_protected(&payload(), &protected);
    let other = [body, b", \"signatures\": [", block.as_bytes(), b"]}"].concat();
    let refused = store.push(&other, &digest.to_string()).await;
    assert!(matches!(refused, Err(Error::SignedManifest(SignedManifestError::OtherFormat))), "{refused:?}");
    assert_eq!(key_ids(&store.pull()), sorted(&[&signer]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_manifest_takes_its_signatures_along() {
    let store = Store::open().await;
    let (one, two) = (Signer::generate(), Signer::generate());
    let digest = store.push(&signed(&[&one], TIME), "1").await.unwrap();
    let blob = store.repository().blobs().delete(&sha256(LAYER)).await;
    assert!(matches!(blob, Err(Error::StillReferenced { .. })), "the manifest needs its layers");
    store.repository().manifests().delete(&digest).await.unwrap().unwrap();
    assert!(store.repository().signatures().get(&digest).unwrap().is_none());
    store.push(&signed(&[&two], TIME), "1").await.unwrap();
    assert_eq!(key_ids(&store.pull()), sorted(&[&two]));
    store.repository().manifests().delete(&digest).await.unwrap().unwrap();
    assert!(store.repository().blobs().delete(&sha256(LAYER)).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undone_deletion_brings_its_signatures_back_to_those_that_came_meanwhile() {
    let store = Store::open().await;
    let [one, two, three] = [(); 3].map(|()| Signer::generate());
    let digest = store.push(&signed(&[&one, &two], TIME), "1").await.unwrap();
    let (document, etag) = (store.pull(), store.etag());
    let repository = store.repository();
    let listed = || repository.signatures().get(&digest).unwrap().unwrap();
    let (first, actor) = (listed(), Actor::anonymous());
    let undo = async || {
        let name = DeletedName::Digest(digest);
        repository.deletions().undelete(&name, &actor).await.unwrap();
    };
    let delete = async || repository.manifests().delete(&digest).await.unwrap().unwrap();
    delete().await;
    undo().await;
    assert_eq!((store.pull(), store.etag(), listed()), (document.clone(), etag, first.clone()));

    // Meanwhile somebody has pushed the payload alone.
    delete().await;
    store.push_as(MediaType::DOCKER_MANIFEST_SCHEMA1, &payload(), "1").await.unwrap();
    undo().await;
    assert_eq!((store.pull(), listed()), (document.clone(), first));

    // Meanwhile others have signed, and one of the former signers again.
    delete().await;
    store.push(&signed(&[&three, &one], LATER), "1").await.unwrap();
    let newer = listed();
    undo().await;
    assert_eq!(key_ids(&store.pull()), sorted(&[&one, &two, &three]));
    assert!(newer.iter().all(|signature| listed().contains(signature)), "what is there stays as it is");

    // Meanwhile somebody has signed in another form, that the former signatures can't be served with.
    delete().await;
    let whole = payload();
    let body = whole.strip_suffix(b"}").unwrap();
    let protected = format!(r#"{{"formatLength":{},"formatTail":"fQ"}}"#, body.len());
    let block = three.sign_protected(&payload(), &protected);
    let other = [body, b", \"signatures\": [", block.as_bytes(), b"]}"].concat();
    store.push(&other, "1").await.unwrap();
    undo().await;
    assert_eq!(key_ids(&store.pull()), sorted(&[&three]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_races_with_a_deletion_comes_before_it_or_after_it() {
    let store = Store::open().await;
    let [old, pushed, added] = [(); 3].map(|()| Signer::generate());
    let (first, second) = (signed(&[&old], TIME), signed(&[&pushed], TIME));
    let third = Signature::from_json(added.sign(&payload(), TIME).as_bytes()).unwrap();
    let mut found = [0, 0, 0];
    for round in 0..150 {
        let digest = store.push(&first, "1").await.unwrap();
        let (manifests, signatures) = (store.repository().manifests(), store.repository().signatures());
        let deletion = async {
            // The two others take a while to verify what they bring.
            for _ in 0..round * 4 {
                tokio::task::yield_now().await;
            }
            manifests.delete(&digest).await
        };
        let actor = Actor::anonymous();
        let (deleted, push, put) = tokio::join!(
            deletion,
            store.push(&second, "1"),
            signatures.put(&digest, vec![third.clone()], &actor),
        );
        assert!(deleted.unwrap().is_some(), "it was there throughout");
        assert_eq!(push.unwrap(), digest);
        assert!(matches!(put, Ok(_) | Err(Error::ManifestUnknown)), "{put:?}");
        if manifests.exists(&digest).unwrap() {
            let keys = key_ids(&store.pull());
            assert!(keys == sorted(&[&pushed]) || keys == sorted(&[&pushed, &added]), "{keys:?}");
            found[keys.len()] += 1;
            manifests.delete(&digest).await.unwrap().unwrap();
        } else {
            assert!(manifests.stat(&reference("1")).unwrap().is_none());
            found[0] += 1;
        }
        assert!(signatures.get(&digest).unwrap().is_none());
    }
    eprintln!("after the deletion: {} gone, {} by one key, {} by two", found[0], found[1], found[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_merged_manifest_stays_within_the_limit() {
    let one = signed(&[&Signer::generate()], TIME);
    let limit = one.len() + 600;
    let store = Store::with(|options| options.policy.max_manifest_bytes = limit).await;
    store.push(&one, "1").await.unwrap();
    let mut refused = None;
    for _ in 0..3 {
        refused = store.push(&signed(&[&Signer::generate()], TIME), "1").await.err();
    }
    assert!(
        matches!(refused, Some(Error::SignedManifest(SignedManifestError::TooLarge { .. }))),
        "{refused:?}"
    );
    assert!(store.pull().len() <= limit);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_hosts_sign_at_once_and_all_are_served() {
    let store = Store::open().await;
    let signers: Vec<Signer> = (0..100).map(|_| Signer::generate()).collect();
    let documents: Vec<Vec<u8>> = signers.iter().map(|signer| signed(&[signer], TIME)).collect();
    let begin = monotonic();
    let pushes = documents.iter().map(|document| store.push(document, "1"));
    for pushed in futures_util::future::join_all(pushes).await {
        assert_eq!(pushed.unwrap(), sha256(&payload()));
    }
    let took = begin.elapsed();
    let begin = monotonic();
    let document = store.pull();
    eprintln!(
        "100 signatures: pushed in {took:?}, {} bytes, 4 reads in {:?}",
        document.len(),
        begin.elapsed()
    );
    assert_eq!(key_ids(&document), sorted(&signers.iter().collect::<Vec<_>>()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_manifest_that_nobody_signs_meanwhile_is_served_from_memory() {
    let mut metrics = None;
    let store = Store::with(|options| metrics = Some(options.metrics.clone())).await;
    let metrics = metrics.unwrap();
    store.push(&signed(&[&Signer::generate()], TIME), "1").await.unwrap();
    let manifests = store.repository().manifests();
    let first = manifests.get(&reference("1")).unwrap().unwrap();
    let (hits, misses) = metrics.descriptor_cache();
    for _ in 0..10 {
        let again = manifests.get(&reference("1")).unwrap().unwrap();
        assert_eq!(again, first);
        assert_eq!(again.1.as_ptr(), first.1.as_ptr(), "it was put together once");
        assert_eq!(manifests.stat(&reference("1")).unwrap().unwrap(), first.0);
    }
    assert_eq!(metrics.descriptor_cache(), (hits + 20, misses), "no row was read");
    store.push(&signed(&[&Signer::generate()], TIME), "1").await.unwrap();
    assert_eq!(key_ids(&store.pull()).len(), 2);
}

/// Pulls without end, while `known` has a number of hundreds that is even while nobody deletes, and the number of signatures
/// that were acknowledged since; checks that a pull has these, and returns how many pulls there were.
fn pull_and_check(manifests: &ManifestService, known: &AtomicUsize, done: &AtomicBool) -> usize {
    let mut pulls = 0;
    while !done.load(Ordering::SeqCst) {
        let before = known.load(Ordering::SeqCst);
        let pulled = manifests.get(&reference("1")).unwrap();
        let after = known.load(Ordering::SeqCst);
        let found = pulled.map_or(0, |(descriptor, document)| {
            assert_eq!(descriptor.size, document.len() as u64);
            key_ids(&document).len()
        });
        if before / 100 == after / 100 && (before / 100).is_multiple_of(2) {
            // The next one may be there before its push is answered.
            assert!((before % 100..=after % 100 + 1).contains(&found), "{before} to {after}: {found}");
        }
        pulls += 1;
    }
    pulls
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_has_every_signature_that_was_acknowledged_before_it_and_none_of_a_deleted_manifest() {
    // With room for the whole manifest in the cache, and for its first signatures only.
    for manifest_bytes in [8 << 20, 32 << 10] {
        let store = Store::with(|options| options.database.cache.manifest_bytes = manifest_bytes).await;
        let documents: Vec<_> = (0..20).map(|_| signed(&[&Signer::generate()], TIME)).collect();
        let (known, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let readers = [(); 2].map(|()| {
            let (manifests, known, done) = (store.repository().manifests(), known.clone(), done.clone());
            std::thread::spawn(move || pull_and_check(&manifests, &known, &done))
        });
        for round in (0..6).step_by(2) {
            for (number, document) in documents.iter().enumerate() {
                store.push(document, "1").await.unwrap();
                known.fetch_add(1, Ordering::SeqCst);
                assert_eq!(key_ids(&store.pull()).len(), number + 1);
            }
            known.store(100 * (round + 1), Ordering::SeqCst);
            store.repository().manifests().delete(&sha256(&payload())).await.unwrap().unwrap();
            known.store(100 * (round + 2), Ordering::SeqCst);
        }
        done.store(true, Ordering::SeqCst);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    }
}

/// The payload was pushed as something else while a signature was verified, and the signature was written all the same: the
/// manifest was one of schema 1 again, and said nothing of its layers any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_signature_comes_too_late_for_what_is_no_schema_1_manifest_any_more() {
    let store = Store::open().await;
    let service = store.repository().signatures();
    let signer = Signer::generate();
    let other: MediaType = "application/vnd.example+json".parse().unwrap();
    for _ in 0..20 {
        let digest = store
            .push_as(MediaType::DOCKER_MANIFEST_SCHEMA1, &payload(), &sha256(&payload()).to_string())
            .await
            .unwrap();
        let signature = Signature::from_json(signer.sign(&payload(), TIME).as_bytes()).unwrap();
        let actor = Actor::anonymous();
        let bytes = payload();
        let (put, pushed) = tokio::join!(
            service.put(&digest, vec![signature], &actor),
            store.push_as(other.clone(), &bytes, "1")
        );
        pushed.unwrap();
        if let Err(error) = put {
            assert!(matches!(error, Error::SignedManifest(SignedManifestError::Invalid(_))), "{error}");
        }
        assert_eq!(store.registry.verify(Depth::Full).unwrap().problems, Vec::<String>::new());
        store.repository().manifests().delete(&digest).await.unwrap().unwrap();
    }
}

/// A page of revisions ended only after as many as were asked for, and put together all the signatures of all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_revisions_puts_no_more_together_than_it_can_in_a_moment() {
    let store = Store::open().await;
    let signer = Signer::generate();
    let mut pushed = Vec::new();
    for number in 0..5 {
        let payload = String::from_utf8(payload()).unwrap();
        let long = payload.replace("amd64", &format!("{number}{}", "x".repeat(500_000))).into_bytes();
        let document = pretty_jws(&long, &[signer.sign(&long, TIME)]);
        pushed.push(store.push(&document, &sha256(&long).to_string()).await.unwrap());
    }
    pushed.sort();
    let manifests = store.repository().manifests();
    let page = manifests.all(None, 100).unwrap();
    assert_eq!((page.items.len(), page.more), (3, true));
    let page = manifests.all(Some(&pushed[2]), 100).unwrap();
    assert_eq!((page.items.len(), page.more), (2, false));
    let all: Vec<Digest> = manifests.scroll().map(|manifest| manifest.unwrap().digest).collect();
    assert_eq!(all, pushed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_counts_only_against_configured_roots() {
    let document = include_bytes!("vectors/schema1/x5c.json");
    let root: &[u8] = include_bytes!("vectors/schema1/root.der");
    let (now, after_all_certificates) = (SystemClock.now(), Timestamp::from_millis(u64::MAX / 1_000_000));
    for (roots, time, verified) in [
        (vec![], now, Verified::ByKey),
        (vec![root], now, Verified::ByChain),
        (vec![root], after_all_certificates, Verified::ByKey),
    ] {
        let store = Store::with(|options| {
            options.trust_roots = TrustRoots::from_der(roots).unwrap();
            options.clock = Arc::new(ManualClock::new(time));
        })
        .await;
        for layer in [&b"one"[..], b"two"] {
            store
                .repository()
                .blobs()
                .put(Bytes::from_static(layer), None, &Actor::anonymous())
                .await
                .unwrap();
        }
        let digest = store.push(document, "1").await.unwrap();
        let listed = store.repository().signatures().get(&digest).unwrap().unwrap();
        assert_eq!(listed.iter().map(|signature| signature.verified).collect::<Vec<_>>(), [verified]);
    }
}
