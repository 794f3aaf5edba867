//! Stores that take long to make: filled through the library without a sync, and kept for the next time where that is asked
//! for.

use std::path::{Path, PathBuf};

use futures_util::future::try_join_all;
use orlop::oci::{Digest, Reference, RepositoryName, Tag};
use orlop::registry::{Actor, Error, ManifestPut};

use crate::setting::Setting;
use crate::store::{self, Store};

/// How many writes share a commit.
const AT_ONCE: u64 = 1_024;

/// The media type of indexes.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// How many manifests the tags of [`tags`] point to.
const MANIFESTS: u64 = 100;

/// A prime that no size is a multiple of, so that names come in no order.
const STEP: u64 = 7_919;

/// So many manifests, each with a tag, a hundred in each repository, as [`store::make`] fills them.
pub(crate) fn images(setting: &Setting, manifests: u64) -> PathBuf {
    let repositories = manifests / store::IMAGES;
    kept(setting, &format!("store-{repositories}"), async |data| {
        store::make(data, repositories).await;
    })
}

/// One repository, `many/tags`, with so many tags.
pub(crate) fn tags(setting: &Setting, number: u64) -> PathBuf {
    kept(setting, &format!("tags-{number}"), async |data| {
        let store = Store::unsynced(data);
        let repository = store.registry.namespace().repository(&name("many/tags"));
        let puts = (0..MANIFESTS).map(|at| put(&repository, index(at, None), Reference::Tag(tag(at))));
        let manifests = try_join_all(puts).await.expect("manifests are pushed");
        in_turn(number, async |at| {
            let manifest = &manifests[usize::try_from(at % MANIFESTS).expect("it is small")];
            repository.tags().tag(manifest, &tag(at), &Actor::anonymous()).await
        })
        .await;
        store.registry.close().await;
    })
}

/// So many repositories with a tag each.
pub(crate) fn repositories(setting: &Setting, number: u64) -> PathBuf {
    kept(setting, &format!("repositories-{number}"), async |data| {
        let store = Store::unsynced(data);
        in_turn(number, async |at| {
            let repository = store.registry.namespace().repository(&name(&repository_name(at)));
            put(&repository, index(at, None), Reference::Tag(tag(at))).await.map(drop)
        })
        .await;
        store.registry.close().await;
    })
}

/// For each of these numbers a repository, `referrers/of-NUMBER`, with a subject that has so many referrers.
pub(crate) fn referrers(setting: &Setting, numbers: &[u64]) -> PathBuf {
    let most = numbers.iter().max().expect("there is one");
    kept(setting, &format!("referrers-{most}"), async |data| {
        let store = Store::unsynced(data);
        for number in numbers {
            let repository = store.registry.namespace().repository(&name(&referred(*number)));
            let subject = put(&repository, index(0, None), Reference::Tag(tag(0))).await;
            let subject = subject.expect("a subject is pushed");
            in_turn(*number, async |at| {
                let payload = index(at + 1, Some(&subject));
                let digest = store::digest(payload.as_bytes());
                put(&repository, payload, Reference::Digest(digest)).await.map(drop)
            })
            .await;
        }
        store.registry.close().await;
    })
}

/// The tag with this number, of as many bytes as all others, so that their order is that of the numbers.
pub(crate) fn tag(number: u64) -> Tag {
    format!("build-{number:07}").parse().expect("it is a tag")
}

/// The name of the repository with this number, in the order of the numbers.
pub(crate) fn repository_name(number: u64) -> String {
    format!("team-{:03}/service-{number:06}", number / 1_000)
}

/// The name of the repository whose subject has so many referrers.
pub(crate) fn referred(number: u64) -> String {
    format!("referrers/of-{number}")
}

/// The digest of the subject of referrers.
pub(crate) fn subject() -> Digest {
    store::digest(index(0, None).as_bytes())
}

/// An index that lists nothing, different from all others by its number.
fn index(number: u64, subject: Option<&Digest>) -> String {
    let subject = subject.map_or(String::new(), |subject| {
        let size = index(0, None).len();
        let subject = format!("{{\"mediaType\":\"{INDEX}\",\"digest\":\"{subject}\",\"size\":{size}}}");
        format!("\"artifactType\":\"application/vnd.example.sbom\",\"subject\":{subject},")
    });
    format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{INDEX}\",\"manifests\":[],{subject}\
         \"annotations\":{{\"org.opencontainers.image.version\":\"{number}\"}}}}"
    )
}

async fn put(
    repository: &orlop::registry::Repository,
    payload: String,
    reference: Reference,
) -> Result<Digest, Error> {
    let put = ManifestPut {
        payload: payload.into(),
        media_type: INDEX.parse().expect("it is a media type"),
        reference,
        tags: Vec::new(),
        actor: Actor::anonymous(),
    };
    repository.manifests().put(put).await.map(|pushed| pushed.canonical)
}

/// Does something for each number below `number`, in no order, and as many at once as share a commit.
async fn in_turn(number: u64, write: impl AsyncFn(u64) -> Result<(), Error>) {
    for first in (0..number).step_by(usize::try_from(AT_ONCE).expect("it is small")) {
        let some = first..number.min(first + AT_ONCE);
        try_join_all(some.map(|at| write(at * STEP % number))).await.expect("it is written");
    }
}

fn name(text: &str) -> RepositoryName {
    text.parse().expect("it is a name")
}

/// The data that `make` fills, made where they aren't there.
fn kept(setting: &Setting, name: &str, make: impl AsyncFnOnce(&Path)) -> PathBuf {
    let data = setting.stores().join(name);
    if !data.join("metadata.redb").exists() {
        eprintln!("making {name}");
        // At another name, so that one half made is never taken for a whole one.
        let making = setting.stores().join(format!("making-{name}"));
        std::fs::create_dir_all(&making).expect("a folder can be made");
        let runtime = tokio::runtime::Runtime::new().expect("it starts");
        runtime.block_on(make(&making));
        rustix::fs::sync();
        std::fs::rename(&making, &data).expect("it can be renamed");
    }
    data
}
