//! The metadata is compacted while clients push, pull and delete on a real disk, and everything that they were told stays so.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has to fail")]

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use orlop::oci::{Digest, DigestAlgorithm, MediaType, Reference};
use orlop::registry::{Actor, CompactError, Depth, ManifestPut, Options, Registry, Repository};

const CLIENTS: usize = 4;

fn open(data: &std::path::Path) -> Registry {
    Registry::open(Options::new(data)).unwrap()
}

fn repository(registry: &Registry, client: usize) -> Repository {
    registry.namespace().repository(&format!("library/of-{client}").parse().unwrap())
}

/// Pushes an image of one small layer, with a note in its manifest, and returns the manifest's digest.
async fn push(repository: &Repository, name: &str, tag: &str, note: &str) -> Digest {
    let layer = Bytes::from(format!("the layer of {name}"));
    let layer = repository.blobs().put(layer, None, &Actor::anonymous()).await.unwrap();
    let descriptor = format!(r#"{{"mediaType":"a/b","digest":"{}","size":{}}}"#, layer.digest, layer.size);
    let payload = format!(
        r#"{{"schemaVersion":2,"config":{descriptor},"layers":[{descriptor}],"annotations":{{"note":"{note}"}}}}"#
    );
    let digest = Digest::of(DigestAlgorithm::Sha256, payload.as_bytes());
    let put = ManifestPut {
        payload: payload.into(),
        media_type: "application/vnd.oci.image.manifest.v1+json".parse::<MediaType>().unwrap(),
        reference: Reference::Tag(tag.parse().unwrap()),
        tags: Vec::new(),
        actor: Actor::anonymous(),
    };
    repository.manifests().put(put).await.unwrap();
    digest
}

/// Fills the metadata with manifests of some megabytes and deletes them for good.
async fn leave_free_space(registry: &Registry) {
    let repository = repository(registry, CLIENTS);
    for number in 0..10 {
        let digest = push(&repository, "waste", "waste", &number.to_string().repeat(200_000)).await;
        assert!(repository.manifests().delete(&digest).await.unwrap().is_some());
    }
    registry.purge_deletions().await.unwrap();
    registry.collect(|_| ()).await.unwrap();
}

fn pulled(repository: &Repository, tag: &str) -> Option<Digest> {
    let found = repository.manifests().get(&Reference::Tag(tag.parse().unwrap())).unwrap();
    found.map(|(descriptor, _)| descriptor.canonical)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_go_on_during_compactions_and_find_everything_afterwards() {
    let data = tempfile::tempdir().unwrap();
    let registry = open(data.path());
    let (is_over, pushes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let (repository, is_over, pushes) = (repository(&registry, client), is_over.clone(), pushes.clone());
        clients.spawn(async move {
            let mut images = Vec::new();
            for number in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let digest =
                    push(&repository, &format!("{client}-{number}"), &format!("v{number}"), "").await;
                assert_eq!(pulled(&repository, &format!("v{number}")), Some(digest));
                images.push(Some(digest));
                pushes.fetch_add(1, Ordering::Relaxed);
                // Every third goes again.
                if number % 3 == 2 {
                    assert!(
                        repository.manifests().delete(&images[number - 1].unwrap()).await.unwrap().is_some()
                    );
                    images[number - 1] = None;
                }
            }
            (client, images)
        });
    }
    let mut used = 0;
    for _ in 0..6 {
        leave_free_space(&registry).await;
        let (registry, pushes) = (registry.clone(), pushes.clone());
        let compact = move || {
            let mut steps = 0;
            registry.compact(|_| {
                // After every few tables, all clients go on for a while.
                steps += 1;
                let seen = pushes.load(Ordering::Relaxed);
                while steps % 5 == 0 && pushes.load(Ordering::Relaxed) < seen + 2 * CLIENTS {
                    std::thread::yield_now();
                }
                ControlFlow::Continue(())
            })
        };
        let report = tokio::task::spawn_blocking(compact).await.unwrap().unwrap();
        assert!(report.changed_rows > 0, "{report:?}");
        used += u32::from(report.after_bytes < report.before_bytes);
    }
    is_over.store(true, Ordering::Relaxed);
    assert!(used > 0, "no copy was shorter");
    let images: Vec<_> = clients.join_all().await;

    check(&registry, &images);
    registry.close().await;
    drop(registry);
    check(&open(data.path()), &images);
    let left = std::fs::read_dir(data.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!left.into_iter().any(|name| name.to_string_lossy().contains(".new")));
}

fn check(registry: &Registry, images: &[(usize, Vec<Option<Digest>>)]) {
    for (client, images) in images {
        assert!(images.len() > 5);
        for (number, digest) in images.iter().enumerate() {
            assert_eq!(pulled(&repository(registry, *client), &format!("v{number}")), *digest);
        }
    }
    let report = registry.verify(Depth::Full).unwrap();
    assert_eq!(report.problems, [] as [String; 0]);
}

#[test]
fn a_compaction_leaves_the_free_space_that_pushes_need_alone() {
    let data = tempfile::tempdir().unwrap();
    let mut options = Options::new(data.path());
    options.policy.free_floor_bytes = u64::MAX / 2;
    let registry = Registry::open(options).unwrap();
    let refused = registry.compact(|_| ControlFlow::Continue(()));
    assert!(matches!(refused, Err(CompactError::NoRoom { free_bytes: 0, .. })), "{refused:?}");
}
