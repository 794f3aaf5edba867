//! Snapshots: what they have, what they share, what is restored of them, and what is found when they are damaged.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "collection/store.rs"]
mod store;
#[path = "snapshots/watched.rs"]
mod watched;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use orlop::clock::{ManualClock, Timestamp};
use orlop::fsio::{Disk, RealDisk, SimulatedDisk};
use orlop::oci::{Digest, DigestAlgorithm, Reference};
use orlop::registry::{Actor, Depth, ManifestPut, Options, Policy, Registry, Repository, UpstreamAccess};
use orlop::snapshots::{
    Backup, BackupOptions, CreateOptions, Error, Keep, Location, PartsOptions, Progress, RestoreOptions,
    RestoredParts, Selection, Snapshot, SnapshotName, TagChange, create, diff, prune, restore, restore_parts,
    verify,
};
use serde_json::Value;
use store::{BEGIN, IMAGE, INDEX, image, index, media_type, push, push_blob, push_image, sha256, tag};
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use watched::{WatchedDisk, nice};

fn quiet(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn policy() -> Policy {
    let upstreams = [("up.example".to_owned(), UpstreamAccess::Anonymous)].into();
    Policy { upstreams, allow_sparse_indexes: true, ..Policy::default() }
}

/// A registry on the real disk.
fn open(data: &Path) -> Registry {
    let mut options = Options::new(data);
    options.policy = policy();
    Registry::open(options).unwrap()
}

/// A registry on the real disk whose time is told to it, and whose deletions can't be undone.
fn open_without_undo(data: &Path) -> (Registry, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(BEGIN));
    let mut options = Options::new(data);
    options.clock = clock.clone();
    options.policy.collection.undo = Duration::ZERO;
    (Registry::open(options).unwrap(), clock)
}

async fn take(registry: &Registry, backup: &Backup, with_cached: bool) -> Snapshot {
    try_take(registry, backup, with_cached).await.unwrap()
}

async fn try_take(registry: &Registry, backup: &Backup, with_cached: bool) -> Result<Snapshot, Error> {
    let hold = registry.hold_collection().await;
    let (registry, backup) = (registry.clone(), backup.clone());
    let taking =
        move || create(&registry, hold, &backup, CreateOptions { with_cached, link: false }, &mut quiet);
    tokio::task::spawn_blocking(taking).await.unwrap()
}

fn restore_to(backup: &Backup, name: &str, data: &Path) -> Result<Registry, Error> {
    let mut options = Options::new(data);
    options.policy = policy();
    restore_with(backup, &backup.find(name)?, options)?;
    Ok(open(data))
}

/// Restores on a thread that may block.
fn restore_with(backup: &Backup, name: &SnapshotName, registry: Options) -> Result<(), Error> {
    let restoring =
        || restore(backup, name, RestoreOptions { registry, dry_run: false, force: false }, &mut quiet);
    std::thread::scope(|scope| scope.spawn(restoring).join().unwrap()).map(drop)
}

/// Restores whatever parts can bring, into a registry that is in use.
async fn restore_all_parts(target: &Registry, backup: &Backup, name: &SnapshotName) -> RestoredParts {
    let (target, backup, name) = (target.clone(), backup.clone(), name.clone());
    let restoring = move || {
        let wanted = Selection { repositories: vec!["**".parse().unwrap()], tags: Vec::new() };
        let options = PartsOptions { wanted, force: false, dry_run: false, actor: Actor::anonymous() };
        let hear = |_| -> BoxFuture<'static, ()> { Box::pin(async {}) };
        let restoring = restore_parts(&target, &backup, &name, &options, Arc::new(quiet), &hear);
        Handle::current().block_on(restoring)
    };
    tokio::task::spawn_blocking(restoring).await.unwrap().unwrap()
}

/// Every tag with the manifest that it points to, and every blob with its bytes, as clients see them.
fn content(registry: &Registry) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for name in registry.namespace().repositories(None, usize::MAX).unwrap().items {
        let repository = registry.namespace().repository(&name);
        for tag in repository.tags().list(None, usize::MAX).unwrap().items {
            let (descriptor, payload) =
                repository.manifests().get(&Reference::Tag(tag.clone())).unwrap().unwrap();
            let history = repository.tags().history(&tag, None, 100).unwrap().items.len();
            found.insert(
                format!("{name}:{tag}"),
                format!("{} {} {history}", descriptor.canonical, payload.len()),
            );
        }
    }
    found
}

