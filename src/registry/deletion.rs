//! Deletion that can be undone: what is deleted moves to a repository without a name, and comes back from there.
//!
//! A deletion has all that it takes to bring back what it is about: a manifest comes with everything that it names, at any
//! depth, and with its signatures, so that whatever is deleted after it, it comes back whole. Whatever holds content, the
//! blobs' links and the payloads' index, knows of deletions as of any repository, and so nothing else has to.

use super::manifest_service::missing_payload;
use super::quota::{self, Addition};
use super::repository::Scope;
use super::{Actor, Error, Inner, Page, events, eviction};
use crate::clock::Timestamp;
use crate::metadata::blobs::LinkRecord;
use crate::metadata::candidates::{self, Candidate};
use crate::metadata::deletions::{self, DeletionRecord};
use crate::metadata::events::{Action, EventTarget, TargetKind};
use crate::metadata::manifests::{self, Reference as Named};
use crate::metadata::repositories::{self, FormerName, RepositoryId};
use crate::metadata::{self, Read, Scan, WriteTx, blobs, signatures, tags};
use crate::oci::{Digest, Manifest, RepositoryName, Tag};

pub use crate::metadata::deletions::DeletedKind;

/// How many rows one step of a look through deletions reads.
const PAGE: usize = 1_000;

/// Whether something live that names what is deleted stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// It does: [`Error::StillReferenced`].
    No,
    /// It doesn't. What names the content is left without it.
    Yes,
}

/// What is deleted.
pub(super) enum Deleted {
    /// A tag that points to a manifest.
    Tag(Tag, Digest),
    Manifest(Digest),
    Blob(Digest),
}

/// Begins a deletion, for a reason where no person deletes; `None` where nothing that is deleted can come back.
pub(super) fn begin(
    tx: &WriteTx<'_>,
    scope: &Scope,
    repository: RepositoryId,
    now: Timestamp,
    deleted: Deleted,
    reason: Option<&str>,
) -> Result<Option<RepositoryId>, metadata::Error> {
    let undo = scope.inner.undo_of(repository);
    if undo.is_zero() {
        return Ok(None);
    }
    let (kind, tag, digest) = match deleted {
        Deleted::Tag(tag, digest) => (DeletedKind::Tag, Some(tag), digest),
        Deleted::Manifest(digest) => (DeletedKind::Manifest, None, digest),
        Deleted::Blob(digest) => (DeletedKind::Blob, None, digest),
    };
    let id = deletions::allocate(tx)?;
    let record = DeletionRecord {
        kind,
        repository,
        name: scope.name.clone(),
        tag,
        digest: Some(digest),
        deleted_at: now.millis(),
        expires_at: now.saturating_add(undo).millis(),
        actor: scope.origin.actor.as_str().to_owned(),
        reason: reason.map(str::to_owned),
    };
    deletions::set(tx, id, &record)?;
    Ok(Some(id))
}

/// Gives `to` a manifest of `from` with everything that it names there, at any depth, and their signatures; what `to` has
/// already stays as it is. Returns the manifests that are new in `to`.
pub(super) fn copy_image(
    tx: &WriteTx<'_>,
    inner: &Inner,
    now: Timestamp,
    from: RepositoryId,
    to: RepositoryId,
    digest: &Digest,
) -> Result<Vec<Digest>, Error> {
    let mut copied = Vec::new();
    let mut waiting = vec![*digest];
    while let Some(digest) = waiting.pop() {
        if !manifests::copy(tx, from, to, &digest)? {
            continue;
        }
        copied.push(digest);
        signatures::copy(tx, from, to, &digest)?;
        let record = manifests::get(tx, from, &digest)?.ok_or(Error::ManifestUnknown)?;
        if let Some(subject) = &record.subject
            && let Some(referrer) = manifests::referrer(tx, from, subject, &digest)?
        {
            manifests::insert_referrer(tx, to, subject, &digest, &referrer)?;
        }
        let manifest = manifests::payload(tx, &digest, |bytes| Manifest::parse(&record.media_type, bytes))?
            .ok_or_else(|| missing_payload(&digest))??;
        for child in &manifest.children {
            let named = child.descriptor.digest;
            let canonical = blobs::canonical(tx, &named)?;
            for name in [Some(named), canonical.filter(|canonical| *canonical != named)].into_iter().flatten()
            {
                let Some(mut kind) = manifests::reference(tx, from, &name, &digest)? else { continue };
                if kind == Named::Misses && has_content(tx, to, &canonical.unwrap_or(name))? {
                    // It has come back meanwhile.
                    kind = Named::Needs;
                }
                manifests::insert_reference(tx, to, &name, &digest, kind)?;
            }
            if let Some(canonical) = canonical {
                copy_link(tx, inner, now, from, to, &canonical)?;
                // It may be there without having been in the deletion.
                blobs::settle_link(tx, to, &canonical, inner.lease_end(to, now))?;
                manifests::settle(tx, to, &canonical, now.millis(), inner.lease_end(to, now))?;
                waiting.push(canonical);
            }
        }
    }
    Ok(copied)
}

