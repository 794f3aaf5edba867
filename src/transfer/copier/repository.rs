//! The images of one repository: manifests with all that they name, what refers to them, and then their tags.

use std::cell::RefCell;
use std::collections::HashSet;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::{Copier, Failure, IMPORTED, Source, SourceManifest};
use crate::oci::schema1::SignedManifest;
use crate::oci::{
    Child, ChildRole, Descriptor, Digest, Manifest, ManifestKind, MediaType, Reference, Tag,
    detect_media_type,
};
use crate::registry::{ManifestPut, Repository, TagImported, TagPast};
use crate::transfer::children::{Children, Took};
use crate::transfer::turns::Turns;
use crate::transfer::{Error, Skipped};

/// How deep indexes may name indexes.
const DEPTH: usize = 32;

/// A repository that images come to. Memory holds the digests of its manifests that came, were here or can't be taken.
pub(in crate::transfer) struct RepositoryCopy<'c, S: Source> {
    pub(super) copier: &'c Copier<'c, S>,
    pub(in crate::transfer) place: S::Place,
    pub(super) repository: Repository,
    manifests: Turns,
    /// Manifests that are here now, or would be.
    seen: RefCell<HashSet<Digest>>,
    /// Manifests and blobs that can't be taken, and have been told of.
    pub(super) failed: RefCell<HashSet<Digest>>,
    /// Manifests whose referrers have not been asked for yet.
    subjects: RefCell<Vec<Digest>>,
}

/// A manifest as the source has it.
struct Found {
    put: ManifestPut,
    parsed: Manifest,
}

