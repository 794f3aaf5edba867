//! Making a data directory of a snapshot.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::backup::{Backup, file_name};
use super::create::say;
use super::former::Place;
use super::metadata_copy::Item;
use super::verify::each_content;
use super::{Error, Snapshot, SnapshotName, Step, Tell, sums};
use crate::blobs::BlobStore;
use crate::fsio::{Access, Disk, FileReader};
use crate::metadata::{self, Content, Imported, Metadata, content, is_manifest};
use crate::oci::Digest;
use crate::registry::{Depth, Options, RESTORING, Registry, Treatment, VerifyOptions};

/// The longest manifest that there can be.
const LONGEST: u64 = 64 << 20;

/// How a snapshot is restored.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// The registry that is made: its data directory and how it is opened.
    pub registry: Options,
    /// Only say what would be restored, and whether all of it is there.
    pub dry_run: bool,
    /// Move aside what the data directory has.
    pub force: bool,
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
    /// Where that is now which was there before.
    pub former: Option<PathBuf>,
}

/// Makes a data directory that has what the registry held when the snapshot was taken. Every byte is compared with its digest on the
/// way; where one is wrong or missing, nothing is restored. One that was interrupted goes on. What the directory had is never removed:
/// it is moved aside where that is wanted, once the snapshot is known to be whole. Blocks.
pub fn restore(
    backup: &Backup,
    name: &SnapshotName,
    options: RestoreOptions,
    tell: Tell<'_>,
) -> Result<Restored, Error> {
    let snapshot = backup.known_snapshot(name)?;
    if let Some((file, reason)) = sums::check(backup, name)?.into_iter().next() {
        return Err(Error::Damaged { path: backup.path(&file_name(name, &file)), reason });
    }
    let RestoreOptions { registry, dry_run, force } = options;
    let (disk, data) = (Arc::clone(&registry.disk), registry.data.clone());
    let place = Place::of(disk.as_ref(), &data, name)?;
    if place == Place::Taken && !force {
        return Err(Error::Occupied(data));
    }
    if dry_run {
        look(backup, name, tell)?;
        return Ok(Restored { snapshot, data, dry_run, former: None });
    }
    disk.create_dir(&data)?;
    let mut former = None;
    // The metadata comes last.
    if place != Place::Begun || !Metadata::is_there(disk.as_ref(), &data)? {
        let _lock = disk.lock(&data)?.ok_or_else(|| Error::Locked(data.clone()))?;
        if place == Place::Taken {
            look(backup, name, tell)?;
        }
        let goes_on = place == Place::Begun;
        former = place.clear(disk.as_ref(), &data, name)?;
        let store = BlobStore::open(Arc::clone(&disk), data.clone(), registry.metrics.clone())?;
        let target = Target { disk: disk.as_ref(), store: &store, goes_on };
        copy_contents(backup, name, target, snapshot.bytes, tell)?;
        disk.sync_all(&data)?;
        import_rows(backup, name, &registry, |_| Ok(true), tell)?;
    }
    open_and_check(registry)?;
    disk.remove(&data.join(RESTORING))?;
    disk.sync_dir(&data)?;
    Ok(Restored { snapshot, data, dry_run, former })
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
fn look(backup: &Backup, name: &SnapshotName, tell: Tell<'_>) -> Result<(), Error> {
    let (mut missing, mut done) = (Missing::default(), 0);
    each_content(backup, name, |content, _| {
        let Content::Canonical(digest, len) = content else { return Ok(()) };
        let is_right = match backup.hash(&digest) {
            // It was encrypted, and can't be opened any more.
            Err(Error::Damaged { .. }) => false,
            found => found? == Some((digest, len)),
        };
        if !is_right {
            missing.add(backup.content_path(&digest));
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
    name: &SnapshotName,
    target: Target<'_>,
    total: u64,
    tell: Tell<'_>,
) -> Result<(), Error> {
    let (mut missing, mut done) = (Missing::default(), 0);
    // Digests come in their order, so that each folder is made, and synced, once.
    let mut folder = PathBuf::new();
    each_content(backup, name, |content, is_manifest| {
        let Content::Canonical(digest, len) = content else { return Ok(()) };
        let source = backup.content_path(&digest);
        if is_manifest {
            if payload(backup, &digest)?.is_none() {
                missing.add(source);
            }
            return Ok(());
        }
        let Target { disk, store, goes_on } = target;
        let to = store.blob_path(&digest);
        // What an interrupted one has left may have lost its bytes with the power.
        let is_there = goes_on && has(disk, &to, &digest, len)?;
        if let Some(parent) = to.parent()
            && parent != folder
        {
            disk.create_dir(parent)?;
            parent.clone_into(&mut folder);
        }
        if !is_there && !copy(backup, disk, &to, &digest)? {
            missing.add(source);
        }
        done += len;
        say(&mut *tell, Step::Copying, done, Some(total.max(done)))
    })?;
    missing.none()
}

/// Whether a file has the bytes of this content.
fn has(disk: &dyn Disk, path: &Path, digest: &Digest, len: u64) -> Result<bool, Error> {
    match disk.open(path, Access::Read)? {
        Some(file) => Ok(sums::digest_of(&mut FileReader::new(file), path)? == (*digest, len)),
        None => Ok(false),
    }
}

fn copy(backup: &Backup, disk: &dyn Disk, to: &Path, digest: &Digest) -> Result<bool, Error> {
    let partial = with_suffix(to);
    disk.remove(&partial)?;
    let is_right = match backup.copy_content(digest, disk, &partial) {
        // It was encrypted, and can't be opened any more.
        Err(Error::Damaged { .. }) => false,
        copied => copied?,
    };
    if is_right {
        disk.rename(&partial, to)?;
    } else {
        disk.remove(&partial)?;
    }
    Ok(is_right)
}

/// Where a file is before it is whole.
fn with_suffix(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

/// A manifest's bytes, if they are there and right.
pub(super) fn payload(backup: &Backup, digest: &Digest) -> Result<Option<Vec<u8>>, Error> {
    let bytes = match backup.read_content(digest, LONGEST) {
        // It is longer than any manifest.
        Err(Error::Damaged { .. }) => None,
        read => read?,
    };
    Ok(bytes.filter(|bytes| Digest::of(digest.algorithm(), bytes) == *digest))
}

/// Makes the metadata of a data directory of a snapshot's rows. `wants_payload` says of the row of a manifest whether its bytes
/// come too.
pub(super) fn import_rows(
    backup: &Backup,
    name: &SnapshotName,
    registry: &Options,
    wants_payload: impl Fn(&[u8]) -> Result<bool, Error>,
    tell: Tell<'_>,
) -> Result<(), Error> {
    let mut reader = backup.metadata(name)?;
    let (mut table, mut waiting, mut rows) = (String::new(), None, 0);
    metadata::import(registry.disk.as_ref(), &registry.data, registry.database, || {
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
                    && wants_payload(&value)?
                    && let Some(Content::Canonical(digest, _)) = content(&table, &key, &value)?
                {
                    let path = backup.content_path(&digest);
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
