//! The stores that are compared, made through the library as clients fill a registry.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use orlop::clock::{ManualClock, Timestamp, monotonic};
use orlop::oci::{Digest, DigestAlgorithm, Reference, RepositoryName, Tag};
use orlop::registry::{Actor, Collection, Error, ManifestPushed, ManifestPut, Options, Registry, Repository};

use crate::unsynced::UnsyncedDisk;

/// How many images a repository has, each under a tag of its own.
pub(crate) const IMAGES: u64 = 100;

/// One image of so many has a layer that no other has.
const OWN_LAYER: u64 = 10;

/// How many pushes are under way at once while a store is made; as many share a commit. One client may have 1,000 uploads open.
const AT_ONCE: usize = 512;

/// When the stores were made.
pub(crate) const BEGIN: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// The media type of the images.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An open store, and its time.
pub(crate) struct Store {
    pub(crate) registry: Registry,
    pub(crate) clock: Arc<ManualClock>,
}

impl Store {
    /// Opens the store at `data` as a server does, a day after it was made.
    pub(crate) fn open(data: &Path, collection: Collection) -> Store {
        Store::with(data, collection, |_| {})
    }

    /// The same, with recoveries that read the whole file.
    pub(crate) fn open_slow_to_repair(data: &Path, collection: Collection) -> Store {
        Store::with(data, collection, |options| options.database.quick_repair = false)
    }

    fn with(data: &Path, collection: Collection, change: impl FnOnce(&mut Options)) -> Store {
        let clock = Arc::new(ManualClock::new(BEGIN.saturating_add(Duration::from_secs(24 * 60 * 60))));
        let mut options = Options::new(data);
        options.clock = clock.clone();
        options.policy.collection = collection;
        change(&mut options);
        Store { registry: Registry::open(options).expect("the store opens"), clock }
    }

    /// Makes a store that a crash of the machine may spoil.
    pub(crate) fn unsynced(data: &Path) -> Store {
        let store = Store::with(data, Collection::default(), |options| {
            options.disk = Arc::new(UnsyncedDisk);
            options.database.cache_bytes = 3 << 30;
            options.database.quick_repair = false;
        });
        store.clock.set(BEGIN);
        store
    }

    /// Pushes images, named by their repository and their number, all at once; `has_own` says which have a layer of their
    /// own.
    async fn push_all(&self, images: Vec<(u64, u64)>, has_own: impl Fn(u64) -> bool) -> Vec<(u64, Digest)> {
        let numbers: BTreeSet<u64> = images.iter().map(|(number, _)| *number).collect();
        let shared = numbers.into_iter().map(|number| {
            let repository = self.repository(number);
            async move {
                for blob in shared_blobs(number) {
                    if repository.blobs().stat(digest(blob.as_bytes()))?.is_none() {
                        put_blob(&repository, blob).await?;
                    }
                }
                Ok::<_, Error>(())
            }
        });
        try_join_all(shared).await.expect("blobs are pushed");
        let pushes = images.into_iter().map(|(number, image)| {
            let repository = self.repository(number);
            let own = has_own(image).then(|| format!("layer of {number}/{image}"));
            tokio::spawn(async move {
                let pushed = push_image(&repository, number, own, tag(image)).await;
                pushed.map(|pushed| (number, pushed.canonical))
            })
        });
        let ended = try_join_all(pushes).await.expect("no push panics");
        self.clock.advance(Duration::from_millis(100));
        ended.into_iter().collect::<Result<_, _>>().expect("images are pushed")
    }

    /// The repository with this number.
    pub(crate) fn repository(&self, number: u64) -> Repository {
        self.registry.namespace().repository(&name(number))
    }
}

/// What the repository with this number is called.
pub(crate) fn name(number: u64) -> RepositoryName {
    let name = format!("team-{}/service-{number}", number % 97);
    name.parse().expect("it is a name")
}

