//! The signatures of schema 1 manifests: taken off at a push, merged with those that are there, put back on at a pull.

use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;

use super::sessions::blocking;
use super::{Error, Inner, ManifestPut};
use crate::metadata::manifests::ManifestRecord;
use crate::metadata::repositories::RepositoryId;
use crate::metadata::signatures::{self, SignatureRecord};
use crate::metadata::{self, Read, Scan, Table, WriteTx, manifests};
use crate::oci::schema1::{
    MergeReport, Schema1Manifest, Signature, SignatureSet, SignedManifest, SignedManifestError,
};
use crate::oci::{
    Digest, ManifestKind, MediaType, ProvisionalDigest, Reference, RepositoryName, detect_media_type,
};

/// How many signed manifests are verified at once: each takes up to a second or two, and several times its own length of memory.
pub(super) const VERIFIED_AT_ONCE: usize = 4;

/// What a push brings: the bytes that the digest is of, and who has signed them.
pub(super) struct TakenApart {
    pub(super) payload: Bytes,
    pub(super) signatures: Arc<[Signature]>,
}

/// Takes a schema 1 manifest apart, verifies its signatures, and holds its name and tag against where it is pushed to.
/// Any other manifest is its own payload.
pub(super) async fn take_apart(
    inner: &Inner,
    name: &RepositoryName,
    put: &ManifestPut,
) -> Result<TakenApart, Error> {
    let bytes = put.payload.clone();
    if ManifestKind::of(&put.media_type) != ManifestKind::Schema1 {
        return Ok(TakenApart { payload: bytes, signatures: Arc::new([]) });
    }
    let (payload, manifest, signatures) = if put.media_type == MediaType::DOCKER_MANIFEST_SCHEMA1_SIGNED {
        let signed = verifying(inner, move || Ok(SignedManifest::parse(&bytes)?)).await?;
        let (payload, manifest, signatures) = signed.into_parts();
        (payload.into(), manifest, signatures)
    } else {
        let manifest = Schema1Manifest::parse(&bytes)?;
        (bytes, manifest, Vec::new())
    };
    let own = match &put.reference {
        Reference::Tag(tag) => Some(tag),
        Reference::Digest(_) => None,
    };
    // An upstream has its own word on what its names are.
    if inner.policy.upstream_of(name).is_none() {
        manifest.matches(name, own)?;
        for tag in &put.tags {
            manifest.matches(name, Some(tag))?;
        }
    }
    if manifest.layers.iter().any(|layer| matches!(layer, ProvisionalDigest::TarSum(_))) {
        let reason = "it names a layer by its tarsum; name it by its sha256";
        return Err(SignedManifestError::Invalid(reason.to_owned()).into());
    }
    Ok(TakenApart { payload, signatures: signatures.into() })
}

/// Verifies signatures on a thread that may block, when it is their turn.
pub(super) async fn verifying<T: Send + 'static>(
    inner: &Inner,
    verify: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let turn = inner.signed.clone().acquire_owned().await.map_err(|_| Error::Unavailable)?;
    blocking(move || {
        // Until it ends, also where nobody waits for it any more.
        let _turn = turn;
        verify()
    })
    .await
}

/// One signature as it is stored.
pub(super) struct StoredSignature {
    pub(super) signature: Signature,
    pub(super) record: SignatureRecord,
}

/// The signatures of a manifest, in the order of their keys.
pub(super) fn stored(
    tx: &impl Read,
    id: RepositoryId,
    manifest: &Digest,
) -> Result<Vec<StoredSignature>, metadata::Error> {
    let mut found = Vec::new();
    signatures::each_of(tx, id, manifest, |key_id, algorithm, record| {
        let signature = Signature::from_json(&record.signature).map_err(|error| damaged(manifest, &error))?;
        if signature.key_id().to_string() != key_id || signature.algorithm().as_str() != algorithm {
            return Err(damaged(
                manifest,
                &format!("one lies under {key_id} and {algorithm}, which it is not by"),
            ));
        }
        found.push(StoredSignature { signature, record });
        Ok(Scan::Continue)
    })?;
    Ok(found)
}

/// The same as a set.
fn stored_set(tx: &impl Read, id: RepositoryId, manifest: &Digest) -> Result<SignatureSet, metadata::Error> {
    let mut set = SignatureSet::new();
    let stored = stored(tx, id, manifest)?.into_iter().map(|stored| stored.signature);
    set.merge(stored).map_err(|error| damaged(manifest, &error))?;
    Ok(set)
}

/// The length of the digest of a set of signatures, as a key.
const SET_DIGEST: usize = 33;

/// A manifest with all its signatures.
pub(super) struct MergedManifest {
    /// The pretty JWS, the same as long as nobody adds a signature.
    pub(super) document: Bytes,
    /// The digest of the set of signatures.
    pub(super) signatures: Digest,
}

/// A signed manifest with all its signatures, which look-ups have from the cache while these stay the same; `None` where an
/// older version kept it as a whole, as it is served then.
pub(super) fn merged(
    tx: &impl Read,
    id: RepositoryId,
    manifest: &Digest,
) -> Result<Option<MergedManifest>, metadata::Error> {
    // The digest of the set in the form of a key, then the document.
    let merged = signatures::merged(tx, id, manifest, |tx| {
        let set = stored_set(tx, id, manifest)?;
        let assembled = manifests::payload(tx, manifest, |payload| {
            let signed = MediaType::DOCKER_MANIFEST_SCHEMA1_SIGNED;
            if set.is_empty() && detect_media_type(payload) == Some(signed) {
                return Ok(None);
            }
            set.assemble(payload, usize::MAX).map(Some)
        })?;
        let assembled = assembled.ok_or_else(|| damaged(manifest, &"their payload is missing"))?;
        let assembled = assembled.map_err(|error| damaged(manifest, &error))?;
        Ok(assembled.map(|document| [set.digest().to_key(), document].concat().into()))
    })?;
    let Some(mut document) = merged else { return Ok(None) };
    let digest = document.split_to(SET_DIGEST);
    let signatures =
        Digest::from_key(&digest).expect("the digest stands before the document, also in the cache");
    Ok(Some(MergedManifest { document, signatures }))
}

