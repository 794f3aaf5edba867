//! What manifests name: written with a revision, and taken back with it.

use std::sync::Arc;

use bytes::Bytes;

use super::deletion::{self, Deleted, Force};
use super::manifest_service::missing_payload;
use super::quota::{self, Addition};
use super::repository::Scope;
use super::tag_service::point;
use super::{Error, Inner, events, referrer_service, signatures};
use crate::clock::Timestamp;
use crate::metadata::events::{Action, EventTarget, TargetKind};
use crate::metadata::manifests::{self, ManifestRecord, Reference as Named};
use crate::metadata::repositories::{self, RepositoryId};
use crate::metadata::{self, Read, WriteTx, blobs, tags};
use crate::oci::schema1::Signature;
use crate::oci::{ChildRole, Digest, Manifest, ManifestKind, MediaType, Tag};

/// How many parents an error names at most.
const PARENTS_NAMED: usize = 10;

/// How many absent children an error names at most; clients read no more of an answer than some kilobytes.
const MISSING_NAMED: usize = 100;

/// A checked push, ready for its transaction.
pub(super) struct Push {
    pub(super) record: ManifestRecord,
    pub(super) payload: Bytes,
    pub(super) signatures: Arc<[Signature]>,
    pub(super) manifest: Manifest,
    pub(super) digest: Digest,
    pub(super) canonical: Digest,
    pub(super) tags: Vec<Tag>,
    pub(super) kept: Kept,
}

/// As what a manifest comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// As a push, whole.
    Whole,
    /// As another registry has it: an index does without those of its manifests that aren't here, until they are.
    AsFound {
        /// Whether it is a list of referrers, which a tag will say.
        is_list: bool,
    },
}

impl Push {
    pub(super) fn apply(&self, tx: &WriteTx<'_>, scope: &Scope) -> Result<(), Error> {
        let kind = self.index_names();
        let children = self.known_children(tx, scope, kind)?;
        let known = repositories::id_of(tx, &scope.name)?;
        for tag in &self.tags {
            let former = known.map(|id| tags::get(tx, id, tag)).transpose()?.flatten().map(|tag| tag.digest);
            scope.require_mutable(known, tag, former.as_ref(), Some(&self.canonical))?;
        }
        let former = match known {
            Some(id) => manifests::get(tx, id, &self.canonical)?,
            None => None,
        };
        let to_store = if manifests::has_payload(tx, &self.canonical)? { 0 } else { self.record.size };
        let to_repository = if former.is_some() { 0 } else { self.record.size };
        quota::require(tx, &scope.inner, &scope.name, known, Addition { to_repository, to_store })?;
        let limit = scope.inner.policy.max_manifest_bytes;
        let signed = MediaType::DOCKER_MANIFEST_SCHEMA1_SIGNED;
        let has_signatures = former.as_ref().is_some_and(|former| former.media_type == signed);
        let signed_in = known.filter(|_| has_signatures);
        let merge =
            signatures::merge(tx, signed_in, &self.canonical, &self.payload, &self.signatures, limit)?;
        // Everything is checked; from here on rows are written.
        let now = Timestamp::from_millis(self.record.pushed_at);
        let id = scope.ensure(tx, known, now, &self.record.actor)?;
        let mut record = self.record.clone();
        let mut unnamed = Vec::new();
        let was_untagged = former.as_ref().is_some_and(|former| former.due_at.is_some());
        if merge.is_signed() {
            // Whoever pushes the payload alone takes no signature away.
            record.media_type = signed;
        }
        if let Some(former) = former {
            if former.media_type != record.media_type {
                // The same bytes under another type may name other things.
                unnamed = forget_references(tx, id, &self.canonical, &former)?;
            }
            record.pushed_as = former.pushed_as;
        }
        manifests::insert(tx, id, &self.canonical, &record, &self.payload)?;
        merge.write(tx, id, &self.canonical, record.pushed_at, &record.actor)?;
        blobs::insert_alias(tx, blobs::Alias::Digest(self.digest), &self.canonical)?;
        for (child, kind) in &children {
            manifests::insert_reference(tx, id, child, &self.canonical, *kind)?;
        }
        let due = scope.inner.lease_end(id, now);
        for child in children.iter().map(|(child, _)| child).chain(&unnamed) {
            if let Some(child) = blobs::canonical(tx, child)? {
                blobs::settle_link(tx, id, &child, due)?;
                manifests::settle(tx, id, &child, now.millis(), due)?;
            }
        }
        if let Some(subject) = &record.subject {
            let referrer = referrer_service::render(&record, &self.manifest);
            manifests::insert_referrer(tx, id, subject, &self.canonical, &referrer)?;
        }
        for tag in &self.tags {
            let record = tags::TagRecord {
                digest: self.canonical,
                named: self.digest,
                updated_at: record.pushed_at,
                actor: record.actor.clone(),
            };
            point(tx, scope, id, tag, &record)?;
        }
        if self.tags.is_empty() {
            manifests::settle(tx, id, &self.canonical, now.millis(), due)?;
            // Its grace began when it lost its last name.
            let due = if was_untagged { scope.inner.untagged_end(id, now) } else { due };
            manifests::postpone(tx, id, &self.canonical, due)?;
        }
        self.tell(tx, scope, id, now)?;
        Ok(())
    }

