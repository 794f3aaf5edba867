//! The images of one repository: a manifest with what it names and what refers to it, and its tags.

use std::cell::RefCell;
use std::collections::HashMap;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use serde::Deserialize;

use super::{Error, Fate, Restoring};
use crate::fsio::FileError;
use crate::oci::{ChildRole, Digest, Manifest, MediaType, Reference, RepositoryName, Tag};
use crate::registry::{self, ManifestDescriptor, ManifestPut, Repository, TagImported, TagPast};

/// How deep indexes may name indexes, and referrers refer to referrers.
const DEPTH: usize = 32;

/// How much of a tag's history comes with it, the newest.
const HISTORY: usize = 100;

/// So many manifests are remembered as done; more are looked at again.
const REMEMBERED: usize = 200_000;

/// What became of something that something else needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Took {
    /// It is here.
    Here,
    /// The snapshot doesn't have it there either.
    Absent,
}

/// Why something did not come.
#[derive(Debug)]
pub(super) enum Failure {
    /// The backup hasn't got it as it should be, or the registry doesn't take it; other things may come all the same.
    Content(String),
    /// Nothing more can come.
    Ended(Error),
}

impl From<registry::Error> for Failure {
    fn from(error: registry::Error) -> Failure {
        if error.is_about_content() { Failure::Content(reason(&error)) } else { Failure::Ended(error.into()) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Ended(error)
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Failure {
        Failure::Ended(error.into())
    }
}

/// What the registry refuses, with what to do.
fn reason(error: &registry::Error) -> String {
    match error {
        registry::Error::ManifestReferencesUnknown(missing) => {
            let named: Vec<String> = missing.iter().take(3).map(ToString::to_string).collect();
            format!("it names what the snapshot hasn't got: {}", named.join(", "))
        }
        registry::Error::TagImmutable { .. } => {
            format!("{error}; restore it into another repository's data directory, or change the rule")
        }
        error => error.to_string(),
    }
}

/// What is under way in one repository.
pub(super) struct Images<'r> {
    pub(super) restoring: &'r Restoring<'r>,
    name: RepositoryName,
    pub(super) from: Repository,
    pub(super) to: Repository,
    /// What became of manifests, by the digest that names them: a reason where they could not come.
    done: RefCell<HashMap<Digest, Result<Took, String>>>,
    /// Whether all tags of the repository are wanted, so that none has to be looked for.
    is_whole: bool,
}

/// What is read of a descriptor in a list of referrers.
#[derive(Deserialize)]
struct Referrer {
    digest: Digest,
}

impl<'r> Images<'r> {
    pub(super) fn new(restoring: &'r Restoring<'r>, name: &RepositoryName) -> Images<'r> {
        Images {
            restoring,
            name: name.clone(),
            from: restoring.scratch.namespace().repository(name),
            to: restoring.target.namespace().repository(name),
            done: RefCell::default(),
            is_whole: restoring.options.wanted.has_all_of(name),
        }
    }

    /// Restores a tag: what it points to, and then the tag.
    pub(super) async fn tag(&self, tag: &Tag) -> Result<(), Error> {
        let Some(there) = self.from.tags().get(tag)? else { return Ok(()) };
        let fate = match self.point(tag, &there).await {
            Ok(fate) => fate,
            Err(Failure::Content(reason)) => Fate::Failed { reason },
            Err(Failure::Ended(error)) => return Err(error),
        };
        self.restoring.told(format!("{}:{tag}", self.name), there.digest, fate).await;
        Ok(())
    }

    async fn point(&self, tag: &Tag, there: &ManifestDescriptor) -> Result<Fate, Failure> {
        let options = self.restoring.options;
        let here = self.to.tags().get(tag)?.map(|here| here.canonical);
        let former = here.filter(|here| *here != there.canonical);
        if let Some(here) = former.filter(|_| !options.force) {
            return Ok(Fate::Conflict { here });
        }
        if former.is_some() {
            // Before anything of it comes.
            let immutable = &self.restoring.target.policy().immutable;
            immutable.require_mutable(&self.name, tag, former.as_ref(), Some(&there.canonical))?;
        }
        match self.manifest(there.digest, 0, tag.lists_referrers()).await? {
            Took::Here => {}
            Took::Absent => return Err(Failure::Content("the snapshot hasn't got its manifest".to_owned())),
        }
        let fate = match (here, former) {
            (_, Some(former)) => Fate::Moved { former },
            (Some(_), None) => Fate::Here,
            (None, None) => Fate::Came,
        };
        if options.dry_run || fate == Fate::Here {
            return Ok(fate);
        }
        if former.is_some() {
            self.to.tags().tag(&there.digest, tag, &options.actor).await?;
            return Ok(fate);
        }
        let mut past = self.from.tags().history(tag, None, HISTORY)?.items;
        past.reverse();
        let mut past: Vec<TagPast> =
            past.into_iter().map(|entry| TagPast { digest: entry.named, at: entry.at }).collect();
        let at = past.pop().map_or(there.pushed_at, |now| now.at);
        let now = TagPast { digest: there.digest, at };
        match self.to.tags().import(tag, past, now, &options.actor).await? {
            TagImported::Set => Ok(fate),
            TagImported::Unchanged => Ok(Fate::Here),
            // Somebody has set it meanwhile.
            TagImported::Stays(here) => Ok(Fate::Conflict { here }),
        }
    }

