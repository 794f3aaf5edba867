//! Random walks over the library with a model beside them: whatever is pushed, mounted, tagged, deleted, undone, renamed and
//! collected in whatever order, rows and files agree after each step, the tags are those of the model, all that a live
//! manifest names can be read, and nobody mounts what no live repository has.
//!
//! `ORLOP_WALK_SEEDS=100-200` walks further than usual.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "collection/store.rs"]
mod store;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use orlop::oci::{ChildRole, Digest, DigestAlgorithm, Manifest, Reference, Tag};
use orlop::registry::{
    Actor, Collected, Collection, DeletedKind, DeletedName, Error, Force, ManifestPut, Repository,
};
use store::{HOUR, IMAGE, INDEX, LEASE, MINUTE, Store, image, index, media_type, sha256, tag};

const STEPS: usize = 150;
const NAMES: [&str; 3] = ["a", "b", "c/d"];
const BLOBS: [&str; 3] = ["one", "two", "three"];

struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 20).unwrap() % limit
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

fn sha512(bytes: &str) -> Digest {
    Digest::of(DigestAlgorithm::Sha512, bytes.as_bytes())
}

/// The same document, naming this content by its other digest.
fn by_sha512(document: &str, content: &str) -> String {
    document.replace(&sha256(content.as_bytes()).to_string(), &sha512(content).to_string())
}

/// What is pushed: media types and payloads.
fn documents() -> Vec<(&'static str, String)> {
    let plain = image(&["one", "two"], None);
    let other = by_sha512(&image(&["two", "three"], None), "three");
    let referrer = by_sha512(&image(&["three"], Some(&plain)), &plain);
    let both = by_sha512(&index(&[&plain, &other]), &other);
    let nested = index(&[&both, &plain]);
    let list = by_sha512(&index(&[&referrer]), &referrer);
    let foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    let sparse = image(&["one", "three"], None).replace("a/layer", foreign);
    [
        (IMAGE, plain),
        (IMAGE, other),
        (IMAGE, referrer),
        (INDEX, both),
        (INDEX, nested),
        (INDEX, list),
        (IMAGE, sparse),
    ]
    .to_vec()
}

/// The tags of each repository, by the identity that it keeps over a rename.
type Tags = BTreeMap<String, Digest>;

/// What a deletion takes along, and until when it can come back.
#[derive(Clone)]
struct Gone {
    name: DeletedName,
    tags: Tags,
    until: Duration,
}

impl Gone {
    /// Whether it is what a name means: a tag that went with its manifest means that manifest.
    fn answers_to(&self, what: &DeletedName) -> bool {
        let went_with = |tag: &Tag| self.tags.contains_key(tag.as_str());
        self.name == *what || matches!(what, DeletedName::Tag(tag) if went_with(tag))
    }
}

#[derive(Default)]
struct Place {
    tags: Tags,
    deleted: Vec<Gone>,
}

