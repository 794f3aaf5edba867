//! The services of a repository, as a program that embeds the registry uses them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use orlop::clock::{ManualClock, Timestamp};
use orlop::metadata::CacheOptions;
use orlop::oci::tarsum::{TarSum, TarSumVersion, TarSummer};
use orlop::oci::{Descriptor, Digest, DigestAlgorithm, MediaType, Reference, RepositoryName, Tag};
use orlop::registry::{
    Actor, Depth, Error, ImmutableRule, ImmutableTags, ManifestPut, NameScope, Options,
    ProvisionalDescriptor, Registry, Repository, TagSelection,
};
use orlop::telemetry::StorageMetrics;
use tempfile::TempDir;

/// A registry that has to verify clean at the end of its test.
struct Store {
    registry: Registry,
    metrics: StorageMetrics,
    dir: TempDir,
}

impl Store {
    fn open() -> Store {
        Store::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Options)) -> Store {
        let dir = TempDir::new().unwrap();
        let mut options = Options::new(dir.path().join("data"));
        change(&mut options);
        let metrics = options.metrics.clone();
        Store { registry: Registry::open(options).unwrap(), metrics, dir }
    }

    fn repository(&self, name: &str) -> Repository {
        self.registry.namespace().repository(&name.parse::<RepositoryName>().unwrap())
    }

    /// The same directory in a new process, as far as the library can tell.
    async fn reopen(self) -> Store {
        let Store { registry, metrics, dir } = self;
        registry.close().await;
        drop(registry);
        let options = Options { metrics: metrics.clone(), ..Options::new(dir.path().join("data")) };
        Store { registry: Registry::open(options).unwrap(), metrics, dir }
    }

    fn verify(&self) {
        let report = self.registry.verify(Depth::Full).unwrap();
        assert_eq!((report.problems, report.orphans), (vec![], vec![]));
        assert!(self.dir.path().exists());
    }
}

fn sha256(content: &[u8]) -> Digest {
    Digest::of(DigestAlgorithm::Sha256, content)
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn anonymous() -> Actor {
    Actor::anonymous()
}

/// A manifest of a type that nobody knows.
fn opaque(content: &str, reference: Reference, tags: &[&str]) -> ManifestPut {
    ManifestPut {
        payload: Bytes::copy_from_slice(content.as_bytes()),
        media_type: "application/vnd.example.thing".parse().unwrap(),
        reference,
        tags: tags.iter().map(|text| tag(text)).collect(),
        actor: anonymous(),
    }
}

fn by_digest(content: &str) -> ManifestPut {
    opaque(content, Reference::Digest(sha256(content.as_bytes())), &[])
}

fn by_tag(content: &str, name: &str) -> ManifestPut {
    opaque(content, Reference::Tag(tag(name)), &[])
}

// Revisions

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_of_any_format_is_put_found_got_and_deleted_by_its_digest() {
    let store = Store::open();
    let manifests = store.repository("box").manifests();
    for content in ["no JSON at all \u{0}", "{\"any\":\"thing\"}", ""] {
        let digest = sha256(content.as_bytes());
        assert!(!manifests.exists(&digest).unwrap());
        manifests.put(by_digest(content)).await.unwrap();
        assert!(manifests.exists(&digest).unwrap());
        let (descriptor, payload) = manifests.get(&Reference::Digest(digest)).unwrap().unwrap();
        assert_eq!((&payload[..], descriptor.size), (content.as_bytes(), content.len() as u64));
        assert_eq!(descriptor.media_type.as_str(), "application/vnd.example.thing");
        assert_eq!(manifests.delete(&digest).await.unwrap(), Some(vec![]));
        assert!(!manifests.exists(&digest).unwrap());
        assert_eq!(manifests.delete(&digest).await.unwrap(), None);
    }
    store.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cursor_over_all_revisions_stays_valid_while_others_push_and_delete() {
    let store = Store::open();
    let manifests = store.repository("box").manifests();
    let mut kept = HashSet::new();
    for n in 0..120 {
        kept.insert(manifests.put(by_digest(&format!("kept {n}"))).await.unwrap().canonical);
    }
    let done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (manifests, done) = (manifests.clone(), done.clone());
            tokio::spawn(async move {
                let mut n = 0;
                // Once at least, however busy the machine is with the walks.
                while n == 0 || !done.load(Ordering::Relaxed) {
                    let pushed = manifests.put(by_digest(&format!("{writer} {n}"))).await.unwrap();
                    if n % 2 == 0 {
                        manifests.delete(&pushed.canonical).await.unwrap();
                    }
                    n += 1;
                }
                n
            })
        })
        .collect();
    for walk in 0..30 {
        let (mut seen, mut last, mut after) = (HashSet::new(), None, None);
        loop {
            // Also behind a revision that has been deleted since.
            let page = manifests.all(after.as_ref(), 7).unwrap();
            for manifest in &page.items {
                assert!(last < Some(manifest.canonical), "in order, and each once");
                last = Some(manifest.canonical);
                seen.insert(manifest.canonical);
            }
            after = last;
            tokio::task::yield_now().await;
            if !page.more {
                break;
            }
        }
        assert!(kept.is_subset(&seen), "walk {walk} missed what was there throughout");
    }
    done.store(true, Ordering::Relaxed);
    for writer in writers {
        assert!(writer.await.unwrap() > 0);
    }
    let scrolled: Vec<_> = manifests.scroll().map(|manifest| manifest.unwrap().canonical).collect();
    assert!(scrolled.is_sorted() && kept.is_subset(&scrolled.into_iter().collect()));
    assert!(matches!(
        store.repository("none").manifests().scroll().next(),
        Some(Err(Error::RepositoryUnknown))
    ));
    store.verify();
}