fn backup_in(dir: &TempDir) -> Backup {
    Backup::create(Arc::new(RealDisk), &dir.path().join("backup")).unwrap()
}

#[tokio::test]
async fn what_was_there_then_is_restored_whatever_came_and_went_since() {
    let dir = TempDir::new().unwrap();
    let registry = open(&dir.path().join("data"));
    let name = |text: &str| registry.namespace().repository(&text.parse().unwrap());
    let (app, cached) = (name("team/app"), name("up.example/box"));
    push_image(&app, &["one", "shared"], &["v1", "latest"]).await;
    push_image(&app, &["two", "shared"], &["v2", "latest"]).await;
    push_image(&name("other"), &["shared"], &["1"]).await;
    push_image(&cached, &["cached"], &["1"]).await;
    // A child that isn't there, and a deletion that can be undone.
    push(&app, INDEX, &index(&[&image(&["absent"], None)]), &["sparse"]).await;
    app.tags().untag(&tag("v1")).await.unwrap();
    let before = content(&registry);
    let backup = backup_in(&dir);
    let first = take(&registry, &backup, false).await;
    assert_eq!((first.tags, first.absent, &first.lost[..]), (4, 1, &[][..]), "{first:?}");
    let (before_only, whole) = before
        .iter()
        .fold((0, 0), |(own, all), (name, _)| (own + u32::from(!name.starts_with("up.example/")), all + 1));
    assert_eq!((before_only, whole), (4, 5));

    push_image(&app, &["three"], &["v2", "latest"]).await;
    registry.namespace().repository(&"other".parse().unwrap()).deletions().delete_repository().await.unwrap();
    registry.purge_deletions().await.unwrap();
    let second = take(&registry, &backup, true).await;
    assert!(second.name > first.name && second.with_cached);
    // Two manifests, three's and the cached one's, each with one blob.
    assert_eq!(second.added_files, 2 + 2, "{second:?}");
    assert_eq!(verify(&backup, &backup.names().unwrap(), true, &mut quiet).unwrap().problems, []);

    let now = content(&registry);
    registry.close().await;
    let restored = restore_to(&backup, "1", &dir.path().join("first")).unwrap();
    let own: BTreeMap<_, _> =
        before.into_iter().filter(|(name, _)| !name.starts_with("up.example/")).collect();
    assert_eq!(content(&restored), own);
    assert_eq!(restored.verify(Depth::Full).unwrap().problems, [""; 0]);
    let undone = restored.namespace().repository(&"team/app".parse().unwrap()).deletions();
    assert_eq!(undone.list(None, 10).unwrap().items.len(), 1);
    let restored = restore_to(&backup, "latest", &dir.path().join("second")).unwrap();
    assert_eq!(content(&restored), now);
    assert_eq!(restored.verify(Depth::Full).unwrap().problems, [""; 0]);
}

/// Where a snapshot has its own files.
fn snapshot_dir(backup: &Backup, name: &SnapshotName) -> PathBuf {
    backup.dir().join("snapshots").join(name.as_str())
}

