//! Removing snapshots, and the content that no other one needs.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use super::backup::Backup;
use super::create::{say, say_waiting};
use super::verify::each_content;
use super::{Error, Snapshot, SnapshotName, Step, Tell};
use crate::metadata::Content;
use crate::oci::Digest;

/// So many names are held in memory at once.
const PAGE: usize = 100_000;

/// So many digests are held in memory at once, which takes some 64 MiB.
const DIGESTS: u64 = 1_000_000;

/// Which snapshots stay. Each rule keeps the newest one of each of so many periods that have one; what any rule keeps stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keep {
    /// So many of the newest ones.
    pub last: usize,
    /// One of each of so many hours.
    pub hourly: usize,
    /// One of each of so many days, by UTC.
    pub daily: usize,
    /// One of each of so many weeks, which begin on Monday.
    pub weekly: usize,
    /// One of each of so many months.
    pub monthly: usize,
}

/// What a pruning does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrunePlan {
    /// What stays, with the rules that keep it; the newest first.
    pub keep: Vec<(SnapshotName, Vec<String>)>,
    /// What goes.
    pub remove: Vec<SnapshotName>,
}

/// What a pruning did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// How many snapshots went.
    pub snapshots: u64,
    /// How many files of content that no other one needs.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A rule's name, for how many periods it keeps one, and the period of a snapshot.
type Rule<'r> = (&'static str, usize, &'r dyn Fn(&Snapshot) -> String);

impl Keep {
    /// Whether nothing would stay.
    pub fn is_nothing(&self) -> bool {
        *self == Keep::default()
    }

    /// What goes and what stays of these.
    pub fn plan(&self, snapshots: &[Snapshot]) -> PrunePlan {
        let mut newest_first: Vec<&Snapshot> = snapshots.iter().collect();
        newest_first.sort_unstable_by(|one, other| other.name.cmp(&one.name));
        let hour = |snapshot: &Snapshot| snapshot.taken_at[..13].to_owned();
        let day = |snapshot: &Snapshot| snapshot.taken_at[..10].to_owned();
        let month = |snapshot: &Snapshot| snapshot.taken_at[..7].to_owned();
        // The first of January 1970 was a Thursday.
        let week = |snapshot: &Snapshot| ((snapshot.taken_at_millis / 86_400_000 + 3) / 7).to_string();
        let each = |snapshot: &Snapshot| snapshot.name.to_string();
        let rules: [Rule<'_>; 5] = [
            ("last", self.last, &each),
            ("hourly", self.hourly, &hour),
            ("daily", self.daily, &day),
            ("weekly", self.weekly, &week),
            ("monthly", self.monthly, &month),
        ];
        let mut seen: [BTreeSet<String>; 5] = Default::default();
        let mut plan = PrunePlan { keep: Vec::new(), remove: Vec::new() };
        for snapshot in newest_first {
            let mut kept_by = Vec::new();
            for ((name, most, period), seen) in rules.iter().zip(&mut seen) {
                if seen.len() < *most && seen.insert(period(snapshot)) {
                    kept_by.push((*name).to_owned());
                }
            }
            if kept_by.is_empty() {
                plan.remove.push(snapshot.name.clone());
            } else {
                plan.keep.push((snapshot.name.clone(), kept_by));
            }
        }
        plan
    }
}

/// Removes snapshots, and then all content that none of the others needs, whatever has left it. The snapshots are gone durably
/// before the first of their content goes, so that an interrupted pruning leaves none that lacks something. Blocks.
pub fn prune(backup: &Backup, remove: &[SnapshotName], tell: Tell<'_>) -> Result<Pruned, Error> {
    let _lock = backup.lock_patiently(&mut || say_waiting(tell))?;
    let _names = backup.lock_names_patiently(&mut || say_waiting(tell))?;
    for name in backup.names()?.iter().filter(|name| !remove.contains(name)) {
        // What a later version has taken needs content that nobody here knows of.
        backup.known_snapshot(name)?;
    }
    backup.store().withdraw(remove)?;
    let pruned = Pruned { snapshots: remove.len() as u64, ..Pruned::default() };
    sweep_all(backup, &backup.names()?, pruned, false, tell)
}

/// Says what a pruning would do, and changes nothing. Blocks.
pub fn prune_dry(backup: &Backup, remove: &[SnapshotName], tell: Tell<'_>) -> Result<Pruned, Error> {
    let mut names = backup.names()?;
    names.retain(|name| !remove.contains(name));
    let pruned = Pruned { snapshots: remove.len() as u64, ..Pruned::default() };
    sweep_all(backup, &names, pruned, true, tell)
}

