//! Collection: what nothing names any more goes, in small steps beside pushes and pulls.
//!
//! A step takes what is due by now: deletions whose time has passed, links that no manifest needs, what followed manifests
//! that are gone, untagged manifests whose grace is over, and blobs that no repository links. Each is looked at again in
//! the transaction that removes it, so that whatever a push or a look has named since stays. A blob's file goes last, when
//! its row is durably gone, under the digest's lock.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::revision::remove;
use super::sessions::blocking;
use super::{Error, Inner};
use crate::blobs::DigestGuard;
use crate::clock::Timestamp;
use crate::metadata::candidates::{self, Candidate};
use crate::metadata::deletions::{self, DeletedKind, DeletionRecord};
use crate::metadata::repositories::{self, RepositoryId};
use crate::metadata::{self, Read, Scan, WriteTx, blobs, dismantle, manifests, tags};
use crate::oci::{Digest, RepositoryName, Tag};

/// How many rows one transaction removes at most, so that a push waits some milliseconds for it.
const ROWS: usize = 256;

/// How many candidates one transaction looks at.
const CANDIDATES: usize = 64;

/// How many followers of one manifest one transaction removes.
const FOLLOWERS: usize = 64;

/// How many reasons a report names one by one.
const NAMED: usize = 1_000;

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
    },
}

/// What a collection would do now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CollectionPlan {
    /// What would go at once.
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
        self.0.holds.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
    }
}

pub(super) fn hold(inner: &Arc<Inner>) -> CollectionHold {
    inner.holds.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    CollectionHold(inner.clone())
}

/// Collects until nothing is due; tells `progress` what has gone so far after each step.
pub(super) async fn collect(
    inner: &Arc<Inner>,
    mut progress: impl FnMut(&Collected),
) -> Result<Collected, Error> {
    let mut collected = Collected::default();
    loop {
        let (step, more) = step(inner).await?;
        collected.add(&step);
        progress(&collected);
        if !more {
            return Ok(collected);
        }
    }
}

/// Collects a little; says whether more is due.
pub(super) async fn step(inner: &Arc<Inner>) -> Result<(Collected, bool), Error> {
    let mut collected = Collected::default();
    let mut more = end_deletion(inner, &mut collected).await?;
    more |= collect_untagged(inner, &mut collected).await?;
    let now = inner.clock.now().millis();
    let due = inner.metadata.read(|tx| candidates::due(tx, now, CANDIDATES))?;
    more |= due.len() == CANDIDATES;
    let is_blob = |candidate: &Candidate| matches!(candidate, Candidate::Blob { .. });
    let (unlinked, others): (Vec<_>, Vec<_>) = due.into_iter().partition(|(_, what)| is_blob(what));
    if !others.is_empty() {
        // What they named may be due now.
        more |= collect_named(inner, others, &mut collected).await?;
    }
    if !unlinked.is_empty() {
        let digests = unlinked.iter().map(|(due, what)| (*due, *what)).collect();
        collect_blobs(inner.clone(), digests, &mut collected).await?;
    }
    Ok((collected, more))
}

/// Takes one more piece of a deletion whose time has passed apart; says whether there may be more to do.
async fn end_deletion(inner: &Arc<Inner>, collected: &mut Collected) -> Result<bool, Error> {
    let now = inner.clock.now();
    let Some(id) = inner.metadata.read(|tx| deletions::expired(tx, now.millis(), 1))?.pop() else {
        return Ok(false);
    };
    let worker = inner.clone();
    let ended = inner
        .metadata
        .write(move |tx| {
            let Some(record) = deletions::get(tx, id)?.filter(|record| record.expires_at <= now.millis())
            else {
                return Ok(false);
            };
            if !dismantle::step(tx, id, ROWS)? {
                return Ok(false);
            }
            deletions::remove(tx, id)?;
            if let (DeletedKind::Manifest, Some(digest)) = (record.kind, record.digest) {
                super::deletion::let_followers_go(tx, &worker, now, record.repository, &digest)?;
            }
            Ok::<_, Error>(true)
        })
        .await?;
    collected.deletions += u64::from(ended);
    Ok(true)
}