    /// Tells of the push: once for each tag, and once without where there is none.
    fn tell(
        &self,
        tx: &WriteTx<'_>,
        scope: &Scope,
        id: RepositoryId,
        now: Timestamp,
    ) -> Result<(), metadata::Error> {
        let tags = if self.tags.is_empty() { vec![None] } else { self.tags.iter().map(Some).collect() };
        for tag in tags {
            let record = &self.record;
            let target = events::manifest(&scope.name, self.digest, &record.media_type, record.size, tag);
            let references = if scope.inner.events.options.references {
                events::references(&self.manifest)
            } else {
                Vec::new()
            };
            scope.tell(tx, id, now, Action::Push, EventTarget { references, ..target })?;
        }
        Ok(())
    }

    /// How the manifest names others. A list of referrers, which a client keeps as an index under a tag for its subject,
    /// needs none of them: referrers come and go without it.
    fn index_names(&self) -> Named {
        let is_listed = match self.kept {
            Kept::Whole => !self.tags.is_empty() && self.tags.iter().all(Tag::lists_referrers),
            Kept::AsFound { is_list } => is_list,
        };
        let is_list = self.manifest.kind == ManifestKind::Index && is_listed;
        if is_list { Named::Lists } else { Named::Needs }
    }

    /// The digests by which the manifest names its children, and how; an error where one must be there and isn't.
    fn known_children(
        &self,
        tx: &WriteTx<'_>,
        scope: &Scope,
        kind: Named,
    ) -> Result<Vec<(Digest, Named)>, Error> {
        let repository = repositories::id_of(tx, &scope.name)?;
        let mut children = Vec::with_capacity(self.manifest.children.len());
        let mut missing = Vec::new();
        for child in &self.manifest.children {
            let named = child.descriptor.digest;
            let canonical = blobs::canonical(tx, &named)?;
            let present = match (canonical, repository) {
                (Some(canonical), Some(id)) => match child.role {
                    ChildRole::Config | ChildRole::Layer => has_blob(tx, id, &canonical)?,
                    // BuildKit's cache indexes name blobs where others name manifests.
                    ChildRole::Manifest => {
                        manifests::exists(tx, id, &canonical)? || has_blob(tx, id, &canonical)?
                    }
                },
                (None, _) | (_, None) => false,
            };
            let may_miss = match child.role {
                // What a cached manifest names is fetched when it is asked for.
                _ if scope.is_cached(repository) => true,
                ChildRole::Config | ChildRole::Layer => !child.is_distributable(),
                ChildRole::Manifest => kind == Named::Lists || scope.inner.policy.allow_sparse_indexes,
            };
            let may_miss = may_miss || (child.role == ChildRole::Manifest && self.kept != Kept::Whole);
            if !present && !may_miss && missing.len() < MISSING_NAMED && !missing.contains(&named) {
                missing.push(named);
            }
            let kind = match (child.role, kind, self.kept) {
                (ChildRole::Config | ChildRole::Layer, _, _) => Named::Needs,
                (ChildRole::Manifest, Named::Needs, Kept::AsFound { .. }) if !present => Named::Misses,
                (ChildRole::Manifest, kind, _) => kind,
            };
            children.push((named, kind));
        }
        if missing.is_empty() {
            return Ok(children);
        }
        // Who pushes for longer than the lease may find less there anyway.
        let begun = match repository {
            Some(_) => scope.inner.clock.now().saturating_sub(scope.inner.policy.collection.lease),
            None => Timestamp::from_millis(0),
        };
        deletion::require_not_renamed(tx, &scope.name, begun)?;
        Err(Error::ManifestReferencesUnknown(missing))
    }
}

/// Whether the repository has the blob, and its bytes are sound.
fn has_blob(tx: &impl Read, id: RepositoryId, canonical: &Digest) -> Result<bool, metadata::Error> {
    Ok(blobs::link(tx, id, canonical)?.is_some() && blobs::get(tx, canonical)?.is_some())
}

/// Removes a manifest with all its tags, which are returned, in such a way that it can come back.
pub(super) fn delete(
    tx: &WriteTx<'_>,
    scope: &Scope,
    id: RepositoryId,
    now: Timestamp,
    named: &Digest,
    canonical: &Digest,
    reason: Option<&str>,
) -> Result<Vec<Tag>, Error> {
    let tags = tags::of_manifest(tx, id, canonical)?;
    match deletion::begin(tx, scope, id, now, Deleted::Manifest(*canonical), reason)? {
        Some(deletion) => {
            deletion::copy_image(tx, &scope.inner, now, id, deletion, canonical)?;
            for tag in &tags {
                if let Some(record) = tags::get(tx, id, tag)? {
                    tags::keep(tx, deletion, tag, &record)?;
                }
            }
        }
        // Nothing can bring it back, so what follows it may go after its lease.
        None => deletion::let_followers_go(tx, &scope.inner, now, id, canonical)?,
    }
    for tag in &tags {
        tags::remove(tx, id, tag)?;
        let target = events::gone(TargetKind::Tag, &scope.name, None, Some(tag));
        scope.tell(tx, id, now, Action::Delete, target)?;
    }
    remove(tx, &scope.inner, now, id, canonical)?;
    let target = events::gone(TargetKind::Manifest, &scope.name, Some(*named), None);
    scope.tell(tx, id, now, Action::Delete, target)?;
    Ok(tags)
}

