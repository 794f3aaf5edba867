//! Making a data directory of a snapshot.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::backup::Backup;
use super::create::{copy_hashed, say, with_suffix};
use super::metadata_copy::{CopyReader, Item};
use super::verify::each_content;
use super::{Error, Snapshot, SnapshotName, Step, Tell, sums};
use crate::blobs::BlobStore;
use crate::fsio::{Access, Disk, FileError, read_small, replace_small};
use crate::metadata::{self, Content, Imported, Metadata, content, is_manifest};
use crate::oci::Digest;
use crate::registry::{Depth, Options, RESTORING, Registry, Treatment, VerifyOptions};

/// The longest manifest that there can be.
const LONGEST: usize = 64 << 20;

/// How a snapshot is restored.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The registry that is made: its data directory and how it is opened.
    pub registry: Options,
    /// Only say what would be restored, and whether all of it is there.
    pub dry_run: bool,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Where it is now.
    pub data: PathBuf,
    /// Whether nothing was changed.
    pub dry_run: bool,
}

/// Makes a data directory that has what the registry held when the snapshot was taken. Every byte is compared with its digest on the
/// way; where one is wrong or missing, nothing is restored. One that was interrupted goes on. Blocks.
pub fn restore(
    backup: &Backup,
    name: &SnapshotName,
    options: RestoreOptions,
    tell: Tell<'_>,
) -> Result<Restored, Error> {
    let snapshot = backup.snapshot(name)?;
    let from = backup.of(name);
    if let Some((file, reason)) = sums::check(backup.disk(), &from)?.into_iter().next() {
        return Err(Error::Damaged { path: from.join(file), reason });
    }
    let RestoreOptions { registry, dry_run } = options;
    let (disk, data) = (Arc::clone(&registry.disk), registry.data.clone());
    let goes_on = require_free(disk.as_ref(), &data, name)?;
    if dry_run {
        look(backup, &from, tell)?;
        return Ok(Restored { snapshot, data, dry_run });
    }
    disk.create_dir(&data)?;
    // The metadata comes last.
    if !(goes_on && Metadata::is_there(disk.as_ref(), &data)?) {
        let _lock = disk.lock(&data)?.ok_or_else(|| Error::Locked(data.clone()))?;
        replace_small(disk.as_ref(), &data.join(RESTORING), name.as_str().as_bytes())?;
        let store = BlobStore::open(Arc::clone(&disk), data.clone(), registry.metrics.clone())?;
        let target = Target { disk: disk.as_ref(), store: &store, goes_on };
        copy_contents(backup, &from, target, snapshot.bytes, tell)?;
        disk.sync_all(&data)?;
        import_metadata(backup, &from, disk.as_ref(), &registry, tell)?;
    }
    open_and_check(registry)?;
    disk.remove(&data.join(RESTORING))?;
    disk.sync_dir(&data)?;
    Ok(Restored { snapshot, data, dry_run })
}

/// Refuses a directory that has something else than what a restore of this snapshot has left; says whether it has that.
fn require_free(disk: &dyn Disk, data: &Path, name: &SnapshotName) -> Result<bool, Error> {
    let marker = read_small(disk, &data.join(RESTORING), 100)?;
    if marker.as_deref() == Some(name.as_str().as_bytes()) {
        return Ok(true);
    }
    let entries = disk.list(data)?;
    let is_empty =
        entries.iter().all(|entry| matches!(&*entry.name, "lock" | "lost+found" | "restoring.new"));
    if is_empty { Ok(false) } else { Err(Error::Occupied(data.to_owned())) }
}

/// Counts what is missing.
#[derive(Default)]
struct Missing {
    count: u64,
    first: Option<PathBuf>,
}

impl Missing {
    fn add(&mut self, path: PathBuf) {
        self.count += 1;
        self.first.get_or_insert(path);
    }

    fn none(self) -> Result<(), Error> {
        match self.first {
            Some(first) => Err(Error::Incomplete { count: self.count, first }),
            None => Ok(()),
        }
    }
}

/// Hashes all content of a snapshot.
fn look(backup: &Backup, from: &Path, tell: Tell<'_>) -> Result<(), Error> {
    let (mut missing, mut done) = (Missing::default(), 0);
    each_content(backup, from, |content, _| {
        let Content::Canonical(digest, len) = content else { return Ok(()) };
        let path = backup.content(&digest);
        if sums::digest_of(backup.disk(), &path)? != Some((digest, len)) {
            missing.add(path);
        }
        done += len;
        say(&mut *tell, Step::Hashing, done, None)
    })?;
    missing.none()
}