/// What a snapshot says not to have been there: each by its repository, the manifest that names it, and its digest.
fn absent(backup: &Backup, name: &SnapshotName) -> Vec<[String; 3]> {
    let list = fs::read_to_string(snapshot_dir(backup, name).join("absent.jsonl")).unwrap();
    let parts = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        ["repository", "manifest", "digest"].map(|key| line[key].as_str().unwrap().to_owned())
    };
    let mut found: Vec<_> = list.lines().map(parts).collect();
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_absent_is_listed_and_keeps_nothing_from_being_restored() {
    const FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    let dir = TempDir::new().unwrap();
    let registry = open(&dir.path().join("data"));
    let name = |text: &str| registry.namespace().repository(&text.parse().unwrap());
    let (foreign, sparse) = (name("foreign"), name("sparse"));
    // Of two such layers and of two images, one is there.
    push_blob(&foreign, "here").await;
    let layers = image(&["here", "elsewhere"], None).replace("a/layer", FOREIGN);
    let layers = push(&foreign, IMAGE, &layers, &["v1"]).await;
    let child = image(&["absent"], None);
    push_image(&sparse, &["here"], &[]).await;
    let children = push(&sparse, INDEX, &index(&[&image(&["here"], None), &child]), &["v1"]).await;
    let line = |repository: &str, manifest: &Digest, digest: &Digest| {
        [repository.to_owned(), manifest.to_string(), digest.to_string()]
    };
    let expected = [
        line("foreign", &layers, &sha256(b"elsewhere")),
        line("sparse", &children, &sha256(child.as_bytes())),
    ];
    let backup = backup_in(&dir);
    let taken = take(&registry, &backup, false).await;
    assert_eq!((taken.absent, &taken.lost[..]), (2, &[][..]), "{taken:?}");
    assert_eq!(absent(&backup, &taken.name), expected);

    let target = open(&dir.path().join("target"));
    let restored = restore_all_parts(&target, &backup, &taken.name).await;
    assert!(restored.is_whole() && restored.tags == 2, "{restored:?}");
    for restored in [target, restore_to(&backup, "1", &dir.path().join("whole")).unwrap()] {
        assert_eq!(content(&restored), content(&registry));
        assert_eq!(restored.verify(Depth::Full).unwrap().problems, [""; 0]);
        // It knows of them too.
        let again = take(&restored, &backup, false).await;
        assert_eq!(absent(&backup, &again.name), expected);
    }
}

/// All files of a directory, links aside.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

#[tokio::test]
async fn a_bit_flipped_in_any_file_is_found_and_named_and_nothing_is_restored_of_it() {
    let dir = TempDir::new().unwrap();
    let registry = open(&dir.path().join("data"));
    push_image(&registry.namespace().repository(&"app".parse().unwrap()), &["one", "two"], &["v1"]).await;
    let backup = backup_in(&dir);
    take(&registry, &backup, false).await;
    let names = backup.names().unwrap();
    let mut flipped = 0;
    for path in files(backup.dir()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if matches!(name, "lock" | "format") {
            continue;
        }
        let right = fs::read(&path).unwrap();
        for at in
            [0, right.len() / 2, right.len().saturating_sub(1)].into_iter().filter(|at| *at < right.len())
        {
            let mut wrong = right.clone();
            wrong[at] ^= 1;
            fs::write(&path, wrong).unwrap();
            let verified = verify(&backup, &names, true, &mut quiet).unwrap();
            let sums = path.ends_with("SHA256SUMS");
            let is_named = verified
                .problems
                .iter()
                .any(|problem| problem.path == path || sums && problem.path.parent() == path.parent());
            assert!(is_named, "{}: {verified:?}", path.display());
            let refused = restore_to(&backup, "latest", &dir.path().join(format!("restored{flipped}")));
            assert!(
                matches!(refused, Err(Error::Damaged { .. } | Error::Incomplete { .. })),
                "{}",
                path.display()
            );
            flipped += 1;
        }
        fs::write(&path, right).unwrap();
    }
    assert!(flipped > 15, "{flipped}");
    assert_eq!(verify(&backup, &names, true, &mut quiet).unwrap().count, 0);
    restore_to(&backup, "latest", &dir.path().join("whole")).unwrap();
}

