//! The services of a repository, one after the other: blobs, revisions, tags, referrers.
//!
//! ```text
//! cargo run --example services -- /tmp/orlop-services
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::io::{Read, Seek, SeekFrom};

use bytes::Bytes;
use orlop::oci::{Digest, DigestAlgorithm, Reference, RepositoryName, Tag};
use orlop::registry::{Actor, ManifestPut, Options, ProvisionalDescriptor, Registry, Repository};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let data = std::env::args().nth(1).ok_or("usage: services DIRECTORY")?;
    let registry = Registry::open(Options::new(&data))?;
    use_services(&registry).await?;
    registry.close().await;
    Ok(())
}

/// Uses each service of the repository `team/hello` once.
pub async fn use_services(registry: &Registry) -> Result<(), Box<dyn Error>> {
    let name: RepositoryName = "team/hello".parse()?;
    let repository = registry.namespace().repository(&name);
    write_and_read_a_blob(&repository).await?;
    tag_a_revision(&repository).await
}

async fn write_and_read_a_blob(repository: &Repository) -> Result<(), Box<dyn Error>> {
    let blobs = repository.blobs();
    let mut writer = blobs.create(DigestAlgorithm::Sha512, &Actor::new("ann"))?;
    let id = *writer.id();
    writer.read_from(&b"hello, wurld"[..]).await?;
    // Back to the mistake: what came after it is dropped, and the hash is that of what is left.
    writer.seek(8).await?;
    // An interruption loses nothing; after a checkpoint a crash doesn't either.
    writer.checkpoint().await?;
    drop(writer);
    let mut writer = blobs.resume(&id).await?.ok_or("the upload is still there")?;
    writer.write(Bytes::from_static(b"orld")).await?;

    let sha512 = Digest::of(DigestAlgorithm::Sha512, b"hello, world");
    let provisional = ProvisionalDescriptor {
        digest: sha512.into(),
        size: Some(12),
        media_type: Some("text/plain".parse()?),
    };
    let stored = writer.commit(provisional).await?;
    println!("{sha512} is stored as {}", stored.digest);

    let mut reader = blobs.open(sha512)?.ok_or("it can be read at once")?;
    let mut word = String::new();
    reader.seek(SeekFrom::Start(7))?;
    reader.read_to_string(&mut word)?;
    println!("{} bytes since {}, the last of them {word}", reader.size(), reader.created_at().to_rfc3339());
    Ok(())
}

async fn tag_a_revision(repository: &Repository) -> Result<(), Box<dyn Error>> {
    let (manifests, tags) = (repository.manifests(), repository.tags());
    let stable: Tag = "stable".parse()?;
    for text in ["one", "two"] {
        // The service doesn't care for the format behind a manifest.
        let payload = Bytes::from_static(text.as_bytes());
        let reference = Reference::Digest(Digest::of(DigestAlgorithm::CANONICAL, &payload));
        let media_type = "application/vnd.example.thing".parse()?;
        let actor = Actor::new("ann");
        let put = ManifestPut { payload, media_type, reference, tags: Vec::new(), actor };
        let revision = manifests.put(put).await?.canonical;
        tags.tag(&revision, &stable, &Actor::new("ben")).await?;
    }
    for revision in tags.history(&stable, None, 10)?.items {
        let (at, actor) = (revision.at.to_rfc3339(), revision.actor);
        println!("{stable} is {} since {at}, by {actor}", revision.digest);
    }
    for revision in manifests.scroll() {
        let revision = revision?;
        let names = tags.lookup(&revision.canonical, None, 10)?.items;
        let referrers = repository.referrers().list(&revision.canonical, None, None)?.descriptors.len();
        println!("{} has the tags {names:?} and {referrers} referrers", revision.canonical);
    }
    Ok(())
}
