//! A registry, and what everybody has been told of it: after each step all of that has to be true.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use orlop::clock::{Clock, Timestamp};
use orlop::oci::{Digest, DigestAlgorithm, Manifest, Reference, Tag};
use orlop::registry::{Actor, BlobWriter, Collection, DeletedName, Error, Repository};

use crate::store::{
    IMAGE, INDEX, LEASE, Store, image, index, media_type, no_undo, push_blob, sha256, tag, try_push,
};

/// One step of a script. Blobs are named by their bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// Asks whether a repository has a blob, and pushes it where it hasn't.
    Head(&'static str, &'static str),
    /// Pushes a blob, whether or not it is there.
    Push(&'static str, &'static str),
    /// The first half of an upload.
    Begin(&'static str, &'static str),
    /// The second half.
    Finish(&'static str, &'static str),
    /// Mounts a blob from the second repository into the first, and pushes it where that has found nothing.
    Mount(&'static str, &'static str, &'static str),
    /// Pushes an image under a tag, or by its digest where there is none.
    Image(&'static str, Picture, Option<&'static str>),
    /// Asks for an image by its digest, and pushes it where it isn't there.
    HeadImage(&'static str, Picture),
    /// Pushes an index of one image under a tag.
    Index(&'static str, Picture, &'static str),
    DeleteImage(&'static str, Picture),
    DeleteTag(&'static str, &'static str),
    DeleteBlob(&'static str, &'static str),
    DeleteRepository(&'static str),
    UndeleteImage(&'static str, Picture),
    UndeleteTag(&'static str, &'static str),
    UndeleteRepository(&'static str),
    /// One step of the collection.
    Collect,
    /// The whole collection.
    CollectAll,
    /// Time goes by.
    Pass(Duration),
    Restart,
}

/// An image of some blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) layers: &'static [&'static str],
    /// The layers of the image that it is about.
    pub(crate) subject: Option<&'static [&'static str]>,
}

/// An image of these blobs.
pub(crate) const fn of(layers: &'static [&'static str]) -> Picture {
    Picture { layers, subject: None }
}

/// One that is about another.
pub(crate) const fn about(layers: &'static [&'static str], subject: Picture) -> Picture {
    Picture { layers, subject: Some(subject.layers) }
}

impl Picture {
    fn payload(&self) -> String {
        let subject = self.subject.map(|layers| image(layers, None));
        image(self.layers, subject.as_deref())
    }

    fn digest(&self) -> Digest {
        sha256(self.payload().as_bytes())
    }
}

pub(crate) struct World {
    /// Empty only while it is restarted.
    store: Option<Store>,
    undo: Duration,
    /// Until when a repository has to have a blob.
    blobs: BTreeMap<(&'static str, Digest), Timestamp>,
    /// Until when a repository has to have a manifest.
    manifests: BTreeMap<(&'static str, Digest), Timestamp>,
    tags: BTreeMap<(&'static str, &'static str), Digest>,
    /// What was deleted, until when it can come back, and the tags that go with it.
    deleted: Vec<Deleted>,
    uploads: BTreeMap<(&'static str, &'static str), BlobWriter>,
}

#[derive(Clone)]
struct Deleted {
    repository: &'static str,
    name: DeletedName,
    until: Timestamp,
    tags: Vec<(&'static str, Digest)>,
}

impl Deleted {
    /// Whether it is what a name means: a tag that went with its manifest means that manifest.
    fn answers_to(&self, name: &DeletedName) -> bool {
        let went_with = |tag: &Tag| self.tags.iter().any(|(other, _)| *other == tag.as_str());
        self.name == *name || matches!(name, DeletedName::Tag(tag) if went_with(tag))
    }
}

fn by_digest(digest: Digest) -> Reference {
    Reference::Digest(digest)
}

impl World {
    pub(crate) fn new(undo: Duration) -> World {
        World {
            store: Some(Store::new(Collection { undo, ..no_undo() })),
            undo,
            blobs: BTreeMap::new(),
            manifests: BTreeMap::new(),
            tags: BTreeMap::new(),
            deleted: Vec::new(),
            uploads: BTreeMap::new(),
        }
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().expect("it is there between two steps")
    }

    fn repository(&self, name: &str) -> Repository {
        self.store().repository(name)
    }

    fn now(&self) -> Timestamp {
        self.store().clock.now()
    }

    fn promise_blob(&mut self, repository: &'static str, digest: Digest) {
        let until = self.now().saturating_add(LEASE);
        self.blobs.insert((repository, digest), until);
    }

    fn promise_manifest(&mut self, repository: &'static str, digest: Digest) {
        let until = self.now().saturating_add(LEASE);
        self.manifests.insert((repository, digest), until);
    }

    /// Takes a step, and checks what everybody has been told.
    pub(crate) async fn step(&mut self, step: Step) -> Result<(), String> {
        self.take(step).await?;
        self.check()
    }

    async fn take(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Head(name, blob) => {
                let digest = sha256(blob.as_bytes());
                let found = self.repository(name).blobs().stat_held(digest).await.map_err(text)?;
                if found.is_none() {
                    push_blob(&self.repository(name), blob).await;
                }
                self.promise_blob(name, digest);
            }
            Step::Push(name, blob) => {
                let digest = push_blob(&self.repository(name), blob).await;
                self.promise_blob(name, digest);
            }
            Step::Begin(name, blob) => {
                let blobs = self.repository(name).blobs();
                let mut upload = blobs.create(DigestAlgorithm::Sha256, &Actor::anonymous()).map_err(text)?;
                upload.write(blob.as_bytes()[..1].to_vec().into()).await.map_err(text)?;
                self.uploads.insert((name, blob), upload);
            }
            Step::Finish(name, blob) => {
                let mut upload = self.uploads.remove(&(name, blob)).expect("it was begun");
                upload.write(blob.as_bytes()[1..].to_vec().into()).await.map_err(text)?;
                let digest = sha256(blob.as_bytes());
                upload.commit(&digest).await.map_err(text)?;
                self.promise_blob(name, digest);
            }
            Step::Mount(name, from, blob) => {
                let digest = sha256(blob.as_bytes());
                let from = from.parse().unwrap();
                let blobs = self.repository(name).blobs();
                if blobs.mount(digest, Some(&from), &Actor::anonymous()).await.map_err(text)?.is_none() {
                    push_blob(&self.repository(name), blob).await;
                }
                self.promise_blob(name, digest);
            }
            Step::Image(name, picture, tag) => {
                let promised: Vec<Digest> =
                    picture.layers.iter().map(|layer| sha256(layer.as_bytes())).collect();
                let must = promised.iter().all(|digest| self.has_promise(name, digest));
                self.put(name, IMAGE, &picture.payload(), tag, must).await?;
            }
            Step::HeadImage(name, picture) => {
                let (manifests, reference) = (self.repository(name).manifests(), by_digest(picture.digest()));
                manifests.hold(&reference).await.map_err(text)?;
                if manifests.stat(&reference).map_err(text)?.is_none() {
                    for layer in picture.layers {
                        push_blob(&self.repository(name), layer).await;
                    }
                    self.put(name, IMAGE, &picture.payload(), None, true).await?;
                }
                self.promise_manifest(name, picture.digest());
            }
            Step::Index(name, picture, tag) => {
                let must =
                    self.manifests.get(&(name, picture.digest())).is_some_and(|until| *until > self.now());
                self.put(name, INDEX, &index(&[&picture.payload()]), Some(tag), must).await?;
            }
            Step::DeleteImage(..)
            | Step::DeleteTag(..)
            | Step::DeleteBlob(..)
            | Step::DeleteRepository(_) => {
                self.delete(step).await?;
            }
            Step::UndeleteImage(name, picture) => {
                self.undelete(name, DeletedName::Digest(picture.digest())).await?;
            }
            Step::UndeleteTag(name, text) => self.undelete(name, DeletedName::Tag(tag(text))).await?,
            Step::UndeleteRepository(name) => self.undelete(name, DeletedName::Repository).await?,
            Step::Collect => {
                self.store().registry.collect_step().await.map_err(text)?;
            }
            Step::CollectAll => {
                self.store().registry.collect(|_| {}).await.map_err(text)?;
            }
            Step::Pass(time) => self.store().pass(time),
            Step::Restart => {
                let store = self.store.take().expect("it is there between two steps");
                self.uploads.clear();
                self.store = Some(store.restart().await);
            }
        }
        Ok(())
    }

    fn has_promise(&self, name: &'static str, digest: &Digest) -> bool {
        self.blobs.get(&(name, *digest)).is_some_and(|until| *until > self.now())
    }

    async fn put(
        &mut self,
        name: &'static str,
        kind: &str,
        payload: &str,
        tag: Option<&'static str>,
        must: bool,
    ) -> Result<(), String> {
        let tags: Vec<&str> = tag.into_iter().collect();
        match try_push(&self.repository(name), kind, payload, &tags).await {
            Ok(digest) => {
                self.promise_manifest(name, digest);
                if let Some(tag) = tag {
                    self.tags.insert((name, tag), digest);
                }
                Ok(())
            }
            Err(Error::ManifestReferencesUnknown(_)) if !must => Ok(()),
            Err(error) => Err(format!("a push to {name}: {error}")),
        }
    }

    async fn delete(&mut self, step: Step) -> Result<(), String> {
        let (repository, name, is_gone) = match step {
            Step::DeleteImage(repository, picture) => {
                let digest = picture.digest();
                let gone = match self.repository(repository).manifests().delete(&digest).await {
                    Err(Error::StillReferenced { .. } | Error::RepositoryUnknown) => false,
                    gone => gone.map_err(text)?.is_some(),
                };
                (repository, DeletedName::Digest(digest), gone)
            }
            Step::DeleteTag(repository, name) => {
                let gone = match self.repository(repository).tags().untag(&tag(name)).await {
                    Err(Error::RepositoryUnknown) => false,
                    gone => gone.map_err(text)?,
                };
                (repository, DeletedName::Tag(tag(name)), gone)
            }
            Step::DeleteBlob(repository, blob) => {
                let digest = sha256(blob.as_bytes());
                let gone = match self.repository(repository).blobs().delete(digest).await {
                    Err(Error::StillReferenced { .. } | Error::RepositoryUnknown) => false,
                    gone => gone.map_err(text)?,
                };
                (repository, DeletedName::Digest(digest), gone)
            }
            Step::DeleteRepository(repository) => {
                let gone = self.repository(repository).deletions().delete_repository().await.map_err(text)?;
                (repository, DeletedName::Repository, gone)
            }
            _ => unreachable!("the others delete nothing"),
        };
        if !is_gone {
            return Ok(());
        }
        let until = self.now().saturating_add(self.undo);
        let is_of_it = |place: &(&str, &str), digest: &Digest| {
            place.0 == repository
                && match &name {
                    DeletedName::Repository => true,
                    DeletedName::Tag(tag) => place.1 == tag.as_str(),
                    DeletedName::Digest(deleted) => digest == deleted,
                }
        };
        let tags = self.tags.iter().filter(|(place, digest)| is_of_it(place, digest));
        let tags: Vec<_> = tags.map(|(place, digest)| (place.1, *digest)).collect();
        self.tags.retain(|place, digest| !is_of_it(place, digest));
        match &name {
            DeletedName::Tag(_) => {
                // The manifest stays for its grace, and for the lease.
                for (_, digest) in &tags {
                    self.promise_manifest(repository, *digest);
                }
            }
            DeletedName::Digest(digest) => {
                self.blobs.remove(&(repository, *digest));
                self.manifests.remove(&(repository, *digest));
            }
            DeletedName::Repository => {
                self.blobs.retain(|(of, _), _| *of != repository);
                self.manifests.retain(|(of, _), _| *of != repository);
            }
        }
        self.deleted.push(Deleted { repository, name, until, tags });
        Ok(())
    }

    async fn undelete(&mut self, repository: &'static str, name: DeletedName) -> Result<(), String> {
        let now = self.now();
        let is_it = |deleted: &&Deleted| {
            deleted.repository == repository && deleted.answers_to(&name) && deleted.until > now
        };
        let deleted = self.deleted.iter().rev().find(is_it).cloned();
        let result = self.repository(repository).deletions().undelete(&name, &Actor::anonymous()).await;
        match (result, deleted) {
            (Ok(_), Some(deleted)) => {
                for (tag, digest) in &deleted.tags {
                    self.tags.insert((repository, tag), *digest);
                }
                self.deleted.retain(|other| other.until != deleted.until || other.name != deleted.name);
                Ok(())
            }
            (Ok(_), None) => Err(format!("{name:?} of {repository} came back, and was not deleted")),
            // Where the repository itself is gone, or something has its name.
            (Err(Error::RepositoryUnknown | Error::NameTaken(_)), _)
            | (Err(Error::DeletionUnknown), None) => Ok(()),
            (Err(Error::DeletionUnknown), Some(_)) if self.is_replaced(repository) => Ok(()),
            (Err(error), _) => Err(format!("{name:?} of {repository} doesn't come back: {error}")),
        }
    }

    /// Whether another repository has the name by now, which none of the former deletions is of.
    fn is_replaced(&self, repository: &'static str) -> bool {
        let is_it =
            |deleted: &Deleted| deleted.repository == repository && deleted.name == DeletedName::Repository;
        self.deleted.iter().any(is_it)
    }

    fn check(&self) -> Result<(), String> {
        let now = self.now();
        for ((name, digest), until) in &self.blobs {
            if *until > now && self.repository(name).blobs().stat(digest).map_err(text)?.is_none() {
                return Err(format!("the blob {digest} of {name} was promised, and is gone"));
            }
        }
        for ((name, digest), until) in &self.manifests {
            if *until > now && !self.repository(name).manifests().exists(digest).map_err(text)? {
                return Err(format!("the manifest {digest} of {name} was promised, and is gone"));
            }
        }
        for ((name, tag), digest) in &self.tags {
            let found = self.repository(name).tags().get(&tag.parse().unwrap()).map_err(text)?;
            if found.as_ref().map(|found| found.canonical) != Some(*digest) {
                return Err(format!("{name}:{tag} should be {digest} and is {found:?}"));
            }
            self.reach(name, digest, &mut BTreeSet::new())?;
        }
        Ok(())
    }

    /// Goes through all that a manifest leads to, which has to be there; adds the blobs to `reached`.
    fn reach(&self, name: &str, digest: &Digest, reached: &mut BTreeSet<Digest>) -> Result<(), String> {
        let repository = self.repository(name);
        let found = repository.manifests().get(&by_digest(*digest)).map_err(text)?;
        let Some((descriptor, bytes)) = found else {
            return match repository.blobs().open(digest).map_err(text)? {
                Some(_) => {
                    reached.insert(*digest);
                    Ok(())
                }
                None => Err(format!("{digest} of {name} is needed, and is gone")),
            };
        };
        let manifest = Manifest::parse(&descriptor.media_type, &bytes).map_err(|error| error.to_string())?;
        for child in &manifest.children {
            self.reach(name, &child.descriptor.digest, reached)?;
        }
        Ok(())
    }

    /// Rows, references and files agree; and when everybody has gone and all leases have ended, what the tags lead to is all
    /// there is.
    pub(crate) async fn finish(&mut self) -> Result<(), String> {
        let problems = self.store().problems();
        if !problems.is_empty() {
            return Err(format!("{problems:?}"));
        }
        for upload in self.uploads.values_mut() {
            upload.cancel().await.map_err(text)?;
        }
        for _ in 0..4 {
            self.step(Step::Pass(LEASE * 8)).await?;
            self.step(Step::CollectAll).await?;
        }
        let problems = self.store().problems();
        if !problems.is_empty() {
            return Err(format!("in the end: {problems:?}"));
        }
        let mut reached = BTreeSet::new();
        for ((name, _), digest) in &self.tags {
            self.reach(name, digest, &mut reached)?;
            self.reach_referrers(name, digest, &mut reached)?;
        }
        let blobs = self.store().blobs();
        if blobs != reached.len() as u64 {
            return Err(format!("{blobs} blobs are left, and {} are needed", reached.len()));
        }
        Ok(())
    }

    fn reach_referrers(
        &self,
        name: &str,
        digest: &Digest,
        reached: &mut BTreeSet<Digest>,
    ) -> Result<(), String> {
        let manifests = self.repository(name).manifests().all(None, 100).map_err(text)?.items;
        for manifest in manifests {
            let (_, bytes) = self
                .repository(name)
                .manifests()
                .get(&by_digest(manifest.canonical))
                .map_err(text)?
                .expect("listed");
            let parsed = Manifest::parse(&media_type(manifest.media_type.as_str()), &bytes).unwrap();
            // What is about nothing that is there is nobody's follower, and stays.
            let stays = parsed.subject.as_ref().is_some_and(|subject| {
                subject.digest == *digest
                    || !self.repository(name).manifests().exists(&subject.digest).unwrap_or(true)
            });
            if stays {
                self.reach(name, &manifest.canonical, reached)?;
            }
        }
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
fn text(error: Error) -> String {
    error.to_string()
}