#[tokio::test]
async fn what_isnt_there_or_isnt_free_is_refused() {
    let dir = TempDir::new().unwrap();
    let registry = open(&dir.path().join("data"));
    let backup = backup_in(&dir);
    assert!(matches!(backup.find("latest"), Err(Error::Unknown { .. })));
    take(&registry, &backup, false).await;
    assert!(matches!(backup.find("2"), Err(Error::Unknown { .. })));
    assert!(matches!(restore_to(&backup, "1", &dir.path().join("data")), Err(Error::Occupied(_))));
    fs::create_dir(dir.path().join("other")).unwrap();
    fs::write(dir.path().join("other/file"), "").unwrap();
    let real: Arc<dyn Disk> = Arc::new(RealDisk);
    assert!(matches!(Backup::create(real.clone(), &dir.path().join("other")), Err(Error::NoBackup(_))));
    assert!(matches!(Backup::open(real.clone(), &dir.path().join("nowhere")), Err(Error::NoBackup(_))));
    fs::write(backup.dir().join("format"), "orlop backup 2\n").unwrap();
    assert!(matches!(Backup::open(real, backup.dir()), Err(Error::NewerFormat(_))));
    fs::write(backup.dir().join("format"), "orlop backup 1\n").unwrap();
    // Two at once.
    let (one, other) = tokio::join!(try_take(&registry, &backup, false), try_take(&registry, &backup, false));
    let refused = [&one, &other].into_iter().filter(|taken| matches!(taken, Err(Error::Locked(_)))).count();
    assert!(refused <= 1 && (one.is_ok() || other.is_ok()));
    assert_eq!(backup.names().unwrap().len(), 3 - refused);
}

#[tokio::test]
async fn what_is_lost_is_told_and_the_rest_is_taken() {
    let dir = TempDir::new().unwrap();
    let registry = open(&dir.path().join("data"));
    let app = registry.namespace().repository(&"app".parse().unwrap());
    push_image(&app, &["one"], &["v1"]).await;
    push_image(&app, &["two"], &["v2"]).await;
    let (gone, wrong) = (sha256(b"one"), sha256(b"two"));
    fs::remove_file(registry.blob_path(&gone)).unwrap();
    fs::write(registry.blob_path(&wrong), b"owt").unwrap();
    let backup = backup_in(&dir);
    let snapshot = take(&registry, &backup, false).await;
    let mut lost = snapshot.lost.clone();
    lost.sort_unstable();
    let mut expected = [gone.to_string(), wrong.to_string()];
    expected.sort_unstable();
    assert_eq!(lost, expected);
    let verified = verify(&backup, &backup.names().unwrap(), false, &mut quiet).unwrap();
    assert_eq!(verified.count, 4, "{verified:?}");
    let refused = restore_to(&backup, "1", &dir.path().join("restored"));
    assert!(matches!(refused, Err(Error::Incomplete { count: 2, .. })));
}

#[tokio::test]
async fn a_snapshot_that_lost_power_anywhere_is_whole_or_none() {
    whole_or_none(&BackupOptions::default(), 3).await;
}

#[tokio::test]
async fn an_encrypted_snapshot_that_lost_power_anywhere_is_whole_or_none() {
    let dir = TempDir::new().unwrap();
    let (file, identity) = (dir.path().join("identity"), age::x25519::Identity::generate());
    fs::write(&file, age::secrecy::ExposeSecret::expose_secret(&identity.to_string())).unwrap();
    let encrypt_to = vec![identity.to_public().to_string()];
    whole_or_none(&BackupOptions { encrypt_to, identities: vec![file], ..BackupOptions::default() }, 1).await;
}

async fn whole_or_none(place: &BackupOptions, seeds: u64) {
    let at = Location::Directory("/backup".into());
    let disk = Arc::new(SimulatedDisk::new());
    let mut options = Options::new("/data");
    (options.disk, options.policy) = (disk.clone(), policy());
    let registry = Registry::open(options).unwrap();
    let app = registry.namespace().repository(&"app".parse().unwrap());
    push_image(&app, &["one"], &["v1"]).await;
    let expected = content(&registry);
    let backup = Backup::create_at(disk.clone(), &at, place).unwrap();
    take(&registry, &backup, false).await;
    push_blob(&app, "two").await;
    let before = disk.operations();
    let hold = registry.hold_collection().await;
    create(&registry, hold, &backup, CreateOptions::default(), &mut quiet).unwrap();
    let mut replay = disk.replay();
    for operation in before..=disk.operations() {
        replay.advance_to(operation);
        for seed in 0..seeds {
            let after: Arc<dyn Disk> = Arc::new(replay.reboot(seed));
            let backup = Backup::open_at(after.clone(), &at, place).unwrap();
            let names = backup.names().unwrap();
            assert!(!names.is_empty(), "{operation}");
            let verified = verify(&backup, &names, true, &mut quiet).unwrap();
            assert_eq!(verified.problems, [], "{operation} {seed}");
            let mut options = Options::new("/restored");
            (options.disk, options.policy) = (after.clone(), policy());
            let last = names.last().unwrap();
            restore_with(&backup, last, options.clone()).unwrap();
            assert_eq!(content(&Registry::open(options).unwrap()), expected);
        }
    }
}