fn has_content(tx: &impl Read, id: RepositoryId, digest: &Digest) -> Result<bool, metadata::Error> {
    Ok(manifests::exists(tx, id, digest)? || blobs::link(tx, id, digest)?.is_some())
}

/// Gives `to` a blob that `from` has.
fn copy_link(
    tx: &WriteTx<'_>,
    inner: &Inner,
    now: Timestamp,
    from: RepositoryId,
    to: RepositoryId,
    digest: &Digest,
) -> Result<(), metadata::Error> {
    let Some(link) = blobs::link(tx, from, digest)? else { return Ok(()) };
    let due_at = (!to.is_deletion()).then(|| inner.lease_end(to, now));
    blobs::insert_link(tx, to, digest, &LinkRecord { due_at, ..link })
}

/// Lets what follows a manifest that goes for good at `now` go too, after a lease.
pub(super) fn let_followers_go(
    tx: &WriteTx<'_>,
    inner: &Inner,
    now: Timestamp,
    repository: RepositoryId,
    digest: &Digest,
) -> Result<(), metadata::Error> {
    let_former_followers_go(tx, inner, now, repository, digest, now)
}

/// The same for a manifest that was deleted at `since`: what has come after that doesn't follow it.
pub(super) fn let_former_followers_go(
    tx: &WriteTx<'_>,
    inner: &Inner,
    now: Timestamp,
    repository: RepositoryId,
    digest: &Digest,
    since: Timestamp,
) -> Result<(), metadata::Error> {
    let followers = Candidate::Followers { repository, digest: *digest };
    candidates::insert_since(tx, inner.lease_end(repository, now), &followers, since.millis())
}

/// Refuses a push to a name that no repository has any more since it was renamed after `begun`.
pub(super) fn require_not_renamed(
    tx: &impl Read,
    name: &RepositoryName,
    begun: Timestamp,
) -> Result<(), Error> {
    let Some(former) = repositories::former(tx, name)? else { return Ok(()) };
    if former.renamed_at < begun.millis() {
        return Ok(());
    }
    match repositories::name_of(tx, former.repository)? {
        Some(now) => Err(Error::RepositoryRenamed { from: name.clone(), to: now }),
        None => Ok(()),
    }
}

/// Something that was deleted and can come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// Its number, the same until its end.
    pub id: u64,
    /// What kind of thing it was.
    pub kind: DeletedKind,
    /// What its repository was called then.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Option<Tag>,
    /// The canonical digest of the manifest or the blob; of a tag, what it pointed to.
    pub digest: Option<Digest>,
    /// When it was deleted.
    pub deleted_at: Timestamp,
    /// Until when it can come back.
    pub expires_at: Timestamp,
    /// Who deleted it.
    pub actor: String,
    /// The rule of a policy that did.
    pub reason: Option<String>,
}

/// What is to come back, or to be gone for good: the last deletion of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeletedName {
    /// A repository.
    Repository,
    /// A tag of it.
    Tag(Tag),
    /// A manifest or a blob of it, by any of its digests.
    Digest(Digest),
}

/// The deletions of a registry, or of one repository of it.
#[derive(Debug, Clone)]
pub struct DeletionService {
    scope: Scope,
}

impl DeletionService {
    pub(super) fn new(scope: Scope) -> DeletionService {
        DeletionService { scope }
    }

    /// Up to `limit` things that were deleted from the repository and can come back, the last first, of those before
    /// `before`; behind them, where `before` is none, the repositories of this name that were deleted.
    pub fn list(&self, before: Option<u64>, limit: usize) -> Result<Page<Deletion>, Error> {
        let now = self.scope.inner.clock.now().millis();
        let found = self.scope.inner.metadata.read(|tx| {
            let mut found = Vec::new();
            let mut last = before.map(RepositoryId::from);
            let id = repositories::id_of(tx, &self.scope.name)?;
            // Those that can't come back any more fill no page.
            while let Some(id) = id.filter(|_| found.len() <= limit) {
                let page = deletions::of_repository(tx, id, last, PAGE)?;
                last = page.last().copied();
                for id in &page {
                    found.extend(live(tx, *id, now)?.map(|record| describe(*id, record)));
                }
                if page.len() < PAGE {
                    break;
                }
            }
            if before.is_none() {
                for id in deletions::of_name(tx, &self.scope.name, limit.saturating_add(1))? {
                    found.extend(live(tx, id, now)?.map(|record| describe(id, record)));
                }
            }
            Ok(found)
        })?;
        Ok(Page::of(found, limit))
    }

