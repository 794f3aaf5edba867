//! What a collection would do now, and what holds the rest.

use std::collections::HashMap;

use super::collection::{by_id, history_holder};
use super::followers;
use super::{CollectionPlan, Error, Inner, Root};
use crate::clock::Timestamp;
use crate::metadata::candidates::{self, Candidate};
use crate::metadata::repositories::{self, RepositoryId};
use crate::metadata::{self, Read, Scan, blobs, deletions, manifests};
use crate::oci::Digest;

/// How many reasons a report names one by one, and how many rows one look reads.
const NAMED: usize = 1_000;

pub(super) fn plan(inner: &Inner) -> Result<CollectionPlan, Error> {
    let now = inner.clock.now();
    let since = now.saturating_sub(inner.policy.collection.lease);
    let pushing = inner.sessions.pushed_to(&inner.metadata, since)?;
    let mut plan = CollectionPlan::default();
    let mut after = None;
    loop {
        let before = plan.clone();
        let last = inner.metadata.read(|tx| {
            plan = before.clone();
            let look = Look { tx, now, pushing: by_id(tx, &pushing)? };
            let page = candidates::page(tx, after.as_ref(), NAMED)?;
            for (due, candidate) in &page {
                look.at(*due, candidate, &mut plan)?;
            }
            Ok(page.last().copied())
        })?;
        if last.is_none() {
            break;
        }
        after = last;
    }
    plan_deletions(inner, now, &mut plan)?;
    plan_ended(inner, now, &pushing, &mut plan)?;
    plan_untagged(inner, now, &mut plan)?;
    Ok(plan)
}

/// A look at the store at one moment.
struct Look<'t, T> {
    tx: &'t T,
    now: Timestamp,
    /// Since when something is pushed to a repository.
    pushing: HashMap<RepositoryId, u64>,
}

impl<T: Read> Look<'_, T> {
    fn at(&self, due: u64, candidate: &Candidate, plan: &mut CollectionPlan) -> Result<(), metadata::Error> {
        match candidate {
            // All that it has goes with it.
            Candidate::Link { repository, .. } | Candidate::Followers { repository, .. }
                if self.is_over(*repository)? => {}
            Candidate::Link { repository, digest } => {
                let size = blobs::size_of(self.tx, digest)?.unwrap_or_default();
                if self.link_goes(*repository, digest)? {
                    plan.due.links += 1;
                    self.count_blob(*repository, digest, size, plan)?;
                    return Ok(());
                }
                plan.leased.0 += 1;
                plan.leased.1 += size;
                if plan.leased.0 <= NAMED as u64
                    && let Some(repository) = repositories::name_of(self.tx, *repository)?
                {
                    let until = Timestamp::from_millis(due).max(self.now);
                    plan.kept.push(Root::Lease { repository, digest: *digest, size, until });
                }
            }
            Candidate::Blob { digest } => {
                if blobs::repositories_of(self.tx, digest, 1)?.is_empty()
                    && let Some(size) = blobs::size_of(self.tx, digest)?
                {
                    plan.due.blobs += 1;
                    plan.due.bytes += size;
                }
            }
            Candidate::Followers { repository, digest } if due <= self.now.millis() => {
                let since = candidates::since(self.tx, due, candidate)?.unwrap_or(due);
                let gone = followers::plan(self.tx, self.now, *repository, digest, since)?;
                plan.due.manifests += gone.manifests;
                plan.due.tags += gone.tags;
            }
            Candidate::Followers { .. } => {}
        }
        Ok(())
    }

    /// Counts a blob that no link keeps, once for all of its links.
    fn count_blob(
        &self,
        repository: RepositoryId,
        digest: &Digest,
        size: u64,
        plan: &mut CollectionPlan,
    ) -> Result<(), metadata::Error> {
        let holders = blobs::repositories_of(self.tx, digest, usize::MAX)?;
        if holders.first() != Some(&repository) {
            return Ok(());
        }
        for holder in &holders {
            if !self.is_over(*holder)? && !self.link_goes(*holder, digest)? {
                return Ok(());
            }
        }
        plan.due.blobs += 1;
        plan.due.bytes += size;
        Ok(())
    }

    /// Whether a link goes by itself.
    fn link_goes(&self, repository: RepositoryId, digest: &Digest) -> Result<bool, metadata::Error> {
        let link = blobs::link(self.tx, repository, digest)?;
        let Some(due) = link.and_then(|link| link.due_at).filter(|due| *due <= self.now.millis()) else {
            return Ok(false);
        };
        let candidate = Candidate::Link { repository, digest: *digest };
        let since = candidates::since(self.tx, due, &candidate)?.unwrap_or(due);
        Ok(repository.is_cached() || self.pushing.get(&repository).is_none_or(|began| *began > since))
    }

    /// Whether this is a deletion, or a deleted repository, that can't come back.
    fn is_over(&self, repository: RepositoryId) -> Result<bool, metadata::Error> {
        let deletion = deletions::get(self.tx, repository)?;
        Ok(deletion.is_some_and(|deletion| deletion.expires_at <= self.now.millis()))
    }
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

/// Counts the blobs that the deletions have kept whose time has passed.
fn plan_ended(
    inner: &Inner,
    now: Timestamp,
    pushing: &HashMap<crate::oci::RepositoryName, u64>,
    plan: &mut CollectionPlan,
) -> Result<(), Error> {
    for id in inner.metadata.read(|tx| deletions::expired(tx, now.millis(), usize::MAX))? {
        let mut after: Option<Digest> = None;
        loop {
            let (last, counted) = inner.metadata.read(|tx| {
                let mut counted = CollectionPlan::default();
                let look = Look { tx, now, pushing: by_id(tx, pushing)? };
                let links = blobs::list_links(tx, id, after.as_ref(), NAMED)?;
                for (digest, _) in &links {
                    let size = blobs::size_of(tx, digest)?.unwrap_or_default();
                    look.count_blob(id, digest, size, &mut counted)?;
                }
                let last = links.last().filter(|_| links.len() == NAMED).map(|(digest, _)| *digest);
                Ok((last, counted))
            })?;
            plan.due.blobs += counted.due.blobs;
            plan.due.bytes += counted.due.bytes;
            after = last;
            if after.is_none() {
                break;
            }
        }
    }
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
                let holder = history_holder(tx, inner, id, &digest)?;
                described.push((id, digest, since, until, bytes, repositories::name_of(tx, id)?, holder));
            }
            Ok(described)
        })?;
        let Some((id, digest, ..)) = page.last() else { return Ok(()) };
        after = Some((*id, *digest));
        for (_, digest, since, until, bytes, name, history_of) in page {
            if history_of.is_none() && until.is_some_and(|until| until <= now) {
                plan.due.manifests += 1;
                continue;
            }
            plan.untagged.0 += 1;
            plan.untagged.1 += bytes;
            if plan.untagged.0 <= NAMED as u64
                && let Some(repository) = name
            {
                let since = Timestamp::from_millis(since);
                plan.kept.push(Root::Untagged { repository, digest, since, until, history_of });
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
