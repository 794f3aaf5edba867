//! What is different between two snapshots.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::backup::{Backup, file_name};
use super::{Error, Snapshot, SnapshotName};
use crate::fsio::FileError;
use crate::oci::Digest;

/// So many tags of a snapshot are held in memory at once, which takes some 50 MiB.
const TAGS: u64 = 250_000;

/// What became of a tag between an earlier snapshot and a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "change")]
pub enum Change {
    /// It is new.
    Added {
        /// What it points to.
        digest: Digest,
    },
    /// It is gone.
    Gone {
        /// What it pointed to.
        digest: Digest,
    },
    /// It points elsewhere.
    Moved {
        /// What it pointed to.
        former: Digest,
        /// What it points to.
        digest: Digest,
    },
}

/// A tag that is different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagChange {
    /// `team/app:v1`.
    pub tag: String,
    /// What became of it.
    #[serde(flatten)]
    pub change: Change,
}

/// How much is different.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// How many tags are new.
    pub added: u64,
    /// How many are gone.
    pub gone: u64,
    /// How many point elsewhere.
    pub moved: u64,
    /// How many bytes the later one has more, or fewer.
    pub bytes: i64,
}

/// Compares two snapshots, and hands each tag that is different to `each`, which may have seen enough. They come in the order of
/// their names, or for more tags than are held at once in several such orders. Blocks.
pub fn diff(
    backup: &Backup,
    from: &SnapshotName,
    to: &SnapshotName,
    each: &mut dyn FnMut(TagChange) -> ControlFlow<()>,
) -> Result<Difference, Error> {
    let (earlier, later) = (backup.snapshot(from)?, backup.snapshot(to)?);
    let turns = earlier.tags.max(later.tags) / TAGS + 1;
    in_turns(backup, [&earlier, &later], turns, each)
}

/// The tags are ordered by when their repository came into being, which differs between snapshots where one was made anew: so they
/// can't be compared side by side, and each turn is about its share of them, whatever the order.
fn in_turns(
    backup: &Backup,
    [earlier, later]: [&Snapshot; 2],
    turns: u64,
    each: &mut dyn FnMut(TagChange) -> ControlFlow<()>,
) -> Result<Difference, Error> {
    let bytes = |snapshot: &Snapshot| i64::try_from(snapshot.bytes).unwrap_or(i64::MAX);
    let mut difference = Difference { bytes: bytes(later) - bytes(earlier), ..Difference::default() };
    for turn in 0..turns {
        let is_turn = |tag: &str| turn_of(tag, turns) == turn;
        let mut before = tags(backup, &earlier.name, is_turn)?;
        let mut changes = BTreeMap::new();
        for (tag, digest) in tags(backup, &later.name, is_turn)? {
            match before.remove(&tag) {
                None => drop(changes.insert(tag, Change::Added { digest })),
                Some(former) if former != digest => {
                    changes.insert(tag, Change::Moved { former, digest });
                }
                Some(_) => {}
            }
        }
        changes.extend(before.into_iter().map(|(tag, digest)| (tag, Change::Gone { digest })));
        for (tag, change) in changes {
            *match change {
                Change::Added { .. } => &mut difference.added,
                Change::Gone { .. } => &mut difference.gone,
                Change::Moved { .. } => &mut difference.moved,
            } += 1;
            if each(TagChange { tag, change }).is_break() {
                return Err(Error::Stopped);
            }
        }
    }
    Ok(difference)
}

fn turn_of(tag: &str, turns: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    tag.hash(&mut hasher);
    hasher.finish() % turns
}

/// One tag in `index.json`, which has a line for each.
#[derive(Deserialize)]
struct Entry {
    digest: Digest,
    annotations: BTreeMap<String, String>,
}

fn tags(
    backup: &Backup,
    name: &SnapshotName,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, Digest>, Error> {
    let file = file_name(name, "index.json");
    let path = backup.path(&file);
    let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
    let file = backup.require_file(&file)?;
    let mut tags = BTreeMap::new();
    // The first line is the index itself.
    for line in BufReader::new(file).lines().skip(1) {
        let line = line.map_err(|source| FileError::new("read", &path, source))?;
        let entry = line.trim_end_matches("]}").trim_end_matches(',');
        let entry: Entry = serde_json::from_str(entry).map_err(|error| damaged(error.to_string()))?;
        let name = entry.annotations.into_values().next();
        let name = name.ok_or_else(|| damaged("a tag has no name".to_owned()))?;
        if is_wanted(&name) {
            tags.insert(name, entry.digest);
        }
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::clock::Timestamp;
    use crate::fsio::{Disk, SimulatedDisk};
    use crate::oci::DigestAlgorithm;

    /// Writes what a comparison reads of a snapshot.
    fn snapshot(disk: &SimulatedDisk, number: u64, tags: &[(String, u64)]) -> Snapshot {
        let name = SnapshotName::new(number, Timestamp::from_millis(number));
        let dir = Path::new("/backup/snapshots").join(name.as_str());
        disk.create_dir(&dir).unwrap();
        let lines = tags.iter().map(|(tag, content)| {
            let digest = Digest::of(DigestAlgorithm::Sha256, &content.to_be_bytes());
            format!("\n{{\"digest\":\"{digest}\",\"annotations\":{{\"name\":\"{tag}\"}}}}")
        });
        let text = format!("{{\"manifests\":[{}]}}", lines.collect::<Vec<_>>().join(","));
        disk.create(&dir.join("index.json")).unwrap().write_at(text.as_bytes(), 0).unwrap();
        let json = serde_json::json!({
            "name": name, "takenAt": "", "takenAtMillis": 0, "version": "", "schema": 1, "withCached": false,
            "tags": tags.len(), "manifests": 0, "blobs": 0, "bytes": number * 10, "addedFiles": 0, "addedBytes": 0,
            "absent": 0, "lost": [], "rows": 0,
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn several_turns_find_what_one_finds_whatever_the_order_of_the_tags() {
        let disk = SimulatedDisk::new();
        let backup = Backup::create(Arc::new(disk.clone()), Path::new("/backup")).unwrap();
        let tag = |number: u64| format!("app:v{number}");
        let before: Vec<_> = (0..300).map(|number| (tag(number), number)).collect();
        let after: Vec<_> = (100..400).rev().map(|number| (tag(number), number / 2 * 2)).collect();
        let (earlier, later) = (snapshot(&disk, 1, &before), snapshot(&disk, 2, &after));
        let mut found: Vec<Vec<TagChange>> = Vec::new();
        for turns in [1, 7] {
            let mut changes = Vec::new();
            let mut each = |change| {
                changes.push(change);
                ControlFlow::Continue(())
            };
            let difference = in_turns(&backup, [&earlier, &later], turns, &mut each).unwrap();
            assert_eq!(difference, Difference { added: 100, gone: 100, moved: 100, bytes: 10 });
            changes.sort_by(|one, other| one.tag.cmp(&other.tag));
            found.push(changes);
        }
        assert_eq!(found[0], found[1]);
        let stopped = in_turns(&backup, [&earlier, &later], 1, &mut |_| ControlFlow::Break(()));
        assert!(matches!(stopped, Err(Error::Stopped)));
    }
}