    /// Brings back what was deleted last under the name, whole: a tag with its manifest, a manifest with what it names, its
    /// tags and signatures, a repository with all it had. Fails with [`Error::NameTaken`] where something else has one of
    /// the names by now, with [`Error::QuotaExceeded`] where the repository would hold more than it may, and with
    /// [`Error::DeletionUnknown`] where nothing of the kind can come back.
    pub async fn undelete(&self, name: &DeletedName, actor: &Actor) -> Result<Deletion, Error> {
        let (scope, name) = (self.scope.by(actor), name.clone());
        let now = scope.inner.clock.now();
        eviction::make_space(&scope.inner, 0).await?;
        self.scope
            .write(move |tx| {
                let (id, record) = find(tx, &scope.name, &name, now)?.ok_or(Error::DeletionUnknown)?;
                if record.kind == DeletedKind::Repository {
                    name_again(tx, &scope, id, now)?;
                } else {
                    bring_back(tx, &scope, id, &record, now)?;
                }
                Ok(describe(id, record))
            })
            .await
    }

    /// Ends the time in which what was deleted last under the name could come back, with a repository also what had been
    /// deleted from it. Its space is free when the collection has been there and no lease holds it.
    pub async fn purge(&self, name: &DeletedName) -> Result<Deletion, Error> {
        let (scope, name) = (self.scope.clone(), name.clone());
        let now = scope.inner.clock.now();
        let purged = self.scope.write(move |tx| {
            let (id, record) = find(tx, &scope.name, &name, now)?.ok_or(Error::DeletionUnknown)?;
            end(tx, id, &record)?;
            Ok(describe(id, record))
        });
        let purged = purged.await?;
        let id = RepositoryId::from(purged.id);
        while purged.kind == DeletedKind::Repository
            && !self.scope.write(move |tx| end_those_of(tx, id, PAGE)).await?
        {}
        Ok(purged)
    }

    /// Takes the repository's name away with all that it has, which can come back for as long as the policy says; says
    /// whether it was there.
    pub async fn delete_repository(&self) -> Result<bool, Error> {
        if !self.scope.inner.policy.delete.repositories {
            return Err(Error::DeleteDisabled("repositories"));
        }
        let scope = self.scope.clone();
        let now = scope.inner.clock.now();
        self.scope
            .write(move |tx| {
                let Some(id) = repositories::id_of(tx, &scope.name)? else { return Ok(false) };
                repositories::take_name(tx, &scope.name)?;
                let record = DeletionRecord {
                    kind: DeletedKind::Repository,
                    repository: id,
                    name: scope.name.clone(),
                    tag: None,
                    digest: None,
                    deleted_at: now.millis(),
                    expires_at: now.saturating_add(scope.inner.undo_of(id)).millis(),
                    actor: scope.origin.actor.as_str().to_owned(),
                    reason: None,
                };
                deletions::set(tx, id, &record)?;
                let target = events::gone(TargetKind::Repository, &scope.name, None, None);
                scope.tell(tx, id, now, Action::Delete, target)?;
                Ok(true)
            })
            .await
    }

    /// Calls the repository `to` from now on; nothing is copied. Fails with [`Error::NameTaken`] where another repository
    /// has that name, and with [`Error::NameCached`] where one of the names is for what is cached of an upstream. Pushes under
    /// way to the old name fail with [`Error::RepositoryRenamed`].
    pub async fn rename(&self, to: &RepositoryName) -> Result<(), Error> {
        let (scope, to) = (self.scope.clone(), to.clone());
        let now = scope.inner.clock.now();
        Scope { name: to.clone(), ..scope.clone() }.require_served()?;
        self.scope
            .write(move |tx| {
                let id = scope.id(tx)?;
                if id.is_cached() {
                    return Err(Error::NameCached(scope.name.clone()));
                }
                if scope.inner.policy.upstream_of(&to).is_some() {
                    return Err(Error::NameCached(to.clone()));
                }
                if repositories::id_of(tx, &to)?.is_some() {
                    return Err(Error::NameTaken(to.to_string()));
                }
                repositories::take_name(tx, &scope.name)?;
                repositories::give_name(tx, id, &to)?;
                let former = FormerName { repository: id, renamed_at: now.millis() };
                Ok(repositories::set_former(tx, &scope.name, &former)?)
            })
            .await
    }
}

