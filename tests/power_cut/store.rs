//! A registry on a simulated disk.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;

use orlop::fsio::SimulatedDisk;
use orlop::oci::Digest;
use orlop::registry::{Options, Repository};
use tokio::runtime::Runtime;

/// The registry of the tests, on any disk.
pub(crate) fn options(disk: &SimulatedDisk) -> Options {
    let mut options = Options::new("/data");
    options.disk = Arc::new(disk.clone());
    options
}

/// The same without the extra bookkeeping that makes a start after a crash quick.
pub(crate) fn options_without_quick_repair(disk: &SimulatedDisk) -> Options {
    let mut options = options(disk);
    options.database.quick_repair = false;
    options
}

pub(crate) fn new_runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The size of a blob whose bytes have been read and are the digest's; `None` if the repository doesn't have it.
pub(crate) fn read_blob(repository: &Repository, digest: &Digest) -> Result<Option<u64>, String> {
    let blobs = repository.blobs();
    let failed = |error: orlop::registry::Error| format!("a blob can't be read: {error}");
    let Some(descriptor) = blobs.stat(digest).map_err(failed)? else { return Ok(None) };
    let Some(reader) = blobs.open(digest).map_err(failed)? else {
        return Err(format!("{digest} has a row and no file"));
    };
    let mut bytes = vec![0; usize::try_from(descriptor.size).unwrap() + 1];
    let read = reader.read_at(&mut bytes, 0).map_err(|error| error.to_string())?;
    if read as u64 != descriptor.size || Digest::of(digest.algorithm(), &bytes[..read]) != *digest {
        return Err(format!("{digest} has other bytes"));
    }
    Ok(Some(descriptor.size))
}
