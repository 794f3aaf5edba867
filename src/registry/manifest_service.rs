//! Manifests of a repository: the revision service.

use std::sync::Arc;

use bytes::Bytes;

use super::deletion::{self, Deleted, Force};
use super::quota::{self, Addition};
use super::repository::Scope;
use super::signatures::{self, TakenApart};
use super::tag_service::point;
use super::{Actor, Error, Inner, ManifestDescriptor, Page, Scroll, events, referrer_service};
use crate::clock::Timestamp;
use crate::metadata::events::{Action, EventTarget, TargetKind};
use crate::metadata::manifests::{self, ManifestRecord, Reference as Named};
use crate::metadata::repositories::{self, RepositoryId};
use crate::metadata::{self, Read, WriteTx, blobs, tags};
use crate::oci::schema1::Signature;
use crate::oci::{ChildRole, Digest, DigestAlgorithm, Manifest, ManifestKind, MediaType, Reference, Tag};

/// How many revisions a scroll reads at a time.
const SCROLLED: usize = 1_000;

/// Once a page of revisions has put together so many bytes of signed manifests, it ends: nobody waits for all the signatures
/// of a thousand manifests.
const MERGED_AT_ONCE: usize = 1 << 20;

/// How many absent children an error names at most; clients read no more of an answer than some kilobytes.
const MISSING_NAMED: usize = 100;

/// A manifest to push.
#[derive(Debug, Clone)]
pub struct ManifestPut {
    /// The bytes, which are kept as they are; a signed schema 1 manifest is taken apart into payload and signatures.
    pub payload: Bytes,
    /// What they are.
    pub media_type: MediaType,
    /// The tag or the digest to push by.
    pub reference: Reference,
    /// Further tags to set.
    pub tags: Vec<Tag>,
    /// Who pushes.
    pub actor: Actor,
}

/// A manifest that was pushed, durably.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestPushed {
    /// The digest that it was pushed by; the canonical one for a push by tag.
    pub digest: Digest,
    /// The canonical digest.
    pub canonical: Digest,
    /// The subject that it names.
    pub subject: Option<Digest>,
    /// The tags that point to it now, in the order of the request.
    pub tags: Vec<Tag>,
}

/// The manifest service of one repository.
#[derive(Debug, Clone)]
pub struct ManifestService {
    scope: Scope,
}

impl ManifestService {
    pub(super) fn new(scope: Scope) -> ManifestService {
        ManifestService { scope }
    }

    /// The manifest under a tag or any of its digests, without its bytes.
    pub fn stat(&self, reference: &Reference) -> Result<Option<ManifestDescriptor>, Error> {
        Ok(self
            .scope
            .look_up(|tx, id| resolve(tx, id, reference))?
            .flatten()
            .map(|(descriptor, _)| descriptor))
    }

    /// Sees to it that a manifest that is about to be told of by its digest stays for the grace of untagged ones, and for the
    /// lease at least, where a policy removes such manifests. Commits where it could go much sooner.
    pub async fn hold(&self, reference: &Reference) -> Result<(), Error> {
        let inner = &self.scope.inner;
        let collection = &inner.policy.collection;
        let Reference::Digest(named) = reference else { return Ok(()) };
        if !collection.removes_untagged() {
            return Ok(());
        }
        let found = self.scope.look_up(|tx, id| match blobs::canonical(tx, named)? {
            Some(canonical) => {
                Ok(manifests::get(tx, id, &canonical)?.map(|record| (canonical, record.due_at)))
            }
            None => Ok(None),
        })?;
        let Some((canonical, Some(due))) = found.flatten() else { return Ok(()) };
        let stay = collection.untagged_grace.unwrap_or_default().max(collection.lease);
        let now = inner.clock.now();
        if due >= now.saturating_add(stay).millis() {
            return Ok(());
        }
        let (scope, until) = (self.scope.clone(), now.saturating_add(stay).saturating_add(stay / 8).millis());
        self.scope
            .write(move |tx| match repositories::id_of(tx, &scope.name)? {
                Some(id) => Ok(manifests::postpone(tx, id, &canonical, until)?),
                None => Ok(()),
            })
            .await
    }

    /// Whether the repository has the manifest, under any of its digests.
    pub fn exists(&self, digest: &Digest) -> Result<bool, Error> {
        let found = self.scope.look_up(|tx, id| match blobs::canonical(tx, digest)? {
            Some(canonical) => manifests::exists(tx, id, &canonical),
            None => Ok(false),
        })?;
        Ok(found.unwrap_or_default())
    }

