//! What follows a manifest: its referrers, and cosign's tags and the list of referrers that are for it. They go when it has
//! gone, and what came after it was deleted stays.

use std::collections::BTreeSet;

use super::revision::remove;
use super::{Error, Inner, deletion};
use crate::clock::Timestamp;
use crate::metadata::deletions::{self, DeletionRecord};
use crate::metadata::repositories::RepositoryId;
use crate::metadata::{self, Read, Scan, WriteTx, blobs, manifests, tags};
use crate::oci::{Digest, Tag};

/// How many followers of one manifest one transaction removes.
const AT_ONCE: u64 = 64;

/// What went.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gone {
    pub(super) manifests: u64,
    pub(super) tags: u64,
}

/// Removes what followed a manifest that was deleted at `since`, unless something else names it. Says when to go on, if there
/// is more to do; nothing goes while the manifest is back, or can come back.
pub(super) fn remove_followers(
    tx: &WriteTx<'_>,
    inner: &Inner,
    now: Timestamp,
    id: RepositoryId,
    subject: &Digest,
    since: u64,
    gone: &mut Gone,
) -> Result<Option<u64>, Error> {
    if manifests::exists(tx, id, subject)? {
        return Ok(None);
    }
    if let Some(until) = can_come_back(tx, now, id, subject)? {
        return Ok(Some(until));
    }
    let due = inner.lease_end(id, now);
    let mut names = blobs::aliases(tx, subject)?;
    names.push(*subject);
    let mut followers = Vec::new();
    for name in &names {
        for tag in Tag::signatures_of(name).into_iter().chain([Tag::referrers_of(name)]) {
            let Some(record) = tags::get(tx, id, &tag)?.filter(|record| record.updated_at <= since) else {
                continue;
            };
            tags::remove(tx, id, &tag)?;
            // It goes below, or has lost a name.
            manifests::settle(tx, id, &record.digest, now.millis(), due)?;
            gone.tags += 1;
            followers.push(record.digest);
        }
        manifests::each_referrer(tx, id, name, None, |referrer, _| {
            followers.push(referrer);
            Ok(Scan::Continue)
        })?;
    }
    let before = gone.manifests;
    for follower in followers {
        if gone.manifests - before == AT_ONCE {
            return Ok(Some(now.millis()));
        }
        let Some(record) = manifests::get(tx, id, &follower)? else { continue };
        let is_kept = record.pushed_at > since
            || tags::any_of_manifest(tx, id, &follower)?
            || manifests::is_needed(tx, id, &follower)?;
        if !is_kept {
            remove(tx, inner, now, id, &follower)?;
            deletion::let_followers_go(tx, inner, now, id, &follower)?;
            gone.manifests += 1;
        }
    }
    Ok(None)
}

/// What [`remove_followers`] would remove now; followers of followers have a lease before them.
pub(super) fn plan(
    tx: &impl Read,
    now: Timestamp,
    id: RepositoryId,
    subject: &Digest,
    since: u64,
) -> Result<Gone, metadata::Error> {
    let mut gone = Gone::default();
    if manifests::exists(tx, id, subject)? || can_come_back(tx, now, id, subject)?.is_some() {
        return Ok(gone);
    }
    let mut names = blobs::aliases(tx, subject)?;
    names.push(*subject);
    let (mut followers, mut lost) = (BTreeSet::new(), BTreeSet::new());
    for name in &names {
        for tag in Tag::signatures_of(name).into_iter().chain([Tag::referrers_of(name)]) {
            if let Some(record) = tags::get(tx, id, &tag)?.filter(|record| record.updated_at <= since) {
                followers.insert(record.digest);
                lost.insert(tag);
            }
        }
        manifests::each_referrer(tx, id, name, None, |referrer, _| {
            followers.insert(referrer);
            Ok(Scan::Continue)
        })?;
    }
    for follower in followers {
        let Some(record) = manifests::get(tx, id, &follower)? else { continue };
        let is_tagged = tags::of_manifest(tx, id, &follower)?.iter().any(|tag| !lost.contains(tag));
        let is_kept = record.pushed_at > since || is_tagged || manifests::is_needed(tx, id, &follower)?;
        gone.manifests += u64::from(!is_kept);
    }
    gone.tags = lost.len() as u64;
    Ok(gone)
}

/// Until when a manifest of the repository can be undeleted, as itself or as a part of something else, if it can.
fn can_come_back(
    tx: &impl Read,
    now: Timestamp,
    id: RepositoryId,
    digest: &Digest,
) -> Result<Option<u64>, metadata::Error> {
    let is_live = |deletion: &DeletionRecord| deletion.repository == id && deletion.expires_at > now.millis();
    for holder in manifests::repositories_of(tx, digest, usize::MAX)? {
        let deletion = if holder.is_deletion() { deletions::get(tx, holder)? } else { None };
        if let Some(deletion) = deletion.filter(is_live) {
            return Ok(Some(deletion.expires_at));
        }
    }
    Ok(None)
}