#[tokio::test]
async fn what_no_snapshot_needs_is_removed_and_the_rest_restores() {
    let dir = TempDir::new().unwrap();
    let registry = open(&dir.path().join("data"));
    let app = registry.namespace().repository(&"app".parse().unwrap());
    let backup = backup_in(&dir);
    for version in ["one", "two", "three"] {
        push_image(&app, &[version, "shared"], &["latest", version]).await;
        take(&registry, &backup, false).await;
        app.tags().untag(&tag(version)).await.unwrap();
        app.manifests().delete(&sha256(image(&[version, "shared"], None).as_bytes())).await.unwrap();
        registry.purge_deletions().await.unwrap();
        registry.collect(|_| {}).await.unwrap();
    }
    let names = backup.names().unwrap();
    let mut changes = Vec::new();
    let mut each = |change: TagChange| {
        changes.push(change.tag);
        ControlFlow::Continue(())
    };
    let difference = diff(&backup, &names[0], &names[1], &mut each).unwrap();
    assert_eq!((difference.added, difference.gone, difference.moved), (1, 1, 1), "{difference:?}");
    assert_eq!(changes, ["app:latest", "app:one", "app:two"]);
    let content = || files(&backup.dir().join("blobs")).len();
    let before = content();
    // Left by an interrupted one.
    fs::write(backup.dir().join("blobs/sha256").join(sha256(b"orphan").hex()), b"orphan").unwrap();
    let pruned = prune(&backup, &names[..2], &mut quiet).unwrap();
    assert_eq!(pruned.snapshots, 2);
    assert_eq!(backup.names().unwrap(), names[2..]);
    assert_eq!(content() as u64, before as u64 + 1 - pruned.files);
    assert!(pruned.files >= 3, "{pruned:?}");
    assert_eq!(verify(&backup, &names[2..], true, &mut quiet).unwrap().count, 0);
    // It, and the lock.
    assert_eq!(fs::read_dir(backup.dir().join("snapshots")).unwrap().count(), 2);
    let restored = restore_to(&backup, "latest", &dir.path().join("restored")).unwrap();
    assert_eq!(restored.verify(Depth::Full).unwrap().problems, [""; 0]);
    // The next number is a new one all the same.
    assert_eq!(take(&registry, &backup, false).await.name.number(), 4);
}

fn sha512(text: &str) -> Digest {
    Digest::of(DigestAlgorithm::Sha512, text.as_bytes())
}

/// Pushes an image by its sha512, which names its only layer by sha512 too; returns both.
async fn push_by_sha512(repository: &Repository, layer: &str) -> [String; 2] {
    let actor = Actor::anonymous();
    let blob = repository.blobs().put(layer.to_owned().into(), Some(&sha512(layer)), &actor).await.unwrap();
    let image = image(&[layer], None).replace(&blob.digest.to_string(), &sha512(layer).to_string());
    let put = ManifestPut {
        payload: image.clone().into(),
        media_type: media_type(IMAGE),
        reference: Reference::Digest(sha512(&image)),
        tags: vec![tag(layer)],
        actor,
    };
    repository.manifests().put(put).await.unwrap();
    [layer.to_owned(), image]
}