/// Removes a revision that no tag points to: its rows, and what it says of others, which may go after a lease where
/// nothing else names them.
pub(super) fn remove(
    tx: &WriteTx<'_>,
    inner: &Inner,
    now: Timestamp,
    id: RepositoryId,
    canonical: &Digest,
) -> Result<(), Error> {
    let Some(record) = manifests::get(tx, id, canonical)? else { return Ok(()) };
    let children = forget_references(tx, id, canonical, &record)?;
    crate::metadata::signatures::remove_all(tx, id, canonical)?;
    manifests::remove(tx, id, canonical)?;
    let due = inner.lease_end(id, now);
    for child in &children {
        blobs::settle_link(tx, id, child, due)?;
        manifests::settle(tx, id, child, now.millis(), due)?;
    }
    Ok(())
}

/// Takes back what a stored manifest says of other content, and returns the canonical digests of what it named.
fn forget_references(
    tx: &WriteTx<'_>,
    id: RepositoryId,
    canonical: &Digest,
    record: &ManifestRecord,
) -> Result<Vec<Digest>, Error> {
    let stored = manifests::payload(tx, canonical, |bytes| Manifest::parse(&record.media_type, bytes))?
        .ok_or_else(|| missing_payload(canonical))??;
    let mut children = Vec::with_capacity(stored.children.len());
    for child in &stored.children {
        let named = child.descriptor.digest;
        manifests::remove_reference(tx, id, &named, canonical)?;
        if let Some(child) = blobs::canonical(tx, &named)? {
            if child != named {
                manifests::remove_reference(tx, id, &child, canonical)?;
            }
            children.push(child);
        }
    }
    if let Some(subject) = &record.subject {
        manifests::remove_referrer(tx, id, subject, canonical)?;
    }
    Ok(children)
}

/// Sees to it that an index needs what it lists, before a tag makes it more than a list of referrers. Everything that it
/// lists must be there then, unless sparse indexes are allowed.
pub(super) fn require_listed(
    tx: &WriteTx<'_>,
    scope: &Scope,
    id: RepositoryId,
    canonical: &Digest,
) -> Result<(), Error> {
    let record = manifests::get(tx, id, canonical)?.ok_or(Error::ManifestUnknown)?;
    if ManifestKind::of(&record.media_type) != ManifestKind::Index {
        return Ok(());
    }
    let parsed = manifests::payload(tx, canonical, |bytes| Manifest::parse(&record.media_type, bytes))?
        .ok_or_else(|| missing_payload(canonical))??;
    let (mut listed, mut missing) = (Vec::new(), Vec::new());
    for child in &parsed.children {
        let named = child.descriptor.digest;
        let known = blobs::canonical(tx, &named)?;
        for name in [Some(named), known.filter(|known| *known != named)].into_iter().flatten() {
            if manifests::reference(tx, id, &name, canonical)? != Some(Named::Lists) {
                continue;
            }
            let is_there = match known {
                Some(known) => manifests::exists(tx, id, &known)? || blobs::link(tx, id, &known)?.is_some(),
                None => false,
            };
            if !is_there {
                missing.push(named);
            }
            listed.push((name, known.unwrap_or(named)));
        }
    }
    if !missing.is_empty() && !scope.inner.policy.allow_sparse_indexes {
        return Err(Error::ManifestReferencesUnknown(missing));
    }
    let now = scope.inner.clock.now();
    let due = scope.inner.lease_end(id, now);
    for (name, child) in &listed {
        manifests::insert_reference(tx, id, name, canonical, Named::Needs)?;
        blobs::settle_link(tx, id, child, due)?;
        manifests::settle(tx, id, child, now.millis(), due)?;
    }
    Ok(())
}

/// Refuses where a manifest of the repository needs the content, by whichever of its digests; with force, each of them
/// may do without it until it is back.
pub(super) fn release(
    tx: &WriteTx<'_>,
    id: RepositoryId,
    named: &Digest,
    canonical: &Digest,
    force: Force,
) -> Result<(), Error> {
    let mut digests = blobs::aliases(tx, canonical)?;
    digests.push(*canonical);
    for digest in digests {
        match force {
            Force::No => {
                let parents = manifests::parents(tx, id, &digest, PARENTS_NAMED)?;
                if !parents.is_empty() {
                    return Err(Error::StillReferenced { digest: *named, parents });
                }
            }
            Force::Yes => manifests::let_miss(tx, id, &digest)?,
        }
    }
    Ok(())
}
