//! Blobs that are read while they come from somewhere else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use orlop::oci::{Digest, DigestAlgorithm};
use orlop::registry::{Actor, Depth, Error, GrowingReader, Options, Registry, Repository, UpstreamAccess};
use tempfile::TempDir;

const MIB: usize = 1 << 20;

fn options(dir: &TempDir) -> Options {
    let mut options = Options::new(dir.path().join("data"));
    options.policy.upstreams = [("upstream.example".to_owned(), UpstreamAccess::Anonymous)].into();
    options
}

fn repository(registry: &Registry) -> Repository {
    registry.namespace().repository(&"upstream.example/library/box".parse().unwrap())
}

fn content(len: usize) -> Bytes {
    (0..len).map(|at| u8::try_from((at * 7 + at / 251) % 253).unwrap()).collect::<Vec<u8>>().into()
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::of(DigestAlgorithm::Sha256, bytes)
}

/// Reads from `offset` until `wanted` bytes have come, or an error.
async fn read(mut reader: GrowingReader, mut offset: u64, wanted: usize) -> std::io::Result<Vec<u8>> {
    let mut read = Vec::new();
    let mut space = vec![0; 64 << 10];
    while read.len() < wanted {
        poll_fn(|cx| reader.poll_readable(offset, cx)).await?;
        let len = reader.read_at(&mut space, offset)?;
        assert!(len > 0, "what is readable can be read");
        read.extend_from_slice(&space[..len]);
        offset += len as u64;
    }
    Ok(read)
}

/// Whether the byte at `offset` can't be read yet.
async fn is_held_back(reader: &GrowingReader, offset: u64) -> bool {
    let mut reader = reader.clone();
    let ready = poll_fn(|cx| reader.poll_readable(offset, cx));
    tokio::time::timeout(Duration::from_millis(50), ready).await.is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_follow_and_get_the_end_when_it_is_published() {
    let dir = TempDir::new().unwrap();
    let registry = Registry::open(options(&dir)).unwrap();
    let blobs = repository(&registry).blobs();
    for len in [0, 1, 100_000, 3 * MIB + 5] {
        let bytes = content(len);
        let digest = sha256(&bytes);
        let mut fetch = blobs.fetch(&digest, len as u64, &Actor::anonymous()).await.unwrap();
        let blob = fetch.blob();
        let early = tokio::spawn(read(blob.reader(), 0, len));
        let middle = tokio::spawn(read(blob.reader(), len as u64 / 2, len - len / 2));
        for piece in bytes.chunks(100_000) {
            fetch.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        if len > 0 {
            assert!(is_held_back(&blob.reader(), len as u64 - 1).await, "{len}");
        }
        if len > 2 * MIB {
            // Some of it may still be on its way to the file, and nothing more comes that would tell of it.
            fetch.show().await.unwrap();
            assert_eq!(read(blob.reader(), 0, 2 * MIB).await.unwrap(), bytes[..2 * MIB]);
        }
        assert!(blobs.stat(digest).unwrap().is_none());
        assert_eq!(fetch.finish().await.unwrap().digest, digest);
        assert_eq!(early.await.unwrap().unwrap(), bytes);
        assert_eq!(middle.await.unwrap().unwrap(), bytes[len / 2..]);
        assert_eq!(read(blob.reader(), 0, len).await.unwrap(), bytes, "late readers too");
        assert_eq!(blobs.get(digest).await.unwrap().unwrap(), bytes);
    }
    assert!(registry.verify(Depth::Full).unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_something_else_is_never_published_nor_ended() {
    let dir = TempDir::new().unwrap();
    let registry = Registry::open(options(&dir)).unwrap();
    let blobs = repository(&registry).blobs();
    let bytes = content(MIB);
    let digest = sha256(b"something else");
    let mut fetch = blobs.fetch(&digest, MIB as u64, &Actor::anonymous()).await.unwrap();
    let mut blob = fetch.blob();
    let reader = tokio::spawn(read(blob.reader(), 0, MIB));
    fetch.write(bytes.clone()).await.unwrap();
    assert!(matches!(fetch.finish().await, Err(Error::DigestMismatch { .. })));
    reader.await.unwrap().unwrap_err();
    blob.whole().await.unwrap_err();
    assert!(blobs.stat(digest).unwrap().is_none() && blobs.stat(sha256(&bytes)).unwrap().is_none());

    // Too much, and too little.
    let mut fetch = blobs.fetch(&sha256(&bytes), MIB as u64 - 1, &Actor::anonymous()).await.unwrap();
    assert!(matches!(fetch.write(bytes.clone()).await, Err(Error::SizeMismatch { .. })));
    drop(fetch);
    let mut fetch = blobs.fetch(&sha256(&bytes), MIB as u64 + 1, &Actor::anonymous()).await.unwrap();
    fetch.write(bytes.clone()).await.unwrap();
    assert!(matches!(fetch.finish().await, Err(Error::SizeMismatch { .. })));
    assert!(blobs.stat(sha256(&bytes)).unwrap().is_none());
    let report = registry.verify(Depth::Full).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_fetch_goes_on_also_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let bytes = content(9 * MIB);
    let digest = sha256(&bytes);
    let registry = Registry::open(options(&dir)).unwrap();
    let blobs = repository(&registry).blobs();
    let mut fetch = blobs.fetch(&digest, bytes.len() as u64, &Actor::anonymous()).await.unwrap();
    let reader = tokio::spawn(read(fetch.blob().reader(), 0, bytes.len()));
    fetch.write(bytes.slice(..4 * MIB)).await.unwrap();
    assert!(blobs.was_interrupted(&digest).unwrap());
    fetch.interrupt("it went away").await.unwrap();
    reader.await.unwrap().unwrap_err();

    let mut fetch = blobs.fetch(&digest, bytes.len() as u64, &Actor::anonymous()).await.unwrap();
    assert_eq!(fetch.size(), 4 * MIB as u64);
    assert_eq!(read(fetch.blob().reader(), MIB as u64, MIB).await.unwrap(), bytes[MIB..2 * MIB]);
    fetch.write(bytes.slice(4 * MIB..6 * MIB)).await.unwrap();
    drop((fetch, blobs));
    registry.close().await;
    drop(registry);

    let registry = Registry::open(options(&dir)).unwrap();
    let blobs = repository(&registry).blobs();
    let mut fetch = blobs.fetch(&digest, bytes.len() as u64, &Actor::anonymous()).await.unwrap();
    assert_eq!(fetch.size(), 6 * MIB as u64);
    fetch.write(bytes.slice(6 * MIB..)).await.unwrap();
    fetch.finish().await.unwrap();
    assert_eq!(blobs.get(digest).await.unwrap().unwrap(), bytes);
    // Nothing is left of it.
    assert!(!blobs.was_interrupted(&digest).unwrap());
    let fetch = blobs.fetch(&digest, bytes.len() as u64, &Actor::anonymous()).await.unwrap();
    assert_eq!(fetch.size(), 0);
    fetch.discard("not needed").await.unwrap();
    assert!(registry.verify(Depth::Full).unwrap().is_clean());
}