    /// The manifest under a tag or any of its digests, with its bytes as they were pushed, which is a pull. A signed schema
    /// 1 manifest comes with all the signatures that anybody has pushed, the same bytes until somebody adds one.
    pub fn get(&self, reference: &Reference) -> Result<Option<(ManifestDescriptor, Bytes)>, Error> {
        let found = self.scope.look_up(|tx, id| {
            let Some((descriptor, merged)) = resolve(tx, id, reference)? else { return Ok(None) };
            if let Some(merged) = merged {
                return Ok(Some((descriptor, merged)));
            }
            let payload = manifests::payload_bytes(tx, &descriptor.canonical)?;
            let payload = payload.ok_or_else(|| missing_payload(&descriptor.canonical))?;
            Ok(Some((descriptor, payload)))
        })?;
        if let Some((manifest, payload)) = found.iter().flatten().next() {
            self.scope.tell_of_pull(|| self.pulled(reference, manifest, payload));
        }
        Ok(found.flatten())
    }

    /// What the event of a pull is about.
    fn pulled(&self, reference: &Reference, manifest: &ManifestDescriptor, payload: &[u8]) -> EventTarget {
        let tag = match reference {
            Reference::Tag(tag) => Some(tag),
            Reference::Digest(_) => None,
        };
        let target =
            events::manifest(&self.scope.name, manifest.digest, &manifest.media_type, manifest.size, tag);
        let references = if self.scope.inner.events.options.references {
            Manifest::parse(&manifest.media_type, payload)
                .map_or_else(|_| Vec::new(), |manifest| events::references(&manifest))
        } else {
            Vec::new()
        };
        EventTarget { references, ..target }
    }

    /// Up to `limit` revisions in the order of their canonical digests, behind `after`. Others may write meanwhile: a
    /// revision that is there throughout is listed once. A page of signed manifests with many signatures ends early.
    pub fn all(&self, after: Option<&Digest>, limit: usize) -> Result<Page<ManifestDescriptor>, Error> {
        let found = self.scope.read(|tx, id| {
            let revisions = Page::of(manifests::list(tx, id, after, limit.saturating_add(1))?, limit);
            let (mut items, mut merged) = (Vec::with_capacity(revisions.items.len()), 0);
            let mut rest = revisions.items.into_iter();
            while merged < MERGED_AT_ONCE
                && let Some((digest, record)) = rest.next()
            {
                let (manifest, document) = describe(tx, id, digest, digest, record)?;
                merged += document.map_or(0, |document| document.len());
                items.push(manifest);
            }
            Ok(Page { more: revisions.more || rest.len() > 0, items })
        })?;
        found.ok_or(Error::RepositoryUnknown)
    }

    /// Every revision, as [`all`](ManifestService::all) has them.
    pub fn scroll(&self) -> Scroll<ManifestDescriptor> {
        let manifests = self.clone();
        Scroll::new(move |last: Option<&ManifestDescriptor>| {
            manifests.all(last.map(|manifest| &manifest.canonical), SCROLLED)
        })
    }

    /// Stores a manifest: its bytes, its place in the revision index, what it names, its subject and its tags, in one
    /// commit. Everything that it names must be in the repository, but for content that is not distributable, a subject,
    /// and the manifests of an index where the policy allows sparse ones.
    ///
    /// Every signature of a signed schema 1 manifest is verified, the digest is the payload's, and the signatures are added
    /// to those that are there: one for each key and algorithm, the newest, and at most a thousand.
    pub async fn put(&self, put: ManifestPut) -> Result<ManifestPushed, Error> {
        self.scope.require_served()?;
        let limit = self.scope.inner.policy.max_manifest_bytes;
        if put.payload.len() > limit {
            return Err(Error::ManifestTooLarge { limit });
        }
        self.scope.inner.require_space(put.payload.len() as u64)?;
        let TakenApart { payload, signatures } =
            signatures::take_apart(&self.scope.inner, &self.scope.name, &put).await?;
        let canonical = Digest::of(DigestAlgorithm::CANONICAL, &payload);
        let (digest, tags) = match put.reference {
            Reference::Tag(tag) => (canonical, std::iter::once(tag).chain(put.tags).collect()),
            Reference::Digest(claimed) => {
                let computed = Digest::of(claimed.algorithm(), &payload);
                if computed != claimed {
                    return Err(Error::DigestMismatch { claimed: claimed.into(), computed: computed.into() });
                }
                (claimed, put.tags)
            }
        };
        let manifest = Manifest::parse(&put.media_type, &payload)?;
        let subject = manifest.subject.as_ref().map(|subject| subject.digest);
        let push = Push {
            record: ManifestRecord {
                media_type: put.media_type,
                size: payload.len() as u64,
                pushed_at: self.scope.inner.clock.now().millis(),
                actor: put.actor.as_str().into(),
                pushed_as: digest,
                subject,
                due_at: None,
            },
            payload,
            signatures,
            manifest,
            digest,
            canonical,
            tags: unique(tags),
        };
        let pushed = ManifestPushed { digest, canonical, subject, tags: push.tags.clone() };
        let scope = self.scope.by(&put.actor);
        self.scope.write(move |tx| push.apply(tx, &scope)).await?;
        Ok(pushed)
    }

