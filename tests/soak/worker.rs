//! A client at work: it pushes, pulls, moves and deletes, and knows what has to be there of all that.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::arena::Arena;
use crate::client::Client;
use crate::content::{Blob, Image};
use crate::counts::Counts;
use crate::random::Random;
use crate::undelete;
use crate::wire::Body;

/// How many tags a client has in each repository.
const TAGS: u64 = 6;
/// How many images without a tag a client remembers.
const FORMER: usize = 8;

/// What all workers of a soak share.
pub(crate) struct Scene<'a> {
    pub(crate) arena: &'a Arena,
    /// The repositories that everybody pushes to.
    pub(crate) repositories: &'a [String],
    pub(crate) blobs: &'a [Arc<Blob>],
    pub(crate) lease: Duration,
    /// How long what was deleted can come back.
    pub(crate) undo: Duration,
    /// The socket of the admin API.
    pub(crate) socket: std::path::PathBuf,
    /// How many operations are left to do.
    pub(crate) left: &'a AtomicU64,
}

/// A tagged image, and what was pushed that follows it.
struct Tagged {
    image: Arc<Image>,
    followers: Vec<(String, Arc<Image>)>,
}

pub(crate) struct Worker<'a> {
    name: String,
    scene: &'a Scene<'a>,
    client: Client<'a>,
    random: Random,
    /// The tags that nobody else touches, with what they point to.
    tagged: BTreeMap<(String, String), Tagged>,
    /// Images that have lost their tags, and may be collected any moment.
    former: VecDeque<(String, Arc<Image>)>,
}