impl<'c, S: Source> RepositoryCopy<'c, S> {
    pub(super) fn new(
        copier: &'c Copier<'c, S>,
        place: S::Place,
        repository: Repository,
    ) -> RepositoryCopy<'c, S> {
        RepositoryCopy {
            copier,
            place,
            repository,
            manifests: Turns::default(),
            seen: RefCell::default(),
            failed: RefCell::default(),
            subjects: RefCell::default(),
        }
    }

    /// Takes an image that the source calls `path`: all that it names, what refers to it, and last its tag.
    pub(in crate::transfer) async fn image(
        &self,
        path: &str,
        named: &Descriptor,
        tag: Option<&Tag>,
    ) -> Result<(), Error> {
        let took = self.manifest(named, 0, tag.is_some_and(Tag::lists_referrers)).await?;
        self.referrers().await?;
        if self.copier.is_over() {
            return Ok(());
        }
        let digest = named.digest;
        match (took, tag) {
            (Took::Here, Some(tag)) => self.point(path, tag, digest).await?,
            (Took::Here, None) => {}
            (Took::Absent, _) => {
                let reason = format!("its manifest {digest} is not there");
                self.copier.skip(Skipped::new(path, reason)).await;
            }
            (Took::Skipped, _) => {
                let reason = format!("its manifest {digest} can't be taken");
                self.copier.skip(Skipped::new(path, reason)).await;
            }
        }
        Ok(())
    }

    /// Whether a manifest is here now, or would be.
    pub(in crate::transfer) fn has(&self, digest: &Digest) -> bool {
        self.seen.borrow().contains(digest)
    }

    /// The subject of a manifest of the source, if it can be read and has one.
    pub(in crate::transfer) async fn subject(&self, named: &Descriptor) -> Option<Digest> {
        let limit = self.copier.registry.policy().max_manifest_bytes;
        let found = self.copier.source.manifest(&self.place, &named.digest, limit).await.ok()??;
        let media_type = detect_media_type(&found.bytes).unwrap_or_else(|| named.media_type.clone());
        let parsed = Manifest::parse(&media_type, &found.bytes).ok()?;
        parsed.subject.map(|subject| subject.digest)
    }

    /// Takes what refers to what has come, until there is no more.
    async fn referrers(&self) -> Result<(), Error> {
        loop {
            let Some(subject) = self.subjects.borrow_mut().pop() else { return Ok(()) };
            if self.copier.is_over() {
                return Ok(());
            }
            match self.copier.source.referrers(&self.place, &subject).await {
                Ok(referrers) => {
                    for digest in referrers {
                        let named = named(digest);
                        if self.manifest(&named, 0, false).await? == Took::Absent {
                            let reason = format!("it refers to {subject}, and is not there");
                            let path = self.copier.source.path(&self.place, &digest);
                            self.copier.skip(Skipped::new(path, reason)).await;
                        }
                    }
                }
                Err(failure) => self.copier.failed(failure).await?,
            }
        }
    }

    /// Takes a manifest, with what it names before it. With `is_list` it is a list of referrers, as its tag says.
    fn manifest<'s>(
        &'s self,
        named: &'s Descriptor,
        depth: usize,
        is_list: bool,
    ) -> LocalBoxFuture<'s, Result<Took, Error>> {
        async move {
            // Another tag or index may be about to take it too.
            let _turn = self.manifests.of(&named.digest).await;
            if self.has(&named.digest) {
                return Ok(Took::Here);
            }
            if self.has_failed(&named.digest) {
                return Ok(Took::Skipped);
            }
            let took = self.take_manifest(named, depth, is_list).await?;
            if took == Took::Here && self.seen.borrow_mut().insert(named.digest) {
                self.subjects.borrow_mut().push(named.digest);
            }
            Ok(took)
        }
        .boxed_local()
    }

    async fn take_manifest(&self, named: &Descriptor, depth: usize, is_list: bool) -> Result<Took, Error> {
        let (copier, digest) = (self.copier, named.digest);
        if self.repository.manifests().exists(&digest)? {
            copier.report.borrow_mut().known_manifests += 1;
            self.known_children(&digest, depth).await?;
            return Ok(Took::Here);
        }
        let limit = copier.registry.policy().max_manifest_bytes;
        let found = match copier.source.manifest(&self.place, &digest, limit).await {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Took::Absent),
            Err(failure) => return self.lost(&digest, failure).await,
        };
        let path = copier.source.path(&self.place, &digest);
        let Found { put, parsed } = match self.read(named, found, &path).await {
            Ok(found) => found,
            Err(skipped) => return Ok(self.fail(&digest, skipped).await),
        };
        if depth >= DEPTH {
            let reason = format!("it is named by an index in an index, {DEPTH} of them in all");
            return Ok(self.fail(&digest, Skipped::new(path, reason)).await);
        }
        let Children { missing, is_sparse } = self.children(&parsed, depth).await?;
        if copier.is_over() {
            return Ok(Took::Skipped);
        }
        if let Some(missing) = missing {
            let reason = format!("it names {missing}, which can't be had");
            return Ok(self.fail(&digest, Skipped::new(path, reason)).await);
        }
        if !copier.options.dry_run
            && let Err(error) = self.repository.manifests().put_as_found(put, is_list).await
        {
            self.failed.borrow_mut().insert(digest);
            copier.refused(&path, error).await?;
            return Ok(Took::Skipped);
        }
        let mut report = copier.report.borrow_mut();
        report.manifests += 1;
        report.sparse_indexes += u64::from(is_sparse);
        Ok(Took::Here)
    }

    /// Looks through the manifests of an index that is here: one of them may have been missing, and others may have been
    /// signed since.
    async fn known_children(&self, digest: &Digest, depth: usize) -> Result<(), Error> {
        let manifests = self.repository.manifests();
        let reference = Reference::Digest(*digest);
        let Some(known) = manifests.stat(&reference)? else { return Ok(()) };
        if ManifestKind::of(&known.media_type) != ManifestKind::Index || depth >= DEPTH {
            return Ok(());
        }
        let Some((_, bytes)) = manifests.read(&reference)? else { return Ok(()) };
        let Ok(parsed) = Manifest::parse(&known.media_type, &bytes) else { return Ok(()) };
        self.children(&parsed, depth).await.map(drop)
    }

    /// Takes what the source has for what it says that it is.
    async fn read(&self, named: &Descriptor, found: SourceManifest, path: &str) -> Result<Found, Skipped> {
        let SourceManifest { bytes, media_type } = found;
        let of_descriptor = Some(&named.media_type).filter(|kind| **kind != MediaType::OCTET_STREAM).cloned();
        let media_type = media_type.or_else(|| detect_media_type(&bytes)).or(of_descriptor);
        let unknown = || Skipped::new(path, "it is no manifest of a kind that is known here");
        let media_type = media_type.ok_or_else(unknown)?;
        let (computed, parsed) = if media_type == MediaType::DOCKER_MANIFEST_SCHEMA1_SIGNED {
            let document = bytes.clone();
            // Its digest is that of what was signed.
            let opened = tokio::task::spawn_blocking(move || {
                let signed = SignedManifest::parse(&document).map_err(|error| error.to_string())?;
                let parsed = Manifest::parse(&MediaType::DOCKER_MANIFEST_SCHEMA1, signed.payload());
                parsed.map(|parsed| (signed.digest(), parsed)).map_err(|error| error.to_string())
            });
            match opened.await {
                Ok(opened) => opened.map_err(|reason| Skipped::new(path, reason))?,
                Err(error) => return Err(Skipped::new(path, error.to_string())),
            }
        } else {
            let parsed = Manifest::parse(&media_type, &bytes);
            let parsed = parsed.map_err(|error| Skipped::new(path, error.to_string()))?;
            (Digest::of(named.digest.algorithm(), &bytes), parsed)
        };
        if computed != named.digest {
            return Err(Skipped::new(path, format!("its bytes have another digest: {computed}")));
        }
        let put = ManifestPut {
            payload: bytes,
            media_type,
            reference: Reference::Digest(named.digest),
            tags: Vec::new(),
            actor: self.copier.options.actor.clone(),
        };
        Ok(Found { put, parsed })
    }

    /// Takes what a manifest names.
    async fn children(&self, manifest: &Manifest, depth: usize) -> Result<Children, Error> {
        let has_sizes = manifest.kind != ManifestKind::Schema1;
        let take = |child: &'_ Child| {
            let (named, role) = (child.descriptor.clone(), child.role);
            async move {
                match role {
                    // BuildKit's cache indexes name blobs where others name manifests.
                    ChildRole::Manifest if ManifestKind::of(&named.media_type) == ManifestKind::Opaque => {
                        match self.blob(&named, true).await? {
                            Took::Absent => self.manifest(&named, depth + 1, false).await,
                            took => Ok(took),
                        }
                    }
                    ChildRole::Manifest => self.manifest(&named, depth + 1, false).await,
                    ChildRole::Config | ChildRole::Layer => self.blob(&named, has_sizes).await,
                }
            }
        };
        Children::of(manifest, || self.copier.is_over(), take).await
    }

    /// Points a tag to a manifest that is here.
    ///
    /// A tag that is here already moves where an import has set it, so that imports that are repeated follow their source.
    async fn point(&self, path: &str, tag: &Tag, digest: Digest) -> Result<(), Error> {
        let copier = self.copier;
        let (tags, now) = (self.repository.tags(), copier.registry.now());
        let here = tags.get(tag)?;
        let newest = tags.history(tag, None, 1);
        let newest = match &here {
            Some(here) => newest?.items.pop().filter(|newest| newest.digest == here.canonical),
            None => None,
        };
        let may_move = newest.filter(|newest| copier.options.move_tags || newest.actor.starts_with(IMPORTED));
        if copier.options.dry_run {
            let mut report = copier.report.borrow_mut();
            match here {
                Some(here) if here.canonical == digest || here.digest == digest => report.known_tags += 1,
                Some(here) if may_move.is_none() => {
                    drop(report);
                    copier.skip(Skipped::new(path, stays(&here.canonical))).await;
                }
                Some(_) | None => report.tags += 1,
            }
            return Ok(());
        }
        let past: Vec<TagPast> =
            may_move.iter().map(|newest| TagPast { digest: newest.digest, at: newest.at }).collect();
        // Two imports may come in the same millisecond.
        let after = past.first().map(|past| past.at.saturating_add(Duration::from_millis(1)));
        let now = TagPast { digest, at: after.map_or(now, |after| after.max(now)) };
        match tags.import(tag, past, now, &copier.tagger).await {
            Ok(TagImported::Set) => copier.report.borrow_mut().tags += 1,
            Ok(TagImported::Unchanged) => copier.report.borrow_mut().known_tags += 1,
            Ok(TagImported::Stays(digest)) => copier.skip(Skipped::new(path, stays(&digest))).await,
            Err(error) => copier.refused(path, error).await?,
        }
        Ok(())
    }

    /// Tells of something that can't be taken, and remembers that.
    async fn fail(&self, digest: &Digest, skipped: Skipped) -> Took {
        self.failed.borrow_mut().insert(*digest);
        self.copier.skip(skipped).await;
        Took::Skipped
    }

    /// The same for a failure of the source.
    pub(super) async fn lost(&self, digest: &Digest, failure: Failure) -> Result<Took, Error> {
        self.failed.borrow_mut().insert(*digest);
        self.copier.failed(failure).await?;
        Ok(Took::Skipped)
    }

    pub(super) fn has_failed(&self, digest: &Digest) -> bool {
        self.failed.borrow().contains(digest)
    }
}

fn stays(digest: &Digest) -> String {
    format!(
        "the tag points to {digest} here, which was not set by an import, and stays; --move-tags moves it"
    )
}

/// A manifest of which only the digest is known.
pub(in crate::transfer) fn named(digest: Digest) -> Descriptor {
    Descriptor {
        media_type: MediaType::OCTET_STREAM,
        digest,
        size: 0,
        artifact_type: None,
        urls: Vec::new(),
        annotations: std::collections::BTreeMap::new(),
    }
}