    /// Removes a manifest with all its tags, which are returned; `None` where the repository doesn't have it. It can come back,
    /// with them, for as long as the policy says. What a live index names stays.
    pub async fn delete(&self, digest: &Digest) -> Result<Option<Vec<Tag>>, Error> {
        self.delete_with(digest, Force::No).await
    }

    /// The same; with force also what a live index names, which is left without it.
    pub async fn delete_with(&self, digest: &Digest, force: Force) -> Result<Option<Vec<Tag>>, Error> {
        if !self.scope.inner.policy.delete.manifests {
            return Err(Error::DeleteDisabled("manifests"));
        }
        let (scope, named) = (self.scope.clone(), *digest);
        let now = scope.inner.clock.now();
        self.scope
            .write(move |tx| {
                let id = scope.id(tx)?;
                let Some(canonical) = blobs::canonical(tx, &named)? else { return Ok(None) };
                if !manifests::exists(tx, id, &canonical)? {
                    return Ok(None);
                }
                let tags = tags::of_manifest(tx, id, &canonical)?;
                for tag in &tags {
                    scope.inner.policy.immutable.require_mutable(&scope.name, tag, Some(&canonical), None)?;
                }
                deletion::release(tx, id, &named, &canonical, force)?;
                match deletion::begin(tx, &scope, id, now, Deleted::Manifest(canonical))? {
                    Some(deletion) => {
                        deletion::copy_image(tx, &scope.inner, now, id, deletion, &canonical)?;
                        for tag in &tags {
                            if let Some(record) = tags::get(tx, id, tag)? {
                                tags::keep(tx, deletion, tag, &record)?;
                            }
                        }
                    }
                    // Nothing can bring it back, so what follows it may go after its lease.
                    None => deletion::let_followers_go(tx, &scope.inner, now, id, &canonical)?,
                }
                for tag in &tags {
                    tags::remove(tx, id, tag)?;
                    let target = events::gone(TargetKind::Tag, &scope.name, None, Some(tag));
                    scope.tell(tx, now, Action::Delete, target)?;
                }
                remove(tx, &scope.inner, now, id, &canonical)?;
                let target = events::gone(TargetKind::Manifest, &scope.name, Some(named), None);
                scope.tell(tx, now, Action::Delete, target)?;
                Ok(Some(tags))
            })
            .await
    }
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
    let due = inner.lease_end(now);
    for child in &children {
        blobs::settle_link(tx, id, child, due)?;
        manifests::settle(tx, id, child, now.millis(), due)?;
    }
    Ok(())
}

/// A checked push, ready for its transaction.
struct Push {
    record: ManifestRecord,
    payload: Bytes,
    signatures: Arc<[Signature]>,
    manifest: Manifest,
    digest: Digest,
    canonical: Digest,
    tags: Vec<Tag>,
}

impl Push {
    fn apply(&self, tx: &WriteTx<'_>, scope: &Scope) -> Result<(), Error> {
        let kind = self.index_names();
        let children = self.known_children(tx, scope, kind)?;
        let known = repositories::id_of(tx, &scope.name)?;
        for tag in &self.tags {
            let former = known.map(|id| tags::get(tx, id, tag)).transpose()?.flatten().map(|tag| tag.digest);
            let immutable = &scope.inner.policy.immutable;
            immutable.require_mutable(&scope.name, tag, former.as_ref(), Some(&self.canonical))?;
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
        let known = known.filter(|_| has_signatures);
        let merge = signatures::merge(tx, known, &self.canonical, &self.payload, &self.signatures, limit)?;
        // Everything is checked; from here on rows are written.
        let now = Timestamp::from_millis(self.record.pushed_at);
        let id = repositories::ensure(tx, &scope.name, now, &self.record.actor)?;
        let mut record = self.record.clone();
        let mut unnamed = Vec::new();
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
        let due = scope.inner.lease_end(now);
        for child in children.iter().map(|(child, _)| child).chain(&unnamed) {
            blobs::settle_link(tx, id, child, due)?;
            manifests::settle(tx, id, child, now.millis(), due)?;
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
            manifests::postpone(tx, id, &self.canonical, due)?;
        }
        self.tell(tx, scope, now)?;
        Ok(())
    }

    /// Tells of the push: once for each tag, and once without where there is none.
    fn tell(&self, tx: &WriteTx<'_>, scope: &Scope, now: Timestamp) -> Result<(), metadata::Error> {
        let tags = if self.tags.is_empty() { vec![None] } else { self.tags.iter().map(Some).collect() };
        for tag in tags {
            let record = &self.record;
            let target = events::manifest(&scope.name, self.digest, &record.media_type, record.size, tag);
            let references = if scope.inner.events.options.references {
                events::references(&self.manifest)
            } else {
                Vec::new()
            };
            scope.tell(tx, now, Action::Push, EventTarget { references, ..target })?;
        }
        Ok(())
    }

    /// How the manifest names others. A list of referrers, which a client keeps as an index under a tag for its subject,
    /// needs none of them: referrers come and go without it.
    fn index_names(&self) -> Named {
        let is_list = self.manifest.kind == ManifestKind::Index
            && !self.tags.is_empty()
            && self.tags.iter().all(Tag::lists_referrers);
        if is_list { Named::Lists } else { Named::Needs }
    }

    /// The digests of the children, canonical where known, and how they are named; an error where one must be there and
    /// isn't.
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
                ChildRole::Config | ChildRole::Layer => !child.is_distributable(),
                ChildRole::Manifest => kind == Named::Lists || scope.inner.policy.allow_sparse_indexes,
            };
            if !present && !may_miss && missing.len() < MISSING_NAMED && !missing.contains(&named) {
                missing.push(named);
            }
            let kind = if child.role == ChildRole::Manifest { kind } else { Named::Needs };
            children.push((canonical.unwrap_or(named), kind));
        }
        if missing.is_empty() {
            return Ok(children);
        }
        deletion::require_not_renamed(tx, &scope.name, Timestamp::from_millis(0))?;
        Err(Error::ManifestReferencesUnknown(missing))
    }
}