    /// Restores a manifest of the list; most have come with their tags by now.
    pub(super) async fn untagged(&self, there: &ManifestDescriptor) -> Result<(), Error> {
        let is_known = self.done.borrow().contains_key(&there.canonical);
        if is_known {
            return Ok(());
        }
        // What a tag points to that stays elsewhere comes as a manifest.
        match self.manifest(there.canonical, 0, false).await {
            Ok(_) => Ok(()),
            Err(Failure::Content(reason)) => {
                let name = format!("{}@{}", self.name, there.canonical);
                self.restoring.told(name, there.canonical, Fate::Failed { reason }).await;
                Ok(())
            }
            Err(Failure::Ended(error)) => Err(error),
        }
    }

    /// Brings a manifest, with what it names before it and what refers to it behind it.
    fn manifest(
        &self,
        named: Digest,
        depth: usize,
        is_list: bool,
    ) -> LocalBoxFuture<'_, Result<Took, Failure>> {
        async move {
            if let Some(done) = self.done.borrow().get(&named) {
                return done.clone().map_err(Failure::Content);
            }
            let Some(there) = self.from.manifests().stat(&Reference::Digest(named))? else {
                return Ok(Took::Absent);
            };
            let took = self.take_manifest(&there, depth, is_list).await;
            let kept = match &took {
                Ok(took) => Ok(*took),
                Err(Failure::Content(reason)) => Err(reason.clone()),
                Err(Failure::Ended(_)) => return took,
            };
            self.remember(named, kept.clone());
            self.remember(there.canonical, kept);
            if took.is_ok() && depth < DEPTH {
                self.followers(&there, depth).await?;
            }
            took
        }
        .boxed_local()
    }

    fn remember(&self, digest: Digest, took: Result<Took, String>) {
        let mut done = self.done.borrow_mut();
        if done.len() >= REMEMBERED {
            done.clear();
        }
        done.insert(digest, took);
    }

    async fn take_manifest(
        &self,
        there: &ManifestDescriptor,
        depth: usize,
        is_list: bool,
    ) -> Result<Took, Failure> {
        if depth >= DEPTH {
            return Err(Failure::Content(format!("indexes name indexes, more than {DEPTH} deep")));
        }
        let is_signed = there.media_type == MediaType::DOCKER_MANIFEST_SCHEMA1_SIGNED;
        let bytes = self.payload(&there.canonical)?;
        let parsed_as = if is_signed { MediaType::DOCKER_MANIFEST_SCHEMA1 } else { there.media_type.clone() };
        let parsed = Manifest::parse(&parsed_as, &bytes)
            .map_err(|error| Failure::Content(format!("{}: {error}", there.canonical)))?;
        for child in &parsed.children {
            let digest = child.descriptor.digest;
            let took = match child.role {
                ChildRole::Manifest => match self.manifest(digest, depth + 1, false).await? {
                    // BuildKit's cache indexes name blobs where others name manifests.
                    Took::Absent => self.blob(&child.descriptor).await?,
                    Took::Here => Took::Here,
                },
                ChildRole::Config | ChildRole::Layer => self.blob(&child.descriptor).await?,
            };
            if took == Took::Absent && child.role != ChildRole::Manifest && child.is_distributable() {
                return Err(Failure::Content(format!("it names {digest}, which the snapshot hasn't got")));
            }
        }
        let reference = Reference::Digest(there.digest);
        let is_here = self.to.manifests().exists(&there.digest)?;
        if self.restoring.options.dry_run {
            self.restoring.report.borrow_mut().manifests += u64::from(!is_here);
            return Ok(Took::Here);
        }
        if is_here {
            self.to.manifests().hold(&reference).await?;
        }
        // Signatures that are here stay, and others join them.
        if !is_here || is_signed {
            let payload = if is_signed {
                let signed = self.from.manifests().get(&Reference::Digest(there.canonical))?;
                signed.map(|(_, bytes)| bytes).ok_or(registry::Error::ManifestUnknown)?
            } else {
                bytes.into()
            };
            let put = ManifestPut {
                payload,
                media_type: there.media_type.clone(),
                reference,
                tags: Vec::new(),
                actor: self.restoring.options.actor.clone(),
            };
            self.to.manifests().put_as_found(put, is_list).await?;
            self.restoring.report.borrow_mut().manifests += u64::from(!is_here);
        }
        Ok(Took::Here)
    }

    /// Brings what refers to a manifest: signatures, attestations and whatever else names it as its subject, and the tags under
    /// which clients keep such things. One that can't come is told of by its own name.
    async fn followers(&self, there: &ManifestDescriptor, depth: usize) -> Result<(), Failure> {
        let mut after: Option<String> = None;
        loop {
            let page = self.from.referrers().list(&there.digest, None, after.as_deref())?;
            for descriptor in &page.descriptors {
                let Ok(Referrer { digest }) = serde_json::from_slice(descriptor) else { continue };
                match self.manifest(digest, depth + 1, false).await {
                    Ok(_) => {}
                    Err(Failure::Content(reason)) => {
                        let name = format!("{}@{digest}", self.name);
                        self.restoring.told(name, digest, Fate::Failed { reason }).await;
                    }
                    Err(ended) => return Err(ended),
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if self.is_whole {
            return Ok(());
        }
        let names = [Some(there.canonical), Some(there.digest).filter(|named| *named != there.canonical)];
        for name in names.into_iter().flatten() {
            let tags = Tag::signatures_of(&name).into_iter().chain([Tag::referrers_of(&name)]);
            for tag in tags {
                if !self.restoring.options.wanted.contains(&self.name, &tag) {
                    self.tag(&tag).boxed_local().await?;
                }
            }
        }
        Ok(())
    }
}
