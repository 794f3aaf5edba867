//! The metadata of a snapshot as a registry of its own, to be read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fsio::{DirectoryLock, Disk, FileError};
use crate::metadata::{SCHEMA, is_signed};
use crate::registry::{self, Registry};
use crate::snapshots::backup::Backup;
use crate::snapshots::restore::import_rows;
use crate::snapshots::{Error, Snapshot, Tell};

/// The folder in a data directory; what a crash has left of one goes with the next.
const FOLDER: &str = "restoring.parts";

/// A registry that has the rows of a snapshot, and content of none of them but what describes them. It is migrated like any other
/// one, so that snapshots of older schemas are read as those of this one. Its files go when it is dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    registry: Option<Registry>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    _lock: DirectoryLock,
}

impl Scratch {
    /// Makes one in the data directory `data`.
    pub(super) fn make(
        backup: &Backup,
        snapshot: &Snapshot,
        target: &Registry,
        tell: Tell<'_>,
    ) -> Result<Scratch, Error> {
        let (disk, dir) = (Arc::clone(target.disk()), target.data().join(FOLDER));
        disk.create_dir(&dir)?;
        let lock = disk.lock(&dir)?.ok_or_else(|| Error::Locked(dir.clone()))?;
        let rows = dir.join("rows");
        remove_all(disk.as_ref(), &rows)?;
        let mut scratch = Scratch { registry: None, disk: Arc::clone(&disk), dir, _lock: lock };
        disk.create_dir(&rows)?;
        let mut options = registry::Options::new(&rows);
        options.disk = disk;
        options.policy.free_floor_bytes = 0;
        options.policy.upstreams.clone_from(&target.policy().upstreams);
        // A migration may read any payload.
        let is_older = snapshot.schema != SCHEMA;
        import_rows(backup, &snapshot.name, &options, |row| Ok(is_older || is_signed(row)?), tell)?;
        scratch.registry = Some(Registry::open(options)?);
        Ok(scratch)
    }

    pub(super) fn registry(&self) -> &Registry {
        self.registry.as_ref().expect("it is there until the drop")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.registry = None;
        if let Err(error) = remove_all(self.disk.as_ref(), &self.dir) {
            tracing::warn!(%error, "what a restore has made for itself stays until the next one");
        }
    }
}

/// Removes a directory with all that is in it, if it is there.
fn remove_all(disk: &dyn Disk, dir: &Path) -> Result<(), FileError> {
    let entries = disk.list(dir)?;
    for entry in &entries {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            remove_all(disk, &path)?;
        } else {
            disk.remove(&path)?;
        }
    }
    match disk.remove_dir(dir) {
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.map(drop),
    }
}
