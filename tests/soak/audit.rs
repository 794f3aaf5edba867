//! What is left in the end, counted: what a tag leads to, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use orlop::clock::{Clock, ManualClock, SystemClock};
use orlop::oci::{Digest, Manifest, Reference, Tag};
use orlop::registry::{Collected, Collection, Depth, Options, Policy, Registry, Repository};

/// What the whole store came down to.
#[derive(Debug, Default)]
pub(crate) struct Left {
    pub(crate) blobs: u64,
    pub(crate) manifests: u64,
    pub(crate) tags: u64,
    /// How many blobs and different manifests there were when the server had stopped.
    pub(crate) stopped_with: u64,
    /// What went after the server had stopped.
    pub(crate) collected: Collected,
    pub(crate) orphans: usize,
}

/// Checks the store that a stopped server has left, collects all that is due once nothing is pushed any more, and checks it
/// again. `tags` have to be there.
pub(crate) async fn audit(
    data: &Path,
    collection: Collection,
    tags: &[(String, String, String)],
    was_killed: bool,
) -> Left {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let mut options = Options::new(data);
    options.clock = clock.clone();
    options.policy = Policy { collection, ..Policy::default() };
    let registry = Registry::open(options).unwrap();
    let mut left = Left::default();

    let report = registry.verify(Depth::Full).unwrap();
    assert_eq!(report.problems, [""; 0], "as the server has left it");
    left.orphans = report.orphans.len();
    let sizes = registry.sizes().unwrap();
    left.stopped_with = sizes.blobs + sizes.manifests;
    assert!(was_killed || report.orphans.is_empty(), "{:?}", report.orphans);

    let day = Duration::from_secs(24 * 60 * 60);
    let mut idle = 0;
    while idle < 3 {
        clock.advance(day);
        registry.sweep_uploads().await.unwrap();
        let collected = registry.collect(|_| {}).await.unwrap();
        idle = if collected == Collected::default() { idle + 1 } else { 0 };
        left.collected.blobs += collected.blobs;
        left.collected.bytes += collected.bytes;
        left.collected.manifests += collected.manifests;
    }
    registry.sweep_orphans().await.unwrap();

    let report = registry.verify(Depth::Full).unwrap();
    assert_eq!((report.problems, report.orphans), (vec![], vec![]), "after the last collection");
    expect_tags(&registry, tags);
    let mut blobs = BTreeSet::new();
    for name in registry.namespace().repositories(None, usize::MAX).unwrap().items {
        let repository = registry.namespace().repository(&name);
        let reachable = Reachable::of(&repository);
        let listed: BTreeSet<Digest> =
            repository.manifests().scroll().map(|manifest| manifest.unwrap().canonical).collect();
        assert_eq!(listed, reachable.manifests, "the manifests of {name}");
        let sizes = repository.sizes().unwrap().unwrap();
        assert_eq!(sizes.blobs, reachable.blobs.len() as u64, "the blobs of {name}");
        for digest in &reachable.blobs {
            assert!(repository.blobs().stat(digest).unwrap().is_some(), "{digest} of {name}");
        }
        blobs.extend(reachable.blobs);
    }
    assert_eq!(report.blobs, blobs.len() as u64);
    assert_eq!(files(data), report.blobs);
    (left.blobs, left.manifests, left.tags) = (report.blobs, report.manifests, report.tags);
    registry.close().await;
    left
}

fn expect_tags(registry: &Registry, tags: &[(String, String, String)]) {
    for (repository, tag, digest) in tags {
        let repository = registry.namespace().repository(&repository.parse().unwrap());
        let reference = Reference::Tag(tag.parse().unwrap());
        let found = repository.manifests().stat(&reference).unwrap();
        let found = found.map(|manifest| manifest.canonical.to_string());
        assert_eq!(found.as_ref(), Some(digest), "{}:{tag}", repository.name());
    }
}

/// What the tags of a repository lead to: over children, and over what refers to any of that.
struct Reachable {
    manifests: BTreeSet<Digest>,
    blobs: BTreeSet<Digest>,
}

impl Reachable {
    fn of(repository: &Repository) -> Reachable {
        let mut parsed = BTreeMap::new();
        for manifest in repository.manifests().scroll() {
            let digest = manifest.unwrap().canonical;
            let (descriptor, bytes) =
                repository.manifests().get(&Reference::Digest(digest)).unwrap().unwrap();
            parsed.insert(digest, Manifest::parse(&descriptor.media_type, &bytes).unwrap());
        }
        let tags: Vec<Tag> = repository.tags().scroll().map(Result::unwrap).collect();
        let mut waiting: Vec<Digest> = Vec::new();
        for tag in &tags {
            waiting.push(repository.tags().get(tag).unwrap().unwrap().canonical);
            if let Some(subject) = tag.as_str().strip_suffix(".sig") {
                let subject = subject.replacen('-', ":", 1).parse().unwrap();
                assert!(parsed.contains_key(&subject), "the signature {tag} has outlived its subject");
            }
        }
        let mut reachable = Reachable { manifests: BTreeSet::new(), blobs: BTreeSet::new() };
        while let Some(digest) = waiting.pop() {
            if !parsed.contains_key(&digest) {
                reachable.blobs.insert(digest);
            } else if reachable.manifests.insert(digest) {
                waiting.extend(parsed[&digest].children.iter().map(|child| child.descriptor.digest));
                let subject = |manifest: &Manifest| manifest.subject.as_ref().map(|subject| subject.digest);
                let referrers = parsed.iter().filter(|(_, manifest)| subject(manifest) == Some(digest));
                waiting.extend(referrers.map(|(referrer, _)| *referrer));
            }
        }
        reachable
    }
}

/// How many files of blobs there are.
fn files(data: &Path) -> u64 {
    let prefixes = std::fs::read_dir(data.join("blobs/sha256")).unwrap();
    prefixes.map(|prefix| std::fs::read_dir(prefix.unwrap().path()).unwrap().count() as u64).sum()
}
