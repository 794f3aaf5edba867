//! Pushes an image into a registry in a directory and pulls it back, through the library alone.
//!
//! ```text
//! cargo run --example push_pull -- /tmp/orlop-example
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use bytes::Bytes;
use orlop::oci::{Digest, DigestAlgorithm, MediaType, Reference, RepositoryName, Tag};
use orlop::registry::{Actor, ManifestPut, Options, Registry};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let data = std::env::args().nth(1).ok_or("usage: push_pull DIRECTORY")?;
    push_and_pull(&data).await
}

/// Pushes an image into the registry in the directory `data` and pulls it back.
pub async fn push_and_pull(data: &str) -> Result<(), Box<dyn Error>> {
    let registry = Registry::open(Options::new(data))?;
    let name: RepositoryName = "team/hello".parse()?;
    let repository = registry.namespace().repository(&name);
    let actor = Actor::anonymous();

    // A small blob in one call, checked against its digest on the way in.
    let config = repository.blobs().put(Bytes::from_static(b"{}"), None, &actor).await?;

    // A larger one piece by piece. Dropped in the middle, the writer's upload could be resumed by its id.
    let layer = b"the bytes of a layer, say".repeat(100_000);
    let mut writer = repository.blobs().create(DigestAlgorithm::Sha256, &actor)?;
    for piece in layer.chunks(256 * 1024) {
        writer.write(Bytes::copy_from_slice(piece)).await?;
    }
    let layer = writer.commit(&Digest::of(DigestAlgorithm::Sha256, &layer)).await?;
    println!("pushed {} ({} bytes)", layer.digest, layer.size);

    // The manifest names both; the registry refuses it otherwise.
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_IMAGE_MANIFEST,
        "config": {"mediaType": MediaType::OCI_IMAGE_CONFIG, "digest": config.digest, "size": config.size},
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": layer.digest,
            "size": layer.size,
        }],
    });
    let tag: Tag = "latest".parse()?;
    let pushed = repository
        .manifests()
        .put(ManifestPut {
            payload: serde_json::to_vec(&manifest)?.into(),
            media_type: MediaType::OCI_IMAGE_MANIFEST,
            reference: Reference::Tag(tag.clone()),
            tags: Vec::new(),
            actor,
        })
        .await?;
    println!("pushed {name}:{tag} as {}", pushed.digest);

    // Pulling: the manifest by its tag, a blob by its digest.
    let (descriptor, payload) = repository.manifests().get(&Reference::Tag(tag))?.ok_or("the tag is gone")?;
    println!("pulled {} ({} bytes of {})", descriptor.digest, payload.len(), descriptor.media_type);
    let reader = repository.blobs().open(layer.digest)?.ok_or("the layer is gone")?;
    let mut first = [0; 9];
    reader.read_at(&mut first, 0)?;
    println!("the layer begins with {:?}", String::from_utf8_lossy(&first));

    registry.close().await;
    Ok(())
}
