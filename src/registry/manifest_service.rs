//! Manifests of a repository: the revision service.

use std::sync::Arc;

use bytes::Bytes;

use super::deletion::Force;
use super::pulls::{Usage, Use};
use super::repository::Scope;
use super::revision::{Kept, Push, delete, release};
use super::signatures::{self, TakenApart};
use super::{Actor, Error, ManifestDescriptor, Page, Scroll, ServedManifest, events, eviction};
use crate::clock::Timestamp;
use crate::metadata::events::EventTarget;
use crate::metadata::manifests::{self, ManifestRecord};
use crate::metadata::repositories::{self, RepositoryId};
use crate::metadata::{self, Read, blobs, tags};
use crate::oci::{Digest, DigestAlgorithm, Manifest, MediaType, Reference, Tag};

/// How many revisions a scroll reads at a time.
const SCROLLED: usize = 1_000;

/// Once a page of revisions has put together so many bytes of signed manifests, it ends: nobody waits for all the signatures
/// of a thousand manifests.
const MERGED_AT_ONCE: usize = 1 << 20;

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
                let record = manifests::get(tx, id, &canonical)?.filter(|_| !id.is_cached());
                Ok(record.map(|record| (canonical, id, record.due_at)))
            }
            None => Ok(None),
        })?;
        let Some((canonical, id, Some(due))) = found.flatten() else { return Ok(()) };
        let now = inner.clock.now();
        if due >= now.saturating_add(inner.untagged_stay()).millis() {
            return Ok(());
        }
        let (scope, until) = (self.scope.clone(), inner.untagged_end(id, now));
        self.scope
            .write(move |tx| match repositories::id_of(tx, &scope.name)? {
                Some(id) => Ok(manifests::postpone(tx, id, &canonical, until)?),
                None => Ok(()),
            })
            .await
    }

    /// The same for somebody who was asked for it, by HEAD: that is noted, and counts as use, but not as a pull.
    pub fn ask(&self, reference: &Reference) -> Result<Option<ManifestDescriptor>, Error> {
        let Some(served) = self.served(reference)? else { return Ok(None) };
        self.note_ask(reference, &served);
        Ok(Some(served.manifest.clone()))
    }

    /// Notes that somebody was told of a manifest without its bytes, as [`ask`](ManifestService::ask) does.
    pub fn note_ask(&self, reference: &Reference, served: &ServedManifest) {
        self.note(served.repository, reference, &served.manifest, Use::Ask);
    }

    /// Notes that somebody is given a manifest's bytes, as [`get`](ManifestService::get) does.
    pub fn note_pull(&self, reference: &Reference, served: &ServedManifest) {
        self.note(served.repository, reference, &served.manifest, Use::Pull);
        self.scope.tell_of_pull(|| self.pulled(reference, &served.manifest, &served.payload));
    }

    fn note(&self, id: RepositoryId, reference: &Reference, manifest: &ManifestDescriptor, what: Use) {
        let inner = &self.scope.inner;
        inner.pulls.note(inner.clock.now(), id, &manifest.canonical, reference.tag(), what);
    }

    /// How the manifest was used by whatever name, or a tag; `None` where the repository doesn't have it.
    pub fn usage(&self, reference: &Reference) -> Result<Option<Usage>, Error> {
        let found = self.scope.read(|tx, id| Ok((id, resolve(tx, id, reference)?)))?;
        let Some((id, Some((manifest, _)))) = found else { return Ok(None) };
        let inner = &self.scope.inner;
        let named = (id, manifest.canonical, reference.tag().cloned());
        Ok(inner.pulls.usages(&inner.metadata, &[named])?.pop())
    }

    /// How each of these manifests was used.
    pub fn usages(&self, manifests: &[ManifestDescriptor]) -> Result<Vec<Usage>, Error> {
        let inner = &self.scope.inner;
        let id = self.scope.read(|_, id| Ok(id))?.ok_or(Error::RepositoryUnknown)?;
        let named: Vec<_> = manifests.iter().map(|manifest| (id, manifest.canonical, None)).collect();
        Ok(inner.pulls.usages(&inner.metadata, &named)?)
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
        let Some(served) = self.served(reference)? else { return Ok(None) };
        self.note_pull(reference, &served);
        Ok(Some((served.manifest.clone(), served.payload.clone())))
    }

    /// The same for whoever only looks: it is no pull.
    pub fn read(&self, reference: &Reference) -> Result<Option<(ManifestDescriptor, Bytes)>, Error> {
        Ok(self.served(reference)?.map(|served| (served.manifest.clone(), served.payload.clone())))
    }

    /// The manifest as answers give it, which lies in memory as a whole where it was wanted lately. It is neither a pull nor a
    /// question until that is noted.
    pub fn served(&self, reference: &Reference) -> Result<Option<Arc<ServedManifest>>, Error> {
        self.scope.look_up_made(reference, |tx, id| {
            let Some((manifest, merged)) = resolve(tx, id, reference)? else { return Ok(None) };
            let payload = match merged {
                Some(merged) => merged,
                None => manifests::payload_bytes(tx, &manifest.canonical)?
                    .ok_or_else(|| missing_payload(&manifest.canonical))?,
            };
            let served = ServedManifest::new(id, manifest, payload);
            let weight = served.weight();
            Ok(Some((served, weight)))
        })
    }

    /// What the event of a pull is about.
    fn pulled(&self, reference: &Reference, manifest: &ManifestDescriptor, payload: &[u8]) -> EventTarget {
        let (digest, tag) = (manifest.digest, reference.tag());
        let target = events::manifest(&self.scope.name, digest, &manifest.media_type, manifest.size, tag);
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
        self.store(put, Kept::Whole).await
    }

    /// The same for a manifest as another registry has it: an index may name manifests that aren't here, and needs each of
    /// them as soon as it comes. With `is_list` it is a list of referrers, as the tag says that it gets.
    pub async fn put_as_found(&self, put: ManifestPut, is_list: bool) -> Result<ManifestPushed, Error> {
        self.store(put, Kept::AsFound { is_list }).await
    }

    async fn store(&self, put: ManifestPut, kept: Kept) -> Result<ManifestPushed, Error> {
        self.scope.require_served()?;
        let limit = self.scope.inner.policy.max_manifest_bytes;
        if put.payload.len() > limit {
            return Err(Error::ManifestTooLarge { limit });
        }
        eviction::make_space(&self.scope.inner, put.payload.len() as u64).await?;
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
            kept,
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
                for tag in tags::of_manifest(tx, id, &canonical)? {
                    scope.require_mutable(Some(id), &tag, Some(&canonical), None)?;
                }
                release(tx, id, &named, &canonical, force)?;
                delete(tx, &scope, id, now, &named, &canonical, None).map(Some)
            })
            .await
    }
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
