//! Tags of a repository.

use super::ManifestDescriptor;
use super::deletion::{self, Deleted};
use super::repository::Scope;
use super::revision::require_listed;
use super::{Actor, Error, Page, Scroll, events, eviction};
use crate::clock::Timestamp;
use crate::metadata::events::{Action, TargetKind};
use crate::metadata::repositories::RepositoryId;
use crate::metadata::{WriteTx, blobs, manifests, tags};
use crate::oci::{Digest, Reference, Tag};

/// How many tags a scroll reads at a time.
const SCROLLED: usize = 1_000;

/// A manifest that a tag points or pointed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagRevision {
    /// Its place in the tag's history, counted from 0.
    pub number: u64,
    /// The manifest's canonical digest.
    pub digest: Digest,
    /// The digest that the tag was set with.
    pub named: Digest,
    /// When the tag was set to it.
    pub at: Timestamp,
    /// Who set it.
    pub actor: String,
}

/// The tag service of one repository.
#[derive(Debug, Clone)]
pub struct TagService {
    scope: Scope,
}

impl TagService {
    pub(super) fn new(scope: Scope) -> TagService {
        TagService { scope }
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The manifest that the tag points to.
    pub fn get(&self, tag: &Tag) -> Result<Option<ManifestDescriptor>, Error> {
        super::ManifestService::new(self.scope.clone()).stat(&Reference::Tag(tag.clone()))
    }

    /// Up to `limit` tags in byte order, behind `after`, which need not exist.
    pub fn list(&self, after: Option<&str>, limit: usize) -> Result<Page<Tag>, Error> {
        let found = self.scope.list(|tx, id| tags::list(tx, id, after, limit.saturating_add(1)))?;
        Ok(Page::of(found.ok_or(Error::RepositoryUnknown)?, limit))
    }

    /// When any of the tags was last set; none where there are none. Reads all of them. Blocks.
    pub fn last_set(&self) -> Result<Option<Timestamp>, Error> {
        let (mut after, mut newest): (Option<Tag>, Option<u64>) = (None, None);
        loop {
            let last = after.as_ref().map(Tag::as_str);
            let records = self.scope.read(|tx, id| tags::list_records(tx, id, last, SCROLLED))?;
            let records = records.unwrap_or_default();
            newest = newest.max(records.iter().map(|(_, record)| record.updated_at).max());
            let is_last = records.len() < SCROLLED;
            after = records.into_iter().last().map(|(tag, _)| tag);
            if is_last {
                return Ok(newest.map(Timestamp::from_millis));
            }
        }
    }

    /// Every tag, as [`list`](TagService::list) has them.
    pub fn scroll(&self) -> Scroll<Tag> {
        let tags = self.clone();
        Scroll::new(move |last: Option<&Tag>| tags.list(last.map(Tag::as_str), SCROLLED))
    }

    /// Up to `limit` tags that point to the manifest, which may be named by any of its digests, in byte order, behind
    /// `after`.
    pub fn lookup(&self, digest: &Digest, after: Option<&str>, limit: usize) -> Result<Page<Tag>, Error> {
        let found = self.scope.read(|tx, id| match blobs::canonical(tx, digest)? {
            Some(canonical) => tags::list_of_manifest(tx, id, &canonical, after, limit.saturating_add(1)),
            None => Ok(Vec::new()),
        })?;
        Ok(Page::of(found.unwrap_or_default(), limit))
    }

    /// Up to `limit` manifests that the tag has pointed to, the newest first, of those with a number below `before`. History
    /// outlives the tag and the manifests.
    pub fn history(&self, tag: &Tag, before: Option<u64>, limit: usize) -> Result<Page<TagRevision>, Error> {
        let found = self.scope.read(|tx, id| tags::history(tx, id, tag, before, limit.saturating_add(1)))?;
        let revision = |(number, record): (u64, tags::TagRecord)| TagRevision {
            number,
            digest: record.digest,
            named: record.named,
            at: Timestamp::from_millis(record.updated_at),
            actor: record.actor,
        };
        Ok(Page::of(found.unwrap_or_default().into_iter().map(revision).collect(), limit))
    }

    /// Points the tag to a manifest that the repository has, under any of its digests. Nothing of it is pushed again.
    pub async fn tag(&self, digest: &Digest, tag: &Tag, actor: &Actor) -> Result<(), Error> {
        eviction::make_space(&self.scope.inner, 0).await?;
        let (scope, named, tag, actor) = (self.scope.by(actor), *digest, tag.clone(), actor.clone());
        let now = scope.inner.clock.now();
        self.scope
            .write(move |tx| {
                let id = scope.id(tx)?;
                let digest = blobs::canonical(tx, &named)?.ok_or(Error::ManifestUnknown)?;
                let manifest = manifests::get(tx, id, &digest)?.ok_or(Error::ManifestUnknown)?;
                if !tag.lists_referrers() {
                    require_listed(tx, &scope, id, &digest)?;
                }
                let former = tags::get(tx, id, &tag)?.map(|former| former.digest);
                scope.require_mutable(Some(id), &tag, former.as_ref(), Some(&digest))?;
                let record =
                    tags::TagRecord { digest, named, updated_at: now.millis(), actor: actor.as_str().into() };
                point(tx, &scope, id, &tag, &record)?;
                let target =
                    events::manifest(&scope.name, named, &manifest.media_type, manifest.size, Some(&tag));
                Ok(scope.tell(tx, id, now, Action::Push, target)?)
            })
            .await
    }

    /// Points the tag back to what it pointed to as entry `number` of its history, or before its last change where none is
    /// named; returns that manifest. Fails with [`Error::RevisionGone`] where the repository has it no more.
    pub async fn rollback(
        &self,
        tag: &Tag,
        number: Option<u64>,
        actor: &Actor,
    ) -> Result<TagRevision, Error> {
        let entries = self.history(tag, None, usize::MAX)?.items;
        let now = self.get(tag)?.map(|manifest| manifest.canonical);
        let wanted = entries.into_iter().find(|entry| match number {
            Some(number) => entry.number == number,
            None => Some(entry.digest) != now,
        });
        let wanted = wanted.ok_or(Error::HistoryUnknown)?;
        match self.tag(&wanted.named, tag, actor).await {
            Err(Error::ManifestUnknown | Error::RepositoryUnknown) => Err(Error::RevisionGone(wanted.digest)),
            result => result.map(|()| wanted),
        }
    }

    /// Removes the tag, not the manifest; says whether it was there. It can come back, with its manifest, for as long as the
    /// policy says.
    pub async fn untag(&self, tag: &Tag) -> Result<bool, Error> {
        if !self.scope.inner.policy.delete.tags {
            return Err(Error::DeleteDisabled("tags"));
        }
        let (scope, tag) = (self.scope.clone(), tag.clone());
        let now = scope.inner.clock.now();
        self.scope
            .write(move |tx| {
                let id = scope.id(tx)?;
                let Some(record) = tags::get(tx, id, &tag)? else { return Ok(false) };
                scope.require_mutable(Some(id), &tag, Some(&record.digest), None)?;
                untag(tx, &scope, id, now, &tag, &record, None)?;
                Ok(true)
            })
            .await
    }
}

/// Removes a tag that points to what `record` says, in such a way that it can come back.
pub(super) fn untag(
    tx: &WriteTx<'_>,
    scope: &Scope,
    id: RepositoryId,
    now: Timestamp,
    tag: &Tag,
    record: &tags::TagRecord,
    reason: Option<&str>,
) -> Result<(), Error> {
    let deleted = Deleted::Tag(tag.clone(), record.digest);
    if let Some(deletion) = deletion::begin(tx, scope, id, now, deleted, reason)? {
        deletion::copy_image(tx, &scope.inner, now, id, deletion, &record.digest)?;
        tags::keep(tx, deletion, tag, record)?;
    }
    tags::remove(tx, id, tag)?;
    manifests::settle(tx, id, &record.digest, now.millis(), scope.inner.lease_end(id, now))?;
    let target = events::gone(TargetKind::Tag, &scope.name, None, Some(tag));
    Ok(scope.tell(tx, id, now, Action::Delete, target)?)
}

/// Points a tag to a manifest, and brings the manifests that it points to now and that it pointed to before in line.
pub(super) fn point(
    tx: &WriteTx<'_>,
    scope: &Scope,
    id: RepositoryId,
    tag: &Tag,
    record: &tags::TagRecord,
) -> Result<(), Error> {
    point_at(tx, scope, id, tag, record, Timestamp::from_millis(record.updated_at))
}

/// The same at the time `now` for a record that may be older.
pub(super) fn point_at(
    tx: &WriteTx<'_>,
    scope: &Scope,
    id: RepositoryId,
    tag: &Tag,
    record: &tags::TagRecord,
    now: Timestamp,
) -> Result<(), Error> {
    let due = scope.inner.lease_end(id, now);
    if let Some(former) = tags::set(tx, id, tag, record)? {
        if scope.inner.policy.collection.keep_history > 0 && !id.is_cached() {
            tags::hold(tx, id, &former, tag)?;
        }
        manifests::settle(tx, id, &former, now.millis(), due)?;
    }
    Ok(manifests::settle(tx, id, &record.digest, now.millis(), due)?)
}