// Tags

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_is_set_moved_and_taken_and_its_history_says_when_and_by_whom() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000)));
    let store = Store::with(|options| options.clock = clock.clone());
    let repository = store.repository("box");
    let (manifests, tags) = (repository.manifests(), repository.tags());
    let one = manifests.put(by_digest("one")).await.unwrap().canonical;
    let two = manifests.put(by_digest("two")).await.unwrap().canonical;
    let (ann, ben) = (Actor::new("ann"), Actor::new("ben"));
    for (at, digest, actor) in [(2, one, &ann), (3, two, &ben), (4, two, &ann), (5, one, &ben)] {
        clock.set(Timestamp::from_millis(at * 1_000));
        tags.tag(&digest, &tag("v1"), actor).await.unwrap();
        assert_eq!(tags.get(&tag("v1")).unwrap().unwrap().digest, digest);
    }
    assert!(tags.untag(&tag("v1")).await.unwrap());
    assert!(!tags.untag(&tag("v1")).await.unwrap());
    assert_eq!(tags.get(&tag("v1")).unwrap(), None);
    manifests.delete(&two).await.unwrap();

    // Setting a tag to what it points to already is no new revision.
    let all = tags.history(&tag("v1"), None, 10).unwrap();
    let seen: Vec<_> = all
        .items
        .iter()
        .map(|revision| (revision.number, revision.digest, revision.at.millis(), revision.actor.as_str()))
        .collect();
    assert_eq!(seen, [(2, one, 5_000, "ben"), (1, two, 3_000, "ben"), (0, one, 2_000, "ann")]);
    let mut paged = Vec::new();
    let mut before = None;
    loop {
        let page = tags.history(&tag("v1"), before, 1).unwrap();
        before = page.items.last().map(|revision| revision.number);
        paged.extend(page.items);
        if !page.more {
            break;
        }
    }
    assert_eq!(paged, all.items);
    assert!(tags.history(&tag("v"), None, 10).unwrap().items.is_empty());
    let unknown = tags.tag(&two, &tag("v1"), &ann).await;
    assert!(matches!(unknown, Err(Error::ManifestUnknown)), "{unknown:?}");
    store.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_immutable_tag_is_set_once_however_many_want_it() {
    let immutable = ImmutableRule { repositories: NameScope::everything(), tags: TagSelection::everything() };
    let store = Store::with(|options| options.policy.immutable = ImmutableTags::new(vec![immutable]));
    let repository = store.repository("box");
    let (manifests, tags) = (repository.manifests(), repository.tags());
    let mut digests = Vec::new();
    for at in 0..16 {
        digests.push(manifests.put(by_digest(&at.to_string())).await.unwrap().canonical);
    }
    let actor = Actor::new("ann");
    let set = |digest: Digest| {
        let (tags, actor) = (tags.clone(), actor.clone());
        tokio::spawn(async move { tags.tag(&digest, &tag("v1"), &actor).await.map(|()| digest) })
    };
    let mut set_to = Vec::new();
    for task in digests.iter().map(|digest| set(*digest)).collect::<Vec<_>>() {
        match task.await.unwrap() {
            Ok(digest) => set_to.push(digest),
            Err(error) => assert!(matches!(error, Error::TagImmutable { .. }), "{error}"),
        }
    }
    let [winner] = set_to[..] else { panic!("{set_to:?}") };
    assert_eq!(tags.get(&tag("v1")).unwrap().unwrap().digest, winner);
    tags.tag(&winner, &tag("v1"), &actor).await.unwrap();
    for refused in [tags.untag(&tag("v1")).await.map(|_| ()), manifests.delete(&winner).await.map(|_| ())] {
        assert!(
            matches!(refused, Err(Error::TagImmutable { digest, .. }) if digest == winner),
            "{refused:?}"
        );
    }
    assert!(!tags.untag(&tag("v2")).await.unwrap());
    let history = tags.history(&tag("v1"), None, 10).unwrap().items;
    assert_eq!(history.len(), 1, "{history:?}");
    store.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_listed_and_looked_up_by_cursor() {
    let store = Store::open();
    let repository = store.repository("box");
    let names: Vec<String> = (0..2_500).map(|n| format!("t{n:04}")).collect();
    for some in names.chunks(500) {
        let some: Vec<&str> = some.iter().map(String::as_str).collect();
        repository.manifests().put(opaque("x", Reference::Digest(sha256(b"x")), &some)).await.unwrap();
    }
    repository.manifests().put(by_tag("y", "other")).await.unwrap();
    let scrolled: Vec<String> = repository.tags().scroll().map(|tag| tag.unwrap().to_string()).collect();
    assert_eq!(scrolled.len(), 2_501);
    assert_eq!((&scrolled[0], &scrolled[1..]), (&"other".to_owned(), &names[..]));
    let mut found = Vec::new();
    loop {
        let after = found.last().cloned();
        let page = repository.tags().lookup(&sha256(b"x"), after.as_deref(), 700).unwrap();
        found.extend(page.items.iter().map(Tag::to_string));
        if !page.more {
            break;
        }
    }
    assert_eq!(found, names);
    assert!(repository.tags().lookup(&sha256(b"z"), None, 10).unwrap().items.is_empty());
    store.verify();
}

// Blobs

#[tokio::test(flavor = "multi_thread")]
async fn an_open_blob_is_a_stream_that_can_be_sought_in() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(7_000)));
    let store = Store::with(|options| options.clock = clock);
    let blobs = store.repository("box").blobs();
    let content: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
    let put = blobs.put(content.clone().into(), None, &anonymous()).await.unwrap();
    let mut reader = blobs.open(put.digest).unwrap().unwrap();
    assert_eq!((*reader.digest(), reader.size()), (sha256(&content), content.len() as u64));
    assert_eq!(reader.created_at().millis(), 7_000);
    tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        let mut second = reader.clone();
        reader.read_to_end(&mut all).unwrap();
        assert!(all == content);
        let mut four = [0; 4];
        for (to, at) in [
            (SeekFrom::Start(400_000), 400_000),
            (SeekFrom::End(-4), content.len() - 4),
            (SeekFrom::Current(-8), content.len() - 8),
        ] {
            assert_eq!(reader.seek(to).unwrap(), at as u64);
            reader.read_exact(&mut four).unwrap();
            assert_eq!(four, content[at..at + 4]);
        }
        assert!(reader.seek(SeekFrom::Current(i64::MIN)).is_err());
        reader.seek(SeekFrom::End(10)).unwrap();
        assert_eq!(reader.read(&mut four).unwrap(), 0);
        second.read_exact(&mut four).unwrap();
        assert_eq!(four, content[..4], "a clone has its own position");
    })
    .await
    .unwrap();
    store.verify();
}

