//! One manifest, signed with two keys on two hosts: the registry keeps both signatures and serves them together.
//!
//! ```text
//! cargo run --example merge_signatures -- /tmp/orlop-signatures
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use bytes::Bytes;
use orlop::oci::schema1::SignedManifest;
use orlop::oci::{MediaType, Reference, RepositoryName, Tag};
use orlop::registry::{Actor, ManifestPut, Options, Registry, Repository};

/// Signs as a host's own tool does; a registry only verifies.
#[path = "../tests/schema1/signer.rs"]
mod signer;

use signer::{Signer, pretty_jws};

/// A machine that signs what it has tested, with a key that never leaves it.
struct Host {
    name: &'static str,
    key: Signer,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let data = std::env::args().nth(1).ok_or("usage: merge_signatures DIRECTORY")?;
    let registry = Registry::open(Options::new(&data))?;
    sign_on_two_hosts(&registry).await?;
    registry.close().await;
    Ok(())
}

/// Signs `team/hello:signed` on two hosts and reads it back; an error unless it verifies with both keys.
pub async fn sign_on_two_hosts(registry: &Registry) -> Result<(), Box<dyn Error>> {
    let name: RepositoryName = "team/hello".parse()?;
    let repository = registry.namespace().repository(&name);
    let [builder, tester] = ["builder", "tester"].map(|name| Host { name, key: Signer::generate() });

    // The first host makes the manifest. The second one knows nothing but the tag: it pulls, and signs what it got.
    let payload = describe_image(&repository).await?;
    let revision = builder.sign_and_push(&repository, &payload).await?;
    let pulled = SignedManifest::parse(&pull(&repository)?)?;
    let again = tester.sign_and_push(&repository, pulled.payload()).await?;
    if again != revision {
        return Err("the digest is the payload's, whoever has signed".into());
    }

    // A pull brings both signatures. Parsing verifies each of them against the payload.
    let merged = SignedManifest::parse(&pull(&repository)?)?;
    if merged.payload() != payload {
        return Err("the payload is served as it was pushed".into());
    }
    let signed_by =
        |host: &Host| merged.signatures().iter().any(|one| one.key_id().to_string() == host.key.key_id());
    if !signed_by(&builder) || !signed_by(&tester) {
        return Err("the merged manifest is signed by both keys".into());
    }
    println!("{revision} verifies with {} signatures:", merged.signatures().len());
    for known in repository.signatures().get(&merged.digest())?.ok_or("the manifest is there")? {
        let (key, algorithm) = (known.signature.key_id(), known.signature.algorithm());
        println!(
            "  {key} ({algorithm}), verified by {}, brought by {}",
            known.verified.as_str(),
            known.actor
        );
    }
    Ok(())
}

impl Host {
    /// Pushes the manifest with this host's signature alone, and returns the digest that the registry gave it.
    async fn sign_and_push(&self, repository: &Repository, payload: &[u8]) -> Result<String, Box<dyn Error>> {
        let signature = self.key.sign(payload, "2026-01-02T03:04:05Z");
        let put = ManifestPut {
            payload: pretty_jws(payload, &[signature]).into(),
            media_type: MediaType::DOCKER_MANIFEST_SCHEMA1_SIGNED,
            reference: Reference::Tag("signed".parse()?),
            tags: Vec::new(),
            actor: Actor::new(self.name),
        };
        let digest = repository.manifests().put(put).await?.digest.to_string();
        println!("{} signed {digest} as {}", self.name, self.key.key_id());
        Ok(digest)
    }
}

/// Pushes a layer, and returns the payload of a schema 1 manifest that names it.
async fn describe_image(repository: &Repository) -> Result<Vec<u8>, Box<dyn Error>> {
    let layer = Bytes::from_static(b"the bytes of a layer, say");
    let layer = repository.blobs().put(layer, None, &Actor::new("builder")).await?;
    let manifest = serde_json::json!({
        "schemaVersion": 1,
        "name": repository.name().as_str(),
        "tag": "signed",
        "architecture": "amd64",
        "fsLayers": [{ "blobSum": layer.digest }],
        "history": [{ "v1Compatibility": r#"{"os":"linux"}"# }],
    });
    Ok(serde_json::to_vec_pretty(&manifest)?)
}

fn pull(repository: &Repository) -> Result<Bytes, Box<dyn Error>> {
    let tag: Tag = "signed".parse()?;
    let (_, document) = repository.manifests().get(&Reference::Tag(tag))?.ok_or("the tag is there")?;
    Ok(document)
}