/// Whether the repository has the blob, and its bytes are sound.
fn has_blob(tx: &impl Read, id: RepositoryId, canonical: &Digest) -> Result<bool, metadata::Error> {
    Ok(blobs::link(tx, id, canonical)?.is_some() && blobs::get(tx, canonical)?.is_some())
}

/// The manifest under a reference, with its bytes if they had to be put together from its signatures.
fn resolve(
    tx: &impl Read,
    id: RepositoryId,
    reference: &Reference,
) -> Result<Option<(ManifestDescriptor, Option<Bytes>)>, metadata::Error> {
    let (digest, canonical) = match reference {
        Reference::Tag(tag) => match tags::get(tx, id, tag)? {
            Some(record) => (record.named, record.digest),
            None => return Ok(None),
        },
        Reference::Digest(digest) => match blobs::canonical(tx, digest)? {
            Some(canonical) => (*digest, canonical),
            None => return Ok(None),
        },
    };
    match manifests::get(tx, id, &canonical)? {
        Some(record) => describe(tx, id, digest, canonical, record).map(Some),
        None => Ok(None),
    }
}

fn describe(
    tx: &impl Read,
    id: RepositoryId,
    digest: Digest,
    canonical: Digest,
    record: ManifestRecord,
) -> Result<(ManifestDescriptor, Option<Bytes>), metadata::Error> {
    let merged = if record.media_type == MediaType::DOCKER_MANIFEST_SCHEMA1_SIGNED {
        signatures::merged(tx, id, &canonical)?
    } else {
        None
    };
    let descriptor = ManifestDescriptor {
        digest,
        canonical,
        media_type: record.media_type,
        size: merged.as_ref().map_or(record.size, |merged| merged.document.len() as u64),
        pushed_at: Timestamp::from_millis(record.pushed_at),
        signatures: merged.as_ref().map(|merged| merged.signatures),
    };
    Ok((descriptor, merged.map(|merged| merged.document)))
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
            manifests::remove_reference(tx, id, &child, canonical)?;
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
        for name in [Some(named), known].into_iter().flatten() {
            if manifests::reference(tx, id, &name, canonical)? != Some(Named::Lists) {
                continue;
            }
            if !manifests::exists(tx, id, &name)? && blobs::link(tx, id, &name)?.is_none() {
                missing.push(named);
            }
            listed.push(name);
        }
    }
    if !missing.is_empty() && !scope.inner.policy.allow_sparse_indexes {
        return Err(Error::ManifestReferencesUnknown(missing));
    }
    let now = scope.inner.clock.now();
    let due = scope.inner.lease_end(now);
    for name in &listed {
        manifests::insert_reference(tx, id, name, canonical, Named::Needs)?;
        blobs::settle_link(tx, id, name, due)?;
        manifests::settle(tx, id, name, now.millis(), due)?;
    }
    Ok(())
}

pub(super) fn missing_payload(digest: &Digest) -> metadata::Error {
    metadata::Error::Damaged {
        table: metadata::Table::ManifestPayloads.name(),
        reason: format!("the payload of {digest} is missing"),
    }
}

/// The tags without repetitions, in their order.
fn unique(tags: Vec<Tag>) -> Vec<Tag> {
    let mut unique: Vec<Tag> = Vec::with_capacity(tags.len());
    for tag in tags {
        if !unique.contains(&tag) {
            unique.push(tag);
        }
    }
    unique
}