/// Seeks back while the bytes are still in memory, while a thread writes them, after a flush, a checkpoint and a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_seeks_back_to_any_offset_and_the_hash_is_that_of_what_is_left() {
    let mut store = Store::open();
    let content: Vec<u8> = (0..500_000_u32).flat_map(u32::to_be_bytes).collect();
    let wrong = vec![0xff; 1_500_000];
    for (case, written, offset) in [
        (0, 1_000, 10),
        (1, 1_400_000, 0),
        (2, 1_400_000, 1_399_999),
        (3, 1_200_000, 600_001),
        (4, 900_000, 3),
    ] {
        let repository = format!("box{case}");
        let blobs = store.repository(&repository).blobs();
        let mut writer = blobs.create(DigestAlgorithm::Sha512, &anonymous()).unwrap();
        writer.write(Bytes::copy_from_slice(&content[..offset])).await.unwrap();
        if case == 4 {
            writer.checkpoint().await.unwrap();
        }
        for piece in wrong[..written - offset].chunks(100_000) {
            writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        match case {
            2 => drop(writer.flush().await.unwrap()),
            3 | 4 => drop(writer.checkpoint().await.unwrap()),
            _ => {}
        }
        let beyond = writer.seek(written as u64 + 1).await;
        assert!(matches!(beyond, Err(Error::OffsetUnknown { size, .. }) if size == written as u64));
        writer.seek(offset as u64).await.unwrap();
        assert_eq!(writer.size(), offset as u64);
        if case >= 3 {
            // What a restart goes on with has been taken back too.
            let id = *writer.id();
            drop((writer, blobs));
            store = store.reopen().await;
            let blobs = store.repository(&repository).blobs();
            writer = blobs.resume(&id).await.unwrap().unwrap();
            assert_eq!(writer.size(), offset as u64);
        }
        writer.write(Bytes::copy_from_slice(&content[offset..])).await.unwrap();
        let stored = writer.commit(sha256(&content)).await.unwrap();
        assert_eq!(stored.size, content.len() as u64);
    }
    store.verify();
}