/// Removes links and followers that are due; says whether something else may be due by that.
async fn collect_named(
    inner: &Arc<Inner>,
    due: Vec<(u64, Candidate)>,
    collected: &mut Collected,
) -> Result<bool, Error> {
    let now = inner.clock.now();
    let pushing = inner.sessions.pushed_to(now.saturating_sub(inner.policy.collection.lease));
    let worker = inner.clone();
    let gone = inner
        .metadata
        .write(move |tx| {
            let mut gone = Collected::default();
            let pushing = ids_of(tx, &pushing)?;
            for (due, candidate) in &due {
                match candidate {
                    Candidate::Link { repository, digest } => {
                        let link = blobs::link(tx, *repository, digest)?;
                        if link.is_none_or(|link| link.due_at != Some(*due)) {
                            candidates::remove(tx, *due, candidate)?;
                        } else if pushing.contains(repository) {
                            blobs::postpone_link(tx, *repository, digest, worker.lease_end(now))?;
                        } else {
                            blobs::remove_link(tx, *repository, digest)?;
                            gone.links += 1;
                        }
                    }
                    Candidate::Followers { repository, digest } => {
                        candidates::remove(tx, *due, candidate)?;
                        if let Some(again) = follow(tx, &worker, now, *repository, digest, &mut gone)? {
                            candidates::insert(tx, again, candidate)?;
                        }
                    }
                    Candidate::Blob { .. } => {}
                }
            }
            Ok::<_, Error>(gone)
        })
        .await?;
    collected.add(&gone);
    Ok(true)
}

/// The identifiers of repositories; a name that none has is left out.
fn ids_of(
    tx: &impl Read,
    names: &BTreeSet<RepositoryName>,
) -> Result<BTreeSet<RepositoryId>, metadata::Error> {
    let mut ids = BTreeSet::new();
    for name in names {
        ids.extend(repositories::id_of(tx, name)?);
    }
    Ok(ids)
}

/// Removes what followed a manifest: its referrers, unless something else names them, and cosign's tags and the list of
/// referrers that are for it. Says when to go on, if there is more to do; nothing goes while the manifest is back, or can
/// come back.
fn follow(
    tx: &WriteTx<'_>,
    inner: &Inner,
    now: Timestamp,
    id: RepositoryId,
    subject: &Digest,
    gone: &mut Collected,
) -> Result<Option<u64>, Error> {
    if manifests::exists(tx, id, subject)? {
        return Ok(None);
    }
    for holder in manifests::repositories_of(tx, subject, usize::MAX)? {
        let deletion = if holder.is_deletion() { deletions::get(tx, holder)? } else { None };
        let can_come_back =
            |deletion: &DeletionRecord| deletion.repository == id && deletion.expires_at > now.millis();
        if let Some(deletion) = deletion.filter(can_come_back) {
            return Ok(Some(deletion.expires_at));
        }
    }
    let mut names = blobs::aliases(tx, subject)?;
    names.push(*subject);
    let mut followers = Vec::new();
    for name in &names {
        manifests::each_referrer(tx, id, name, None, |referrer, _| {
            followers.push(referrer);
            Ok(Scan::Continue)
        })?;
        for tag in Tag::signatures_of(name).into_iter().chain([Tag::referrers_of(name)]) {
            if let Some(record) = tags::remove(tx, id, &tag)? {
                gone.tags += 1;
                followers.push(record.digest);
            }
        }
    }
    let mut removed = 0;
    for follower in followers {
        if removed == FOLLOWERS {
            return Ok(Some(now.millis()));
        }
        let is_kept = tags::any_of_manifest(tx, id, &follower)? || manifests::is_needed(tx, id, &follower)?;
        if is_kept || !manifests::exists(tx, id, &follower)? {
            continue;
        }
        remove(tx, inner, now, id, &follower)?;
        super::deletion::let_followers_go(tx, inner, now, id, &follower)?;
        removed += 1;
        gone.manifests += 1;
    }
    Ok(None)
}

/// Removes untagged manifests whose grace is over; says whether there may be more.
async fn collect_untagged(inner: &Arc<Inner>, collected: &mut Collected) -> Result<bool, Error> {
    let Some(grace) = inner.policy.collection.untagged_grace else { return Ok(false) };
    let now = inner.clock.now();
    let over = now.saturating_sub(grace).millis();
    let found = inner.metadata.read(|tx| {
        let mut found = Vec::new();
        manifests::each_untagged(tx, None, |id, digest, since| {
            if since <= over {
                found.push((id, digest));
            }
            Ok(if found.len() == CANDIDATES { Scan::Stop } else { Scan::Continue })
        })?;
        let mut due = Vec::new();
        for (id, digest) in &found {
            let record = manifests::get(tx, *id, digest)?;
            if record.is_some_and(|record| record.due_at.is_some_and(|due| due <= now.millis())) {
                due.push((*id, *digest));
            }
        }
        Ok(due)
    })?;
    if found.is_empty() {
        return Ok(false);
    }
    let (worker, many) = (inner.clone(), found.len() == CANDIDATES);
    let gone = inner
        .metadata
        .write(move |tx| {
            let mut gone = Collected::default();
            for (id, digest) in &found {
                if remove_untagged(tx, &worker, now, *id, digest)? {
                    gone.manifests += 1;
                }
            }
            Ok::<_, Error>(gone)
        })
        .await?;
    collected.add(&gone);
    Ok(many && gone.manifests > 0)
}

