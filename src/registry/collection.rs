//! Collection: what nothing names any more goes, in small steps beside pushes and pulls.
//!
//! A step takes what is due by now, in one transaction: deletions whose time has passed, links that no manifest needs, what
//! followed manifests that are gone, and blobs that no repository links, also those that this very transaction has taken the
//! last link from; before it, untagged manifests whose grace is over. All is looked at in the transaction that removes it, so
//! that whatever a push or a look has named since stays. A blob's file goes last, when its row is durably gone, under the
//! digest's lock.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::followers::{Gone, remove_followers};
use super::revision::remove;
use super::{Error, Inner, unlinked};
use crate::clock::Timestamp;
use crate::fsio::Turn;
use crate::metadata::candidates::{self, Candidate};
use crate::metadata::deletions::{self, DeletedKind, DeletionRecord};
use crate::metadata::repositories::{self, RepositoryId};
use crate::metadata::{self, Read, Scan, WriteTx, blobs, dismantle, manifests, tags};
use crate::oci::{Digest, RepositoryName, Tag};

/// How many rows one transaction removes at most, so that a push waits a few milliseconds for it.
const ROWS: usize = 64;

/// How many deletions one transaction ends at most.
const DELETIONS: usize = 8;

/// How many candidates one transaction looks at.
const CANDIDATES: usize = 32;

/// How many times as long as a step took the collection rests behind it, where others have written meanwhile, so that those
/// who push have the disk and the writer to themselves for most of the time.
const REST: u32 = 2;

/// How many untagged manifests one look at them reads.
const UNTAGGED: usize = 1_000;

/// What was collected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Deletions that can't be undone any more.
    pub deletions: u64,
    /// Links of blobs that no manifest of their repository needed.
    pub links: u64,
    /// Manifests: untagged ones whose grace was over, and those that followed a subject.
    pub manifests: u64,
    /// Tags that followed a subject.
    pub tags: u64,
    /// Blobs.
    pub blobs: u64,
    /// The bytes of these blobs.
    pub bytes: u64,
}

impl Collected {
    fn add(&mut self, other: &Collected) {
        self.deletions += other.deletions;
        self.links += other.links;
        self.manifests += other.manifests;
        self.tags += other.tags;
        self.blobs += other.blobs;
        self.bytes += other.bytes;
    }
}

/// Why something stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// It was deleted and can come back.
    Deletion(super::Deletion),
    /// No manifest of the repository needs the blob, and a push may still name it.
    Lease {
        /// The repository.
        repository: RepositoryName,
        /// The blob.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
        /// Until when at least.
        until: Timestamp,
    },
    /// No tag and no manifest names the manifest, and people may use it by its digest.
    Untagged {
        /// The repository.
        repository: RepositoryName,
        /// The manifest.
        digest: Digest,
        /// Since when.
        since: Timestamp,
        /// When its grace is over, where there is one.
        until: Option<Timestamp>,
        /// The tag whose history holds it, whatever its grace is.
        history_of: Option<Tag>,
    },
}

/// What a collection would do now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CollectionPlan {
    /// What would go at once. The blobs of manifests that would go have their lease before them.
    pub due: Collected,
    /// What keeps something that nothing live names, the first thousand of each kind.
    pub kept: Vec<Root>,
    /// How many deletions can be undone.
    pub deletions: u64,
    /// How many blobs' links are held by a lease, and their bytes.
    pub leased: (u64, u64),
    /// How many manifests are untagged, and the bytes of the manifests and of the blobs that only they name.
    pub untagged: (u64, u64),
}

/// Keeps the files of collected blobs where they are until it is dropped, for whoever reads many of them.
#[derive(Debug)]
pub struct CollectionHold(Arc<Inner>);