/// What the image with this number is tagged.
pub(crate) fn tag(image: u64) -> Tag {
    format!("1.{}.{}", image / 10, image % 10).parse().expect("it is a tag")
}

/// Makes a store of so many repositories at `data`; says how long that took.
pub(crate) async fn make(data: &Path, repositories: u64) -> Duration {
    let began = monotonic();
    let store = Store::unsynced(data);
    // In the order of the numbers, as many at once as share a commit.
    let per_round = (AT_ONCE as u64).div_ceil(IMAGES);
    let mut first = 0;
    while first < repositories {
        let numbers = first..repositories.min(first + per_round);
        first = numbers.end;
        let images = numbers.flat_map(|number| (0..IMAGES).map(move |image| (number, image)));
        store.push_all(images.collect(), |image| image % OWN_LAYER == 0).await;
        if first % (per_round * 100) == 0 {
            eprintln!("made {first} of {repositories} repositories in {:.0?}", began.elapsed());
        }
    }
    store.registry.close().await;
    began.elapsed()
}

/// Makes a store of so many images at `data`, in so many repositories, each with a layer of its own; returns the
/// repositories' numbers and the digests.
pub(crate) async fn make_images(data: &Path, repositories: u64, images: u64) -> Vec<(u64, Digest)> {
    let store = Store::unsynced(data);
    let mut made = Vec::new();
    while (made.len() as u64) < images {
        let first = made.len() as u64;
        let numbers = first..images.min(first + AT_ONCE as u64);
        let some = numbers.map(|image| (image % repositories, image)).collect();
        made.extend(store.push_all(some, |_| true).await);
    }
    store.registry.close().await;
    made
}

/// What all images of a repository have: a configuration, the base that everybody has, and a layer of its own.
fn shared_blobs(number: u64) -> [String; 3] {
    [format!("{{\"service\":{number}}}"), "the base of everybody".to_owned(), format!("packages of {number}")]
}

/// Pushes an image of what the repository shares and perhaps a layer of its own.
pub(crate) async fn push_image(
    repository: &Repository,
    number: u64,
    own: Option<String>,
    tag: Tag,
) -> Result<ManifestPushed, Error> {
    let [config, base, packages] = shared_blobs(number);
    let mut layers = vec![base, packages];
    if let Some(own) = own {
        put_blob(repository, own.clone()).await?;
        layers.push(own);
    }
    let payload = manifest(&config, &layers, tag.as_str());
    let put = ManifestPut {
        payload: payload.into(),
        media_type: MANIFEST.parse().expect("it is a media type"),
        reference: Reference::Tag(tag),
        tags: Vec::new(),
        actor: Actor::anonymous(),
    };
    repository.manifests().put(put).await
}

pub(crate) async fn put_blob(repository: &Repository, blob: impl Into<Bytes>) -> Result<(), Error> {
    repository.blobs().put(blob.into(), None, &Actor::anonymous()).await.map(drop)
}

/// An image of these blobs, different from all others of these blobs by its title.
pub(crate) fn manifest(config: &str, layers: &[impl AsRef<[u8]>], title: &str) -> String {
    let layers: Vec<_> = layers.iter().map(|layer| descriptor(LAYER, layer.as_ref())).collect();
    format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{MANIFEST}\",\"config\":{},\"layers\":[{}],\
         \"annotations\":{{\"org.opencontainers.image.version\":\"{title}\"}}}}",
        descriptor(CONFIG, config.as_bytes()),
        layers.join(","),
    )
}

fn descriptor(media_type: &str, blob: &[u8]) -> String {
    let digest = digest(blob);
    format!("{{\"mediaType\":\"{media_type}\",\"digest\":\"{digest}\",\"size\":{}}}", blob.len())
}

/// The digest of these bytes.
pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest::of(DigestAlgorithm::CANONICAL, bytes)
}

/// Numbers that no store has yet, for what a measurement pushes.
pub(crate) fn fresh() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    (u64::from(std::process::id()) << 32) | next
}