struct Walk {
    store: Store,
    random: Random,
    documents: Vec<(&'static str, String)>,
    tags: Vec<String>,
    undo: Duration,
    now: Duration,
    live: BTreeMap<&'static str, Place>,
    /// Deleted repositories, the last one behind.
    deleted: Vec<(&'static str, Place, Duration)>,
    /// What was pushed as a list of referrers, which need not be there.
    lists: BTreeSet<Digest>,
    /// What was deleted by force.
    forced: BTreeSet<Digest>,
    log: Rc<RefCell<Vec<String>>>,
}

impl Walk {
    fn new(seed: u64) -> Walk {
        let mut random = Random::new(seed);
        let undo = random.one(&[Duration::ZERO, HOUR * 2, HOUR * 24]);
        let untagged_grace = random.one(&[None, Some(MINUTE), Some(HOUR * 3)]);
        let keep_history = random.one(&[0, 0, 2]);
        let collection =
            Collection { lease: LEASE, undo, untagged_grace, keep_history, ..Collection::default() };
        let documents = documents();
        let subject = sha256(documents[0].1.as_bytes());
        let mut tags = vec!["v1".to_owned(), "v2".to_owned(), "latest".to_owned()];
        for suffix in ["", ".sig"] {
            tags.push(format!("sha256-{}{suffix}", subject.hex()));
        }
        Walk {
            store: Store::new(collection),
            random,
            documents,
            tags,
            undo,
            now: Duration::ZERO,
            live: BTreeMap::new(),
            deleted: Vec::new(),
            lists: BTreeSet::new(),
            forced: BTreeSet::new(),
            log: Rc::default(),
        }
    }

    async fn restart(self) -> Walk {
        let store = self.store.restart().await;
        Walk { store, ..self }
    }

    fn repository(&self, name: &str) -> Repository {
        self.store.repository(name)
    }

    async fn step(&mut self) {
        let name = self.random.one(&NAMES);
        // What begins in the millisecond of a rename counts as under way by then.
        self.pass(Duration::from_millis(1));
        match self.random.below(24) {
            0..=2 => self.push_blob(name).await,
            3..=8 => self.push_manifest(name).await,
            9 => self.mount(name).await,
            10 => self.tag(name).await,
            11 => self.untag(name).await,
            12 | 13 => self.delete_manifest(name).await,
            14 => self.delete_blob(name).await,
            15..=17 => self.undelete(name).await,
            18 => self.purge(name).await,
            19 => self.delete_repository(name).await,
            20 => self.rename(name).await,
            21 => self.roll_back(name).await,
            _ => self.collect().await,
        }
    }

    async fn push_blob(&mut self, name: &'static str) {
        let text = self.random.one(&BLOBS);
        let digest = if self.random.below(2) == 0 { sha256(text.as_bytes()) } else { sha512(text) };
        let blobs = self.repository(name).blobs();
        blobs.put(Bytes::from(text), Some(&digest), &Actor::anonymous()).await.unwrap();
        self.live.entry(name).or_default();
        self.say(format!("push blob {text} to {name} as {}", digest.algorithm()));
    }

    async fn push_manifest(&mut self, name: &'static str) {
        let (kind, payload) = self.random.one(&self.documents);
        let at = self.documents.iter().position(|(_, other)| *other == payload);
        let digest = sha256(payload.as_bytes());
        if self.random.below(2) == 0 {
            for text in BLOBS {
                self.repository(name).blobs().put(text.into(), None, &Actor::anonymous()).await.unwrap();
            }
            self.live.entry(name).or_default();
        }
        let reference = match self.random.below(3) {
            0 => Reference::Digest(digest),
            1 => Reference::Digest(sha512(&payload)),
            _ => Reference::Tag(tag(&self.random.one(&self.tags))),
        };
        let put = ManifestPut {
            payload: payload.into(),
            media_type: media_type(kind),
            reference: reference.clone(),
            tags: Vec::new(),
            actor: Actor::anonymous(),
        };
        let result = self.repository(name).manifests().put(put).await;
        if let (Ok(_), Reference::Tag(tag)) = (&result, &reference) {
            self.live.entry(name).or_default().tags.insert(tag.to_string(), digest);
            if tag.lists_referrers() {
                self.lists.insert(digest);
            }
        }
        self.say(format!("push manifest {at:?} to {name} as {reference}: {:?}", result.map(|_| ())));
    }

    async fn mount(&mut self, name: &'static str) {
        let digest = sha256(self.random.one(&BLOBS).as_bytes());
        let has = |name: &&str| self.repository(name).blobs().stat(digest).unwrap().is_some();
        let holders: Vec<&str> = NAMES.iter().copied().filter(has).collect();
        let from = self.random.one(&[None, Some("a"), Some("b")]);
        let is_there = from.map_or(!holders.is_empty(), |from| holders.contains(&from));
        let from = from.map(|from| from.parse().unwrap());
        let blobs = self.repository(name).blobs();
        let mounted = blobs.mount(digest, from.as_ref(), &Actor::anonymous()).await.unwrap();
        self.say(format!("mount into {name} from {from:?}, which {holders:?} have"));
        assert_eq!(mounted.is_some(), is_there);
        if is_there {
            self.live.entry(name).or_default();
        }
    }

    async fn tag(&mut self, name: &'static str) {
        let payload = self.random.one(&self.documents).1;
        let to = self.random.one(&self.tags);
        let digest = sha256(payload.as_bytes());
        let result = self.repository(name).tags().tag(&digest, &tag(&to), &Actor::anonymous()).await;
        if result.is_ok() {
            self.live.get_mut(name).unwrap().tags.insert(to.clone(), digest);
        }
        self.say(format!("tag {name}:{to} {result:?}"));
    }

    async fn untag(&mut self, name: &'static str) {
        let text = self.random.one(&self.tags);
        let result = self.repository(name).tags().untag(&tag(&text)).await;
        self.say(format!("untag {name}:{text} {result:?}"));
        let until = self.now + self.undo;
        let Some(place) = self.live.get_mut(name) else {
            assert!(matches!(result, Err(Error::RepositoryUnknown)));
            return;
        };
        let digest = place.tags.remove(&text);
        assert_eq!(result.unwrap(), digest.is_some());
        if let Some(digest) = digest {
            let tags = Tags::from([(text.clone(), digest)]);
            place.deleted.push(Gone { name: DeletedName::Tag(tag(&text)), tags, until });
        }
    }

    async fn delete_manifest(&mut self, name: &'static str) {
        let payload = self.random.one(&self.documents).1;
        let digest = sha256(payload.as_bytes());
        let named = if self.random.below(2) == 0 { digest } else { sha512(&payload) };
        let force = self.random.one(&[Force::No, Force::No, Force::Yes]);
        let result = self.repository(name).manifests().delete_with(&named, force).await;
        self.say(format!("delete {name}@{digest} {force:?}: {result:?}"));
        let Ok(Some(tags)) = result else { return };
        if force == Force::Yes {
            self.forced.insert(digest);
        }
        let until = self.now + self.undo;
        let place = self.live.get_mut(name).unwrap();
        let had: Vec<String> =
            place.tags.iter().filter(|(_, to)| **to == digest).map(|(tag, _)| tag.clone()).collect();
        assert_eq!(tags.iter().map(Tag::to_string).collect::<Vec<_>>(), had);
        let tags =
            had.into_iter().map(|tag| (place.tags.remove(&tag).map(|to| (tag, to))).unwrap()).collect();
        place.deleted.push(Gone { name: DeletedName::Digest(digest), tags, until });
        assert!(self.repository(name).manifests().stat(&Reference::Digest(named)).unwrap().is_none());
    }

    async fn delete_blob(&mut self, name: &'static str) {
        let digest = sha256(self.random.one(&BLOBS).as_bytes());
        let force = self.random.one(&[Force::No, Force::Yes]);
        let blobs = self.repository(name).blobs();
        let result = blobs.delete_with(digest, force).await;
        self.say(format!("delete blob {name}@{digest} {force:?}: {result:?}"));
        if result.is_ok_and(|was_there| was_there) {
            let until = self.now + self.undo;
            let gone = Gone { name: DeletedName::Digest(digest), tags: Tags::new(), until };
            self.live.get_mut(name).unwrap().deleted.push(gone);
            if force == Force::Yes {
                self.forced.insert(digest);
            }
            assert!(blobs.stat(digest).unwrap().is_none());
        }
    }

    fn something_deleted(&mut self) -> DeletedName {
        match self.random.below(4) {
            0 => DeletedName::Repository,
            1 => DeletedName::Tag(tag(&self.random.one(&self.tags))),
            2 => DeletedName::Digest(sha256(self.random.one(&BLOBS).as_bytes())),
            _ => DeletedName::Digest(sha256(self.random.one(&self.documents).1.as_bytes())),
        }
    }

    async fn undelete(&mut self, name: &'static str) {
        let what = self.something_deleted();
        let result = self.repository(name).deletions().undelete(&what, &Actor::anonymous()).await;
        self.say(format!("undelete {what:?} of {name}: {:?}", result.as_ref().map(|deletion| deletion.kind)));
        if what == DeletedName::Repository {
            let known = self.deleted_repository(name);
            match (&result, known) {
                (Ok(deletion), Some(at)) => {
                    assert_eq!(deletion.kind, DeletedKind::Repository);
                    let (_, place, _) = self.deleted.remove(at);
                    assert!(self.live.insert(name, place).is_none());
                }
                (Err(Error::NameTaken(_)), Some(_)) => assert!(self.live.contains_key(name)),
                (Err(Error::DeletionUnknown), None) => {}
                (result, known) => panic!("{result:?}, and the model says {known:?}"),
            }
            return;
        }
        let now = self.now;
        let Some(place) = self.live.get_mut(name) else {
            assert!(matches!(result, Err(Error::RepositoryUnknown)), "{result:?}");
            return;
        };
        let known = place.deleted.iter().rposition(|gone| gone.answers_to(&what) && gone.until > now);
        let Some(at) = known else {
            assert!(matches!(result, Err(Error::DeletionUnknown)), "{result:?}");
            return;
        };
        let gone = &place.deleted[at];
        let is_taken = gone.tags.iter().any(|(tag, to)| place.tags.get(tag).is_some_and(|now| now != to));
        if is_taken {
            assert!(matches!(result, Err(Error::NameTaken(_))), "{result:?}");
            return;
        }
        result.unwrap();
        let gone = place.deleted.remove(at);
        place.tags.extend(gone.tags);
    }

    fn deleted_repository(&self, name: &str) -> Option<usize> {
        self.deleted.iter().rposition(|(known, _, until)| *known == name && *until > self.now)
    }

    async fn purge(&mut self, name: &'static str) {
        let what = self.something_deleted();
        let result = self.repository(name).deletions().purge(&what).await;
        self.say(format!("purge {what:?} of {name}: {:?}", result.as_ref().map(|deletion| deletion.kind)));
        if result.is_err() {
            return;
        }
        if what == DeletedName::Repository {
            let at = self.deleted_repository(name).unwrap();
            self.deleted.remove(at);
            return;
        }
        let now = self.now;
        let place = self.live.get_mut(name).unwrap();
        let at = place.deleted.iter().rposition(|gone| gone.answers_to(&what) && gone.until > now).unwrap();
        place.deleted.remove(at);
    }

    async fn delete_repository(&mut self, name: &'static str) {
        let deleted = self.repository(name).deletions().delete_repository().await.unwrap();
        self.say(format!("delete repository {name}: {deleted}"));
        let place = self.live.remove(name);
        assert_eq!(deleted, place.is_some());
        if let Some(place) = place {
            self.deleted.push((name, place, self.now + self.undo));
        }
        assert!(!self.repository(name).exists().unwrap());
    }

    async fn rename(&mut self, name: &'static str) {
        let to = self.random.one(&NAMES);
        let result = self.repository(name).deletions().rename(&to.parse().unwrap()).await;
        self.say(format!("rename {name} to {to}: {result:?}"));
        match result {
            Ok(()) => {
                let place = self.live.remove(name).unwrap();
                assert!(self.live.insert(to, place).is_none());
            }
            Err(Error::NameTaken(_)) => assert!(self.live.contains_key(to)),
            Err(error) => assert!(matches!(error, Error::RepositoryUnknown) && !self.live.contains_key(name)),
        }
    }

    async fn roll_back(&mut self, name: &'static str) {
        let text = self.random.one(&self.tags);
        let result = self.repository(name).tags().rollback(&tag(&text), None, &Actor::anonymous()).await;
        self.say(format!("roll {name}:{text} back: {result:?}"));
        if let Ok(revision) = result {
            self.live.get_mut(name).unwrap().tags.insert(text, revision.digest);
        }
    }

    async fn collect(&mut self) {
        let time = Duration::from_secs(self.random.below(3 * 60 * 60) as u64);
        self.pass(time);
        let plan = self.store.registry.collection_plan().unwrap();
        let collected = self.store.registry.collect(|_| {}).await.unwrap();
        self.say(format!("collect after {time:?}: {collected:?}"));
        let freed = |of: &Collected| (of.deletions, of.blobs, of.bytes);
        assert_eq!(freed(&plan.due), freed(&collected), "as planned");
        if self.deleted.is_empty()
            && self.log.borrow().iter().all(|line| !line.starts_with("purge Repository"))
        {
            // Else some of it goes with a repository, or before it.
            assert_eq!(plan.due, collected, "as planned");
        }
        // What accompanies a manifest goes with it.
        for (name, place) in &mut self.live {
            let tags = self.store.repository(name).tags();
            place
                .tags
                .retain(|text, _| !text.starts_with("sha256-") || tags.get(&tag(text)).unwrap().is_some());
        }
    }

    fn pass(&mut self, time: Duration) {
        self.store.pass(time);
        self.now += time;
    }

    fn say(&self, what: String) {
        self.log.borrow_mut().push(what);
    }

    /// What the model says of every repository, and what must hold of it whatever has happened.
    fn check(&self) {
        self.store.check();
        for name in NAMES {
            let repository = self.repository(name);
            let Some(place) = self.live.get(name) else {
                assert!(!repository.exists().unwrap(), "{name} is there");
                continue;
            };
            let tags: Tags = repository
                .tags()
                .scroll()
                .map(|tag| tag.unwrap())
                .map(|tag| (tag.to_string(), repository.tags().get(&tag).unwrap().unwrap().canonical))
                .collect();
            assert_eq!(tags, place.tags, "the tags of {name}");
            for manifest in repository.manifests().scroll() {
                self.check_manifest(&repository, manifest.unwrap().canonical);
            }
        }
    }

    fn canonical(&self, named: Digest) -> Digest {
        let documents = self.documents.iter().map(|(_, payload)| payload.as_str());
        let known = BLOBS.into_iter().chain(documents).find(|content| sha512(content) == named);
        known.map_or(named, |content| sha256(content.as_bytes()))
    }

    fn check_manifest(&self, repository: &Repository, digest: Digest) {
        let (found, payload) = repository.manifests().get(&Reference::Digest(digest)).unwrap().unwrap();
        let manifest = Manifest::parse(&found.media_type, &payload).unwrap();
        let mut missing = BTreeSet::new();
        for child in &manifest.children {
            let named = child.descriptor.digest;
            let is_there = match child.role {
                ChildRole::Config | ChildRole::Layer => repository.blobs().stat(named).unwrap().is_some(),
                ChildRole::Manifest => repository.manifests().exists(&named).unwrap(),
            };
            if !is_there && child.is_distributable() {
                missing.insert(self.canonical(named));
            }
        }
        let is_list = self.lists.contains(&digest);
        assert!(
            is_list || missing.is_subset(&self.forced),
            "{digest} of {} lacks {missing:?}",
            repository.name()
        );
    }
}

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("ORLOP_WALK_SEEDS") else { return 1..9 };
    let (from, to) = text.split_once('-').expect("ORLOP_WALK_SEEDS is two numbers: 100-200");
    from.parse().unwrap()..to.parse().unwrap()
}

#[tokio::test]
async fn whatever_happens_the_store_is_as_the_model_says() {
    for seed in seeds() {
        let mut walk = Walk::new(seed);
        let log = walk.log.clone();
        let step = futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(async move {
            for step in 0..STEPS {
                walk.step().await;
                walk.check();
                if step == STEPS / 2 {
                    walk = walk.restart().await;
                }
            }
        }));
        if let Err(panic) = step.await {
            let log = log.borrow();
            let story = log[log.len().saturating_sub(30)..].join("\n");
            println!("seed {seed}, step {}:\n{story}", log.len());
            std::panic::resume_unwind(panic);
        }
    }
}
