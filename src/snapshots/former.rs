//! The place of a restore: free, begun by an interrupted one, or taken, and then what it has is moved aside.

use std::path::{Path, PathBuf};

use super::{Error, SnapshotName};
use crate::fsio::{Disk, read_small, replace_small};
use crate::registry::RESTORING;

/// The folder of a data directory with what restores have moved aside, each in a folder of its own, `1`, `2` and so on.
const FORMER: &str = "former";

/// The longest marker.
const MARKER_BYTES: usize = 200;

/// What a data directory has, to somebody who wants to restore a snapshot into it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing.
    Free,
    /// What an interrupted restore of the same snapshot has left.
    Begun,
    /// What one has left that was about to move the former content to this folder.
    Moving(PathBuf),
    /// Something else.
    Taken,
}

impl Place {
    /// Looks at the data directory, which need not exist.
    ///
    /// The marker has the name of the snapshot; behind it, while the former content is moved, the number of the folder.
    pub(super) fn of(disk: &dyn Disk, data: &Path, name: &SnapshotName) -> Result<Place, Error> {
        let marker = read_small(disk, &data.join(RESTORING), MARKER_BYTES)?;
        let marker = marker.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let (named, number) = marker.split_once('\n').unwrap_or((&marker, ""));
        if named == name.as_str() {
            let moving = number.parse::<u64>().map(|number| Place::Moving(folder(data, number)));
            return Ok(moving.unwrap_or(Place::Begun));
        }
        let is_free = disk.list(data)?.iter().all(|entry| stays(&entry.name) && entry.name != RESTORING);
        Ok(if is_free { Place::Free } else { Place::Taken })
    }

    /// Moves what the directory has aside, which the caller has locked, and says where it is. An interrupted move is gone on with
    /// by the next one; nobody serves the directory meanwhile.
    pub(super) fn clear(
        self,
        disk: &dyn Disk,
        data: &Path,
        name: &SnapshotName,
    ) -> Result<Option<PathBuf>, Error> {
        let to = match self {
            Place::Free | Place::Begun => None,
            Place::Moving(to) => Some(to),
            Place::Taken => {
                let taken = disk.list(&data.join(FORMER))?;
                let numbers = taken.iter().filter_map(|entry| entry.name.parse::<u64>().ok());
                let number = numbers.max().unwrap_or(0) + 1;
                let marker = format!("{name}\n{number}");
                replace_small(disk, &data.join(RESTORING), marker.as_bytes())?;
                Some(folder(data, number))
            }
        };
        if let Some(to) = &to {
            disk.create_dir(&data.join(FORMER))?;
            disk.create_dir(to)?;
            for entry in disk.list(data)?.into_iter().filter(|entry| !stays(&entry.name)) {
                disk.rename(&data.join(&entry.name), &to.join(&entry.name))?;
            }
            disk.sync_dir(to)?;
            disk.sync_dir(data)?;
        }
        replace_small(disk, &data.join(RESTORING), name.as_str().as_bytes())?;
        Ok(to)
    }
}

fn folder(data: &Path, number: u64) -> PathBuf {
    data.join(FORMER).join(number.to_string())
}

/// What isn't content of a registry.
fn stays(name: &str) -> bool {
    matches!(name, "lock" | "lost+found" | "restoring.new" | FORMER | RESTORING)
}