#[tokio::test]
async fn what_is_named_by_sha512_is_linked_by_that_name_until_no_snapshot_needs_it() {
    let dir = TempDir::new().unwrap();
    let (registry, clock) = open_without_undo(&dir.path().join("data"));
    let app = registry.namespace().repository(&"app".parse().unwrap());
    let [goes, stays] = [push_by_sha512(&app, "goes").await, push_by_sha512(&app, "stays").await];
    let backup = backup_in(&dir);
    let first = take(&registry, &backup, false).await.name;
    let link = |text: &str| backup.dir().join("blobs/sha512").join(sha512(text).hex());
    let linked = || fs::read_dir(backup.dir().join("blobs/sha512")).unwrap().count();
    for text in goes.iter().chain(&stays) {
        let content = format!("../sha256/{}", sha256(text.as_bytes()).hex());
        assert_eq!(fs::read_link(link(text)).unwrap(), Path::new(&content));
        assert_eq!(fs::read_to_string(link(text)).unwrap(), *text);
    }
    assert_eq!(linked(), 4);
    // That is where who reads the layout looks.
    let layout = snapshot_dir(&backup, &first);
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let named = index["manifests"][0]["digest"].as_str().unwrap();
    assert_eq!(named, sha512(&goes[1]).to_string());
    assert_eq!(fs::read_to_string(layout.join("blobs").join(named.replace(':', "/"))).unwrap(), goes[1]);

    app.manifests().delete(&sha512(&goes[1])).await.unwrap();
    clock.advance(Duration::from_secs(2 * 60 * 60));
    registry.collect(|_| {}).await.unwrap();
    let second = take(&registry, &backup, false).await.name;
    assert_eq!(linked(), 4);
    // Two files, and the links to them.
    assert_eq!(prune(&backup, &[first], &mut quiet).unwrap().files, 4);
    assert_eq!(linked(), 2);
    for text in &stays {
        assert_eq!(fs::read_to_string(link(text)).unwrap(), *text);
    }
    assert_eq!(verify(&backup, &[second], true, &mut quiet).unwrap().count, 0);
    let restored = restore_to(&backup, "latest", &dir.path().join("restored")).unwrap();
    assert_eq!(content(&restored), content(&registry));
}

#[tokio::test]
async fn a_pruning_that_lost_power_anywhere_leaves_whole_snapshots() {
    let disk = SimulatedDisk::new();
    let mut options = Options::new("/data");
    (options.disk, options.policy) = (Arc::new(disk.clone()), policy());
    let registry = Registry::open(options).unwrap();
    let app = registry.namespace().repository(&"app".parse().unwrap());
    let backup = Backup::create(Arc::new(disk.clone()), "/backup".as_ref()).unwrap();
    for version in ["one", "two"] {
        push_image(&app, &[version], &["latest"]).await;
        take(&registry, &backup, false).await;
    }
    let names = backup.names().unwrap();
    let before = disk.operations();
    prune(&backup, &names[1..], &mut quiet).unwrap();
    let mut replay = disk.replay();
    for operation in before..=disk.operations() {
        replay.advance_to(operation);
        for seed in 0..3 {
            let backup = Backup::open(Arc::new(replay.reboot(seed)), "/backup".as_ref()).unwrap();
            let left = backup.names().unwrap();
            assert!(left.contains(&names[0]));
            assert_eq!(verify(&backup, &left, true, &mut quiet).unwrap().problems, [], "{operation} {seed}");
            prune(&backup, &left[1..], &mut quiet).unwrap();
            assert_eq!(verify(&backup, &names[..1], true, &mut quiet).unwrap().problems, []);
        }
    }
}

