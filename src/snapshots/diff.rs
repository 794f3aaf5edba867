//! What is different between two snapshots.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};

use serde::{Deserialize, Serialize};

use super::backup::{Backup, file_name};
use super::{Error, SnapshotName};
use crate::fsio::FileError;

/// What is different between an earlier snapshot and a later one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Tags that are new: name and digest.
    pub added: Vec<(String, String)>,
    /// Tags that are gone: name, and the digest that they had.
    pub gone: Vec<(String, String)>,
    /// Tags that point elsewhere: name, former digest and present one.
    pub moved: Vec<(String, String, String)>,
    /// How many bytes the later one has more, or fewer.
    pub bytes: i64,
}

/// Compares two snapshots. Holds the tags of both in memory. Blocks.
pub fn diff(backup: &Backup, from: &SnapshotName, to: &SnapshotName) -> Result<Difference, Error> {
    let (mut before, after) = (tags(backup, from)?, tags(backup, to)?);
    let mut difference = Difference::default();
    for (tag, digest) in after {
        match before.remove(&tag) {
            None => difference.added.push((tag, digest)),
            Some(former) if former != digest => difference.moved.push((tag, former, digest)),
            Some(_) => {}
        }
    }
    difference.gone = before.into_iter().collect();
    let bytes = |name| Ok::<_, Error>(i64::try_from(backup.snapshot(name)?.bytes).unwrap_or(i64::MAX));
    difference.bytes = bytes(to)? - bytes(from)?;
    Ok(difference)
}

/// One tag in `index.json`, which has a line for each.
#[derive(Deserialize)]
struct Entry {
    digest: String,
    annotations: BTreeMap<String, String>,
}

fn tags(backup: &Backup, name: &SnapshotName) -> Result<BTreeMap<String, String>, Error> {
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
        tags.insert(name.ok_or_else(|| damaged("a tag has no name".to_owned()))?, entry.digest);
    }
    Ok(tags)
}