fn describe(id: RepositoryId, record: DeletionRecord) -> Deletion {
    Deletion {
        id: id.into(),
        kind: record.kind,
        repository: record.name,
        tag: record.tag,
        digest: record.digest,
        deleted_at: Timestamp::from_millis(record.deleted_at),
        expires_at: Timestamp::from_millis(record.expires_at),
        actor: record.actor,
        reason: record.reason,
    }
}

/// All the things that can come back, by their ids, behind `after`.
pub(super) fn list_all(inner: &Inner, after: Option<u64>, limit: usize) -> Result<Page<Deletion>, Error> {
    let now = inner.clock.now().millis();
    let found = inner.metadata.read(|tx| {
        let mut found = Vec::new();
        deletions::each(tx, after.map(RepositoryId::from), |id, record| {
            if found.len() > limit {
                return Ok(Scan::Stop);
            }
            if record.expires_at > now {
                found.push(describe(id, record));
            }
            Ok(Scan::Continue)
        })?;
        Ok(found)
    })?;
    Ok(Page::of(found, limit))
}

/// Ends every undo window; returns how many there were.
pub(super) async fn purge_all(inner: &std::sync::Arc<Inner>) -> Result<u64, Error> {
    let now = inner.clock.now().millis();
    let mut purged = 0;
    loop {
        let ended = inner
            .metadata
            .write(move |tx| {
                let ending = deletions::unexpired(tx, now, PAGE)?;
                for id in &ending {
                    if let Some(record) = deletions::get(tx, *id)? {
                        end(tx, *id, &record)?;
                    }
                }
                Ok::<_, Error>(ending.len() as u64)
            })
            .await?;
        purged += ended;
        if ended == 0 {
            return Ok(purged);
        }
    }
}

/// Ends up to `limit` deletions out of a repository that can't come back itself, and with which nothing could be
/// undeleted; says whether there was none.
pub(super) fn end_those_of(tx: &WriteTx<'_>, id: RepositoryId, limit: usize) -> Result<bool, Error> {
    let (mut before, mut ended) = (None, 0);
    loop {
        let page = deletions::of_repository(tx, id, before, PAGE)?;
        for deletion in page.iter().filter(|deletion| **deletion != id) {
            let record = deletions::get(tx, *deletion)?.filter(|record| record.expires_at > 0);
            if let Some(record) = record {
                if ended == limit {
                    return Ok(false);
                }
                end(tx, *deletion, &record)?;
                ended += 1;
            }
        }
        if page.len() < PAGE {
            return Ok(ended == 0);
        }
        before = page.last().copied();
    }
}

fn end(tx: &WriteTx<'_>, id: RepositoryId, record: &DeletionRecord) -> Result<(), metadata::Error> {
    deletions::set(tx, id, &DeletionRecord { expires_at: 0, ..record.clone() })
}

/// A deletion that can come back.
fn live(tx: &impl Read, id: RepositoryId, now: u64) -> Result<Option<DeletionRecord>, metadata::Error> {
    Ok(deletions::get(tx, id)?.filter(|record| record.expires_at > now))
}

/// The last deletion of what has the name.
fn find(
    tx: &impl Read,
    repository: &RepositoryName,
    name: &DeletedName,
    now: Timestamp,
) -> Result<Option<(RepositoryId, DeletionRecord)>, Error> {
    if *name == DeletedName::Repository {
        // A later one may have been purged, and by a rename a repository may have come to the name after a younger one.
        let mut last: Option<(RepositoryId, DeletionRecord)> = None;
        for id in deletions::of_name(tx, repository, usize::MAX)? {
            let Some(record) = live(tx, id, now.millis())? else { continue };
            if last.as_ref().is_none_or(|(_, last)| last.deleted_at < record.deleted_at) {
                last = Some((id, record));
            }
        }
        return Ok(last);
    }
    let Some(id) = repositories::id_of(tx, repository)? else { return Err(Error::RepositoryUnknown) };
    let canonical = match name {
        DeletedName::Digest(digest) => blobs::canonical(tx, digest)?,
        DeletedName::Tag(_) | DeletedName::Repository => None,
    };
    let mut before = None;
    loop {
        let page = deletions::of_repository(tx, id, before, PAGE)?;
        for id in &page {
            let Some(record) = live(tx, *id, now.millis())? else { continue };
            let is_it = match name {
                // A tag that went with its manifest comes back with it.
                DeletedName::Tag(tag) => match record.kind {
                    DeletedKind::Tag => record.tag.as_ref() == Some(tag),
                    DeletedKind::Manifest => tags::get(tx, *id, tag)?.is_some(),
                    DeletedKind::Blob | DeletedKind::Repository => false,
                },
                DeletedName::Digest(_) => record.kind != DeletedKind::Tag && record.digest == canonical,
                DeletedName::Repository => false,
            };
            if is_it {
                return Ok(Some((*id, record)));
            }
        }
        if page.len() < PAGE {
            return Ok(None);
        }
        before = page.last().copied();
    }
}