/// Signatures that are to be written.
pub(super) struct Merge {
    set: SignatureSet,
    /// What changes.
    pub(super) report: MergeReport,
}

/// Merges verified signatures with those that are there, and writes nothing yet. Refused where the manifest with all of
/// them would be longer than `limit`.
pub(super) fn merge(
    tx: &impl Read,
    id: Option<RepositoryId>,
    manifest: &Digest,
    payload: &[u8],
    incoming: &[Signature],
    limit: usize,
) -> Result<Merge, Error> {
    let mut set = match id {
        Some(id) => stored_set(tx, id, manifest)?,
        None => SignatureSet::new(),
    };
    let report = set.merge(incoming.iter().cloned())?;
    if !report.is_unchanged() {
        set.assemble(payload, limit)?;
    }
    Ok(Merge { set, report })
}

impl Merge {
    /// Whether the manifest has any signature afterwards.
    pub(super) fn is_signed(&self) -> bool {
        !self.set.is_empty()
    }

    /// Writes the signatures that are new.
    pub(super) fn write(
        &self,
        tx: &WriteTx<'_>,
        id: RepositoryId,
        manifest: &Digest,
        now: u64,
        actor: &str,
    ) -> Result<(), metadata::Error> {
        for (key_id, algorithm) in self.report.added.iter().chain(&self.report.replaced) {
            let Some(signature) = self.set.get(*key_id, *algorithm) else { continue };
            let record =
                SignatureRecord { signature: signature.to_json(), created_at: now, actor: actor.to_owned() };
            signatures::put(tx, id, manifest, &key_id.to_string(), algorithm.as_str(), &record)?;
        }
        Ok(())
    }
}

/// Adds the signatures that `from` has of a manifest to those of the same manifest in `to`, which keeps its own as they are,
/// and all as they are where they can't be served together.
pub(super) fn unite(
    tx: &WriteTx<'_>,
    from: RepositoryId,
    to: RepositoryId,
    manifest: &Digest,
    limit: usize,
) -> Result<(), Error> {
    let Some(record) = manifests::get(tx, to, manifest)? else { return Ok(()) };
    let Some(payload) = manifests::payload_bytes(tx, manifest)? else { return Ok(()) };
    if ManifestKind::of(&record.media_type) != ManifestKind::Schema1 {
        return Ok(());
    }
    let collect = || {
        let own = stored_set(tx, to, manifest)?;
        let mut others = stored(tx, from, manifest)?;
        others.retain(|StoredSignature { signature, .. }| {
            own.get(signature.key_id(), signature.algorithm()).is_none()
        });
        let incoming: Vec<Signature> = others.iter().map(|other| other.signature.clone()).collect();
        merge(tx, Some(to), manifest, &payload, &incoming, limit)?;
        Ok(others)
    };
    let others = match collect() {
        Err(Error::SignedManifest(_) | Error::Metadata(metadata::Error::Damaged { .. })) => return Ok(()),
        others => others?,
    };
    let media_type = MediaType::DOCKER_MANIFEST_SCHEMA1_SIGNED;
    if !others.is_empty() && record.media_type != media_type {
        manifests::insert(tx, to, manifest, &ManifestRecord { media_type, ..record }, &payload)?;
    }
    for StoredSignature { signature, record } in others {
        let (key_id, algorithm) = (signature.key_id().to_string(), signature.algorithm().as_str());
        signatures::put(tx, to, manifest, &key_id, algorithm, &record)?;
    }
    Ok(())
}

fn damaged(manifest: &Digest, reason: &dyn Display) -> metadata::Error {
    metadata::Error::Damaged {
        table: Table::Signatures.name(),
        reason: format!("the signatures of {manifest}: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tempfile::TempDir;

    use super::*;
    use crate::registry::{Options, Registry};

    /// Every push of a large signed manifest took a thread and several times its length at once, however many there were.
    #[test]
    fn few_signed_manifests_are_verified_at_once_whoever_still_waits_for_them() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = TempDir::new().unwrap();
        let registry = Registry::open(Options::new(dir.path().join("data"))).unwrap();
        let inner = registry.0.clone();
        runtime.block_on(async {
            let begun = std::array::from_fn::<_, VERIFIED_AT_ONCE, _>(|_| {
                let (inner, (release, held)) = (inner.clone(), mpsc::channel::<()>());
                let task = tokio::spawn(async move {
                    verifying(&inner, move || Ok::<_, Error>(held.recv().is_err())).await
                });
                (task, release)
            });
            while inner.signed.available_permits() > 0 {
                tokio::task::yield_now().await;
            }
            // The clients go away, and the work goes on.
            for (task, _) in &begun {
                task.abort();
                tokio::task::yield_now().await;
            }
            assert_eq!(inner.signed.available_permits(), 0);
            let next = tokio::spawn(async move { verifying(&inner, || Ok::<_, Error>(true)).await });
            tokio::task::yield_now().await;
            assert!(!next.is_finished());
            drop(begun);
            assert!(next.await.unwrap().unwrap());
        });
    }
}
