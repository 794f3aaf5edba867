//! Many clients at once, and fewer blocking threads than clients.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use bytes::Bytes;
use orlop::blobs::UploadId;
use orlop::oci::{Digest, DigestAlgorithm, RepositoryName};
use orlop::registry::{Actor, BlobService, Depth, Options, Registry};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// Long enough for any machine; only what never ends takes so long.
const FOREVER: Duration = Duration::from_secs(60);

fn blobs(registry: &Registry) -> BlobService {
    registry.namespace().repository(&"box".parse::<RepositoryName>().unwrap()).blobs()
}

/// Runs `work` with two blocking threads, and says whether it came to its end. Threads that hang are left behind.
fn ends<F: Future<Output = ()>>(work: impl FnOnce(Registry) -> F) -> bool {
    let dir = TempDir::new().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let registry = Registry::open(Options::new(dir.path())).unwrap();
    let ended =
        runtime.block_on(async { tokio::time::timeout(FOREVER, work(registry.clone())).await.is_ok() });
    if ended {
        assert_eq!(registry.verify(Depth::Full).unwrap().problems, [""; 0]);
    }
    runtime.shutdown_background();
    ended
}

async fn checkpointed(blobs: &BlobService, content: &Bytes) -> UploadId {
    let mut writer = blobs.create(DigestAlgorithm::Sha256, &Actor::anonymous()).unwrap();
    writer.write(content.clone()).await.unwrap();
    writer.checkpoint().await.unwrap();
    *writer.id()
}

/// Whoever committed first held the digest's lock while it waited for a thread to remove its own copy, and every thread
/// waited for that lock: with as many commits of one digest as there are threads, no push ever ended again.
#[test]
fn more_commits_of_one_digest_than_threads_all_end() {
    let ended = ends(|registry| async move {
        let (blobs, content) = (blobs(&registry), Bytes::from_static(b"the layer that everybody has"));
        let digest = Digest::of(DigestAlgorithm::Sha256, &content);
        let mut commits = JoinSet::new();
        for _ in 0..16 {
            let id = checkpointed(&blobs, &content).await;
            let mut writer = blobs.resume(&id).await.unwrap().unwrap();
            commits.spawn(async move { writer.commit(&digest).await.unwrap().size });
        }
        while let Some(size) = commits.join_next().await {
            assert_eq!(size.unwrap(), content.len() as u64);
        }
    });
    assert!(ended);
}

/// Each upload of more than a few bytes kept a thread until its request ended, so that some hundred slow clients stopped
/// everybody else's pushes, and the pulls that read from the disk.
#[test]
fn clients_that_pause_in_their_uploads_hold_no_thread() {
    let ended = ends(|registry| async move {
        let blobs = blobs(&registry);
        let piece = Bytes::from(vec![7; 400 << 10]);
        let mut slow = Vec::new();
        for _ in 0..8 {
            let mut writer = blobs.create(DigestAlgorithm::Sha256, &Actor::anonymous()).unwrap();
            writer.write(piece.clone()).await.unwrap();
            slow.push(writer);
        }
        blobs.put(Bytes::from_static(b"small and quick"), None, &Actor::anonymous()).await.unwrap();
        // The slow ones lose nothing by it.
        let content = [piece.as_ref(), &[8; 3], &piece].concat();
        let digest = Digest::of(DigestAlgorithm::Sha256, &content);
        for mut writer in slow {
            writer.write(Bytes::from_static(&[8; 3])).await.unwrap();
            writer.write(piece.clone()).await.unwrap();
            assert_eq!(writer.commit(&digest).await.unwrap().size, content.len() as u64);
        }
    });
    assert!(ended);
}

/// The thread gives the upload back while its client pauses, and has no part in the end of the request any more.
#[test]
fn an_upload_that_breaks_off_in_a_pause_is_recorded_all_the_same() {
    let dir = TempDir::new().unwrap();
    let piece = Bytes::from(vec![7; 400 << 10]);
    let first = tokio::runtime::Runtime::new().unwrap();
    let id = first.block_on(async {
        let registry = Registry::open(Options::new(dir.path())).unwrap();
        let blobs = blobs(&registry);
        let mut writer = blobs.create(DigestAlgorithm::Sha256, &Actor::anonymous()).unwrap();
        writer.write(piece.clone()).await.unwrap();
        let id = *writer.id();
        drop(writer);
        registry.close().await;
        id
    });
    drop(first);
    let second = tokio::runtime::Runtime::new().unwrap();
    second.block_on(async {
        let registry = Registry::open(Options::new(dir.path())).unwrap();
        let writer = blobs(&registry).resume(&id).await.unwrap().unwrap();
        assert_eq!(writer.size(), piece.len() as u64);
    });
}