#[tokio::test]
async fn a_restore_that_lost_power_anywhere_is_gone_on_with() {
    let disk = SimulatedDisk::new();
    let options = |disk: &SimulatedDisk, data: &str| {
        let mut options = Options::new(data);
        (options.disk, options.policy) = (Arc::new(disk.clone()), policy());
        options
    };
    let registry = Registry::open(options(&disk, "/data")).unwrap();
    push_image(&registry.namespace().repository(&"app".parse().unwrap()), &["one", "two"], &["v1"]).await;
    let expected = content(&registry);
    let backup = Backup::create(Arc::new(disk.clone()), "/backup".as_ref()).unwrap();
    let name = take(&registry, &backup, false).await.name;
    let before = disk.operations();
    restore_with(&backup, &name, options(&disk, "/restored")).unwrap();
    let mut replay = disk.replay();
    for operation in before..=disk.operations() {
        replay.advance_to(operation);
        for seed in 0..2 {
            let after = replay.reboot(seed);
            let backup = Backup::open(Arc::new(after.clone()), "/backup".as_ref()).unwrap();
            match restore_with(&backup, &name, options(&after, "/restored")) {
                // It was complete, but for its marker's end.
                Err(Error::Occupied(_)) | Ok(()) => {}
                Err(error) => panic!("{operation} {seed}: {error}"),
            }
            let restored = Registry::open(options(&after, "/restored")).unwrap();
            assert_eq!(content(&restored), expected, "{operation} {seed}");
            assert_eq!(restored.verify(Depth::Full).unwrap().problems, [""; 0]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cached_is_left_out_when_parts_are_restored() {
    let dir = TempDir::new().unwrap();
    let registry = open(&dir.path().join("data"));
    for name in ["app", "up.example/box"] {
        push_image(&registry.namespace().repository(&name.parse().unwrap()), &[name], &["v1"]).await;
    }
    let backup = backup_in(&dir);
    let name = take(&registry, &backup, true).await.name;
    let target = open(&dir.path().join("target"));
    let restored = restore_all_parts(&target, &backup, &name).await;
    assert_eq!((restored.tags, restored.repositories, restored.cached_repositories), (1, 1, 1));
    assert!(restored.is_whole());
    assert_eq!(content(&target).into_keys().collect::<Vec<_>>(), ["app:v1"]);
    assert_eq!(target.verify(Depth::Full).unwrap().problems, [""; 0]);
}

#[tokio::test]
async fn a_forced_restore_that_lost_power_anywhere_has_both_and_is_gone_on_with() {
    let disk = SimulatedDisk::new();
    let options = |disk: &SimulatedDisk, data: &str| {
        let mut options = Options::new(data);
        (options.disk, options.policy) = (Arc::new(disk.clone()), policy());
        options
    };
    let restoring = |backup: &Backup, name: &SnapshotName, registry: Options| {
        let restoring = || {
            let options = RestoreOptions { registry, dry_run: false, force: true };
            restore(backup, name, options, &mut quiet)
        };
        std::thread::scope(|scope| scope.spawn(restoring).join().unwrap())
    };
    let registry = Registry::open(options(&disk, "/data")).unwrap();
    let app = registry.namespace().repository(&"app".parse().unwrap());
    push_image(&app, &["one"], &["v1"]).await;
    let expected = content(&registry);
    let backup = Backup::create(Arc::new(disk.clone()), "/backup".as_ref()).unwrap();
    let name = take(&registry, &backup, false).await.name;
    push_image(&app, &["two"], &["v1"]).await;
    let now = content(&registry);
    registry.close().await;
    drop((app, registry));
    let before = disk.operations();
    restoring(&backup, &name, options(&disk, "/data")).unwrap();
    let mut replay = disk.replay();
    for operation in before..=disk.operations() {
        replay.advance_to(operation);
        let after = replay.reboot(operation);
        let backup = Backup::open(Arc::new(after.clone()), "/backup".as_ref()).unwrap();
        // Whoever starts it meanwhile gets what was there, what is restored, or a refusal.
        if let Ok(found) = Registry::open(options(&after, "/data")) {
            let found = content(&found);
            assert!(found == now || found == expected, "{operation}: {found:?}");
        }
        restoring(&backup, &name, options(&after, "/data")).unwrap();
        let restored = Registry::open(options(&after, "/data")).unwrap();
        assert_eq!(content(&restored), expected, "{operation}");
        drop(restored);
        let former = Registry::open(options(&after, "/data/former/1")).unwrap();
        assert_eq!(content(&former), now, "{operation}");
        assert_eq!(former.verify(Depth::Full).unwrap().problems, [""; 0]);
    }
}

#[tokio::test]
async fn numbers_grow_and_pruning_keeps_the_last_ones_taken_though_the_clock_goes_backwards() {
    let dir = TempDir::new().unwrap();
    let (registry, clock) = open_without_undo(&dir.path().join("data"));
    let backup = backup_in(&dir);
    for day in [20, 10, 15, 5] {
        clock.set(Timestamp::from_millis(1_800_000_000_000 + day * 24 * 60 * 60 * 1_000));
        take(&registry, &backup, false).await;
    }
    let names = backup.names().unwrap();
    assert_eq!(names.iter().map(SnapshotName::number).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(backup.find("latest").unwrap(), names[3]);
    let snapshots: Vec<_> = names.iter().map(|name| backup.snapshot(name).unwrap()).collect();
    let last = Keep { last: 2, ..Keep::default() }.plan(&snapshots);
    assert_eq!(last.remove, [names[1].clone(), names[0].clone()]);
    // Each of these days has one, whichever way they came.
    assert_eq!(Keep { daily: 10, ..Keep::default() }.plan(&snapshots).remove, []);
    prune(&backup, &last.remove, &mut quiet).unwrap();
    assert_eq!(verify(&backup, &backup.names().unwrap(), true, &mut quiet).unwrap().count, 0);
    assert_eq!(take(&registry, &backup, false).await.name.number(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn snapshots_beside_deletions_and_a_collection_without_pause_are_whole() {
    let dir = TempDir::new().unwrap();
    let (registry, clock) = open_without_undo(&dir.path().join("data"));
    let backup = backup_in(&dir);
    let over = Arc::new(AtomicBool::new(false));
    let churning = {
        let (registry, over, clock) = (registry.clone(), over.clone(), clock.clone());
        tokio::spawn(async move {
            let app = registry.namespace().repository(&"app".parse().unwrap());
            let (mut number, mut removed) = (0_u64, 0);
            while !over.load(Ordering::Relaxed) {
                let layer = format!("layer {number}");
                let digest = push_image(&app, &[&layer, "shared"], &["latest"]).await;
                if number % 2 == 0 {
                    app.manifests().delete(&digest).await.unwrap();
                }
                // All leases end at once, so that there is always something to collect.
                clock.advance(Duration::from_secs(2 * 60 * 60));
                removed += registry.collect(|_| {}).await.unwrap().blobs;
                number += 1;
            }
            removed
        })
    };
    for _ in 0..6 {
        let snapshot = take(&registry, &backup, false).await;
        assert_eq!(snapshot.lost, [""; 0]);
    }
    over.store(true, Ordering::Relaxed);
    assert!(churning.await.unwrap() > 0, "nothing was collected");
    let names = backup.names().unwrap();
    assert_eq!(verify(&backup, &names, true, &mut quiet).unwrap().problems, []);
    for name in &names {
        let restored = restore_to(&backup, name.as_str(), &dir.path().join(name.as_str())).unwrap();
        assert_eq!(restored.verify(Depth::Full).unwrap().problems, [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn copying_gives_way_and_rests_behind_each_sync_where_somebody_has_pushed_meanwhile() {
    let dir = TempDir::new().unwrap();
    let registry = open(&dir.path().join("data"));
    let app = registry.namespace().repository(&"app".parse().unwrap());
    // A hundred files are synced at once: there is more to copy behind a sync of manifests, and behind one of blobs.
    let mut pushes = JoinSet::new();
    for number in 0..150 {
        let app = app.clone();
        pushes.spawn(async move { push_image(&app, &[&format!("layer {number}")], &["latest"]).await });
    }
    assert_eq!(pushes.join_all().await.len(), 150);
    let runtime = Handle::current();
    let disk = Arc::new(WatchedDisk::new(move || {
        runtime.block_on(push_blob(&app, "pushed meanwhile"));
        std::thread::sleep(Duration::from_millis(150));
    }));
    let backup = Backup::create(disk.clone(), &dir.path().join("backup")).unwrap();
    disk.take_notes();
    take(&registry, &backup, false).await;

    let notes = disk.take_notes();
    assert!(notes.nice.iter().all(|with| *with > nice()), "{notes:?} beside {}", nice());
    let paused: Vec<_> = notes.syncs.iter().filter_map(|sync| Some((sync.took, sync.pause?))).collect();
    assert_eq!(paused.len(), 2, "{notes:?}");
    for (took, pause) in paused {
        // As long as the turn, up to a fifth of a second.
        assert!(pause >= took.min(Duration::from_millis(200)), "{notes:?}");
    }
}
