//! Manifests of upstreams: what is here, what has to be asked for, and what is done when nobody answers.

use std::time::Duration;

use crate::client::registry::{Manifest, ManifestHead, Missing};
use crate::clock::{Timestamp, monotonic};
use crate::oci::{Digest, ManifestKind, MediaType, Reference, Tag};
use crate::registry::{self, Actor, ManifestPut};

use super::told::Told;
use super::{CachedRepository, Error, Outcome, Source};

/// What is known of a manifest that somebody asked for by HEAD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Headed {
    /// The registry has it.
    Stored(Outcome),
    /// The upstream has it, and says its media type, digest and size.
    Upstream {
        /// Its media type.
        media_type: MediaType,
        /// Its digest.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
}

/// What a look at a tag has found.
#[derive(Debug, Clone)]
pub(super) enum Looked {
    /// The tag here points to what the upstream's does.
    Same,
    /// The upstream's points to what isn't here, or did when it was asked.
    Other(ManifestHead, Timestamp),
}

impl Headed {
    /// What is said of a manifest, if it is all that a HEAD has to say.
    fn of(head: &ManifestHead) -> Option<Headed> {
        let (media_type, digest, size) = (head.media_type.clone()?, head.digest?, head.size?);
        Some(Headed::Upstream { media_type, digest, size })
    }
}

impl CachedRepository {
    /// Sees to it that the registry has the manifest under the reference: the one that the upstream has, or for a tag the one
    /// that it had, where the upstream can't be asked.
    pub async fn manifest(&self, reference: &Reference) -> Result<Outcome, Error> {
        let found = match reference {
            Reference::Digest(digest) if self.has(digest)? => Ok(Outcome::of(Source::Hit)),
            Reference::Digest(digest) => self.fetch(*digest).await.map(|()| Outcome::of(Source::Miss)),
            Reference::Tag(tag) => self.current(tag, self.refresh(tag)).await,
        };
        match found {
            // Docker Hub refuses what it hasn't got, and the name may be one of one's own.
            Err(Error::Refused(reason)) if self.is_by_default => {
                Err(Error::NotFound { what: Missing::Manifest, reason })
            }
            found => found,
        }
    }

    /// The same for somebody who doesn't want the manifest itself: what the registry doesn't have is not fetched.
    ///
    /// Where the request names no upstream it may be from somebody who is about to push the manifest under that name, and who
    /// must hear that it isn't there whenever nothing better is known.
    pub async fn head_manifest(&self, reference: &Reference) -> Result<Headed, Error> {
        match self.head(reference).await {
            Err(error) if self.is_by_default && !matches!(error, Error::Registry(_)) => {
                Err(Error::NotFound { what: Missing::Manifest, reason: error.to_string() })
            }
            headed => headed,
        }
    }

    async fn head(&self, reference: &Reference) -> Result<Headed, Error> {
        match reference {
            Reference::Digest(digest) if self.has(digest)? => Ok(Headed::Stored(Outcome::of(Source::Hit))),
            Reference::Digest(digest) => {
                if let Some(headed) = Headed::of(&self.ask_for_head(reference).await?) {
                    return Ok(headed);
                }
                self.fetch(*digest).await?;
                Ok(Headed::Stored(Outcome::of(Source::Miss)))
            }
            Reference::Tag(tag) => {
                let mut headed = None;
                let look = async {
                    if let Looked::Other(head, _) = self.look(tag).await? {
                        headed = Headed::of(&head);
                        if headed.is_none() {
                            return self.refresh(tag).await;
                        }
                    }
                    Ok(Source::Revalidated)
                };
                let outcome = self.current(tag, look).await?;
                Ok(headed.filter(|_| outcome.source != Source::Stale).unwrap_or(Headed::Stored(outcome)))
            }
        }
    }

    fn has(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(self.stored().manifests().exists(digest)?)
    }

    fn now(&self) -> Timestamp {
        self.upstream.settings.client.clock.now()
    }