/// Removes the content that none of these snapshots needs, or counts it. Holds no more than a part of the digests at once.
fn sweep_all(
    backup: &Backup,
    names: &[SnapshotName],
    mut pruned: Pruned,
    dry_run: bool,
    tell: Tell<'_>,
) -> Result<Pruned, Error> {
    let mut most = 0;
    for name in names {
        let snapshot = backup.known_snapshot(name)?;
        most += snapshot.blobs + snapshot.manifests;
    }
    let passes = u8::try_from((most / DIGESTS + 1).min(255)).unwrap_or(u8::MAX);
    for pass in 0..passes {
        let is_turn = |digest: &Digest| digest.as_bytes()[0] % passes == pass;
        let mut needed = HashSet::new();
        for name in names {
            each_content(backup, name, |content, _| {
                let (Content::Canonical(digest, _) | Content::Alias(digest, _)) = content;
                if is_turn(&digest) {
                    needed.insert(digest);
                }
                Ok(())
            })?;
        }
        sweep(backup, &mut pruned, dry_run, &mut *tell, |digest| {
            !is_turn(digest) || needed.contains(digest)
        })?;
    }
    Ok(pruned)
}

/// Removes the content that isn't needed.
fn sweep(
    backup: &Backup,
    pruned: &mut Pruned,
    dry_run: bool,
    tell: Tell<'_>,
    is_needed: impl Fn(&Digest) -> bool,
) -> Result<(), Error> {
    let store = backup.store();
    for algorithm in store.list("blobs")?.into_iter().filter(|entry| entry.is_dir) {
        let folder = format!("blobs/{}", algorithm.name);
        let mut after = String::new();
        loop {
            let page = store.list_after(&folder, &after, PAGE)?;
            for entry in &page {
                let Some(digest) = backup.form().digest(&algorithm.name, &entry.name) else { continue };
                if !is_needed(&digest) && (dry_run || store.remove(&format!("{folder}/{}", entry.name))?) {
                    pruned.files += 1;
                    pruned.bytes += entry.len;
                    say(&mut *tell, Step::Removing, pruned.bytes, None)?;
                }
            }
            match page.into_iter().last() {
                Some(last) => after = last.name,
                None => break,
            }
        }
        if !dry_run {
            store.settle(&folder)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn snapshot(number: u64, hours: u64) -> Snapshot {
        let at = Timestamp::from_millis(1_795_219_200_000 + hours * 3_600_000);
        Snapshot {
            name: SnapshotName::new(number, at),
            taken_at: at.to_rfc3339(),
            taken_at_millis: at.millis(),
            version: String::new(),
            schema: 1,
            with_cached: false,
            tags: 0,
            manifests: 0,
            blobs: 0,
            bytes: 0,
            added_files: 0,
            added_bytes: 0,
            absent: 0,
            lost: Vec::new(),
            rows: 0,
        }
    }

    fn kept(keep: Keep, hours: &[u64]) -> Vec<u64> {
        let snapshots: Vec<_> = (1..).zip(hours).map(|(number, hours)| snapshot(number, *hours)).collect();
        let plan = keep.plan(&snapshots);
        assert_eq!(plan.keep.len() + plan.remove.len(), hours.len());
        plan.keep.iter().map(|(name, _)| name.number()).collect()
    }

    #[test]
    fn each_rule_keeps_the_newest_of_each_period() {
        // The first is at midnight of a Saturday, 2026-11-21.
        let hours = [0, 1, 2, 24, 25, 48, 49, 24 * 20, 24 * 21];
        assert_eq!(kept(Keep { last: 2, ..Keep::default() }, &hours), [9, 8]);
        assert_eq!(kept(Keep { daily: 3, ..Keep::default() }, &hours), [9, 8, 7]);
        assert_eq!(kept(Keep { daily: 100, ..Keep::default() }, &hours), [9, 8, 7, 5, 3]);
        assert_eq!(kept(Keep { weekly: 100, ..Keep::default() }, &hours), [9, 7, 5]);
        assert_eq!(kept(Keep { monthly: 100, ..Keep::default() }, &hours), [9, 7]);
        assert_eq!(kept(Keep { hourly: 1, monthly: 2, ..Keep::default() }, &hours), [9, 7]);
        assert!(Keep::default().is_nothing() && kept(Keep::default(), &hours).is_empty());
    }

    #[test]
    fn a_clock_that_goes_backwards_makes_nothing_newer() {
        assert_eq!(kept(Keep { last: 1, ..Keep::default() }, &[100, 50]), [2]);
    }
}