/// Removes a manifest that nothing names, nor the history of a tag holds, and that nobody was promised; says whether it did.
pub(super) fn remove_untagged(
    tx: &WriteTx<'_>,
    inner: &Inner,
    now: Timestamp,
    id: RepositoryId,
    digest: &Digest,
) -> Result<bool, Error> {
    let record = manifests::get(tx, id, digest)?;
    let is_due = record.is_some_and(|record| record.due_at.is_some_and(|due| due <= now.millis()));
    if !is_due || is_held_by_history(tx, inner, id, digest)? {
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

/// The same, for whoever only looks.
pub(super) fn would_be_held_by_history(
    tx: &impl Read,
    inner: &Inner,
    id: RepositoryId,
    digest: &Digest,
) -> Result<bool, metadata::Error> {
    for tag in tags::holders(tx, id, digest)? {
        if is_among_last(tx, id, digest, &tag, inner.policy.collection.keep_history)? {
            return Ok(true);
        }
    }
    Ok(false)
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

/// Removes blobs that no repository links: their rows in one commit, and their files then.
async fn collect_blobs(
    inner: Arc<Inner>,
    due: Vec<(u64, Candidate)>,
    collected: &mut Collected,
) -> Result<(), Error> {
    if inner.holds.load(std::sync::atomic::Ordering::SeqCst) > 0 {
        return Ok(());
    }
    // Digests share locks, and one that is held is being pushed: its turn comes later.
    let mut locked = BTreeSet::new();
    let mut guards: Vec<DigestGuard> = Vec::new();
    for (due, candidate) in due {
        let Candidate::Blob { digest } = candidate else { continue };
        if !guards.iter().any(|guard| guard.covers(&digest)) {
            let Some(guard) = inner.blobs.try_lock(&digest) else { continue };
            guards.push(guard);
        }
        locked.insert((due, digest));
    }
    let removed = inner
        .metadata
        .write(move |tx| {
            let mut removed = HashMap::new();
            for (due, digest) in &locked {
                if let Some(size) = blobs::remove_unlinked(tx, digest)? {
                    removed.insert(*digest, size);
                }
                candidates::remove(tx, *due, &Candidate::Blob { digest: *digest })?;
            }
            Ok::<_, Error>(removed)
        })
        .await?;
    collected.blobs += removed.len() as u64;
    collected.bytes += removed.values().sum::<u64>();
    blocking(move || {
        for digest in removed.keys() {
            let Some(guard) = guards.iter().find(|guard| guard.covers(digest)) else { continue };
            // A file that stays is an orphan, which the next start finds.
            if let Err(error) = inner.blobs.remove(guard, digest) {
                tracing::warn!(%digest, %error, "the file of a collected blob could not be removed");
            }
        }
        Ok(())
    })
    .await
}

/// What a collection would do now, and what holds the rest.
pub(super) fn plan(inner: &Inner) -> Result<CollectionPlan, Error> {
    let now = inner.clock.now();
    let mut plan = CollectionPlan::default();
    inner.metadata.read(|tx| {
        plan = CollectionPlan::default();
        let (mut due, mut later) = (Vec::new(), Vec::new());
        candidates::each(tx, |time, candidate| {
            if time <= now.millis() {
                due.push(candidate);
            } else {
                later.push((time, candidate));
            }
            Ok(Scan::Continue)
        })?;
        for candidate in due {
            plan_due(tx, &candidate, &mut plan)?;
        }
        for (time, candidate) in later {
            let Candidate::Link { repository, digest } = candidate else { continue };
            let size = blobs::size_of(tx, &digest)?.unwrap_or_default();
            plan.leased.0 += 1;
            plan.leased.1 += size;
            if plan.leased.0 <= NAMED as u64
                && let Some(repository) = repositories::name_of(tx, repository)?
            {
                let until = Timestamp::from_millis(time);
                plan.kept.push(Root::Lease { repository, digest, size, until });
            }
        }
        Ok(())
    })?;
    plan_deletions(inner, now, &mut plan)?;
    plan_untagged(inner, now, &mut plan)?;
    Ok(plan)
}

fn plan_due(tx: &impl Read, candidate: &Candidate, plan: &mut CollectionPlan) -> Result<(), metadata::Error> {
    match candidate {
        Candidate::Link { digest, .. } => {
            plan.due.links += 1;
            // The last link takes the blob with it.
            if blobs::repositories_of(tx, digest, 2)?.len() == 1 {
                plan.due.blobs += 1;
                plan.due.bytes += blobs::size_of(tx, digest)?.unwrap_or_default();
            }
        }
        Candidate::Blob { digest } => {
            if blobs::repositories_of(tx, digest, 1)?.is_empty()
                && let Some(size) = blobs::size_of(tx, digest)?
            {
                plan.due.blobs += 1;
                plan.due.bytes += size;
            }
        }
        Candidate::Followers { repository, digest } => {
            if !manifests::exists(tx, *repository, digest)? {
                manifests::each_referrer(tx, *repository, digest, None, |_, _| {
                    plan.due.manifests += 1;
                    Ok(Scan::Continue)
                })?;
            }
        }
    }
    Ok(())
}

fn plan_deletions(inner: &Inner, now: Timestamp, plan: &mut CollectionPlan) -> Result<(), Error> {
    let mut after = None;
    loop {
        let page = super::deletion::list_all(inner, after, NAMED)?;
        plan.deletions += page.items.len() as u64;
        after = page.items.last().map(|deletion| deletion.id);
        if plan.deletions <= NAMED as u64 {
            plan.kept.extend(page.items.into_iter().map(Root::Deletion));
        }
        if !page.more {
            break;
        }
    }
    plan.due.deletions =
        inner.metadata.read(|tx| deletions::expired(tx, now.millis(), usize::MAX))?.len() as u64;
    Ok(())
}

fn plan_untagged(inner: &Inner, now: Timestamp, plan: &mut CollectionPlan) -> Result<(), Error> {
    let grace = inner.policy.collection.untagged_grace;
    let mut after: Option<(RepositoryId, Digest)> = None;
    loop {
        let page = inner.metadata.read(|tx| {
            let mut page = Vec::new();
            manifests::each_untagged(
                tx,
                after.as_ref().map(|(id, digest)| (*id, digest)),
                |id, digest, since| {
                    page.push((id, digest, since));
                    Ok(if page.len() == NAMED { Scan::Stop } else { Scan::Continue })
                },
            )?;
            let mut described = Vec::with_capacity(page.len());
            for (id, digest, since) in page {
                let Some(record) = manifests::get(tx, id, &digest)? else { continue };
                let until = grace.map(|grace| {
                    let over = Timestamp::from_millis(since).saturating_add(grace);
                    over.max(Timestamp::from_millis(record.due_at.unwrap_or_default()))
                });
                let bytes = record.size + super::sizes::only_of(tx, id, &digest)?;
                described.push((id, digest, since, until, bytes, repositories::name_of(tx, id)?));
            }
            Ok(described)
        })?;
        let Some((id, digest, ..)) = page.last() else { return Ok(()) };
        after = Some((*id, *digest));
        for (_, digest, since, until, bytes, name) in page {
            if until.is_some_and(|until| until <= now) {
                plan.due.manifests += 1;
                plan.due.bytes += bytes;
                continue;
            }
            plan.untagged.0 += 1;
            plan.untagged.1 += bytes;
            if plan.untagged.0 <= NAMED as u64
                && let Some(repository) = name
            {
                let since = Timestamp::from_millis(since);
                plan.kept.push(Root::Untagged { repository, digest, since, until });
            }
        }
    }
}

/// What a collection of the first `limit` untagged manifests would free, in bytes.
pub(super) fn untagged_bytes(inner: &Inner, limit: usize) -> Result<u64, Error> {
    Ok(inner.metadata.read(|tx| {
        let mut found = Vec::new();
        manifests::each_untagged(tx, None, |id, digest, _| {
            found.push((id, digest));
            Ok(if found.len() >= limit { Scan::Stop } else { Scan::Continue })
        })?;
        let mut bytes = 0;
        for (id, digest) in &found {
            let manifest = manifests::get(tx, *id, digest)?.map_or(0, |record| record.size);
            bytes += manifest + super::sizes::only_of(tx, *id, digest)?;
        }
        Ok(bytes)
    })?)
}