/// What a worker has seen in the end.
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    pub(crate) requests: u64,
    /// The digests of all blobs and manifests that were there at some time.
    pub(crate) seen: HashSet<String>,
    /// Repository, tag and digest of everything that has to be there.
    pub(crate) tags: Vec<(String, String, String)>,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(name: String, scene: &'a Scene<'a>, random: Random) -> Self {
        let client = Client::new(scene.arena, scene.lease);
        Self { name, scene, client, random, tagged: BTreeMap::new(), former: VecDeque::new() }
    }

    /// Works until there is nothing left to do.
    pub(crate) fn work(mut self) -> Outcome {
        loop {
            let before = self.client.counts.total();
            self.step();
            let done = self.client.counts.total() - before;
            let left = self.scene.left.fetch_sub(done.min(1 << 40), Ordering::Relaxed);
            if left <= done || left > u64::MAX / 2 {
                break;
            }
        }
        for place in self.tagged.keys().cloned().collect::<Vec<_>>() {
            self.pull_own(&place);
        }
        let Client { counts, requests, seen, .. } = self.client;
        let tags = self.tagged.into_iter().flat_map(|((repository, tag), tagged)| {
            let followers = tagged.followers.into_iter().filter(|(reference, _)| !reference.contains(':'));
            let followers = followers.map(|(tag, image)| (tag, image.digest.clone()));
            let own = (tag, tagged.image.digest.clone());
            let all: Vec<_> = std::iter::once(own).chain(followers).collect();
            all.into_iter().map(move |(tag, digest)| (repository.clone(), tag, digest))
        });
        Outcome { counts, requests, seen, tags: tags.collect() }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..=27 => self.push_image(),
            28..=33 => self.push_index(),
            34..=37 => self.push_index_of_former(),
            38..=43 => self.push_referrer(),
            44..=47 => self.push_signature(),
            48..=51 => self.push_latest(),
            52..=55 => self.pull_latest(),
            56..=74 => {
                if let Some(place) = self.some_place() {
                    self.pull_own(&place);
                }
            }
            75..=79 => self.retag(),
            80..=84 => self.untag(),
            85..=89 => self.delete_image(),
            90..=92 => self.delete_blob(),
            93..=94 => self.abandon(),
            95..=96 => self.delete_repository(),
            _ => self.set_tag(),
        }
    }

    fn some_repository(&mut self) -> String {
        self.random.pick(self.scene.repositories).expect("there are some").clone()
    }

    fn some_tag(&mut self) -> String {
        format!("{}-{}", self.name, self.random.below(TAGS))
    }

    fn some_place(&mut self) -> Option<(String, String)> {
        let places: Vec<_> = self.tagged.keys().cloned().collect();
        self.random.pick(&places).cloned()
    }

    /// A few blobs, most of which others have too.
    fn some_blobs(&mut self) -> Vec<Arc<Blob>> {
        let count = 2 + self.random.below(3);
        (0..count)
            .map(|_| match self.random.below(4) {
                0 => Blob::unique(&mut self.random),
                _ => self.random.pick(self.scene.blobs).expect("there are some").clone(),
            })
            .collect()
    }

    fn ensure(&mut self, repository: &str, blobs: &[Arc<Blob>]) -> Instant {
        let others: Vec<_> =
            self.scene.repositories.iter().filter(|other| *other != repository).cloned().collect();
        let promised =
            blobs.iter().map(|blob| self.client.ensure_blob(repository, blob, &others, &mut self.random));
        // The promise that ends first.
        promised.min().unwrap_or_else(Instant::now)
    }

    /// Pushes an image under a tag, or by its digest, however often that takes longer than the lease.
    fn push(&mut self, repository: &str, reference: &str, image: &Image) {
        loop {
            let promised = self.ensure(repository, &image.blobs);
            if self.client.put_manifest(repository, reference, image, promised) {
                return;
            }
        }
    }

    fn has_tagged(&mut self, repository: String, tag: String, image: Arc<Image>) {
        let tagged = Tagged { image, followers: Vec::new() };
        let former = self.tagged.insert((repository.clone(), tag), tagged);
        self.has_lost(repository, former);
    }

    fn has_lost(&mut self, repository: String, former: Option<Tagged>) {
        if let Some(former) = former {
            self.former.push_front((repository, former.image));
            self.former.truncate(FORMER);
        }
    }

    fn push_image(&mut self) {
        let (repository, tag, blobs) = (self.some_repository(), self.some_tag(), self.some_blobs());
        // Those without a note are pushed by everybody, so that the same manifest comes and goes at once.
        let image = if self.random.below(5) == 0 {
            let first = usize::try_from(self.random.below(8)).unwrap();
            Image::of(self.scene.blobs[first..first + 3].to_vec(), None, None)
        } else {
            Image::of(blobs, None, Some(self.random.next()))
        };
        self.push(&repository, &tag, &image);
        self.client.did("image");
        self.has_tagged(repository.clone(), tag.clone(), image);
        if self.random.below(3) == 0 {
            self.pull_own(&(repository, tag));
        }
    }

    fn push_index(&mut self) {
        let (repository, tag) = (self.some_repository(), self.some_tag());
        loop {
            let mut children = Vec::new();
            let promised = Instant::now();
            for _ in 0..2 {
                let blobs = self.some_blobs();
                let child = Image::of(blobs, None, Some(self.random.next()));
                self.push(&repository, &child.digest, &child);
                self.client.did("image without a tag");
                children.push(child);
            }
            let index = Image::index(children, self.random.next());
            if self.client.put_manifest(&repository, &tag, &index, promised) {
                self.client.did("index");
                self.has_tagged(repository, tag, index);
                return;
            }
        }
    }

    /// An index of what the client has been told is still there, though nothing names it.
    fn push_index_of_former(&mut self) {
        let Some((repository, child)) = self.former.pop_back() else { return };
        let tag = self.some_tag();
        let promised = Instant::now();
        let path = format!("/v2/{repository}/manifests/{}", child.digest);
        if self.client.send("HEAD", &path, &[], Body::Empty).status != 200 {
            self.client.did("image found collected");
            return;
        }
        let index = Image::index(vec![child], self.random.next());
        if self.client.put_manifest(&repository, &tag, &index, promised) {
            self.client.did("index of what had no name");
            self.has_tagged(repository, tag, index);
        }
    }

    fn push_referrer(&mut self) {
        let Some(place) = self.some_place() else { return };
        let subject = self.tagged[&place].image.clone();
        let referrer = Image::of(self.some_blobs(), Some(&subject), Some(self.random.next()));
        let reference = referrer.digest.clone();
        self.push(&place.0, &reference, &referrer);
        self.client.did("referrer");
        let tagged = self.tagged.get_mut(&place).expect("nobody else touches it");
        tagged.followers.push((reference, referrer));
    }

    fn push_signature(&mut self) {
        let Some(place) = self.some_place() else { return };
        // One tag for each subject, however many tags point to that.
        let subject = self.tagged[&place].image.clone();
        let is_shared = subject.bytes.windows(6).all(|text| text != b"\"note\"");
        let is_twice = self.tagged.iter().filter(|((repository, _), other)| {
            *repository == place.0 && other.image.digest == subject.digest
        });
        if is_shared || is_twice.count() > 1 || !self.tagged[&place].followers.is_empty() {
            return;
        }
        let signature = Image::of(self.some_blobs(), None, Some(self.random.next()));
        let tag = format!("{}.sig", subject.digest.replace(':', "-"));
        self.push(&place.0, &tag, &signature);
        self.client.did("signature under a tag");
        let tagged = self.tagged.get_mut(&place).expect("nobody else touches it");
        tagged.followers.push((tag, signature));
    }

    /// A tag that everybody moves.
    fn push_latest(&mut self) {
        let (repository, blobs) = (self.some_repository(), self.some_blobs());
        let image = Image::of(blobs, None, Some(self.random.next()));
        self.push(&repository, "latest", &image);
        self.client.did("image under a tag that everybody moves");
    }

    /// Whatever the tag points to has to be there for the time of a pull.
    fn pull_latest(&mut self) {
        let repository = self.some_repository();
        let since = Instant::now();
        let answer = self.client.get(&format!("/v2/{repository}/manifests/latest"));
        if answer.status == 404 {
            return;
        }
        let manifest: serde_json::Value = serde_json::from_slice(&answer.expect(200).body).unwrap();
        let layers = manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]);
        for digest in layers.map(|descriptor| descriptor["digest"].as_str().unwrap()) {
            let path = format!("/v2/{repository}/blobs/{digest}");
            let status = self.client.get(&path).status;
            assert!(status == 200 || self.client.is_over(since), "GET {path} of latest: {status}");
        }
        self.client.did("pull of a tag that everybody moves");
    }

    fn pull_own(&mut self, place: &(String, String)) {
        let tagged = &self.tagged[place];
        let always = |_: &Client<'_>| true;
        self.client.pull(&place.0, &place.1, &tagged.image, &always);
        for (reference, follower) in &tagged.followers {
            self.client.pull(&place.0, reference, follower, &always);
        }
        let referrers: Vec<&str> = tagged.followers.iter().map(|(_, image)| image.digest.as_str()).collect();
        if !referrers.is_empty() {
            let path = format!("/v2/{}/referrers/{}", place.0, tagged.image.digest);
            let answer = self.client.get(&path).expect(200);
            let text = String::from_utf8(answer.body).unwrap();
            for (reference, image) in &tagged.followers {
                let is_listed = !reference.contains(':') || text.contains(&image.digest);
                assert!(is_listed, "{} is not listed by {path}: {text}", image.digest);
            }
        }
        self.client.did("pull");
    }

    /// Another tag for an image, or the same tag once more.
    fn retag(&mut self) {
        let Some(place) = self.some_place() else { return };
        let (tag, image) = (self.some_tag(), self.tagged[&place].image.clone());
        if tag == place.1 {
            return;
        }
        self.client.put_manifest(&place.0, &tag, &image, Instant::now());
        self.client.did("re-tag");
        self.has_tagged(place.0, tag, image);
    }

    /// The same by the registry's own end-point, which takes a digest.
    fn set_tag(&mut self) {
        let Some(place) = self.some_place() else { return };
        let (tag, image) = (self.some_tag(), self.tagged[&place].image.clone());
        if tag == place.1 {
            return;
        }
        let path = format!("/v2/_orlop/repositories/{}/tags/{tag}", place.0);
        let body = format!(r#"{{"digest":"{}"}}"#, image.digest);
        self.client.send("PUT", &path, &[], Body::Whole(body.as_bytes())).expect(201);
        self.client.did("re-tag by digest");
        self.has_tagged(place.0, tag, image);
    }

    fn delete(&mut self, path: &str) {
        let status = self.client.send("DELETE", path, &[], Body::Empty).status;
        // A request that was sent twice has found nothing the second time.
        assert!(status == 202 || status == 404, "DELETE {path}: {status}");
    }

    fn untag(&mut self) {
        let Some(place) = self.some_place() else { return };
        let since = Instant::now();
        self.delete(&format!("/v2/{}/manifests/{}", place.0, place.1));
        self.client.did("deletion of a tag");
        let former = self.tagged.remove(&place).expect("nobody else touches it");
        if self.undo_is_on() && self.random.below(2) == 0 {
            let what = undelete::Name::Tag(&place.1);
            if undelete::undelete(self.scene, &place.0, &what, since) {
                self.client.did("undeletion of a tag");
                let kept = Tagged { image: former.image, followers: Vec::new() };
                self.tagged.insert(place.clone(), kept);
                self.pull_own(&place);
                return;
            }
        }
        self.has_lost(place.0, Some(former));
    }

    fn undo_is_on(&self) -> bool {
        !self.scene.undo.is_zero()
    }

    /// Deletes an image that nobody else can have, with all its tags.
    fn delete_image(&mut self) {
        let Some(place) = self.some_place() else { return };
        let image = self.tagged[&place].image.clone();
        if image.bytes.windows(6).all(|text| text != b"\"note\"") {
            return;
        }
        let since = Instant::now();
        let path = format!("/v2/{}/manifests/{}", place.0, image.digest);
        let status = self.client.send("DELETE", &path, &[], Body::Empty).status;
        if status == 405 {
            // An index of what had lost its name needs it.
            return;
        }
        assert!(status == 202 || status == 404, "DELETE {path}: {status}");
        self.client.did("deletion of a manifest");
        let is_gone = |repository: &String, tagged: &Tagged| {
            *repository == place.0 && tagged.image.digest == image.digest
        };
        let gone: Vec<_> =
            self.tagged.iter().filter(|((repository, _), tagged)| is_gone(repository, tagged)).collect();
        let gone: Vec<_> = gone.into_iter().map(|(place, _)| place.clone()).collect();
        for place in &gone {
            self.tagged.remove(place);
        }
        self.former.retain(|(repository, former)| *repository != place.0 || former.digest != image.digest);
        if self.undo_is_on() && self.random.below(2) == 0 {
            let what = undelete::Name::Digest(&image.digest);
            if undelete::undelete(self.scene, &place.0, &what, since) {
                self.client.did("undeletion of a manifest");
                for place in gone {
                    let kept = Tagged { image: image.clone(), followers: Vec::new() };
                    self.tagged.insert(place.clone(), kept);
                    self.pull_own(&place);
                }
            }
        }
    }

    /// A blob that no manifest will ever name, and that is deleted at once.
    fn delete_blob(&mut self) {
        let (repository, blob) = (self.some_repository(), Blob::unique(&mut self.random));
        self.ensure(&repository, std::slice::from_ref(&blob));
        self.delete(&format!("/v2/{repository}/blobs/{}", blob.digest));
        self.client.did("deletion of a blob");
        let path = format!("/v2/{repository}/blobs/{}", blob.digest);
        self.client.send("HEAD", &path, &[], Body::Empty).expect(404);
    }

    /// Blobs whose manifest never comes.
    fn abandon(&mut self) {
        let (repository, blobs) = (self.some_repository(), self.some_blobs());
        self.ensure(&repository, &blobs);
        self.client.did("push that was abandoned");
    }

    /// A repository of one's own, which gets images by mounts, and goes.
    fn delete_repository(&mut self) {
        let repository = format!("of/{}", self.name);
        let image = Image::of(self.some_blobs(), None, Some(self.random.next()));
        self.push(&repository, "v1", &image);
        self.client.pull(&repository, "v1", &image, &|_| true);
        let since = Instant::now();
        self.delete(&format!("/v2/_orlop/repositories/{repository}"));
        self.client.did("deletion of a repository");
        let path = format!("/v2/{repository}/manifests/v1");
        self.client.get(&path).expect(404);
        if self.undo_is_on()
            && self.random.below(2) == 0
            && undelete::undelete(self.scene, &repository, &undelete::Name::Repository, since)
        {
            self.client.did("undeletion of a repository");
            self.client.pull(&repository, "v1", &image, &|_| true);
            self.delete(&format!("/v2/_orlop/repositories/{repository}"));
        }
    }
}