/// Where blobs go.
#[derive(Clone, Copy)]
struct Target<'a> {
    disk: &'a dyn Disk,
    store: &'a BlobStore,
    /// Whether an interrupted restore has left some.
    goes_on: bool,
}

/// Copies the blobs to where the registry will look for them. Manifests are only looked at: they go into the metadata.
fn copy_contents(
    backup: &Backup,
    from: &Path,
    target: Target<'_>,
    total: u64,
    tell: Tell<'_>,
) -> Result<(), Error> {
    let (mut missing, mut done) = (Missing::default(), 0);
    each_content(backup, from, |content, is_manifest| {
        let Content::Canonical(digest, len) = content else { return Ok(()) };
        let source = backup.content(&digest);
        if is_manifest {
            if payload(backup, &digest)?.is_none() {
                missing.add(source);
            }
            return Ok(());
        }
        let Target { disk, store, goes_on } = target;
        let to = store.blob_path(&digest);
        // What an interrupted one has left may have lost its bytes with the power.
        let is_there = goes_on && sums::digest_of(disk, &to)? == Some((digest, len));
        if !is_there && !copy(disk, &source, &to, &digest)? {
            missing.add(source);
        }
        done += len;
        say(&mut *tell, Step::Copying, done, Some(total.max(done)))
    })?;
    missing.none()
}

fn copy(disk: &dyn Disk, from: &Path, to: &Path, digest: &Digest) -> Result<bool, Error> {
    if let Some(prefix) = to.parent() {
        disk.create_dir(prefix)?;
    }
    let partial = with_suffix(to);
    disk.remove(&partial)?;
    let is_right = copy_hashed(disk, from, &partial, digest)?;
    if is_right {
        disk.rename(&partial, to)?;
    } else {
        disk.remove(&partial)?;
    }
    Ok(is_right)
}

/// A manifest's bytes, if they are there and right.
fn payload(backup: &Backup, digest: &Digest) -> Result<Option<Vec<u8>>, Error> {
    let path = backup.content(digest);
    let Some(file) = backup.disk().open(&path, Access::Read)? else { return Ok(None) };
    let failed = |source| FileError::new("read", &path, source);
    let len = usize::try_from(file.len().map_err(failed)?).unwrap_or(usize::MAX);
    if len > LONGEST {
        return Ok(None);
    }
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut bytes[filled..], filled as u64).map_err(failed)? {
            0 => return Ok(None),
            read => filled += read,
        }
    }
    Ok((Digest::of(digest.algorithm(), &bytes) == *digest).then_some(bytes))
}

fn import_metadata(
    backup: &Backup,
    from: &Path,
    disk: &dyn Disk,
    registry: &Options,
    tell: Tell<'_>,
) -> Result<(), Error> {
    let mut reader = CopyReader::open(backup.disk(), &from.join("metadata.zst"))?;
    let (mut table, mut waiting, mut rows) = (String::new(), None, 0);
    metadata::import(disk, &registry.data, registry.database, || {
        if let Some(payload) = waiting.take() {
            return Ok(Some(payload));
        }
        let Some(item) = reader.next()? else { return Ok::<_, Error>(None) };
        rows += 1;
        if rows % 10_000 == 0 {
            say(&mut *tell, Step::Metadata, rows, None)?;
        }
        match item {
            Item::Table(name) => {
                table.clone_from(&name);
                Ok(Some(Imported::Table(name)))
            }
            Item::Row(key, value) => {
                if is_manifest(&table)
                    && let Some(Content::Canonical(digest, _)) = content(&table, &key, &value)?
                {
                    let path = backup.content(&digest);
                    let bytes = payload(backup, &digest)?;
                    let bytes = bytes.ok_or(Error::Incomplete { count: 1, first: path })?;
                    waiting = Some(Imported::Payload(digest, bytes));
                }
                Ok(Some(Imported::Row(key, value)))
            }
        }
    })?;
    Ok(())
}

/// Opens what was restored, which migrates it, and puts right what a snapshot leaves to be counted again.
fn open_and_check(options: Options) -> Result<(), Error> {
    let data = options.data.clone();
    let registry = Registry::open_unfinished(options)?;
    let repair =
        VerifyOptions { is_alone: true, treatment: Treatment::Repair, ..VerifyOptions::new(Depth::Quick) };
    let report = registry.verify_with(&repair, |_| ControlFlow::Continue(()))?;
    match report.problems.first() {
        None => Ok(()),
        Some(problem) => Err(Error::Damaged { path: data, reason: problem.clone() }),
    }
}