    /// Believes a tag that was checked not long ago; of others hears what `ask` says, or does without where there is a tag and
    /// the upstream has nothing to say.
    async fn current(
        &self,
        tag: &Tag,
        ask: impl Future<Output = Result<Source, Error>>,
    ) -> Result<Outcome, Error> {
        let settings = &self.upstream.settings;
        let stored = self.stored();
        if stored.manifests().stat(&Reference::Tag(tag.clone()))?.is_none() {
            return ask.await.map(Outcome::of);
        }
        let checked_at = stored.cached().checked_at(tag)?;
        let now = self.now();
        // A clock that was set back has seen nothing of what it says came later.
        let is_fresh = checked_at.is_some_and(|at| at <= now && now.since(at) < settings.revalidate_after);
        if is_fresh || settings.is_offline {
            return Ok(Outcome::of(Source::Hit));
        }
        // Where somebody has waited in vain the upstream is asked all the same, for those who come later.
        let is_slow = self.upstream.is_slow();
        let patience = if is_slow { Duration::ZERO } else { settings.patience };
        let reason = match tokio::time::timeout(patience, ask).await {
            Ok(Ok(source)) => return Ok(Outcome::of(source)),
            Ok(Err(error)) if self.may_do_without(&error) => error.to_string(),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                if !is_slow {
                    self.upstream.note_slow();
                }
                format!("{} takes longer than {:?} to answer", settings.host, settings.patience)
            }
        };
        let age = checked_at.map_or_else(String::new, |at| format!(" of {at}"));
        let warning = Some(format!("this is the cached copy{age}, which may be out of date: {reason}"));
        Ok(Outcome { source: Source::Stale, warning })
    }

    /// Whether a copy may be given where asking has failed so.
    pub(super) fn may_do_without(&self, error: &Error) -> bool {
        match error {
            Error::RateLimited { .. }
            | Error::Unavailable { .. }
            | Error::Invalid(_)
            | Error::Registry(_) => true,
            // Whom the upstream refuses may not have the copy either, unless everybody may.
            Error::Refused(_) => self.upstream.settings.is_public,
            Error::NotFound { .. }
            | Error::Denied(_)
            | Error::Private(_)
            | Error::HostUnknown { .. }
            | Error::NameTooLong { .. } => false,
        }
    }

    /// Brings the tag here to where the upstream's is; once for all who want it, and to its end.
    async fn refresh(&self, tag: &Tag) -> Result<Source, Error> {
        let (own, tag) = (self.clone(), tag.clone());
        let key = (self.name.clone(), tag.clone());
        let refreshed = self.cache.flights().tags.join(key, || async move { own.refresh_alone(&tag).await });
        refreshed.await.unwrap_or_else(|| Err(panicked()))
    }

    async fn refresh_alone(&self, tag: &Tag) -> Result<Source, Error> {
        match self.follow_tag(tag).await {
            // It may have moved since it was looked at, and what it pointed to may be gone.
            Err(Error::NotFound { what: Missing::Manifest, .. }) => self.follow_tag(tag).await,
            followed => followed,
        }
    }

    async fn follow_tag(&self, tag: &Tag) -> Result<Source, Error> {
        let Looked::Other(head, asked_at) = self.look(tag).await? else { return Ok(Source::Revalidated) };
        let digest = match head.digest {
            Some(digest) => {
                self.fetch(digest).await?;
                digest
            }
            None => self.keep(self.ask_for(&Reference::Tag(tag.clone())).await?, Vec::new()).await?,
        };
        // Who fetched it for somebody else may not have known of the tag.
        self.point(tag, &digest, asked_at).await?;
        Ok(Source::Miss)
    }

    /// Finds out where the upstream's tag points; once for all who want to know.
    async fn look(&self, tag: &Tag) -> Result<Looked, Error> {
        let (own, tag) = (self.clone(), tag.clone());
        let key = (self.name.clone(), tag.clone());
        let looked = self.cache.flights().looks.join(key, || async move { own.look_alone(&tag).await });
        looked.await.unwrap_or_else(|| Err(panicked()))
    }

    async fn look_alone(&self, tag: &Tag) -> Result<Looked, Error> {
        let (heads, believed) = (self.cache.heads(), self.upstream.settings.revalidate_after);
        // Where the manifest couldn't be fetched now, a copy of the former one is better.
        if let Some((head, asked_at)) = heads.of(&self.name, tag, monotonic(), believed)
            && self.upstream.left_alone().is_none()
        {
            return Ok(Looked::Other(head, asked_at));
        }
        let asked_at = self.now();
        let head = self.ask_for_head(&Reference::Tag(tag.clone())).await?;
        let Some(digest) = head.digest else { return Ok(Looked::Other(head, asked_at)) };
        if self.has(&digest)? {
            heads.forget(&self.name, tag);
            self.point(tag, &digest, asked_at).await?;
            return Ok(Looked::Same);
        }
        heads.remember(&self.name, tag, head.clone(), monotonic(), asked_at);
        Ok(Looked::Other(head, asked_at))
    }

    /// Points the tag to a manifest that is here, and notes when that was found to be right.
    async fn point(&self, tag: &Tag, digest: &Digest, asked_at: Timestamp) -> Result<(), Error> {
        let stored = self.stored();
        let manifests = stored.manifests();
        let canonical = |reference| Ok::<_, Error>(manifests.stat(&reference)?.map(|found| found.canonical));
        if canonical(Reference::Tag(tag.clone()))? != canonical(Reference::Digest(*digest))? {
            stored.tags().tag(digest, tag, &self.actor()).await?;
        }
        stored.cached().set_checked(tag, asked_at).await?;
        Ok(())
    }

    /// Fetches a manifest that isn't here; once for all who want it, and to its end.
    async fn fetch(&self, digest: Digest) -> Result<(), Error> {
        let own = self.clone();
        let key = (self.name.clone(), digest);
        let fetched =
            self.cache.flights().manifests.join(key, || async move { own.fetch_alone(digest).await });
        fetched.await.unwrap_or_else(|| Err(panicked()))
    }

    async fn fetch_alone(&self, digest: Digest) -> Result<(), Error> {
        if self.has(&digest)? {
            return Ok(());
        }
        let asked = self.ask_for(&Reference::Digest(digest)).await;
        // What the upstream hasn't got is no tag's any more.
        let tags = match asked {
            Ok(_) | Err(Error::NotFound { .. }) => self.cache.heads().take(&self.name, &digest, monotonic()),
            Err(_) => Vec::new(),
        };
        self.keep(asked?, tags).await.map(drop)
    }

    /// Puts a manifest into the registry, with the tags that are known to be its own.
    async fn keep(&self, manifest: Manifest, tags: Vec<(Tag, Timestamp)>) -> Result<Digest, Error> {
        let Manifest { media_type, digest, bytes, .. } = manifest;
        if digest.is_none() && ManifestKind::of(&media_type) == ManifestKind::Opaque {
            // A page for people, of somebody between here and the upstream, is none either.
            let reason = format!("{} has sent {media_type} for a manifest, without a digest", self.host());
            return Err(Error::Invalid(reason));
        }
        let digest = digest.unwrap_or_else(|| Digest::of(crate::oci::DigestAlgorithm::CANONICAL, &bytes));
        let put = ManifestPut {
            payload: bytes,
            media_type,
            reference: Reference::Digest(digest),
            tags: tags.iter().map(|(tag, _)| tag.clone()).collect(),
            actor: self.actor(),
        };
        let stored = self.stored();
        stored.manifests().put(put).await.map_err(|error| self.not_kept(error))?;
        for (tag, asked_at) in &tags {
            stored.cached().set_checked(tag, *asked_at).await?;
        }
        Ok(digest)
    }

    /// Tells what is wrong with a manifest from what is wrong with the store.
    fn not_kept(&self, error: registry::Error) -> Error {
        match error {
            registry::Error::ManifestInvalid(_)
            | registry::Error::SignedManifest(_)
            | registry::Error::DigestMismatch { .. }
            | registry::Error::ManifestTooLarge { .. } => {
                Error::Invalid(format!("{} has sent a manifest that can't be used: {error}", self.host()))
            }
            error => error.into(),
        }
    }

    async fn ask_for_head(&self, reference: &Reference) -> Result<ManifestHead, Error> {
        let client = &self.upstream.client;
        self.ask(&reference.to_string(), client.head_manifest(&self.path, reference, &MediaType::MANIFESTS))
            .await
    }

    async fn ask_for(&self, reference: &Reference) -> Result<Manifest, Error> {
        let limit = self.cache.registry().policy().max_manifest_bytes;
        let question = self.upstream.client.get_manifest(&self.path, reference, &MediaType::MANIFESTS, limit);
        self.ask(&reference.to_string(), question).await
    }

    /// Asks the upstream for something of this repository, unless it said a moment ago that it hasn't got it.
    pub(super) async fn ask<T: Told>(
        &self,
        what: &str,
        question: impl Future<Output = Result<T, crate::client::registry::Error>>,
    ) -> Result<T, Error> {
        let absent = &self.upstream.absent;
        absent.require_unknown(&self.path, what, monotonic())?;
        let answer = self.upstream.ask(question).await;
        if let Err(error) = &answer
            && !self.upstream.settings.is_offline
        {
            absent.note(&self.path, what, error, monotonic());
        }
        answer
    }

    /// Who brings what comes from the upstream.
    pub(super) fn actor(&self) -> Actor {
        Actor::new(format!("upstream {}", self.host()))
    }
}

/// What those hear who waited for work that broke.
pub(super) fn panicked() -> Error {
    let reason = "the cache failed to do this; try again, and look for a panic in its log".to_owned();
    Error::Unavailable { reason, retry_after: Duration::from_secs(1) }
}