impl Drop for CollectionHold {
    fn drop(&mut self) {
        self.0.holds.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(super) async fn hold(inner: &Arc<Inner>) -> CollectionHold {
    inner.holds.fetch_add(1, Ordering::SeqCst);
    let hold = CollectionHold(inner.clone());
    // A step that didn't know of it may still remove files.
    drop(inner.collecting.lock().await);
    hold
}

/// How far a collection has come through what has no order of due times.
#[derive(Debug, Clone, Copy, Default)]
struct Pass {
    /// The last untagged manifest that was looked at, and whether it was the last of all.
    untagged: Option<(RepositoryId, Digest)>,
    seen_untagged: bool,
    /// The last blob without a link.
    unlinked: Option<Digest>,
}

/// Collects until nothing is due; tells `progress` what has gone so far after each step.
pub(super) async fn collect(
    inner: &Arc<Inner>,
    mut progress: impl FnMut(&Collected),
) -> Result<Collected, Error> {
    let mut collected = Collected::default();
    let mut pass = Pass::default();
    loop {
        let turn = Turn::begin(inner.changes.load(Ordering::Relaxed));
        let (step, more) = pass_on(inner, &mut pass).await?;
        collected.add(&step);
        progress(&collected);
        if !more {
            let ended = (inner.clock.now(), collected);
            *inner.last_collected.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
            return Ok(collected);
        }
        let rest = turn.rest(inner.changes.load(Ordering::Relaxed), REST);
        if !rest.is_zero() {
            tokio::time::sleep(rest).await;
        }
    }
}

/// Collects a little; says whether more is due.
pub(super) async fn step(inner: &Arc<Inner>) -> Result<(Collected, bool), Error> {
    pass_on(inner, &mut Pass::default()).await
}

/// One step, which goes on to its end where the caller stops waiting: rows whose files stay would be left behind.
async fn pass_on(inner: &Arc<Inner>, pass: &mut Pass) -> Result<(Collected, bool), Error> {
    let (worker, mut passing) = (inner.clone(), *pass);
    let task = tokio::spawn(async move {
        let _alone = worker.collecting.lock().await;
        let result = collect_some(&worker, &mut passing).await;
        (result, passing)
    });
    match task.await {
        Ok((result, passed)) => {
            *pass = passed;
            result
        }
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::Unavailable),
    }
}

async fn collect_some(inner: &Arc<Inner>, pass: &mut Pass) -> Result<(Collected, bool), Error> {
    let mut collected = Collected::default();
    let mut more = collect_untagged(inner, pass, &mut collected).await?;
    more |= collect_due(inner, pass, &mut collected).await?;
    Ok((collected, more))
}

/// What one transaction has taken away.
#[derive(Debug, Default)]
struct Taken {
    collected: Collected,
    unlinked: unlinked::Removed,
    /// The last blob without a link that was looked at, where more may follow.
    last_unlinked: Option<Digest>,
    /// Whether something else may be due by that.
    more: bool,
}

/// Takes what is due in one transaction, since each costs the same syncs: a deletion that ends, the links that it held or
/// left behind, and the blobs that lose their last link by that. Says whether there may be more to do.
async fn collect_due(inner: &Arc<Inner>, pass: &mut Pass, collected: &mut Collected) -> Result<bool, Error> {
    let now = inner.clock.now();
    let are_files_held = inner.holds.load(Ordering::SeqCst) > 0;
    let behind = pass.unlinked.take();
    let is_due = inner.metadata.read(|tx| {
        Ok(!deletions::expired(tx, now.millis(), 1)?.is_empty()
            || !candidates::due(tx, now.millis(), 1)?.is_empty()
            || (!are_files_held && !candidates::unlinked(tx, behind.as_ref(), 1)?.is_empty()))
    })?;
    if !is_due {
        return Ok(false);
    }
    let since = now.saturating_sub(inner.policy.collection.lease);
    let pushing = inner.sessions.pushed_to(&inner.metadata, since)?;
    let worker = inner.clone();
    let taken = inner.metadata.write(move |tx| {
        let mut taken = Taken::default();
        end_deletions(tx, &worker, now, &mut taken)?;
        remove_named(tx, &worker, now, &pushing, &mut taken)?;
        if !are_files_held {
            let found = candidates::unlinked(tx, behind.as_ref(), unlinked::AT_ONCE)?;
            taken.last_unlinked = found.last().copied().filter(|_| found.len() == unlinked::AT_ONCE);
            taken.unlinked = unlinked::remove_rows(tx, &worker, &found)?;
        }
        Ok::<_, Error>(taken)
    });
    let taken = taken.await?;
    let (blobs, bytes) = unlinked::remove_files(inner, taken.unlinked).await?;
    collected.add(&Collected { blobs, bytes, ..taken.collected });
    pass.unlinked = taken.last_unlinked;
    Ok(taken.more || pass.unlinked.is_some())
}

/// Takes deletions apart whose time has passed, as many as a transaction has room for.
fn end_deletions(tx: &WriteTx<'_>, inner: &Inner, now: Timestamp, taken: &mut Taken) -> Result<(), Error> {
    let mut rows = ROWS;
    for id in deletions::expired(tx, now.millis(), DELETIONS)? {
        taken.more = true;
        let Some(record) = deletions::get(tx, id)? else { continue };
        let ends = super::deletion::end_those_of(tx, id, rows)?;
        let Some(left) = (if ends { dismantle::step(tx, id, rows)? } else { None }) else {
            // A part of it is gone: nobody may undelete the rest, whatever the clock says then.
            deletions::set(tx, id, &DeletionRecord { expires_at: 0, ..record })?;
            break;
        };
        deletions::remove(tx, id)?;
        if let (DeletedKind::Manifest, Some(digest)) = (record.kind, record.digest) {
            let since = Timestamp::from_millis(record.deleted_at);
            super::deletion::let_former_followers_go(tx, inner, now, record.repository, &digest, since)?;
        }
        taken.collected.deletions += 1;
        rows = left;
    }
    Ok(())
}

/// Removes links and followers that are due. `pushing` has the repositories that somebody pushes to, and since when.
fn remove_named(
    tx: &WriteTx<'_>,
    inner: &Inner,
    now: Timestamp,
    pushing: &HashMap<RepositoryName, u64>,
    taken: &mut Taken,
) -> Result<(), Error> {
    let due = candidates::due(tx, now.millis(), CANDIDATES)?;
    if due.is_empty() {
        return Ok(());
    }
    // What they named may be due now.
    taken.more = true;
    let gone = &mut taken.collected;
    let pushing = by_id(tx, pushing)?;
    for (due, candidate) in &due {
        let Some(since) = candidates::since(tx, *due, candidate)? else { continue };
        match candidate {
            Candidate::Link { repository, digest } => {
                let link = blobs::link(tx, *repository, digest)?;
                // What is fetched into a cached repository was named before.
                let began = pushing.get(repository).filter(|_| !repository.is_cached());
                let until = inner.lease_end(*repository, now).max(now.millis() + 1);
                if link.is_none_or(|link| link.due_at != Some(*due)) {
                    candidates::remove(tx, *due, candidate)?;
                } else if began.is_some_and(|began| *began <= since) {
                    // Who sends that upload may have been told of the blob before.
                    blobs::extend_link(tx, *repository, digest, until, since)?;
                } else {
                    blobs::remove_link(tx, *repository, digest)?;
                    gone.links += 1;
                }
            }
            Candidate::Followers { repository, digest } => {
                candidates::remove(tx, *due, candidate)?;
                let mut went = Gone::default();
                let again = remove_followers(tx, inner, now, *repository, digest, since, &mut went)?;
                if let Some(again) = again {
                    candidates::insert_since(tx, again, candidate, since)?;
                }
                gone.manifests += went.manifests;
                gone.tags += went.tags;
            }
            Candidate::Blob { .. } => {}
        }
    }
    Ok(())
}

/// What is said of repositories by name, by their identifiers; a name that none has is left out.
pub(super) fn by_id(
    tx: &impl Read,
    names: &HashMap<RepositoryName, u64>,
) -> Result<HashMap<RepositoryId, u64>, metadata::Error> {
    let mut ids = HashMap::new();
    for (name, value) in names {
        if let Some(id) = repositories::id_of(tx, name)? {
            ids.insert(id, *value);
        }
    }
    Ok(ids)
}

/// Removes untagged manifests whose grace is over, of those behind the ones that were looked at; says whether there may be
/// more.
async fn collect_untagged(
    inner: &Arc<Inner>,
    pass: &mut Pass,
    collected: &mut Collected,
) -> Result<bool, Error> {
    let Some(grace) = inner.policy.collection.untagged_grace.filter(|_| !pass.seen_untagged) else {
        return Ok(false);
    };
    let now = inner.clock.now();
    let over = now.saturating_sub(grace).millis();
    let behind = pass.untagged;
    let (last, found) = inner.metadata.read(|tx| {
        let (mut rows, mut last, mut found) = (0, None, Vec::new());
        manifests::each_untagged(
            tx,
            behind.as_ref().map(|(id, digest)| (*id, digest)),
            |id, digest, since| {
                let is_over = since <= over && is_due(tx, now, id, &digest)?;
                found.extend(is_over.then_some((id, digest)));
                rows += 1;
                if rows == UNTAGGED || found.len() == CANDIDATES {
                    last = Some((id, digest));
                    return Ok(Scan::Stop);
                }
                Ok(Scan::Continue)
            },
        )?;
        Ok((last, found))
    })?;
    (pass.untagged, pass.seen_untagged) = (last, last.is_none());
    if !found.is_empty() {
        let worker = inner.clone();
        let gone = inner.metadata.write(move |tx| {
            let mut gone = 0;
            for (id, digest) in &found {
                gone += u64::from(remove_untagged(tx, &worker, now, *id, digest)?);
            }
            Ok::<_, Error>(gone)
        });
        collected.manifests += gone.await?;
    }
    Ok(last.is_some())
}

fn is_due(
    tx: &impl Read,
    now: Timestamp,
    id: RepositoryId,
    digest: &Digest,
) -> Result<bool, metadata::Error> {
    let record = manifests::get(tx, id, digest)?;
    Ok(record.is_some_and(|record| record.due_at.is_some_and(|due| due <= now.millis())))
}

/// Removes a manifest that nothing names, nor the history of a tag holds, and that nobody was promised; says whether it did.
pub(super) fn remove_untagged(
    tx: &WriteTx<'_>,
    inner: &Inner,
    now: Timestamp,
    id: RepositoryId,
    digest: &Digest,
) -> Result<bool, Error> {
    if !is_due(tx, now, id, digest)? || is_held_by_history(tx, inner, id, digest)? {
        return Ok(false);
    }
    remove(tx, inner, now, id, digest)?;
    super::deletion::let_followers_go(tx, inner, now, id, digest)?;
    Ok(true)
}

/// Whether the manifest is among the last that a tag pointed to, as many as the policy keeps.
pub(super) fn is_held_by_history(
    tx: &WriteTx<'_>,
    inner: &Inner,
    id: RepositoryId,
    digest: &Digest,
) -> Result<bool, metadata::Error> {
    let keep = inner.policy.collection.keep_history;
    let mut held = false;
    for tag in tags::holders(tx, id, digest)? {
        if is_among_last(tx, id, digest, &tag, keep)? {
            held = true;
        } else {
            tags::release(tx, id, digest, &tag)?;
        }
    }
    Ok(held)
}

/// The tag whose history holds the manifest so, for whoever only looks.
pub(super) fn history_holder(
    tx: &impl Read,
    inner: &Inner,
    id: RepositoryId,
    digest: &Digest,
) -> Result<Option<Tag>, metadata::Error> {
    for tag in tags::holders(tx, id, digest)? {
        if is_among_last(tx, id, digest, &tag, inner.policy.collection.keep_history)? {
            return Ok(Some(tag));
        }
    }
    Ok(None)
}

fn is_among_last(
    tx: &impl Read,
    id: RepositoryId,
    digest: &Digest,
    tag: &Tag,
    keep: usize,
) -> Result<bool, metadata::Error> {
    // The newest entry is what the tag points to now.
    let last = tags::history(tx, id, tag, None, keep.saturating_add(1))?;
    Ok(keep > 0 && last.iter().any(|(_, entry)| entry.digest == *digest))
}