/// All files as a crash would leave them now, while no write is under way.
fn crashed(store: &Store) -> Store {
    fn copy(from: &std::path::Path, to: &std::path::Path) {
        std::fs::create_dir(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &to);
            } else {
                std::fs::write(to, std::fs::read(entry.path()).unwrap()).unwrap();
            }
        }
    }
    let dir = TempDir::new().unwrap();
    copy(&store.dir.path().join("data"), &dir.path().join("data"));
    let options = Options::new(dir.path().join("data"));
    let metrics = options.metrics.clone();
    Store { registry: Registry::open(options).unwrap(), metrics, dir }
}

/// Every other way to end an upload's request records where it stands; after a crash only the seek itself has.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_went_back_behind_its_checkpoint_survives_a_crash_there() {
    let store = Store::open();
    let content = vec![7; 900_000];
    let blobs = store.repository("box").blobs();
    let mut writer = blobs.create(DigestAlgorithm::Sha256, &anonymous()).unwrap();
    writer.write(content[..600_000].to_vec().into()).await.unwrap();
    writer.write(vec![0xff; 600_000].into()).await.unwrap();
    writer.checkpoint().await.unwrap();
    writer.seek(600_000).await.unwrap();

    let again = crashed(&store);
    let blobs = again.repository("box").blobs();
    let mut resumed = blobs.resume(writer.id()).await.unwrap().expect("the upload is there");
    assert_eq!(resumed.size(), 600_000);
    resumed.write(content[600_000..].to_vec().into()).await.unwrap();
    resumed.commit(sha256(&content)).await.unwrap();
    again.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_reads_from_any_source() {
    let store = Store::open();
    let blobs = store.repository("box").blobs();
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut writer = blobs.create(DigestAlgorithm::Sha256, &anonymous()).unwrap();
    assert_eq!(writer.read_from(&content[..600_000]).await.unwrap(), 600_000);
    let rest = std::io::Cursor::new(content[600_000..].to_vec());
    assert_eq!(writer.read_from_blocking(rest).await.unwrap(), 600_000);
    assert_eq!((writer.size(), writer.started_at() <= Timestamp::from_millis(u64::MAX)), (1_200_000, true));
    // What came before a failure of the source stays.
    let broken = writer.read_from_blocking(Broken(b"wrong")).await;
    assert!(matches!(broken, Err(Error::Io(_))), "{broken:?}");
    assert_eq!(writer.size(), 1_200_005);
    writer.seek(1_200_000).await.unwrap();
    writer.commit(sha256(&content)).await.unwrap();
    store.verify();
}

