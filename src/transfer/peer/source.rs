//! What another registry is asked for, with patience where it wants that.

use std::time::Duration;

use bytes::Bytes;

use super::Peer;
use crate::client::registry::{Blob, Error as Refusal, Missing, Outage};
use crate::oci::{Descriptor, Digest, DigestAlgorithm, Manifest, MediaType, Reference, RepositoryName, Tag};
use crate::transfer::copier::{Failure, Pieces, Source, SourceManifest};
use crate::transfer::{Error, Skipped, Told};

/// How often somebody is asked who says to come back later, and how long that may be.
const PATIENCE: u32 = 20;
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

/// After so many requests in a row that found nobody there is nobody.
const FAILURES: u32 = 4;

/// How often a blob that breaks off is asked for again, if something more came each time.
const RESUMES: u32 = 50;

impl Peer<'_> {
    /// Asks, and waits for as long as the other registry wants to be left alone; says whether it is to be given up.
    pub(super) async fn ask<T, F: Future<Output = Result<T, Refusal>>>(
        &self,
        question: impl Fn() -> F,
    ) -> Result<T, Refusal> {
        let mut asked = 0;
        loop {
            let refused = match question().await {
                Err(error @ Refusal::RateLimited { .. }) => error,
                answered => {
                    self.count(answered.as_ref().err());
                    return answered;
                }
            };
            let Refusal::RateLimited { retry_after, .. } = &refused else { return Err(refused) };
            asked += 1;
            // Who doesn't say when is asked after a second, two, four, and at last every minute.
            let wait =
                retry_after.unwrap_or(Duration::from_secs(1 << asked.min(6)).min(Duration::from_secs(60)));
            if asked > PATIENCE
                || wait > LONGEST_WAIT
                || !self.wait(wait.max(Duration::from_millis(100))).await
            {
                return Err(refused);
            }
        }
    }

    /// Waits; `false` where nobody wants it to go on.
    async fn wait(&self, time: Duration) -> bool {
        let step = Duration::from_secs(1);
        let mut left = time;
        while left > Duration::ZERO {
            if (self.tell)(Told::Waiting(left.as_secs().max(1))).await.is_break() {
                return false;
            }
            tokio::time::sleep(left.min(step)).await;
            left = left.saturating_sub(step);
        }
        true
    }

    fn count(&self, error: Option<&Refusal>) {
        let is_away = matches!(
            error,
            Some(Refusal::Unavailable {
                outage: Outage::Unreachable | Outage::TimedOut | Outage::Interrupted,
                ..
            })
        );
        self.failures.set(if is_away { self.failures.get().saturating_add(1) } else { 0 });
    }

    /// What follows from a refusal: something that can't be taken, or the end where nobody is there any more.
    pub(super) fn failure(&self, path: &str, error: &Refusal) -> Failure {
        match error {
            Refusal::RateLimited { .. } => {
                Failure::Ended(Error::Unusable(format!("{error}. What came is here; import again later")))
            }
            _ if self.failures.get() >= FAILURES => Failure::Ended(Error::Unusable(format!(
                "{error}. What came is here; the next import goes on behind it"
            ))),
            error => Failure::Skipped(Skipped::new(path, error.to_string())),
        }
    }

    /// How messages name a repository of it, or something in that.
    pub(super) fn path_of(&self, name: &str) -> String {
        format!("{}/{name}", self.upstream.address().to_string().trim_end_matches('/'))
    }

    /// What a tag points to; `None` if there is no such tag.
    pub(super) async fn tag(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        limit: usize,
    ) -> Result<Option<Digest>, Refusal> {
        let reference = Reference::Tag(tag.clone());
        let headed = self.ask(|| self.upstream.head_manifest(name, &reference, &MediaType::MANIFESTS)).await;
        match headed {
            Ok(head) => {
                if let Some(digest) = head.digest {
                    return Ok(Some(digest));
                }
                let got = self
                    .ask(|| self.upstream.get_manifest(name, &reference, &MediaType::MANIFESTS, limit))
                    .await?;
                let computed = || Digest::of(DigestAlgorithm::CANONICAL, &got.bytes);
                Ok(Some(got.digest.unwrap_or_else(computed)))
            }
            Err(Refusal::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Source for Peer<'_> {
    type Place = RepositoryName;
    type Pieces = BlobPieces;

    async fn manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        limit: usize,
    ) -> Result<Option<SourceManifest>, Failure> {
        let reference = Reference::Digest(*digest);
        match self.ask(|| self.upstream.get_manifest(name, &reference, &MediaType::MANIFESTS, limit)).await {
            Ok(got) => Ok(Some(SourceManifest { bytes: got.bytes, media_type: Some(got.media_type) })),
            Err(Refusal::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failure(&self.path(name, digest), &error)),
        }
    }

    async fn blob(&self, name: &RepositoryName, digest: &Digest) -> Result<Option<BlobPieces>, Failure> {
        match self.ask(|| self.upstream.get_blob(name, digest, 0)).await {
            Ok(blob) => Ok(Some(BlobPieces {
                size: blob.size,
                blob,
                upstream: self.upstream.clone(),
                name: name.clone(),
                digest: *digest,
                path: self.path(name, digest),
                received: 0,
                resumed_at: 0,
                resumes: 0,
            })),
            Err(Refusal::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failure(&self.path(name, digest), &error)),
        }
    }

    async fn blob_len(&self, name: &RepositoryName, named: &Descriptor) -> Result<Option<u64>, Failure> {
        match self.ask(|| self.upstream.head_blob(name, &named.digest)).await {
            Ok(head) => Ok(Some(head.size)),
            Err(Refusal::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failure(&self.path(name, &named.digest), &error)),
        }
    }

    async fn referrers(&self, name: &RepositoryName, subject: &Digest) -> Result<Vec<Digest>, Failure> {
        let (mut digests, mut page) = (Vec::new(), None);
        while !self.lacks_referrers.get() {
            let asked = self.ask(|| self.upstream.referrers(name, subject, None, page.as_ref())).await;
            let listed = match asked {
                Ok(listed) => listed,
                Err(Refusal::NotFound { what, .. }) => {
                    // The lists are under tags then, which come as all tags do.
                    self.lacks_referrers.set(what == Missing::Referrers);
                    break;
                }
                Err(error) => return Err(self.failure(&self.path(name, subject), &error)),
            };
            let parsed = Manifest::parse(&MediaType::OCI_IMAGE_INDEX, &listed.index);
            let parsed = parsed.map_err(|error| {
                Skipped::new(
                    self.path(name, subject),
                    format!("the list of what refers to it is damaged: {error}"),
                )
            })?;
            digests.extend(parsed.children.iter().map(|child| child.descriptor.digest));
            if listed.next.is_none() || listed.next == page {
                break;
            }
            page = listed.next;
        }
        Ok(digests)
    }

    fn path(&self, name: &RepositoryName, digest: &Digest) -> String {
        format!("{}@{digest}", self.path_of(name.as_str()))
    }
}

/// A blob on its way. One that breaks off is asked for from where it stands.
pub(super) struct BlobPieces {
    blob: Blob,
    upstream: crate::client::registry::Upstream,
    name: RepositoryName,
    digest: Digest,
    path: String,
    size: Option<u64>,
    received: u64,
    resumed_at: u64,
    resumes: u32,
}

impl BlobPieces {
    async fn resume(&mut self, error: Refusal) -> Result<(), Failure> {
        let has_moved = self.received > self.resumed_at || self.resumes == 0;
        if !matches!(error, Refusal::Unavailable { .. }) || !has_moved || self.resumes >= RESUMES {
            return Err(Failure::Skipped(Skipped::new(&self.path, error.to_string())));
        }
        self.resumes += 1;
        self.resumed_at = self.received;
        match self.upstream.get_blob(&self.name, &self.digest, self.received).await {
            Ok(blob) => {
                self.blob = blob;
                Ok(())
            }
            Err(error) => Err(Failure::Skipped(Skipped::new(&self.path, error.to_string()))),
        }
    }
}

impl Pieces for BlobPieces {
    fn size(&self) -> Option<u64> {
        self.size
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let mut piece = match self.blob.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.resume(error).await?;
                    continue;
                }
            };
            // One that can't go on begins anew, with what is here already.
            let known = self.received.saturating_sub(self.blob.offset);
            self.blob.offset += piece.len() as u64;
            let known = usize::try_from(known).unwrap_or(usize::MAX).min(piece.len());
            let piece = piece.split_off(known);
            self.received += piece.len() as u64;
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }
}
