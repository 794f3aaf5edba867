//! Blobs of a repository.

use bytes::Bytes;

use super::blob_writer::BlobWriter;
use super::deletion::{self, Deleted, Force};
use super::quota::{self, Addition};
use super::repository::Scope;
use super::{Actor, BlobDescriptor, BlobReader, Error, events, eviction, revision, sessions};
use crate::blobs::UploadId;
use crate::clock::Timestamp;
use crate::metadata::blobs::{self, Alias, LinkRecord};
use crate::metadata::events::{Action, EventTarget, TargetKind};
use crate::metadata::repositories::RepositoryId;
use crate::metadata::{self, Read, manifests, repositories};
use crate::oci::{Digest, DigestAlgorithm, ProvisionalDigest, RepositoryName};

/// How often a blob is held again where the commit of that takes longer than a quarter of the lease.
const HOLDING: usize = 3;

/// How many of the repositories that have a blob a mount from any of them looks at.
const HOLDERS: usize = 1_000;

/// A blob that was looked for.
struct Found {
    id: RepositoryId,
    blob: BlobDescriptor,
    /// From when on it may go.
    due: Option<u64>,
}

/// The blob service of one repository.
#[derive(Debug, Clone)]
pub struct BlobService {
    scope: Scope,
}

impl BlobService {
    pub(super) fn new(scope: Scope) -> BlobService {
        BlobService { scope }
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The blob that the repository has under any of its digests. One that no manifest of the repository needs may be
    /// collected any moment: [`stat_held`](BlobService::stat_held) keeps it.
    pub fn stat(&self, digest: impl Into<ProvisionalDigest>) -> Result<Option<BlobDescriptor>, Error> {
        Ok(self.find(&digest.into())?.map(|found| found.blob))
    }

    /// The same; what is returned stays for at least the lease of [`Collection`](super::Collection), so that a manifest can
    /// be pushed that names it. Commits where the blob could go sooner, and writes nothing otherwise.
    pub async fn stat_held(
        &self,
        digest: impl Into<ProvisionalDigest>,
    ) -> Result<Option<BlobDescriptor>, Error> {
        let digest = digest.into();
        let inner = &self.scope.inner;
        for _ in 0..HOLDING {
            // It may have gone before the commit, or the commit may have taken longer than its slack.
            let Some(Found { id, blob, due }) = self.find(&digest)? else { return Ok(None) };
            let now = inner.clock.now();
            if due.is_none_or(|due| due >= now.saturating_add(inner.lease_of(id)).millis()) {
                return Ok(Some(blob));
            }
            let (scope, canonical, until) = (self.scope.clone(), blob.digest, inner.lease_end(id, now));
            self.scope
                .write(move |tx| match repositories::id_of(tx, &scope.name)? {
                    Some(id) => Ok(blobs::postpone_link(tx, id, &canonical, until)?),
                    None => Ok(()),
                })
                .await?;
        }
        self.stat(digest)
    }

    fn find(&self, digest: &ProvisionalDigest) -> Result<Option<Found>, Error> {
        let found = self.scope.look_up(|tx, id| {
            let Some(canonical) = blobs::resolve(tx, id, digest)? else { return Ok(None) };
            let Some(link) = blobs::link(tx, id, &canonical)? else { return Ok(None) };
            let Some(blob) = blobs::get(tx, &canonical)? else { return Ok(None) };
            let due = link.due_at;
            let blob = BlobDescriptor {
                digest: canonical,
                size: blob.size,
                media_type: link.media_type,
                created_at: Timestamp::from_millis(blob.created_at),
            };
            Ok(Some(Found { id, blob, due }))
        })?;
        Ok(found.flatten())
    }

    /// Whether the bytes of the blob are where they should be, as far as their number tells.
    pub fn has_file(&self, digest: &Digest) -> Result<bool, Error> {
        let Some(Found { blob, .. }) = self.find(&(*digest).into())? else { return Ok(false) };
        Ok(self.scope.inner.blobs.blob_len(&blob.digest)? == Some(blob.size))
    }

    /// Opens the blob for reading, which is a pull.
    pub fn open(&self, digest: impl Into<ProvisionalDigest>) -> Result<Option<BlobReader>, Error> {
        let digest = digest.into();
        let Some(Found { id, blob, .. }) = self.find(&digest)? else { return Ok(None) };
        let reading = self.scope.inner.readers.read(id, &blob.digest);
        if let Some(file) = self.scope.inner.blobs.open_blob(&blob.digest)? {
            let named = *digest.digest().unwrap_or(&blob.digest);
            let target = || events::blob(&self.scope.name, named, &blob.media_type, blob.size);
            self.scope.tell_of_pull(target);
            Ok(Some(BlobReader::new(file, &blob, reading)))
        } else {
            // Between the two looks it may have been deleted and collected.
            if self.scope.inner.metadata.read(|tx| blobs::get(tx, &blob.digest))?.is_some() {
                tracing::error!(digest = %blob.digest, "the file of a blob is missing");
            }
            Ok(None)
        }
    }

    /// The bytes of a small blob.
    pub async fn get(&self, digest: impl Into<ProvisionalDigest>) -> Result<Option<Bytes>, Error> {
        let Some(reader) = self.open(digest)? else { return Ok(None) };
        sessions::blocking(move || {
            let short = || Error::Io(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
            let mut bytes = vec![0; usize::try_from(reader.size()).map_err(|_| short())?];
            let mut filled = 0;
            while filled < bytes.len() {
                match reader.read_at(&mut bytes[filled..], filled as u64).map_err(Error::Io)? {
                    0 => return Err(short()),
                    read => filled += read,
                }
            }
            Ok(Some(Bytes::from(bytes)))
        })
        .await
    }

    /// Stores the bytes of a small blob, checked against `digest` where one is named.
    pub async fn put(
        &self,
        bytes: Bytes,
        digest: Option<&Digest>,
        actor: &Actor,
    ) -> Result<BlobDescriptor, Error> {
        let digest = digest.copied().unwrap_or_else(|| Digest::of(DigestAlgorithm::CANONICAL, &bytes));
        eviction::make_space(&self.scope.inner, bytes.len() as u64).await?;
        let mut writer = self.create(digest.algorithm(), actor)?;
        writer.write(bytes).await?;
        writer.commit(&digest).await
    }

    /// Links a blob of the repository `from`, or of any where none is named, into this one; `None` where it isn't there.
    pub async fn mount(
        &self,
        digest: impl Into<ProvisionalDigest>,
        from: Option<&RepositoryName>,
        actor: &Actor,
    ) -> Result<Option<BlobDescriptor>, Error> {
        eviction::make_space(&self.scope.inner, 0).await?;
        let (scope, named, from, actor) = (self.scope.by(actor), digest.into(), from.cloned(), actor.clone());
        let now = scope.inner.clock.now();
        self.scope
            .write(move |tx| {
                let Some((source, canonical, link)) = mountable(tx, &scope, from.as_ref(), &named)? else {
                    return Ok(None);
                };
                let Some(blob) = blobs::get(tx, &canonical)? else { return Ok(None) };
                let from = Some(source);
                let known = repositories::id_of(tx, &scope.name)?;
                let has_link = match known {
                    Some(id) => blobs::link(tx, id, &canonical)?.is_some(),
                    None => false,
                };
                let to_repository = if has_link { 0 } else { blob.size };
                quota::require(
                    tx,
                    &scope.inner,
                    &scope.name,
                    known,
                    Addition { to_repository, to_store: 0 },
                )?;
                let id = scope.ensure(tx, known, now, actor.as_str())?;
                let due_at = Some(scope.inner.lease_end(id, now));
                let link =
                    LinkRecord { created_at: now.millis(), actor: actor.as_str().into(), due_at, ..link };
                blobs::insert_link(tx, id, &canonical, &link)?;
                blobs::insert_alias(tx, Alias::of(named, id), &canonical)?;
                let named = *named.digest().unwrap_or(&canonical);
                let target = events::blob(&scope.name, named, &link.media_type, blob.size);
                scope.tell(tx, id, now, Action::Mount, EventTarget { from, ..target })?;
                Ok(Some(BlobDescriptor {
                    digest: canonical,
                    size: blob.size,
                    media_type: link.media_type,
                    created_at: Timestamp::from_millis(blob.created_at),
                }))
            })
            .await
    }

    /// Begins an upload, whose bytes will be hashed by `algorithm` while they come, and by the canonical one. Nothing is
    /// written before the first byte. The upload is lost in a crash before its first checkpoint. Fails with
    /// [`Error::DiskFull`] at once: [`Registry::make_space`](super::Registry::make_space) before may help.
    pub fn create(&self, algorithm: DigestAlgorithm, actor: &Actor) -> Result<BlobWriter, Error> {
        self.scope.require_served()?;
        self.scope.inner.require_space(0)?;
        let session = sessions::begin(&self.scope, algorithm, actor)?;
        Ok(session)
    }

    /// Takes up an upload of this repository where it stands: after an interruption, or a restart after a checkpoint. Waits
    /// a bounded time for a request that still sends to it, then fails with [`Error::UploadBusy`].
    pub async fn resume(&self, id: &UploadId) -> Result<Option<BlobWriter>, Error> {
        self.scope.require_served()?;
        sessions::resume(&self.scope, id, None).await
    }

    /// The same; an upload that somebody else than `owner` has begun is none.
    pub async fn resume_own(&self, id: &UploadId, owner: &Actor) -> Result<Option<BlobWriter>, Error> {
        self.scope.require_served()?;
        sessions::resume(&self.scope, id, Some(owner)).await
    }

    /// Drops an upload and its bytes; says whether it was there. One that is finished or cancelled already is none, and its
    /// blob stays.
    pub async fn cancel(&self, id: &UploadId) -> Result<bool, Error> {
        match self.resume(id).await? {
            Some(mut writer) => writer.cancel().await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Takes the blob out of the repository, by any of the blob's digests; says whether it was there. It can come back for as
    /// long as the policy says. What a manifest of the repository names stays.
    pub async fn delete(&self, digest: impl Into<ProvisionalDigest>) -> Result<bool, Error> {
        self.delete_with(digest, Force::No).await
    }

    /// The same; with force also what a manifest of the repository names, which is left without it.
    pub async fn delete_with(
        &self,
        digest: impl Into<ProvisionalDigest>,
        force: Force,
    ) -> Result<bool, Error> {
        if !self.scope.inner.policy.delete.blobs {
            return Err(Error::DeleteDisabled("blobs"));
        }
        let (scope, named) = (self.scope.clone(), digest.into());
        let now = scope.inner.clock.now();
        self.scope
            .write(move |tx| {
                let id = scope.id(tx)?;
                let Some(canonical) = blobs::resolve(tx, id, &named)? else { return Ok(false) };
                let named = *named.digest().unwrap_or(&canonical);
                let Some(link) = blobs::link(tx, id, &canonical)? else { return Ok(false) };
                revision::release(tx, id, &named, &canonical, force)?;
                if let Some(deletion) = deletion::begin(tx, &scope, id, now, Deleted::Blob(canonical), None)?
                {
                    let link = LinkRecord { due_at: None, ..link };
                    blobs::insert_link(tx, deletion, &canonical, &link)?;
                }
                blobs::remove_link(tx, id, &canonical)?;
                let target = events::gone(TargetKind::Blob, &scope.name, Some(named), None);
                scope.tell(tx, id, now, Action::Delete, target)?;
                Ok(true)
            })
            .await
    }

    /// Records that content of this repository, blob or manifest, is also known as `alias`, a digest of another domain
    /// that the caller has verified, and returns the canonical digest. From then on the content is found under both.
    ///
    /// `known` may be any digest under which the repository has the content. A digest that belongs to other content
    /// already, as every canonical one does, is refused with [`Error::DigestMismatch`].
    pub async fn set_descriptor(
        &self,
        alias: impl Into<ProvisionalDigest>,
        known: impl Into<ProvisionalDigest>,
    ) -> Result<Digest, Error> {
        eviction::make_space(&self.scope.inner, 0).await?;
        let (scope, alias, known) = (self.scope.clone(), alias.into(), known.into());
        let now = scope.inner.clock.now();
        self.scope
            .write(move |tx| {
                let id = scope.id(tx)?;
                let canonical = blobs::resolve(tx, id, &known)?.ok_or(Error::BlobUnknown(known))?;
                if blobs::link(tx, id, &canonical)?.is_none() && !manifests::exists(tx, id, &canonical)? {
                    return Err(Error::BlobUnknown(known));
                }
                match blobs::resolve(tx, id, &alias)? {
                    Some(taken) if taken == canonical => {}
                    Some(taken) => {
                        return Err(Error::DigestMismatch { claimed: alias, computed: taken.into() });
                    }
                    None => blobs::insert_alias(tx, Alias::of(alias, id), &canonical)?,
                }
                // A manifest may have named it by the alias all the time.
                let due = scope.inner.lease_end(id, now);
                blobs::settle_link(tx, id, &canonical, due)?;
                manifests::settle(tx, id, &canonical, now.millis(), due)?;
                Ok(canonical)
            })
            .await
    }
}

/// A repository that a blob can be mounted from, the blob and its link there: `from`, or the first that has it where none is
/// named. What is deleted, isn't served or is private can't be had by a mount either.
fn mountable(
    tx: &impl Read,
    scope: &Scope,
    from: Option<&RepositoryName>,
    named: &ProvisionalDigest,
) -> Result<Option<(RepositoryName, Digest, LinkRecord)>, metadata::Error> {
    let holders = match (from, named) {
        (Some(from), _) => repositories::id_of(tx, from)?.into_iter().collect(),
        (None, ProvisionalDigest::TarSum(sum)) => blobs::repositories_of_tarsum(tx, sum, HOLDERS)?,
        (None, ProvisionalDigest::Digest(digest)) => match blobs::canonical(tx, digest)? {
            Some(canonical) => blobs::repositories_of(tx, &canonical, HOLDERS)?,
            None => Vec::new(),
        },
    };
    for holder in holders {
        let Some(name) = repositories::name_of(tx, holder)? else { continue };
        let Some(canonical) = blobs::resolve(tx, holder, named)? else { continue };
        if let Some(link) = blobs::link(tx, holder, &canonical)?
            && scope.inner.policy.scope.contains(&name)
            && !scope.inner.is_private(tx, &name, holder)?
        {
            return Ok(Some((name, canonical, link)));
        }
    }
    Ok(None)
}