/// A source that fails after its bytes.
struct Broken(&'static [u8]);

impl Read for Broken {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(std::io::Error::other("broken on purpose")),
            read => Ok(read),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_checks_what_a_provisional_descriptor_says_and_returns_the_canonical_one() {
    let store = Store::open();
    let blobs = store.repository("box").blobs();
    let content = Bytes::from_static(b"layer");
    let named = Digest::of(DigestAlgorithm::Sha384, &content);
    let mut writer = blobs.create(DigestAlgorithm::Sha384, &anonymous()).unwrap();
    writer.write(content.slice(..3)).await.unwrap();
    let media_type: MediaType = "application/vnd.oci.image.layer.v1.tar".parse().unwrap();
    let provisional =
        ProvisionalDescriptor { digest: named.into(), size: Some(5), media_type: Some(media_type.clone()) };
    let short = writer.commit(provisional.clone()).await;
    assert!(matches!(short, Err(Error::SizeMismatch { claimed: 5, received: 3 })), "{short:?}");
    // The upload is as it was.
    writer.write(content.slice(3..)).await.unwrap();
    let stored = writer.commit(provisional).await.unwrap();
    assert_eq!((stored.digest, stored.size, &stored.media_type), (sha256(&content), 5, &media_type));
    for digest in [named, sha256(&content)] {
        assert_eq!(blobs.stat(digest).unwrap(), Some(stored.clone()));
        assert_eq!(blobs.get(digest).await.unwrap(), Some(content.clone()));
    }
    let descriptor = Descriptor {
        media_type,
        digest: named,
        size: 6,
        artifact_type: None,
        urls: vec![],
        annotations: std::collections::BTreeMap::default(),
    };
    let mut writer = blobs.create(DigestAlgorithm::Sha384, &anonymous()).unwrap();
    writer.write(content).await.unwrap();
    assert!(matches!(writer.commit(&descriptor).await, Err(Error::SizeMismatch { .. })));
    writer.cancel().await.unwrap();
    assert_eq!(store.registry.verify(Depth::Full).unwrap().blobs, 1, "stored once");
    store.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_is_idempotent_and_takes_nothing_from_a_commit() {
    let store = Store::open();
    let blobs = store.repository("box").blobs();
    let content = Bytes::from(vec![3; 400_000]);
    let mut writer = blobs.create(DigestAlgorithm::Sha256, &anonymous()).unwrap();
    let id = *writer.id();
    writer.write(content.clone()).await.unwrap();
    writer.commit(sha256(&content)).await.unwrap();
    for _ in 0..2 {
        writer.cancel().await.unwrap();
        assert!(!blobs.cancel(&id).await.unwrap());
    }
    assert!(matches!(writer.commit(sha256(&content)).await, Err(Error::UploadUnknown)));
    assert_eq!(blobs.get(&sha256(&content)).await.unwrap(), Some(content.clone()));
    let mut writer = blobs.create(DigestAlgorithm::Sha256, &anonymous()).unwrap();
    writer.write(content).await.unwrap();
    for _ in 0..2 {
        writer.cancel().await.unwrap();
    }
    assert!(!blobs.cancel(writer.id()).await.unwrap());
    assert!(blobs.resume(writer.id()).await.unwrap().is_none());
    store.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_global_and_what_a_repository_may_read_are_kept_apart() {
    let store = Store::open();
    let (one, two) = (store.repository("one"), store.repository("two"));
    let put = one.blobs().put(Bytes::from_static(b"x"), None, &anonymous()).await.unwrap();
    assert_eq!(two.blobs().stat(put.digest).unwrap(), None);
    let mounted = two.blobs().mount(&put.digest, Some(one.name()), &anonymous()).await.unwrap().unwrap();
    assert_eq!(mounted, put);
    assert!(one.blobs().delete(&put.digest).await.unwrap());
    assert!(!one.blobs().delete(&put.digest).await.unwrap());
    assert_eq!(
        (one.blobs().stat(put.digest).unwrap(), two.blobs().stat(put.digest).unwrap()),
        (None, Some(put))
    );
    store.verify();
}

// Digest domains

#[tokio::test(flavor = "multi_thread")]
async fn a_descriptor_can_be_set_for_a_digest_of_another_domain() {
    let store = Store::open();
    let repository = store.repository("box");
    let blobs = repository.blobs();
    let content = Bytes::from_static(b"x");
    let (sha512, sha384) =
        (Digest::of(DigestAlgorithm::Sha512, &content), Digest::of(DigestAlgorithm::Sha384, &content));
    let put = blobs.put(content.clone(), None, &anonymous()).await.unwrap();
    assert_eq!(blobs.stat(sha512).unwrap(), None);
    assert_eq!(blobs.set_descriptor(&sha512, &put.digest).await.unwrap(), put.digest);
    assert_eq!(blobs.stat(sha512).unwrap(), Some(put.clone()));
    // By what has just become known, and again.
    for _ in 0..2 {
        assert_eq!(blobs.set_descriptor(&sha384, &sha512).await.unwrap(), put.digest);
    }
    assert_eq!(blobs.get(sha384).await.unwrap(), Some(content));

    let other = blobs.put(Bytes::from_static(b"y"), None, &anonymous()).await.unwrap();
    let taken = blobs.set_descriptor(&sha512, &other.digest).await;
    assert!(matches!(taken, Err(Error::DigestMismatch { .. })), "{taken:?}");
    let canonical = blobs.set_descriptor(&sha256(b"z"), &other.digest).await;
    assert!(matches!(canonical, Err(Error::DigestMismatch { .. })), "{canonical:?}");
    let elsewhere = store.repository("elsewhere");
    elsewhere.manifests().put(by_digest("m")).await.unwrap();
    let sha512 = Digest::of(DigestAlgorithm::Sha512, b"y");
    let unknown = elsewhere.blobs().set_descriptor(&sha512, &other.digest).await;
    assert!(matches!(unknown, Err(Error::BlobUnknown(_))), "{unknown:?}");
    let alias = Digest::of(DigestAlgorithm::Sha512, b"m");
    elsewhere.blobs().set_descriptor(&alias, &sha256(b"m")).await.unwrap();
    assert!(elsewhere.manifests().exists(&alias).unwrap());
    store.verify();
}

/// A tar archive of small files.
fn archive(files: &[(&str, &str)]) -> Bytes {
    let mut tar = Vec::new();
    for (name, content) in files {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        header[136..148].copy_from_slice(b"00000000000\0");
        header[148..156].copy_from_slice(b"        ");
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar.extend_from_slice(&header);
        tar.extend_from_slice(content.as_bytes());
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar.into()
}

fn tarsum(archive: &[u8]) -> TarSum {
    let mut summer = TarSummer::new(TarSumVersion::V1);
    summer.update(archive).unwrap();
    summer.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tarsum_is_verified_and_mapped_to_the_canonical_digest_of_the_archive() {
    let store = Store::open();
    let layer = archive(&[("a", "first"), ("b", "second")]);
    let sum = tarsum(&layer);
    let one = store.repository("one").blobs();
    let mut writer = one.create(DigestAlgorithm::CANONICAL, &anonymous()).unwrap();
    writer.write(layer.clone()).await.unwrap();
    let stored = writer.commit(sum).await.unwrap();
    assert_eq!(stored.digest, sha256(&layer));
    assert_eq!(one.stat(sum).unwrap(), Some(stored.clone()));
    assert_eq!(one.get(sum).await.unwrap(), Some(layer.clone()));
    assert_eq!(store.repository("none").blobs().stat(sum).unwrap(), None);

    // The same files in another order are other bytes of the same tarsum. Who has some archive of it gets nobody else's.
    let turned = archive(&[("b", "second"), ("a", "first")]);
    assert_eq!((tarsum(&turned), turned == layer), (sum, false));
    let two = store.repository("two").blobs();
    let mut writer = two.create(DigestAlgorithm::CANONICAL, &anonymous()).unwrap();
    writer.write(turned.clone()).await.unwrap();
    assert_eq!(writer.commit(sum).await.unwrap().digest, sha256(&turned));
    for (blobs, own, other) in [(&one, &layer, &turned), (&two, &turned, &layer)] {
        assert_eq!(blobs.get(sum).await.unwrap(), Some(own.clone()));
        assert_eq!(blobs.get(sha256(own)).await.unwrap(), Some(own.clone()));
        assert_eq!(blobs.stat(sha256(other)).unwrap(), None);
    }

    // Of its own, a repository finds the one that came last.
    let both = store.repository("both").blobs();
    for archive in [&turned, &layer] {
        let mut writer = both.create(DigestAlgorithm::CANONICAL, &anonymous()).unwrap();
        writer.write(archive.clone()).await.unwrap();
        writer.commit(sum).await.unwrap();
        assert_eq!(both.get(sum).await.unwrap(), Some(archive.clone()));
    }

    // Other files, and what is no archive at all.
    for wrong in [archive(&[("a", "first")]), Bytes::from_static(b"not a tar archive")] {
        let mut writer = two.create(DigestAlgorithm::CANONICAL, &anonymous()).unwrap();
        let id = *writer.id();
        writer.write(wrong).await.unwrap();
        let refused = writer.commit(sum).await;
        assert!(matches!(refused, Err(Error::DigestMismatch { .. } | Error::TarSum(_))), "{refused:?}");
        assert!(two.resume(&id).await.unwrap().is_none());
    }
    let three = store.repository("three").blobs();
    for (from, archive) in [(None, &layer), (Some("two"), &turned)] {
        let from = from.map(|from| from.parse::<RepositoryName>().unwrap());
        let mounted = three.mount(sum, from.as_ref(), &anonymous()).await.unwrap();
        assert_eq!(mounted.unwrap().digest, sha256(archive));
        assert_eq!(three.get(sum).await.unwrap(), Some(archive.clone()));
    }
    assert!(one.delete(sum).await.unwrap());
    assert_eq!(one.stat(sum).unwrap(), None);
    assert_eq!(two.get(sum).await.unwrap(), Some(turned));
    store.verify();
}

// The descriptor cache

/// How a store is asked for a tag: its manifest's bytes.
fn pulled(repository: &Repository, name: &Tag) -> Option<Bytes> {
    repository.manifests().get(&Reference::Tag(name.clone())).unwrap().map(|(_, payload)| payload)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_pull_needs_no_database_and_is_counted() {
    let store = Store::open();
    let repository = store.repository("box");
    let metrics = store.metrics.clone();
    repository.manifests().put(by_tag("x", "v1")).await.unwrap();
    let blob = repository.blobs().put(Bytes::from_static(b"b"), None, &anonymous()).await.unwrap();
    pulled(&repository, &tag("v1")).unwrap();
    repository.blobs().stat(blob.digest).unwrap().unwrap();
    let (hits, misses) = metrics.descriptor_cache();
    let (found, read) = metrics.manifest_cache();
    for _ in 0..10 {
        assert_eq!(pulled(&repository, &tag("v1")).unwrap(), "x");
        repository.manifests().stat(&Reference::Digest(sha256(b"x"))).unwrap().unwrap();
        repository.blobs().stat(blob.digest).unwrap().unwrap();
    }
    assert_eq!(metrics.descriptor_cache(), (hits + 30, misses));
    assert_eq!(metrics.manifest_cache(), (found + 10, read));
    // What is gone is not found in the cache either.
    repository.tags().untag(&tag("v1")).await.unwrap();
    assert_eq!(pulled(&repository, &tag("v1")), None);
    assert_eq!(metrics.descriptor_cache(), (hits + 30, misses + 1));
    store.registry.close().await;
    let closed = repository.blobs().stat(blob.digest);
    assert!(matches!(closed, Err(Error::Unavailable)), "{closed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_can_be_switched_off() {
    let store =
        Store::with(|options| options.database.cache = CacheOptions { descriptors: 0, manifest_bytes: 0 });
    let repository = store.repository("box");
    repository.manifests().put(by_tag("x", "v1")).await.unwrap();
    for _ in 0..3 {
        assert_eq!(pulled(&repository, &tag("v1")).unwrap(), "x");
    }
    assert_eq!(store.metrics.descriptor_cache(), (0, 0));
    assert_eq!(store.metrics.manifest_cache(), (0, 0));
    store.verify();
}

/// One writer per tag counts upwards, deleting and pushing again on the way; readers of all tags, by a cache that is much
/// too small, must never see a number go down, nor miss what was acknowledged, nor find what was deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_see_each_write_from_its_answer_on_and_never_an_older_one_again() {
    const ROUNDS: usize = 150;
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    let store = Store::with(|options| {
        options.database.cache = CacheOptions { descriptors: 32, manifest_bytes: 4096 };
    });
    // What was acknowledged: twice the number that was pushed, one more once its tag was taken.
    let acknowledged: Arc<[AtomicUsize; 4]> = Arc::default();
    let done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = NAMES
        .into_iter()
        .enumerate()
        .map(|(at, name)| {
            let (repository, acknowledged) = (store.repository("box"), acknowledged.clone());
            tokio::spawn(async move {
                for n in 1..=ROUNDS {
                    repository.manifests().put(by_tag(&format!("{name} {n}"), name)).await.unwrap();
                    acknowledged[at].store(2 * n, Ordering::SeqCst);
                    let content = format!("{name} {n}");
                    match n % 3 {
                        0 => assert!(repository.tags().untag(&tag(name)).await.unwrap()),
                        1 => {
                            let digest = sha256(content.as_bytes());
                            let went = repository.manifests().delete(&digest).await.unwrap();
                            assert_eq!(went, Some(vec![tag(name)]));
                        }
                        _ => continue,
                    }
                    acknowledged[at].store(2 * n + 1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (repository, acknowledged, done) =
                (store.repository("box"), acknowledged.clone(), done.clone());
            std::thread::spawn(move || {
                let tags = NAMES.map(tag);
                let mut newest = [0; 4];
                let mut found = 0;
                while !done.load(Ordering::Relaxed) {
                    for at in 0..4 {
                        let before = acknowledged[at].load(Ordering::SeqCst);
                        let seen = pulled(&repository, &tags[at]);
                        let after = acknowledged[at].load(Ordering::SeqCst);
                        match seen {
                            Some(payload) => {
                                let text = std::str::from_utf8(&payload).unwrap();
                                let n: usize = text.split_once(' ').unwrap().1.parse().unwrap();
                                // Taken already: then it was so before the read began.
                                assert!(2 * n >= before, "{text} was read after {before}");
                                assert!(n >= newest[at], "{text} was read after {}", newest[at]);
                                newest[at] = n;
                                found += 1;
                            }
                            // Nothing is there between a removal and the next push only.
                            None => assert!(
                                before != after || before % 2 == 1 || before == 0 || before / 2 % 3 != 2,
                                "nothing was read after {before}"
                            ),
                        }
                    }
                }
                found
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(tokio::task::spawn_blocking(|| reader.join().unwrap()).await.unwrap() > 0);
    }
    store.verify();
}

#[path = "../examples/services.rs"]
#[allow(dead_code, unreachable_pub, reason = "its main is for running it by hand")]
mod example;

#[tokio::test(flavor = "multi_thread")]
async fn the_example_uses_every_service() {
    let store = Store::open();
    example::use_services(&store.registry).await.unwrap();
    let stable = store.repository("team/hello").tags().get(&tag("stable")).unwrap().unwrap();
    assert_eq!(stable.canonical, sha256(b"two"));
    store.verify();
}
