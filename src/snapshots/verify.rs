//! Comparing snapshots with what they should be.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::backup::{Backup, file_name};
use super::create::say;
use super::metadata_copy::{CopyReader, Item};
use super::{Error, SnapshotName, Step, Tell, hashing, sums};
use crate::metadata::{Content, content};

/// So many problems are named; more are counted.
const NAMED: usize = 1_000;

/// Something in a backup directory that isn't as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
    /// Whether it only tells of what the registry had lost before: the file itself is what it was.
    #[serde(default, rename = "wasLost")]
    pub was_lost: bool,
}

/// What a check has found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// The snapshots that were looked at.
    pub snapshots: Vec<SnapshotName>,
    /// The files of content that were hashed, and their bytes.
    pub hashed_files: u64,
    /// Their bytes.
    pub hashed_bytes: u64,
    /// Whether some of these were hashed by a run that was interrupted, and that this one went on with.
    pub resumed: bool,
    /// Whether it could be noted how far the run had come. Where a directory can't be written to, an interrupted run is begun again.
    pub resumable: bool,
    /// How many files of content share their bytes with another name, such as that of the registry: in the snapshot that has the most.
    pub linked: u64,
    /// What is wrong, the first thousand.
    pub problems: Vec<Problem>,
    /// How many things are wrong.
    pub count: u64,
}

impl Verified {
    pub(super) fn wrong(&mut self, path: PathBuf, reason: impl Into<String>) {
        self.note(Problem { path, reason: reason.into(), was_lost: false });
    }

    fn note(&mut self, problem: Problem) {
        self.count += 1;
        if self.problems.len() < NAMED {
            self.problems.push(problem);
        }
    }
}

/// Checks that all content of these snapshots is there in its length, and that their own files are what they were; `in_full`
/// hashes all content that the directory has. Blocks.
pub fn verify(
    backup: &Backup,
    snapshots: &[SnapshotName],
    in_full: bool,
    tell: Tell<'_>,
) -> Result<Verified, Error> {
    let mut verified = Verified { snapshots: snapshots.to_vec(), ..Verified::default() };
    for name in snapshots {
        let path = |file: &str| backup.path(&file_name(name, file));
        for (file, reason) in sums::check(backup, name)? {
            verified.wrong(path(&file), reason);
        }
        if in_full
            && backup.is_encrypted()
            && !verified.problems.iter().any(|problem| problem.path == path("metadata.zst.age"))
        {
            // Tells at once that the identity is another.
            drop(backup.metadata(name)?);
        }
        if let Err(error) = check_contents(backup, name, &mut verified, tell) {
            match error {
                Error::Damaged { path, reason } => verified.wrong(path, reason),
                Error::Metadata(error) => verified.wrong(path("metadata.zst"), error.to_string()),
                error => return Err(error),
            }
        }
        match backup.snapshot(name) {
            Ok(snapshot) => {
                for lost in snapshot.lost {
                    let reason = format!("{lost} was lost before it was taken");
                    verified.note(Problem { path: path("snapshot.json"), reason, was_lost: true });
                }
            }
            // The sum has said so.
            Err(Error::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    if in_full {
        hashing::hash_all(backup, &mut verified, tell)?;
    }
    Ok(verified)
}

/// Hands all content of a snapshot to `take`; of manifests it says so.
pub(super) fn each_content(
    backup: &Backup,
    snapshot: &SnapshotName,
    mut take: impl FnMut(Content, bool) -> Result<(), Error>,
) -> Result<(), Error> {
    if backup.is_encrypted() {
        return each_listed(backup, snapshot, &mut take);
    }
    each_of(backup.metadata(snapshot)?, take)
}

/// The same of a snapshot that is encrypted, by the list beside it.
fn each_listed(
    backup: &Backup,
    snapshot: &SnapshotName,
    take: &mut dyn FnMut(Content, bool) -> Result<(), Error>,
) -> Result<(), Error> {
    let file = file_name(snapshot, sums::CONTENTS);
    let path = backup.path(&file);
    let missing = || Error::Damaged { path: path.clone(), reason: "it isn't there".to_owned() };
    let list = backup.open_file(&file)?.ok_or_else(missing)?;
    sums::each_listed(list, &path, take)
}

/// The same of a copy of the metadata.
pub(super) fn each_of(
    mut reader: CopyReader,
    mut take: impl FnMut(Content, bool) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut table = String::new();
    while let Some(item) = reader.next()? {
        match item {
            Item::Table(name) => table = name,
            Item::Row(key, value) => {
                if let Some(content) = content(&table, &key, &value)? {
                    take(content, crate::metadata::is_manifest(&table))?;
                }
            }
        }
    }
    Ok(())
}

fn check_contents(
    backup: &Backup,
    snapshot: &SnapshotName,
    verified: &mut Verified,
    tell: Tell<'_>,
) -> Result<(), Error> {
    let (mut looked, mut linked) = (0, 0);
    each_content(backup, snapshot, |content, _| {
        looked += 1;
        if looked % 10_000 == 0 {
            say(&mut *tell, Step::Metadata, looked, None)?;
        }
        let Content::Canonical(digest, len) = content else { return Ok(()) };
        match backup.content_len(&digest)? {
            Some(found) if backup.form().is_length(found, len) => {}
            Some(found) => {
                verified
                    .wrong(backup.content_path(&digest), format!("it has {found} bytes instead of {len}"));
            }
            None => verified.wrong(backup.content_path(&digest), "it isn't there"),
        }
        linked += u64::from(backup.is_linked(&digest)?);
        Ok(())
    })?;
    verified.linked = verified.linked.max(linked);
    Ok(())
}