/// Gives a deleted repository its name again.
fn name_again(tx: &WriteTx<'_>, scope: &Scope, id: RepositoryId, now: Timestamp) -> Result<(), Error> {
    if repositories::id_of(tx, &scope.name)?.is_some() {
        return Err(Error::NameTaken(scope.name.to_string()));
    }
    deletions::remove(tx, id)?;
    repositories::give_name(tx, id, &scope.name)?;
    let target = events::gone(TargetKind::Repository, &scope.name, None, None);
    Ok(scope.tell(tx, id, now, Action::Push, target)?)
}

/// Moves what a deletion holds back to its repository.
fn bring_back(
    tx: &WriteTx<'_>,
    scope: &Scope,
    deletion: RepositoryId,
    record: &DeletionRecord,
    now: Timestamp,
) -> Result<(), Error> {
    let id = record.repository;
    let due = scope.inner.lease_end(id, now);
    let tags = tags::list_records(tx, deletion, None, usize::MAX)?;
    for (tag, record) in &tags {
        if tags::get(tx, id, tag)?.is_some_and(|present| present.digest != record.digest) {
            return Err(Error::NameTaken(format!("{}:{tag}", scope.name)));
        }
    }
    let links = blobs::list_links(tx, deletion, None, usize::MAX)?;
    let revisions = manifests::list(tx, deletion, None, usize::MAX)?;
    let mut to_repository: u64 = 0;
    for (digest, _) in &links {
        if blobs::link(tx, id, digest)?.is_none() {
            to_repository += blobs::size_of(tx, digest)?.unwrap_or_default();
        }
    }
    for (digest, record) in &revisions {
        to_repository += if manifests::exists(tx, id, digest)? { 0 } else { record.size };
    }
    let addition = Addition { to_repository, to_store: 0 };
    quota::require(tx, &scope.inner, &scope.name, Some(id), addition)?;
    let limit = scope.inner.policy.max_manifest_bytes;
    for (digest, _) in &revisions {
        // Who has pushed it again meanwhile may have signed it too.
        super::signatures::unite(tx, deletion, id, digest, limit)?;
        copy_image(tx, &scope.inner, now, deletion, id, digest)?;
    }
    for (digest, _) in &links {
        copy_link(tx, &scope.inner, now, deletion, id, digest)?;
        blobs::settle_link(tx, id, digest, due)?;
    }
    for (tag, record) in &tags {
        tags::set(tx, id, tag, &tags::TagRecord { updated_at: now.millis(), ..record.clone() })?;
    }
    for (digest, _) in &revisions {
        manifests::settle(tx, id, digest, now.millis(), due)?;
        manifests::postpone(tx, id, digest, due)?;
    }
    tell_of_return(tx, scope, id, record, &tags, now)?;
    // Its subject is back, and nothing that follows it has to go.
    Ok(end(tx, deletion, &DeletionRecord { digest: None, ..record.clone() })?)
}

/// Tells of what is back as of pushes: of a manifest once for each tag.
fn tell_of_return(
    tx: &WriteTx<'_>,
    scope: &Scope,
    id: RepositoryId,
    record: &DeletionRecord,
    tags: &[(Tag, tags::TagRecord)],
    now: Timestamp,
) -> Result<(), Error> {
    let Some(digest) = record.digest else { return Ok(()) };
    let targets: Vec<EventTarget> = if let Some(manifest) = manifests::get(tx, id, &digest)? {
        let names =
            if tags.is_empty() { vec![None] } else { tags.iter().map(|(tag, _)| Some(tag)).collect() };
        let target = |tag| events::manifest(&scope.name, digest, &manifest.media_type, manifest.size, tag);
        names.into_iter().map(target).collect()
    } else if let Some(link) = blobs::link(tx, id, &digest)? {
        let size = blobs::size_of(tx, &digest)?.unwrap_or_default();
        vec![events::blob(&scope.name, digest, &link.media_type, size)]
    } else {
        Vec::new()
    };
    for target in targets {
        scope.tell(tx, id, now, Action::Push, target)?;
    }
    Ok(())
}
